"""Clocks: a schedule that is read at the times that another schedule tells."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js
from jaxsched import testing

LAST = 2**31 - 1
CHAIN = js.linear(0.0, 1.0, 5) >> js.cosine(1.0, 0.0, 30)
SCHEDULES = {
    "chain": CHAIN,
    "cycle": CHAIN.cycle(mult=2, decay=0.5),
    "stairs": js.step_decay(1.0, factor=0.5, every=7),
    "table": js.table([5.0, 3.0, 4.0, 1.0]),
    "milestones": js.piecewise_constant([1.0, 0.1, 0.01], [6, 13]),
    "restarts": js.warmup_cosine_restarts(0.3, cycle_steps=20, warmup_steps=3, mult=2),
    "decay": js.exponential_decay(1.0, decay_rate=0.9, decay_steps=3),
}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
STEPS = np.unique(np.concatenate([np.arange(400), np.geomspace(400, 2**22, 50).astype(int)]))


@every
def test_shift_faster_and_hold_are_clocks(schedule):
    """They keep their names, because their clocks are exact at every step, and cheaper."""
    steps, count = STEPS[STEPS < 2**20], js.counter(1)
    for moved, clock in (
        (schedule.shift(7), (count - 7).integer("floor")),
        (schedule.shift(-7), (count + 7).integer("floor")),
        (schedule.faster(3), (3 * count).integer("floor")),
        (schedule.hold(4), (count / 4).integer("floor")),
    ):
        np.testing.assert_array_equal(schedule.on(clock)(steps), moved(steps))
        assert schedule.on(clock).steps == moved.steps
    for rate in (0.5, 1.5):
        np.testing.assert_array_equal(
            schedule.on(js.counter(rate))(steps), schedule.faster(rate)(steps)
        )
        assert schedule.on(js.counter(rate)).steps == schedule.faster(rate).steps


@every
def test_an_integer_clock_is_exact(schedule):
    times = np.asarray([0, 3, 3, 4, 5, 6, 7, 13, 14, 35, 1000, 5, 2], int)
    clock = js.table(times.astype(float).tolist()).integer("half_up")
    np.testing.assert_array_equal(schedule.on(clock)(np.arange(13)), schedule(times))


@every
def test_laws(schedule):
    clocks = (
        js.counter(2.5),
        js.counter(3).integer("floor"),
        js.linear(0.0, 100.0, 30),
        js.piecewise_linear([0.0, 10.0, 300.0], [0, 20, 100]),
    )
    for clock in clocks:
        made = schedule.on(clock)
        testing.assert_schedule_laws(made, [0, 1, 5, 6, 7, 13, 100])
        testing.assert_same(js.parse(repr(made)), made)


def test_what_a_clock_may_tell():
    nan = js.from_function(lambda t: jnp.where(t == 3, jnp.nan, 2.0))
    assert CHAIN.on(nan)(3) == CHAIN(0) and CHAIN.on(nan)(2) == CHAIN(2)
    back = js.linear(-5.0, 5.0, 10)
    np.testing.assert_array_equal(CHAIN.on(back)(np.arange(11)), CHAIN(np.arange(-5, 6)))
    assert CHAIN.on(js.constant(3e38))(0) == 0.0
    half = js.table([0.0, 10.0, 20.0]).on(js.counter(0.5))
    assert half(np.arange(5)).tolist() == [0, 0, 10, 10, 20]  # a table reads the whole part
    pieces = (js.constant(1.0, 3) >> js.constant(2.0)).on(js.counter(0.7))
    assert pieces(np.arange(6)).tolist() == [1, 1, 1, 1, 1, 2]  # 2.8 is before 3
    assert CHAIN.on(lambda t: t // 2)(6) == CHAIN(3)


def test_the_end():
    assert CHAIN.on(js.counter(7)).steps == 5  # 35 / 7
    assert CHAIN.on(js.counter(6)).steps == 6
    assert CHAIN.on(js.linear(0.0, 20.0, 50)).steps == 50  # it ends before the chain
    assert CHAIN.on(js.linear(0.0, 70.0, 50)).steps == 25
    assert CHAIN.on(js.linear(70.0, 0.0, 50)).steps == 50  # it goes back
    assert CHAIN.on(js.constant(3.0)).steps is None
    assert CHAIN.on(js.counter(0)).steps is None
    assert js.inverse_sqrt(1.0, timescale=3.0).on(js.counter(2)).steps is None
    assert js.inverse_sqrt(1.0, timescale=3.0).on(js.linear(0.0, 9.0, 4)).steps == 4
    assert CHAIN.on(js.linear(0.0, 35.0, 2**30)).steps == pytest.approx(2**30, rel=1e-7)
    assert CHAIN.on(js.counter(1e-7)).steps == pytest.approx(35e7, rel=1e-6)


@pytest.mark.parametrize("rate", [0.3, 1.0, 3.0, 7.0, 1e-3])
def test_the_end_is_searched_for_traced_numbers(rate):
    found = jax.jit(lambda rate: CHAIN.on(js.counter(rate)).steps)(rate)
    assert found == CHAIN.on(js.counter(rate)).steps
    after = jax.jit(lambda rate, t: (CHAIN.on(js.counter(rate)) >> js.constant(9.0))(t))
    end = int(found)
    assert after(rate, end) == 9.0 and after(rate, end - 1) < 1.0
    bounded = jax.jit(lambda rate: CHAIN.on(js.counter(rate).take(4)).steps)(rate)
    assert bounded == min(4, end)
    never = jax.jit(lambda rate: CHAIN.on(js.constant(rate)).steps)(rate)
    assert never == LAST


def test_the_clock_is_local():
    """Within `>>` and `cycle` the clock starts with its piece."""
    clock = js.counter(7)
    chained = js.constant(5.0, 10) >> CHAIN.on(clock)
    np.testing.assert_array_equal(chained(np.arange(10, 20)), CHAIN.on(clock)(np.arange(10)))
    cycled = CHAIN.on(clock).cycle(decay=0.5)
    # A power by its logarithm may miss the last digit.
    again = 0.5 * CHAIN.on(clock)(np.arange(5))
    np.testing.assert_allclose(cycled(np.arange(5, 10)), again, rtol=1e-6)
    for wrong in (
        lambda: CHAIN.on(clock).stretch(9),
        lambda: CHAIN.on(clock).cycle(mult=2),
        lambda: CHAIN.on(clock).cycle(mult=1.5),
    ):
        with pytest.raises(ValueError, match="cannot be stretched"):
            wrong()
    with pytest.raises(ValueError, match="`on` takes schedules, got the stateful"):
        CHAIN.on(js.reduce_on_plateau())
    with pytest.raises(ValueError, match=r"`counter\(rate=...\)` must not be negative"):
        js.counter(-1)


def test_clocks_of_clocks():
    twice = CHAIN.on(js.counter(3).on(js.counter(2)))
    np.testing.assert_array_equal(twice(np.arange(9)), CHAIN.on(js.counter(6))(np.arange(9)))
    assert twice.steps == CHAIN.on(js.counter(6)).steps
    outer = CHAIN.on(js.counter(3)).on(js.counter(2).integer("floor"))
    np.testing.assert_array_equal(outer(np.arange(9)), CHAIN.on(js.counter(6))(np.arange(9)))


def test_counts_beyond_the_step_counter():
    """A trillion tokens, with a warmup of three billion, at four million a step."""
    each, warmup, decay = 4_194_304.0, 3 * 10**9, 10**12
    steps = np.unique(np.concatenate([np.arange(2000), np.linspace(0, 250_000, 3000).astype(int)]))
    tokens = steps * each
    left = np.clip((warmup + decay - tokens) / decay, 0, 1)
    expected = np.where(
        tokens < warmup, 3e-4 * tokens / warmup, 3e-4 * np.sin(np.pi / 2 * left) ** 2
    )
    chain = js.linear(0.0, 3e-4, warmup) >> js.cosine(3e-4, 0.0, decay)
    for found in (
        chain.on(js.counter(each))(steps),
        jax.jit(lambda schedule: schedule(steps))(chain.on(js.counter(each))),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6 * 3e-4)
    alone = js.cosine(3e-4, 0.0, decay).on(js.counter(each))
    assert alone.steps == math.ceil(decay / each)
    left = np.clip((decay - tokens) / decay, 0, 1)
    np.testing.assert_allclose(alone(steps), 3e-4 * np.sin(np.pi / 2 * left) ** 2, atol=3e-10)
    several = js.linear(0.0, 1.0, 2**32) >> js.constant(1.0, 2**33) >> js.linear(1.0, 0.0, 2**32)
    found = several.on(js.counter(2.0**30))(np.asarray([0, 2, 4, 8, 12, 14, 16, 20]))
    assert found.tolist() == [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]


def test_gradients_go_through_the_numbers_of_the_clock():
    def value(rate):
        return js.linear(0.0, 1.0, 100).on(js.counter(rate))(10)

    assert jax.grad(value)(3.0) == pytest.approx(0.1)
    slope = jax.grad(lambda end: (CHAIN.on(js.linear(0.0, end, 10)) >> js.constant(1.0))(3))(20.0)
    assert np.isfinite(slope) and slope != 0


def test_in_an_optimizer_and_in_populations():
    rate = CHAIN.on(js.counter(2))
    traces = []

    @jax.jit
    def call(schedule, step):
        traces.append(None)
        return schedule(step)

    for number in (1.0, 2.0, 2.5):
        assert call(CHAIN.on(js.counter(number)), 2) == CHAIN.on(js.counter(number))(2)
    assert len(traces) == 1
    for tx in (
        js.inject(optax.sgd, learning_rate=rate * js.reduce_on_plateau()),
        js.per_group(lambda tree: "all", {"all": rate}),
    ):
        state = tx.init(jnp.zeros(1))
        for step in range(4):
            updates, state = jax.jit(tx.update)(jnp.ones(1), state)
            assert updates == -rate(step)
    rates = js.stack([CHAIN.on(js.counter(n)) for n in (1, 2, 3)])
    np.testing.assert_allclose(
        jax.vmap(lambda schedule: schedule(2))(rates), CHAIN(np.asarray([2, 4, 6])), rtol=1e-6
    )
    mapped = jax.vmap(lambda n: (CHAIN.on(js.counter(n)) >> js.constant(2.0))(7))
    assert mapped(jnp.asarray([1.0, 7.0])).tolist() == [pytest.approx(float(CHAIN(7))), 2.0]


def test_what_is_drawn_and_described(capsys):
    made = CHAIN.on(js.counter(2))
    assert [row.step for row in js.describe(made).rows] == [0, 2, 3, 17, 18]
    from jaxsched._look._curve import drawn

    (curve,) = drawn([{"": made}])[0]
    assert [*curve.boundaries] == [3, 18]
    assert [*curve.phases] == [(0, 3, "linear"), (3, 18, "cosine")]
    back = CHAIN.on(js.linear(35.0, 0.0, 10))
    assert [*drawn([{"": back}])[0][0].boundaries] == [10]
    jax.jit(lambda n: print(CHAIN.on(js.counter(n))))(1.0)
    assert ".on(counter(<float32[]>))" in capsys.readouterr().out


# Peers that count samples or tokens.


def megatron_batches(start, increment, ramp_samples, last, iterations):
    """`RampupBatchsizeNumMicroBatches`: the batch size of each iteration, by consumed samples."""
    increments = (last - start) // increment
    per_increment = ramp_samples / increments
    consumed, sizes = 0, []
    for _ in range(iterations):
        if consumed > ramp_samples:
            size = last
        else:
            size = min(start + int(consumed / per_increment) * increment, last)
        sizes.append(size)
        consumed += size
    return np.asarray(sizes)


def megatron_rate(num_steps, peak, low, warmup, decay):
    """`OptimizerParamScheduler.get_lr`, cosine; `num_steps` are samples."""
    if warmup > 0 and num_steps <= warmup:
        return peak * num_steps / warmup
    if num_steps > decay:
        return low
    ratio = (num_steps - warmup) / (decay - warmup)
    return low + 0.5 * (math.cos(math.pi * ratio) + 1.0) * (peak - low)


@pytest.mark.parametrize(
    ("start", "increment", "ramp", "last"), [(32, 32, 20_000, 256), (16, 8, 5_000, 64)]
)
def test_megatron_with_a_batch_ramp(start, increment, ramp, last):
    sizes = megatron_batches(start, increment, ramp, last, 1_200)
    consumed = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    knots = [int(step) for step in np.flatnonzero(np.diff(sizes)) + 1]
    batch = js.piecewise_constant([float(sizes[0]), *map(float, sizes[knots])], knots)
    units = js.Units(batch_size=batch.take(knots[-1]).integer("floor"))
    clock = units.clock("examples")
    assert clock(np.arange(1_200)).tolist() == consumed.tolist()
    assert len(repr(clock)) < 600
    peak, low, warmup, decay = 3e-4, 3e-5, 4_000, 60_000
    rate = (js.linear(0.0, peak, warmup) >> js.cosine(peak, low, decay - warmup)).on(clock)
    expected = [megatron_rate(n, peak, low, warmup, decay) for n in consumed]
    np.testing.assert_allclose(rate(np.arange(1_200)), expected, rtol=1e-6)
    assert rate.steps == np.argmax(consumed >= decay) == units.examples(decay - 1) + 1
    testing.assert_same(js.parse(repr(rate)), rate)


def test_units_of_a_ramp():
    batch = js.piecewise_constant([10, 20, 40], [3, 5]).take(5).integer("floor")
    units = js.Units(batch_size=batch, dataset_size=100, sequence_length=8, accumulation=2)
    consumed = [0, 20, 40, 60, 100, 140, 220, 300]
    for unit, scale in (("examples", 1), ("tokens", 8), ("epochs", 0.01)):
        found = units.clock(unit)(np.arange(8))
        np.testing.assert_allclose(found, np.asarray(consumed) * scale, rtol=1e-6)
    for step, examples in enumerate(consumed[1:], start=1):
        assert units.examples(examples) == step
        assert units.examples(examples + 1) == step and units.tokens(8 * examples) == step
    assert units.epochs(1) == 4 and units.epochs(3) == 7 and units.examples(10**6) == 7 + 12496
    constant = js.Units(batch_size=10, dataset_size=100, sequence_length=8, drop_remainder=True)
    assert repr(constant.clock("tokens")) == "counter(80.0)"
    assert repr(constant.clock("epochs")) == "counter(0.1)"
    level = js.Units(batch_size=js.constant(16.0).take(1).integer("floor"))
    assert repr(level.clock("examples")) == "counter(16.0)" and level.examples(160) == 10
    assert js.parse("linear(0.0, 1.0, 1ep)", units=units).steps == 4


REFUSED = {
    "be an integer of at least 1, or an integer schedule": lambda: js.Units(batch_size=CHAIN),
    "`Units\\(batch_size=...\\)` must end": lambda: js.Units(
        batch_size=js.constant(8.0).integer("floor")
    ),
    "`Units\\(batch_size=...\\)` must be at least 1": lambda: js.Units(
        batch_size=js.linear(0.0, 8.0, 9).integer("floor")
    ),
    "`Units\\(drop_remainder=...\\)` must be None": lambda: js.Units(
        batch_size=js.linear(1.0, 8.0, 9).integer("floor"), drop_remainder=True
    ),
    "`clock\\(unit=...\\)` must be one of 'examples', 'tokens', 'epochs'": lambda: js.Units(
        batch_size=8
    ).clock("steps"),
    "`clock` needs `Units\\(sequence_length=...\\)`": lambda: js.Units(batch_size=8).clock(
        "tokens"
    ),
    "needs a constant batch size": lambda: (
        js.Units(batch_size=js.linear(1.0, 8.0, 9).integer("floor"), dataset_size=9).steps_per_epoch
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_units_say_so(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_real_valued_epochs():
    """A function of the epoch, as timm's users write it, at every step of the epoch."""
    units = js.Units(batch_size=128, dataset_size=50_000)
    over_epochs = js.linear(0.0, 1.0, 5) >> js.cosine(1.0, 0.0, 85)
    rate = over_epochs.on(units.clock("epochs"))
    faster = over_epochs.faster(1 / units.steps_per_epoch)
    steps = np.arange(0, 36_000, 7)
    epochs = steps * 128 / 50_000
    expected = np.where(
        epochs < 5, epochs / 5, (1 + np.cos(np.pi * np.clip((epochs - 5) / 85, 0, 1))) / 2
    )
    np.testing.assert_allclose(rate(steps), expected, atol=1e-6)
    np.testing.assert_array_equal(rate(steps), faster(steps))


def test_what_is_no_clock_says_so():
    for wrong in (3, "examples", js.Units(batch_size=8)):
        with pytest.raises(ValueError, match=r"must be a schedule.*units.clock\('examples'\)"):
            CHAIN.on(wrong)
    with pytest.raises(ValueError, match="can be multiplied and divided"):
        (CHAIN * js.reduce_on_plateau()).on(js.counter(2))
    with pytest.raises(ValueError, match="takes schedules, got an optimizer"):
        js.plot(js.inject(optax.sgd, learning_rate=CHAIN))


def test_environment_steps_of_brax():
    """PPO of brax counts environment steps: each training step makes many optimizer steps."""
    batch_size, unroll_length, minibatches, action_repeat, updates_per_batch = 1024, 5, 32, 1, 4
    each = batch_size * unroll_length * minibatches * action_repeat
    total, updates = 10**8, minibatches * updates_per_batch
    steps = np.unique(np.linspace(0, 80_000, 3000).astype(int))
    # The count advances once for each training step, and is a float in the compiled loop.
    consumed = steps // updates * each
    rate = js.linear(3e-4, 0.0, total).on(js.counter(each).hold(updates))
    np.testing.assert_allclose(rate(steps), 3e-4 * np.clip(1 - consumed / total, 0, 1), atol=3e-10)
    smooth = js.linear(3e-4, 0.0, total).on(js.counter(each / updates))
    expected = 3e-4 * np.clip(1 - steps * each / updates / total, 0, 1)
    np.testing.assert_allclose(smooth(steps), expected, atol=3e-10)
    assert rate.steps == math.ceil(total / each) * updates
    assert smooth.steps == math.ceil(total / (each / updates))


def test_in_a_sweep():
    def train(schedule):
        def step(x, t):
            return x - schedule(t) * x, None

        return jax.lax.scan(step, 1.0, jnp.arange(20))[0] ** 2

    rates = [js.linear(peak, 0.0, 40).on(js.counter(2)) ** 1.5 for peak in (0.1, 0.5, 0.9)]
    found = js.sweep(train, rates)
    np.testing.assert_allclose(np.ravel(found.scores), [train(rate) for rate in rates], rtol=1e-5)
