"""Moments: windows of about two seconds of every clip, whose vectors the index holds beside the clip's own.

A clip of ten seconds holds several sounds, and its vector is their mixture. The vector of the moment in which a unit
was strongest, or in which a text is heard, is that of the one sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config import MomentConfig
from ..errors import InputError
from ..faiss_index import Rows
from ..numerics import Doubles, chunks
from ..types import Floats, Spans

Halves = npt.NDArray[np.float16]

CHUNK_BYTES = 2**26
"""Of moments that are looked at in float32 at a time."""
ROUNDING = 1e-6  # seconds


def moment_counts(durations: Doubles, config: MomentConfig) -> Rows:
    """Number of moments of clips of these durations in seconds, int64 [clips]: 1 for a clip no longer than a moment."""
    beyond = np.maximum(durations - config.seconds, 0)
    return np.asarray(1 + np.ceil(beyond / config.hop - ROUNDING).clip(min=0), np.int64)


def moment_spans(duration: float, config: MomentConfig) -> Spans:
    """(start, end) of the moments of a clip in seconds: evenly spaced, no further apart than the hop.

    The first begins with the clip and the last ends with it. A clip no longer than a moment is one moment.
    """
    count = int(moment_counts(np.array([duration]), config)[0])
    if count == 1:
        return ((0.0, duration),)
    starts = np.linspace(0, duration - config.seconds, count).tolist()
    return tuple((start, start + config.seconds) for start in starts)


@dataclass(frozen=True)
class ClipMoments:
    """The moments of all clips of an index, clip after clip; every clip has at least one.

    Attributes:
        config: Their length and hop.
        durations: float64 [clips], of the clips in seconds.
        vectors: float16 [moments, dim], of unit length but for rounding; memory-mapped where they are stored.
    """

    config: MomentConfig
    durations: Doubles
    vectors: Halves

    def __post_init__(self) -> None:
        if len(self.vectors) != self.counts.sum():
            raise ValueError(f"{len(self.vectors)} vectors for {self.counts.sum()} moments")

    @cached_property
    def counts(self) -> Rows:
        """int64 [clips], number of moments of every clip."""
        return moment_counts(self.durations, self.config)

    @cached_property
    def first(self) -> Rows:
        """int64 [clips], row of the first moment of every clip; the others follow it."""
        return np.asarray(self.counts.cumsum() - self.counts)

    @cached_property
    def clips(self) -> Rows:
        """int64 [moments], row of the clip that each moment belongs to."""
        return np.repeat(np.arange(len(self.durations)), self.counts)

    @cached_property
    def total(self) -> Floats:
        """Sum over clips of the mean of their moments, float32 [dim]."""
        total = np.zeros(self.vectors.shape[1])
        for clips, moments in self.parts():
            starts = self.first[clips] - moments.start
            sums = np.add.reduceat(self.vectors[moments].astype(np.float32), starts, axis=0)
            total += (sums / self.counts[clips, None]).sum(axis=0, dtype=np.float64)
        return total.astype(np.float32)

    def span(self, row: int) -> tuple[float, float]:
        """(start, end) of a moment in seconds from the start of its clip."""
        clip = self.clips[row]
        start, end = moment_spans(float(self.durations[clip]), self.config)[row - self.first[clip]]
        return start, end

    def at(self, clips: npt.NDArray[np.integer], seconds: npt.NDArray[np.floating]) -> Rows:
        """The moment of each clip whose middle is nearest to a time: int64, shaped as `clips`; -1 where that is -1.

        Args:
            clips: int, rows of clips, or -1.
            seconds: float, shaped as `clips`, times from the start of each; NaN stands for the middle of the clip.
        """
        durations, count = self.durations[clips], self.counts[clips]
        step = (durations - self.config.seconds) / np.maximum(count - 1, 1)
        times = np.where(np.isfinite(seconds), seconds, durations / 2)
        place = np.rint((times - self.config.seconds / 2) / np.where(count > 1, step, 1))
        rows = self.first[clips] + np.clip(place, 0, count - 1).astype(np.int64)
        return np.where(clips >= 0, rows, -1)

    def take(self, rows: npt.NDArray[np.integer] | slice) -> Floats:
        """Vectors of moments, float32 [rows, dim]."""
        return self.vectors[rows].astype(np.float32)

    def of(self, clips: npt.NDArray[np.integer]) -> ClipMoments:
        """The moments of some clips, in the order of these."""
        counts = self.counts[clips]
        rows = np.arange(counts.sum()) + np.repeat(self.first[clips] - (counts.cumsum() - counts), counts)
        return ClipMoments(self.config, self.durations[clips], self.vectors[rows])

    def largest(self, score: Callable[[Floats], Floats]) -> tuple[Floats, Rows]:
        """The largest score of any moment of every clip, and the first moment that has it.

        Args:
            score: Vectors float32 [n, dim] -> float32 [n, scores].

        Returns:
            float32 and int64 (rows of moments), both [clips, scores].
        """
        scores, rows = [], []
        for clips, moments in self.parts():
            of_moments = score(self.take(moments))
            starts = self.first[clips] - moments.start
            largest = np.maximum.reduceat(of_moments, starts, axis=0)
            is_largest = of_moments >= np.repeat(largest, self.counts[clips], axis=0)
            place = np.arange(moments.start, moments.stop)[:, None]
            scores.append(largest)
            rows.append(np.minimum.reduceat(np.where(is_largest, place, len(self.vectors)), starts, axis=0))
        return np.concatenate(scores), np.concatenate(rows)

    def parts(self, scores: int = 0) -> Iterator[tuple[slice, slice]]:
        """Slices over the clips, and over their moments, few enough to hold their vectors and `scores` of each."""
        width = int(self.counts.max(initial=1)) * max(self.vectors.shape[1], scores)
        for clips in chunks(len(self.durations), width, CHUNK_BYTES, 4):
            last = clips.stop - 1
            yield clips, slice(int(self.first[clips.start]), int(self.first[last] + self.counts[last]))


def save_moments(blocks: Iterable[Halves], count: int, dim: int, path: Path) -> None:
    """Write the vectors of moments to a NumPy file, block after block.

    Args:
        blocks: float16 [any, dim], in order.
        count: Number of moments of all blocks.
        dim: Length of the vectors.
        path: The file.
    """
    header = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": (count, dim)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, np.float16).data)


def load_moments(path: Path, durations: Doubles, dim: int, config: MomentConfig) -> ClipMoments:
    """What `save_moments` wrote, memory-mapped.

    Args:
        path: Of the file.
        durations: float64 [clips], of the clips of the index in seconds.
        dim: Length of the vectors.
        config: How long the moments are.

    Raises:
        InputError: The file holds something else.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if vectors.dtype != np.float16 or vectors.shape[1:] != (dim,):
            raise ValueError(f"{vectors.dtype} {vectors.shape}")
        return ClipMoments(config, durations, vectors)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            f"{path} does not hold the moments of the index ({error}); make the index again"
        ) from None
