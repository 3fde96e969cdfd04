"""`reduce_when_flat`: golden traces, its docstring in NumPy, and streams whose plateau is known."""

import functools
import itertools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from streams import follow

import jaxsched as js
from jaxsched import testing

NAN, INF = float("nan"), float("inf")
UNDECIDED, IMPROVING, FLAT = 0, 1, 2
DEFAULT, PATIENCE = js.reduce_when_flat(), js.reduce_on_plateau(patience=10)


def answers(metrics, state=None, numbers_are_constants=True, **options):
    """The scale and the answer after each update; None is an update without a metric."""
    rule = js.reduce_when_flat(**options)
    scales, states = follow(rule, metrics, state, numbers_are_constants=numbers_are_constants)
    found = [int(js.factors(state)["scale"][0].answer) for state in states]
    return [(round(x, 6), answer) for x, answer in zip(scales, found, strict=True)], states[-1]


def reference(
    metrics,
    mode="min",
    factor=0.1,
    block_size=16,
    blocks=32,
    rtol=0.05,
    atol=0.0,
    sigmas=2.0,
    cooldown=0,
    min_scale=0.0,
):
    """The docstring of `reduce_when_flat`, in float64."""
    scale, answer, block, means, merged, waited, quiet, out = 1.0, 0, [], [], 1, 0, 0, []
    for metric in metrics:
        if metric is not None and math.isfinite(metric):
            if quiet:
                quiet -= 1
            else:
                block.append(metric)
        if len(block) == block_size * merged:
            means, block, answer = [*means, np.mean(block)][-blocks:], [], UNDECIDED
            if len(means) == blocks or merged > 1:
                flat, improving = line(means, mode, sigmas, (rtol, atol), merged / blocks)
                answer = FLAT if flat else IMPROVING if improving else UNDECIDED
                waited = waited + 1 if answer == UNDECIDED else 0
                if flat:
                    scale = max(scale * factor, min_scale)
                    means, merged, waited, quiet = [], 1, 0, cooldown
                elif waited >= blocks and len(means) == blocks:
                    means = np.reshape(means, (-1, 2)).mean(1).tolist()
                    merged, waited = merged * 2, 0
        out.append((round(scale, 6), answer))
    return out


def line(means, mode, sigmas, margin, part):
    """Is a line through the means flat, and does it improve?"""
    y = np.asarray(means, np.float64)
    x = np.arange(len(y))
    (slope, at_zero), squares = np.polyfit(x, y, 1), np.sum((x - x.mean()) ** 2)
    noise = np.sum((y - at_zero - slope * x) ** 2) / (len(y) - 2)
    error = sigmas * np.sqrt(noise / squares)
    slope = slope if mode == "min" else -slope
    allowed = (margin[0] * abs(y.mean()) + margin[1]) * part
    return slope - error >= -allowed, slope + error < 0


SMALL = dict(block_size=1, blocks=8, factor=0.5)


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        # Constant: flat as soon as there are enough, and everything starts anew.
        ([1.0] * 17, SMALL, [(1, 0)] * 7 + [(0.5, 2)] + [(0.5, 0)] * 7 + [(0.25, 2), (0.25, 0)]),
        ([0.0] * 8, {**SMALL, "rtol": 0.0}, [(1, 0)] * 7 + [(0.5, 2)]),
        # A line down improves, a line up is flat; for a metric of which more is better, not so.
        ([2 - 0.1 * i for i in range(9)], SMALL, [(1, 0)] * 7 + [(1, 1)] * 2),
        ([2 + 0.1 * i for i in range(8)], SMALL, [(1, 0)] * 7 + [(0.5, 2)]),
        ([2 + 0.1 * i for i in range(9)], {**SMALL, "mode": "max"}, [(1, 0)] * 7 + [(1, 1)] * 2),
        ([2 - 0.1 * i for i in range(8)], {**SMALL, "mode": "max"}, [(1, 0)] * 7 + [(0.5, 2)]),
        # Below zero too.
        ([-2 - 0.1 * i for i in range(8)], SMALL, [(1, 0)] * 7 + [(1, 1)]),
        # By less than the margin: 8 blocks fall by 0.04 of a level of 2, or of one of 0.4.
        ([2 - 0.005 * i for i in range(8)], SMALL, [(1, 0)] * 7 + [(0.5, 2)]),
        ([0.4 - 0.005 * i for i in range(8)], SMALL, [(1, 0)] * 7 + [(1, 1)]),
        ([0.4 - 0.005 * i for i in range(8)], {**SMALL, "atol": 0.1}, [(1, 0)] * 7 + [(0.5, 2)]),
        # Only noise, as strong as the metric: who knows?
        ([1.0, 3.0] * 4, SMALL, [(1, 0)] * 8),
        # Blocks of two, and what is no observation.
        (
            [0.5, 1.5, None, NAN, *([0.5, 1.5] * 7), INF],
            {**SMALL, "block_size": 2},
            [(1, 0)] * 17 + [(0.5, 2)] * 2,
        ),
        # After a cut two are not looked at.
        ([1.0] * 18, {**SMALL, "cooldown": 2}, [(1, 0)] * 7 + [(0.5, 2)] * 3 + [(0.5, 0)] * 7
         + [(0.25, 2)]),
        ([1.0] * 16, {**SMALL, "min_scale": 0.4}, [(1, 0)] * 7 + [(0.5, 2)] + [(0.5, 0)] * 7
         + [(0.4, 2)]),
    ],
)  # fmt: skip
def test_golden(metrics, options, expected):
    assert reference(metrics, **options) == expected
    assert answers(metrics, **options)[0] == expected


OPTIONS = [
    dict(zip(("mode", "block_size", "blocks", "sigmas"), row, strict=True))
    for row in itertools.product(("min", "max"), (1, 3), (8, 12), (1.0, 2.5))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_random_metrics(options):
    r = random.Random(str(options))
    level = iter(np.exp(-np.arange(300) / 40) + r.choice([0.2, -0.5]))
    kinds = (lambda: None, lambda: NAN, lambda: -INF, lambda: next(level) + r.gauss(0, 0.1))
    metrics = [r.choices(kinds, (1, 1, 1, 30))[0]() for _ in range(250)]
    options |= dict(rtol=r.choice([0.1, 0.3]), atol=r.choice([0.0, 0.05]), factor=0.5)
    options |= dict(min_scale=0.1, cooldown=r.choice([0, 5]))
    metrics = [m if m is None else float(np.float32(m)) for m in metrics]
    # Of each structure one is compiled with its numbers: the others are arguments.
    constants = options["block_size"] == 1 and options["sigmas"] == 1
    found, _ = answers(metrics, numbers_are_constants=constants, **options)
    assert found == reference(metrics, **options)


def test_who_waits_becomes_sharper():
    # Nobody can tell, until neighbours are merged: 8 answers after the first 7, and a block of two.
    found, state = answers([1.0, 3.0] * 7 + [1.0], **SMALL)
    (flat,) = js.factors(state)["scale"]
    assert found == [(1, UNDECIDED)] * 15
    assert (int(flat.latest.merged), int(flat.latest.means.filled), int(flat.latest.waited)) == (
        2,
        4,
        0,
    )
    found, _ = answers([3.0, 1.0], state, **SMALL)
    assert found == [(1, UNDECIDED), (0.5, FLAT)]
    # With noise of half the metric, and a margin of a twentieth, it takes its time.
    metrics = np.random.default_rng(0).normal(1, 0.5, 600).tolist()
    options = dict(block_size=1, blocks=8, sigmas=3.0)
    found, _ = answers(metrics, **options)
    assert found == reference(metrics, **options)
    assert found[-1][0] < 1


@functools.cache
def first_cut(rule):
    """A function of streams that gives when the scale of each falls first."""
    tx = js.scale_by_schedule(1 * rule)

    def one(state, loss):
        state = tx.update({}, state, value=loss)[1]
        return state, js.events(state)["cuts"] > 0

    def first(losses):
        cut = jax.lax.scan(one, tx.init({}), losses)[1]
        return jnp.where(jnp.any(cut), jnp.argmax(cut) + 1, losses.size + 1)

    return jax.jit(jax.vmap(first))


def first_cuts(rule, streams):
    """When the scale of each stream falls first; one more than its length if never."""
    return np.asarray(first_cut(rule)(jnp.float32(streams)))


def noisy(noise, streams=100, steps=3500):
    """Losses that improve until step 1500, from 2 to 1."""
    draw = np.random.default_rng(5).normal(size=(streams, steps))
    return 2 - np.minimum(np.arange(steps) / 1500, 1) + noise * draw


@pytest.mark.parametrize(("noise", "delay"), [(0.02, 450), (0.1, 550), (0.3, 800)])
def test_of_a_hundred_noisy_streams_none_is_cut_early(noise, delay):
    cuts = first_cuts(DEFAULT, noisy(noise))
    assert cuts.min() > 1500 and np.median(cuts) < 1500 + delay and cuts.max() < 3500
    # Patience sees no more than noise.
    assert first_cuts(PATIENCE, noisy(noise)).max() < 200


def test_the_scale_of_a_metric_changes_nothing():
    losses = noisy(0.3, 8, 2500)
    cuts = first_cuts(DEFAULT, losses)
    for scale in (2.0**-80, 2.0**60, 3.7e5):
        assert (first_cuts(DEFAULT, losses * scale) == cuts).all()
    # With the margin in units of the metric, nor does its offset.
    rule = js.reduce_when_flat(rtol=0, atol=0.06)
    cuts = first_cuts(rule, losses)
    for offset in (100.0, -2.0, -1000.0):
        assert (first_cuts(rule, losses + offset) == cuts).all()
    # Of a metric that is turned, more is better.
    rule = js.reduce_when_flat(rtol=0, atol=0.06, mode="max")
    assert (first_cuts(rule, -losses) == cuts).all()


@pytest.mark.parametrize("size", [3e38, 1e-38, 0.0])
def test_nothing_overflows(size):
    metrics = [size, -size, size, size] * 10
    found, _ = answers(metrics, **{**SMALL, "block_size": 2})
    assert found[-1][0] <= 1


def test_a_block_that_was_longer_ends_at_once():
    _, state = answers([1.0] * 8, **{**SMALL, "block_size": 9})
    found, state = answers([1.0] * 8, state, **SMALL)
    assert found[-1] == (0.5, FLAT)
    with pytest.raises(ValueError, match=r"blocks=10.*blocks=8.*graft"):
        answers([1.0], state, **{**SMALL, "blocks": 10})


def test_it_is_one_program_for_any_numbers_and_has_no_branch():
    tx = js.scale_by_schedule(1 * js.reduce_when_flat())
    state = tx.init({})
    testing.assert_compiles_clean(lambda s: tx.update({}, s, value=jnp.float32(1.0))[1], state)

    @jax.jit
    def last(factor, size, rtol, sigmas):
        rule = js.reduce_when_flat(
            factor=factor, block_size=size, rtol=rtol, sigmas=sigmas, blocks=8, cooldown=size
        )
        tx = js.scale_by_schedule(1 * rule)
        losses = 2 - jnp.minimum(jnp.arange(60.0) / 20, 1)
        one = lambda state, loss: (tx.update({}, state, value=loss)[1], None)
        return js.hyperparams(jax.lax.scan(one, tx.init({}), losses)[0])["scale"]

    rows = jnp.asarray([0.5, 0.1, 0.5]), jnp.asarray([1, 2, 3])
    rows = (*rows, jnp.asarray([0.05, 0.1, 0.3]), jnp.asarray([2.0, 1.0, 3.0]))
    many = jax.vmap(last)(*rows)
    for got, *row in zip(many, *rows, strict=True):
        np.testing.assert_allclose(got, last(*(x.item() for x in row)), rtol=1e-6)
    assert len(set(map(float, many))) == 3
    for bad in (0, -3, 2**31 - 1):
        assert np.isfinite(last(0.5, bad, float(bad), float(bad)))


def test_its_text_is_read_back():
    for rule in (
        0.1 * js.reduce_when_flat(),
        1 * js.reduce_when_flat(mode="max", blocks=10, block_size=10**10, sigmas=3, cooldown=4),
    ):
        testing.assert_same(js.parse(repr(rule)), rule)
    assert repr(js.parse("0.1 * reduce_when_flat(rtol=0.1)")) == "0.1 * reduce_when_flat(rtol=0.1)"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(mode="up"), "'min', 'max'"),
        (dict(factor=1.0), r"reduce_when_flat\(factor=\.\.\.\)` must be in \(0, 1\), got factor=1"),
        (dict(block_size=0), "must be at least 1, got block_size=0"),
        (dict(block_size=2.0), "Write block_size=2"),
        (dict(blocks=6), "must be at least 8, got blocks=6"),
        (dict(blocks=9), "even int"),
        (dict(rtol=-0.1), "not be negative, got rtol"),
        (dict(atol=NAN), "atol=nan"),
        (dict(sigmas=0.0), "must be positive, got sigmas=0"),
        (dict(cooldown=-1), "not be negative, got cooldown=-1"),
        (dict(min_scale=2.0), r"must be in \[0, 1\], got min_scale=2"),
        (dict(metric="step"), "argument of update"),
        (dict(axis_name=3), "axis_name=3"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(options, says):
    with pytest.raises(ValueError, match=says):
        js.reduce_when_flat(**options)


def test_the_number_of_blocks_is_no_tracer():
    with pytest.raises(ValueError, match="even int"):
        jax.jit(lambda n: js.reduce_when_flat(blocks=n).init())(8)


def test_graft_across_another_number_of_blocks_keeps_the_cuts():
    def tx(blocks):
        rule = js.reduce_when_flat(block_size=1, blocks=blocks, factor=0.5, rtol=0.5)
        return js.scale_by_schedule(1.0 * rule)

    state = tx(8).init({})
    for _ in range(20):
        _, state = tx(8).update({}, state, value=1.0)
    (old,) = js.factors(state)["scale"]
    assert old.cuts == 2
    (new,) = js.factors(js.graft(tx(16).init({}), state))["scale"]
    assert (new.scale, new.cuts, new.latest.means.filled) == (0.25, 2, 0)
