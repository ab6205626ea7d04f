"""Workers on a Ray cluster: actors that load what the work needs once, and only numbers go through Ray.

The shards themselves are written to the folder of the run, which all machines have to share.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import AndRetrievalError, InputError, MissingExtraError
from .workers import TRIES, Job, died

ANSWERS_WITHIN = 10.0  # seconds
PATIENCE = 6 * 3600.0
"""Seconds after which a shard that is not finished is given to another worker."""


def work_on_ray(
    job: Job,
    numbers: Sequence[int],
    address: str | None,
    done: Callable[[int], None],
    patience: float = PATIENCE,
) -> None:
    """Do shards on a Ray cluster, one worker for every CPU, or for every GPU where the job runs on these.

    Args:
        job: What the workers are sent.
        numbers: Of the shards.
        address: Of the cluster; None starts one on this machine.
        done: Called with the number of every shard that is finished.
        patience: Seconds after which a shard is given to another worker.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: There is no cluster at that address, a shard cannot be done, or its workers died `TRIES` times.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--workers ray", "ray") from None
    if address is not None:
        _check_address(address)
    # Workers import what the caller can import, and no working folder is copied.
    environment = {"env_vars": {"PYTHONPATH": ":".join(path for path in sys.path if path)}}
    try:
        ray.init(address, runtime_env=environment, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster can be used at {address or 'this machine'}: {error}") from None
    try:
        _Cluster(ray, job, patience).work(numbers, done)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise InputError unless something answers there; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or something else that Ray has names for
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster can be used at {address}: {error}") from None


class _Worker:
    """Runs on the cluster."""

    def __init__(self, job: Job) -> None:
        self._do = job.start()

    def work(self, number: int) -> tuple[int, str | None]:
        """Do a shard; returns its number, and why it cannot be done, if so."""
        try:
            self._do(number)
        except AndRetrievalError as error:
            return number, str(error)
        return number, None


class _Cluster:
    """The workers, and what they are at."""

    def __init__(self, ray: Any, job: Job, patience: float) -> None:
        self._ray = ray
        self._job = ray.put(job)
        self._patience = patience
        kind = "GPU" if job.on_gpu else "CPU"
        self._most = max(1, int(ray.cluster_resources().get(kind, 1)))
        options = {"num_gpus": 1} if job.on_gpu else {"num_cpus": 1}
        self._start = ray.remote(**options)(_Worker)
        self._at: dict[Any, tuple[Any, int, float]] = {}

    def work(self, numbers: Sequence[int], done: Callable[[int], None]) -> None:
        """Do all shards."""
        waiting, tries = deque(numbers), Counter[int]()
        while waiting or self._at:
            while waiting and len(self._at) < self._most:
                self._give(self._start.remote(self._job), waiting.popleft())
            ready, _ = self._ray.wait(list(self._at), num_returns=1, timeout=1.0)
            for result in dict.fromkeys([*ready, *self._overdue()]):
                worker, number, _ = self._at.pop(result)
                if not self._is_done(result):
                    self._ray.kill(worker)
                    tries[number] += 1
                    if tries[number] == TRIES:
                        raise died(number)
                    waiting.appendleft(number)
                    continue
                done(number)
                if waiting:
                    self._give(worker, waiting.popleft())
                else:
                    self._ray.kill(worker)

    def _give(self, worker: Any, number: int) -> None:
        self._at[worker.work.remote(number)] = worker, number, time.monotonic()

    def _overdue(self) -> list[Any]:
        now = time.monotonic()
        return [result for result, (_, _, begin) in self._at.items() if now - begin > self._patience]

    def _is_done(self, result: Any) -> bool:
        """Whether a shard is finished; False if its worker died or takes too long.

        Raises:
            InputError: It cannot be done.
        """
        errors = self._ray.exceptions
        try:
            _, refusal = self._ray.get(result, timeout=0)
        except (errors.RayActorError, errors.GetTimeoutError, errors.OutOfMemoryError):
            return False
        except errors.RayTaskError as error:
            raise RuntimeError(str(error.cause)) from None
        if refusal is not None:
            raise InputError(refusal)
        return True
