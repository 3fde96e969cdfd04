"""Pieces of one structure are one computation: the same values, the same slopes, one formula."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxsched as js
from jaxsched import testing

LAST = 2**31 - 1
LENGTHS = [3, 1, 0, 7, 2, 0, 0, 5, 4, 1]
RATES = np.linspace(1.0, 0.1, len(LENGTHS))


def cosines():
    return [js.cosine(r, r / 3, n) for r, n in zip(RATES.tolist(), LENGTHS, strict=True)]


def mixed():
    """A warmup, and then lines and cosines in turn, with a few of a kind of their own between."""
    pairs = [
        x
        for k, n in enumerate(LENGTHS)
        for x in (js.linear(0.1, 1.0 + k, n), js.cosine(1.0 + k, 0.2, n, k=2.0))
    ]
    return [
        js.constant(0.5, 4),
        *pairs[:9],
        js.rex(1.0, 0.0, 3),
        *pairs[9:],
        js.geometric(1.0, 2.0, 6),
    ]


def functions():
    return [
        js.from_function(lambda t, k=k: t.astype(float) * 0.1 + k).take(3) for k in range(9)
    ] + cosines()


def scaled():
    return [0.5 * (js.linear(0.0, r, 2) >> js.cosine(r, 0.0, 3)) for r in RATES.tolist()]


CHAINS = {"cosines": cosines, "mixed": mixed, "functions": functions, "scaled": scaled}
chains = pytest.mark.parametrize("pieces", [f() for f in CHAINS.values()], ids=CHAINS)


def chained(pieces):
    return functools.reduce(operator.rshift, pieces)


def alone(pieces, steps):
    """The value at each step of the piece that it is in, which is called alone."""
    ends = np.cumsum([int(piece.steps) for piece in pieces[:-1]])
    places = [int(np.searchsorted(ends, t, side="right")) for t in steps]
    starts = [0, *ends.tolist()]
    inside = zip(places, steps, strict=True)
    return np.asarray([float(pieces[k](int(t) - starts[k])) for k, t in inside], np.float32)


@chains
def test_a_chain_has_the_values_of_its_pieces(pieces):
    chain = chained(pieces)
    steps = np.arange(chain.steps + 5)
    expected = alone(pieces, steps)
    np.testing.assert_array_equal(chain(steps), expected)
    each = np.asarray([chain(int(t)) for t in steps])
    np.testing.assert_array_equal(each, expected)
    assert chain(LAST) == expected[-1] == chain(-1 + 2**31)
    assert chain(-3) == expected[0]


@chains
def test_what_is_made_of_pieces_keeps_the_laws(pieces):
    testing.assert_schedule_laws(chained(pieces))
    testing.assert_schedule_laws(functools.reduce(operator.add, pieces))
    testing.assert_schedule_laws(js.select(5, pieces))


def test_a_join_has_the_values_of_its_pieces():
    pieces = [js.cosine(r, 0.1, 30) for r in RATES.tolist()]
    edges = [4, 4, 9, 20, 20, 20, 21, 40, 70]
    steps = np.arange(110)
    places = np.searchsorted(edges, steps, side="right")
    starts = np.asarray([0, *edges])[places]
    inside = zip(places, steps - starts, strict=True)
    expected = np.asarray([pieces[k](int(t)) for k, t in inside])
    np.testing.assert_array_equal(js.join(pieces, edges)(steps), expected)


def test_pieces_beyond_the_clock_are_never_reached():
    chain = chained([js.linear(0.0, 1.0, 2**29) for _ in range(12)])
    values = chain(np.asarray([0, 2**28, 2**29 - 1, 2**29, 2**30 + 2**28, LAST]))
    np.testing.assert_allclose(values, [0, 0.5, 1, 0, 0.5, 1], rtol=1e-6)
    assert chain.steps == LAST


@chains
def test_numbers_may_be_arguments_and_mapped(pieces):
    chain = chained(pieces)
    steps = jnp.arange(chain.steps + 3)
    np.testing.assert_allclose(jax.jit(lambda s, t: s(t))(chain, steps), chain(steps), rtol=1e-6)
    if any("<" in repr(piece) for piece in pieces):
        return
    twice = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), chain)
    np.testing.assert_allclose(jax.vmap(lambda s: s(steps))(twice)[1], chain(steps), rtol=1e-6)
    with pytest.raises(ValueError, match="stacked"):
        twice(3)


def test_a_slope_belongs_to_the_piece_of_its_step():
    rates = jnp.asarray(RATES, jnp.float32)

    def value(rates, t):
        return chained([js.cosine(r, 0.0, 5) for r in rates])(t)

    steps = jnp.arange(52)
    slopes = jax.vmap(jax.jit(jax.grad(value)), (None, 0))(rates, steps)
    one = js.cosine(1.0, 0.0, 5)(jnp.where(steps >= 45, steps - 45, steps % 5))
    places = jnp.minimum(steps // 5, len(RATES) - 1)
    expected = jnp.where(jnp.arange(len(RATES))[None] == places[:, None], one[:, None], 0.0)
    np.testing.assert_allclose(slopes, expected, atol=1e-6)


def test_slopes_are_finite_at_every_boundary():
    numbers, rebuild = js.trainable(chained(mixed()))
    steps = jnp.arange(60)
    slopes = jax.jacobian(lambda numbers: rebuild(numbers)(steps))(numbers)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slopes))


@pytest.mark.parametrize("size", [2, 7, 8, 40])
def test_sums_and_products_of_one_structure(size):
    curves = [js.cosine(1.0 + 0.1 * k, 0.5, 3 + k) for k in range(size)]
    curves += [js.linear(1.0, 0.9, 2), js.linear(1.0, 0.8, 4)]
    steps = np.arange(size + 5)
    values = np.stack([curve(steps) for curve in curves]).astype(np.float64)
    total = functools.reduce(operator.add, [*curves, 0.25])
    product = functools.reduce(operator.mul, [*curves, 2.0])
    np.testing.assert_allclose(total(steps), values.sum(0) + 0.25, rtol=1e-5)
    np.testing.assert_allclose(product(steps), 2.0 * values.prod(0), rtol=1e-5)
    for made in (total, product):  # to the bit as they are written out, term by term
        written_out = jax.jit(lambda x, t: x.at(t))(made, jnp.asarray(steps, jnp.int32))
        np.testing.assert_array_max_ulp(np.asarray(made(steps)), np.asarray(written_out), 1)
    assert total.steps == product.steps == max(curve.steps for curve in curves)
    for made in (total, product):
        testing.assert_total(made)
        testing.assert_traceable(made)


def test_huge_and_tiny_factors_and_terms_stay_finite():
    curves = [js.linear(x, x, 3) for x in [1e30] * 6 + [1e-30] * 6]
    assert np.isfinite(functools.reduce(operator.mul, curves)(1))
    curves = [js.linear(x, x, 3) for x in [3e38] * 6 + [-3e38] * 6]
    assert np.isfinite(functools.reduce(operator.add, curves)(1))


def test_the_slope_of_a_product_of_one_structure():
    def product(rates, t):
        return functools.reduce(operator.mul, [js.linear(r, 1.0, 4) for r in rates])(t)

    rates = jnp.asarray([1.5, 0.5, 2.0, 3.0, 1.0, 0.7, 1.2, 0.9])
    for t in (0, 1, 4, 9):
        left = 1 - min(t, 4) / 4
        values = rates * left + 1 - left
        slopes = jax.grad(product)(rates, t)
        np.testing.assert_allclose(slopes, left * jnp.prod(values) / values, rtol=1e-6)


def test_select_of_one_structure():
    schedules = [js.rex(1.0, 0.0, 5), *cosines(), js.linear(1.0, 0.0, 4), *cosines()[::-1]]
    steps = np.arange(12)
    by = jax.jit(lambda k: js.select(k, schedules)(steps))
    for k, schedule in enumerate(schedules):
        np.testing.assert_array_equal(js.select(k, schedules)(steps), schedule(steps))
        np.testing.assert_allclose(by(k), schedule(steps), rtol=1e-6)
    np.testing.assert_array_equal(by(-5), by(0))
    np.testing.assert_array_equal(by(99), by(len(schedules) - 1))
    mapped = jax.vmap(lambda k: js.select(k, schedules)(3))(jnp.arange(len(schedules)))
    np.testing.assert_allclose(mapped, [schedule(3) for schedule in schedules], rtol=1e-6)


WRAPPED = {
    "cycle": lambda chain: chain.cycle(),
    "cycle that grows": lambda chain: chain.cycle(mult=2, decay=0.5),
    "cycle that grows by a real number": lambda chain: chain.cycle(mult=1.5),
    "other times": lambda chain: chain.faster(1.5).shift(-3).hold(2),
    "stretch": lambda chain: chain.stretch(60).clip(0.2, 0.9),
    "chain": lambda chain: js.linear(0.0, 1.0, 5) >> chain.take(30) >> js.rex(0.5, 0.1, 4),
    "maximum": lambda chain: js.maximum(chain * 2.0, 0.5),
    "select": lambda chain: js.select(1, [js.linear(1.0, 0.0, 3), chain]),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_what_wraps_a_chain(wrap):
    for pieces in (cosines(), mixed()):
        schedule, steps = wrap(chained(pieces)), np.arange(200)
        written_out = jax.jit(lambda t, x=schedule: x.at(t))(jnp.asarray(steps, jnp.int32))
        np.testing.assert_allclose(schedule(steps), written_out, rtol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=str)
@chains
def test_sharded_steps(pieces, kind):
    steps = np.arange(64, dtype=np.int32).reshape(16, 4)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("a", "b"), axis_types=(kind,) * 2)
    total = functools.reduce(operator.add, pieces)
    for schedule in (chained(pieces), total, js.select(jnp.asarray(3), pieces)):
        plain = schedule(steps)
        with jax.set_mesh(mesh):
            values = schedule(jax.device_put(steps, NamedSharding(mesh, P("a", "b"))))
        if kind is AxisType.Explicit:
            assert values.sharding.spec == P("a", "b")
        np.testing.assert_allclose(values, plain, rtol=1e-6)


def equations(jaxpr):
    """How many there are, those inside others included."""
    inside = [getattr(x, "jaxpr", x) for e in jaxpr.eqns for x in e.params.values()]
    return len(jaxpr.eqns) + sum(equations(x) for x in inside if hasattr(x, "eqns"))


MADE = {
    "join": lambda n: js.join(
        [js.cosine(1.0 / (k + 1), 0.1, 90 + k) for k in range(n)], [100 * k for k in range(1, n)]
    ),
    "select": lambda n: js.select(n // 2, [js.cosine(1.0, 0.1, 90 + k) for k in range(n)]),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
@pytest.mark.parametrize("step", [3, np.arange(4)], ids=["scalar", "array"])
def test_the_program_does_not_grow_with_its_pieces(made, step):
    sizes = [equations(jax.make_jaxpr(lambda t, n=n: made(n)(t))(step).jaxpr) for n in (40, 60)]
    assert sizes[0] == sizes[1] < 250


def test_a_term_more_is_a_number_more_to_add():
    def size(n):
        terms = [js.cosine(1.0 / (k + 1), 0.1, 90 + k) for k in range(n)]
        total = functools.reduce(operator.add, terms)
        return equations(jax.make_jaxpr(lambda t: total(t))(3).jaxpr)

    assert size(60) - size(40) <= 20 * 2


def test_the_program_of_a_join_of_300_grows_by_the_halves_of_a_search():
    few, many = (
        equations(jax.make_jaxpr(lambda t, n=n: MADE["join"](n)(t))(3).jaxpr) for n in (50, 300)
    )
    assert few < many < few + 60


@pytest.mark.parametrize(
    ("join", "expected"),
    [(lambda s: s * 1.1, 0.7 * 1.1**9), (lambda s: s + 1.0, 9.7)],
    ids=["product", "sum"],
)
def test_many_plain_numbers_beside_a_schedule(join, expected):
    schedule = js.linear(1.0, 0.0, 10)
    for _ in range(9):
        schedule = join(schedule)
    np.testing.assert_allclose(schedule(3), expected, rtol=1e-6)


def test_a_chain_beside_a_rule_is_one_computation_too():
    chain = js.join([js.cosine(1.0, 0.1 * k, 9) for k in range(60)], [9 * k for k in range(1, 60)])
    tx = js.scale_by_learning_rate(chain * js.reduce_on_plateau())
    lines = str(jax.make_jaxpr(tx.update)({}, tx.init({}))).count("\n")
    assert lines < 800
