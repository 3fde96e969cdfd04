"""What a search has found: the members of a population, best first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """The members of a population and how they did; printed, it is the leaderboard.

    Attributes:
      members: what was trained, in the order it was given.
      scores: float, (members, seeds): what `train` said of each run. NaN and infinity rank last.
      results: what `train` returned besides, with the axes (members, seeds) in front; or None.
      mode: "min" if a smaller score is better, else "max".
      trained: int, (members,): the steps that each was trained for; None if `train` alone knows.
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
        """The members, best first: by how long they were trained and their mean; diverged last."""
        loss = self.mean if self.mode == "min" else -self.mean
        trained = np.zeros(len(loss)) if self.trained is None else -self.trained
        return np.lexsort((loss, trained, np.isnan(loss)))  # the last of the keys is the first

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
                "Lower rates may not diverge."
            )
        return self.members[best]

    def leaderboard(self, top: int | None = None) -> str:
        """The members as a table, best first.

        Every member has seen the same seeds, so that how far it is behind the best is known better
        than its score: the standard errors of both are over the seeds.

        Args:
          top: how many; None is all.

        Returns:
          A line for each: rank, mean score, how far behind the best, its text.
        """
        order, columns = self.order, ("", "score", "behind", "steps", "schedule")
        sign = 1 if self.mode == "min" else -1
        with np.errstate(invalid="ignore"):  # infinity from infinity, if all have diverged
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
        """The scores of all members, and the curves of the best.

        Args:
          path: where to write the picture, a PNG or SVG; None writes none.
          top: how many curves are named, at most 7.

        Returns:
          The figure, of matplotlib.
        """
        from jaxsched._search._sweep_picture import draw

        return draw(self, path, top)

    def __repr__(self) -> str:
        return self.leaderboard()


def _shown(values: np.ndarray) -> str:
    """The mean, and its standard error if there are several."""
    if not np.isfinite(values).all():
        return "diverged"
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
    return f"{values.mean():.4g}" + (f" ± {error:.2g}" if len(values) > 1 else "")


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be; those with a title alone are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
