"""Units of two runs matched by what they answer to: each other's nearest by neuron vector, whatever their layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..explanation.stored import Explained
from ..recording.recording import Recording
from ..recording.unit_index import neuron_vectors
from ..types import Floats
from .statistics import Rows, mutual, nearest, share_alike

SHOWN_MOVED = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A unit and its first label; None where it has none, or one that does not hold on held-out clips."""

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
    """Units of two runs that are each other's nearest, by neuron vector.

    Attributes:
        pairs: How many.
        share_a, share_b: Of the units that responded at all.
        cosine: Mean over pairs; beside it
        random_cosine: of random pairs, and
        shuffled_cosine: of nearest units when the clips of one run are dealt out at random; what a nearest unit
            among many has by chance.
        shuffled_share: Of the units that are matched then.
        labelled: Pairs of which both have a label that holds.
        moved: Pairs whose first labels differ; None where labels cannot be compared.
        moved_share: Of `labelled`; beside it
        random_moved_share: of random pairs.
        examples: The nearest of the moved pairs.
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
    """Match the units of two runs on the same clips by their neuron vectors, whatever layer they are in."""
    random = np.random.default_rng(seed)
    units_a, units_b = _places(a), _places(b)
    vectors_a, vectors_b = _vectors(a.recording), _vectors(b.recording)
    same = _same_unit(units_a, units_b), _same_unit(units_b, units_a)
    of_a, cosine = nearest(vectors_a, vectors_b, same[0])
    of_b, _ = nearest(vectors_b, vectors_a, same[1])
    rows = mutual(of_a, of_b)
    dealt = _vectors(b.recording, random.permutation(b.recording.manifest.index_clips))
    nobody = np.full(len(units_a), -1), np.full(len(units_b), -1)
    dealt_a, dealt_cosine = nearest(vectors_a, dealt, nobody[0])
    dealt_rows = mutual(dealt_a, nearest(dealt, vectors_a, nobody[1])[0])
    heard_a, heard_b = np.flatnonzero(vectors_a.any(axis=1)), np.flatnonzero(vectors_b.any(axis=1))
    labelled = [(units_a[i], units_b[of_a[i]], cosine[i]) for i in rows]
    labelled = [one for one in labelled if one[0].label and one[1].label]
    moved = [
        Moved(one, other, round(float(near), 4)) for one, other, near in labelled if one.label != other.label
    ]
    own_a, own_b = ([unit.label for unit in units if unit.label] for units in (units_a, units_b))
    return Matched(
        pairs=len(rows),
        share_a=_share(len(rows), len(heard_a)),
        share_b=_share(len(rows), len(heard_b)),
        cosine=_rounded_mean(cosine[rows]),
        random_cosine=round(
            float(vectors_a.sum(axis=0) @ vectors_b.sum(axis=0)) / max(len(heard_a) * len(heard_b), 1), 4
        ),
        shuffled_cosine=_rounded_mean(dealt_cosine[dealt_rows]),
        shuffled_share=_share(len(dealt_rows), len(heard_a)),
        labelled=len(labelled),
        moved=len(moved) if labels_compare else None,
        moved_share=_share(len(moved), len(labelled)) if labels_compare else None,
        random_moved_share=round(1 - share_alike(own_a, own_b), 4) if labels_compare else None,
        examples=tuple(sorted(moved, key=lambda one: -one.cosine)[:SHOWN_MOVED]) if labels_compare else (),
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


def _vectors(run: Recording, dealt: Rows | None = None) -> Floats:
    """Neuron vectors of all units, as recorded, or with each clip standing for the one it is dealt to."""
    clips = run.index.vectors()[: run.manifest.index_clips]
    clips = clips if dealt is None else clips[dealt]
    return np.concatenate([neuron_vectors(layer, clips) for layer in run.layers])


def _same_unit(units: Sequence[Place], others: Sequence[Place]) -> Rows:
    row = {(unit.layer, unit.unit): number for number, unit in enumerate(others)}
    return np.array([row.get((unit.layer, unit.unit), -1) for unit in units], np.intp)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _rounded_mean(values: Floats) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None
