"""Jobs: long work in one thread, with progress that can be watched and a way to stop it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import AndRetrievalError, defect
from ..progress import Progress
from .guard import RefusedError

WAITING = 3  # jobs that may wait behind the one that runs
PATIENCE = 2.0  # seconds that a running job gets to stop when the server ends
KEPT = 16  # finished jobs whose result can still be asked for

State = Literal["waiting", "running", "done", "failed", "cancelled"]
FINISHED = ("done", "failed", "cancelled")


class _Cancelled(BaseException):
    """Raised inside a job that is to stop; no error of the work's own, so nothing on the way takes it for one."""


@dataclass
class Job:
    """One piece of long work.

    Attributes:
        id: Its name in addresses, which cannot be guessed.
        state: How far it is.
        done, total: Steps done and steps in all; 0 before the first is done.
        result: JSON-able, where it is done.
        error: One line, where it failed.
        file: A file that it made, to be downloaded.
    """

    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: State = "waiting"
    done: int = 0
    total: int = 0
    result: dict[str, Any] | None = None
    error: str | None = None
    file: Path | None = None
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def check(self) -> None:
        """End the work here if it is to stop."""
        if self.stop.is_set():
            raise _Cancelled

    def plain(self) -> dict[str, Any]:
        """JSON-able."""
        facts = {name: getattr(self, name) for name in ("state", "done", "total", "result", "error")}
        return {"job": self.id, **facts, "export": self.file is not None}


class Jobs:
    """Runs jobs one after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "job")
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, work: Callable[[Job, Progress], dict[str, Any]]) -> Job:
        """Start work that is given its job and the progress to call; it stops where that raises.

        Raises:
            RefusedError: Too many jobs wait.
        """
        with self._lock:
            open_jobs = [job for job in self._jobs.values() if job.state not in FINISHED]
            if len(open_jobs) > WAITING:
                raise RefusedError(
                    429, f"{len(open_jobs)} jobs are running or waiting; cancel one or wait for it"
                )
            job = Job()
            self._jobs[job.id] = job
            for old in [job for job in self._jobs.values() if job.state in FINISHED][:-KEPT]:
                self._drop(old)
        self._pool.submit(self._run, job, work)
        return job

    def get(self, name: str) -> Job:
        """The job of that name; raises `RefusedError` for an unknown one."""
        job = self._jobs.get(name)
        if job is None:
            raise RefusedError(404, "there is no such job; it may have been dropped for newer ones")
        return job

    def close(self) -> None:
        """Stop all jobs, and wait a little for the one that runs to come to its next step."""
        for job in list(self._jobs.values()):
            job.stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(job.state == "running" for job in self._jobs.values()):
            time.sleep(0.01)
        for job in list(self._jobs.values()):
            self._drop(job)

    def _drop(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if job.file is not None:
            for path in job.file.parent.glob(f"{job.file.stem}.*"):
                path.unlink(missing_ok=True)

    def _run(self, job: Job, work: Callable[[Job, Progress], dict[str, Any]]) -> None:
        def progress(done: int, total: int) -> None:
            job.done, job.total = done, total
            job.check()

        try:
            progress(0, 0)
            job.state = "running"
            job.result = work(job, progress)
            job.state = "done"
        except _Cancelled:
            job.state = "cancelled"
        except AndRetrievalError as error:
            job.error, job.state = str(error), "failed"
        except Exception as error:
            job.error, job.state = defect(error), "failed"
