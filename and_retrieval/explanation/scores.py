"""How well each concept of a bank describes each unit of a layer.

Every score takes `similarity`, float [clips, concepts], the cosine of each clip's vector with each
concept's, and gives float32 [units, concepts], higher is better. Some need only the units' top clips
(`top_rows`, int32 [units, k], strongest first, -1 where there is none); the others need the
`activations` of all clips, float [clips, units], all finite.

WPMI, soft-WPMI, cos, cos-cubed and rank-reorder are those of CLIP-Dissect (Oikarinen and Weng, ICLR
2023). Arithmetic is in chunks of units, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ..choices import known_name
from ..config import LabelConfig
from ..numerics import Array, by_presence, chunks, deviation, softmax, standardised
from ..types import Floats, Ints, Label, LayerEvidence
from .cosines import cos, cos_cubed
from .likelihoods import soft_wpmi, wpmi
from .rank_reorder import rank_reorder
from .row_sums import places, row_sums

LEAST_CLIPS, MOST_CLIPS = 3, 10  # top clips that count for a unit, however few or many it mainly responds to
# Temperatures of the scores that have one, in standard deviations of the similarities, so that they fit any embedder.
SOFT_WPMI_SPREAD = 0.7
WPMI_SPREAD = 3.5
SELECTIVE_SPREAD = 0.35
PRIOR_WEIGHT = 0.8  # of soft-WPMI's prior; at 1 units that are alike would cancel their own score
LABEL_BYTES = 64 * 2**20  # of the scores `label_units` holds at a time


def top_mean(
    similarity: Array,
    top_rows: Ints,
    *,
    layer_rows: Ints | None = None,  # noqa: ARG001
    usual: Array | None = None,
) -> Floats:
    """Mean similarity of the top clips less that of all clips; 0 for a unit without top clips."""
    above = np.zeros((len(similarity) + 1, similarity.shape[1]), np.float32)
    above[:-1] = similarity - (similarity if usual is None else usual).mean(axis=0, dtype=np.float64)
    total = row_sums(above, places(top_rows, len(similarity)))
    mean: Floats = total / np.maximum((top_rows >= 0).sum(axis=1, dtype=np.float32), 1)[:, None]
    return mean


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
    return deviation(similarity) or 1.0


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
        best, best_scores = (of.tolist() for of in _best(scores, config.count))
        alive = np.any(top_rows[part] >= 0, axis=1).tolist()
        for unit in range(len(best)):
            pairs = zip(best[unit], best_scores[unit], strict=True) if alive[unit] else ()
            labels.append(tuple(Label(concepts[concept], score) for concept, score in pairs))
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
