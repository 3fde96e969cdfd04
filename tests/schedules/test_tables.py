"""Long lists: built at once, named where one is wrong, and no text where none could be read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from effort import at_most

import jaxsched as js
from jaxsched._commands._refused import RefusedError
from jaxsched._commands._training import _spoken
from jaxsched._core._writing import LONGEST
from jaxsched._text._readable import readable

MANY = 1_000_000
FORMS = {
    "an array": lambda x: x,
    "a list": lambda x: x.tolist(),
    "a tuple": lambda x: tuple(x.tolist()),
    "float32": lambda x: x.astype(np.float32),
    "NumPy's numbers": lambda x: list(x),
    "of JAX": lambda x: jnp.asarray(x, jnp.float32),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_million_values_are_built_at_once(form):
    """One by one they take longer than this by far."""
    values = np.linspace(1.0, 0.0, MANY)
    given = FORMS[form](values)
    with at_most(4):
        schedule = js.table(given)
        line = js.piecewise_linear(given, np.arange(MANY))
    steps = np.asarray([0, 1, MANY // 3, MANY - 1, MANY])
    expected = np.float32(values[np.minimum(steps, MANY - 1)])
    np.testing.assert_allclose(schedule(steps), expected, rtol=1e-7)
    np.testing.assert_allclose(line(steps[:1]), expected[:1], rtol=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), -float("inf"), 1e39, 10**400, True, "0.1", None, 1j])
def test_the_value_that_is_wrong_is_named_among_many(bad):
    values = [0.5] * 100_000
    values[77_777] = bad
    with pytest.raises(ValueError, match="finite number") as caught:
        js.table(values)
    assert str(caught.value).startswith("`table(values=...)` must be a finite number, got values=")
    assert repr(bad)[:20] in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("module", [np, jnp])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_so_it_is_in_an_array(module, bad):
    values = np.full(9, 0.5, np.float32)
    values[3] = bad
    for make in (js.table, lambda x: js.piecewise_linear(x, np.arange(9)), js.optimal_schedule):
        with pytest.raises(ValueError, match=rf"be a finite number, got \w+=.*{bad}"):
            make(module.asarray(values))


def test_an_array_is_copied():
    values = np.asarray([1.0, 0.5])
    schedule = js.table(values)
    values[:] = 7.0
    assert schedule.values.tolist() == [1.0, 0.5]


def test_traced_values_are_still_leaves():
    assert jax.jit(lambda x: js.table(x)(1))(jnp.arange(3.0)) == 1.0
    assert jax.jit(lambda x: js.table([x, 2.0])(1))(jnp.float32(1.0)) == 2.0
    mixed = js.table([jnp.float32(1.0), 2.0, 3])
    assert isinstance(mixed.values, jax.Array) and mixed.values.tolist() == [1.0, 2.0, 3.0]
    assert isinstance(js.table(jnp.arange(3)).values, jax.Array)


def test_text_ends_where_it_cannot_be_read():
    short, long = (js.table(np.linspace(1.0, 0.0, n)) for n in (1000, 300_000))
    assert js.parse(readable("test", short)).steps == 999
    assert repr(long) == "table(<float64[300000]>)"
    assert repr(2.0 * long) == "2.0 * table(<float64[300000]>)"
    with pytest.raises(ValueError, match=r"too long.*table\(np\.load\(\.\.\.\)\)"):
        js.parse(repr(long))
    with pytest.raises(ValueError, match=r"4_000_000 characters at most.*np\.load"):
        js.parse(f"table([{'1, ' * LONGEST}])")
    assert "4,000,000 characters" in js.table.__doc__


def test_whoever_writes_a_text_asks_whether_it_can_be_read():
    with pytest.raises(ValueError, match=r"`save` writes the schedule .* cannot be read back: `<"):
        readable("save", js.from_function(lambda t: 0.5 * t.astype(jnp.float32)))
    with pytest.raises(ValueError, match=r"cannot be read back: a text may have 4_000_000"):
        readable("save", LONG)


LONG = js.join([js.table(np.linspace(1.0, 0.0, 150_000))] * 2, [150_000])  # each alone has a text


def test_a_run_that_could_not_be_resumed_is_not_begun():
    """The text that is given can be read, and the longer one that would be kept could not."""
    text = f"table([{'1,' * (LONGEST // 3)}1])"
    options = {"epochs": 1, "batch_size": 512, "seed": 0, "optimizer": None, "with": None}
    options["task"] = None
    with pytest.raises(RefusedError, match=r"--schedule: `train` writes .* cannot be read back"):
        _spoken.spoken({**options, "schedule": [text], "plateau": None}, _spoken.task(options))
