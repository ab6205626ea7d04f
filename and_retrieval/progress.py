"""Progress of long work, with rate and time left; silent when nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

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
    """A bar with rate and time left, on a terminal or in a notebook; `silent` when stderr is neither.

    The bar appears with the first call and is finished by the call in which done reaches total.
    """
    if quiet or not (sys.stderr.isatty() or _in_notebook()):
        return silent
    from tqdm.auto import tqdm

    begin = time.time()  # the clock of tqdm
    bar: Any = None

    def draw(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            options = {"mininterval": INTERVAL, "miniters": 1, "smoothing": 0, "dynamic_ncols": True}
            bar = tqdm(desc=what, total=total, unit=f" {unit}", **options)
            bar.start_t = bar.last_print_t = begin  # the time before the first call counts too
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return draw


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook, whose stderr is no terminal but is shown."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
