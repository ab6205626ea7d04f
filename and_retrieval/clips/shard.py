"""One shard of an index: the vectors of a run of successive clips, in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..checkpoints.devices import decoding_threads, resolve_device
from ..embed import checked_embedder, load_embedder
from ..embed.user import CheckedEmbedder
from ..errors import InputError
from ..faiss_index import Rows
from ..progress import Progress, silent
from ..shards.folder import Shards
from ..shards.plan import check_made_by
from ..shards.tensors import Shapes, new_tensors
from ..types import Clip, Skipped
from .index import CLIPS
from .manifest import IndexManifest, IndexPlan
from .moments import moment_counts, moment_spans
from .reading import Group, read_in_order
from .records import durations_of, read_records

BATCH = 32  # clips read, decoded and embedded at a time


@dataclass(frozen=True)
class ShardEmbedder:
    """Embeds shards.

    Attributes:
        embedder: Makes the vectors.
        clips: All clips that join the index.
        shards: The plan, and where to put the shards.
        device: Where the embedder is.
        progress: Called with the number of clips of a shard that are done, and of all clips of it.
    """

    embedder: CheckedEmbedder
    clips: Sequence[Clip]
    shards: Shards[IndexPlan]
    device: torch.device
    progress: Progress = silent

    def embed(self, number: int) -> None:
        """Embed the shard of a number."""
        rows = self.shards.rows[number]
        clips = self.clips[rows.start : rows.stop]
        self.shards.leave(number, lambda path: self._write(clips, path))

    def _write(self, clips: Sequence[Clip], path: Path) -> list[Skipped]:
        """Write the vectors of clips; returns those that could not be read."""
        made = self.shards.plan.manifest
        counts = clip_moment_counts(clips, made)
        ends = counts.cumsum()
        tensors = new_tensors(path, _shapes(len(clips), int(counts.sum()), made.dim))
        groups = [range(begin, min(begin + BATCH, len(clips))) for begin in range(0, len(clips), BATCH)]
        skipped: list[Skipped] = []
        done = 0
        threads, rate = decoding_threads(self.device), self.embedder.sample_rate
        read: Iterator[Group[None]] = read_in_order(clips, groups, rate, made.cut, threads=threads)
        for group in read:
            rows, sounds = group.rows, group.sounds
            if sounds and made.moments is None:
                tensors["vectors"][rows] = self.embedder.embed_audio(sounds)
            elif sounds and made.moments is not None:
                parts = [moment_spans(clips[row].duration, made.moments) for row in rows]
                tensors["vectors"][rows], of_moments = self.embedder.embed_with_moments(sounds, parts)
                for row, vectors in zip(rows, of_moments, strict=True):
                    tensors["moments"][ends[row] - counts[row] : ends[row]] = vectors
            tensors["read"][rows] = True
            skipped += group.misses
            done += len(rows) + len(group.misses)
            self.progress(done, len(clips))
        return skipped


def clip_moment_counts(clips: Sequence[Clip], made: IndexManifest) -> Rows:
    """Number of moments of each clip in an index, int64 [clips]; 0 where it holds none."""
    if made.moments is None:
        return np.zeros(len(clips), np.int64)
    return moment_counts(durations_of(clips), made.moments)


def _shapes(clips: int, moments: int, dim: int) -> Shapes:
    """The tensors of a shard; `read` says which of the clips could be read, the others have no vectors."""
    return {
        "vectors": (np.float32, (clips, dim)),
        "moments": (np.float16, (moments, dim)),
        "read": (np.bool_, (clips,)),
    }


@dataclass(frozen=True)
class EmbedJob:
    """Embedding in another process, which loads the embedder by its name.

    Attributes:
        shards: Folder of the shards.
        device: Where the embedder is to run.
    """

    shards: Path
    device: str

    def start(self) -> Callable[[int], None]:
        """Load the embedder; returns the function that embeds a shard.

        Raises:
            InputError: It cannot be loaded by its name, or it or this program is another than that of the plan.
        """
        shards = Shards.open(self.shards, IndexPlan)
        check_made_by(shards.plan.made_by)
        made = shards.plan.manifest
        embedder = checked_embedder(load_embedder(made.embedder, self.device))
        if embedder.fingerprint != made.embedder_fingerprint:
            raise InputError(
                f"embedder {made.embedder!r} is another when it is loaded again ({embedder.fingerprint}, not "
                f"{made.embedder_fingerprint}), so other processes cannot embed with it; use one worker"
            )
        clips = read_records(shards.planned_file(CLIPS), Clip)[shards.plan.kept :]
        return ShardEmbedder(embedder, clips, shards, resolve_device(self.device)).embed
