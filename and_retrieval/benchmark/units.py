"""How well concepts find units of which it is known what they stand for, in any run.

Known are the units of a layer that has one for every class of the network, or those that a table names. Concepts
search as `search` does: texts less what all texts share, against neuron vectors. Intervals are over concepts.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import faiss_index
from ..errors import InputError
from ..explanation.space import concept_directions
from ..faiss_index import Mask
from ..recording.recording import Recording
from ..vocabulary import plain
from .intervals import Files
from .names import labels_of
from .retrieval import Group, Question, incidence

SHOWN = 5
"""Names in a message."""


@dataclass(frozen=True)
class KnownUnits:
    """Concepts, each with the units that stand for it.

    Attributes:
        units: Concept -> (layer, unit), at least one.
        unmatched: Concepts that are asked for and have no unit.
    """

    units: Mapping[str, tuple[tuple[str, int], ...]]
    unmatched: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the units."""
        return tuple(dict.fromkeys(layer for units in self.units.values() for layer, _ in units))


def class_units(
    recording: Recording, class_names: Sequence[str] | None, aliases: Mapping[str, str]
) -> KnownUnits:
    """The units of the last layer that has as many as the network has classes: unit i stands for class i.

    Args:
        recording: The run.
        class_names: Of its network. Those that a label of the clips names are asked for, or all where none has a label;
            a name of several parts ("Chicken, rooster") has each of them as a name.
        aliases: Label -> class name.

    Raises:
        InputError: No classes, no such layer, or no label names a class.
    """
    names = class_names or ()
    layer = next((one.name for one in reversed(recording.layers) if names and one.units == len(names)), None)
    if layer is None:
        problem = f"no layer of {recording.name} has a unit for each of the {len(names)} classes" if names else (
            f"the network of {recording.name} names no classes"
        )  # fmt: skip
        raise InputError(f"{problem}; give --truth FILE, a CSV with the columns concept,layer,unit")
    place: dict[str, int] = {}
    for parts in ([(name,) for name in names], [name.split(",") for name in names]):  # whole names come first
        for number, forms in enumerate(parts):
            for form in forms:
                place.setdefault(plain(form), number)
    labels = labels_of(recording.index.clips[: recording.manifest.index_clips]) or tuple(names)
    concepts = [aliases.get(label, label.replace("_", " ")) for label in labels]
    known = {concept: ((layer, place[plain(concept)]),) for concept in concepts if plain(concept) in place}
    if not known:
        raise InputError(
            f"no label of the clips ({', '.join(labels[:SHOWN])}, ...) names a class of the network "
            f"({', '.join(names[:SHOWN])}, ...); give --names FILE, a CSV with the columns label,name"
        )
    return KnownUnits(known, tuple(concept for concept in concepts if concept not in known))


def read_truth(path: Path, recording: Recording) -> KnownUnits:
    """What a CSV with the columns concept, layer and unit says of a run's units.

    Raises:
        InputError: It cannot be read, lacks a column, holds no row, or names a unit that the run does not have.
    """
    units: dict[str, list[tuple[str, int]]] = {}
    sizes = {layer.name: layer.units for layer in recording.layers}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            for number, row in enumerate(csv.DictReader(stream), 2):
                layer, unit = row["layer"].strip(), row["unit"].strip()
                if layer not in sizes or not unit.isdecimal() or int(unit) >= sizes[layer]:
                    raise InputError(f"{path}, line {number}: {recording.name} has no unit {layer}:{unit}")
                units.setdefault(row["concept"].strip(), []).append((layer, int(unit)))
    except (OSError, KeyError, AttributeError, UnicodeDecodeError, csv.Error):
        raise InputError(f"{path} is not a readable UTF-8 CSV with the columns concept,layer,unit") from None
    if not units or "" in units:
        raise InputError(
            f"{path} names no unit, or a unit without a concept; give rows of concept,layer,unit"
        )
    return KnownUnits({concept: tuple(dict.fromkeys(of)) for concept, of in units.items()})


def unit_figures(recording: Recording, known: KnownUnits) -> dict[str, Group]:
    """R@k, mAP and the median rank of concepts searching units: among all, and among those of the known layers."""
    index, units = recording.index, recording.unit_index
    concepts = tuple(known.units)
    texts = concept_directions(index, concepts)
    vectors = faiss_index.stored(units.faiss)
    owner = np.array([place for place, concept in enumerate(concepts) for _ in known.units[concept]])
    rows = np.array([units.row(f"{layer}:{unit}") for of in known.units.values() for layer, unit in of])
    numbers = np.arange(len(concepts))
    files = Files(concepts)

    def among(chosen: Mask) -> Group:
        place = np.cumsum(chosen) - 1
        item_says = incidence(place[rows], owner, int(chosen.sum()), len(concepts))
        query_says = incidence(numbers, numbers, len(concepts), len(concepts))
        return Question(texts, vectors[chosen], query_says, item_says, numbers).figures(files, depth=None)

    return {
        "all_units": among(np.ones(len(vectors), bool)),
        "units_of_known_layers": among(units.in_layers(known.layers)),
    }
