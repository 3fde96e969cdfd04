"""Checkpoints by Orbax: the state, and the metrics so far. Each is written whole or not at all.

A checkpoint is valid if its files are unchanged, if it is of this run, with the same settings and
arrays, and if its numbers match its checksum. The newest valid checkpoint is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import io
import json
import logging
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsched._commands._refused import RefusedError, first_line, warn
from jaxsched._commands._training._history import History
from jaxsched._commands._training._settings import Settings
from jaxsched._core._extra import extra
from jaxsched._core._files import read_json, write_text

KEPT = 3
HALF = "*.orbax-checkpoint-tmp*"  # directories that Orbax has not finished


class Checkpoints:
    """The checkpoints of one run, by number of finished epochs."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory, self._settings = directory.resolve(), settings
        self._orbax: Any = extra("orbax.checkpoint")
        options = self._orbax.CheckpointManagerOptions(
            max_to_keep=KEPT, create=True, cleanup_tmp_directories=True
        )
        with _quiet():
            self._manager: Any = self._orbax.CheckpointManager(self._directory, options=options)
        self._sums = self._directory / "checksums.json"

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        with _quiet(), contextlib.suppress(Exception):  # the error was already reported
            self._manager.close()

    def save(self, epochs: int, state: Any, history: History) -> None:
        """Write a checkpoint, and remove the oldest if there are more than `KEPT`."""
        args = self._orbax.args
        parts = args.Composite(
            about=args.JsonSave(
                {"of": _about(self._settings, state), "numbers": _numbers((state, history))}
            ),
            state=args.StandardSave(state),
            history=args.StandardSave(history._asdict()),
        )
        with _quiet():
            reason = self._failure(epochs, parts)
            if reason is not None:  # an aborted writer of Orbax prints messages when it is freed
                gc.collect()
                time.sleep(0.5)
        if reason is not None:
            for half in self._directory.glob(HALF):
                shutil.rmtree(half, ignore_errors=True)
            raise RefusedError(
                f"the checkpoint {self._directory / str(epochs)} cannot be written ({reason}). "
                "Continue later with --resume"
            )

    def _failure(self, epochs: int, parts: Any) -> str | None:
        """Return why the checkpoint could not be written, or None."""
        try:
            # Orbax skips a checkpoint that is not later than all others.
            _require(self._manager.save(epochs, args=parts), "there is a later one")
            self._manager.wait_until_finished()  # the checksum needs the final files
            self._write_sums()
        except Exception as error:  # for example a full disk, reported in many ways
            return first_line(error)
        return None

    def newest(self, like: Any) -> tuple[Any, History] | None:
        """Return the newest valid checkpoint: a state like the given one, and its metrics.

        Invalid ones after it are renamed, and reported on stderr. None without any checkpoint.
        """
        reasons: dict[int, str] = {}
        for epochs in sorted(map(int, self._manager.all_steps()), reverse=True):
            try:
                with _quiet():
                    found = self._restored(epochs, like)
            except Exception as error:  # for example a damaged file, reported in many ways
                reasons[epochs] = first_line(error)
                continue
            for later, reason in reasons.items():
                self._put_aside(later, reason, epochs)
            return found
        if reasons:
            listed = "; ".join(f"{epochs} ({reason})" for epochs, reason in reasons.items())
            raise RefusedError(
                f"no checkpoint in {self._directory} can be used: {listed}. "
                "Start the run again with --force"
            )
        return None

    def _restored(self, epochs: int, like: Any) -> tuple[Any, History]:
        where, args = self._directory / str(epochs), self._orbax.args
        _require((where / "about").exists(), "it was not written by `jaxsched train`")
        # Checked before Orbax reads it, because Orbax does not notice every damage.
        _require(self._known_sums().get(str(epochs)) in (None, _sum(where)), CHANGED)
        about = self._manager.restore(epochs, args=args.Composite(about=args.JsonRestore()))
        about = about["about"]
        _require_equal(about["of"], _about(self._settings, like))  # Orbax would cast other dtypes
        parts = args.Composite(
            state=args.StandardRestore(jax.eval_shape(lambda: like)), history=args.StandardRestore()
        )
        found = self._manager.restore(epochs, args=parts)
        state, history = found["state"], _history(found["history"])
        # If the process was killed just before it wrote the checksum, there is none, and Orbax does
        # not notice a changed number.
        _require(about["numbers"] == _numbers((state, history)), CHANGED)
        _require(history.epochs == epochs, f"it is of epoch {history.epochs}")
        return state, history

    def _put_aside(self, epochs: int, reason: str, used: int) -> None:
        where = self._directory / str(epochs)
        aside = where.with_name(f"{epochs}.damaged")
        if aside.is_symlink():
            aside.unlink()
        shutil.rmtree(aside, ignore_errors=True)
        where.rename(aside)
        self._manager.reload()
        warn(
            f"the checkpoint {where} cannot be used ({reason}) and is now {aside.name}: "
            f"the run continues from epoch {used}, and later epochs are computed again"
        )

    def _write_sums(self) -> None:
        """Write the checksums of all checkpoints, also of those that have none yet."""
        sums, steps = self._known_sums(), map(str, self._manager.all_steps())
        text = json.dumps({step: sums.get(step) or _sum(self._directory / step) for step in steps})
        write_text(self._sums, text)

    def _known_sums(self) -> dict[str, str]:
        """Return the known checksums; none if the file cannot be read."""
        try:
            sums: Any = read_json(self._sums)
        except (ValueError, OSError):
            return {}
        return sums if isinstance(sums, dict) else {}


CHANGED = "its files have changed since they were written"


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Silence Orbax, whose threads print pages for an error; it is reported in one line."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _sum(directory: Path) -> str:
    """Return a checksum of all files in a directory."""
    total = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(directory)} {file.stat().st_size}\n".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def _numbers(tree: Any) -> str:
    """Return a checksum of all numbers in a tree."""
    total = hashlib.sha256()
    for x in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
        total.update(np.asarray(jax.random.key_data(x) if is_key else x).tobytes())
    return total.hexdigest()


def _history(found: dict[str, Any]) -> History:
    """Return a history whose arrays are on the host, and in the usual order."""
    empty = History.empty(tuple(name for name in found["by_epoch"] if name != "loss"))
    return empty.then(found["by_step"], found["by_epoch"])


def _about(settings: Settings, state: Any) -> dict[str, Any]:
    """Return the identity of a run: its settings except its length, and its arrays."""
    said = dataclasses.asdict(dataclasses.replace(settings, epochs=0, last_epoch=None))
    leaves = jax.tree_util.tree_leaves_with_path(state)
    arrays = {
        jax.tree_util.keystr(path): f"{jnp.result_type(x)}{[*jnp.shape(x)]}" for path, x in leaves
    }
    return said | arrays


def _require_equal(found: dict[str, Any], own: dict[str, Any]) -> None:
    for key in {**own, **found}:
        there, here = found.get(key), own.get(key)
        _require(there == here, f"it is of another run: {key} is {there!r}, here {here!r}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RefusedError(message)
