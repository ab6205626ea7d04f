"""The clips of a recording, read and measured ahead of the network, from one shard to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, tee
from operator import itemgetter

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
        self._parts = self._read(order)

    def groups(self, number: int) -> Iterator[Group[Measures]]:
        """The clips of a shard, by their rows in the index."""
        if self._order[:1] == [number]:
            self._order = self._order[1:]
        else:
            self._order, self._parts = [], self._read([number])
        _, groups = next(self._parts)
        for _, group in groups:
            yield group

    def _read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Iterator[tuple[int, Group[Measures]]]]]:
        planned, ahead = tee((number, rows) for number in numbers for rows in self._batches(number))
        groups = read_in_order(
            self._index.clips, (rows for _, rows in ahead), self._sample_rate, self._index.cut, self._measured,
            self._threads,
        )  # fmt: skip
        return groupby(zip((number for number, _ in planned), groups, strict=True), itemgetter(0))

    def _batches(self, number: int) -> Iterator[list[int]]:
        rows = self._shards.plan.rows[number]
        clips = self._index.clips[rows.start : rows.stop]
        batch = self._shards.plan.manifest.settings.batch
        for places in equally_long(clips, self._sample_rate, batch):
            yield [rows.start + place for place in places]

    def _measured(self, sound: Floats) -> Measures:
        return measure(sound, self._sample_rate), band_levels(sound, self._sample_rate)
