"""FAISS inner-product indexes over unit-length vectors, which are mapped, and a brute-force search to test them."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

from .errors import DamagedError, InputError
from .faiss_file import NotAnIndexError, check
from .types import Floats

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

APPROXIMATE_FROM = 50_000  # vectors; to compare all of these takes 10 ms, less than embedding the query
SCANNED = 20_000  # up to this number of allowed rows, all of them are compared
ROWS_AT = 8  # in the file of an index, the number of its vectors


class Finder(Protocol):
    """Finds vectors that are probably near to a query, without looking at all of them, see `neighbours`."""

    @property
    def count(self) -> int:
        """Number of vectors."""
        ...

    def near(self, queries: Floats, k: int, among: Mask | None) -> Rows:
        """Candidates for the k nearest rows of each query, int64 [queries, any], in any order; -1 stands for none.

        Args:
            queries: float32 [queries, dim].
            k: Results wanted.
            among: bool [n], the rows to choose from; None for all.
        """
        ...


def build(vectors: Floats) -> faiss.IndexFlat:
    """Exact inner-product index over float32 [n, dim]; for unit-length vectors the score is the cosine."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def search(
    index: faiss.IndexFlat, queries: Floats, k: int, among: Mask | None = None, finder: Finder | None = None
) -> tuple[Floats, Rows]:
    """The nearest rows of each query: scores float32 and rows int64, both [queries, min(k, rows)], best first.

    Args:
        index: The vectors.
        queries: Query vectors, [queries, dim].
        k: Number of results.
        among: bool [n], the rows to choose from; None for all rows.
        finder: Finds candidates among very many vectors; without one, all vectors are compared. Scores are exact
            either way, but rows may be missed.

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
    if finder is not None:
        candidates = finder.near(queries, k, among)
        if candidates.shape[1] >= k and (np.sort(candidates, axis=1)[:, -k] >= 0).all():
            return _scored(index, queries, k, candidates)
    # One bit for every row; FAISS keeps only a pointer to the array.
    bits = None if among is None else np.packbits(among, bitorder="little")
    chosen = None if bits is None else faiss.IDSelectorBitmap(bits.size, faiss.swig_ptr(bits))
    parameters = faiss.SearchParameters()
    parameters.sel = chosen
    return index.search(queries, k, params=parameters)


def brute_force(vectors: Floats, queries: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
    """The result that `search` must give, computed by a matrix product and a stable sort."""
    chosen = np.arange(len(vectors)) if among is None else np.flatnonzero(among)
    scores = queries @ vectors[chosen].T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), chosen[best].astype(np.int64)


def stored(index: faiss.IndexFlat, rows: Rows | None = None) -> Floats:
    """The vectors of an index, float32 [n, dim], which are not copied, or those of the given rows."""
    vectors: Floats = np.asarray(_Vectors(index))
    if rows is not None:
        vectors = index.reconstruct_batch(np.ascontiguousarray(rows, dtype=np.int64))
    return vectors


class _Vectors:
    """The vectors of an index where they lie, as an array that keeps the index alive and cannot be written to."""

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


def save(index: faiss.IndexFlat, path: Path) -> None:
    """Write an index to a file.

    Raises:
        OSError: The disk has no room for it.
    """
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS does not say which error it was
        raise OSError(errno.ENOSPC, "the vectors could not be written, no space left", str(path)) from error


def load(path: Path) -> faiss.IndexFlat:
    """Read an index from a file; its vectors are mapped, not loaded.

    Raises:
        DamagedError: The file is not an index that `save` wrote of one that this module builds.
    """
    try:
        check(path)
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (NotAnIndexError, RuntimeError, FileNotFoundError):
        raise DamagedError(f"{path} is not a FAISS index; make it again") from None
    mapped: faiss.IndexFlat = index
    return mapped


def _scored(index: faiss.IndexFlat, queries: Floats, k: int, candidates: Rows) -> tuple[Floats, Rows]:
    """The k best of candidates, int64 [queries, any] with at least k of each, by their exact scores."""
    candidates = np.ascontiguousarray(candidates)
    scores = np.empty(candidates.shape, np.float32)
    products: Any = faiss.fvec_inner_products_by_idx  # type: ignore[attr-defined]
    products(
        faiss.swig_ptr(scores),
        faiss.swig_ptr(queries),
        index.get_xb(),
        faiss.swig_ptr(candidates),
        index.d,
        *candidates.shape,
    )
    scores[candidates < 0] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(candidates, best, axis=1)


def _scanned(index: faiss.IndexFlat, rows: Rows, queries: Floats, k: int) -> tuple[Floats, Rows]:
    scores, best = brute_force(stored(index, rows), queries, k)
    return scores, rows[best]
