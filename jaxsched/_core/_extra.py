"""What is only needed for some things is installed by an extra, and imported when it is needed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


class MissingExtraError(ImportError):
    """A package that an extra of this one would have installed."""


def extra(module: str, name: str = "train") -> Any:
    """The module, or an error that names the extra it comes with."""
    package = module.partition(".")[0]
    if not _is_there(module):
        raise MissingExtraError(
            f"this needs {package}, which is not installed: `pip install 'jaxsched[{name}]'`"
        )
    return importlib.import_module(module)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
