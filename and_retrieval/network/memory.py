"""Memory that the passes of a network use again and again.

Large outputs of layers are freed after every pass. The GNU C library gives such memory back to the system at once, and
gets it back page by page in the next pass: a quarter of YAMNet's time on batches of 16 clips of 5 s, and more where
another thread of the process works beside it, as both wait for the same table of pages.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

KEPT_BYTES = 1 << 30
"""Freed memory that is kept at most behind what is in use, and the largest piece that is kept at all."""
LARGEST_OWN, KEPT_OWN = 32 << 20, 64 << 20
"""Where the C library arrives by itself after it has freed large pieces (M_MMAP_THRESHOLD in mallopt(3))."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt
SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which users decide about it themselves."""

_lock = threading.Lock()
_depth = 0


def keep_freed_memory() -> None:
    """Let this process keep freed memory from now on: for workers, which do nothing else but passes."""
    _set(KEPT_BYTES, KEPT_BYTES)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within the context, freed memory stays with the process; afterwards it is given back.

    Contexts may be nested and overlap in several threads. Without effect on other C libraries than GNU's, and where the
    environment has settings of its own.
    """
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            keep_freed_memory()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                _set(LARGEST_OWN, KEPT_OWN)
                _call("malloc_trim", 0)


def _set(largest: int, kept: int) -> None:
    if not any(name in os.environ for name in SETTINGS):
        _call("mallopt", MMAP_THRESHOLD, largest)
        _call("mallopt", TRIM_THRESHOLD, kept)


def _call(name: str, *values: int) -> None:
    """Call a function of the C library, if that has it."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return
    function(*values)
