"""Workers on a Ray cluster: actors that load what the work needs once, and only numbers go through Ray.

The shards themselves are written to the folder of the run, which all machines have to share, or are left at an address
(`remote_job`). A process that loses the head of its cluster is ended by Ray, or waits for ever if another head takes
its place. So a process of its own asks Ray; it says again and again that the cluster is there, and another one takes
its place if it does not.

A cluster that is started here keeps its files in a folder of its own. By default Ray would join whatever cluster was
last started on the machine, even one that is gone, and wait for it for ever.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import AndRetrievalError, InputError, MissingExtraError
from .workers import TRIES, Do, Job, died, packed

ANSWERS_WITHIN = 10.0  # seconds
BACK_WITHIN = 600.0  # seconds that a cluster may be gone
BEAT = 5.0  # seconds after which it is looked whether the cluster is there
STARTS_WITHIN = 180.0  # seconds until a cluster has let us in; one of this machine starts within 3 to 30
SILENT = 300.0  # seconds without a sign of it after which it counts as lost
_log = logging.getLogger(__name__)
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
        InputError: There is no cluster at that address, it was lost and did not come back, a shard cannot be done, or
            its workers died `TRIES` times.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("--workers ray", "ray")
    content, flaw = packed(job), _flaw(address)
    left = dict.fromkeys(numbers)

    def one_less(number: int) -> None:
        del left[number]
        done(number)

    if not numbers:
        return
    for _ in range(TRIES):
        if flaw is not None:
            raise InputError(f"no Ray cluster can be used at {address}: {flaw}")
        try:
            # Sockets lie in it, whose paths may not be long; so it is not in the folder of the shards.
            with tempfile.TemporaryDirectory(
                prefix="ray-", dir=os.environ.get("RAY_TMPDIR"), ignore_cleanup_errors=True
            ) as folder:
                _work_in_a_process(_Asked(content, tuple(left), address, folder, patience), one_less)
            return
        except EOFError:
            _log.warning("the Ray cluster at %s was lost; waiting for it", address or "this machine")
            flaw = _flaw(address, BACK_WITHIN)
    raise InputError(
        f"the Ray cluster at {address or 'this machine'} was lost {TRIES} times; what is finished is kept: run the "
        "same command again"
    )


def _flaw(address: str | None, seconds: float = 0.0) -> str | None:
    """Why nothing answers at an address, for so many seconds; Ray itself would try for minutes. None if it does."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return None  # `auto`, or something else that Ray has names for
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()
            return None
        except (OSError, OverflowError) as error:
            if time.monotonic() >= end:
                return (
                    f"{error}; what is finished is kept: run the same command again"
                    if seconds
                    else str(error)
                )
        time.sleep(1)


@dataclass(frozen=True)
class _Asked:
    """What the process that asks Ray is given, see `work_on_ray`; `folder` is for the files of a cluster it starts."""

    job: bytes
    numbers: tuple[int, ...]
    address: str | None
    folder: str
    patience: float

    @property
    def place(self) -> str:
        """Where the cluster is, in words."""
        return self.address or "this machine"


def _work_in_a_process(asked: _Asked, done: Callable[[int], None]) -> None:
    """Do shards by way of a process that asks Ray.

    Raises:
        EOFError: It has died, or the cluster was lost.
        InputError: A shard cannot be done, or there is no cluster, or none that lets us in within `STARTS_WITHIN`.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe()
    process = context.Process(target=_ask_ray, args=(sender, asked))
    process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        if not receiver.poll(STARTS_WITHIN):
            raise InputError(_late(asked))
        while True:
            if not receiver.poll(SILENT):
                raise EOFError
            word, content = receiver.recv()
            if word == "finished":
                process.join()
                return
            if word == "refused":
                raise InputError(content)
            if word == "failed":
                raise RuntimeError(content)
            if word == "lacks":
                _log.warning(
                    "the Ray cluster at %s has no %s; waiting until it has one", asked.place, content
                )
            if word == "done":
                done(content)
    except ConnectionError:
        raise EOFError from None
    finally:
        receiver.close()
        process.terminate()
        process.join(ANSWERS_WITHIN)
        process.kill()
        process.join()


def _late(asked: _Asked) -> str:
    """What to say of a cluster that does not let us in."""
    remedy = (
        "run the command again when the machine is less busy, or with a number of --workers"
        if asked.address is None
        else f"see whether a Ray of the same version answers there: ray status --address {asked.address}"
    )
    return (
        f"no Ray cluster can be used at {asked.place}: it was not ready within {STARTS_WITHIN:.0f} s; what is finished "
        f"is kept: {remedy}"
    )


def _ask_ray(pipe: Connection, asked: _Asked) -> None:
    """The life of the process that asks Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a cluster that was started here ends with it
    import ray

    # Workers import what the caller can import, and no working folder is copied.
    environment = {"env_vars": {"PYTHONPATH": ":".join(path for path in sys.path if path)}}
    start = {"address": asked.address} if asked.address else {"address": "local", "_temp_dir": asked.folder}
    try:
        ray.init(**start, runtime_env=environment, log_to_driver=False, include_dashboard=False)
    except (OSError, ValueError, RuntimeError) as error:
        pipe.send(("refused", f"no Ray cluster can be used at {asked.place}: {error}"))
        return
    pipe.send(("there", None))
    try:
        cluster = _Cluster(ray, pickle.loads(asked.job), asked.patience)
        if cluster.lacks is not None:
            pipe.send(("lacks", cluster.lacks))
        cluster.work(
            asked.numbers, lambda number: pipe.send(("done", number)), lambda: pipe.send(("there", None))
        )
        pipe.send(("finished", None))
    except EOFError:
        os._exit(1)  # a shutdown would wait for what is lost
    except InputError as error:
        pipe.send(("refused", str(error)))
    except RuntimeError as error:
        pipe.send(("failed", str(error)))
    finally:
        ray.shutdown()


class _Worker:
    """Runs on the cluster."""

    def __init__(self, job: Job, folder: str) -> None:
        """Go to the folder in which the command runs: names may be paths from there.

        The job starts with the first shard: Ray would take an error here for the death of the worker.
        """
        with suppress(OSError):  # this machine may have no such folder
            os.chdir(folder)
        self._job = job
        self._do: Do | None = None

    def work(self, number: int) -> tuple[int, str | None]:
        """Do a shard; returns its number, and why it cannot be done, if so."""
        try:
            if self._do is None:
                self._do = self._job.start()
            self._do(number)
        except AndRetrievalError as error:
            return number, str(error)
        return number, None


class _Cluster:
    """The workers, and what they are at.

    Attributes:
        lacks: What every worker needs, CPU or GPU, if the cluster has none at present; some clusters grow on demand.
    """

    def __init__(self, ray: Any, job: Job, patience: float) -> None:
        self._ray = ray
        self._job = ray.put(job)
        self._patience = patience
        on_gpu = job.device.startswith("cuda")
        kind = "GPU" if on_gpu else "CPU"
        count = int(ray.cluster_resources().get(kind, 0))
        self.lacks = None if count else kind
        self._most = max(1, count)
        options = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        self._start = ray.remote(**options)(_Worker)
        self._at: dict[Any, tuple[Any, int, float]] = {}
        self._node = ray.get_runtime_context().get_node_id()
        self._looked = 0.0

    def work(self, numbers: Sequence[int], done: Callable[[int], None], there: Callable[[], None]) -> None:
        """Do all shards.

        Args:
            numbers: Of the shards.
            done: Called with the number of every shard that is finished.
            there: Called again and again as long as the cluster is there.

        Raises:
            EOFError: The cluster is another by now.
            InputError: A shard cannot be done, or its workers died `TRIES` times.
        """
        waiting, tries = deque(numbers), Counter[int]()
        while waiting or self._at:
            self._look(there)
            while waiting and len(self._at) < self._most:
                self._give(self._start.remote(self._job, str(Path.cwd())), waiting.popleft())
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

    def _look(self, there: Callable[[], None]) -> None:
        """Look whether the node by which the cluster was entered belongs to it; a head that is new knows no nodes."""
        if time.monotonic() - self._looked < BEAT:
            return
        if not any(node["Alive"] and node["NodeID"] == self._node for node in self._ray.nodes()):
            raise EOFError
        there()
        self._looked = time.monotonic()

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
