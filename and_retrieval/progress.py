"""Progress of long work on stderr, with rate and time left; silent when nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total) as work proceeds."""

INTERVAL = 0.2  # seconds between two redraws


def silent(done: int, total: int) -> None:
    """Progress that nobody sees."""


Announce = Callable[[str, str], Progress]
"""(what is done, unit of counting) -> the progress to call; lets one verb show several bars."""


def no_progress(what: str, unit: str) -> Progress:  # noqa: ARG001
    """Announces nothing."""
    return silent


def terminal_progress(what: str, unit: str, quiet: bool = False) -> Progress:
    """Progress drawn on one line of the terminal, or `silent` when stderr is none."""
    if quiet or not sys.stderr.isatty():
        return silent
    begin = time.monotonic()
    drawn = 0.0

    def draw(done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if done < total and now - drawn < INTERVAL:
            return
        drawn = now
        rate = done / max(now - begin, 1e-6)
        left = f"{(total - done) / rate:.0f} s left" if 0 < done < total else f"{now - begin:.1f} s"
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r\x1b[K{what} {done}/{total} {unit}, {rate:.1f} {unit}/s, {left}{end}")
        sys.stderr.flush()

    return draw
