"""Workers that are processes of this machine. A worker that dies is replaced, and its shard is done again.

Where the work is for any GPU, the workers share all that there are.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ..errors import AndRetrievalError, InputError
from .workers import TRIES, Job, died, packed, shared_gpus, threads_of


class _Crew:
    """Workers, and the shard that each is at."""

    def __init__(self, job: bytes, workers: int, gpus: Sequence[str]) -> None:
        self._job = job
        self._gpus = cycle(gpus or (None,))
        self._context = get_context("spawn")
        self._threads = threads_of(workers)
        self._processes: dict[Connection, BaseProcess] = {}
        self.shard_of: dict[Connection, int | None] = {}

    def start(self) -> None:
        """Start a worker; it says `ready` when it has loaded what it needs."""
        pipe, end_of_worker = self._context.Pipe()
        process = self._context.Process(
            target=_worker, args=(end_of_worker, self._job, self._threads, next(self._gpus)), daemon=True
        )
        process.start()
        end_of_worker.close()  # so that the end of the process is the end of the pipe
        self._processes[pipe] = process
        self.shard_of[pipe] = None

    def give(self, worker: Connection, number: int) -> None:
        """Let a worker do a shard."""
        self.shard_of[worker] = number
        with suppress(ConnectionError):  # it has just died, which is noticed when it is listened to
            worker.send(number)

    def heard_from(self) -> list[Connection]:
        """Wait until some workers have something to say, or have died."""
        return [worker for worker in wait(list(self.shard_of)) if isinstance(worker, Connection)]

    def finished_by(self, worker: Connection) -> int | None:
        """What a worker says: the number of the shard that it has done, or None if it is ready for its first.

        Raises:
            InputError: The shard cannot be done.
            RuntimeError: There is a defect.
            EOFError, ConnectionError: The worker has died.
        """
        word, content = worker.recv()
        if word == "refused":
            raise InputError(content)
        if word == "failed":
            raise RuntimeError(content)
        self.shard_of[worker] = None
        return None if word == "ready" else int(content)

    def leave(self, worker: Connection) -> int | None:
        """End a worker; returns the shard that it was at."""
        worker.close()
        process = self._processes.pop(worker)
        process.terminate()
        process.join()
        return self.shard_of.pop(worker)


def work_in_processes(job: Job, numbers: Sequence[int], workers: int, done: Callable[[int], None]) -> None:
    """Do shards in several processes, see `workers.work`.

    Raises:
        InputError: A shard cannot be done, the workers of one died `TRIES` times, or the job cannot be sent.
    """
    crew = _Crew(packed(job), workers, shared_gpus(job.device))
    waiting, tries = deque(numbers), Counter[int | None]()
    left = set(numbers)
    try:
        while left:
            while len(crew.shard_of) < min(workers, len(left)):
                crew.start()
            for worker in crew.heard_from():
                try:
                    number = crew.finished_by(worker)
                except (EOFError, ConnectionError):
                    lost = crew.leave(worker)
                    tries[lost] += 1
                    if tries[lost] == TRIES:
                        raise died(lost) from None
                    waiting.extendleft([] if lost is None else [lost])
                    continue
                if number is not None:
                    left.discard(number)
                    done(number)
                if waiting:
                    crew.give(worker, waiting.popleft())
                else:
                    crew.leave(worker)
    finally:
        for worker in list(crew.shard_of):
            crew.leave(worker)


def _worker(pipe: Connection, job: bytes, threads: int, gpu: str | None) -> None:
    """The life of a worker: load, then do the shards it is given, until the pipe or the parent ends.

    The job comes packed, because unpacking it loads torch, which reads the number of threads, and the GPU, once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        do = pickle.loads(job).start()
        pipe.send(("ready", None))
        while True:
            number = pipe.recv()
            do(number)
            pipe.send(("done", number))
    except EOFError:
        return
    except AndRetrievalError as error:
        pipe.send(("refused", str(error)))
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
