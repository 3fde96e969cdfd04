"""Processes of `jaxsched train` that start at once, to be killed, starved and stopped for real.

    with Zygote(folder) as zygote:
        process = zygote.start(["train", "--out", "runs/x"], at=("os.replace", 3))
        process.kill()

The zygote is a process that has imported all the run needs, and never touched a device. Each run is
a fork of it: a process of its own, with its own JAX, that only did not have to import for seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from scripts import ROOT

PATIENCE = 600  # seconds: only what hangs takes so long, on however slow a machine
MODULES = (
    *(
        "jaxsched._commands._training._run",
        "jaxsched._commands._training._spoken",
        "sklearn.datasets",
        "matplotlib.pyplot",
    ),
    *("orbax.checkpoint", "rich.console", "rich.progress", "rich.table"),
)


class Ended(NamedTuple):
    """What a process left."""

    code: int  # as of `subprocess`: of a signal, minus its number
    seconds: float
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it told on stderr, but for the bar."""
        return [line for line in self.err.splitlines() if line.startswith("jaxsched: ")]


class Process:
    """One run."""

    def __init__(self, zygote: Zygote, pid: int, log: Path) -> None:
        self._zygote, self.pid, self._log, self._began = zygote, pid, log, time.monotonic()

    def after(self, seconds: float, sent: signal.Signals = signal.SIGKILL) -> Ended:
        """Send a signal then, unless it has ended, and wait for the end."""
        if not self._zygote.ended(self.pid, seconds):
            self.send(sent)
        return self.wait()

    def send(self, sent: signal.Signals) -> None:
        """A signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sent)

    def has_ended(self) -> bool:
        """Has it, by itself?"""
        return self._zygote.ended(self.pid, 0.003)

    def wait(self) -> Ended:
        """What it left when it had ended."""
        if not self._zygote.ended(self.pid, PATIENCE):
            self.send(signal.SIGKILL)
            raise TimeoutError(f"no end in {PATIENCE} s:\n{self._text('err')}")
        code, seconds = self._zygote.codes.pop(self.pid), time.monotonic() - self._began
        return Ended(os.waitstatus_to_exitcode(code), seconds, self._text("out"), self._text("err"))

    def _text(self, kind: str) -> str:
        return self._log.with_suffix(f".{kind}").read_text(errors="replace")


class Zygote:
    """Where the processes come from."""

    def __init__(self, folder: Path) -> None:
        self._logs, self.codes, self._count = folder / "logs", {}, 0
        self._logs.mkdir(parents=True)
        env = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            # What one run has compiled, the next does not compile again.
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        env.pop("XLA_FLAGS", None)  # one device is enough
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._said: dict[str, Any] = {}

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, words: list[str], **how: Any) -> Process:
        """Start `jaxsched` with these words; how else, `_prepare` says."""
        assert self._process.stdin is not None
        self._count += 1
        log = self._logs / f"{self._count:03}"
        order = {"words": words, "log": str(log), **how}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        said = self._hear(PATIENCE)
        assert said is not None, "the zygote does not start"
        return Process(self, said["began"], log)

    def run(self, words: list[str], **how: Any) -> Ended:
        """Start it, and wait for its end."""
        return self.start(words, **how).wait()

    def ended(self, pid: int, seconds: float) -> bool:
        """Has it, in that time?"""
        end = time.monotonic() + seconds
        while pid not in self.codes:
            said = self._hear(end - time.monotonic())
            if said is None:
                return False
            self.codes[said["ended"]] = said["code"]
        return True

    def _hear(self, seconds: float) -> dict[str, Any] | None:
        stream = self._process.stdout
        assert stream is not None
        ready, _, _ = select.select([stream], [], [], max(seconds, 0))
        return json.loads(stream.readline()) if ready else None


def _prepare(
    log: str,
    *,
    at: tuple[str, int] | None = None,
    file_size: int | None = None,
    powerless: bool = False,
    sends: int = signal.SIGKILL,
) -> None:
    """Make a fork what it is to be.

    Args:
      log: where its output goes.
      at: a function, `module:name`, and which of its calls sends this process a signal. SIGSTOP
        lets it wait there for whatever else it is sent.
      file_size: the bytes that no file may have more than.
      powerless: obey the modes of files, as root need not.
      sends: which signal.
    """
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{log}.{kind}", os.O_WRONLY | os.O_CREAT, 0o644), number)
    # As at a terminal: tests that are run in the background may have it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if powerless:
        no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(*no_capabilities) == 0
    if at is not None:
        _die_at(*at, sends)


def _die_at(place: str, call: int, sends: int) -> None:
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    function, calls = getattr(owner, name), []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            signal.raise_signal(sends)  # to this thread, which answers before it goes on
        return function(*args, **kwargs)

    setattr(owner, name, dying)


def _serve() -> None:
    """Fork for each order, and tell who began and who ended."""
    for module in MODULES:
        importlib.import_module(module)
    main = importlib.import_module("jaxsched.cli").main

    told = os.dup(1)
    waker, awake = os.pipe()
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(awake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    orders, running = b"", True

    def tell(**what: int) -> None:
        os.write(told, json.dumps(what).encode() + b"\n")

    while running:
        ready, _, _ = select.select([0, waker], [], [])
        if waker in ready:
            os.read(waker, 4096)
            with contextlib.suppress(ChildProcessError):
                while (dead := os.waitpid(-1, os.WNOHANG))[0]:
                    tell(ended=dead[0], code=dead[1])
        if 0 in ready:
            chunk = os.read(0, 65536)
            running, orders = bool(chunk), orders + chunk
        while b"\n" in orders:
            line, orders = orders.split(b"\n", 1)
            order = json.loads(line)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                words = order.pop("words")
                _prepare(**order)
                code = main(words)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            tell(began=pid)


if __name__ == "__main__":
    _serve()
