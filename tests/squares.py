"""Work in shards that is nothing but numbers: every shard holds the squares of its clips' places."""

from __future__ import annotations

from dataclasses import dataclass

from and_retrieval.shards.folder import Shards
from and_retrieval.shards.plan import spans
from and_retrieval.types import Skipped

WHOLE = " ".join(str(n**2) for n in range(10))


@dataclass(frozen=True)
class Squares:
    """The plan of work that writes squares."""

    sizes: tuple[int, ...]
    offset: int = 0
    note: str = ""

    @property
    def decides(self) -> object:
        return self.offset

    @property
    def shared(self) -> object:
        return self.note

    @property
    def contents(self) -> tuple[object, ...]:
        return tuple((rows.start, rows.stop) for rows in spans(self.sizes))


def square(shards: Shards[Squares], number: int) -> None:
    """Do a shard."""
    scratch = shards.scratch(number)
    scratch.write_text(" ".join(str(n**2 + shards.plan.offset) for n in spans(shards.plan.sizes)[number]))
    shards.commit(number, scratch, 0.1, (Skipped("a.wav", "silent"),) if number == 1 else ())


def joined(shards: Shards[Squares]) -> str:
    """What all shards hold, in their order."""
    finished = shards.finished()
    return " ".join(shards.file(finished[number]).read_text() for number in range(len(shards.plan.sizes)))
