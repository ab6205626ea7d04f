"""How well each concept of a bank describes each unit of a layer.

Every score takes `similarity`, float [clips, concepts], the cosine of each clip's vector with each
concept's, and gives float32 [units, concepts], higher is better. Some need only the units' top clips
(`top_rows`, int32 [units, k], strongest first, -1 where there is none); the others need the
`activations` of all clips, float [clips, units], all finite.

WPMI, soft-WPMI, cos, cos-cubed and rank-reorder are those of CLIP-Dissect (Oikarinen and Weng, ICLR
2023). Arithmetic is float64 in chunks of units, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..choices import known_name
from ..config import LabelConfig
from ..numerics import Array, Doubles, by_presence, chunks, softmax, standardised
from ..types import Floats, Ints, Label, LayerEvidence
from .likelihoods import Prior, row_sums, wpmi_scores

LEAST_CLIPS, MOST_CLIPS = 3, 10  # top clips that count for a unit, however few or many it mainly responds to
# Temperatures of the scores that have one, in standard deviations of the similarities, so that they fit any embedder.
SOFT_WPMI_SPREAD = 0.7
WPMI_SPREAD = 3.5
SELECTIVE_SPREAD = 0.35
PRIOR_WEIGHT = 0.8  # of soft-WPMI's prior; at 1 units that are alike would cancel their own score
FEW_CLIPS = 4096  # whose ranks take 12 of 31 bits
USUAL_EXPONENTS = 12  # of two, of values whose cubes and their squares are far from the ends of float32
LEAST_NORM = 1e-3  # shorter columns are not stretched to unit length
LABEL_BYTES = 64 * 2**20  # of the scores `label_units` holds at a time


def soft_wpmi(
    similarity: Array,
    top_rows: Ints,
    *,
    temperature: float = 0.1,
    prior_weight: float = 1.0,
    p_start: float = 0.998,
    p_end: float = 0.97,
    prior: Prior = "clips",
    layer_rows: Ints | None = None,
    usual: Array | None = None,
) -> Floats:
    """log p(concept | top clips) - prior_weight * log p(concept), as float32 [units, concepts].

    With s = softmax over concepts of similarity / temperature, the clip of rank i belongs to the
    unit's top clips with probability p_i, which falls linearly from `p_start` towards `p_end`, and
    log p(concept | top clips) = sum over ranks of log(1 + p_i (s - 1)).

    log p(concept) is taken over `prior`:
        "units": the log of the mean likelihood over the units of `layer_rows` (by default those given),
            as in CLIP-Dissect. At weight 1 one unit alone, or units that are alike, cancel their own score.
        "clips": the mean log-likelihood of k clips drawn at random, sum over ranks of the mean over
            clips of log(1 + p_i (s - 1)). It does not depend on the other units, and at weight 1
            clips picked without regard to a concept score 0 for it on average, however common. The clips are
            those of `usual`, float [n, concepts], by default all of `similarity`.
        "mixed": of U units, U / (U + `MIXED_AT`) of the first and the rest of the second, so that a layer
            of a single unit has a prior too.

    The log of the mean likelihood over random clips would be the other choice. It charges a concept
    for each top clip that lacks it far more than the mean of the log does: for units made of an
    ESC-10 class and noise (200 clips, bank esc50, k 20) 77 % got their class, against 97-99 % with the
    mean of the log and 17-22 % with "units".
    """
    k = top_rows.shape[1]
    p = p_start - np.arange(k) / max(k, 1) * (p_start - p_end)
    return wpmi_scores(
        *_probabilities(similarity, usual, temperature), top_rows, p, prior_weight, prior, layer_rows
    )


def wpmi(
    similarity: Array,
    top_rows: Ints,
    *,
    temperature: float = 0.5,
    prior_weight: float = 0.6,
    prior: Prior = "clips",
    layer_rows: Ints | None = None,
    usual: Array | None = None,
) -> Floats:
    """`soft_wpmi` with every top clip taken for certain (p_i = 1): sum of log s, less the prior."""
    certain = np.ones(top_rows.shape[1])
    both = _probabilities(similarity, usual, temperature)
    return wpmi_scores(*both, top_rows, certain, prior_weight, prior, layer_rows)


def top_mean(
    similarity: Array,
    top_rows: Ints,
    *,
    layer_rows: Ints | None = None,  # noqa: ARG001
    usual: Array | None = None,
) -> Floats:
    """Mean similarity of the top clips less that of all clips; 0 for a unit without top clips."""
    above = np.zeros((1, len(similarity) + 1, similarity.shape[1]), np.float32)
    above[0, :-1] = similarity - (similarity if usual is None else usual).mean(axis=0, dtype=np.float64)
    total = row_sums(above, top_rows, np.zeros(top_rows.shape[1], np.intp))
    mean: Floats = total / np.maximum((top_rows >= 0).sum(axis=1, dtype=np.float32), 1)[:, None]
    return mean


def cos(similarity: Array, activations: Array) -> Floats:
    """Cosine over clips of activation and similarity, neither of them centred."""
    return _cosine(similarity, activations, _at_most_one)


def cos_cubed(similarity: Array, activations: Array) -> Floats:
    """Cosine over clips of the cubes of activation and similarity, both centred first."""
    return _cosine(similarity, activations, _cubed)


def rank_reorder(
    similarity: Array, activations: Array, *, top_fraction: float = 0.05, mean_power: float = 0.5
) -> Floats:
    """How far the top activations move when the top clips are put in the order of a concept.

    The strongest `top_fraction` of the clips (at least two) is reordered by similarity to the
    concept; the mean of |activation - reordered activation| ** 3 is divided by what a random order
    would give, and by (mean similarity of these clips) ** mean_power, and negated. The mean
    similarity is taken to be at least 1e-3, since a root needs it positive.

    CLIP-Dissect averages five random orders. Here it is their expectation: in a random order of n
    values every value takes every place with probability 1/n, so E |a_i - a_order(i)| ** 3, averaged
    over i, is the mean of |a_i - a_j| ** 3 over all n x n pairs.
    """
    n = min(max(int(len(activations) * top_fraction), 2), len(activations))
    ranks = _ranks(similarity)
    padded = np.concatenate([similarity, np.zeros_like(similarity[:1])]).astype(np.float32)[None]
    scores = np.empty((activations.shape[1], similarity.shape[1]), dtype=np.float32)
    for part in chunks(activations.shape[1], max(n * max(similarity.shape[1], n), len(activations))):
        rows, strongest = _strongest(activations[:, part], n)
        # How far each is below the strongest, in whole steps: it rises with the place.
        below = strongest[:, :1] - strongest
        _, exponent = np.frexp(below[:, -1:])
        below = np.rint(np.ldexp(below, -exponent) * _steps(ranks.dtype.type))
        moved = _mean_cube(_in_order_of(ranks, rows, below), below[:, None, ::-1])
        by_chance = _mean_cube(below[:, :, None], below[:, None, :]).mean(axis=1, keepdims=True)
        # A flat top has no order to get wrong: it counts as no better than chance.
        ratio = np.where(by_chance > 0, moved / np.where(by_chance > 0, by_chance, 1), 1)
        near = row_sums(padded, rows.astype(np.int32), np.zeros(n, np.intp)) / n
        scores[part] = -ratio / np.maximum(near, LEAST_NORM) ** mean_power
    return scores


def _strongest(activations: Array, n: int) -> tuple[npt.NDArray[np.intp], Doubles]:
    """Rows and values of the n strongest clips of every unit, strongest first, ties by row; both [units, n]."""
    bits = (activations.T.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0: no negative zeros
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    # Value and row in one integer, smallest first: sorting it is faster than finding out an order.
    packed = (~rising << 32) | np.arange(len(activations))
    packed = np.sort(np.partition(packed, n - 1, axis=1)[:, :n], axis=1)
    rows = (packed & 0xFFFFFFFF).astype(np.intp)
    return rows, np.take_along_axis(activations.T, rows, axis=1).astype(np.float64)


def _ranks(similarity: Array) -> npt.NDArray[Any]:
    """Rank of every clip for every concept, ascending, equal where the similarity is, [concepts, clips].

    Unsigned integers whose low bits are free, see `_in_order_of`.
    """
    ordered = np.argsort(similarity.T, axis=1, kind="stable")
    values = np.take_along_axis(similarity.T, ordered, axis=1)
    steps = np.zeros(values.shape, np.int64)
    np.cumsum(values[:, 1:] > values[:, :-1], axis=1, out=steps[:, 1:])
    kind = np.int32 if len(similarity) <= FEW_CLIPS else np.int64
    ranks = np.empty(steps.shape, kind)
    np.put_along_axis(ranks, ordered, (steps * (_steps(kind) + 1)).astype(kind), axis=1)
    return ranks


def _steps(kind: type[np.signedinteger[Any]]) -> int:
    """Largest value that is packed below a rank: one less than a power of two."""
    return 2 ** (19 if kind is np.int32 else 30) - 1


def _in_order_of(ranks: npt.NDArray[Any], rows: npt.NDArray[np.intp], values: Doubles) -> npt.NDArray[Any]:
    """Values of each unit's clips in the order of every concept, ties by value, int [units, concepts, n].

    Rank and value are packed into one integer, so that they are sorted together and nothing has to be looked up.

    Args:
        ranks: See `_ranks`.
        rows: Clips of every unit, int [units, n].
        values: Of these clips, whole numbers from 0 to `_steps`, [units, n].
    """
    packed = np.take(ranks, rows, axis=1, mode="clip").transpose(1, 0, 2)
    packed |= values.astype(ranks.dtype)[:, None]
    packed.sort(axis=2)
    packed &= ranks.dtype.type(_steps(ranks.dtype.type))
    return packed


def selective(similarity: Array, activations: Array, *, temperature: float = 0.05) -> Floats:
    """Mean standardised activation over the clips that a concept claims for itself.

    q = softmax over concepts of similarity / temperature, each concept's column then divided by its
    sum over clips; the score is q^T z with z the activations standardised per unit over clips, that
    is, how many standard deviations above its mean a unit is where the concept is heard.
    """
    q = softmax(similarity, temperature)
    q /= np.maximum(q.sum(axis=0, dtype=np.float64), np.finfo(np.float32).tiny)
    scores = np.empty((activations.shape[1], q.shape[1]), dtype=np.float32)
    for part in chunks(activations.shape[1], len(q)):
        scores[part] = standardised(activations[:, part]).T @ q
    return scores


@dataclass(frozen=True, slots=True)
class Scorer:
    """A score and what it is fed.

    Attributes:
        score: (similarity, top rows or activations) -> float32 [units, concepts].
        from_top: True when the top clips are enough; else it needs the activations of all clips. A score from top
            clips also takes `layer_rows`, the top rows of the whole layer, and `usual`, the similarity of what the top
            clips were chosen among.
    """

    score: Callable[..., Floats]
    from_top: bool


def _soft_wpmi(
    similarity: Array, top_rows: Ints, layer_rows: Ints | None = None, usual: Array | None = None
) -> Floats:
    warmth = SOFT_WPMI_SPREAD * spread(similarity if usual is None else usual)
    return soft_wpmi(
        similarity,
        top_rows,
        temperature=warmth,
        prior_weight=PRIOR_WEIGHT,
        prior="mixed",
        layer_rows=layer_rows,
        usual=usual,
    )


def _wpmi_of_spread(
    similarity: Array, top_rows: Ints, layer_rows: Ints | None = None, usual: Array | None = None
) -> Floats:
    warmth = WPMI_SPREAD * spread(similarity if usual is None else usual)
    return wpmi(similarity, top_rows, temperature=warmth, prior="mixed", layer_rows=layer_rows, usual=usual)


def _selective(similarity: Array, activations: Array) -> Floats:
    return selective(similarity, activations, temperature=SELECTIVE_SPREAD * spread(similarity))


def spread(similarity: Array) -> float:
    """Standard deviation of all similarities: the scale that temperatures are measured in; 1 where nothing varies."""
    return float(similarity.std(dtype=np.float64)) or 1.0


SCORES: Mapping[str, Scorer] = MappingProxyType(
    {
        "soft-wpmi": Scorer(_soft_wpmi, from_top=True),
        "wpmi": Scorer(_wpmi_of_spread, from_top=True),
        "top-mean": Scorer(top_mean, from_top=True),
        "cos": Scorer(cos, from_top=False),
        "cos-cubed": Scorer(cos_cubed, from_top=False),
        "rank-reorder": Scorer(rank_reorder, from_top=False),
        "selective": Scorer(_selective, from_top=False),
    }
)


def label_units(
    similarity: Array,
    evidence: LayerEvidence,
    concepts: Sequence[str],
    config: LabelConfig,
    seen: tuple[Array, Array] | None = None,
    k: npt.NDArray[np.intp] | None = None,
    usual: Array | None = None,
) -> list[tuple[Label, ...]]:
    """The `config.count` best concepts of every unit, best first, ties by the order of `concepts`.

    A top clip at which the unit is no stronger than at its weakest says nothing about it and is left
    out, so a dead or constant unit gets no label and a unit that fired on three clips is judged by
    these three.

    Args:
        similarity: Float [clips, concepts], all clips of the index, or whatever the rows of `evidence` stand for.
        evidence: Top and bottom clips of the layer's units.
        concepts: Names of the columns.
        config: Which score, how many top clips, how many labels.
        seen: For scores that are not made `from_top`: similarity [seen, concepts] and activations
            [seen, units] of all clips that may serve as evidence; a unit counts over the clips on which it is finite.
        k: int [units], top clips that count for each unit; by default `config.k`, else all.
        usual: Float [n, concepts], similarity of what the top clips were chosen among; by default all of `similarity`.

    Raises:
        InputError: The score is unknown.
        ValueError: `similarity` does not belong to `concepts`, or `seen` is missing.
    """
    if similarity.shape[1] != len(concepts):
        raise ValueError(f"similarity has {similarity.shape[1]} columns for {len(concepts)} concepts")
    scorer = find_scorer(config.score)
    if seen is None and not scorer.from_top:
        raise ValueError(f"score {config.score!r} needs the activations of all seen clips")
    top_rows = counted_rows(evidence, config.k if k is None else k)
    labels: list[tuple[Label, ...]] = []
    for part in chunks(evidence.units, len(concepts), LABEL_BYTES):
        if scorer.from_top or seen is None:
            scores = scorer.score(similarity, top_rows[part], layer_rows=top_rows, usual=usual)
        else:
            scores = score_activations(scorer.score, seen[0], seen[1][:, part])
        best, best_scores = _best(scores, config.count)
        alive = np.any(top_rows[part] >= 0, axis=1).tolist()
        for unit in range(len(best)):
            pairs = zip(best[unit], best_scores[unit], strict=True) if alive[unit] else ()
            labels.append(tuple(Label(concepts[concept], float(score)) for concept, score in pairs))
    return labels


def counted_rows(evidence: LayerEvidence, k: int | npt.NDArray[np.intp] | None) -> Ints:
    """Rows of the top clips that count for each unit, int32 [units, at most k]; -1 for those that do not.

    A clip counts when the unit is stronger there than at its weakest clip, up to `k` clips (a number, one per unit, or
    None for all that were recorded).
    """
    recorded = evidence.top.rows.shape[1]
    most = np.broadcast_to(np.asarray(recorded if k is None else k), (evidence.units,))
    counts = evidence.fired & (np.arange(recorded) < most[:, None])
    rows: Ints = np.where(counts, evidence.top.rows, np.int32(-1))
    return rows[:, : max(int(most.max(initial=1)), 1)]


def effective_clips(activations: Array) -> npt.NDArray[np.intp]:
    """How many clips a unit mainly responds to, int [units], from `LEAST_CLIPS` to `MOST_CLIPS`.

    The participation ratio (sum w)^2 / sum w^2 of w = e^3, with e the excess of the activation over the unit's mean,
    0 below it: n clips of equal excess count n, and weak responses hardly count. It does not depend on the scale.

    Args:
        activations: float [clips, units], NaN where a unit gave no finite number: such a clip does not count for it.
    """
    count = np.empty(activations.shape[1])
    for part in chunks(activations.shape[1], len(activations)):
        a = activations[:, part].astype(np.float64)
        finite = np.isfinite(a)
        mean = np.where(finite, a, 0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
        excess = np.maximum(np.where(finite, a - mean, 0), 0)
        w = (excess / np.maximum(excess.max(axis=0), np.finfo(np.float64).tiny)) ** 3
        squares = (w * w).sum(axis=0)
        count[part] = w.sum(axis=0) ** 2 / np.where(squares > 0, squares, 1)
    return np.clip(np.rint(count), LEAST_CLIPS, MOST_CLIPS).astype(np.intp)


def find_scorer(name: str) -> Scorer:
    """The score of that name; `_` may stand for `-`.

    Raises:
        InputError: There is none; the message names those that exist.
    """
    return SCORES[known_name("score", name, SCORES)]


def _best(scores: Floats, count: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """The `count` highest columns of every row, highest first, ties by the lower column."""
    left = scores.copy()
    everyone = np.arange(len(scores))
    order = np.empty((len(scores), min(count, scores.shape[1])), dtype=np.intp)
    for place in range(order.shape[1]):
        order[:, place] = left.argmax(axis=1)
        left[everyone, order[:, place]] = -np.inf
    return order, np.take_along_axis(scores, order, axis=1)


def _probabilities(similarity: Array, usual: Array | None, temperature: float) -> tuple[Floats, Floats]:
    """Probabilities of concepts for the clips that are scored, and for those that random clips are drawn from."""
    s = softmax(similarity, temperature)
    return s, s if usual is None else softmax(usual, temperature)


def _cosine(similarity: Array, activations: Array, shape: Callable[[Array], Floats]) -> Floats:
    """Cosines of shaped columns, computed in float32."""
    directions = shape(similarity.astype(np.float32, copy=False))
    directions = directions / np.maximum(np.linalg.norm(directions, axis=0), LEAST_NORM)
    scores = np.empty((activations.shape[1], similarity.shape[1]), dtype=np.float32)
    for part in chunks(activations.shape[1], len(activations), itemsize=4):
        shaped = shape(activations[:, part].astype(np.float32, copy=False))
        np.matmul(shaped.T, directions, out=scores[part])
        norms = np.sqrt(np.einsum("cu,cu->u", shaped, shaped))
        scores[part] /= np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
    return scores


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


def score_activations(
    score: Callable[[Array, Array], Floats], similarity: Array, activations: Array
) -> Floats:
    """A score that needs the activations of all clips, of every unit over the clips on which it is finite.

    Args:
        score: (similarity, activations) -> float32 [units, concepts].
        similarity: Float [clips, concepts].
        activations: Float [clips, units], NaN where a unit gave no finite number.

    Returns:
        float32 [units, concepts]; -inf for a unit without any finite activation.
    """
    scores = np.full((activations.shape[1], similarity.shape[1]), -np.inf, np.float32)
    for clips, units in by_presence(activations):
        if clips.all():
            scores[units] = score(similarity, activations[:, units])
        else:
            scores[units] = score(similarity[clips], activations[clips][:, units])
    return scores


def _mean_cube(a: Array, b: Array) -> Floats:
    """Mean of |a - b| ** 3 over the last axis, computed in float32; a power would take far longer."""
    distance = np.subtract(a, b, dtype=np.float32, casting="unsafe")
    np.abs(distance, out=distance)
    return np.asarray(np.einsum("...n,...n->...", distance * distance, distance) / distance.shape[-1])
