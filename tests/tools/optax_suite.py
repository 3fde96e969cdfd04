"""optax's own tests, run on `jaxsched.compat.optax`: its files, with their imports changed.

    python tests/tools/optax_suite.py

The files ship in the installed optax. Each is read from there, the import of what it tests is
replaced, and the copy runs in a temporary folder. Nothing of them is kept here.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import optax
from scripts import ROOT

TWIN = "from jaxsched.compat import optax as"
FILES = {
    "schedules/_schedule_test.py": {"from optax.schedules import _schedule": f"{TWIN} _schedule"},
    "schedules/_join_test.py": {
        "from optax.schedules import _join": f"{TWIN} _join",
        "from optax.schedules import _schedule": f"{TWIN} _schedule",
    },
    "schedules/_inject_test.py": {"from optax import schedules": f"{TWIN} schedules"},
    "contrib/_reduce_on_plateau_test.py": {
        "from optax.contrib import _reduce_on_plateau": f"{TWIN} _reduce_on_plateau"
    },
}

# Tests that assert what is a defect here, and why it is one.
DEFECTS = {
    "InjectHyperparamsTest::test_hyperparam_default_dtype_bf16": (
        "hyperparameters in the parameters' bfloat16: Adam's b2 = 0.999 becomes 1.0 there, and the "
        "first update NaN (https://github.com/google-deepmind/optax/issues/1414)"
    ),
}


def changed(file):
    """The text of a test file of the installed optax, which now tests the twins."""
    text = (Path(optax.__file__).parent / file).read_text()
    for theirs, ours in FILES[file].items():
        assert text.count(f"{theirs}\n") == 1, f"{file} imports otherwise than by {theirs!r}"
        text = text.replace(f"{theirs}\n", f"{ours}\n")
    return text


def run(*options):
    """pytest over all of them."""
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            (Path(folder) / Path(file).name).write_text(changed(file))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", *options]
        left_out = [f"--deselect={file}::{test}" for file in _names() for test in DEFECTS]
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # A rootdir of its own, so that no settings of this project apply to optax's tests.
        return subprocess.run(
            [*command, *left_out, f"--rootdir={folder}", "-c", "/dev/null", *_names()],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths, "XLA_FLAGS": ""},
            capture_output=True,
            text=True,
            check=False,
        )


def _names():
    return [Path(file).name for file in FILES]


if __name__ == "__main__":
    done = run(*sys.argv[1:])
    print(done.stdout, done.stderr, sep="")
    for test, reason in DEFECTS.items():
        print(f"left out: {test}: {reason}")
    sys.exit(done.returncode)
