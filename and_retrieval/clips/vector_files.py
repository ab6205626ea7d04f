"""The vectors of an index as files, and where there are very many, a store that lists those that may be near a query.

A query is compared with directions: vectors less what all of them share, of unit length (`explanation.space`). The
store holds those of the moments, or of the clips where the index holds none. Scores are computed from the vectors.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import faiss_index
from ..errors import ChecksumError, DamagedError
from ..faiss_index import Finder, Rows
from ..files import remove
from ..neighbours import STORES, check_store
from ..numerics import Doubles, centred
from ..store import Folder, Stored, Writer
from ..types import Floats
from .manifest import IndexManifest
from .moments import ClipMoments, Halves, load_moments, moment_counts, save_moments

VECTORS, MOMENTS = "vectors.faiss", "moments.npy"
STORE, SUMS = "directions", "sums.npy"
"""Of the file that finds clips among very many, whose ending is that of the store; and what all vectors add up to."""
SHRINK = 3
"""Clips that the mean of an index is weighed against: the mean of very few clips is mostly what they are, not an
offset. What that leaves of an offset changes labels: of 96 clips, 10 instead of 3 changed 5 % of first labels under a
constant of length 0.7, and 3 changed 2 %. The means of `bench grid` are the same."""


_log = logging.getLogger(__name__)


def shared(total: Floats, clips: int) -> Floats:
    """What so many clips share, float32 [dim]: their mean, smaller where they are few.

    Args:
        total: Sum of a vector of each.
        clips: Number of clips.
    """
    centre: Floats = total / np.float32(clips + SHRINK)
    return centre


@dataclass(frozen=True)
class Directions:
    """The directions of vectors, computed as they are asked for.

    Attributes:
        vectors: [n, dim], mapped.
        centre: float32 [dim].
    """

    vectors: Floats | Halves
    centre: Floats

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | Rows) -> Floats:
        return centred(self.vectors[rows].astype(np.float32), self.centre)


@dataclass(frozen=True)
class ClipFinder:
    """Finds clips that are probably near to a query.

    Attributes:
        finder: Finds moments, or clips where the index holds none.
        moments: Of the index.
    """

    finder: Finder
    moments: ClipMoments | None

    def near(self, query: Floats, k: int, least: int) -> Rows | None:
        """Clips to which k of the nearest moments belong, int64 [at least `least`], ascending; None if they are fewer.

        Args:
            query: float32 [dim] of unit length.
            k: Number of moments.
            least: Number of clips that are needed.
        """
        rows = self.finder.near(query[None], k, None)[0]
        rows = rows[(rows >= 0) & (rows < self.finder.count)]
        if self.moments is not None:
            rows = np.searchsorted(self.moments.first, rows, side="right") - 1
        clips = np.unique(rows)
        return clips if len(clips) >= least else None


@contextmanager
def vector_files(
    folder: Folder,
    made: IndexManifest,
    vectors: Iterable[Floats],
    moments: Iterable[Halves],
    durations: Doubles,
    before: Stored[IndexManifest] | None = None,
) -> Iterator[dict[str, Writer | str | Path]]:
    """The files of the vectors of an index, to be committed within the block.

    Args:
        folder: Of the index.
        made: What it is to say of itself.
        vectors: Of its clips, float32 [any, dim], in order.
        moments: Of their moments, float16 [any, dim], in order; left alone where the index holds none.
        durations: float64 [clips], seconds.
        before: An index of the same vectors; if it has the same store, and that is not damaged, it is taken over.

    Raises:
        MissingExtraError: The store needs a package that is not installed.
    """
    scratch = {
        name: folder.scratch(name) for name in ([VECTORS] if made.moments is None else [VECTORS, MOMENTS])
    }
    try:
        faiss_index.save_blocks(vectors, made.clips, made.dim, scratch[VECTORS])
        of_moments = None
        if made.moments is not None:
            count = int(moment_counts(durations, made.moments).sum())
            save_moments(moments, count, made.dim, scratch[MOMENTS])
            of_moments = load_moments(scratch[MOMENTS], durations, made.dim, made.moments)
        files: dict[str, Writer | str | Path] = dict(scratch)
        store = STORES[made.store]
        name = STORE + store.file
        of_clips = faiss_index.stored(faiss_index.load(scratch[VECTORS]))
        compared = of_clips if of_moments is None else of_moments.vectors
        if before is not None and name in before.files and _is_whole(before, of_moments):
            files |= {file: partial(_copy, before.file(file)) for file in (SUMS, name)}
        elif len(compared) >= faiss_index.APPROXIMATE_FROM:
            total = of_clips.sum(axis=0)
            sums = np.stack([total, total if of_moments is None else of_moments.total])
            directions = Directions(compared, shared(sums[1], made.clips))
            files[SUMS] = partial(_save, sums)
            files[name] = lambda to: store.write(directions, to)
        yield files
    finally:
        for path in scratch.values():
            path.unlink(missing_ok=True)


def check_finder(stored: Stored[IndexManifest]) -> None:
    """Raise MissingExtraError if what finds clips of an index needs a package that is not installed."""
    store = stored.manifest.store
    if STORE + STORES[store].file in stored.files:
        check_store(store, stored.folder.path.name)


def load_finder(stored: Stored[IndexManifest], moments: ClipMoments | None) -> ClipFinder | None:
    """What finds clips of an index, or None where all are compared.

    Raises:
        DamagedError: The store is damaged, missing, or of other vectors.
        MissingExtraError: The store needs a package that is not installed.
    """
    made = stored.manifest
    store = STORES[made.store]
    name = STORE + store.file
    if name not in stored.files:
        return None
    check_finder(stored)
    try:
        finder = store.open(stored.file(name))
    except (ChecksumError, DamagedError):
        finder = None
    if finder is None or finder.count != (made.clips if moments is None else len(moments.vectors)):
        raise DamagedError(
            f"{stored.folder.path / stored.files[name].path} is missing or damaged; run `index` again: it makes "
            "that file again from the stored vectors and embeds no clip again"
        )
    return ClipFinder(finder, moments)


def load_sums(stored: Stored[IndexManifest]) -> Floats | None:
    """What the vectors of an index add up to, or None where that has to be computed, which takes reading all of them.

    Returns:
        float32 [2, dim]: the sum of the vectors of all clips, and of the means of their moments, or again the first
        where the index holds no moments.
    """
    if SUMS not in stored.files:
        return None
    try:
        sums: Floats = np.load(stored.file(SUMS), allow_pickle=False)
    except (ChecksumError, ValueError):
        return None
    return sums if sums.shape == (2, stored.manifest.dim) else None


def _is_whole(stored: Stored[IndexManifest], moments: ClipMoments | None) -> bool:
    """Whether the store of an index and its sums can be taken over."""
    try:
        return load_finder(stored, moments) is not None and load_sums(stored) is not None
    except DamagedError as error:
        _log.warning("%s", str(error).partition(";")[0] + ": it is made again from the stored vectors")
        return False


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        remove(to)
        shutil.copytree(path, to)
    else:
        shutil.copyfile(path, to)


def _save(sums: Floats, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, sums.astype(np.float32), allow_pickle=False)
