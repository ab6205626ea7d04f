"""Programs that are killed: at the n-th step that changes what is on disk, or at any moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STEPS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")
LOADED = ("and_retrieval.run", "and_retrieval.clips.build", "embedders", "targets.deep")
"""What the process has imported of which the others are copies. It computes nothing: threads would be lost."""

_processes = get_context("forkserver")
_processes.set_forkserver_preload([*LOADED])


def run_and_kill(
    action: Callable[..., object], *args: Any, step: int | None = None, seconds: float | None = None
) -> bool:
    """Run an action in a process of its own and kill that; whether it was killed before its end.

    Args:
        action: What is done, a function of a module.
        args: Of the function.
        step: It is killed at its n-th call that changes what is on disk, counted from 1.
        seconds: It is killed after so many seconds.
    """
    process = _processes.Process(target=_run, args=(action, args, step))
    process.start()
    process.join(seconds)
    if process.is_alive() and seconds is not None:
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), "it failed instead of being killed"
    return process.exitcode != 0


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, and their content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _run(action: Callable[..., object], args: tuple[Any, ...], step: int | None) -> None:
    if step is not None:
        _count_down(step)
    action(*args)


def _count_down(step: int) -> None:
    left = step

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
