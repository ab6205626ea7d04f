"""The plan of work in shards: which clips belong to which shard."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Sequence
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ..errors import InputError

SHORTEST = 600.0
"""Seconds of sound of a shard, at least: far more work than it takes to store a shard."""
MOST_SHARDS = 1000
"""Number of shards from which on they become longer instead of more. Each repeats what is kept of every unit."""


class Plan(Protocol):
    """What the work is, as a dataclass of plain values; known before the work.

    Attributes:
        kind: What it is, for messages.
        sizes: Number of clips (or whatever the work is about) of every shard, in a fixed order.
        decides: Everything that decides what all shards are, besides what they are about.
        contents: What each shard is about, one value a shard. A shard that was made under an equal plan, or under
            another one that decides the same and has equal content at that place, can be used.
        shared: What else has to be the same for all who do shards of one piece of work, such as what it adds to.
    """

    kind: ClassVar[str]

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def decides(self) -> Any: ...
    @property
    def contents(self) -> Sequence[Any]: ...
    @property
    def shared(self) -> Any: ...


def made_by() -> str:
    """The version of torch and a hash of this program's own code; others may compute otherwise."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return f"code {digest.hexdigest()[:16]}, torch {version('torch')}"


def check_made_by(planned: str) -> None:
    """Raise InputError unless work was planned by the version of the program that runs here, see `made_by`."""
    if planned != made_by():
        raise InputError(
            f"a worker on {socket.gethostname()} runs another version of this program than planned the work ("
            f"{made_by()}, not {planned}); install the same one on all machines"
        )


def shard_sizes(
    seconds: Sequence[float], most: float | None = None, begun: Sequence[int] = ()
) -> tuple[int, ...]:
    """Number of clips of every shard; a shard is a run of successive clips.

    Args:
        seconds: Length of every clip.
        most: Seconds of sound of a shard, unless a single clip is longer; by default `SHORTEST`, or more where that
            would give more than `MOST_SHARDS` shards.
        begun: Sizes of the first shards, which stay as they are.
    """
    if most is None:
        most = max(SHORTEST, sum(seconds) / MOST_SHARDS)
    sizes = list(begun)
    length = float("inf")
    for clip in seconds[sum(begun) :]:
        length += clip
        if length > most:
            sizes.append(0)
            length = clip
        sizes[-1] += 1
    return tuple(sizes)


def spans(sizes: Sequence[int]) -> tuple[range, ...]:
    """The clips of every shard, by their places."""
    ends = list(accumulate(sizes))
    return tuple(range(end - size, end) for end, size in zip(ends, sizes, strict=True))
