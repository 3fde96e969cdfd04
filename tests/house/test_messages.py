"""Bad input fails at construction and says what to write; a bad traced number has a meaning.

A wrong name, a wrong keyword or a wrong order says what was meant.
"""

import inspect
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxsched as js

LAST = 2**31 - 1
NAN = float("nan")

ANY = [NAN, float("inf"), "0.1", 1j, True, [0.1], 10**400, 1e39]
REAL = [*ANY, np.float32("nan"), np.asarray(NAN), jnp.asarray(-jnp.inf), np.asarray("0.1")]
NEGATIVE = [-1, -0.5, np.float64(-1), np.int64(-3), np.asarray(-1.0), jnp.asarray(-1.0)]
ZERO = [0, 0.0, np.float32(0), jnp.asarray(0), jnp.asarray([1.0, 0.0])]
FRACTION = [2.5, 1e5, NAN, "10", True, np.float32(3), np.asarray(2.0), jnp.asarray(2.0), [3], None]
LENGTH = [*FRACTION, -1, np.int64(-1), np.asarray(-1), jnp.asarray(-1), jnp.asarray([1, -1])]

BAD = {
    "real": REAL,
    "positive": [*REAL, *NEGATIVE, *ZERO],
    "nonzero": [*REAL, *ZERO],
    "not negative": [*REAL, *NEGATIVE],
    "not positive": [*REAL, 1, 0.5, np.float32(1), jnp.asarray(1.0)],
    "length": LENGTH,
    "count": [*LENGTH, 0, np.int32(0), jnp.asarray(0)],
    "b2": [*REAL, *NEGATIVE, *ZERO, 1, 1.0, np.float32(1), jnp.asarray(1.5)],
    "flag": [1, "yes", None, jnp.asarray(True)],
    "curve": [3, "cosine", js.linear(1.0, 0.0, 3)],
    "values": [[], 3.0],
    "norms": [[], 3.0, [1.0, 0.0], [1.0, -1.0], [NAN], np.asarray([1.0, 0.0]), jnp.zeros(2)],
    "part": [*REAL, *NEGATIVE, 1.5, jnp.asarray(0.5)],
    "norm": ["linf", 2, None],
    "rule": ["cubic", 0.5, None],
    "boundaries": [[3, 1], [-1, 2], 3, [jnp.asarray(3), jnp.asarray(1)]],
    "phases": [1, 4, "2", 2.5],
    "index": [-1, 2, 0.5, np.int32(7), jnp.asarray(2), "0"],
    "schedules": [[], 3],
    "function": [3, lambda t: (t, t), lambda t: jnp.ones(3), lambda t: t.nothing],
}

# What a traced number may be, whatever the argument says.
TRACED = {
    **dict.fromkeys(("real", "nonzero", "not negative", "not positive"), (0.0, -1.0, 2.0, 1e30)),
    **dict.fromkeys(("positive", "b2"), (0.0, -1.0, 0.5, 0.6, 1.0, 1e-30, 1e30)),
    **dict.fromkeys(("length", "count"), (0, -1, -3, 1, 1000, LAST, -LAST - 1)),
    "index": (-5, 0, 9),
}

PLACED = {"init_value": ("real", 1.0), "end_value": ("real", 0.5), "steps": ("length", 10)}
PEAK = {"peak_value": ("real", 1.0)}
TOTAL = {"total_steps": ("length", 100), "warmup_steps": ("length", 10)}
INIT = {"init_value": ("real", 0.1)}
END = {"end_value": ("real", 0.1)}
UP = {"warmup_steps": ("length", 10), **INIT, "warmup": ("curve", js.cosine)}
DOWN = {**PEAK, "total_steps": ("length", 100), **UP, **END}
RATE = {"decay_rate": ("positive", 0.9), "decay_steps": ("count", 5)}
KNOTS = {"values": ("values", [1.0, 0.5]), "boundaries": ("boundaries", [2, 4])}
B2 = {"b2": ("b2", 0.99)}
LINE = js.linear(1.0, 0.0, 4)

# Every argument of every public factory: its kind, and a good value.
ARGUMENTS = {
    "linear": PLACED,
    "one_minus_sqrt": PLACED,
    "rex": {**PLACED, "beta": ("positive", 0.5)},
    "tanh": {**PLACED, "low": ("real", -7.0), "high": ("real", 3.0)},
    "sigmoid": {**PLACED, "steepness": ("positive", 9.0), "midpoint": ("unit", 0.25)},
    "power_ramp": {**PLACED, "power": ("positive", 2.0)},
    "logarithmic": PLACED,
    "counter": {"rate": ("not negative", 0.5)},
    "polynomial": {**PLACED, "power": ("positive", 2.0), "k": ("positive", 2.0)},
    "cosine": {**PLACED, "exponent": ("positive", 2.0), "k": ("positive", 2.0)},
    "geometric": {**PLACED, "init_value": ("nonzero", 1.0), "end_value": ("nonzero", 0.5)},
    "constant": {"value": ("real", 1.0), "steps": ("length", 3)},
    "inverse_sqrt": {**PEAK, "timescale": ("positive", 3.5)},
    "inverse_time_decay": {
        **INIT,
        "decay_rate": ("not negative", 0.9),
        "decay_steps": ("count", 5),
        "staircase": ("flag", True),
    },
    "power_law": {**PEAK, "exponent": ("not positive", -0.5), "timescale": ("positive", 3.5)},
    "exponential_decay": {**INIT, **RATE, "end_value": ("real", 0.1), "staircase": ("flag", True)},
    "step_decay": {**INIT, "factor": ("positive", 0.5), "every": ("count", 3)},
    "sawtooth_polynomial": {
        "init_value": ("real", 0.1),
        "end_value": ("real", 0.1),
        "power": ("positive", 2.0),
        "decay_steps": ("count", 5),
    },
    "table": {"values": ("values", [1.0, 0.5, 0.1])},
    "optimal_schedule": {"grad_norms": ("norms", [3.0, 2.0, 1.0])},
    "refined_schedule": {
        "grad_norms": ("norms", [3.0, 2.0, 1.0]),
        "width": ("part", 0.5),
        "norm": ("norm", "l1"),
    },
    "piecewise_constant": {**KNOTS, "values": ("values", [1.0, 0.5, 0.1])},
    "piecewise_linear": KNOTS,
    "piecewise_cosine": KNOTS,
    "piecewise_cubic": KNOTS,
    "exponential_warmup": {"timescale": ("positive", 3.5)},
    "untuned_linear_warmup": B2,
    "radam_warmup": B2,
    "warmup_constant": {**PEAK, **UP},
    "warmup_linear": DOWN,
    "warmup_cosine": {**DOWN, "exponent": ("positive", 2.0)},
    "warmup_polynomial": {**DOWN, "power": ("positive", 2.0)},
    "warmup_exponential": {**PEAK, **UP, **RATE, **END, "staircase": ("flag", False)},
    "warmup_inverse_sqrt": {**PEAK, **UP, "timescale": ("positive", 3.5)},
    "warmup_stable_decay": {**DOWN, "decay_steps": ("length", 20), "decay": ("curve", js.linear)},
    "warmup_cosine_restarts": {
        **PEAK,
        "cycle_steps": ("count", 20),
        "warmup_steps": ("length", 3),
        "mult": ("mult", 1.5),
        "decay": ("positive", 0.5),
        "cycles": ("count", 3),
        **END,
        **INIT,
        "rewarm": ("flag", True),
    },
    "one_cycle": {
        **PEAK,
        **TOTAL,
        **INIT,
        **END,
        "phases": ("phases", 3),
        "curve": ("curve", js.linear),
    },
    "one_cycle_momentum": {
        **INIT,
        "trough_value": ("real", 0.85),
        **TOTAL,
        "phases": ("phases", 2),
        "curve": ("curve", js.linear),
    },
    "noam": {
        "factor": ("real", 1.0),
        "model_size": ("positive", 512),
        "warmup_steps": ("count", 40),
    },
    "bert": {**PEAK, **TOTAL, "decay": ("curve", js.cosine)},
    "gradual_warmup": {
        "rate": ("real", 0.1),
        "base_batch": ("positive", 256),
        "batch": ("positive", 1024),
        "warmup_steps": ("length", 10),
        "rule": ("rule", "sqrt"),
    },
    "cyclic": {
        "low": ("real", 0.0),
        "high": ("real", 1.0),
        "up_steps": ("length", 3),
        "down_steps": ("length", 4),
        "mult": ("mult", 1.5),
        "decay": ("positive", 0.5),
        "step_decay": ("positive", 0.99),
    },
    "minimum": {"a": ("real", 1.0), "b": ("real", LINE)},
    "maximum": {"a": ("real", LINE), "b": ("real", 1.0)},
    "join": {"schedules": ("schedules", [LINE] * 3), "boundaries": ("boundaries", [3, 5])},
    "select": {"index": ("index", 1), "schedules": ("schedules", [LINE, LINE])},
    "from_function": {"function": ("function", lambda t: 0.5 * t)},
}
METHODS = {
    "clip": {"low": ("real", 0.1), "high": ("real", 0.9)},
    "take": {"steps": ("length", 3)},
    "stretch": {"steps": ("length", 3)},
    "faster": {"rate": ("mult", 1.5)},
    "hold": {"steps": ("count", 3)},
    "shift": {"steps": ("whole", 3)},
    "cycle": {"mult": ("mult", 1.5), "decay": ("positive", 0.5), "cycles": ("count", 2)},
}
BAD["whole"] = FRACTION
BAD["mult"] = [bad for bad in BAD["positive"] if not isinstance(bad, int) or bad < 10]
TRACED["mult"] = TRACED["positive"]
TRACED["whole"] = TRACED["length"]
BAD["unit"] = [bad for bad in BAD["part"] if not isinstance(bad, jax.Array)]
TRACED["unit"] = TRACED["real"]
OPTIONAL = {
    "steps",
    "end_value",
    "timescale",
    "k",
    "exponent",
    "decay",
    "step_decay",
    "low",
    "high",
}


def made(name, **arguments):
    function = getattr(LINE, name) if name in METHODS else getattr(js, name)
    return function(**arguments)


def good(arguments):
    return {name: value for name, (_, value) in arguments.items()}


def fits_its_kind(name, argument, bad):
    """None means "choose for me" in some places, and an int `mult` is as good as a float."""
    arguments = inspect.signature(getattr(js, name, None) or getattr(js.Schedule, name)).parameters
    return bad is None and arguments[argument].default is None


EVERY = {**ARGUMENTS, **METHODS}


def wrong(name):
    """Every bad value of every argument."""
    for argument, (kind, _) in EVERY[name].items():
        for bad in BAD[kind]:
            if not fits_its_kind(name, argument, bad):
                yield argument, bad


OF_A_LAW = {"best_schedule", "best_remaining"}  # their arguments are in forecast/test_forecast.py


def factories():
    return {
        name: function
        for name, function in vars(js).items()
        if inspect.isfunction(function)
        and function.__annotations__.get("return") == "Schedule"
        and name not in OF_A_LAW
    }


def test_every_argument_of_every_public_factory_is_here():
    for name, function in factories().items():
        assert set(inspect.signature(function).parameters) == set(ARGUMENTS.get(name, ())), name


@pytest.mark.parametrize("name", EVERY)
def test_a_bad_argument_is_named(name):
    for argument, bad in wrong(name):
        case = f"{argument}={bad!r} ({type(bad).__name__})"
        try:
            made(name, **{**good(EVERY[name]), argument: bad})
        except ValueError as error:
            message = str(error)
        else:
            pytest.fail(f"{case} is taken")
        assert f"`{name}(" in message and argument in message, (case, message)
        shown = [repr(bad)] + ([repr(x) for x in bad] if isinstance(bad, list) else [])
        assert any(text in message for text in shown) or " 0 " in message, (case, message)


def test_there_are_thousands_of_bad_arguments():
    assert sum(len([*wrong(name)]) for name in EVERY) >= 2200


@pytest.mark.parametrize("name", [name for name in EVERY if name != "from_function"])
def test_a_good_one_is_not(name):
    assert jnp.isfinite(made(name, **good(EVERY[name]))(3))


@pytest.mark.parametrize("name", EVERY)
def test_a_bad_traced_number_has_a_meaning(name):
    arguments = EVERY[name]
    steps = np.asarray([0, 1, 2, 5, 9, 10, 11, 50, 99, 100, 101, 10**6, LAST - 1, LAST])
    given = {
        argument: np.asarray(TRACED[kind])
        for argument, (kind, value) in arguments.items()
        if kind in TRACED and not isinstance(value, js.Schedule)
    }

    @jax.jit
    def values(given):
        return {
            argument: jax.vmap(
                lambda x, a=argument: made(name, **{**good(arguments), a: x})(steps)
            )(bad)
            for argument, bad in given.items()
        }

    kinds = {True: np.float32, False: np.int32}
    found = values({a: bad.astype(kinds[bad.dtype == float]) for a, bad in given.items()})
    for argument, bad in given.items():
        out = found[argument]
        rows = np.flatnonzero(~np.all(np.isfinite(out), axis=-1))
        assert not rows.size, (argument, bad[rows], out[rows])


SAYS = {
    "the length as an integer": (lambda: js.linear(1.0, 0.0, 1e5), "Write steps=100_000."),
    "a schedule that never changes": (lambda: js.cosine(1.0, 0.0, -3), "Use `constant(...)`"),
    "how long before >>": (
        lambda: js.exponential_decay(1.0, decay_rate=0.5, decay_steps=1) >> LINE,
        "`exponential_decay(1.0, decay_rate=0.5, decay_steps=1)` never ends; say how long: "
        "`.take(steps) >> ...`",
    ),
    "how long before cycle": (
        lambda: js.constant(1.0).cycle(),
        "`constant(1.0)` never ends; say how long: `.take(steps).cycle(...)`",
    ),
    "nothing to repeat": (lambda: js.linear(1.0, 0.0, 0).cycle(), "has no steps"),
    "what can be stretched": (
        lambda: (LINE + LINE).stretch(3),
        "`linear(1.0, 0.0, 4) + linear(1.0, 0.0, 4)` cannot be stretched",
    ),
    "what can be cycled longer": (lambda: (LINE + LINE).cycle(mult=2), "cannot be stretched"),
    "a number after >>": (lambda: LINE >> 3.0, "`>>` takes schedules, got 3.0. A number is a "),
    "a number before >>": (lambda: 3.0 >> LINE, "`constant(3.0)`"),
    "a number in join": (lambda: js.join([1.0, LINE], [3]), "`join` takes schedules, got 1.0"),
    "a number in select": (lambda: js.select(0, [1.0]), "`select` takes schedules, got 1.0"),
    "a boundary in join": (lambda: js.join([LINE, LINE], [2.5]), "got boundaries=2.5"),
    "too few boundaries": (lambda: js.join([LINE, LINE], []), "2 schedules and 0 boundaries"),
    "too few values": (lambda: js.piecewise_linear([1.0], [1, 2]), "1 values and 2 boundaries"),
    "one more value": (
        lambda: js.piecewise_constant([1.0], [1]),
        "one more value than boundaries",
    ),
    "nan among values": (lambda: js.piecewise_linear([NAN], [1]), "`piecewise_linear(values=...)`"),
    "nan among boundaries": (lambda: js.piecewise_linear([1.0], [NAN]), "got boundaries=nan"),
    "an empty clip": (lambda: LINE.clip(1.0, 0.5), "is empty: low=1.0 > high=0.5"),
    "a product with nan": (lambda: LINE * NAN, "`schedule * number` must be a finite number"),
    "a product of nan": (lambda: np.float32("nan") * LINE, "`schedule * number` must be a finite"),
    "a sum with infinity": (lambda: LINE + float("inf"), "`schedule + number` must be a finite"),
    "a difference with nan": (lambda: LINE - NAN, "must be a finite number"),
    "a difference of nan": (lambda: NAN - LINE, "must be a finite number"),
    "nothing in the minimum": (lambda: js.minimum(1.0, 2.0), "`minimum(a, b)` needs a schedule"),
    "a quotient by zero": (
        lambda: LINE / 0,
        "`schedule / divisor` must not be zero, got divisor=0",
    ),
    "a quotient of two": (lambda: LINE / LINE, "the divisor `linear(1.0, 0.0, 4)` ends at zero"),
    "warmup longer than all": (
        lambda: js.warmup_cosine(1.0, total_steps=5, warmup_steps=10),
        "`warmup_cosine(total_steps=...)` must be at least 10, the steps of its parts, "
        "got total_steps=5.",
    ),
    "no scale for a decay": (
        lambda: js.warmup_inverse_sqrt(1.0, warmup_steps=0),
        "give `timescale=...` for no warmup",
    ),
    "signs of a geometric": (lambda: js.geometric(1.0, -1.0, 3), "have the sign of init_value=1.0"),
    "the way of a tanh": (lambda: js.tanh(1.0, 0.0, 3, low=5.0), "be below high=3.0, got low=5.0"),
    "a curve that is a schedule": (
        lambda: js.warmup_linear(1.0, total_steps=9, warmup_steps=3, warmup=LINE),
        "Give a curve such as `linear`, `cosine` or `partial(polynomial, power=2.0)`.",
    ),
    "an integer, and not more": (
        lambda: js.select(0.5, [LINE]),
        "must be an integer, got index=0.5",
    ),
    "a stacked schedule": (
        lambda: jax.tree.map(lambda x: jnp.stack([x, x]), LINE)(3),
        "a stacked schedule must be called under `jax.vmap`: `init_value`",
    ),
    "a stacked factor": (lambda: (LINE * jnp.ones(2))(3), "`operands` of `Product` has shape (2,)"),
    "a stacked list": (
        lambda: jax.tree.map(lambda x: jnp.stack([x, x]), js.piecewise_linear([1.0], [3]))(3),
        "has shape (2, 1), but a single schedule has a list there",
    ),
}


@pytest.mark.parametrize("what", SAYS)
def test_it_says(what):
    call, words = SAYS[what]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        call()
    assert words in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "step", [3.0, np.float32(3), jnp.asarray(3.0), True, [1.0, 2.0], "3", None]
)
def test_a_step_is_an_integer(step):
    for call in (LINE, jax.jit(LINE)) if isinstance(step, (float, jax.Array)) else (LINE,):
        with pytest.raises(TypeError, match=r"a schedule takes an integer step, got"):
            call(step)


@pytest.mark.parametrize("wrong", ["1", None, [1.0]])
def test_no_operator_takes_just_anything(wrong):
    for operator in ("__mul__", "__rmul__", "__add__", "__radd__", "__sub__", "__rsub__"):
        assert getattr(LINE, operator)(wrong) is NotImplemented


def test_a_partial_curve_is_a_curve():
    squared = partial(js.polynomial, power=2.0)
    assert js.warmup_linear(1.0, total_steps=9, warmup_steps=4, warmup=squared)(4) == 1.0


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cosine_decay", r"Did you mean `jaxsched.cosine`"),
        (
            "cosine_decay_schedule",
            r"compat.optax.cosine_decay_schedule`.*`jaxsched.cosine`",
        ),
        ("ReduceLROnPlateau", r"compat.torch.ReduceLROnPlateau`.*`jaxsched.reduce_on_plateau`"),
        ("CosineLRScheduler", r"compat.timm.CosineLRScheduler`"),
        (
            "get_cosine_schedule_with_warmup",
            r"transformers.get_cosine_schedule_with_warmup`",
        ),
        ("reduce_on_plato", r"Did you mean `jaxsched.reduce_on_plateau`"),
        ("hyperparam", r"`jaxsched.hyperparams`"),
    ],
)
def test_an_attribute_that_is_not_there(name, meant):
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}'.*{meant}"):
        getattr(js, name)
    assert not hasattr(js, name)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: js.reduce_on_plateau(min_lr=0.1), r"`min_scale` by `min_lr`\?.*\.clip\(low\)"),
        (lambda: js.reduce_on_plateau(patiance=3), "`patience` by `patiance`"),
        (lambda: js.reduce_on_plateau(threshold=3), "`rtol` by `threshold`"),
        (
            lambda: js.step_decay(0.1, gamma=0.5, step_size=3),
            "`factor` by `gamma`.*`every` by",
        ),
        (lambda: js.warmup_cosine(0.1, num_training_steps=9, warmup_steps=1), "`total_steps` by"),
        (lambda: js.piecewise_constant(0.1, [0.1, 0.01], [3]), r"constant\(values, boundaries\)"),
        (
            lambda: js.cosine(0.1, eta_min=0.0, T_max=3),
            "`end_value` by `eta_min`.*`steps` by",
        ),
        (lambda: js.bert(0.1), r"It is `bert\(peak_value, \*, total_steps, .*decay=linear\)`"),
    ],
)
def test_a_call_that_does_not_fit(call, meant):
    with pytest.raises(TypeError, match=meant):
        call()


def test_an_error_from_within_is_as_it_was():
    def broken(t):
        return len(t)

    with pytest.raises(ValueError, match="broken"):
        js.from_function(broken)
    with pytest.raises(TypeError) as caught:
        js.linear(1.0, 0.0, 4)(0.5)
    assert "Did you mean" not in str(caught.value)


def test_public_functions_are_known_by_their_public_names():
    assert js.cosine.__module__ == "jaxsched" and js.cosine.__name__ == "cosine"
    assert pickle.loads(pickle.dumps(js.cosine)) is js.cosine
    assert js.warmup_cosine(0.1, total_steps=9, warmup_steps=1, warmup=js.cosine).steps == 9


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: js.warmup_cosine(0.1, total_steps=100, warmup_steps=0.1),
            r"`Units\(total_steps=...\).fraction\(0.1\)`, and `10%` in a text",
        ),
        (
            lambda: js.cosine(500, 0.1, 0.0),
            r"The order is `cosine\(init_value, end_value",
        ),
        (lambda: js.linear(1000, 0.1, 0.5), r"The order is `linear\(init_value"),
        (lambda: js.linear(0, 0.1, 1e5), r"Write steps=100_000"),
    ],
)
def test_lengths_that_are_none(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "piecewise_constant(0.1, [0.1, 0.01], [30])",
            r"boundaries\)` takes no more arg",
        ),
        (
            "StepLR(0.1, 30)",
            "is the twin `jaxsched.compat.torch.StepLR`, and twins .* cannot be used",
        ),
        ("compat.torch.StepLR(0.1, 30)", "twins of other libraries cannot be used"),
        ("js.cosine(0.1, 0.0, 30)", "without a module"),
        ("cosine_schedule(0.1, 0.0, 30)", "Did you mean cosine"),
        ("cosine(500, 0.1, 0.0)", "The order is"),
    ],
)
def test_texts_that_say_something_else(text, said):
    with pytest.raises(ValueError, match=said):
        js.parse(text)


def test_a_stacked_state_says_both_ways():
    tx = js.scale_by_learning_rate(0.1 * js.reduce_on_plateau())
    state = jax.vmap(lambda _: tx.init({}))(jnp.arange(3))
    with pytest.raises(ValueError, match=r"under `jax.vmap`, or .*`value=jnp.full\(\(3,"):
        js.observe(state, value=1.0)
    js.observe(state, value=jnp.full((3,), 1.0))


def test_keras_has_none_either():
    with pytest.raises(ValueError, match=r"`to_keras` takes a schedule without a state"):
        js.compat.keras.to_keras(js.linear(0.1, 0.0, 9) * js.reduce_on_plateau())


WARM, FALL = js.linear(0.0, 0.1, 50), js.cosine(0.1, 0.0, 100)


@pytest.mark.parametrize(
    ("schedule", "jump"),
    [
        (0.5 * WARM >> FALL, (50, 0.05, 0.1)),
        (WARM >> FALL + 0.01, (50, 0.1, 0.11)),
        (2 * (WARM >> FALL * 2).clip(0.01), (50, 0.2, 0.4)),
        ((WARM >> FALL * 0.5) + 0.1, (50, 0.2, 0.15)),
        ((WARM >> js.constant(0.2, 0) >> FALL * 0.5) * js.greedy(), (50, 0.1, 0.05)),
        (js.constant(0.1, 3) >> js.constant(0.01), (3, 0.1, 0.01)),
    ],
    ids=repr,
)
def test_a_jump_at_a_join_is_told(schedule, jump):
    (found,) = js.describe(schedule).jumps
    np.testing.assert_allclose(found, jump, rtol=1e-6)
    step, before, after = jump
    assert f"jumps from {before:.4g} to {after:.4g} at step {step}" in repr(js.describe(schedule))


def test_what_meets_does_not_jump():
    for schedule in (WARM >> FALL, js.warmup_cosine(0.1, total_steps=90, warmup_steps=9), FALL):
        assert js.describe(schedule).jumps == ()
    optimized = js.from_function(optax.join_schedules([optax.constant_schedule(1.0)] * 2, [3]))
    assert js.describe(optimized.take(5)).jumps == ()


def test_a_picture_tells_it_too():
    halved = 0.5 * WARM >> FALL
    (panel,) = js.plot(halved).axes
    assert "0.05 → 0.1" in [text.get_text() for text in panel.texts]
    assert "0.05 → 0.1" in halved._repr_html_()


def test_a_wrong_keyword_is_guessed_once():
    with pytest.raises(TypeError) as caught:
        js.cosine(0.1, 0.0, stepss=3)
    assert str(caught.value).count("Did you mean") == 1


def test_what_a_newcomer_does_wrong_is_answered(tmp_path):
    with pytest.raises(ValueError, match="an optimizer that is made already"):
        js.inject(optax.adamw(1e-3), learning_rate=js.constant(0.1))
    with pytest.raises(TypeError, match=r"It is `SequentialLR\(schedulers, milestones\)`"):
        js.compat.torch.SequentialLR(3e-4, [js.constant(0.1)], milestones=[500])
    with pytest.raises(ValueError, match=r"must end in one of .*\.png"):
        js.plot(js.constant(0.1), tmp_path / "rate.foo")


@pytest.mark.parametrize("peer", ["keras", "optax", "timm", "torch", "transformers"])
def test_a_module_of_twins_lists_twins_alone(peer):
    twins = getattr(js.compat, peer)
    listed = dir(twins)
    assert listed and not {"rated", "require", "refuse", "jax", "Schedule"} & {*listed}
    assert {name for name in listed if getattr(twins, name).__module__ == twins.__name__}


def test_a_twin_says_how_it_is_called():
    optimizer = optax.sgd(0.1)
    with pytest.raises(TypeError, match=r"takes no optimizer.*It is `OneCycleLR\(max_lr"):
        js.compat.torch.OneCycleLR(optimizer, 0.1, total_steps=100)
    with pytest.raises(TypeError, match=r"It is `StepLR\(base_lr, step_size"):
        js.compat.torch.StepLR(0.1, 30, last_epoch=-1)
    with pytest.raises(TypeError, match=r"`reduce_on_plateau`.*It is `reduce_on_plateau\("):
        js.reduce_on_plateau(5)


def test_a_text_in_place_of_a_schedule_is_to_be_parsed():
    with pytest.raises(ValueError, match=r"`learning_rate=parse\(...\)`"):
        js.inject(optax.sgd, learning_rate="cosine(0.1, 0.0, 10)")
