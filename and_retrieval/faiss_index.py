"""FAISS inner-product indexes over unit-length vectors, exact or approximate, and a brute-force search to test them."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .errors import DamagedError, InputError
from .faiss_file import NotAnIndexError, check
from .types import Floats

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

APPROXIMATE_FROM = 50_000  # vectors; an exact search over these takes 10 ms, less than embedding the query

# Settings of an approximate index. `bench search` measures their effect over a million vectors.
REDUCED = 176  # dimensions of the first comparison
LISTS_PER_ROOT = 8  # the number of lists is this times the square root of the number of vectors
PROBES = 64  # least number of lists searched for a query
CANDIDATES = 250  # vectors whose exact scores are computed, in addition to the number of results
TRAINED_ON = 20  # vectors for every list from which the centres are computed
ROUNDS = 6  # iterations of k-means
SCANNED = 20_000  # up to this number of allowed rows, all of them are compared
CHUNK = 65_536  # vectors added at a time

# Of the file of an exact index: how it begins, and where the number of its vectors is.
EXACT = b"IxFI"
ROWS_AT = 8


def build(vectors: Floats) -> faiss.Index:
    """Exact inner-product index over float32 [n, dim]; for unit-length vectors the score is the cosine."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def build_approximate(vectors: Floats) -> faiss.Index:
    """Inner-product index over float32 [n, dim] that compares a query with only a small part of the vectors.

    Vectors are reduced to their principal directions, stored with 16 bits per dimension, and divided into lists around
    k-means centres (FAISS IVF). The lists nearest to a query are searched, and the best candidates are ranked by their
    exact scores. So scores are exact, but rows may be missed. The principal directions are those of the vectors without
    centring; FAISS's PCA centres the vectors, which changes their inner products.

    The index is built by one thread, so that the same vectors give the same bytes.
    """
    rows, dim = vectors.shape
    lists = max(1, round(LISTS_PER_ROOT * rows**0.5))
    sample = np.ascontiguousarray(
        vectors[np.linspace(0, rows - 1, min(rows, TRAINED_ON * lists)).astype(np.int64)], dtype=np.float32
    )
    lists = min(lists, rows)
    with threadpool_limits(1):
        directions = _principal(sample, min(dim, REDUCED))
        reduced = len(directions)
        inverted = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(reduced),
            reduced,
            lists,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,
        )
        inverted.cp.niter = ROUNDS
        inverted.cp.min_points_per_centroid = 1
        inverted.cp.max_points_per_centroid = TRAINED_ON
        index = faiss.IndexRefineFlat(faiss.IndexPreTransform(_linear(directions), inverted))
        index.train(sample)
        for first in range(0, rows, CHUNK):
            index.add(np.ascontiguousarray(vectors[first : first + CHUNK], dtype=np.float32))
    return index


def search(index: faiss.Index, queries: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
    """The nearest rows of each query: scores float32 and rows int64, both [queries, min(k, rows)], best first.

    Args:
        index: An exact or approximate index.
        queries: Query vectors, [queries, dim].
        k: Number of results.
        among: bool [n], the rows to choose from; None for all rows.

    Raises:
        InputError: The queries have other dimensions than the index, or k is below 1.
    """
    if k < 1:
        raise InputError(f"{k} results were asked for; ask for 1 or more")
    if queries.shape[1] != index.d:
        raise InputError(
            f"query vectors have {queries.shape[1]} dimensions, the index {index.d}; use the index's embedder"
        )
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    rows = index.ntotal if among is None else int(among.sum())
    k = min(k, rows)
    if k == 0:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    if among is not None and rows <= SCANNED:
        return _scanned(index, np.flatnonzero(among), queries, k)
    # One bit for every row; FAISS keeps only a pointer to the array.
    bits = None if among is None else np.packbits(among, bitorder="little")
    chosen = None if bits is None else faiss.IDSelectorBitmap(bits.size, faiss.swig_ptr(bits))
    if not isinstance(index, faiss.IndexRefineFlat):
        parameters = faiss.SearchParameters()
        parameters.sel = chosen
        return index.search(queries, k, params=parameters)
    lists = faiss.extract_index_ivf(index.base_index).nlist
    scores, nearest = _refined(index, queries, k, chosen, _probes(lists, index.ntotal, rows, k))
    if (nearest < 0).any():  # the searched lists hold fewer than k of the allowed rows
        scores, nearest = _refined(index, queries, k, chosen, lists)
    return scores, nearest


def brute_force(vectors: Floats, queries: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
    """The result that `search` must give, computed by a matrix product and a stable sort."""
    chosen = np.arange(len(vectors)) if among is None else np.flatnonzero(among)
    scores = queries @ vectors[chosen].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), chosen[best].astype(np.int64)


def stored(index: faiss.Index, rows: Rows | None = None) -> Floats:
    """The vectors of an index, float32 [n, dim], or those of the given rows; all of an exact index are not copied."""
    if rows is None and isinstance(index, faiss.IndexFlat):
        vectors: Floats = np.asarray(_Vectors(index))
    elif rows is None:
        vectors = index.reconstruct_n(0, index.ntotal)
    else:
        vectors = index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))
    return vectors


class _Vectors:
    """The vectors of an exact index where they lie, as an array that keeps the index alive and cannot be written to."""

    def __init__(self, index: faiss.IndexFlat) -> None:
        self.index = index
        flat: Floats = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
        flat.flags.writeable = False
        self.__array_interface__ = {**flat.__array_interface__, "shape": (index.ntotal, index.d)}


def save_blocks(blocks: Iterable[Floats], rows: int, dim: int, path: Path) -> None:
    """Write the file that `save` writes of `build(vectors)`, block after block, without holding all vectors.

    Args:
        blocks: float32 [any, dim], in order.
        rows: Number of vectors of all blocks.
        dim: Length of the vectors.
        path: The file.
    """
    head = bytearray(faiss.serialize_index(faiss.IndexFlatIP(dim)).tobytes())
    head[ROWS_AT : ROWS_AT + 8] = rows.to_bytes(8, "little")
    head[-8:] = (rows * dim).to_bytes(8, "little")  # the numbers that follow
    with path.open("wb") as stream:
        stream.write(head)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, np.float32).data)


def save(index: faiss.Index, path: Path) -> None:
    """Write an index to a file.

    Raises:
        OSError: The disk has no room for it.
    """
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS does not say which error it was
        raise OSError(errno.ENOSPC, "the vectors could not be written, no space left", str(path)) from error


def load(path: Path) -> faiss.Index:
    """Read an index from a file; the vectors of an exact one are mapped, not loaded.

    Raises:
        DamagedError: The file is not an index that `save` wrote of one that this module builds.
    """
    try:
        check(path)
        with path.open("rb") as stream:
            is_exact = stream.read(len(EXACT)) == EXACT
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if is_exact else 0)
    except (NotAnIndexError, RuntimeError, FileNotFoundError):
        raise DamagedError(f"{path} is not a FAISS index; make it again") from None


def _probes(lists: int, total: int, rows: int, k: int) -> int:
    """Number of lists to search: it grows with the number of results, and as fewer rows are allowed."""
    needed = max(PROBES, 2 * (k + CANDIDATES) * lists / total)
    return min(lists, int(np.ceil(needed * total / rows)))


def _refined(
    index: faiss.IndexRefineFlat, queries: Floats, k: int, chosen: faiss.IDSelector | None, probes: int
) -> tuple[Floats, Rows]:
    lists = faiss.SearchParametersIVF()
    lists.nprobe, lists.sel = probes, chosen
    reduced = faiss.SearchParametersPreTransform()
    reduced.index_params = lists
    parameters = faiss.IndexRefineSearchParameters()
    parameters.k_factor = (k + CANDIDATES) / k
    parameters.base_index_params = reduced
    return index.search(queries, k, params=parameters)


def _scanned(index: faiss.Index, rows: Rows, queries: Floats, k: int) -> tuple[Floats, Rows]:
    scores, best = brute_force(stored(index, rows), queries, k)
    return scores, rows[best]


def _principal(sample: Floats, count: int) -> Floats:
    """The directions that carry most of the inner products of float32 [n, dim]; float32 [count, dim]."""
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    return np.ascontiguousarray(directions[:, ::-1][:, :count].T, dtype=np.float32)


def _linear(matrix: Floats) -> faiss.LinearTransform:
    transform = faiss.LinearTransform(matrix.shape[1], matrix.shape[0], False)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    return transform
