"""`kl_adaptive`: golden traces, and its docstring in plain Python over random divergences."""

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


def scales(metrics, state=None, numbers_are_constants=True, **options):
    """The scale after each update that sees a divergence; None is an update without one."""
    rule = js.kl_adaptive(**{"target": 0.01, **options})
    found, states = follow(rule, metrics, state, "kl", numbers_are_constants)
    return found, states[-1]


def reference(
    metrics,
    target=0.01,
    tolerance=2.0,
    up=1.5,
    down=1.5,
    min_scale=0.01,
    max_scale=10.0,
    nonfinite="cut",
):
    """The docstring of `kl_adaptive`, in Python floats."""
    scale, out = 1.0, []
    for kl in metrics:
        if kl is not None and not math.isfinite(kl):
            kl = INF if nonfinite == "cut" else None
        if kl is not None and kl > target * tolerance:
            scale = max(scale / down, min_scale)
        elif kl is not None and 0 < kl < target / tolerance:
            scale = min(scale * up, max_scale)
        out.append(scale)
    return out


@pytest.mark.parametrize(
    ("metrics", "options", "expected"),
    [
        ([0.03, 0.03, 0.001], dict(down=2.0, up=2.0), [0.5, 0.25, 0.5]),
        ([0.001, 0.001, 0.03], dict(up=3.0, down=1.5), [3, 9, 6]),
        # The edges of the band are inside it.
        ([0.02, 0.005, 0.01], dict(), [1, 1, 1]),
        # A policy that has not moved, by rounding or at all.
        ([0.0, -1e-7, -5.0], dict(), [1, 1, 1]),
        ([None, 0.03, None, None], dict(down=2.0), [1, 0.5, 0.5, 0.5]),
        ([NAN, INF, -INF], dict(down=2.0), [0.5, 0.25, 0.125]),
        ([NAN, INF, 0.03], dict(down=2.0, nonfinite="ignore"), [1, 1, 0.5]),
        ([1.0, 1.0, 0.001], dict(down=4.0, min_scale=0.1, up=2.0), [0.25, 0.1, 0.2]),
        ([0.001, 0.001, 1.0], dict(up=4.0, max_scale=5.0, down=2.0), [4, 5, 2.5]),
        ([0.001, 1.0], dict(up=1.0), [1, 1 / 1.5]),
        ([0.011, 0.009], dict(tolerance=1.0, up=2.0, down=2.0), [0.5, 1]),
    ],
)
def test_golden(metrics, options, expected):
    assert scales(metrics, **options)[0] == pytest.approx(expected)
    assert reference(metrics, **options) == pytest.approx(expected)


OPTIONS = [
    dict(zip(("target", "tolerance", "up", "nonfinite"), row, strict=True))
    for row in itertools.product((0.01, 2.0), (1.0, 3.0), (1.0, 1.7), ("ignore", "cut"))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_random_divergences(options):
    r = random.Random(str(options))
    kinds = (lambda: None, lambda: NAN, lambda: INF, lambda: 0.0, lambda: -1e-6)
    size = lambda: options["target"] * math.exp(r.gauss(0, 1.5))
    metrics = [r.choices((*kinds, size), (1, 1, 1, 1, 1, 12))[0]() for _ in range(80)]
    options |= dict(down=r.choice([1.2, 3.0]), min_scale=0.2, max_scale=4.0)
    # Of each structure one is compiled with its numbers: the others are arguments.
    constants = options["target"] == 0.01 and options["tolerance"] == 1
    found, _ = scales(metrics, numbers_are_constants=constants, **options)
    np.testing.assert_allclose(found, reference(metrics, **options), 1e-5)


def test_observed_between_two_updates_it_is_their_mean():
    tx = js.scale_by_schedule(1 * js.kl_adaptive(0.01, down=2.0))
    state = js.observe(js.observe(tx.init({}), kl=0.001), kl=0.1)
    assert js.hyperparams(tx.update({}, state)[1])["scale"] == 0.5
    # The finite ones are near, but one was broken: it is not raised.
    state = js.observe(js.observe(tx.init({}), kl=0.001), kl=NAN)
    assert js.hyperparams(tx.update({}, state)[1])["scale"] == 0.5


def test_what_happened_is_counted():
    _, state = scales([0.001, 0.001, 1.0, 1.0, None, 0.01], up=20.0, down=3.0, min_scale=0.5)
    # Raised to 10, held there, then 10/3 and 10/9.
    assert {k: int(v) for k, v in js.events(state).items()} == {"cuts": 2, "raises": 1, "mixed": 0}


def test_a_run_restored_under_other_bounds_is_held_to_them():
    _, state = scales([0.001] * 8)
    assert scales([0.01], state, max_scale=2.0)[0] == [2.0]


def test_it_is_one_program_for_any_numbers_and_has_no_branch():
    tx = js.scale_by_schedule(1 * js.kl_adaptive(0.01))
    state = tx.init({})
    testing.assert_compiles_clean(lambda s: tx.update({}, s, kl=jnp.float32(1.0))[1], state)

    @jax.jit
    def last(target, up):
        tx = js.scale_by_schedule(1 * js.kl_adaptive(target, up=up, down=up, tolerance=up))
        divergences = jnp.asarray([0.001, 0.01, 0.3, 0.02, 0.002])
        one = lambda state, kl: (tx.update({}, state, kl=kl)[1], None)
        return js.hyperparams(jax.lax.scan(one, tx.init({}), divergences)[0])["scale"]

    targets, ups = jnp.asarray([0.01, 0.1, 0.01]), jnp.asarray([1.5, 1.5, 2.0])
    many = jax.vmap(last)(targets, ups)
    for got, target, up in zip(many, targets, ups, strict=True):
        np.testing.assert_allclose(got, last(float(target), float(up)), rtol=1e-6)
    assert last._cache_size() <= 2 and len(set(map(float, many))) > 1
    # No meaning for numbers such as these, but a finite value.
    for bad in (0.0, -1.0, 1e30):
        assert np.isfinite(last(bad, bad))


def test_its_text_is_read_back():
    for rule in (
        0.1 * js.kl_adaptive(0.01),
        1 * js.kl_adaptive(0.02, tolerance=3, up=2, nonfinite="ignore", metric="gradient_norm"),
    ):
        testing.assert_same(js.parse(repr(rule)), rule)
    assert repr(js.parse("0.1 * kl_adaptive(0.01)")) == "0.1 * kl_adaptive(0.01)"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(target=0.0), r"kl_adaptive\(target=\.\.\.\)` must be positive, got target=0"),
        (dict(target=NAN), "target=nan"),
        (dict(tolerance=0.5), "must be at least 1, got tolerance=0.5"),
        (dict(up=0.9), "must be at least 1, got up=0.9"),
        (dict(down=0.9), "must be at least 1, got down=0.9"),
        (dict(min_scale=0.0), r"must be in \(0, 1\], got min_scale=0"),
        (dict(max_scale=0.5), "must be at least 1, got max_scale=0.5"),
        (dict(nonfinite="bad"), "'cut', 'ignore'"),
        (dict(metric="step"), "argument of update"),
        (dict(axis_name=3), "axis_name=3"),
    ],
)
def test_a_wrong_call_is_told_what_to_write(options, says):
    with pytest.raises(ValueError, match=says):
        js.kl_adaptive(**{"target": 0.01, **options})
