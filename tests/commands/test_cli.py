"""The command line but for the training itself: `describe`, `list`, and files of options."""

import subprocess
import sys

import jax
import pytest

import jaxsched as js
from jaxsched._commands._training import _spoken
from jaxsched._core._factory import made
from jaxsched._text import _names
from jaxsched.cli import _options, main


@pytest.fixture(autouse=True, scope="module")
def _standard_promotion():
    """Optax's Adam adds floats to its integer count."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def spoken(options):
    """The settings of a run with these options."""
    return _spoken.spoken(vars(options), _spoken.task(vars(options)))


def shown(capsys, *words):
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys, *words):
    """The one line on stderr that a command ends with, and where it can a caret under the text."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line, *text = captured.err.splitlines()
    assert line.startswith("jaxsched: ")
    if text:
        assert len(text) == 2 and text[1].strip() == "^" and len(text[1]) <= len(text[0]) + 1
    return captured.err


def test_describe(capsys):
    text = "(linear(0.0, 0.1, 10) >> cosine(0.1, 0.0, 90)) * reduce_on_plateau()"
    assert shown(capsys, "describe", text) == f"{js.describe(js.parse(text))}\n"
    assert shown(capsys, "describe", *text.split()) == f"{js.describe(js.parse(text))}\n"


def test_describe_takes_a_name_and_its_arguments(capsys):
    expected = js.describe(js.warmup_cosine(0.1, total_steps=100, warmup_steps=9))
    words = ["warmup_cosine", "peak_value=0.1", "total_steps=100", "warmup_steps=9"]
    assert shown(capsys, "describe", *words) == f"{expected}\n"


def test_describe_takes_units(capsys):
    numbers = {"batch-size": 32, "dataset-size": 1437, "accumulation": 2, "sequence-length": 10}
    words = [f"--{name}={number}" for name, number in numbers.items()]
    text = "linear(0, 0.1, 2ep) >> linear(0.1, 0, 640ex) >> linear(0, 0.1, 6400tok)"
    out = shown(capsys, "describe", text, *words)
    assert out.startswith("linear(0.0, 0.1, 44) >> linear(0.1, 0.0, 10) >> linear(0.0, 0.1, 10)\n")
    out = shown(capsys, "describe", "warmup_cosine(0.1, warmup_steps=5%)", "--total-steps", "200")
    assert out.startswith("linear(0.009090909090909092, 0.1, 10) >> cosine(0.1, 0.0, 190)\n")
    out = shown(
        capsys, "describe", "linear(1, 0, 90ep)", "--batch-size=1024", "--dataset-size=1281167"
    )
    assert out.startswith("linear(1.0, 0.0, 112602)\n")
    out = shown(capsys, "describe", "constant(0.1)", "--total-steps", "200")
    assert out.splitlines()[-2].split() == ["200", "0.1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["linear(1, 0, 4) >> cosin(1)"], "describe: there is no schedule `cosin`. Did you mean"),
        (["0.1"], "Write `constant(0.1)`"),
        (["linear(1, 0, 3ep)"], "`epochs` needs --dataset-size N and --batch-size N"),
        (["linear(1, 0, 3%)"], "`3%` needs a total"),
        (["linear", "3"], "describe: arguments are written key=value, got '3'"),
        (["linear(1, 0, 4)", "--total-steps", "0"], "--total-steps: must be an integer from 1"),
        (["linear(1, 0, 4)", "--steps", "3"], "unrecognized arguments: --steps"),
        ([], "TEXT"),
    ],
)
def test_describe_refuses_in_one_line_and_shows_where(capsys, words, said):
    assert said in refusal(capsys, "describe", *words)


def test_list_has_every_name(capsys):
    out = shown(capsys, "list")
    for name in (*_names.factories(), *(f".{name}" for name in _names.methods())):
        assert f"{name}(" in out, name
    for unit in ("ep", "ex", "tok", "%"):
        assert f"1{unit}\n" in out
    assert "  linear(init_value, end_value, steps)\n      A linear schedule: a straight line" in out
    assert "one_cycle(peak_value, *, total_steps, warmup_steps=None," in out
    assert "curve=cosine)" in out
    assert ".clip(low=None, high=None)\n      Limits the value to" in out
    assert max(map(len, out.splitlines())) < 300


def test_list_has_a_new_factory_at_once(capsys, monkeypatch):
    def triangle(high: float, *, steps: int = 3) -> js.Schedule:
        """Up and down."""
        return js.linear(0.0, high, steps) >> js.linear(high, 0.0, steps)

    monkeypatch.setitem(made, "triangle", triangle)
    group = "Schedules and rules of your own\n  triangle(high, *, steps=3)\n      Up and down.\n"
    assert group in shown(capsys, "list", "triangle")


def test_list_is_filtered_by_a_word(capsys):
    out = shown(capsys, "list", "RESTART")
    assert out.startswith("Recipes\n  warmup_cosine_restarts(")
    assert out.count("\n") == 3
    assert "'zzz'" in refusal(capsys, "list", "zzz")


def test_help_shows_every_command(capsys):
    for words in (["--help"], *(["--help", x][::-1] for x in ("train", "describe", "list"))):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    out = capsys.readouterr().out
    for words in ("train ", "describe ", "list ", "--config", "run.toml", "--sequence-length"):
        assert words in out


def test_no_command_is_one_line(capsys):
    assert "COMMAND" in refusal(capsys)
    assert "nonsense" in refusal(capsys, "nonsense")


def test_describe_needs_no_extra():
    code = (
        "import sys; from jaxsched.cli import main; main(['describe', 'linear(1, 0, 4)']);"
        "main(['list', 'cosine']);"
        "print([m for m in ('matplotlib', 'sklearn', 'orbax', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "run.toml"

    def options(text, *words):
        file.write_text(text)
        return _options(["train", "--config", str(file), *words])

    return options


def test_a_file_says_what_the_command_line_could(config):
    said = config("""
        epochs = 7
        batch_size = 64
        seed = 3
        out = "runs/mine"
        stop-after = 2
        checkpoint_every = 1
        optimizer = "adamw(weight_decay=0.01)"
        schedule = '''
            warmup_cosine(3e-3, warmup_steps=5%)
            * reduce_on_plateau(patience=3)'''
    """)
    words = ["train", "--epochs=7", "--batch-size=64", "--seed=3", "--out=runs/mine"]
    words += ["--optimizer", "adamw(weight_decay=0.01)", "--schedule"]
    text = "warmup_cosine(3e-3, warmup_steps=5%) * reduce_on_plateau(patience=3)"
    expected = spoken(_options([*words, text]))
    assert spoken(said) == expected
    assert (str(said.out), said.stop_after, said.checkpoint_every) == ("runs/mine", 2, 1)
    assert expected.learning_rate == (
        "(linear(0.0003333333333333333, 0.003, 8) >> cosine(0.003, 0.0, 146))"
        " * reduce_on_plateau(patience=3)"
    )


def test_the_command_line_wins(config):
    text = 'epochs = 7\nseed = 3\noptimizer = "sgd"\nplateau = ["patience=3", "factor=0.2"]\n'
    said = config(text, "--epochs", "9", "--optimizer", "adam", "b1=0.5", "--no-plateau")
    settings = spoken(said)
    assert (settings.epochs, settings.seed) == (9, 3)
    assert settings.optimizer == "adam(b1=0.5)"
    assert "plateau" not in settings.learning_rate
    assert "patience=3" in spoken(config(text)).learning_rate
    no = config("no_plateau = true", "--plateau", "patience=9")
    assert "patience=9" in spoken(no).learning_rate


def test_the_forms_of_words_hold_in_a_file(config):
    said = config('schedule = ["one_cycle", "peak_value=0.1"]\nno_plateau = true\nepochs = 2')
    expected = js.one_cycle(0.1, total_steps=2 * 44)
    assert spoken(said).learning_rate == repr(expected)
    named = config('optimizer = "lion"\nplateau = false')
    assert spoken(named).optimizer == "lion"


def test_a_plateau_is_on_or_off_as_the_file_says(config):
    def rate(text, *words):
        return spoken(config(text, *words)).learning_rate

    assert "reduce_on_plateau(" in rate("epochs = 2")
    assert "reduce_on_plateau" not in rate("plateau = false")
    assert "reduce_on_plateau" not in rate("no-plateau = true")
    text = 'schedule = "constant(0.01)"\n'
    assert "reduce_on_plateau" not in rate(text)
    assert "reduce_on_plateau(" in rate(text + "plateau = true")
    assert "patience=3" in rate(text + 'plateau = "patience=3"')
    assert "patience=9" in rate("plateau = false", "--plateau", "patience=9")


def test_a_file_may_have_a_byte_order_mark(config, tmp_path):
    said = config("\ufeffepochs = 7\r\nseed = 3\r\n")
    assert (said.epochs, said.seed) == (7, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoks = 7", "there is no option 'epoks'. Did you mean epochs?"),
        ("zzz = 7", "there is no option 'zzz'. All of them: out, task, epochs, batch-size,"),
        ("resume = true", "there is no option 'resume'"),
        ("config = 'other.toml'", "there is no option 'config'"),
        ("help = true", "there is no option 'help'"),
        ("epochs = 'many'", "--epochs: must be an integer from 1"),
        ("epochs = 2.5", "got 2.5"),
        ("epochs = true", "--epochs: must be an integer from 1 to 1000000, got true"),
        ("epochs = false", "run.toml: --epochs: must be an integer from 1 to 1000000, got false"),
        ("epochs = '20'", "got '20'. Write 20 without quotes."),
        ("epochs = 20.0", "got 20.0"),
        ("epochs = nan", "got nan"),
        ("epochs = 0", "got 0"),
        ("epochs = [3]", "got [3]"),
        ("epochs = 2020-01-02", "got 2020-01-02"),
        ("epochs = {n = 3}", "--epochs: must not be a table"),
        ("epochs.n = 3", "--epochs: must not be a table"),
        ("seed = false", "--seed: must be an integer from 0 to 4294967295, got false"),
        ("seed = -1", "got -1"),
        ("stop_after = false", "--stop-after: must be an integer"),
        ("checkpoint-every = ''", "--checkpoint-every: must be an integer"),
        ("batch_size = 32\nbatch-size = 64", "'batch-size' is not allowed with 'batch_size'"),
        ("force = true", "there is no option 'force'. Set --force on the command line."),
        ("h = true", "there is no option 'h'"),
        ("out = 3", "--out: must be the name of a folder, got 3"),
        ("out = ''", "--out: must be the name of a folder"),
        ('out = "a\\u0000b"', "--out: must be the name of a folder"),
        ("out = false", "--out: must be the name of a folder, got false"),
        ("plateau = []", "--plateau: must be true, false, a text or a list of texts, got []"),
        ("plateau = 3", "--plateau: must be true, false, a text or a list of texts, got 3"),
        ("plateau = ['patience=3', 'patience=4']", "'patience' is given twice"),
        ("plateau = ['patience=3', '--force']", "key=value, got '--force'"),
        ("[plateau]\npatience = 3", "--plateau: must not be a table"),
        ("no_plateau = false", "--no-plateau: must be true, or be left out, got false"),
        ("no_plateau = 'yes'", "--no-plateau: must be true, or be left out, got 'yes'"),
        ("schedule = ['constant', 'value=0.01', '--force']", "key=value, got '--force'"),
        ("schedule = ['constant', '--help']", "key=value, got '--help'"),
        ("schedule = ['--help']", "--schedule: "),
        ("schedule = ['constant', '--config', 'other.toml']", "key=value, got '--config'"),
        ("schedule = ['constant', 'value=cosine(1,0,9), steps=3']", "must have one value"),
        ("schedule = 0.1", "--schedule: must be a text or a list of texts, got 0.1"),
        ("schedule = true", "--schedule: must be a text or a list of texts, got true"),
        ("schedule = false", "--schedule: must be a text or a list of texts, got false"),
        ("schedule = []", "--schedule: must be a text or a list of texts, got []"),
        ("schedule = ['constant', 0.1]", "got ['constant', 0.1]"),
        ("optimizer = ['sgd', '--out', 'elsewhere']", "key=value, got '--out'"),
        ("with = ['keep_best()', '--force']", "--with: "),
        ("with = true", "--with: must be a text or a list of texts, got true"),
        ("epochs =", "run.toml: Invalid value (at "),
        ("epochs = 3\nepochs = 4", "run.toml: Cannot overwrite a value"),
        ("plateau = ['patience=3']\nno_plateau = true", "not allowed with"),
        ("[train]\nepochs = 3", "there is no option 'train'"),
        ("optimizer = 'adm'", "there is no optimizer `adm`. Did you mean adam"),
        ("schedule = 'warmup_cosin(3)'", "--schedule: there is no schedule `warmup_cosin`. Did"),
        ("schedule = 'constant(0.1) * warmup_cosine(1)'", "`warmup_cosine` needs warmup_steps="),
        ("schedule = ''", "expected a value, found the end"),
    ],
)
def test_a_bad_file_is_one_clear_line(capsys, tmp_path, text, said):
    (tmp_path / "run.toml").write_text(text)
    assert said in refusal(
        capsys, "train", "--config", f"{tmp_path}/run.toml", "--out", f"{tmp_path}/run"
    )
    assert not (tmp_path / "run").exists()


LONG = {
    "brackets": (f"epochs = {'[' * 100_000}", "run.toml: it is nested too deeply to be read"),
    "tables": (f"x = {'{a=' * 100_000}", "run.toml: it is nested too deeply to be read"),
    "401 digits": (f"epochs = 1{'0' * 400}", "must be an integer from 1"),
    "5001 digits": (f"epochs = 1{'0' * 5000}", "run.toml: "),
    "5000 hexadecimal digits": (f"epochs = 0x{'f' * 5000}", "run.toml: --epochs: "),
}


@pytest.mark.parametrize("what", LONG)
def test_a_file_that_is_long_or_deep_is_one_clear_line(capsys, tmp_path, what):
    test_a_bad_file_is_one_clear_line(capsys, tmp_path, *LONG[what])


def test_a_file_that_cannot_be_read_is_one_clear_line(capsys, tmp_path):
    assert "nothing.toml" in refusal(capsys, "train", "--config", "nothing.toml")
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    assert "run.toml" in refusal(capsys, "train", "--config", f"{tmp_path}/run.toml")
    assert "directory" in refusal(capsys, "train", "--config", str(tmp_path))


def test_help_and_versions_import_no_jax():
    """Both are printed at once: what is slow is imported when a command runs."""
    for words in (["--help"], ["--version"], ["plot", "--help"]):
        code = f"import sys; sys.argv = ['jaxsched', *{words}]; sys.modules['jax'] = None\n"
        code += "from jaxsched.cli import main\nmain()"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert found.returncode == 0 and found.stdout, found.stderr
    import jaxsched

    assert (
        f"jaxsched {jaxsched.__version__}"
        in subprocess.run(
            [sys.executable, "-m", "jaxsched", "--version"], capture_output=True, text=True
        ).stdout
    )


def test_a_remedy_is_in_the_words_of_the_command(capsys):
    said = refusal(capsys, "plot", "cosine(0.1, 0.0, 90ep)")
    assert "needs --dataset-size N and --batch-size N" in said
