"""What asks a process to end, and what is done instead of ending at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

#: Signals that ask a process to end. By convention it then returns 128 and the signal's number.
ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handled(
    stop: Callable[[int, Any, Any], None], wanted: Collection[signal.Signals] = ENDING
) -> Iterator[None]:
    """Have a function called in place of what these signals do, while the block runs.

    Signals that the process ignores are still ignored. Off the main thread nothing is changed, for
    Python allows it there alone.

    Parameters
    ----------
    stop : callable
        Takes the signal's number, the frame that it met, and the former handler.
    wanted : collection of signal.Signals
    """
    previous: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for signum in wanted:
                former = signal.getsignal(signum)
                if former not in (None, signal.SIG_IGN):
                    previous[signum] = former
                    signal.signal(signum, partial(_call, stop, former))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def flush_printed() -> None:
    """Flush what is printed, unless the signal has met the process while it does just that.

    Python forbids a handler to use a stream whose writing it has interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(RuntimeError):
            stream.flush()


def _call(stop: Callable[[int, Any, Any], None], former: Any, signum: int, frame: Any) -> None:
    stop(signum, frame, former)
