"""The folder of work in shards: the plan, and of every finished shard a file and a receipt."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from ..config import fingerprint
from ..errors import AndRetrievalError, InputError, first_of
from ..files import SCRATCH
from ..store import Folder, Stored, Writer
from ..types import Skipped
from .lock import locked
from .plan import Plan, spans

FOLDER = "shards"
PLAN, PLAN_KIND = "plan.json", "plan"
NAMED = 10  # shards that a message names

AnyPlan = TypeVar("AnyPlan", bound=Plan)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a finished shard leaves besides its file, which the receipt lists with size and hash.

    Attributes:
        key: Identifies what decides the shard, and what it is about.
        number: Place of the shard in the plan, from 0.
        seconds: How long the work took.
        skipped: Clips that could not be used, with the reason.
    """

    key: str
    number: int
    seconds: float
    skipped: tuple[Skipped, ...] = ()


NONE_YET: Mapping[int, Stored[Receipt]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ShardCount:
    """How many shards a piece of work has, and how many of them were found finished when it went on."""

    shards: int = 0
    resumed: int = 0


def remove_idle(path: Path) -> None:
    """Remove a plan of which no shard is left, because all are at an address, unless somebody works under it.

    Args:
        path: Folder of the index or run, whose lock this process does not hold.
    """

    def is_idle() -> bool:
        shards = path / FOLDER
        return (shards / PLAN).exists() and all(receipt.name == PLAN for receipt in shards.glob("*.json"))

    if is_idle():
        with suppress(InputError), locked(path, "--shard"):  # refused where somebody works there
            if is_idle():
                shutil.rmtree(path / FOLDER, ignore_errors=True)


@dataclass(frozen=True)
class Shards(Generic[AnyPlan]):
    """The shards of one piece of work.

    Attributes:
        path: Their folder, `shards` in the folder of the index or run.
        plan: What the work is.
    """

    path: Path
    plan: AnyPlan

    @classmethod
    def open(cls, path: Path, plan: type[AnyPlan]) -> Shards[AnyPlan]:
        """The shards in a folder, under the plan that is written there.

        Raises:
            InputError: There is no plan, or it is damaged.
        """
        return cls(path, Folder(path, PLAN_KIND, PLAN).open(plan).manifest)

    @classmethod
    def begun(cls, path: Path, plan: type[AnyPlan]) -> Shards[AnyPlan] | None:
        """As `open`, but None where there is no plan, or a damaged one."""
        try:
            return cls.open(path, plan)
        except AndRetrievalError:
            return None

    @property
    def folder(self) -> Folder:
        """The folder as that of the plan."""
        return Folder(self.path, PLAN_KIND, PLAN)

    def folder_of(self, number: int) -> Folder:
        """The folder as that of a shard."""
        return Folder(self.path, "shard", f"{number:05d}.json")

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Identifies what decides each shard, and what it is about."""
        common = fingerprint(self.plan.decides)
        return tuple(fingerprint(common, content) for content in self.plan.contents)

    @cached_property
    def whole(self) -> str:
        """Identifies the piece of work: equal for all whose shards can be merged with each other."""
        return fingerprint(self.keys, self.plan.sizes, self.plan.shared)

    @cached_property
    def rows(self) -> tuple[range, ...]:
        """The clips (or whatever the work is about) of every shard, by their places."""
        return spans(self.plan.sizes)

    def begin(self, alone: bool = True, files: Mapping[str, Writer | str | Path] | None = None) -> None:
        """Write the plan.

        Args:
            files: What the work needs besides the plan, see `store.Folder.commit`.
            alone: Whether nobody else works here. Then another plan is replaced, and `finished` removes those of its
                shards that do not belong to this one; otherwise another plan is refused.

        Raises:
            InputError: Others work on another plan.
        """
        if self.folder.exists() and not alone:
            known = Shards.begun(self.path, type(self.plan))
            if known is None or known.whole != self.whole:
                raise InputError(
                    f"{self.path} holds shards of other settings or clips; merge them, or remove that folder"
                )
            return
        self.folder.commit(files or {}, self.plan)

    def planned_file(self, name: str) -> Path:
        """A file that was written with the plan.

        Raises:
            InputError: There is none.
        """
        return self.folder.open(type(self.plan)).file(name)

    def finished(
        self, alone: bool = True, known: Mapping[int, Stored[Receipt]] = NONE_YET
    ) -> Mapping[int, Stored[Receipt]]:
        """The finished shards by number, their files verified.

        Args:
            alone: Whether nobody else works here; then everything else in the folder is removed.
            known: What an earlier call gave; the files of these shards are not verified again.
        """
        receipts: dict[int, Stored[Receipt]] = {}
        written = self.folder.open(type(self.plan)).files.values()
        keep = {PLAN, *(entry.path for entry in written)}
        for number in range(len(self.plan.sizes)):
            stored = known.get(number) or self.verified(number)
            if stored is not None:
                receipts[number] = stored
                keep |= {stored.folder.manifest_name, *(entry.path for entry in stored.files.values())}
        if alone:
            for path in self.path.iterdir():
                if path.name not in keep and path.is_file():
                    path.unlink()
        return receipts

    def missing(self, among: Mapping[int, Stored[Receipt]]) -> list[int]:
        """Numbers of the shards that are not among the finished ones."""
        return [number for number in range(len(self.plan.sizes)) if number not in among]

    def numbers_of(self, share: tuple[int, int]) -> range:
        """Numbers of the shards of a share, see `missing_of`."""
        return range(share[0] - 1, len(self.plan.sizes), share[1])

    def missing_of(self, share: tuple[int, int]) -> tuple[list[int], ShardCount]:
        """Of a share of the shards while others do the rest: those that are not finished, and how many there are.

        Args:
            share: (i, n): every n-th shard, from the i-th on, counted from 1.
        """
        numbers = self.numbers_of(share)
        finished = self.finished(alone=False)
        missing = [number for number in numbers if number not in finished]
        return missing, ShardCount(len(numbers), len(numbers) - len(missing))

    def check_complete(self, finished: Mapping[int, Stored[Receipt]]) -> None:
        """Raise InputError unless all shards are finished; the message names those that are missing."""
        missing = self.missing(finished)
        if missing:
            named = first_of((number + 1 for number in missing), NAMED)
            raise InputError(
                f"{len(missing)} of {len(self.plan.sizes)} shards are missing in {self.path} (numbers {named}); "
                "run the calls with --shard again, those that are there are kept"
            )

    def leave(self, number: int, write: Callable[[Path], Iterable[Skipped]]) -> None:
        """Do a shard, and leave its file and receipt.

        Args:
            number: Its place in the plan.
            write: Writes its content to a path; returns the clips that could not be used, with the reason.
        """
        begin = time.monotonic()
        scratch = self.scratch(number)
        try:
            skipped = tuple(write(scratch))
            self.commit(number, scratch, time.monotonic() - begin, skipped)
        finally:
            scratch.unlink(missing_ok=True)

    def scratch(self, number: int) -> Path:
        """An empty file for the content of a shard, to be committed."""
        return self.folder_of(number).scratch(self.file_name(number))

    def commit(self, number: int, content: Path, seconds: float, skipped: tuple[Skipped, ...] = ()) -> None:
        """Make a finished scratch file the file of a shard, and write the receipt."""
        receipt = Receipt(self.keys[number], number, round(seconds, 3), skipped)
        self.folder_of(number).commit({self.file_name(number): content}, receipt)

    def file(self, receipt: Stored[Receipt]) -> Path:
        """The verified file of a finished shard."""
        return receipt.file(self.file_name(receipt.manifest.number))

    def tidy(self) -> None:
        """Remove what workers that were stopped have not finished; nobody may be working here.

        Where no shard is finished, nothing is worth keeping, and the folder goes.
        """
        for path in self.path.glob(f".*{SCRATCH}"):
            path.unlink(missing_ok=True)
        if not any(self.folder_of(number).exists() for number in range(len(self.plan.sizes))):
            self.remove()

    def remove(self) -> None:
        """Remove all shards and the plan."""
        shutil.rmtree(self.path, ignore_errors=True)

    def file_name(self, number: int) -> str:
        """Plain name of the file of a shard."""
        return f"{number:05d}.shard"

    def verified(self, number: int) -> Stored[Receipt] | None:
        """The receipt of a shard, if that is finished and undamaged."""
        folder = self.folder_of(number)
        if not folder.exists():
            return None
        try:
            stored = folder.open(Receipt)
            self.file(stored)
        except AndRetrievalError:
            return None
        return stored.released() if self.owns(stored, number) else None

    def owns(self, receipt: Stored[Receipt], number: int) -> bool:
        """Whether a receipt is that of the shard of a number under this plan."""
        about = receipt.manifest.key, receipt.manifest.number, set(receipt.files)
        return about == (self.keys[number], number, {self.file_name(number)})
