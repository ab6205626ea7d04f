"""The clips of a recording, read and measured ahead of the network, from one shard to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..clips.bands import band_levels
from ..clips.index import ClipIndex
from ..clips.qualities import measure
from ..clips.reading import Group, read_in_order
from ..network.probe import equally_long
from ..shards.folder import Shards
from ..types import Floats
from .manifest import RecordPlan

Measures = tuple[Floats, Floats]
"""Qualities and band levels of a clip."""


class ClipReader:
    """Reads the clips of shards in batches of equal length, one batch ahead of the network."""

    def __init__(
        self,
        index: ClipIndex,
        shards: Shards[RecordPlan],
        sample_rate: int,
        order: Sequence[int] = (),
        threads: int = 1,
    ) -> None:
        """Begin with nothing read.

        Args:
            index: The clips.
            shards: With the plan.
            sample_rate: Hz.
            order: Numbers of shards in the order in which they will be asked for, as far as that is known. While the
                network hears the last batch of one, the first batch of the next is read.
            threads: See `read_in_order`.
        """
        self._threads = threads
        self._index, self._shards, self._sample_rate = index, shards, sample_rate
        self._order = list(order)
        self._read = self._groups_of(order)

    def groups(self, number: int) -> Iterator[Group[Measures]]:
        """The clips of a shard, by their rows in the index.

        After its last batch nothing more is waited for, so a shard is complete whatever becomes of the next.
        """
        if self._order[:1] != [number]:
            self._order, self._read = [number], self._groups_of([number])
        following, self._order = (
            self._order[1:],
            [],
        )  # a shard that is not heard to its end is followed by none
        for _ in self._batches(number):
            yield next(self._read)
        if not following:
            next(self._read, None)  # ends the threads
        self._order = following

    def _groups_of(self, numbers: Sequence[int]) -> Iterator[Group[Measures]]:
        rows = (rows for number in numbers for rows in self._batches(number))
        index = self._index
        return read_in_order(index.clips, rows, self._sample_rate, index.cut, self._measured, self._threads)

    def _batches(self, number: int) -> Iterator[list[int]]:
        rows = self._shards.plan.rows[number]
        clips = self._index.clips[rows.start : rows.stop]
        batch = self._shards.plan.manifest.settings.batch
        for places in equally_long(clips, self._sample_rate, batch):
            yield [rows.start + place for place in places]

    def _measured(self, sound: Floats) -> Measures:
        return measure(sound, self._sample_rate), band_levels(sound, self._sample_rate)
