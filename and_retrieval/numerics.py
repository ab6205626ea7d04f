"""Array arithmetic that several stages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from .types import Floats

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

CHUNK_BYTES = 2 * 2**20  # size of a working array; a stage holds a handful of them


def chunks(count: int, width: int, limit: int = CHUNK_BYTES, itemsize: int = 8) -> Iterator[slice]:
    """Slices over `count` rows; an array [slice, width] takes at most `limit` bytes.

    Args:
        count: Number of rows, usually units.
        width: Number of values in a row.
        limit: Limit in bytes; a slice has at least one row, even if that exceeds it.
        itemsize: Size of a value in bytes.
    """
    step = max(limit // (itemsize * max(width, 1)), 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def softmax(x: Array, temperature: float = 1.0) -> Floats:
    """softmax(x / temperature) over the last axis of [rows, columns], computed in float64, returned as float32."""
    result = np.empty(x.shape, dtype=np.float32)
    for part in chunks(len(x), x.shape[1]):
        result[part] = special.softmax(x[part].astype(np.float64) / temperature, axis=-1)
    return result
