"""Ctrl-C, SIGTERM and SIGHUP: work stops, scratch files are removed, and nothing half-made gets its name.

A signal becomes an exception. But an exception that is raised while a C library calls back into Python (libsndfile
writing into memory, for example) is printed and dropped there, and the work would go on with what that call spoiled.
So the signal is also remembered: `files.settle`, through which every file gets its name, asks `check`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end."""


@contextmanager
def watched() -> Iterator[None]:
    """During the block, signals that ask the program to end raise `Interrupted`, and are remembered.

    Signals that the caller lets be ignored (`nohup`) stay ignored. Only the main thread can do this; in another, the
    block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in taken:
            signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


def received() -> int | None:
    """The first signal since `watched` began, or None."""
    return _received[0] if _received else None


def forget() -> None:
    """Forget the signals that have come: they ended what was to go on until one came."""
    _received.clear()


def check() -> None:
    """Raise `Interrupted` if a signal has come, even if its exception was lost."""
    if _received:
        raise Interrupted


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise Interrupted
