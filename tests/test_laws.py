"""Every law of schedules, for every public factory and every operator."""

import inspect
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from catalogue import ALL, CASES

import jaxsched as js
from jaxsched import testing

LAST = 2**31 - 1
cases = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


def held(x):
    """A number as the schedule holds it: float32."""
    return np.float64(np.float32(x)) if isinstance(x, float) else x


# What is raised to a large power is held to more digits than float32 has.
POWERS = {"rate", "decay", "step_decay", "mult", "b2"}


def held_in(numbers):
    return {name: x if name in POWERS else jax.tree.map(held, x) for name, x in numbers.items()}


def steps_of(case):
    lengths = [n for n in jax.tree.leaves(case.numbers) if isinstance(n, int)]
    ends = [n for n in (case.schedule.steps,) if n is not None]
    around = {n + d for n in [*lengths, *ends] for d in (-2, -1, 0, 1, 2)}
    spread = {int(x) for x in np.geomspace(1, LAST, 150)} | set(range(130))
    if "repeated" in case.oracle.__code__.co_names and case.numbers.get("mult", 1) == 1:
        spread = {n for n in spread if n < 10**5}  # the oracle walks cycle by cycle
    return np.asarray(sorted(n for n in around | spread if 0 <= n <= LAST), np.int64)


# They take a law, and return a `piecewise_linear`.
OF_A_LAW = {"best_schedule", "best_remaining"}


def test_every_public_factory_is_in_the_catalogue():
    factories = {
        name
        for name, x in vars(js).items()
        if inspect.isfunction(x) and x.__annotations__.get("return") == "Schedule"
    }
    factories -= OF_A_LAW
    assert factories and factories <= set(CASES), factories - set(CASES)


def test_no_two_classes_have_equal_structures():
    """Or a program compiled for one is now and then taken for one of the other."""
    schedules = [case.schedule for case in ALL]
    for a, b in itertools.combinations(schedules, 2):
        if type(a) is not type(b):
            assert jax.tree.structure(a) != jax.tree.structure(b), (a, b)
    with pytest.raises(AssertionError):
        testing.assert_same(js.linear(1.0, 0.0, 4), js.one_minus_sqrt(1.0, 0.0, 4))


@cases
def test_exact(case):
    t = steps_of(case)
    expected = case.expected(t, **held_in(case.numbers))
    crosses = np.any(expected > 0) and np.any(expected < 0)
    floor = 1e-37 + 1e-7 * crosses * (expected.max() - expected.min()) + 1e-6 * case.blur * t
    actual = np.asarray(case.schedule(t), np.float64)
    bound = floor + 1e-6 * case.tolerance(t) * np.abs(expected)
    worst = np.argmax(np.abs(actual - expected) / bound)
    assert np.all(np.abs(actual - expected) <= bound), (t[worst], actual[worst], expected[worst])


@cases
def test_assertable_laws(case):
    testing.assert_schedule_laws(case.schedule)


@cases
def test_x64(case, x64):
    t = steps_of(case)
    if case.name == "from_function":
        pytest.skip("optax's own float32 arithmetic")
    actual, expected = case.schedule(t), case.expected(t, **case.numbers)
    assert actual.dtype == (jnp.int32 if case.name.startswith("integer") else jnp.float64)
    rtol = 1e-6 if case.name.startswith("radam") else 1e-12  # its series has float32's terms
    bound = rtol * case.tolerance(t) * (1e-1 * np.max(np.abs(expected)) + np.abs(expected))
    np.testing.assert_array_less(np.abs(np.asarray(actual) - expected), bound + 1e-300)


@cases
def test_jit_argument_and_one_trace(case):
    t = jnp.asarray(steps_of(case).astype(np.int32))
    traces = []

    @jax.jit
    def call(schedule, t):
        traces.append(None)
        return schedule(t)

    scale = float(np.max(case.tolerance(np.asarray(t)[:100])))
    np.testing.assert_allclose(
        call(case.schedule, t), case.schedule(t), rtol=1e-6 * scale, atol=1e-9
    )
    for name in case.numbers:
        if case.numbers[name] != 1 or name != "mult":  # equal cycles are another structure
            call(case.make(**{**case.numbers, name: case.other(name)}), t)
    assert len(traces) == 1


@pytest.mark.parametrize("case", [x for x in ALL if x.numbers], ids=lambda case: case.name)
def test_vmap_over_every_number_is_a_loop(case):
    t = steps_of(case).astype(np.int32)
    rows = [case.numbers, *({**case.numbers, name: case.other(name)} for name in case.numbers)]
    batch = jax.tree.map(lambda *x: jnp.asarray(x), *rows)
    mapped = jax.vmap(lambda numbers: case.make(**numbers)(t))(batch)
    for values, numbers in zip(mapped, rows, strict=True):
        alone = case.make(**jax.tree.map(held, numbers))(t)  # as the array has them
        bound = (np.abs(alone) + 0.2 * np.max(np.abs(alone))) * 1e-6 * case.tolerance(t)
        np.testing.assert_array_less(np.abs(values - alone), bound + 1e-37)


def only(tree, kind):
    """The leaves of one kind, floats or integers, and None for the others."""
    is_kind = lambda x: jnp.issubdtype(jnp.result_type(x), kind)
    return jax.tree.map(lambda x: jnp.asarray(x) if is_kind(x) else None, tree)


@jax.jit
def slopes(floats, tangents, integers, t):
    """The slope of a schedule in a direction: one program is for each of its numbers."""

    def value(floats):
        whole = lambda x, n: n if x is None else x
        schedule = jax.tree.map(whole, floats, integers, is_leaf=lambda x: x is None)
        return schedule(t).astype(float)

    return jax.jvp(value, (floats,), (tangents,))[1]


@pytest.mark.parametrize(
    ("case", "name"),
    [(case, name) for case in ALL for name, x in case.numbers.items() if isinstance(x, float)],
    ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_gradients_are_finite_differences(case, name, x64):
    t, at = steps_of(case), case.numbers[name]

    def made(x):
        return case.make(**{**case.numbers, name: x})

    schedule, tangents = jax.jvp(made, (jnp.float64(at),), (jnp.float64(1.0),))
    integers = only(schedule, jnp.integer)
    slope = slopes(
        only(schedule, jnp.floating), only(tangents, jnp.floating), integers, t.astype(np.int32)
    )
    assert np.all(np.isfinite(slope))
    h = 1e-6 * (1 - at if name == "b2" else max(abs(at), 1e-3))
    right, here, left = (case.expected(t, **{**case.numbers, name: at + d}) for d in (h, 0, -h))
    # Where the value jumps or has a kink in this number, the sides disagree, and neither is asked.
    ahead, behind = (right - here) / h, (here - left) / h
    biggest = np.max(np.abs(slope)) + 1e-12
    smooth = np.abs(ahead - behind) <= 1e-3 * biggest
    assert smooth.mean() > 0.5
    error = np.abs(slope - (ahead + behind) / 2)[smooth]
    assert np.all(error <= 1e-4 * biggest), (error.max() / biggest, t[smooth][np.argmax(error)])


@cases
def test_ends_are_exact(case):
    if case.length is None:
        return
    init, end, steps = (case.numbers[k] for k in ("init", "end", "steps"))
    schedule = case.schedule
    if not case.name.startswith("tanh"):
        assert schedule(0) == np.float32(init if steps else end)
    compiled = jax.jit(schedule)
    for t in (steps, min(steps + 1, LAST), LAST):
        assert schedule(t) == compiled(t) == np.float32(end)


@cases
def test_text(case):
    text = repr(case.schedule)
    if "<" in text:
        return
    testing.assert_same(eval(text, vars(js)), case.schedule)
    testing.assert_same(pickle.loads(pickle.dumps(case.schedule)), case.schedule)


def test_equal_schedules_are_one_program():
    a, b = js.linear(1.0, 0.0, 9), js.linear(1.0, 0.0, 9)
    assert a == b and len({a, b}) == 1
    assert jax.jit(a)(3) == b(3)


class Own(js.Schedule):
    """What a user may write: a formula, and nothing else."""

    def at(self, t):
        return 1.0 / (t.astype(float) + 1)


@pytest.mark.parametrize("step", [3, np.int64(3), jnp.int32(3)], ids=["int", "numpy", "jax"])
def test_a_subclass_with_a_formula_alone_is_a_schedule(step):
    assert Own()(step) == jax.jit(Own())(step) == 0.25
    assert (0.5 * Own())(step) == 0.125 and Own().steps is None
    assert repr(Own() * js.linear(1.0, 0.0, 4)) == "<own()> * linear(1.0, 0.0, 4)"


def test_a_subclass_with_an_init_is_told_to_have_fields():
    with pytest.raises(TypeError, match=r"`Mine` has an `__init__`.*`rate: float`"):

        class Mine(js.Schedule):
            def __init__(self, rate):
                self.rate = rate


def test_a_subclass_with_an_end_declares_it_as_a_length():
    with pytest.raises(TypeError, match=r"`steps` of `Mine` is a length.*length_field"):

        class Mine(js.Schedule):
            steps: int

    class Ends(js.Schedule):
        steps: int = js.length_field()

        def at(self, t):
            return jnp.minimum(t, jnp.asarray(self.steps)).astype(float)

    assert (Ends(steps=3) >> js.constant(7.0))(jnp.arange(5)).tolist() == [0, 1, 2, 7, 7]


def test_steps_are_documented():
    assert "schedule.steps" in inspect.getdoc(js.Schedule)


LINE = js.linear(1.0, 0.0, 4)


def test_what_is_traced_has_a_text(capsys):
    jax.jit(lambda d: print(js.constant(d)))(0.5)
    assert capsys.readouterr().out == "constant(<float32[]>)\n"
    jax.vmap(lambda d: print(LINE.cycle(decay=d)))(jnp.ones(2))
    assert "decay=<float32[]>" in capsys.readouterr().out
    assert "decay=[0.5, 0.25]" in repr(
        jax.vmap(lambda d: LINE.cycle(decay=d))(jnp.array([0.5, 0.25]))
    )


def test_a_traced_decay_can_be_chained():
    chained = jax.jit(lambda decay: (LINE.cycle(decay=decay, cycles=2) >> LINE)(5))
    taken = jax.jit(lambda decay: LINE.cycle(decay=decay).take(8).cycle()(5))
    for at in (chained, taken):  # a power by its logarithm may miss the last digit
        assert float(at(0.5)) == pytest.approx(0.375, rel=2e-7)


def test_nothing_is_put_into_words_while_nothing_is_wrong(monkeypatch):
    def text(self):
        raise AssertionError("a text was made")

    for kind in (js.Schedule, js.Stateful):
        monkeypatch.setattr(kind, "__repr__", text)
    chain = LINE
    for _ in range(20):
        chain = chain >> LINE.cycle(cycles=2)
    js.minimum(js.maximum(chain, LINE), 1.0).cycle()
    js.select(0, [js.join([LINE, js.from_function(chain)], [3]), LINE])
    tx = js.scale_by_learning_rate(LINE * js.until(LINE, LINE) * js.tunable(LINE))
    _, state = tx.update({}, js.retune(tx.init({}), learning_rate=LINE))
    js.override(state, learning_rate=0.1)


def test_ours_is_ours():
    assert js.from_function(LINE) is LINE


def test_a_raised_schedule_is_stretched_in_its_cycles():
    raised = (0.5 + LINE).cycle(mult=2)
    testing.assert_same(raised(np.arange(20)), (LINE.cycle(mult=2) + 0.5)(np.arange(20)))
    assert (1 - LINE).stretch(8)(8) == 1.0 and (1 - LINE).stretch(8).steps == 8
    with pytest.raises(ValueError, match="cannot be stretched"):
        (LINE + LINE).cycle(mult=2)


def test_functions_stand_beside_schedules_and_stateful_ones():
    theirs = optax.linear_schedule(1.0, 0.0, 4)
    plateau = js.reduce_on_plateau()
    for product in (theirs * plateau, plateau * theirs, 1.0 * plateau * theirs):
        assert product(product.init(), step=2) == 0.5
    for ours in (LINE, plateau):
        for wrong in ("1", None, float, jnp.bfloat16):
            assert ours.__mul__(wrong) is NotImplemented
        for sided in (lambda x=ours: x * np.nan, lambda x=ours: np.nan * x):
            with pytest.raises(ValueError, match="schedule \\* number"):
                sided()


def test_somebody_elses_schedule_can_be_asserted():
    testing.assert_schedule_laws(optax.linear_schedule(1.0, 0.0, 10))
    with pytest.raises(ValueError, match="assert_schedule_laws"):
        testing.assert_schedule_laws(0.1)
