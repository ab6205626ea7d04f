"""FAISS inner-product indexes over unit-length vectors, exact or approximate, and their brute-force twin for tests."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .errors import InputError
from .types import Floats

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

APPROXIMATE_FROM = 50_000  # vectors; an exact search of as many takes 10 ms, less than embedding its query

# Of an approximate index. `bench search` measures what they give over a million vectors.
REDUCED = 176  # dimensions that are compared first
LISTS_PER_ROOT = 8  # times the square root of the number of vectors: lists they are divided into
PROBES = 64  # lists looked into
CANDIDATES = 250  # vectors whose exact scores are then compared, besides as many as are wanted
TRAINED_ON = 20  # vectors per list that the lists' centres are made from
ROUNDS = 6  # of k-means
SCANNED = 20_000  # as few rows to choose from are compared one by one
CHUNK = 65_536  # vectors added at a time


def build(vectors: Floats) -> faiss.Index:
    """Exact inner-product index over float32 [n, dim]; on unit vectors the score is the cosine."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def build_approximate(vectors: Floats) -> faiss.Index:
    """Inner-product index over float32 [n, dim] that compares a query with a small part of the vectors.

    Vectors are reduced to their principal directions, held in 16 bits a dimension, and divided into lists around
    k-means centres (FAISS IVF); the lists nearest to a query are searched, and the exact scores of the best
    candidates decide. Scores are therefore exact, rows may be missed. The principal directions are those of the
    vectors as they are: inner products with the centred ones, which FAISS's own PCA takes, would be others.

    One thread builds it, so that the same vectors give the same bytes.
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
        index: Exact or approximate.
        queries: [queries, dim].
        k: Results wanted.
        among: bool [n], the rows to choose from; None for all.

    Raises:
        InputError: The queries' length is not the index's, or k is below 1.
    """
    if k < 1:
        raise InputError(f"{k} results asked for; ask for 1 or more")
    if queries.shape[1] != index.d:
        raise InputError(
            f"query vectors have {queries.shape[1]} dimensions, the index {index.d}; use its embedder"
        )
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    rows = index.ntotal if among is None else int(among.sum())
    k = min(k, rows)
    if k == 0:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    if among is not None and rows <= SCANNED:
        return _scanned(index, np.flatnonzero(among), queries, k)
    # A bit for every row; FAISS keeps only a pointer to it.
    bits = None if among is None else np.packbits(among, bitorder="little")
    chosen = None if bits is None else faiss.IDSelectorBitmap(bits.size, faiss.swig_ptr(bits))
    if not isinstance(index, faiss.IndexRefineFlat):
        parameters = faiss.SearchParameters()
        parameters.sel = chosen
        return index.search(queries, k, params=parameters)
    lists = faiss.extract_index_ivf(index.base_index).nlist
    scores, found = _refined(index, queries, k, chosen, _probes(lists, index.ntotal, rows, k))
    if (found < 0).any():  # the lists looked into hold fewer than k of the rows to choose from
        scores, found = _refined(index, queries, k, chosen, lists)
    return scores, found


def brute_force(vectors: Floats, queries: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
    """What `search` must return, by one matrix product and a stable sort."""
    chosen = np.arange(len(vectors)) if among is None else np.flatnonzero(among)
    scores = queries @ vectors[chosen].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), chosen[best].astype(np.int64)


def stored(index: faiss.Index, rows: Rows | None = None) -> Floats:
    """The vectors of an index, float32 [n, dim], or those of some rows."""
    if rows is None:
        vectors: Floats = index.reconstruct_n(0, index.ntotal)
    else:
        vectors = index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))
    return vectors


def save(index: faiss.Index, path: Path) -> None:
    """Write an index to a file."""
    faiss.write_index(index, str(path))


def load(path: Path) -> faiss.Index:
    """Read an index from a file.

    Raises:
        InputError: Not an index.
    """
    try:
        return faiss.read_index(str(path))
    except RuntimeError:
        raise InputError(f"{path} is not a FAISS index; make it again") from None


def _probes(lists: int, total: int, rows: int, k: int) -> int:
    """Lists to look into: more where more results are wanted, and where fewer of the rows may be chosen."""
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
    """The directions in which the inner products of float32 [n, dim] mostly lie, float32 [count, dim]."""
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    return np.ascontiguousarray(directions[:, ::-1][:, :count].T, dtype=np.float32)


def _linear(matrix: Floats) -> faiss.LinearTransform:
    transform = faiss.LinearTransform(matrix.shape[1], matrix.shape[0], False)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    return transform
