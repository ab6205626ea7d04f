"""Reading the sounds of many clips in order, ahead of the work on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..config import ClipConfig
from ..types import Clip, Floats, Skipped
from .files import UnreadableAudioError
from .records import clip_place
from .source import read_clip


def read_in_order(
    clips: Sequence[Clip],
    rows: Iterable[Sequence[int]],
    sample_rate: int,
    config: ClipConfig,
    measure: Callable[[int, Floats], None] | None = None,
) -> Iterator[tuple[list[int], list[Floats], list[Skipped]]]:
    """Read groups of clips, one group ahead of the work: a thread decodes and measures beside it.

    Args:
        clips: All clips.
        rows: Groups of them.
        sample_rate: Hz.
        config: How they were cut.
        measure: Is called with the row and the waveform of every clip that could be read, in that thread.

    Yields:
        For each group the rows that could be read, their waveforms at `sample_rate`, and the misses.
    """

    def read(group: Sequence[int]) -> tuple[list[int], list[Floats], list[Skipped]]:
        good: list[int] = []
        sounds: list[Floats] = []
        misses: list[Skipped] = []
        for row in group:
            try:
                sound = read_clip(clips[row], sample_rate, config)
            except UnreadableAudioError as error:
                misses.append(Skipped(clip_place(clips[row]), str(error)))
                continue
            sounds.append(sound)
            good.append(row)
            if measure is not None:
                measure(row, sound)
        return good, sounds, misses

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = None
        for group in rows:
            following = pool.submit(read, group)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()
