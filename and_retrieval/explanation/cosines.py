"""Cosines over clips of what units do and what concepts are like: cos and cos-cubed of CLIP-Dissect.

Oikarinen and Weng, ICLR 2023. Arithmetic is float32 in chunks of units; a column whose numbers are too large, too small
or too much alike for that is scaled by a power of two first, and centred on a mean computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..numerics import Array, Bools, chunks
from ..types import Floats

USUAL_SQUARES = 1e-25, 1e30  # sums of squares that float32 holds together with what they are sums of
USUAL_SIXTH_POWERS = 1e-30, 1e30
LEAST_SPREAD = 1e-2  # of the mean: below it, the mean needs more digits
USUAL_EXPONENTS = 12  # of two, of values whose cubes and their squares are far from the ends of float32
LEAST_NORM = 1e-3  # shorter columns are not stretched to unit length
ROWS = 64  # that are added up in float32 before they are added in float64
BLOCK_BYTES = 2**18  # of what is cubed at a time


def cos(similarity: Array, activations: Array) -> Floats:
    """Cosine over clips of activation and similarity, neither of them centred."""

    def shaped(part: slice) -> tuple[Floats, Floats, Bools]:
        columns = activations[:, part].astype(np.float32, copy=False)
        squares = _squares(columns)
        return columns, squares, _outside(squares, *USUAL_SQUARES)

    def carefully(part: slice, odd: Bools) -> Floats:
        return _at_most_one(activations[:, part][:, odd].astype(np.float32, copy=False))

    return _cosine(_at_most_one(similarity.astype(np.float32, copy=False)), activations, shaped, carefully)


def cos_cubed(similarity: Array, activations: Array) -> Floats:
    """Cosine over clips of the cubes of activation and similarity, both centred first."""
    means = _sums(activations) / np.float32(max(len(activations), 1))

    def shaped(part: slice) -> tuple[Floats, Floats, Bools]:
        cubes = _cubes(activations[:, part], means[part])
        sixth_powers = _squares(cubes)
        return cubes, sixth_powers, _varies_little(sixth_powers, means[part], len(cubes))

    def carefully(part: slice, odd: Bools) -> Floats:
        columns = activations[:, part][:, odd].astype(np.float32, copy=False)
        largest = _largest(columns)
        columns, mean = (_at_most_one(x, largest) for x in (columns, means[part][odd]))
        cubes = _cubes(columns, mean)
        little = _varies_little(_squares(cubes), mean, len(cubes))
        if little.any():
            cubes[:, little] = _cubed(columns[:, little])
        return cubes

    return _cosine(_cubed(similarity.astype(np.float32, copy=False)), activations, shaped, carefully)


def _cosine(
    directions: Floats,
    activations: Array,
    shaped: Callable[[slice], tuple[Floats, Floats, Bools]],
    carefully: Callable[[slice, Bools], Floats],
) -> Floats:
    """Cosines of shaped columns, float32 [units, concepts].

    Args:
        directions: Shaped similarities, float32 [clips, concepts].
        activations: float [clips, units].
        shaped: For some units, their shaped columns, the squares of these columns' lengths, and which of them left the
            range of float32.
        carefully: For some units and those of them that left it, these columns shaped within it. A power of two
            changes no digit of a column, so a unit's scores are the same to the last bit on any such scale.
    """
    directions = directions / np.maximum(np.linalg.norm(directions, axis=0), LEAST_NORM)
    scores = np.empty((activations.shape[1], directions.shape[1]), dtype=np.float32)
    for part in chunks(activations.shape[1], len(activations), itemsize=4):
        with np.errstate(over="ignore", invalid="ignore"):  # what that leaves is odd
            columns, squares, odd = shaped(part)
            if odd.any():
                columns = columns.copy(order="K")  # sums along another layout would round otherwise
                columns[:, odd] = carefully(part, odd)
                squares = _squares(columns)
        np.matmul(columns.T, directions, out=scores[part])
        scores[part] /= np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))[:, None]
    return scores


def _cubes(columns: Array, means: Floats) -> Floats:
    """Cubes of what columns are above these means."""
    cubes = np.empty(columns.shape, np.float32)
    for rows in chunks(len(cubes), len(means), BLOCK_BYTES, itemsize=4):
        centred = np.subtract(columns[rows], means, dtype=np.float32, casting="same_kind")
        np.multiply(centred, centred, out=cubes[rows])
        cubes[rows] *= centred
    return cubes


def _varies_little(sixth_powers: Floats, means: Floats, clips: int) -> Bools:
    """Where sums of sixth powers are out of range, or so small beside the mean that it needs more digits."""
    least, most = USUAL_SIXTH_POWERS
    return _outside(sixth_powers, np.maximum(least, clips * (LEAST_SPREAD * means) ** 6), most)


def _outside(values: Floats, least: Array | float, most: float) -> Bools:
    """Where values are not between the two, or not numbers."""
    return np.asarray(~((values >= least) & (values <= most)))


def _squares(columns: Floats) -> Floats:
    return np.asarray(np.einsum("cu,cu->u", columns, columns))


def _sums(x: Array) -> Floats:
    """Sums of columns: float32 within a block of rows, float64 across blocks."""
    total = np.zeros(x.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(x), ROWS):
            total += x[start : start + ROWS].astype(np.float32, copy=False).sum(axis=0)
        return total.astype(np.float32)


def _largest(x: Floats) -> Floats:
    """The largest absolute value of every column."""
    return np.asarray(np.maximum(x.max(axis=0, initial=0), -x.min(axis=0, initial=0)))


def _at_most_one(x: Floats, largest: Floats | None = None) -> Floats:
    """Columns divided by the power of two next to their largest value, where that is very large or very small.

    So no unit leaves the range of float32, whatever its scale; a power of two changes no digit of a score.
    """
    largest = _largest(x) if largest is None else largest
    _, exponent = np.frexp(largest)
    if (np.abs(exponent) <= USUAL_EXPONENTS).all():
        return x
    half = np.ldexp(x.dtype.type(1), -exponent // 2)  # in two steps: the power itself may not be a float32
    return np.asarray(x * half * np.ldexp(x.dtype.type(1), -exponent - (-exponent // 2)))


def _cubed(x: Array) -> Floats:
    """Cubes of what columns are above their mean, 0 where none differs: the mean of equal numbers rounds to them."""
    high, low = x.max(axis=0, initial=-np.inf), x.min(axis=0, initial=np.inf)
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = _at_most_one(x - mean, np.maximum(high - mean, mean - low))
    cubes: Floats = centred * centred
    cubes *= centred
    return cubes
