"""Who does the shards: this process, other processes of this machine, or a Ray cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Protocol

from ..errors import InputError

TRIES = 3
"""How often a shard is begun at most, if the workers that have it die."""
RAY = "ray"

Do = Callable[[int], None]
"""Does the shard of a number: its file and its receipt are in the folder afterwards."""


class Job(Protocol):
    """Work on shards that can be sent to another process or machine: it holds names and paths, no networks.

    Attributes:
        device: Where its networks run: `cpu`, `auto`, `cuda` for any GPU, or `cuda:1` for a certain one.
    """

    @property
    def device(self) -> str: ...

    def start(self) -> Do:
        """Load what the work needs, once for each worker; returns the function that does a shard."""
        ...


def packed(job: Job) -> bytes:
    """A job as it is sent to other processes.

    Raises:
        InputError: It cannot be sent.
    """
    try:
        return pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"other processes cannot be given this work ({error}); use one worker") from None


def check_workers(workers: int | str) -> None:
    """Raise InputError unless it is a number of processes, `ray`, or `ray:ADDRESS`."""
    if isinstance(workers, str):
        usable = workers == RAY or (workers.startswith(f"{RAY}:") and workers != f"{RAY}:")
    else:
        usable = workers >= 1
    if not usable:
        raise InputError(f"workers {workers!r}: give a number of processes, ray, or ray:ADDRESS")


def work(
    job: Job, numbers: Sequence[int], workers: int | str, done: Callable[[int], None], do: Do | None = None
) -> None:
    """Do shards, in order as far as there is one worker, else as workers become free.

    Args:
        job: What other processes are sent.
        numbers: Of the shards.
        workers: Number of processes, `ray` for a Ray cluster on this machine, or `ray:ADDRESS`.
        done: Called with the number of every shard that is finished.
        do: Does a shard in this process, if that is at hand; used with one worker.

    Raises:
        InputError: A shard cannot be done, or its workers died `TRIES` times.
    """
    check_workers(workers)
    if isinstance(workers, str):
        from .cluster import work_on_ray

        work_on_ray(job, numbers, workers.partition(":")[2] or None, done)
    elif workers > 1 and len(numbers) > 1:
        from .processes import work_in_processes

        work_in_processes(job, numbers, min(workers, len(numbers)), done)
    else:
        do = do or job.start()
        for number in numbers:
            do(number)
            done(number)


def threads_of(workers: int) -> int:
    """Threads of each of so many workers: their share of the cores, or what OMP_NUM_THREADS says."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else max(1, (os.cpu_count() or 1) // workers)


def shared_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that workers of this machine share in turn, as CUDA_VISIBLE_DEVICES names them; none for other devices.

    Those that it names already, up to the first that is none, as CUDA reads it; else all there are.
    """
    if device != "cuda":
        return ()
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(map(str, range(torch.cuda.device_count())))
    return tuple(takewhile(lambda gpu: gpu not in ("", "-1"), map(str.strip, named.split(","))))


def died(number: int | None) -> InputError:
    """The error for workers that died again and again, at a shard or before they had one."""
    what = "a worker died before it had begun" if number is None else f"the workers of shard {number} died"
    return InputError(
        f"{what}, {TRIES} times, perhaps for lack of memory; what is finished is kept: run the same command again, "
        "with fewer --workers"
    )
