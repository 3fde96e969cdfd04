"""Where the project is, and its scripts as modules."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES, BENCHMARKS = ROOT / "examples", ROOT / "benchmarks"


def example(name):
    return loaded(f"example_{name}", EXAMPLES / f"{name}.py")


def benchmark(name):
    return loaded(f"benchmark_{name}", BENCHMARKS / f"{name}.py")


def loaded(name, file):
    """A script as a module; it imports others that are beside it."""
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
    return module
