"""Progress of long work, with rate and time left; silent if nobody is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int], None]
"""Called with (done, total) as work proceeds."""

INTERVAL = 0.2  # seconds between redraws


def silent(done: int, total: int) -> None:
    """Show no progress."""


class Tally:
    """Progress of work in shards: the finished ones, and how far the one is that this process is at."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, size: int) -> None:
        """A shard of that size is finished."""
        self._done += size
        self._progress(self._done, self._total)

    def within(self, done: int, _of: int) -> None:
        """That much of a shard is done."""
        if self._done + done < self._total:  # the total is reached when the last shard is stored
            self._progress(self._done + done, self._total)


Announce = Callable[[str, str], Progress]
"""(name of the work, what is counted) -> the progress to call; so one verb can show several bars."""


def no_progress(task: str, unit: str) -> Progress:  # noqa: ARG001
    """Announce nothing."""
    return silent


def terminal_progress(task: str, unit: str, quiet: bool = False) -> Progress:
    """A bar with rate and time left, on a terminal or in a notebook; elsewhere `silent`.

    The bar appears at the first call and closes at the call in which `done` reaches `total`.
    """
    if quiet or not (sys.stderr.isatty() or _in_notebook()):
        return silent
    from tqdm.auto import tqdm

    begin = time.time()  # the clock that tqdm uses
    bar: Any = None

    def draw(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            options = {"mininterval": INTERVAL, "miniters": 1, "smoothing": 0, "dynamic_ncols": True}
            bar = tqdm(desc=task, total=total, unit=f" {unit}", **options)
            bar.start_t = bar.last_print_t = begin  # the time before the first call counts too
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return draw


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows stderr although it is not a terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
