"""Checkpoints that are damaged, or somebody else's: what a run makes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxsched._commands._refused import RefusedError
from jaxsched._commands._training import _spoken
from jaxsched._commands._training._checkpoint import Checkpoints
from jaxsched._commands._training._folder import Folder
from jaxsched._commands._training._history import History
from jaxsched._commands._training._loop import start


def bit(content: bytes, rng: random.Random) -> bytes:
    """One bit of it is another."""
    changed, at = bytearray(content), rng.randrange(len(content))
    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "one bit": bit,
    "truncated": lambda content, rng: content[: rng.randrange(len(content))],
    "zeros": lambda content, rng: bytes(len(content)),
    "emptied": lambda content, rng: b"",
    "deleted": lambda content, rng: None,
}


class Outcome(NamedTuple):
    """What was made of it."""

    epochs: int  # of the checkpoint that was used; 0 if none was
    right: bool  # it has the numbers that were written
    lines: list[str]  # what was told


class Patient:
    """The last two checkpoints of a run, to be damaged one time after the other."""

    def __init__(self, whole: Folder, folder: Path) -> None:
        self.settings = whole.read_settings()
        digits = _spoken.saved_task(self.settings)
        tx = _spoken.transform(self.settings, _spoken.learning_rate(self.settings), digits)
        self.like = start(tx, digits)
        self._whole, self.path = whole.checkpoints, folder / "patient"
        names = sorted((x.name for x in whole.checkpoints.glob("[0-9]*")), key=int)
        self.before, self.newest = map(int, names[-2:])
        self._right = {}
        for epochs in (self.newest, self.before):
            self.restore()
            if epochs == self.before:
                shutil.rmtree(self.path / str(self.newest))
            with Checkpoints(self.path, self.settings) as checkpoints:
                self._right[epochs] = _bits(checkpoints.newest(self.like))

    def restore(self) -> Path:
        """The newest checkpoint, both being well."""
        shutil.rmtree(self.path, ignore_errors=True)
        for epochs in (self.before, self.newest):
            shutil.copytree(self._whole / str(epochs), self.path / str(epochs))
        shutil.copy(self._whole / "checksums.json", self.path)
        return self.path / str(self.newest)

    def files(self) -> list[Path]:
        """One of each kind in the newest, as paths in it; the largest, if there are more."""
        newest = self.restore()
        files = sorted(
            (x for x in newest.rglob("*") if x.is_file()), key=lambda x: x.stat().st_size
        )
        names = [file.relative_to(newest) for file in files]
        return sorted({re.sub("[0-9a-f]{32}", "", str(name)): name for name in names}.values())

    def outcome(self) -> Outcome:
        """What reading it comes to."""
        told = io.StringIO()
        with contextlib.redirect_stderr(told), Checkpoints(self.path, self.settings) as checkpoints:
            try:
                found = checkpoints.newest(self.like)
            except RefusedError as error:
                return Outcome(0, True, [str(error)])
        assert found is not None
        lines = [x for x in told.getvalue().splitlines() if x.startswith("jaxsched: ")]
        return Outcome(found[1].epochs, _bits(found) == self._right[found[1].epochs], lines)


def _bits(tree: Any) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def damaged(patient: Patient, file: Path, how: str, seed: int = 0, sums: bool = True) -> Outcome:
    """One file of the newest, damaged; and `checksums.json` away, as if killed before it."""
    target = patient.restore() / file
    content = DAMAGES[how](target.read_bytes(), random.Random(seed))
    target.unlink() if content is None else target.write_bytes(content)
    if not sums:
        (patient.path / "checksums.json").unlink()
    return patient.outcome()


def _saved(patient: Patient, settings: Any, state: Any, epochs: int | None = None) -> Path:
    """A checkpoint that another run has written."""
    folder = patient.path.with_name("other")
    shutil.rmtree(folder, ignore_errors=True)
    rows = np.zeros(patient.newest if epochs is None else epochs, np.float32)
    empty = History.empty(("accuracy",))
    history = History(*(dict.fromkeys(named, rows) for named in empty))
    with Checkpoints(folder, settings) as checkpoints:
        checkpoints.save(patient.newest, state, history)
    return folder / str(patient.newest)


def _of_another_seed(patient: Patient) -> Path:
    return _saved(patient, dataclasses.replace(patient.settings, seed=9), patient.like)


def _of_another_optimizer(patient: Patient) -> Path:
    settings = dataclasses.replace(patient.settings, optimizer="sgd")
    digits = _spoken.saved_task(settings)
    tx = _spoken.transform(settings, _spoken.learning_rate(settings), digits)
    return _saved(patient, patient.settings, patient.like.replace(opt_state=tx.init({"w": 1.0})))


def _of_other_shapes(patient: Patient) -> Path:
    wider = jax.tree.map(lambda x: jnp.zeros((*x.shape, 2), x.dtype), patient.like.params)
    return _saved(patient, patient.settings, patient.like.replace(params=wider))


def _of_other_dtypes(patient: Patient) -> Path:
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), patient.like.params)
    return _saved(patient, patient.settings, patient.like.replace(params=halves))


def _of_another_epoch(patient: Patient) -> Path:
    return _saved(patient, patient.settings, patient.like, epochs=3)


def _of_another_program(patient: Patient) -> Path:
    folder = patient.path.with_name("program")
    shutil.rmtree(folder, ignore_errors=True)
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder.resolve(), {"weights": jnp.ones(3)})
    return folder


def _of_no_program(patient: Patient) -> Path:
    folder = patient.path.with_name("garbage")
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("my notes\n")
    return folder


FOREIGN = {
    "of a run with another seed": _of_another_seed,
    "of another optimizer": _of_another_optimizer,
    "of other shapes": _of_other_shapes,
    "of other dtypes": _of_other_dtypes,
    "of another epoch": _of_another_epoch,
    "of another program": _of_another_program,
    "of no program": _of_no_program,
}


def foreign(patient: Patient, what: str, summed: bool) -> Outcome:
    """Another checkpoint in the place of the newest, with or without its sum."""
    newest, other = patient.restore(), FOREIGN[what](patient)
    shutil.rmtree(newest)
    shutil.copytree(other, newest)
    sums = patient.path / "checksums.json"
    known = json.loads(sums.read_text())
    del known[newest.name]
    theirs = other.with_name("checksums.json")
    if summed and theirs.exists():
        known |= json.loads(theirs.read_text())
    sums.write_text(json.dumps(known))
    return patient.outcome()


SUMS = {  # what `checksums.json` has become: which of the two checkpoints is to be used
    "deleted": (None, True),
    "emptied": (b"", True),
    "truncated": (b'{"1": "ab', True),
    "not text": (b"\xff\xfe\x00", True),
    "a list": (b"[1, 2]", True),
    "too deep": (b"[" * 100_000, True),
    "another program's": (b'{"version": 3}', True),
    "of other files": (b"the sums of others", False),
}


def sums_damaged(patient: Patient, what: str) -> Outcome:
    """Both checkpoints are well, and their sums are not."""
    newest, (content, _) = patient.restore(), SUMS[what]
    sums = patient.path / "checksums.json"
    if what == "of other files":
        sums.write_text(json.dumps({**json.loads(sums.read_text()), newest.name: "0" * 64}))
    elif content is None:
        sums.unlink()
    else:
        sums.write_bytes(content)
    return patient.outcome()


def strangers(patient: Patient) -> Outcome:
    """Both are well, and other things lie about."""
    patient.restore()
    (patient.path / "notes.txt").write_text("mine")
    (patient.path / "77").write_text("a file that has the name of a checkpoint")
    (patient.path / "old").mkdir()
    (patient.path / "old" / "5").write_text("")
    return patient.outcome()


def none_good(patient: Patient) -> Outcome:
    """Both are damaged."""
    for epochs in (patient.restore().name, str(patient.before)):
        (patient.path / epochs / "state" / "manifest.ocdbt").write_bytes(b"")
    return patient.outcome()
