"""The result of a search: the members of a population, best first."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsched._core._extra import extra
from jaxsched._core._require import one_of, refuse, require
from jaxsched._search._arguments import titled, varying
from jaxsched._search._population import Population


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """The result of a search: the members of a population and their scores; prints as a table.

    The searches return it. You can also make one from the scores of your own loop.

    Attributes:
      members: the trained members, in the given order.
      scores: float, (members, seeds): the score of each run. NaN and infinity rank last.
      results: other values that `train` returned, with leading axes (members, seeds); or None.
      mode: "min" if a lower score is better, else "max".
      trained: int, (members,): the steps that each member was trained for; None if not known.
      population: the members as a list that knows their arguments.

    Raises:
      ValueError: `mode` is neither "min" nor "max", or `scores` has another shape.

    Example:
      >>> population = grid(warmup_cosine, peak_value=[0.01, 0.1], total_steps=9, warmup_steps=2)
      >>> Sweep(population, np.array([[0.5, 0.7], [0.3, 0.2]]))
         score        behind       peak_value
      1  0.25 ± 0.05               0.1
      2  0.6 ± 0.1    0.35 ± 0.15  0.01
    """

    members: Sequence[Any]
    scores: np.ndarray
    results: Any = None
    mode: str = "min"
    trained: np.ndarray | None = None
    population: Population = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        members, scores = len(self.members), np.asarray(self.scores)
        one_of("Sweep", "mode", self.mode, ("min", "max"))
        fits = scores.ndim == 2 and scores.shape[0] == members and scores.shape[1] > 0
        must = f"have a row for each of {members} members and a column for each seed"
        require(fits, refuse("Sweep", "scores", must, self.scores))
        object.__setattr__(self, "scores", scores)
        # It is a copy, because the caller may change the list later.
        object.__setattr__(self, "population", Population.of(self.members)[:])
        object.__setattr__(self, "members", tuple(self.members))

    @property
    def arguments(self) -> list[dict[str, Any]]:
        """The arguments that each member was made from; empty if they are not known.

        The lists of `grid` and `random_search`, and `bayesian_search`, know them.
        """
        return self.population.arguments

    @property
    def mean(self) -> np.ndarray:
        """The mean score of each member over the seeds; NaN if one of its runs has no score."""
        finite = np.isfinite(self.scores)
        return np.where(finite, self.scores, np.nan).mean(axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """The standard error of each mean; NaN if there is only one seed, or a run has no score."""
        seeds = self.scores.shape[1]
        if seeds == 1:
            return np.full(len(self.scores), np.nan)
        finite = np.isfinite(self.scores)
        return np.where(finite, self.scores, np.nan).std(axis=1, ddof=1) / np.sqrt(seeds)

    @property
    def order(self) -> np.ndarray:
        """The indices of the members, best first.

        Members that were trained for more steps come first, then those with a better mean score.
        Members that diverged come last.
        """
        loss = self.mean if self.mode == "min" else -self.mean
        trained = np.zeros(len(loss)) if self.trained is None else -self.trained
        return np.lexsort((loss, trained, np.isnan(loss)))  # the last key has precedence

    @property
    def best(self) -> Any:
        """The best member.

        Raises:
          ValueError: no member has a score.
        """
        return self.members[self._first()]

    @property
    def best_arguments(self) -> dict[str, Any]:
        """The arguments that the best member was made from; empty if they are not known.

        Raises:
          ValueError: no member has a score.
        """
        first = self._first()
        return self.arguments[first] if self.arguments else {}

    def _first(self) -> int:
        """The index of the best member."""
        best = int(self.order[0])
        require(
            not np.isnan(self.mean[best]),
            f"`sweep.best`: none of the {len(self.members)} members has a finite score. Try lower "
            "rates.",
        )
        return best

    def leaderboard(self, top: int | None = None) -> str:
        """Returns the members as a table, best first.

        "behind" is the difference of a member to the best. All members have the same seeds. So
        noise that changes the scores of two members by the same amount cancels in their difference.
        A standard error over the seeds follows each score and each difference. For the standard
        error of a difference, the difference is computed for each seed.

        The members of a `grid` or of another search are identified by the arguments that vary. The
        text of the schedule is shown if no argument is known, or if several functions made the
        members.

        Args:
          top: number of members to show; None: all.

        Returns:
          A line per member: rank, mean score, difference to the best, and its arguments.
        """
        order = self.order
        columns = {"": [str(rank) for rank in range(1, len(order) + 1)]}
        columns["score"] = [_shown(self.scores[i]) for i in order]
        columns["behind"] = self._behind()
        if self.trained is not None:
            columns["steps"] = [str(self.trained[i]) for i in order]
        arguments = varying([self.arguments[i] for i in order])
        if not arguments or not self.population.one_factory:
            arguments = {"schedule": [str(self.members[i]) for i in order]}
        columns |= {titled(name, [*columns]): x for name, x in arguments.items()}
        rows = [*zip(*columns.values(), strict=True)]
        return table([tuple(columns), *rows[:top]])

    def _behind(self) -> list[str]:
        """Return the difference of each member to the best, if both were trained equally long."""
        order, sign = self.order, 1 if self.mode == "min" else -1
        with np.errstate(invalid="ignore"):  # infinity minus infinity, if all have diverged
            behind = sign * (self.scores - self.scores[order[0]])
        trained = np.zeros(len(order)) if self.trained is None else self.trained
        compared = trained == trained[order[0]]
        return ["", *(_shown(behind[i]) if compared[i] else "" for i in order[1:])]

    def to_pandas(self) -> Any:
        """Returns the members as a pandas DataFrame, best first.

        Its columns are all arguments, then "score", the mean over the seeds, "standard_error",
        "rank" from 1, "trained" if the steps are known, and "schedule", the member as text. The
        index is the place of the member in `members`. A member that diverged has the score NaN.

        Returns:
          A `pandas.DataFrame`.

        Raises:
          MissingExtraError: pandas is not installed.

        Example:
          >>> population = grid(constant, value=[0.1, 0.2])
          >>> found = sweep(lambda schedule: (schedule(0) - 0.2) ** 2, population)
          >>> print(found.to_pandas()[["value", "score", "rank", "schedule"]])
             value  score  rank       schedule
          1    0.2   0.00     1  constant(0.2)
          0    0.1   0.01     2  constant(0.1)
        """
        order = self.order
        columns = {"score": self.mean[order], "standard_error": self.standard_error[order]}
        columns["rank"] = np.arange(1, len(order) + 1)
        if self.trained is not None:
            columns["trained"] = self.trained[order]
        columns["schedule"] = np.array([str(self.members[i]) for i in order], dtype=object)
        frame = extra("pandas", "search").DataFrame
        arguments = frame([self.arguments[i] for i in order], index=order)
        arguments.columns = [titled(name, [*columns]) for name in arguments.columns]
        return arguments.join(frame(columns, index=order))

    def plot(self, path: str | Path | None = None, *, top: int = 5) -> Any:
        """Plots the scores of all members, and the curves of the best.

        Args:
          path: file to write; PNG, SVG or PDF, according to its name. None: no file.
          top: number of named curves, at most 7.

        Returns:
          The matplotlib figure.
        """
        from jaxsched._search._sweep_picture import draw

        return draw(self, path, top)

    def plot_grid(self, x: str, y: str, path: str | Path | None = None) -> Any:
        """Plots the mean score over two arguments of a `grid`, as a heat map.

        Each cell shows the mean score over the seeds. If other arguments vary too, it shows the
        best member with these two values. The columns and rows are equally far apart, so an axis
        of geometrically spaced values is logarithmic. The best cell has a frame.

        Args:
          x: the argument on the horizontal axis.
          y: the argument on the vertical axis, its lowest value at the bottom.
          path: file to write; PNG, SVG or PDF, according to its name. None: no file.

        Returns:
          The matplotlib figure.

        Raises:
          ValueError: the population has no such argument, or the argument has too many values.

        Example:
          >>> def train(schedule):
          ...     return jnp.sum(schedule(jnp.arange(9)))
          >>> population = grid(linear, init_value=[0.1, 1.0], end_value=0.0, steps=[4, 8])
          >>> figure = sweep(train, population).plot_grid("init_value", "steps")
          >>> print(*(text.get_text() for text in figure.axes[0].texts))
          0.2500 2.500 0.4500 4.500
        """
        from jaxsched._search._grid_picture import draw

        return draw(self, x, y, path)

    def __repr__(self) -> str:
        return self.leaderboard()


def _shown(values: np.ndarray) -> str:
    """Return the mean, with its standard error if there are several values."""
    if not np.isfinite(values).all():
        return "diverged"
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
    return f"{values.mean():.4g}" + (f" ± {error:.2g}" if len(values) > 1 else "")


def table(rows: list[tuple[str, ...]]) -> str:
    """Return a text table with aligned columns; empty columns are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
