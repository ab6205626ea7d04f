"""Workers that share no folder with the command, as those of a Ray cluster may: they leave their shards at an address.

A worker does a shard in a folder of its own, which is there only meanwhile, and moves it to the address. The command
fetches it from there, so it merges what it would have merged anyway.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..files import is_abandoned, remove, scratch_path
from ..store import Stored
from .address import Address, Leave
from .folder import Receipt, Shards
from .plan import Plan
from .remote import RefusedError, RemoteFolder
from .workers import Do, Job

Result = TypeVar("Result")

_SCRATCH = "and_retrieval"
"""What the folders of workers are called, see `files.scratch_path`; they lie among the system's temporary files."""
PAUSES = (2.0, 10.0, 30.0)
"""Seconds after which an address that could not be reached is tried again: short faults of a network end nothing."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteJob:
    """A job whose workers find the plan at an address and leave their shards there.

    Attributes:
        job_in: Gives the job on the shards in a folder.
        shards: Folder of the shards on the machine of the command.
        plan: Type of the plan.
        url: The address.
        device: See `workers.Job`.
    """

    job_in: Callable[[Path], Job]
    shards: Path
    plan: type[Plan]
    url: str
    device: str

    def start(self) -> Do:
        """Fetch the plan, and load what the work needs.

        Raises:
            InputError: As the job itself, or there is no plan at the address.
        """
        place = Path(tempfile.gettempdir()) / _SCRATCH
        for left in place.parent.glob(f".{_SCRATCH}.*"):  # by workers that were killed
            if is_abandoned(left):
                remove(left)
        scratch, address = scratch_path(place), Address(RemoteFolder(self.url))
        path = scratch / self.shards.parent.name / self.shards.name
        try:
            shards = persistently(lambda: address.planned(path, self.plan))
            do = self.job_in(path).start()
        finally:
            remove(scratch)

        def do_and_leave(number: int) -> None:
            try:
                do(number)
                persistently(lambda: address.leave(shards, number))
            finally:
                remove(scratch)

        return do_and_leave


def persistently(reach: Callable[[], Result]) -> Result:
    """What a function gives that reaches for an address; it is called again after each of `PAUSES` if that refuses.

    Raises:
        RefusedError: The address refused each time.
    """
    for pause in PAUSES:
        try:
            return reach()
        except RefusedError as error:
            _log.warning("%s; trying again in %.0f s", error, pause)
            time.sleep(pause)
    return reach()


def job_at(url: str | None, job_in: Callable[[Path], Job], shards: Shards[Any]) -> Job:
    """The job on shards, whose workers leave these at an address if there is one."""
    path = shards.path.absolute()  # workers may run elsewhere
    job = job_in(path)
    return job if url is None else RemoteJob(job_in, path, type(shards.plan), url, job.device)


def fetch_finished(shards: Shards[Any], url: str) -> Mapping[int, Stored[Receipt]]:
    """Leave the plan at an address, unless it is there, and fetch the shards that are finished there.

    Returns:
        As `Shards.finished`.

    Raises:
        InputError: There is another plan.
    """
    address, here = Address(RemoteFolder(url)), shards.finished()
    address.begin(shards)
    for number in shards.missing(here):
        address.fetched(shards, number)
    return shards.finished(known=here)


def fetching(shards: Shards[Any], url: str) -> Leave:
    """What fetches a shard that was left at an address; it raises InputError where that shard is not whole."""
    address = Address(RemoteFolder(url))

    def fetch(number: int) -> None:
        flaw = persistently(lambda: address.fetched(shards, number))
        if flaw is not None:
            raise InputError(
                f"shard {number + 1} at {address.remote.shown} is {flaw}; run the same command again"
            )

    return fetch
