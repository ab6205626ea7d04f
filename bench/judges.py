"""Other measures of labels than the package's, each beside chance: overlap, sanity tests, and tests with a judge.

    F1, IoU      of the clips that the label claims and the fifth that the unit responds to most. The label claims clips
                 whose similarity exceeds the threshold that is best on the seen clips.
    missing      half of the clips that the label claims lose their similarity: a measure of labels should fall
    extra        as many other clips get the similarity of a claimed one: it should fall as well (both tests after
                 Oikarinen, Yan and Weng 2025, "Evaluating Neuron Explanations"). Given is the share of units for which
                 a measure falls, mean over draws; a measure that cannot tell is at 0.5.
    intruder     four of the unit's strongest clips and one of its weaker half: the judge names the one that is least
                 like the rest. Chance 1 / 5; beside it the same with clips drawn at random.
    detection    as many of the unit's strongest clips as of its weaker half: the judge says by the label which are
                 which, the half that is nearer to it. Chance 1 / 2; beside it a label drawn at random.
    rendered     the demo set plays the label: area under the ROC curve of the unit's activations, rendered clips of the
                 label against those of all other concepts (chance 1 / 2), and how far apart their means are in standard
                 deviations (chance 0); beside it another concept that can be rendered, drawn at random.

The judge is the embedder, so what it cannot hear it cannot judge. Clips are held-out ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from and_retrieval.explanation.agreement import auprc, exponential_scores, strongest
from and_retrieval.numerics import Array, Bools, Doubles


@dataclass(frozen=True)
class Judged:
    """What a layer's labels and labels drawn at random say of clips, and what its units put out.

    Attributes:
        labels, at_random: float64 [units, clips], similarity.
        activations: float64 [units, clips].
    """

    labels: Doubles
    at_random: Doubles
    activations: Doubles


DRAWS = 10
SHOWN = 4  # strong clips beside an intruder, and of either kind in a detection test

Generator = np.random.Generator
Measure = Callable[[Doubles, Doubles], Doubles]
"""(label's similarity, activations), both [units, clips] -> float64 [units]."""


def claimed(similarity: Doubles, threshold: Doubles) -> Bools:
    """The clips that labels claim, bool [units, clips]: those whose similarity [units, clips] exceeds a threshold."""
    return np.asarray(similarity > threshold[:, None])


def best_thresholds(similarity: Doubles, positives: Bools) -> Doubles:
    """The threshold of every unit's label with the highest F1, float64 [units]; clips above it are claimed.

    Args:
        similarity: float64 [units, clips], of seen clips.
        positives: bool [units, clips], which clips the unit responds to.
    """
    order = np.argsort(-similarity, axis=1, kind="stable")
    ranked = np.take_along_axis(similarity, order, axis=1)
    right = np.take_along_axis(positives, order, axis=1).cumsum(axis=1)
    count = np.arange(1, similarity.shape[1] + 1)
    f1 = 2 * right / (count + positives.sum(axis=1, keepdims=True))
    # Clips of equal similarity are claimed together.
    f1[:, :-1][ranked[:, :-1] == ranked[:, 1:]] = -1
    last = f1.argmax(axis=1)[:, None]
    lowest = np.take_along_axis(ranked, last, axis=1)
    following = np.take_along_axis(ranked, np.minimum(last + 1, ranked.shape[1] - 1), axis=1)
    above = np.where(last + 1 < ranked.shape[1], (lowest + following) / 2, lowest - 1)
    return np.asarray(above[:, 0])


def overlap(claims: Bools, positives: Bools) -> tuple[Doubles, Doubles]:
    """F1 and IoU of two sets of clips per unit, bool [units, clips] each; 0 where both are empty."""
    both = (claims & positives).sum(axis=1)
    either = (claims | positives).sum(axis=1)
    sizes = claims.sum(axis=1) + positives.sum(axis=1)
    return 2 * both / np.maximum(sizes, 1), both / np.maximum(either, 1)


def correlation(x: Doubles, y: Doubles) -> Doubles:
    """Pearson's correlation of rows, float64 [units]; 0 where one does not vary."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.asarray((x * y).sum(axis=1) / np.where(size > 0, size, np.inf))


def measures(thresholds: Doubles) -> dict[str, Measure]:
    """The measures that the sanity tests are put to; `thresholds`, float64 [units], are those of `claimed`."""
    return {
        "correlation": lambda x, y: correlation(x, exponential_scores(y)),
        "pearson": correlation,
        "auprc": lambda x, y: auprc(x, strongest(y)),
        "f1": lambda x, y: overlap(claimed(x, thresholds), strongest(y))[0],
        "iou": lambda x, y: overlap(claimed(x, thresholds), strongest(y))[1],
    }


def sanity(similarity: Doubles, activations: Doubles, thresholds: Doubles, seed: int = 0) -> dict[str, Any]:
    """Share of units for which each measure falls when claims are missing, and when there are extra ones.

    Units whose label claims no clip, or more than half of them, are left out.

    Args:
        similarity, activations: float64 [units, clips], of labels and of units.
        thresholds: float64 [units], of `best_thresholds`.
        seed: Of the clips that are changed.

    Returns:
        Measure -> {missing, extra}, each 0..1, and under `units` how many were tested.
    """
    claims = claimed(similarity, thresholds)
    count = claims.sum(axis=1)
    usable = (count >= 2) & (count <= claims.shape[1] // 2)
    similarity, activations, claims = similarity[usable], activations[usable], claims[usable]
    tested = measures(thresholds[usable])
    before = {name: measure(similarity, activations) for name, measure in tested.items()}
    random = np.random.default_rng(seed)
    figures: dict[str, Any] = {"units": int(usable.sum())}
    falls = {name: {"missing": [], "extra": []} for name in tested}  # type: dict[str, dict[str, list[float]]]
    for _ in range(DRAWS):
        for test, change in (("missing", _missing), ("extra", _extra)):
            changed = change(similarity, claims, random)
            for name, measure in tested.items():
                after = measure(changed, activations)
                fell = np.where(np.isclose(after, before[name]), 0.5, after < before[name])
                falls[name][test].append(float(fell.mean()) if len(fell) else np.nan)
    return figures | {
        name: {test: float(np.mean(shares)) for test, shares in of.items()} for name, of in falls.items()
    }


def _missing(similarity: Doubles, claims: Bools, random: Generator) -> Doubles:
    """Half of the claimed clips, drawn at random, get the similarity of clips drawn from the rest."""
    lost = _drawn(claims, claims.sum(axis=1) // 2, random)
    return np.where(lost, _borrowed(similarity, ~claims, random), similarity)


def _extra(similarity: Doubles, claims: Bools, random: Generator) -> Doubles:
    """As many other clips as are claimed, drawn at random, get the similarity of claimed ones."""
    gained = _drawn(~claims, claims.sum(axis=1), random)
    return np.where(gained, _borrowed(similarity, claims, random), similarity)


def _drawn(among: Bools, count: npt.NDArray[np.intp], random: Generator) -> Bools:
    """`count` [units] of the clips that are `among`, bool [units, clips], drawn at random."""
    order = np.argsort(np.where(among, random.random(among.shape), 2), axis=1)
    rank = np.argsort(order, axis=1)
    return np.asarray((rank < count[:, None]) & among)


def _borrowed(similarity: Doubles, among: Bools, random: Generator) -> Doubles:
    """For every clip the similarity of a clip drawn from those `among`, float64 [units, clips]."""
    order = np.argsort(np.where(among, random.random(among.shape), 2), axis=1)
    places = random.integers(0, among.sum(axis=1)[:, None], among.shape)
    return np.take_along_axis(similarity, np.take_along_axis(order, places, axis=1), axis=1)


def intruders(vectors: Array, activations: Doubles, seed: int = 0) -> dict[str, float]:
    """Share of intruders that the judge finds, with clips of the unit and with clips drawn at random.

    Args:
        vectors: float [clips, dim], unit length, less what all clips share.
        activations: float64 [units, clips].
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    units, clips = activations.shape
    order = np.argsort(-activations, axis=1, kind="stable")
    shares = {"measured": 0.0, "random": 0.0}
    for _ in range(DRAWS):
        weak = order[np.arange(units), random.integers(clips // 2, clips, units)]
        strong = order[:, : 2 * SHOWN][np.arange(units)[:, None], _places(units, 2 * SHOWN, random)]
        at_random = np.stack([random.permutation(clips)[: SHOWN + 1] for _ in range(units)])
        for way, shown in (("measured", np.column_stack([strong, weak])), ("random", at_random)):
            like = np.einsum("uad,ubd->uab", vectors[shown], vectors[shown])
            to_others = like.sum(axis=2) - np.einsum("uaa->ua", like)
            shares[way] += float((to_others.argmin(axis=1) == SHOWN).mean()) / DRAWS
    return {**shares, "chance": 1 / (SHOWN + 1)}


def _places(units: int, among: int, random: Generator) -> npt.NDArray[np.intp]:
    return np.asarray(np.argsort(random.random((units, among)), axis=1)[:, :SHOWN])


def detection(
    similarity: Doubles, at_random: Doubles, activations: Doubles, seed: int = 0
) -> dict[str, float]:
    """Share of clips that the judge sorts rightly by the label, and by a label drawn at random.

    Args:
        similarity, at_random: float64 [units, clips], of the labels and of random ones.
        activations: float64 [units, clips].
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    units, clips = activations.shape
    order = np.argsort(-activations, axis=1, kind="stable")
    right: Mapping[str, list[float]] = {"measured": [], "random": []}
    for _ in range(DRAWS):
        strong = order[:, : 2 * SHOWN][np.arange(units)[:, None], _places(units, 2 * SHOWN, random)]
        weak = order[:, clips // 2 :][np.arange(units)[:, None], _places(units, clips - clips // 2, random)]
        shown = np.column_stack([strong, weak])
        for way, likeness in (("measured", similarity), ("random", at_random)):
            values = np.take_along_axis(likeness, shown, axis=1)
            # The nearer half: above as many as it holds. Clips that are equally near are put in random order.
            below = (values[:, :SHOWN, None] > values[:, None, :]).sum(axis=2)
            equal = (values[:, :SHOWN, None] == values[:, None, :]).sum(axis=2)  # itself included
            right[way].append(float(np.clip((below + equal - SHOWN) / equal, 0, 1).mean()))
    return {way: float(np.mean(shares)) for way, shares in right.items()} | {"chance": 0.5}


def answers(
    activations: Array, concept: npt.NDArray[np.intp], wanted: npt.NDArray[np.intp]
) -> tuple[Doubles, Doubles]:
    """How units answer when a concept is played: area under the ROC curve, and distance of means.

    Args:
        activations: float [clips, units], of rendered clips.
        concept: int [clips], which concept each clip is of.
        wanted: int [units], the concept that is played to each unit.

    Returns:
        Both float64 [units]: area, 0..1, and the difference of the means in standard deviations of the unit.
    """
    played = concept[:, None] == wanted
    count, rest = played.sum(axis=0), (~played).sum(axis=0)
    ranks = stats.rankdata(activations, axis=0)
    area = ((ranks * played).sum(axis=0) - count * (count + 1) / 2) / np.maximum(count * rest, 1)
    means = [
        (activations * part).sum(axis=0, dtype=np.float64) / part.sum(axis=0) for part in (played, ~played)
    ]
    spread = activations.std(axis=0, dtype=np.float64)
    return np.asarray(area), np.asarray((means[0] - means[1]) / np.where(spread > 0, spread, np.inf))


def rendered_figures(
    activations: Array, concept: npt.NDArray[np.intp], wanted: npt.NDArray[np.intp], seed: int = 0
) -> dict[str, Any]:
    """Means of `answers` over the units whose label can be rendered (`wanted` is not -1), beside other concepts."""
    units = np.flatnonzero(wanted >= 0)
    if not len(units):
        return {"units": 0}
    random, kinds = np.random.default_rng(seed), np.unique(concept)
    other_kinds = np.stack([random.choice(kinds[kinds != kind]) for kind in wanted[units]])
    (area, apart), (area_random, apart_random) = (
        answers(activations[:, units], concept, played) for played in (wanted[units], other_kinds)
    )
    return {
        "units": len(units),
        "auc": {"measured": float(area.mean()), "random": float(area_random.mean()), "chance": 0.5},
        "difference": {"measured": float(apart.mean()), "random": float(apart_random.mean()), "chance": 0.0},
    }


def judged_figures(seen: Judged, held_out: Judged, vectors: Array, seed: int = 0) -> dict[str, Any]:
    """Every figure of the module but `rendered`, over units that have a label and vary.

    Args:
        seen: Of the clips that thresholds are chosen on.
        held_out: Of the clips that are measured on.
        vectors: float [held-out clips, dim], unit length, less what all clips share.
        seed: Of what is drawn.
    """
    responds = strongest(held_out.activations)
    overlaps: dict[str, dict[str, float]] = {"f1": {}, "iou": {}}
    for way in ("labels", "at_random"):
        chosen = best_thresholds(getattr(seen, way), strongest(seen.activations))
        scores = overlap(claimed(getattr(held_out, way), chosen), responds)
        for name, values in zip(("f1", "iou"), scores, strict=True):
            overlaps[name]["measured" if way == "labels" else "random"] = float(values.mean())
    thresholds = best_thresholds(seen.labels, strongest(seen.activations))
    return {
        **overlaps,
        "sanity": sanity(held_out.labels, held_out.activations, thresholds, seed),
        "intruder": intruders(vectors, held_out.activations, seed),
        "detection": detection(held_out.labels, held_out.at_random, held_out.activations, seed),
    }
