"""Reading the sounds of many clips in order, ahead of the work on them.

Beside a network on a CPU, which keeps the cores busy, one thread decodes. A GPU leaves the cores free and waits for the
sounds, so more threads share the clips there.
"""

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
_Reading = Future[Floats | Skipped]


@dataclass(frozen=True, slots=True)
class Group(Generic[Measured]):
    """Clips that were read together.

    Attributes:
        rows: Of those that could be read.
        sounds: Their waveforms.
        misses: The others, with the reason.
        measured: Gives what was measured of every sound, as soon as that is done.
    """

    rows: list[int]
    sounds: list[Floats]
    misses: list[Skipped]
    measured: Callable[[], list[Measured]]


def read_in_order(
    clips: Sequence[Clip],
    rows: Iterable[Sequence[int]],
    sample_rate: int,
    config: ClipConfig,
    measure: Callable[[Floats], Measured] | None = None,
    threads: int = 1,
) -> Iterator[Group[Measured]]:
    """Read groups of clips, one group ahead of the work: threads decode and measure beside it.

    A group is handed over before it is measured, so that the work on the first one begins as soon as it is read.

    Args:
        clips: All clips.
        rows: Groups of them.
        sample_rate: Hz.
        config: How they were cut.
        measure: Is called in those threads with the waveform of every clip that could be read.
        threads: Number of threads, see `devices.decoding_threads`; what they give does not depend on it.
    """

    def read(row: int) -> Floats | Skipped:
        try:
            return read_clip(clips[row], sample_rate, config)
        except UnreadableAudioError as error:
            return Skipped(clip_place(clips[row]), str(error))

    def measured(reading: _Reading) -> list[Measured]:
        sound = reading.result()
        return [] if measure is None or isinstance(sound, Skipped) else [measure(sound)]

    pool = ThreadPoolExecutor(threads)

    def begin(group: Sequence[int]) -> Callable[[], Group[Measured]]:
        readings = [pool.submit(read, row) for row in group]
        measuring = [pool.submit(measured, reading) for reading in readings]
        return lambda: _finished(group, readings, measuring)

    stopped = True
    try:
        ahead = None
        for group in rows:
            following = begin(group)
            if ahead is not None:
                yield ahead()
            ahead = following
        if ahead is not None:
            yield ahead()
        stopped = False
    finally:
        pool.shutdown(cancel_futures=stopped)  # what was handed over is measured to its end


def _finished(
    group: Sequence[int], readings: Sequence[_Reading], measuring: Sequence[Future[list[Measured]]]
) -> Group[Measured]:
    """A group as soon as all of it is read."""
    results = dict(zip(group, (reading.result() for reading in readings), strict=True))
    sounds = {row: result for row, result in results.items() if not isinstance(result, Skipped)}
    misses = [result for result in results.values() if isinstance(result, Skipped)]
    return Group(
        list(sounds),
        list(sounds.values()),
        misses,
        lambda: [value for of in measuring for value in of.result()],
    )
