"""The summary of a run: times, environment and results, updated with every checkpoint."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxsched._commands._refused import first_line, warn
from jaxsched._commands._training._folder import Folder
from jaxsched._core._files import read_json, write_text
from jaxsched._diagnose._advice import WORDS
from jaxsched._diagnose._diagnose import Diagnosis, diagnose

PACKAGES = "jaxsched", "jax", "jaxlib", "optax", "flax", "chex", "numpy"


class Summary:
    """The summary of a run, with a session for each time that it was started or resumed."""

    def __init__(self, folder: Folder, steps: int) -> None:
        """Begin a session that continues after `steps` steps."""
        self._folder, self._began = folder, time.perf_counter()
        self._all: dict[str, Any] = _before(folder) if steps else {"sessions": []}
        self._session: dict[str, Any] = {
            "first_step": steps,
            "steps": steps,
            "started": _now(),
            "ended": None,
            "seconds": 0.0,
            "environment": environment(),
        }
        self._all["sessions"].append(self._session)
        self._write()

    def note(self, state: Any, steps: int) -> None:
        """Record the state after `steps` steps."""
        self._session.update(steps=steps, seconds=self._seconds())
        self._all["diagnosis"] = {"steps": steps, **_words(diagnose(state))}
        self._write()

    def end(self, results: Mapping[str, str]) -> None:
        """Record that the session has ended, and its results."""
        self._session.update(ended=_now(), seconds=self._seconds())
        self._all["results"] = dict(results)
        self._write()

    def _seconds(self) -> float:
        return round(time.perf_counter() - self._began, 3)

    def _write(self) -> None:
        write_text(self._folder.summary, json.dumps(self._all, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Return the versions and devices that compute the run."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "x64": jnp.result_type(float) == jnp.float64,
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from the source tree
        return "not installed"


def _before(folder: Folder) -> dict[str, Any]:
    """Return the earlier sessions; none if they cannot be read, which does not stop the run."""
    try:
        found = read_json(folder.summary)
        return {**found, "sessions": [x for x in found["sessions"] if isinstance(x, dict)]}
    except FileNotFoundError:
        return {"sessions": []}
    except (OSError, ValueError, KeyError, TypeError) as error:
        warn(f"{folder.summary} is damaged, and is started anew ({first_line(error)})")
        return {"sessions": []}


def _words(diagnosis: Diagnosis) -> dict[str, Any]:
    scores = {name: float(getattr(diagnosis, name)) for name in WORDS}
    return {"verdict": diagnosis.verdict, "advice": [*diagnosis.advice], "scores": scores}


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(" ", "seconds")
