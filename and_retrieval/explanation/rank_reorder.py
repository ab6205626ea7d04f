"""rank-reorder of CLIP-Dissect (Oikarinen and Weng, ICLR 2023), for all units at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..numerics import Array, Doubles, chunks
from ..types import Floats, Ints
from .row_sums import places, row_sums

WORK_BYTES = 2**19  # of one working array, so that a few of them stay in a core's cache
FEW_CLIPS = 4096  # whose ranks take 12 of 31 bits
LEAST_SIMILARITY = 1e-3  # the root of a mean similarity needs it positive

Packed = npt.NDArray[np.signedinteger[Any]]
Kind = type[np.signedinteger[Any]]


def rank_reorder(
    similarity: Array, activations: Array, *, top_fraction: float = 0.05, mean_power: float = 0.5
) -> Floats:
    """How far the top activations move when the top clips are put in the order of a concept.

    The strongest `top_fraction` of the clips (at least two) is reordered by similarity to the
    concept; the mean of |activation - reordered activation| ** 3 is divided by what a random order
    would give, and by (mean similarity of these clips) ** mean_power, and negated. The mean
    similarity is taken to be at least `LEAST_SIMILARITY`.

    CLIP-Dissect averages five random orders. Here it is their expectation: in a random order of n
    values every value takes every place with probability 1/n, so E |a_i - a_order(i)| ** 3, averaged
    over i, is the mean of |a_i - a_j| ** 3 over all n x n pairs.
    """
    n = min(max(int(len(activations) * top_fraction), 2), len(activations))
    ranks = _ranks(similarity)
    padded = np.concatenate([similarity, np.zeros_like(similarity[:1])]).astype(np.float32)
    scores = np.empty((activations.shape[1], similarity.shape[1]), dtype=np.float32)
    for part in chunks(activations.shape[1], len(activations)):
        rows, strongest = _strongest(activations[:, part], n)
        steps = _below_strongest(strongest, ranks.dtype.type)
        moved, by_chance = _moved(ranks, rows, steps), _moved_by_chance(steps)
        # A flat top has no order to get wrong: it counts as no better than chance.
        ratio = np.where(by_chance > 0, moved / np.where(by_chance > 0, by_chance, 1), 1)
        near = row_sums(padded, places(rows, len(similarity))) / n
        scores[part] = -ratio / np.maximum(near, LEAST_SIMILARITY) ** mean_power
    return scores


def _moved(ranks: Packed, rows: Ints, steps: Packed) -> Floats:
    """Mean of |step - step in the order of a concept| ** 3, ties by step, float32 [units, concepts].

    Rank and step are packed into one integer, so that they are sorted together and nothing has to be looked up.

    Args:
        ranks: See `_ranks`.
        rows: Clips of every unit, strongest first, int32 [units, n].
        steps: How far each is below the strongest, see `_below_strongest`, [units, n].
    """
    n, concepts = rows.shape[1], ranks.shape[1]
    moved = np.empty((len(rows), concepts), np.float32)
    together = min(max(WORK_BYTES // max(ranks.itemsize * n * concepts, 1), 1), len(rows))
    taken = np.empty((together, n, concepts), ranks.dtype)
    packed = np.empty((together, concepts, n), ranks.dtype)
    distance, squared = np.empty((2, *packed.shape), np.float32)
    for start in range(0, len(rows), together):
        units = slice(start, min(start + together, len(rows)))
        t, p, d, d2 = (array[: units.stop - start] for array in (taken, packed, distance, squared))
        np.take(ranks, rows[units], axis=0, out=t, mode="clip")
        t |= steps[units, :, None]
        np.copyto(p, t.transpose(0, 2, 1))
        p.sort(axis=2)
        p &= ranks.dtype.type(_steps(ranks.dtype.type))
        p -= steps[units, None, ::-1]
        np.abs(p, out=p)
        np.copyto(d, p, casting="unsafe")
        np.multiply(d, d, out=d2)
        np.einsum("ucn,ucn->uc", d2, d, out=moved[units])
    moved /= n
    return moved


def _moved_by_chance(steps: Packed) -> Doubles:
    """Mean of |a - b| ** 3 over all pairs of a unit's steps, float64 [units, 1].

    Steps ascend, so that the pairs of one with all before it are a sum of powers of these: no pair is visited.
    """
    x = steps.astype(np.float64)
    first, second, third = (np.cumsum(x**power, axis=1) - x**power for power in (1, 2, 3))
    pairs = np.arange(x.shape[1]) * x**3 - 3 * x**2 * first + 3 * x * second - third
    return np.asarray(2 * pairs.sum(axis=1, keepdims=True) / x.shape[1] ** 2)


def _strongest(activations: Array, n: int) -> tuple[Ints, Doubles]:
    """Rows and values of the n strongest clips of every unit, strongest first, ties by row; both [units, n]."""
    bits = (np.float32(0) - activations.T.astype(np.float32)).view(np.int32)  # 0 - 0: no negative zeros
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    # Value and row in one integer: sorting it is faster than finding out an order.
    packed = (rising << 32) | np.arange(len(activations))
    packed = np.sort(np.partition(packed, n - 1, axis=1)[:, :n], axis=1)
    rows = packed & 0xFFFFFFFF
    return rows.astype(np.int32), np.take_along_axis(activations.T, rows, axis=1).astype(np.float64)


def _below_strongest(strongest: Doubles, kind: Kind) -> Packed:
    """How far each is below the strongest, in whole steps from 0 to `_steps`: it rises with the place, [units, n]."""
    below = strongest[:, :1] - strongest
    _, exponent = np.frexp(below[:, -1:])
    steps: Packed = np.rint(np.ldexp(below, -exponent) * _steps(kind)).astype(kind)
    return steps


def _ranks(similarity: Array) -> Packed:
    """Rank of every clip for every concept, ascending, equal where the similarity is, [clips, concepts].

    Integers whose low bits are free, see `_moved`.
    """
    kind = np.int32 if len(similarity) <= FEW_CLIPS else np.int64
    of_concepts = np.ascontiguousarray(similarity.T)
    ordered = np.argsort(of_concepts, axis=1)
    values = np.take_along_axis(of_concepts, ordered, axis=1)
    steps = np.zeros(values.shape, kind)
    np.cumsum(values[:, 1:] > values[:, :-1], axis=1, dtype=kind, out=steps[:, 1:])
    steps *= _steps(kind) + 1
    ranks = np.empty_like(steps)
    np.put_along_axis(ranks, ordered, steps, axis=1)
    return np.ascontiguousarray(ranks.T)


def _steps(kind: Kind) -> int:
    """Largest value that is packed below a rank: one less than a power of two."""
    return 2 ** (19 if kind is np.int32 else 30) - 1
