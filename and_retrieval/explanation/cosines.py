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
CHUNK_BYTES = 8 * 2**20  # of activations that are multiplied at a time; products of smaller parts take longer


Shaped = tuple[Floats, Floats, Bools]
"""Columns, the squares of their lengths, and which columns left the range of float32."""


def cos(similarity: Array, activations: Array) -> Floats:
    """Cosine over clips of activation and similarity, neither of them centred."""

    def shaped(columns: Floats) -> Shaped:
        squares = _sums(columns, _squares)
        return columns, squares, _outside(squares, *USUAL_SQUARES)

    return _cosine(similarity, activations, shaped, _at_most_one)


def cos_cubed(similarity: Array, activations: Array) -> Floats:
    """Cosine over clips of the cubes of activation and similarity, both centred first."""
    least, most = USUAL_SIXTH_POWERS

    def shaped(columns: Floats) -> Shaped:
        mean = (_sums(columns, lambda block: block.sum(axis=0)) / max(len(columns), 1)).astype(np.float32)
        cubes, sixth_powers = np.empty(columns.shape, np.float32), np.zeros(len(mean), np.float32)
        for rows in chunks(len(cubes), len(mean), BLOCK_BYTES, itemsize=4):
            centred, block = columns[rows] - mean, cubes[rows]
            np.multiply(centred, centred, out=block)
            block *= centred
            sixth_powers += _squares(block)
        varied = np.maximum(least, len(cubes) * (LEAST_SPREAD * mean) ** 6)
        return cubes, sixth_powers, _outside(sixth_powers, varied, most)

    return _cosine(similarity, activations, shaped, _cubed)


def _cosine(
    similarity: Array,
    activations: Array,
    shaped: Callable[[Floats], Shaped],
    carefully: Callable[[Floats], Floats],
) -> Floats:
    """Cosines of shaped columns, float32 [units, concepts].

    Args:
        similarity, activations: float [clips, concepts], float [clips, units].
        shaped: Shapes columns, as fast as can be.
        carefully: From columns to shaped columns, whatever their numbers.
    """
    directions = carefully(similarity.astype(np.float32, copy=False))
    directions = directions / np.maximum(np.linalg.norm(directions, axis=0), LEAST_NORM)
    scores = np.empty((activations.shape[1], similarity.shape[1]), dtype=np.float32)
    for part in chunks(activations.shape[1], len(activations), CHUNK_BYTES, itemsize=4):
        x = activations[:, part].astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # what that leaves is odd
            columns, squares, odd = shaped(x)
            if odd.any():
                columns, squares, odd = shaped(_at_most_one(x))
        if odd.any():
            mended = carefully(x[:, odd])
            columns, squares = columns.copy(), squares.copy()
            columns[:, odd], squares[odd] = mended, _squares(mended)
        np.matmul(columns.T, directions, out=scores[part])
        scores[part] /= np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))[:, None]
    return scores


def _outside(values: Floats, least: Array | float, most: float) -> Bools:
    """Where values are not between the two, or not numbers."""
    return np.asarray(~((values >= least) & (values <= most)))


def _squares(columns: Floats) -> Floats:
    return np.asarray(np.einsum("cu,cu->u", columns, columns))


def _sums(x: Array, of: Callable[[Floats], Floats]) -> Floats:
    """The sums of `of` over blocks of rows; float32 within a block, float64 across them."""
    total = np.zeros(x.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(x), ROWS):
            total += of(x[start : start + ROWS].astype(np.float32, copy=False))
        return total.astype(np.float32)


def _at_most_one(x: Array, largest: Array | None = None) -> Array:
    """Columns divided by the power of two next to their largest value, where that is very large or very small.

    So no unit leaves the range of float32, whatever its scale; a power of two changes no digit of a score.
    """
    if largest is None:
        largest = np.maximum(x.max(axis=0, initial=0), -x.min(axis=0, initial=0))
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
