"""Where the project is, and its scripts as modules."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES, BENCHMARKS = ROOT / "examples", ROOT / "benchmarks"


def example(name):
    return loaded(f"example_{name}", EXAMPLES / f"{name}.py")


def benchmark(name):
    """A benchmark; it imports others that are beside it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return loaded(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    finally:
        sys.path.remove(str(BENCHMARKS))


def loaded(name, file):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
