"""Reading the sounds of many clips in order, ahead of the work on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..config import ClipConfig
from ..types import Clip, Floats, Skipped
from .files import UnreadableAudioError
from .records import clip_place
from .source import read_clip

Measured = TypeVar("Measured")
_Read = tuple[list[int], list[Floats], list[Skipped]]


@dataclass(frozen=True, slots=True)
class Group(Generic[Measured]):
    """Clips that were read together.

    Attributes:
        rows: Of those that could be read.
        sounds: Their waveforms.
        misses: The others, with the reason.
        measured: What was measured of every sound, as soon as that is done.
    """

    rows: list[int]
    sounds: list[Floats]
    misses: list[Skipped]
    measured: Future[list[Measured]]


def read_in_order(
    clips: Sequence[Clip],
    rows: Iterable[Sequence[int]],
    sample_rate: int,
    config: ClipConfig,
    measure: Callable[[Floats], Measured] | None = None,
) -> Iterator[Group[Measured]]:
    """Read groups of clips, one group ahead of the work: a thread decodes and measures beside it.

    A group is handed over before it is measured, so that the work on the first one begins as soon as it is read.

    Args:
        clips: All clips.
        rows: Groups of them.
        sample_rate: Hz.
        config: How they were cut.
        measure: Is called in that thread with the waveform of every clip that could be read.
    """

    def read(group: Sequence[int]) -> _Read:
        good: list[int] = []
        sounds: list[Floats] = []
        misses: list[Skipped] = []
        for row in group:
            try:
                sounds.append(read_clip(clips[row], sample_rate, config))
                good.append(row)
            except UnreadableAudioError as error:
                misses.append(Skipped(clip_place(clips[row]), str(error)))
        return good, sounds, misses

    def measured(sounds: Sequence[Floats]) -> list[Measured]:
        return [measure(sound) for sound in sounds] if measure is not None else []

    pool = ThreadPoolExecutor(max_workers=1)

    def begin(group: Sequence[int]) -> tuple[Future[_Read], Future[list[Measured]]]:
        reading = pool.submit(read, group)
        return reading, pool.submit(lambda: measured(reading.result()[1]))

    try:
        ahead = None
        for group in rows:
            following = begin(group)
            if ahead is not None:
                yield Group(*ahead[0].result(), ahead[1])
            ahead = following
        if ahead is not None:
            yield Group(*ahead[0].result(), ahead[1])
    finally:
        pool.shutdown(cancel_futures=True)
