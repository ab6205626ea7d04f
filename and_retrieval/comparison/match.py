"""Matches the units of two runs: pairs that are each other's nearest by neuron vector, in whatever layers they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..explanation.stored import Explained
from ..recording.recording import Recording
from ..recording.unit_index import neuron_vectors
from ..types import Floats
from .statistics import Rows, mutual, nearest, share_alike

SHOWN_MOVED = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A unit and its first label; the label is None if the unit has none, or if it fails on held-out clips."""

    layer: str
    unit: int
    label: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """Two matched units whose first labels differ."""

    a: Place
    b: Place
    cosine: float


@dataclass(frozen=True, slots=True)
class Matched:
    """Figures of the units of two runs that are each other's nearest by neuron vector.

    Attributes:
        pairs: Number of matched pairs.
        share_a, share_b: Share of matched units among the units that responded at all.
        cosine: Mean cosine of the pairs.
        random_cosine: Mean cosine of random pairs.
        shuffled_cosine: Mean cosine of the pairs when the clips of one run are shuffled: what the nearest of many units
            reaches by chance.
        shuffled_share: Share of matched units when the clips are shuffled.
        labelled: Number of pairs in which both units have a label that does not fail.
        moved: Number of pairs whose first labels differ; None if labels cannot be compared.
        moved_share: Share of moved pairs among the labelled.
        random_moved_share: Share of random pairs whose first labels differ.
        examples: The moved pairs with the highest cosines.
    """

    pairs: int
    share_a: float
    share_b: float
    cosine: float | None
    random_cosine: float
    shuffled_cosine: float | None
    shuffled_share: float
    labelled: int
    moved: int | None
    moved_share: float | None
    random_moved_share: float | None
    examples: tuple[Moved, ...]


def match_units(a: Explained, b: Explained, labels_compare: bool, seed: int = 0) -> Matched:
    """Match the units of two runs on the same clips by neuron vector, across layers.

    Args:
        a, b: Explained runs.
        labels_compare: Whether both runs were labelled the same way.
        seed: Seed of the shuffled clips.
    """
    random = np.random.default_rng(seed)
    units_a, units_b = _places(a), _places(b)
    vectors_a, vectors_b = _vectors(a.recording), _vectors(b.recording)
    same = _same_unit(units_a, units_b), _same_unit(units_b, units_a)
    of_a, cosine = nearest(vectors_a, vectors_b, same[0])
    of_b, _ = nearest(vectors_b, vectors_a, same[1])
    rows = mutual(of_a, of_b)
    shuffled = _vectors(b.recording, random.permutation(b.recording.manifest.index_clips))
    none_same = np.full(len(units_a), -1), np.full(len(units_b), -1)
    shuffled_a, shuffled_cosine = nearest(vectors_a, shuffled, none_same[0])
    shuffled_rows = mutual(shuffled_a, nearest(shuffled, vectors_a, none_same[1])[0])
    responding_a, responding_b = np.flatnonzero(vectors_a.any(axis=1)), np.flatnonzero(vectors_b.any(axis=1))
    pairs = [(units_a[i], units_b[of_a[i]], cosine[i]) for i in rows]
    labelled = [pair for pair in pairs if pair[0].label and pair[1].label]
    moved = [
        Moved(unit_a, unit_b, round(float(near), 4))
        for unit_a, unit_b, near in labelled
        if unit_a.label != unit_b.label
    ]
    labels_a, labels_b = ([unit.label for unit in units if unit.label] for units in (units_a, units_b))
    return Matched(
        pairs=len(rows),
        share_a=_share(len(rows), len(responding_a)),
        share_b=_share(len(rows), len(responding_b)),
        cosine=_rounded_mean(cosine[rows]),
        random_cosine=round(
            float(vectors_a.sum(axis=0) @ vectors_b.sum(axis=0))
            / max(len(responding_a) * len(responding_b), 1),
            4,
        ),
        shuffled_cosine=_rounded_mean(shuffled_cosine[shuffled_rows]),
        shuffled_share=_share(len(shuffled_rows), len(responding_a)),
        labelled=len(labelled),
        moved=len(moved) if labels_compare else None,
        moved_share=_share(len(moved), len(labelled)) if labels_compare else None,
        random_moved_share=round(1 - share_alike(labels_a, labels_b), 4) if labels_compare else None,
        examples=tuple(sorted(moved, key=lambda pair: -pair.cosine)[:SHOWN_MOVED]) if labels_compare else (),
    )


def _places(explained: Explained) -> list[Place]:
    return [
        Place(
            unit.layer,
            unit.unit,
            unit.labels[0].concept if unit.labels and unit.reliable != "fails" else None,
        )
        for unit in explained
    ]


def _vectors(recording: Recording, order: Rows | None = None) -> Floats:
    """Neuron vectors of all units, as recorded, or with clips in each other's place: order[row] for every row."""
    layers, recorded = recording.layers, np.arange(recording.manifest.index_clips)
    moments = recording.index.moments
    if moments is not None and len(recorded) < len(recording.index.clips):
        moments = moments.of(recorded)
    clips = recording.index.vectors()[: len(recorded)]
    if order is not None:
        layers = tuple(
            replace(
                layer, top=replace(layer.top, rows=np.where(layer.top.rows >= 0, order[layer.top.rows], -1))
            )
            for layer in layers
        )
    return np.concatenate([neuron_vectors(layer, clips, moments) for layer in layers])


def _same_unit(units: Sequence[Place], others: Sequence[Place]) -> Rows:
    row = {(unit.layer, unit.unit): number for number, unit in enumerate(others)}
    return np.array([row.get((unit.layer, unit.unit), -1) for unit in units], np.intp)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _rounded_mean(values: Floats) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None
