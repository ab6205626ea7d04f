"""Reading the sounds of many clips in order, ahead of the work on them.

Beside a network on a CPU, which keeps the cores busy, one thread decodes. A GPU leaves the cores free and waits for the
sounds, so more threads share the clips there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ..config import ClipConfig
from ..types import Clip, Floats, Skipped
from .files import UnreadableAudioError
from .records import clip_place
from .source import read_clip

AHEAD = 1
"""Groups that are read while one is worked on."""


def read_in_order(
    clips: Sequence[Clip],
    rows: Iterable[Sequence[int]],
    sample_rate: int,
    config: ClipConfig,
    measure: Callable[[int, Floats], None] | None = None,
    threads: int = 1,
) -> Iterator[tuple[list[int], list[Floats], list[Skipped]]]:
    """Read groups of clips ahead of the work: threads decode and measure beside it.

    Args:
        clips: All clips.
        rows: Groups of them.
        sample_rate: Hz.
        config: How they were cut.
        measure: Is called with the row and the waveform of every clip that could be read, in those threads.
        threads: Number of threads, see `devices.decoding_threads`; what they give does not depend on it.

    Yields:
        For each group the rows that could be read, their waveforms at `sample_rate`, and the misses.
    """

    def read(row: int) -> Floats | Skipped:
        try:
            sound = read_clip(clips[row], sample_rate, config)
        except UnreadableAudioError as error:
            return Skipped(clip_place(clips[row]), str(error))
        if measure is not None:
            measure(row, sound)
        return sound

    with ThreadPoolExecutor(max_workers=threads) as pool:
        ahead: deque[tuple[Sequence[int], list[Future[Floats | Skipped]]]] = deque()
        for group in rows:
            ahead.append((group, [pool.submit(read, row) for row in group]))
            if len(ahead) > AHEAD:
                yield _sorted(*ahead.popleft())
        while ahead:
            yield _sorted(*ahead.popleft())


def _sorted(
    group: Sequence[int], readings: Sequence[Future[Floats | Skipped]]
) -> tuple[list[int], list[Floats], list[Skipped]]:
    """The rows of a group that could be read, their waveforms, and the misses."""
    results = [reading.result() for reading in readings]
    good = [row for row, result in zip(group, results, strict=True) if not isinstance(result, Skipped)]
    sounds = [result for result in results if not isinstance(result, Skipped)]
    return good, sounds, [result for result in results if isinstance(result, Skipped)]
