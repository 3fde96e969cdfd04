"""`parse`: the way back from text, and what it makes of a text that is none."""

import dataclasses
import inspect
import random
import re

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from catalogue import ALL
from effort import at_most
from hypothesis import given
from texts import ALGEBRA, LINE, PLATEAU, STATEFUL, UNITS, WAVE, mutated
from trees import build, fewer, finite, trees

import jaxsched as js
from jaxsched._core._factory import made
from jaxsched._core._writing import Written
from jaxsched._text import _names, _syntax
from jaxsched.testing import assert_same


def read_back(schedule):
    assert_same(js.parse(repr(schedule)), schedule)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_the_text_of_every_factory_is_read_back(case):
    if "<" not in repr(case.schedule):
        read_back(case.schedule)
    else:
        with pytest.raises(ValueError, match=r"has no text: it is a function"):
            js.parse(repr(case.schedule))


@pytest.mark.parametrize("schedule", [*ALGEBRA, *STATEFUL], ids=repr)
def test_the_text_of_every_composition_is_read_back(schedule):
    read_back(schedule)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("schedule", [*(c.schedule for c in ALL), *ALGEBRA, *STATEFUL], ids=repr)
def test_so_is_that_of_arrays(schedule, array):
    if "<" not in repr(schedule):
        read_back(jax.tree.map(array, schedule))


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_so_is_that_of_a_stack(case):
    other = {name: case.other(name) for name in case.numbers}
    two = jax.tree.map(lambda *x: jnp.asarray(x), case.numbers, other)
    if "<" in repr(case.schedule) or not two:
        return
    stack = jax.vmap(lambda numbers: case.make(**numbers))(two)
    read_back(stack)
    read_back(jax.tree.map(lambda x: x[None], stack))
    if case.numbers.get("mult") != 1:  # which as a number, unlike as an array, stretches nothing
        read_back(jax.tree.map(lambda x: x[0], stack))


def test_so_is_that_of_stacked_rules():
    read_back(jax.vmap(lambda f: LINE * js.reduce_on_plateau(factor=f))(jnp.array([0.1, 0.2])))
    read_back(jax.vmap(lambda x: (x * LINE * js.greedy()).clip(x))(jnp.array([0.1, 0.2])))


def stateful(tree):
    rule = st.sampled_from([PLATEAU, js.greedy(), js.until(LINE, WAVE), js.tunable(WAVE)])
    return st.recursive(
        st.one_of(rule, st.tuples(tree, rule).map(lambda x: build(x[0]) * x[1])),
        lambda s: st.one_of(
            st.tuples(s, st.sampled_from([2.0, LINE, PLATEAU])).map(lambda x: x[0] * x[1]),
            st.tuples(s, st.sampled_from([0.5, WAVE, LINE * WAVE])).map(lambda x: x[1] * x[0]),
            s.map(lambda x: x.clip(0.1, 0.7)),
        ),
        max_leaves=4,
    )


@fewer
@given(st.lists(trees, min_size=10, max_size=20), st.lists(stateful(trees), min_size=10))
def test_random_schedules_are_read_back(plain, reacting):
    for tree in plain:
        read_back(build(tree))
        read_back(jax.tree.map(jnp.asarray, build(tree)))
        read_back(js.tunable(build(finite(tree, 5)) >> LINE) * 0.5)
    for schedule in reacting:
        read_back(schedule)


@pytest.mark.parametrize(
    "text",
    [
        "linear(1, 0, 4) >> cosine(1., .5, 1_000) >> constant(5e-1)",
        "constant(1, 3) >> linear(1, 0, 4) + constant(1) * 2 - 3 / 4",
        "2 - 3 - linear(1, 0, 4) / 2 / 4 * 3 + -linear(1, 0, 4) - +1",
        "- linear(1, 0, 4).take(2) * -2",
        "2 * 3 * linear(1, 0, 4) * 2 * 3",
        "(1 + 2) * (linear(1, 0, 4) + 3) / (1 - .5 * 4)",
        "--1 * linear(1, 0, 2 * 3 - 1)",
        "linear(steps=4, end_value=0, init_value=1,)",
        "one_cycle(0.1, total_steps=100, curve=linear, phases=3)",
        "warmup_stable_decay(1,total_steps=9,warmup_steps=2,decay_steps=3,decay=rex,warmup=tanh)",
        "join([constant(1), linear(1, 0, 4)], [3]).cycle(2) * select(0, [linear(1, 0, 4)])",
        "reduce_on_plateau(mode='max', metric=\"accuracy\", nonfinite='bad') * .5",
        "warmup_cosine_restarts(1, cycle_steps=10, rewarm=False, cycles=None)",
        "linear(0x10 if 0 else 1, 0, 4)".replace("0x10 if 0 else ", ""),
        "\n linear(1,\n\t0, 4)\n >> constant(0) ",
    ],
)
def test_it_means_what_it_means_in_python(text):
    expected = eval(text.strip().replace("\n", " "), dict(vars(js)))
    assert_same(js.parse(text), expected)


def test_numbers_are_arrays_where_they_are_lists():
    assert_same(js.parse("linear([1, 0.5], 0, 4)"), js.linear(np.array([1, 0.5]), 0.0, 4))
    assert_same(js.parse("[2, 3] * linear(1, 0, 4)"), np.array([2, 3]) * LINE)
    assert js.parse("table([[1, 2, 3], [4, 5, 6]])").steps == 2


def test_a_new_factory_is_a_name_at_once(monkeypatch):
    def triangle(high: float, *, steps: int) -> js.Schedule:
        """Up and down."""
        return js.linear(0.0, high, steps) >> js.linear(high, 0.0, steps)

    monkeypatch.setitem(made, "triangle", triangle)
    assert js.parse("triangle(0.5, steps=3)").steps == 6
    assert "triangle" in _names.factories()


def test_names_are_all_there_is():
    assert {"linear", "join", "until", "greedy", "noam"} <= set(_names.factories())
    known = "clip cycle faster hold integer on proportional shift stretch take"
    assert set(_names.methods()) == {*known.split()}
    assert {"linear", "cosine", "rex"} <= set(_names.curves())
    hidden = {"from_function", "parse", "trainable", "observe", "inject", "Schedule", "wrap"}
    assert not hidden & set(_names.factories())
    assert "polynomial" not in _names.curves()  # it needs a power


def nodes(*kinds):
    """The classes that a schedule is made of."""
    for kind in kinds:
        if dataclasses.is_dataclass(kind) and kind.__module__.startswith("jaxsched."):
            yield kind
        yield from nodes(*kind.__subclasses__())


NODES = sorted({*nodes(js.Schedule, js.Stateful)}, key=lambda node: node.__name__)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_has_a_text_that_is_read(node):
    """Its own, or the name of its factory; what others inherit from has none."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", node.__name__).lower()
    known = _names.factory(name) or name in _names._OPAQUE
    own = node._text is not Written._text
    assert own or known or node.__subclasses__()


def test_an_old_name_is_read_for_ever(monkeypatch):
    monkeypatch.setitem(_names.OLD_NAMES, "straight", "linear")
    monkeypatch.setitem(_names.OLD_NAMES, "until_step", "take")
    assert_same(js.parse("straight(1.0, 0.0, 4).until_step(3)"), LINE.take(3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linear(1, 0, 3ep)", js.linear(1.0, 0.0, 134)),
        ("linear(1, 0, 6_400ex)", js.linear(1.0, 0.0, 200)),
        ("linear(1, 0, 4.096e6tok)", js.linear(1.0, 0.0, 1000)),
        ("linear(1, 0, 29%)", js.linear(1.0, 0.0, 290)),
        ("linear(1, 0, 0.7%)", js.linear(1.0, 0.0, 7)),
        ("linear(1, 0, 0.9%)", js.linear(1.0, 0.0, 9)),
        ("linear(1, 0, 1.1%)", js.linear(1.0, 0.0, 11)),
        ("linear(1, 0, 0%)", js.linear(1.0, 0.0, 0)),
        ("linear(1, 0, 100% - 1ep * 2)", js.linear(1.0, 0.0, 1000 - 88)),
        ("linear(1, 0, 10).shift(-1%)", js.linear(1.0, 0.0, 10).shift(-10)),
        ("table([1, 0]).take(1 %)".replace(" %", "%"), js.table([1, 0]).take(10)),
        (
            "piecewise_constant([1, 2, 3], [30%, 10ep])",
            js.piecewise_constant([1, 2, 3], [300, 449]),
        ),
        (
            "warmup_cosine(1, warmup_steps=10%, total_steps=200)",
            js.warmup_cosine(1.0, warmup_steps=20, total_steps=200),
        ),
        (
            "warmup_cosine(1, total_steps=50%, warmup_steps=10%) >> linear(1, 0, 10%)",
            js.warmup_cosine(1.0, warmup_steps=50, total_steps=500) >> js.linear(1.0, 0.0, 100),
        ),
        (
            "warmup_cosine(1, warmup_steps=5%) * reduce_on_plateau(start_after=50%)",
            js.warmup_cosine(1.0, warmup_steps=50, total_steps=1000)
            * js.reduce_on_plateau(start_after=500),
        ),
        ("one_cycle(1)", js.one_cycle(1.0, total_steps=1000)),
    ],
)
def test_units(text, expected):
    assert_same(js.parse(text, units=UNITS), expected)


def test_a_percentage_is_of_the_nearest_total(monkeypatch):
    def framed(inner: js.Schedule, *, total_steps: int) -> js.Schedule:
        return inner.take(total_steps)

    framed.__annotations__["return"] = "Schedule"
    monkeypatch.setitem(made, "framed", framed)
    text = "framed(linear(1, 0, 10%) >> one_cycle(1, warmup_steps=10%), total_steps=300)"
    inner = js.linear(1.0, 0.0, 30) >> js.one_cycle(1.0, total_steps=300, warmup_steps=30)
    for units in (None, UNITS):
        assert_same(js.parse(text, units=units), inner.take(300))


def test_percentages_need_no_units_where_there_is_a_total():
    assert_same(
        js.parse("bert(1, warmup_steps=25%, total_steps=80)"),
        js.bert(1.0, warmup_steps=20, total_steps=80),
    )


# text: what is said, and the piece of the text that the caret is under
REFUSED = {
    "linear(1, 0, 4) >> cosin(1, 0, 4)": ("no schedule `cosin`. Did you mean cosine?", "cosin"),
    "zzz(1)": ("no schedule `zzz`. All of them: auto_warmup, bert, constant, ", "zzz"),
    "linear(1, 0, 4).tak(3)": ("no method `tak`. Did you mean take?", "tak"),
    "linear(1, 0, 4).plot()": ("no method `plot`. All of them: clip, cycle, faster, ", "plot"),
    "linear(1, 0, step=4)": ("`linear` has no argument 'step'. Did you mean steps?", "step=4"),
    "linear(1, 0, foo=4)": ("no argument 'foo'. All of them: end_value, init_value, steps", "foo"),
    "linear(1)": ("`linear` needs end_value=..., steps=...", "linear"),
    "warmup_cosine(1)": ("`warmup_cosine` needs total_steps=..., warmup_steps=...", "warmup"),
    "linear(1, 0, 4, 5)": ("`linear(init_value, end_value, steps)` takes no more arguments", "5"),
    "noam(model_size=3, 4)": ("an argument of `noam` needs its name here: factor, ", "4"),
    "linear(1, 0, 4, steps=5)": ("`linear` has 'steps' twice", "steps=5"),
    "linear(1, 0, 4) * noam(model_size=-3, warmup_steps=4)": (
        "`noam(model_size=...)` must be positive, got model_size=-3.",
        "noam",
    ),
    "constant(1) >> linear(1, 0, 4)": ("`constant(1.0)` never ends; say how long", "constant"),
    "linear(1, 0, 4) >> 0.5 + 1": ("`>>` takes schedules, got 1.5", "0.5 + 1"),
    "linear(1, 0, 4) >> greedy()": ("got the stateful `greedy()`", "greedy"),
    "greedy().take(3)": ("is stateful: it can be multiplied and divided", "take"),
    "greedy() + 1": ("is stateful: it can be multiplied and divided", "+"),
    "linear(1, 0, 1e5)": ("Write steps=100_000. Lengths are optimizer steps", "linear"),
    "0.1": ("the text must be a schedule, got a number. Write `constant(0.1)`", "0.1"),
    "[0.1, 0.2]": ("the text must be a schedule, got a list", "["),
    "'linear'": ("the text must be a schedule, got `'linear'`", "'"),
    "linear": ("`linear` alone is not a schedule; `linear(init_value, end_value", "linear"),
    "minimum([linear], 1)": ("An argument may be one of the curves cosine, geometric", "linear"),
    "reduce_on_plateau(mode=min)": ("there is no `min`. Put a word in quotes: 'min'", "min"),
    "bert(1, total_steps=9, decay=noam)": ("`noam` alone is not a schedule", "noam"),
    "(3).take(4)": ("`.take(...)` needs a schedule before it, got a number", "take"),
    "1 / linear(1, 0, 4)": ("the divisor `linear(1.0, 0.0, 4)` ends at zero, at step 4", "/"),
    "9 ** 9 ** 9 * constant(1)": ("the result is too large for a number", "** 9 ** 9"),
    "(-8) ** 0.5 * constant(1)": ("a fractional power of a negative number", "**"),
    "0 ** -1 * constant(1)": ("cannot be raised to a negative power", "**"),
    "linear(1, 0, 4) ** 'a'": ("`**` cannot be applied to a schedule and `'a'`", "**"),
    "2 ** * 3": ("expected a value, found `*`", "* 3"),
    "linear(0, 1, max(3))": ("`max` takes two or more numbers", "max"),
    "max(linear(0, 1, 3), 0.5)": ("write `maximum(a, b)`", "max"),
    "linear(0, 1, max(5%, 10))": ("needs a total", "5%"),
    "linear(1, 0, 4) * 'a'": ("`*` cannot be applied to a schedule and `'a'`", "*"),
    "+linear(1, 0, 4)": ("`+` cannot be applied to a schedule", "+"),
    "[1] + [2]": ("`+` cannot be applied to a list and a list", "+"),
    "1 / 0": ("division by zero", "/"),
    "1e308 * 10": ("too large", "*"),
    "linear(1e999, 0, 4)": ("`1e999` is too large for a number", "1e999"),
    "linear(1__0, 0, 4)": ("`1__0` is not a number", "1__0"),
    "linear(1, 0, 4steps)": ("no unit `steps`. All of them: %, ep, ex, tok", "4steps"),
    "linear(1, 0, 4ep)": ("`4ep` needs `parse(..., units=Units(...))`", "4ep"),
    "linear(1, 0, 4%)": ("`4%` needs a total. Give `total_steps=...` in the same call, or", "4%"),
    "warmup_linear(1, total_steps=9, warmup_steps=4, end_value=1%)": ("no", "1%"),
    "one_cycle(1, total_steps=9, warmup_steps=140%)": ("must be in [0, 1], got x=1.4", "140%"),
    "one_cycle(1, total_steps=[8, 9], warmup_steps=10%)": ("`Units.fraction(of=...)`", "10%"),
    "linear(1, 0, 4": ("expected `,` or `)`, found the end", ""),
    "linear(1, 0 4)": ("expected `,` or `)`, found `4`", "4"),
    "linear(1, , 4)": ("expected a value, found `,`", ", 4"),
    "linear(1, 0, 4) linear": ("expected an operator or the end, found `linear`", "linear"),
    "linear(1, 0, 4)(3)": ("expected an operator or the end, found `(`", "(3)"),
    "linear(1, 0, 4).steps": ("expected `(`, found the end", ""),
    "linear(1, 0, 4) < 2": ("'<' has no meaning", "<"),
    "reduce_on_plateau(mode='min)": ("a string is not closed", "'min"),
    "": ("expected a value, found the end", ""),
    "linear(1, 0, 4) if True else 0": ("found `if`", "if"),
    "<f.<locals>.<lambda>>.take(3)": ("`<f.<locals>.<lambda>>` has no text", "<f"),
    "linear(<float32[2,3]>, 0, 3)": ("`<float32[2,3]>` has no text", "<float32"),
}  # fmt: skip


def refusal(text, **options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is what is tested)
        js.parse(text, **options)
    return str(caught.value)


def caret(message):
    """What is above the caret."""
    *_, line, under = message.splitlines()
    return line[under.index("^") :]


@pytest.mark.parametrize("text", REFUSED)
def test_an_error_shows_the_place(text):
    words, place = REFUSED[text]
    message = refusal(text)
    assert words in message
    assert caret(message).startswith(place), message


def test_what_prints_as_no_text_is_refused_by_name():
    function = js.from_function(optax.linear_schedule(1.0, 0.0, 9))
    assert f"`{function!r}` has no text" in refusal(repr(function.take(9) >> LINE))
    jax.vmap(lambda x: refusal(repr(js.linear(x, 0.0, 4))) and x)(jnp.ones(2))
    said = []
    jax.jit(lambda x: said.append(refusal(repr(js.linear(x, 0.0, 4)))))(1.0)
    assert "`<float32[]>` has no text: it is a function, a number under `jit`" in said[0]


def test_the_line_of_a_long_text_is_shown_around_the_place():
    many = " >> ".join(["linear(1.0, 0.0, 4)"] * 50)
    message = refusal(f"{many} >> cosin(1) >> {many}")
    assert max(map(len, message.splitlines())) < 90
    assert caret(message).startswith("cosin(1) >> ")
    assert message.count("...") == 2
    message = refusal("linear(1, 0, 4)\n  >> cosin(1)\n  >> linear(1, 0, 4)")
    assert message.splitlines()[1:] == ["      >> cosin(1)", "         ^"]
    assert refusal("linear(\x00)\t$").splitlines()[1] == "    linear(?)?$"
    assert len(refusal(f"table({[0.5] * 10_000}) >> linear(1, 0, -4).cycle()")) < 3000
    assert len(refusal(f"table({[0.5] * 10_000}).stretch(3)")) < 3000


def test_what_a_factory_refused_is_the_cause():
    with pytest.raises(ValueError, match="must not be negative") as caught:
        js.parse("linear(1, 0, -4)")
    assert isinstance(caught.value.__cause__, ValueError)
    assert "\n" not in str(caught.value.__cause__)


@pytest.mark.parametrize("bad", [None, 3, b"linear(1, 0, 4)", ["linear"], LINE, float("nan")])
def test_what_is_no_text_is_named(bad):
    assert "`parse(text=...)` must be a string, got text=" in refusal(bad)


@pytest.mark.parametrize("bad", [3, "32", {"batch_size": 3}, js.Units])
def test_units_are_units(bad):
    assert "`parse(units=...)` must be `Units(...)`, got" in refusal("linear(1, 0, 4)", units=bad)


HOSTILE = {
    "parentheses": "(" * 10**5,
    "brackets": "[" * 10**5,
    "closed": "(" * 10**5 + "linear(1, 0, 4)" + ")" * 10**5,
    "calls": "minimum(" * 10**5,
    "minus": "-" * 10**5 + "1",
    "minus a schedule": "-" * 10**5 + "linear(1, 0, 4)",
    "dots": "linear(1, 0, 4)" + ".shift(1)" * 10**5,
    "digits": "9" * 10**5,
    "a length of digits": f"linear(1, 0, {'9' * 10**5})",
    "a long fraction": f"linear({'9' * 10**5}.0, 0, 4)",
    "a large exponent": "linear(1, 0, 1e999999999)",
    "a large unit": "linear(1, 0, 1e999999999ep)",
    "a small unit": "linear(1, 0, 1e-300ep)",
    "a product": "constant(" + "*".join(["9" * 300] * 900) + ")",
    "a chain": " >> ".join(["linear(1, 0, 4)"] * 10**4),
    "a sum": " + ".join(["linear(1, 0, 4)"] * 10**4),
    "a name": "x" * 10**6,
    "a close name": "linear" * 10**5 + "(1, 0, 4)",
    "a string": "'" + "\\" * 10**6,
    "blanks": " " * 10**6 + "$",
    "angles": "<" * 10**6,
    "a deep list": "table(" + "[" * 38 + "[1], 1" + "]" * 38 + ")",
    "a ragged list": "table([[1], [1, 2]])",
    "a large list": "table([" + "9" * 300 + ", 1])",
    "a long text": " " * 5_000_000,
    "nul": "linear(1, 0, 4)\x00",
    "surrogates": "linear(1, 0, 4)\ud800",
    "a tower": "(" * 38 + "linear(1, 0, 4)" + (".shift(1)" * 25 + ")") * 38 + ".cycle()",
    "a tuned tower": "tunable(" + "(" * 38 + "constant(1, 4)" + (".clip(1)" * 25 + ")") * 38 + ")",
    "attributes": "linear(1, 0, 4).__class__.__mro__",
    "a call of one": "linear(1, 0, 4).__class__()",
    "imports": "__import__('os').system('true')",
    "a comprehension": "[x for x in (1, 2)]",
    "an f-string": "f'{1}'",
    "a lambda": "(lambda: linear(1, 0, 4))()",
    "walrus": "(x := linear(1, 0, 4))",
    "a star": "linear(*[1, 0, 4])",
    "two stars": "linear(**{})",
    "statements": "import os; linear(1, 0, 4)",
    "a hidden name": "_names('a')",
    "a module": "jax.jit(1)",
    "a keyword": "linear(1, 0, steps=4, lambda=3)",
    "other digits": "linear(1, 0, ٤)",
    "a complex number": "constant(1j)",
    "nan": "constant(nan)",
    "an index": "[1, 2][0]",
    "a dict": "{1: 2}",
    "a number of bad kind": "table('abc')",
    "a list of curves": "select(0, [linear, cosine])",
    "a function of a function": "minimum(linear, cosine)",
    "a list of patience": "reduce_on_plateau(mode=[1, 2], patience=[[1], [2, 3]])",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_text_is_refused_at_once(what):
    with at_most(5):  # seconds; all but the tables take milliseconds
        assert len(refusal(HOSTILE[what], units=UNITS)) < 5000


def test_a_text_is_refused_where_there_is_little_room_for_frames():
    def deeper(n):
        return deeper(n - 1) if n else refusal("(" * 39 + "1" + ")" * 39)

    assert "too deep" in deeper(880 - len(inspect.stack()))


def test_limits_leave_room():
    many = " >> ".join(["linear(1.0, 0.0, 4)"] * (_syntax.PARTS // 2))
    assert js.parse(many).steps == 4 * (_syntax.PARTS // 2)
    deep = "(" * 30 + "linear(1.0, 0.0, 4)" + ")" * 30
    assert_same(
        js.parse(deep + ".shift(1)" * 30), js.parse("linear(1.0, 0.0, 4)" + ".shift(1)" * 30)
    )
    read_back(js.table(np.random.default_rng(0).random(20_000)))
    read_back(js.linear(0.0, 1.0, 10**300))


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_mutated_texts_are_read_or_refused(count):
    texts = [repr(x) for x in [*(case.schedule for case in ALL), *ALGEBRA, *STATEFUL]]
    texts += ["warmup_cosine(1e-3, total_steps=90ep, warmup_steps=10%) * greedy()"]
    rng, read = random.Random(0), 0
    for _ in range(count):
        text = mutated(rng, texts)
        try:
            result = js.parse(text, units=UNITS)
        except ValueError as error:
            assert str(error).endswith("^"), text  # noqa: PT017 (there are too many to name)
        else:
            assert isinstance(result, (js.Schedule, js.Stateful)), text
            read += 1
    assert count / 20 < read < count / 2


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("linear(0, 1, max(20%, 500))", "linear(0, 1, 500)"),
        ("linear(0, 1, min(20%, 500))", "linear(0, 1, 200)"),
        ("linear(0, 1, max(3, 7, 5))", "linear(0, 1, 7)"),
        ("linear(0, max(0.1, 0.3), 5)", "linear(0, 0.3, 5)"),
        (
            "warmup_cosine(0.1, total_steps=2000, warmup_steps=max(20%, 500))",
            "warmup_cosine(0.1, total_steps=2000, warmup_steps=500)",
        ),
        (
            "warmup_cosine(0.1, total_steps=9000, warmup_steps=max(20%, 500))",
            "warmup_cosine(0.1, total_steps=9000, warmup_steps=1800)",
        ),
    ],
)
def test_the_larger_and_the_smaller_of_numbers_and_lengths(text, same):
    units = js.Units(total_steps=1000)
    assert_same(js.parse(text, units=units), js.parse(same))
