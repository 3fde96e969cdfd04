"""Several `jax.distributed` processes of a script, on the devices of this machine."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from scripts import ROOT

DEVICES = 8  # of all processes together
TIMEOUT = 600  # seconds: only what hangs takes so long, on however slow a machine


def started(script: str, count: int = 2, timeout: float = TIMEOUT) -> list[Any]:
    """What each process of a script wrote; if one fails or hangs, an error with all they said.

    The script hands its arguments to `work`.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES // count}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.json" for i in range(count)]
        logs = [Path(folder) / f"{i}.log" for i in range(count)]
        processes = []
        try:
            for i in range(count):
                command = [sys.executable, script, *map(str, (i, count, port, files[i]))]
                with logs[i].open("w") as log:
                    processes.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
            ended = waited(processes, timeout)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if not ended:
            said = "\n".join(f"-- process {i}\n{x.read_text()}" for i, x in enumerate(logs))
            raise RuntimeError(f"{count} processes failed, or hung for {timeout} s:\n{said}")
        return [json.loads(file.read_text()) for file in files]


def waited(processes: list[subprocess.Popen], timeout: float) -> bool:
    """Did all end well, and in time? One that fails leaves the others waiting for it for ever."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        codes = [process.poll() for process in processes]
        if any(codes):
            return False
        if all(code == 0 for code in codes):
            return True
        time.sleep(0.1)
    return False


def work(what: Callable[[], Any], arguments: list[str]) -> None:
    """What one process does: join the others, and write down what it found."""
    index, count, port = map(int, arguments[:3])
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.distributed.initialize(
        f"localhost:{port}",
        num_processes=count,
        process_id=index,
        initialization_timeout=TIMEOUT // 2,
    )
    assert len(jax.devices()) == DEVICES and len(jax.local_devices()) == DEVICES // count
    Path(arguments[3]).write_text(json.dumps(what()))
    jax.distributed.shutdown()
