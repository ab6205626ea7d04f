"""Shards of machines that share no folder: they are left at an address, such as a bucket, and fetched from there.

Locks, memory maps and renames need a real folder. So the work is done in a folder of each machine, and what is finished
is copied to the address: first the file, then its receipt. Whoever merges fetches the plan and the shards, and checks
every file against its receipt before it counts. Nothing at the address decides where on this machine it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DamagedError, InputError, OldFormatError, StaleError, first_of
from ..files import settle, write_bytes
from ..progress import Progress, silent
from ..store import Folder, Stored, Writer, is_placed
from .folder import NAMED, PLAN, AnyPlan, Receipt, ShardCount, Shards
from .remote import RemoteFolder

_log = logging.getLogger(__name__)

Content = TypeVar("Content")

OTHERS = "other settings, other clips or another version"
MISSING, DAMAGED, FOREIGN = "missing", "damaged", f"of {OTHERS}"

Leave = Callable[[int], object]
"""Called with the number of every shard that is finished in its folder."""


def stays(number: int) -> None:
    """Leave a finished shard where it is."""


def begun_share(
    shards: Shards[Any],
    share: tuple[int, int],
    to: str | None,
    files: Mapping[str, Writer | str | Path] | None = None,
) -> tuple[list[int], ShardCount, Leave]:
    """Begin a share of the shards while others do the rest.

    Args:
        shards: With the plan.
        share: (i, n): every n-th shard, from the i-th on, counted from 1.
        to: Address at which they are to be left, or None for their folder.
        files: See `Shards.begin`.

    Returns:
        Those that are not finished, how many there are, and what leaves a finished one where it is to be.
    """
    shards.begin(alone=False, files=files)
    if to is None:
        return *shards.missing_of(share), stays
    address = Address(RemoteFolder(to))
    address.begin(shards)
    sender = _Sender(address, shards)
    missing, count = address.missing_of(shards, share, sender.send)
    sender.expect(missing)
    return missing, count, sender


@dataclass(frozen=True)
class Address:
    """Where shards are left.

    All methods raise an InputError, of one line, if whoever keeps the files there refuses.

    Attributes:
        remote: The folder in which they are.
    """

    remote: RemoteFolder

    def begin(self, shards: Shards[Any]) -> None:
        """Leave the plan of the shards, unless it is there.

        Raises:
            InputError: There is another plan.
        """
        if self._plan(shards, whole=True) is None:
            stored = shards.folder.open(type(shards.plan))
            for entry in stored.files.values():
                self.remote.send(shards.path / entry.path, entry.path)
            self.remote.write(shards.folder.manifest_name, shards.folder.manifest_path.read_bytes())
        if self._plan(shards) != shards.whole:  # another machine may have been faster
            raise InputError(
                f"{self.remote.shown} holds shards of {OTHERS}; choose another address, or remove what is there "
                "once it is merged"
            )

    def missing_of(
        self, shards: Shards[Any], share: tuple[int, int], leave: Leave
    ) -> tuple[list[int], ShardCount]:
        """As `Shards.missing_of`, of what is at the address; `leave` is called for what is finished only here."""
        numbers, finished = shards.numbers_of(share), shards.finished(alone=False)
        missing = []
        for number in numbers:
            if self._holds(shards, number):
                continue
            if number in finished:
                leave(number)
            else:
                missing.append(number)
        return missing, ShardCount(len(numbers), len(numbers) - len(missing))

    def leave(self, shards: Shards[Any], number: int) -> None:
        """Move a shard that is finished in its folder to the address."""
        stored = shards.verified(number)
        if stored is None:
            raise InputError(f"shard {number + 1} in {shards.path} was changed; run the same command again")
        file, receipt = shards.file(stored), stored.folder.manifest_path
        self.remote.send(file, file.name)
        self.remote.write(receipt.name, receipt.read_bytes())
        receipt.unlink()
        file.unlink()

    def fetch(self, path: Path, plan: type[AnyPlan], progress: Progress = silent) -> None:
        """Fetch the shards that a folder lacks, and the plan where there is none.

        Args:
            path: Folder of the shards.
            plan: Type of the plan.
            progress: Called with the number of shards that are there, and of all.

        Raises:
            InputError: There is no plan, or another than in the folder, or some shards are missing, damaged or belong
                to something else; the message names them. Those that were fetched stay.
        """
        shards = self.planned(path, plan)
        finished = shards.finished(alone=False)
        flaws: dict[str, list[int]] = {}
        for done, number in enumerate(shards.missing(finished), len(finished) + 1):
            flaw = self.fetched(shards, number)
            if flaw is not None:
                flaws.setdefault(flaw, []).append(number + 1)
            progress(done, len(shards.plan.sizes))
        if flaws:
            named = "; ".join(f"{flaw}: {first_of(numbers, NAMED)}" for flaw, numbers in flaws.items())
            raise InputError(
                f"{sum(map(len, flaws.values()))} of {len(shards.plan.sizes)} shards cannot be fetched from "
                f"{self.remote.shown} ({named}); run the calls with --shard and --to again, those that are whole "
                "are kept"
            )

    def _plan(self, shards: Shards[Any], whole: bool = False) -> str | None:
        """Identifies the plan at the address, see `Shards.whole`; "" if it is of another version or kind.

        None if there is no plan, or a damaged one.

        Args:
            shards: Whose plan it should be.
            whole: Whether the files that belong to the plan are checked too.
        """
        try:
            stored, _ = self._listed(shards.folder, type(shards.plan))
            for entry in stored.files.values() if whole else ():
                self.remote.copy(entry, lambda _: None)
        except (FileNotFoundError, DamagedError):
            return None
        except StaleError:
            return ""
        return Shards(shards.path, stored.manifest).whole

    def planned(self, path: Path, plan: type[AnyPlan]) -> Shards[AnyPlan]:
        """The shards in a folder, with the plan from the address where there is none."""
        known = Shards.begun(path, plan)
        if known is not None:
            if self._plan(known) != known.whole:
                raise InputError(
                    f"{self.remote.shown} holds no shards, or shards of {OTHERS} than {path}; merge these without "
                    "--from, or remove that folder"
                )
            return known
        try:
            self._adopt(*self._listed(Folder(path, plan.kind, PLAN), plan))
        except FileNotFoundError:
            raise InputError(
                f"{self.remote.shown} holds no shards; run the calls with --shard and --to {self.remote.shown}"
            ) from None
        except DamagedError:
            raise InputError(
                f"the plan at {self.remote.shown} is damaged; run the calls with --shard and --to again"
            ) from None
        except OldFormatError:
            raise InputError(
                f"the plan at {self.remote.shown} is of another version; merge with that"
            ) from None
        except StaleError:
            raise InputError(
                f"{self.remote.shown} holds no {plan.kind}, but shards of other work; `merge NAME` makes an index, "
                "`merge NAME/RUN` a recording"
            ) from None
        return Shards.open(path, plan)

    def fetched(self, shards: Shards[Any], number: int) -> str | None:
        """Fetch a shard; returns what is wrong with it, or None."""
        try:
            receipt = self._receipt(shards, number)
            if receipt is None:
                return FOREIGN
            self._adopt(*receipt)
        except FileNotFoundError:
            return MISSING
        except DamagedError:
            return DAMAGED
        return None

    def _holds(self, shards: Shards[Any], number: int) -> bool:
        """Whether a shard is at the address, whole."""
        try:
            receipt = self._receipt(shards, number)
            for entry in receipt[0].files.values() if receipt else ():
                self.remote.copy(entry, lambda _: None)
        except (FileNotFoundError, DamagedError):
            return False
        return receipt is not None

    def _receipt(self, shards: Shards[Any], number: int) -> tuple[Stored[Receipt], bytes] | None:
        """The receipt of a shard at the address, and its text; None if it belongs to something else.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: It is damaged.
        """
        try:
            stored, text = self._listed(shards.folder_of(number), Receipt)
        except StaleError:
            return None
        return (stored, text) if shards.owns(stored, number) else None

    def _listed(self, folder: Folder, content: type[Content]) -> tuple[Stored[Content], bytes]:
        """What a manifest at the address lists of files that belong into a folder of this machine, and its text.

        Raises:
            FileNotFoundError: There is none.
            DamagedError: It is damaged, or names a file as this program never does.
            StaleError: It is of another version or kind.
        """
        text = self.remote.read(folder.manifest_name)
        stored = folder.read(text, content)
        for name, entry in stored.files.items():
            if not is_placed(name, entry):
                raise DamagedError(
                    f"{folder.manifest_name} at {self.remote.shown} names a file {entry.path!r}"
                )
        return stored, text

    def _adopt(self, stored: Stored[Any], text: bytes) -> None:
        """Fetch the files that a manifest from the address lists, and then write the manifest.

        Raises:
            FileNotFoundError: One of them is missing.
            DamagedError: One of them is damaged.
        """
        folder = stored.folder
        for entry in stored.files.values():
            scratch = folder.scratch(entry.path)
            try:
                with scratch.open("wb") as stream:
                    self.remote.copy(entry, stream.write)
                settle(scratch, folder.path / entry.path)
            finally:
                scratch.unlink(missing_ok=True)
        write_bytes(folder.manifest_path, text)


class _Sender:
    """Moves finished shards to an address; what cannot be sent is tried once more when all expected ones are done.

    Called with the number of a shard; the last call raises InputError if a shard could not be sent by then either.
    """

    def __init__(self, address: Address, shards: Shards[Any]) -> None:
        self._address, self._shards = address, shards
        self._expected: set[int] = set()
        self._unsent: list[int] = []

    def expect(self, numbers: Iterable[int]) -> None:
        """Say which shards are still to be done."""
        self._expected = set(numbers)
        self._try_again()

    def __call__(self, number: int) -> None:
        self.send(number)
        self._expected.discard(number)
        self._try_again()

    def send(self, number: int) -> None:
        """Move a shard, or warn and keep it here."""
        try:
            self._address.leave(self._shards, number)
        except InputError as error:
            self._unsent.append(number)
            _log.warning("shard %d stays here for now: %s", number + 1, error)

    def _try_again(self) -> None:
        if not self._expected:
            for number in self._unsent:
                self._address.leave(self._shards, number)
            self._unsent = []
