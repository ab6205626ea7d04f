"""Neuron vectors: where the top clips of a unit lie in the embedder's space, searchable by text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np

from .. import faiss_index
from ..clips.moments import ClipMoments
from ..errors import DamagedError, InputError, unknown_name
from ..faiss_index import Finder, Mask, Rows
from ..neighbours import STORES
from ..store import Folder, Stored, Writer
from ..types import Floats, LayerEvidence
from .manifest import RecordedLayer, RecordingManifest
from .peaks import evidence_vectors

FILE = "unit_index.faiss"
LISTS = "unit_lists"
"""Of the file that finds units among very many; its ending is that of the store."""


@dataclass(frozen=True)
class UnitIndex:
    """FAISS inner-product index over the neuron vectors of all layers of a recording, layer after layer.

    Attributes:
        faiss: The vectors; a unit that never responded has the zero vector and scores 0.
        layers: (name, units) in row order.
        finder: Finds candidates, where there are very many units.
    """

    faiss: faiss.IndexFlat
    layers: tuple[tuple[str, int], ...]
    finder: Finder | None = None

    def search(self, query: Floats, k: int = 10) -> list[tuple[str, int, float]]:
        """The units nearest to one unit-length vector [dim]: (layer, unit, cosine), best first."""
        scores, rows = self.nearest(query, k)
        return [(*self.unit(int(row)), float(score)) for row, score in zip(rows, scores, strict=True)]

    def nearest(self, query: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
        """Cosines and rows of the units nearest to one unit-length vector [dim], best first."""
        scores, rows = self.nearest_to_all(query[None], k, among)
        return scores[0], rows[0]

    def nearest_to_all(self, queries: Floats, k: int, among: Mask | None = None) -> tuple[Floats, Rows]:
        """The same of several vectors, [queries, dim]: both [queries, at most k]."""
        return faiss_index.search(self.faiss, queries, k, among, self.finder)

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
    """The index over all units of all layers, in memory; all of them are compared in a search."""
    vectors = np.concatenate([neuron_vectors(layer, clip_vectors, moments) for layer in layers])
    return UnitIndex(faiss_index.build(vectors), _sizes(layers))


@contextmanager
def unit_index_files(
    folder: Folder,
    layers: Sequence[LayerEvidence],
    clip_vectors: Floats,
    moments: ClipMoments | None,
    store: str,
) -> Iterator[dict[str, Writer | Path]]:
    """The files of the index over all units, to be committed within the block; one layer is held in memory.

    Args:
        folder: Of the recording.
        layers: Its layers.
        clip_vectors, moments: See `neuron_vectors`.
        store: What finds units, from `faiss_index.APPROXIMATE_FROM` units on.
    """
    scratch = folder.scratch(FILE)
    try:
        units = sum(layer.units for layer in layers)
        blocks = (neuron_vectors(layer, clip_vectors, moments) for layer in layers)
        faiss_index.save_blocks(blocks, units, clip_vectors.shape[1], scratch)
        files: dict[str, Writer | Path] = {FILE: scratch}
        if units >= faiss_index.APPROXIMATE_FROM:
            index = faiss_index.load(scratch)
            files[LISTS + STORES[store].file] = lambda to: STORES[store].write(faiss_index.stored(index), to)
        yield files
    finally:
        scratch.unlink(missing_ok=True)


def load_unit_index(stored: Stored[RecordingManifest]) -> UnitIndex:
    """The unit index of a recording.

    Raises:
        DamagedError: A file is damaged or holds another number of units.
        MissingExtraError: Its store needs a package that is not installed.
    """
    manifest, path = stored.manifest, stored.file(FILE)
    vectors = faiss_index.load(path)
    store = STORES[manifest.settings.store]
    lists = LISTS + store.file
    finder = store.open(stored.file(lists)) if lists in stored.files else None
    for file, count in ((path, vectors.ntotal), (lists, finder.count if finder else vectors.ntotal)):
        if count != sum(layer.units for layer in manifest.layers):
            raise DamagedError(f"{file} is damaged (it holds {count} units); make the recording again")
    return UnitIndex(vectors, _sizes(manifest.layers), finder)


def _sizes(layers: Sequence[RecordedLayer | LayerEvidence]) -> tuple[tuple[str, int], ...]:
    return tuple((layer.name, layer.units) for layer in layers)
