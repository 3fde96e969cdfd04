"""`proportional`: a chain is stretched as a whole."""

import numpy as np
import pytest

import jaxsched as js
from jaxsched import testing

TRIANGLE = js.linear(0.0, 1.0, 3) >> js.linear(1.0, 0.0, 5)


def shape(position):
    return np.where(position < 3, position / 3, 1 - (position - 3) / 5)


@pytest.mark.parametrize("steps", [1, 7, 8, 16, 24, 80, 8000, 8_000_001])
def test_all_pieces_keep_their_proportions(steps):
    stretched = TRIANGLE.proportional().stretch(steps)
    t = np.unique(np.linspace(0, steps, 3000).astype(int))
    np.testing.assert_allclose(stretched(t), shape(t * 8 / steps), atol=1e-6)
    assert stretched.steps == steps and stretched(steps) == 0.0
    if steps % 8 == 0:
        assert stretched(3 * steps // 8) == 1.0


@pytest.mark.parametrize("mult", [2, 3, 1.5])
def test_each_cycle_is_the_whole_shape(mult):
    cycled, start, length = TRIANGLE.proportional().cycle(mult=mult), 0.0, 8.0
    for _ in range(7):
        t = np.arange(int(np.ceil(start)), int(np.ceil(start + length)))
        np.testing.assert_allclose(cycled(t), shape((t - start) * 8 / length), atol=2e-6)
        start, length = start + length, length * mult


def test_milestones_are_hit_at_their_steps():
    """Also where a quotient is rounded: no piece begins a step late."""
    stairs = js.constant(1.0, 7) >> js.constant(2.0, 11) >> js.constant(3.0, 3)
    for factor in (1, 3, 7, 11, 13, 97, 1001):
        found = np.asarray(stairs.proportional().stretch(21 * factor)(np.arange(21 * factor)))
        assert found.tolist() == [1.0] * 7 * factor + [2.0] * 11 * factor + [3.0] * 3 * factor


def test_text_laws_and_errors():
    for made in (
        TRIANGLE.proportional(),
        TRIANGLE.proportional().stretch(20),
        TRIANGLE.proportional().cycle(mult=2, decay=0.5, cycles=3),
        2.0 * TRIANGLE.proportional().cycle(mult=1.5),
    ):
        testing.assert_schedule_laws(made)
        testing.assert_same(js.parse(repr(made)), made)
    np.testing.assert_array_equal(TRIANGLE.proportional()(np.arange(20)), TRIANGLE(np.arange(20)))
    with pytest.raises(ValueError, match=r"never ends; say how long: `.take\(steps\).proportional"):
        js.constant(1.0).proportional()
    assert [row.step for row in js.describe(TRIANGLE.proportional().stretch(16)).rows] == [
        *(0, 5, 6, 15, 16)
    ]


def test_cyclic_triangles_that_grow():
    grown = js.cyclic(0.1, 1.0, up_steps=2, down_steps=4, mult=2)
    peaks = [2, 6 + 4, 18 + 8, 42 + 16]
    assert grown(np.asarray(peaks)).tolist() == [1.0] * 4
    assert grown(np.asarray([0, 6, 18, 42])).tolist() == [np.float32(0.1)] * 4
    lower = js.cyclic(0.1, 1.0, up_steps=2, mult=2, decay=0.5)
    np.testing.assert_allclose(lower(np.asarray([2, 4 + 4, 12 + 8])), [1.0, 0.55, 0.325], rtol=1e-6)
    assert repr(js.cyclic(0.1, 1.0, up_steps=2)) == repr(js.cyclic(0.1, 1.0, up_steps=2, mult=1))
