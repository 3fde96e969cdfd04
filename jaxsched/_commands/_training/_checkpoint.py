"""Checkpoints by Orbax, each written whole or not at all: the state, and the metrics so far.

One is trusted if its files are those that were written, if it says that it is of this run, of the
same settings and the same arrays, and if the numbers are those that it says it has. Of several the
newest that is trusted counts.
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

from jaxsched._commands._training._history import History
from jaxsched._commands._training._refused import RefusedError, first_line, warn
from jaxsched._commands._training._settings import Settings
from jaxsched._core._extra import extra
from jaxsched._core._files import read_json, write_text

KEPT = 3
HALF = "*.orbax-checkpoint-tmp*"  # what Orbax is writing, or was


class Checkpoints:
    """The checkpoints of one run, by the number of epochs that it had then."""

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
        with _quiet(), contextlib.suppress(Exception):  # what went wrong has been told
            self._manager.close()

    def save(self, epochs: int, state: Any, history: History) -> None:
        """Write one; the oldest goes when there are more than a few."""
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
            if reason is not None:  # what Orbax has begun in vain speaks when it goes, and later
                gc.collect()
                time.sleep(0.5)
        if reason is not None:
            for half in self._directory.glob(HALF):
                shutil.rmtree(half, ignore_errors=True)
            raise RefusedError(
                f"the checkpoint {self._directory / str(epochs)} cannot be written ({reason}). "
                "When it can, go on by --resume"
            )

    def _failure(self, epochs: int, parts: Any) -> str | None:
        """Why it could not be written, if so."""
        try:
            # It leaves one out that is not after all others.
            _require(self._manager.save(epochs, args=parts), "there is a later one")
            self._manager.wait_until_finished()  # what is summed is what is there
            self._write_sums()
        except Exception as error:  # whatever a disk without room makes of a writer
            return first_line(error)
        return None

    def newest(self, like: Any) -> tuple[Any, History] | None:
        """The newest that can be used: a state like the one given, and the metrics until then.

        Those after it are put aside, and named on stderr. None if there is no checkpoint at all.
        """
        reasons: dict[int, str] = {}
        for epochs in sorted(map(int, self._manager.all_steps()), reverse=True):
            try:
                with _quiet():
                    found = self._restored(epochs, like)
            except Exception as error:  # whatever a damaged file makes of a reader
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
        _require((where / "about").exists(), "it is not of `jaxsched train`")
        # Before Orbax reads it, which does not notice every damage.
        _require(self._known_sums().get(str(epochs)) in (None, _sum(where)), CHANGED)
        about = self._manager.restore(epochs, args=args.Composite(about=args.JsonRestore()))
        about = about["about"]
        _require_equal(about["of"], _about(self._settings, like))  # it would cast to other dtypes
        parts = args.Composite(
            state=args.StandardRestore(jax.eval_shape(lambda: like)), history=args.StandardRestore()
        )
        found = self._manager.restore(epochs, args=parts)
        state, history = found["state"], History(**found["history"]).then(*History.empty())
        # One that was killed in the instant before its sum was written has none, and Orbax does not
        # notice a number that has changed.
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
            f"the run goes on from epoch {used}, and what came after is computed again"
        )

    def _write_sums(self) -> None:
        """Of all that there are: one that was killed before it had a sum has it now."""
        sums, steps = self._known_sums(), map(str, self._manager.all_steps())
        text = json.dumps({step: sums.get(step) or _sum(self._directory / step) for step in steps})
        write_text(self._sums, text)

    def _known_sums(self) -> dict[str, str]:
        """None of a file that is not read: then Orbax alone says what is good."""
        try:
            sums: Any = read_json(self._sums)
        except (ValueError, OSError):
            return {}
        return sums if isinstance(sums, dict) else {}


CHANGED = "its files are not what was written"


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Of an error Orbax prints pages, from all its threads; it is told in a line."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _sum(directory: Path) -> str:
    """What changes when any file in it does."""
    total = hashlib.sha256()
    for file in sorted(file for file in directory.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(directory)} {file.stat().st_size}\n".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def _numbers(tree: Any) -> str:
    """What changes when any number in it does."""
    total = hashlib.sha256()
    for x in jax.tree.leaves(tree):
        is_key = jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)
        total.update(np.asarray(jax.random.key_data(x) if is_key else x).tobytes())
    return total.hexdigest()


def _about(settings: Settings, state: Any) -> dict[str, Any]:
    """Whose it is: the settings, but for how long the run is, and what arrays there are."""
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
