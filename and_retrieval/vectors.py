"""FAISS inner-product indexes over unit-length vectors, and their brute-force twin for tests."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .types import Floats

Rows = npt.NDArray[np.int64]


def build(vectors: Floats) -> faiss.Index:
    """Exact inner-product index over float32 [n, dim]; on unit vectors the score is the cosine."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return index


def search(index: faiss.Index, queries: Floats, k: int) -> tuple[Floats, Rows]:
    """The k nearest rows of each query: scores float32 and rows int64, both [queries, min(k, n)], best first.

    Raises:
        InputError: The queries' length is not the index's, or k is below 1.
    """
    if k < 1:
        raise InputError(f"{k} results asked for; ask for 1 or more")
    if queries.shape[1] != index.d:
        raise InputError(
            f"query vectors have {queries.shape[1]} dimensions, the index {index.d}; use its embedder"
        )
    scores, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), min(k, index.ntotal))
    return scores, rows


def brute_force(vectors: Floats, queries: Floats, k: int) -> tuple[Floats, Rows]:
    """What `search` must return, by one matrix product and a stable sort."""
    scores = queries @ vectors.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, len(vectors))]
    return np.take_along_axis(scores, rows, axis=1), rows.astype(np.int64)


def stored(index: faiss.Index) -> Floats:
    """The vectors of an index, float32 [n, dim]."""
    vectors: Floats = index.reconstruct_n(0, index.ntotal)
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
