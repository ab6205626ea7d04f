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
"""What the C library itself raises both to, step by step, as large pieces are freed (M_MMAP_THRESHOLD in mallopt(3)).

Before version 2.35, it lets nobody raise the first any further.
"""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt
SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
"""Variables by which users decide about it themselves, beside those of GLIBC_TUNABLES that begin with glibc.malloc."""

_lock = threading.Lock()
_depth = 0


def keep_freed_memory() -> None:
    """Let this process keep freed memory from now on: for workers, which do nothing else but passes."""
    if not _decided_by_user():
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
            if not _depth and not _decided_by_user():
                _set(LARGEST_OWN, KEPT_OWN)
                _call("malloc_trim", 0)


def _decided_by_user() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in os.environ for name in SETTINGS)


def _set(largest: int, kept: int) -> None:
    """Set both thresholds, the first as high as it may be: with the second alone, it would stay low."""
    if any(_call("mallopt", MMAP_THRESHOLD, size) for size in dict.fromkeys((largest, LARGEST_OWN))):
        _call("mallopt", TRIM_THRESHOLD, kept)


def _call(name: str, *values: int) -> int:
    """Call a function of the C library; 0 where it fails, or the library has none of that name."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return 0
    return function(*values)
