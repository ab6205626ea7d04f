"""Neuron vectors: where the top clips of a unit lie in the embedder's space, searchable by text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np

from .. import faiss_index
from ..clips.moments import ClipMoments
from ..errors import DamagedError, InputError, unknown_name
from ..faiss_index import Mask, Rows
from ..types import Floats, LayerEvidence
from .manifest import RecordedLayer
from .peaks import evidence_vectors

FILE = "unit_index.faiss"


@dataclass(frozen=True)
class UnitIndex:
    """FAISS inner-product index over the neuron vectors of all layers of a recording, layer after layer.

    Attributes:
        faiss: The index; a unit that never responded has the zero vector and scores 0.
        layers: (name, units) in row order.
    """

    faiss: faiss.Index
    layers: tuple[tuple[str, int], ...]

    def search(self, query: Floats, k: int = 10) -> list[tuple[str, int, float]]:
        """The units nearest to one unit-length vector [dim]: (layer, unit, cosine), best first."""
        scores, rows = self.nearest(query, k)
        return [(*self.unit(int(row)), float(score)) for row, score in zip(rows, scores, strict=True)]

    def nearest(self, query: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
        """Cosines and rows of the units nearest to one unit-length vector [dim], best first."""
        scores, rows = faiss_index.search(self.faiss, query[None], k, among)
        return scores[0], rows[0]

    def vectors(self, rows: Rows) -> Floats:
        """Neuron vectors of the given rows, float32 [rows, dim]."""
        return faiss_index.stored(self.faiss, rows)

    def unit(self, row: int) -> tuple[str, int]:
        """(layer, unit) of a row."""
        if not 0 <= row < self.faiss.ntotal:
            raise IndexError(row)
        place = bisect_right(self._starts, row) - 1
        return self.layers[place][0], row - self._starts[place]

    def row(self, unit: str) -> int:
        """The row of a unit named LAYER:UNIT.

        Raises:
            InputError: The name has another form, or there is no such layer or unit.
        """
        layer, _, number = unit.rpartition(":")
        if not layer or not number.isdecimal():
            raise InputError(
                f"unit {unit!r} is not of the form LAYER:UNIT, for example {self.layers[0][0]}:0"
            )
        places = {name: place for place, (name, _) in enumerate(self.layers)}
        if layer not in places:
            raise unknown_name("layer", layer, places)
        start, units = self._starts[places[layer]], self.layers[places[layer]][1]
        if int(number) >= units:
            raise InputError(
                f"layer {layer!r} has {units} units, 0 to {units - 1}; there is no unit {number}"
            )
        return start + int(number)

    def in_layers(self, names: Collection[str]) -> Mask:
        """Whether each row belongs to a layer of these names, bool [n]."""
        return np.repeat([name in names for name, _ in self.layers], [units for _, units in self.layers])

    def rows_of(self, layer: str) -> slice:
        """The rows of a layer."""
        place = [name for name, _ in self.layers].index(layer)
        return slice(self._starts[place], self._starts[place] + self.layers[place][1])

    @cached_property
    def _starts(self) -> list[int]:
        """First row of every layer."""
        return [0, *np.cumsum([units for _, units in self.layers[:-1]], dtype=int).tolist()]


def neuron_vectors(
    evidence: LayerEvidence, clip_vectors: Floats, moments: ClipMoments | None = None
) -> Floats:
    """One vector per unit, float32 [units, dim] of unit length; zero for a unit that never responded.

    The vector is the mean of the vectors of the unit's top clips, weighted by how far each activation exceeds the
    unit's mean over all clips. The mean of all clip vectors is subtracted first, so that what all clips share does
    not make every unit match. Where the index holds moments, the vector of a top clip is that of the moment at which
    the unit was strongest, see `peaks`.
    """
    vectors, weights = evidence_vectors(evidence, clip_vectors, moments), clip_weights(evidence)
    # The scale of a unit says nothing, and squares of extreme ones would leave the range of float32.
    largest = weights.max(axis=1, initial=0, keepdims=True)
    np.divide(weights, largest, out=weights, where=largest > 0)
    result = np.zeros((evidence.units, clip_vectors.shape[1]), np.float32)
    for rank in range(
        weights.shape[1]
    ):  # k passes over [units, dim] instead of one array of k times the size
        result += weights[:, rank, None] * (vectors.take(vectors.rows[:, rank]) - vectors.mean)
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    return np.where(norms > 0, result / np.maximum(norms, 1e-12), 0).astype(np.float32)


def clip_weights(evidence: LayerEvidence) -> Floats:
    """By how much each top clip's activation exceeds the unit's mean, float32 [units, k]; 0 if it does not."""
    excess = np.where(evidence.top.rows >= 0, evidence.top.values - evidence.statistics.mean[:, None], 0)
    weights: Floats = np.maximum(np.nan_to_num(excess), 0).astype(np.float32)
    return weights


def build_unit_index(
    layers: Sequence[LayerEvidence], clip_vectors: Floats, moments: ClipMoments | None = None
) -> UnitIndex:
    """The index over all units of all layers; exact for fewer units than `faiss_index.APPROXIMATE_FROM`."""
    vectors = np.concatenate([neuron_vectors(layer, clip_vectors, moments) for layer in layers])
    sizes = tuple((layer.name, layer.units) for layer in layers)
    large = len(vectors) >= faiss_index.APPROXIMATE_FROM
    return UnitIndex((faiss_index.build_approximate if large else faiss_index.build)(vectors), sizes)


def load_unit_index(path: Path, layers: Sequence[RecordedLayer]) -> UnitIndex:
    """The unit index of a recording, from its file and the layers of its manifest.

    Raises:
        DamagedError: The file is damaged or holds another number of units.
    """
    vectors = faiss_index.load(path)
    if vectors.ntotal != sum(layer.units for layer in layers):
        raise DamagedError(f"{path} is damaged (it holds {vectors.ntotal} units); make the recording again")
    return UnitIndex(vectors, tuple((layer.name, layer.units) for layer in layers))
