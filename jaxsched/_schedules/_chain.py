"""Chains: `a >> b`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._core import _clock
from jaxsched._core._clock import Length, known
from jaxsched._core._numerics import real
from jaxsched._core._writing import CHAIN, operand, text
from jaxsched._schedules._combined import flat
from jaxsched._schedules._grouped import Chain, begins_of
from jaxsched._schedules._marks import Jump, Phase, moved
from jaxsched._schedules._schedule import Grouped, Schedule, as_schedule, builds


class Then(Schedule):
    """`a >> b`: a(t) for t < a.steps, else b(t - a.steps); for any number of pieces."""

    _binds = CHAIN

    pieces: tuple[Schedule, ...]

    @classmethod
    def of(cls, *schedules: Schedule) -> Then:
        pieces = flat(cls, "pieces", schedules)
        for piece in pieces[:-1]:
            if piece.steps is None:
                raise ValueError(f"`{piece}` never ends; say how long: `.take(steps) >> ...`")
        return cls(pieces)

    @property
    def steps(self) -> Length | None:
        last = self.pieces[-1].steps
        return None if last is None else _clock.add(self._starts[-1], last)

    @property
    def _starts(self) -> tuple[Length, ...]:
        starts: list[Length] = [0]
        for piece in self.pieces[:-1]:
            starts.append(_clock.add(starts[-1], _clock.known(piece.steps)))
        return tuple(starts)

    def at(self, t: jax.Array) -> jax.Array:
        if self._is_long() and jnp.issubdtype(t.dtype, jnp.floating):
            return self._at_real(t)
        value = self.pieces[0].at(t)
        begins = begins_of([known(piece.steps) for piece in self.pieces[:-1]])
        for start, piece in zip(begins[1:], self.pieces[1:], strict=True):
            since = piece.at(_clock.elapsed(t, start))
            value = jnp.where(_clock.before(t, start), value, since)
        return value

    def _is_long(self) -> bool:
        """Whether a piece is longer than the step counter, which only a real clock can exceed."""
        lengths = (known(piece.steps) for piece in self.pieces[:-1])
        return any(jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in lengths)

    def _at_real(self, t: jax.Array) -> jax.Array:
        value, start = self.pieces[0].at(t), real(0.0)
        for before, piece in itertools.pairwise(self.pieces):
            start = start + real(known(before.steps))
            value = jnp.where(t < start, value, piece.at(jnp.maximum(t - start, 0)))
        return value

    def _grouped(self) -> Schedule:
        same = cast(Then, super()._grouped())
        if self._is_long():
            return same
        form = Chain.of(same.pieces, lambda: [known(x.steps) for x in self.pieces[:-1]])
        return same if form is None else Grouped(form)

    def _stretched(self, steps: Length) -> Schedule:
        *earlier, last = self.pieces
        start = self._starts[-1]
        return Then((*earlier, last._stretched(_clock.less(steps, start))))

    def _text(self) -> str:
        if len(self.pieces) == 1:
            return f"join([{text(self.pieces[0])}], [])"
        return " >> ".join(operand(piece, CHAIN) for piece in self.pieces)

    def _changes(self) -> Iterator[int]:
        ends = [*self._starts[1:], math.inf]
        for piece, start, end in zip(self.pieces, self._starts, ends, strict=True):
            yield int(start)
            yield from moved(piece._changes(), int(start), float(end))

    def _phases(self, total: int) -> list[Phase]:
        starts = [min(int(start), total) for start in self._starts]
        spans = zip(starts, [*starts[1:], total], self.pieces, strict=True)
        return [Phase(start, end, _word(piece)) for start, end, piece in spans if start < end]

    def _joins(self) -> Iterator[Jump]:
        if self._is_long():
            return  # its joins are beyond the steps
        lasting = [x for x in self.pieces[:-1] if int(known(x.steps)) > 0] + [self.pieces[-1]]
        step = 0
        for a, b in itertools.pairwise(lasting):
            steps = int(known(a.steps))
            step += steps
            yield Jump(step, float(a(np.asarray([0, steps]))[-1]), float(b(np.asarray([0, 0]))[-1]))


@builds(">>")
def _then(a: Any, b: Any) -> Then:
    return Then.of(as_schedule(">>", a), as_schedule(">>", b))


def _word(piece: Schedule) -> str:
    """Return a one-word name of a piece: its curve, or its operator."""
    return str(piece).partition("(")[0] or type(piece).__name__.lower()
