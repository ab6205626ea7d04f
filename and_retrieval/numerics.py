"""Array arithmetic that several stages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are used

from .types import Floats

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

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


def centred(vectors: Array, centre: Array) -> Floats:
    """Vectors less a centre, of unit length; zero where nothing is left. float32 [n, dim]."""
    rest = vectors - centre
    lengths = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, rest / np.maximum(lengths, 1e-6), 0).astype(np.float32)


def by_presence(values: Array) -> Iterator[tuple[Bools, Places]]:
    """The columns of [rows, columns] in groups that are finite on the same rows, and those rows.

    Columns without any finite value are left out.

    Yields:
        bool [rows] and int [columns of the group], ascending; the columns that are finite everywhere come first.
    """
    finite = np.isfinite(values)
    groups: dict[bytes, list[int]] = {}
    whole = finite.all(axis=0)
    if whole.any() and len(values):
        yield np.ones(len(values), bool), np.flatnonzero(whole)
    for column in np.flatnonzero(~whole & finite.any(axis=0)):
        groups.setdefault(finite[:, column].tobytes(), []).append(int(column))
    for columns in groups.values():
        yield finite[:, columns[0]].copy(), np.array(columns, np.intp)


def standardised(values: Array, axis: int = 0, *, least: float = 0.0, constant: float = 0.0) -> Doubles:
    """Values less their mean along an axis, in standard deviations, float64.

    Args:
        values: Float.
        axis: Along which values belong together: 0 for columns, 1 for rows.
        least: Standard deviation up to which they do not vary. Above 0 where all that is left of standardised values
            may be rounding.
        constant: What stands for values that do not vary or are not finite throughout.
    """
    z: Doubles = values.astype(np.float64)
    if not z.size:
        return z
    low, high = z.min(axis=axis, keepdims=True), z.max(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinities, which are no numbers in the end
        z -= z.mean(axis=axis, keepdims=True)
        deviation = np.sqrt(np.square(z).mean(axis=axis, keepdims=True))
    varies = np.isfinite(low) & np.isfinite(high) & (high > low) & (deviation > least)
    np.divide(z, deviation, out=z, where=varies)
    np.copyto(z, constant, where=~varies)
    return z


def deviation(values: Array) -> float:
    """Standard deviation of all values of [rows, columns], block by block, so that they may be mapped; NaN of none."""
    parts = list(chunks(len(values), values.shape[1]))
    if not values.size:
        return float("nan")
    mean = sum(float(values[part].sum(dtype=np.float64)) for part in parts) / values.size
    squares = (float(np.square(values[part].astype(np.float64) - mean).sum()) for part in parts)
    return float(np.sqrt(sum(squares) / values.size))


def softmax(x: Array, temperature: float = 1.0) -> Floats:
    """softmax(x / temperature) over the last axis of [rows, columns], computed in float64, returned as float32."""
    result = np.empty(x.shape, dtype=np.float32)
    for part in chunks(len(x), x.shape[1]):
        result[part] = scipy.special.softmax(x[part].astype(np.float64) / temperature, axis=-1)
    return result
