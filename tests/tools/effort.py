"""How long something takes, told so that neither how fast the machine is nor its load matters."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

USUAL = 0.06  # seconds of a loop, where the limits were found


def loop() -> float:
    """The CPU seconds of a piece of Python that is always the same."""
    began = time.thread_time()
    total = 0
    for n in range(2_000_000):
        total += n & 7
    assert total
    return time.thread_time() - began


@contextmanager
def at_most(seconds: float, clock: Callable[[], float] = time.process_time) -> Generator[None]:
    """What is within takes no longer than this on a machine whose loop takes as long as usual.

    Args:
      seconds: of the clock.
      clock: CPU seconds, which pass while something runs, and not while it waits for others.
    """
    before, began = loop(), clock()
    yield
    took = clock() - began
    limit = seconds * max(before, loop()) / USUAL
    assert took < limit, f"it took {took:.2f} CPU seconds, and may take {limit:.2f} here"
