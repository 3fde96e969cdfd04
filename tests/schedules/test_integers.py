"""Integer schedules: what is rounded how, and where libraries ask for an integer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import testing

ROUNDINGS = "floor", "ceil", "half_up", "half_even"
LINE = js.linear(-4.0, 4.0, 16)  # in halves


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("multiple", [1, 3, 16, 1000])
def test_every_value_is_the_exact_multiple(rounding, multiple):
    """Against integer arithmetic, in halves, also where the quotient is not a float32."""
    halves = np.arange(-60_001, 60_002, 7)
    values = js.table((halves / 2).tolist()).integer(rounding, multiple=multiple)
    whole, rest = halves // (2 * multiple), halves % (2 * multiple)
    up = {
        "floor": rest < 0,
        "ceil": rest > 0,
        "half_up": rest >= multiple,
        "half_even": (rest > multiple) | ((rest == multiple) & (whole % 2 == 1)),
    }[rounding]
    found = values(np.arange(len(halves)))
    assert found.dtype == jnp.int32 and found.tolist() == (multiple * (whole + up)).tolist()


def test_halves_and_their_neighbours():
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))  # + 0.5 it would round up to 1
    for value, expected in ((below, (0, 1, 0, 0)), (0.5, (0, 1, 1, 0)), (1.5, (1, 2, 2, 2))):
        assert tuple(int(js.constant(value).integer(r)(0)) for r in ROUNDINGS) == expected
    assert [int(js.constant(-0.5).integer(r)(0)) for r in ROUNDINGS] == [-1, 0, 0, 0]


def test_what_operators_make_of_it_is_real():
    whole = js.linear(0.0, 8.0, 16).integer("floor")
    assert whole(3).dtype == jnp.int32 and whole(np.arange(3)).dtype == jnp.int32
    others = (
        *(2 * whole, whole + 1, -whole, whole / 2, 1 / (whole + 1), whole**2, 2**whole),
        *(whole >> whole, js.constant(0.5, 3) >> whole, whole * LINE, whole + whole),
        *(whole.clip(1.0), whole.take(9), whole.shift(2), whole.hold(2), whole.faster(2)),
        *(whole.cycle(), js.minimum(whole, 3.0), js.join([whole, LINE], [5])),
    )
    for other in others:
        assert other(5).dtype == jnp.float32, other
        assert other.integer("floor")(5).dtype == jnp.int32
    testing.assert_same(whole.stretch(32), js.linear(0.0, 8.0, 32).integer("floor"))
    assert (js.constant(0.5, 3) >> whole)(np.arange(2, 6)).tolist() == [0.5, 0.0, 0.0, 1.0]


def test_its_gradient_is_zero():
    slope = jax.grad(lambda end: real(js.linear(0.0, end, 9).integer("half_up")(5)))(8.0)
    through = jax.grad(lambda end: (js.linear(0.0, end, 9).integer("half_up") * 2.0)(5))(8.0)
    assert slope == through == 0.0
    both = jax.grad(lambda a: (js.constant(3.3).integer("floor") * js.constant(a))(0))(2.0)
    assert both == 3.0


def real(x):
    return x.astype(float)


REFUSED = {
    "rounding.* must be one of 'floor', 'ceil', 'half_up', 'half_even', got": lambda: LINE.integer(
        "nearest"
    ),
    "`integer\\(multiple=...\\)` must be at least 1, got multiple=0": lambda: LINE.integer(
        "floor", multiple=0
    ),
    "`integer\\(multiple=...\\)` must be an integer, got multiple=0.5": lambda: LINE.integer(
        "floor", multiple=0.5
    ),
    "must be at least 128 for values as large as 2e\\+09, got multiple=100": lambda: js.linear(
        0.0, 2e9, 10
    ).integer("floor", multiple=100),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_wrong_call_says_so(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_large_values():
    found = js.linear(0.0, 2e9, 4).integer("floor", multiple=128)(np.arange(5))
    assert found.tolist() == [10**9 // 2 * n // 128 * 128 for n in range(5)]
    beyond = js.constant(1e12).integer("floor", multiple=2**20)
    assert beyond(0) == 2**31 - 1 and (-1 * js.constant(1e12)).integer("ceil", 2**20)(0) < -(2**30)


def test_int32_under_x64(x64):
    large = js.constant(2.0**31 - 2).integer("floor")
    assert large(0) == 2**31 - 2 and large(0).dtype == jnp.int32
    assert js.constant(2.0**40).integer("floor")(0) == 2**31 - 1


def test_text_and_laws():
    for made in (
        LINE.integer("half_even"),
        LINE.integer("floor", multiple=16),
        (LINE.integer("ceil", 2) + 1).integer("floor").cycle(),
        (js.constant(1.0, 3) >> LINE).integer("half_up"),
    ):
        testing.assert_same(js.parse(repr(made)), made)
        testing.assert_schedule_laws(made)
    assert repr(LINE.integer("floor", 16)).endswith(".integer('floor', multiple=16)")
    chain = (js.constant(0.0, 4) >> js.constant(2.6)).integer("half_up")
    assert [(x.step, x.before, x.after) for x in js.describe(chain).jumps] == [(4, 0.0, 3.0)]
    traced = jax.jit(lambda end, every: js.linear(0.0, end, 4).integer("floor", every)(3))
    assert traced(8.0, 4) == 4 and traced(16.0, 5) == 10 and traced(16.0, 0) == 12


def test_multisteps_takes_it():
    """`cond branches` of different types were the answer to a schedule of real numbers."""
    every = js.piecewise_constant([1.0, 2.5], [2]).integer("floor")
    tx = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=every)
    params = jnp.zeros(1)
    with jax.numpy_dtype_promotion("standard"):  # `MultiSteps` mixes its types
        state = tx.init(params)
        step = jax.jit(tx.update)
        moved = []
        for _ in range(6):
            updates, state = step(jnp.ones(1), state, params)
            moved.append(float(updates[0]))
    assert moved == [-1.0, -1.0, 0.0, -1.0, 0.0, -1.0]


@pytest.mark.parametrize("wrapped", [js.accumulate])
def test_accumulate_takes_it(wrapped):
    tx = wrapped(optax.sgd(1.0), js.piecewise_constant([1.0, 2.5], [2]).integer("floor"))
    state, moved = tx.init(jnp.zeros(1)), []
    for _ in range(6):
        updates, state = tx.update(jnp.ones(1), state)
        moved.append(float(updates[0]))
    assert moved == [-1.0, -1.0, 0.0, -1.0, 0.0, -1.0]


def test_in_an_optimizer_it_is_a_real_number():
    rate = js.linear(0.0, 4.0, 4).integer("floor")
    for tx in (
        js.scale_by_learning_rate(rate),
        js.inject(optax.sgd, learning_rate=rate),
        js.per_group(lambda tree: "all", {"all": rate}),
    ):
        state = tx.init(jnp.zeros(1))
        for step in range(3):
            updates, state = jax.jit(tx.update)(jnp.ones(1), state)
            assert updates == -step
        ((_, value),) = js.hyperparams(state).items()
        assert value.dtype == jnp.float32 and value == 2.0
        state = js.override(state, learning_rate=7.0)
        assert jax.jit(tx.update)(jnp.ones(1), state)[0] == -7.0


def test_populations_and_new_numbers():
    traces = []

    @jax.jit
    def call(schedule, step):
        traces.append(None)
        return schedule(step)

    for end in (4, 8, 16):
        found = call(js.linear(0.0, float(end), 4).integer("floor", end // 4), 3)
        assert int(found) == 3 * end // 4 // (end // 4) * (end // 4)
    assert len(traces) == 1
    stacked = js.stack([js.linear(0.0, end, 4).integer("floor") for end in (4.0, 8.0)])
    found = jax.vmap(lambda schedule: schedule(3))(stacked)
    assert found.dtype == jnp.int32 and found.tolist() == [3, 6]


def test_sequence_lengths_of_deepspeed():
    """CurriculumScheduler, `fixed_linear`: what torch users know, in multiples of 8 and 16."""
    for least, most, total, every in ((64, 1024, 15000, 8), (80, 480, 301, 16), (8, 8, 10, 8)):
        ours = js.linear(float(least), float(most), total).integer("floor", multiple=every)
        steps = np.unique(np.linspace(0, total + 10, 2000).astype(int))
        # difficulty = floor(share * (max - min) + min); difficulty -= difficulty % difficulty_step
        share = np.minimum(steps / total, 1.0)
        theirs = np.floor(share * (most - least) + least).astype(int)
        theirs = np.minimum(theirs - theirs % every, most)
        assert ours(steps).tolist() == theirs.tolist()


def test_the_attention_window_of_modded_nanogpt():
    """`next_multiple_of_n(3456 * factor, n=128)` with a cubic factor of the progress."""
    x = js.linear(0.0, 1.0, 1393)
    window = js.maximum(3456 * (4 * x**3 - 6 * x**2 + 3 * x), 1.0).integer("ceil", multiple=128)

    def theirs(step):
        x = step / 1393
        size = 3456 * (4 * x**3 - 6 * x**2 + 3 * x)
        return next(n for n in range(128, int(size) + 257, 128) if n >= size)

    steps = np.arange(1394)
    assert window(steps).tolist() == [theirs(step) for step in steps]
