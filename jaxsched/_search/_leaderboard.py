"""The result of a search: the members of a population, best first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """The result of a search: the members of a population and their scores; prints as a table.

    Attributes:
      members: the trained members, in the given order.
      scores: float, (members, seeds): the score of each run. NaN and infinity rank last.
      results: other values that `train` returned, with leading axes (members, seeds); or None.
      mode: "min" if a lower score is better, else "max".
      trained: int, (members,): the steps that each member was trained for; None if not known.
    """

    members: tuple[Any, ...]
    scores: np.ndarray
    results: Any = None
    mode: str = "min"
    trained: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """The mean score of each member over the seeds; NaN if one of its runs has no score."""
        finite = np.isfinite(self.scores)
        return np.where(finite, self.scores, np.nan).mean(axis=1)

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
        best = self.order[0]
        if np.isnan(self.mean[best]):
            raise ValueError(
                f"`sweep.best`: none of the {len(self.members)} members has a finite score. "
                "Try lower rates."
            )
        return self.members[best]

    def leaderboard(self, top: int | None = None) -> str:
        """Returns the members as a table, best first.

        "behind" is the difference of a member to the best. All members have the same seeds. So
        noise that changes the scores of two members by the same amount cancels in their difference.
        A standard error over the seeds follows each score and each difference. For the standard
        error of a difference, the difference is computed for each seed.

        Args:
          top: number of members to show; None: all.

        Returns:
          A line per member: rank, mean score, difference to the best, and its text.
        """
        order, columns = self.order, ("", "score", "behind", "steps", "schedule")
        sign = 1 if self.mode == "min" else -1
        with np.errstate(invalid="ignore"):  # infinity minus infinity, if all have diverged
            behind = sign * (self.scores - self.scores[order[0]])
        trained = np.zeros(len(order)) if self.trained is None else self.trained
        rows = [
            (
                str(rank),
                _shown(self.scores[i]),
                _shown(behind[i]) if rank > 1 and trained[i] == trained[order[0]] else "",
                "" if self.trained is None else str(self.trained[i]),
                str(self.members[i]),
            )
            for rank, i in enumerate(order[:top], start=1)
        ]
        return table([columns, *rows])

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
