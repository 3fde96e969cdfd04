"""Optional packages: installed by an extra, and imported on demand."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


class MissingExtraError(ImportError):
    """A package is missing that an extra of jaxsched would install."""


def extra(module: str, name: str = "train") -> Any:
    """Return the module, or raise an error that names the extra which installs it."""
    package = module.partition(".")[0]
    if not _is_there(module):
        raise MissingExtraError(
            f"this needs {package}, which is not installed. Run `pip install 'jaxsched[{name}]'`"
        )
    return importlib.import_module(module)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around the module is missing
        return False
