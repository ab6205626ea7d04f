"""Fewer dimensions and how vectors are divided, which all stores do alike."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from ..faiss_index import Rows
from ..types import Floats

# `bench search` measures the effect of these over a million vectors.
REDUCED = 176  # dimensions of the first comparison
LISTS_PER_ROOT = 8  # the number of lists is this times the square root of the number of vectors
MOST_LISTS = 4096  # each costs a comparison for every query, and for every vector that is added
TRAINED_ON = 20  # vectors for every list from which the centres are computed
COMPARED, PROBED = 10_000, 0.01  # vectors compared with a query, and share of the lists searched, at least
CANDIDATES = 250  # vectors whose exact scores are computed, in addition to the number of results
CHUNK = 16_384  # vectors read at a time


class Vectors(Protocol):
    """float32 [n, dim] of unit length: an array, or what computes rows of it as they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice | Rows, /) -> Floats: ...


def list_count(rows: int) -> int:
    """Number of lists that so many vectors are divided into."""
    return min(rows, MOST_LISTS, max(1, round(LISTS_PER_ROOT * math.sqrt(rows))))


def sampled(vectors: Vectors) -> Floats:
    """Evenly spaced vectors from which a store learns where the vectors lie, float32 [sample, dim]."""
    rows = len(vectors)
    places = np.linspace(0, rows - 1, min(rows, TRAINED_ON * list_count(rows))).astype(np.int64)
    return np.ascontiguousarray(vectors[places], dtype=np.float32)


def principal(sample: Floats) -> Floats:
    """The directions that carry most of the inner products of float32 [n, dim]; float32 [at most REDUCED, dim].

    They are those of the vectors without centring; FAISS's PCA centres the vectors, which changes their inner products.
    """
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    return np.ascontiguousarray(directions[:, ::-1][:, :REDUCED].T, dtype=np.float32)


def probes(lists: int, total: int, rows: int, k: int) -> int:
    """Number of lists to search: it grows with the number of results, and as fewer rows are allowed.

    Args:
        lists: Number of lists.
        total: Number of vectors.
        rows: Number of those that are allowed.
        k: Results wanted.
    """
    needed = max(PROBED * lists, max(COMPARED, 2 * (k + CANDIDATES)) * lists / total)
    return min(lists, math.ceil(needed * total / max(rows, 1)))
