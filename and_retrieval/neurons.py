"""Neuron vectors: where a unit's top clips lie in the embedder's space, searchable by text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from . import vectors as faiss_vectors
from .store import Folder
from .types import Floats, LayerEvidence

FILE = "neurons.faiss"


@dataclass(frozen=True)
class NeuronIndex:
    """FAISS inner-product index over the neuron vectors of all layers of a run, layer after layer.

    Attributes:
        faiss: The index; a unit that never responded has the zero vector and scores 0.
        layers: (name, units) in row order.
    """

    faiss: faiss.Index
    layers: tuple[tuple[str, int], ...]

    def search(self, query: Floats, k: int = 10) -> list[tuple[str, int, float]]:
        """The units nearest to one unit-length vector [dim]: (layer, unit, cosine), best first."""
        scores, rows = faiss_vectors.search(self.faiss, query[None], k)
        found = zip(rows[0], scores[0], strict=True)
        return [(*self.unit(int(row)), float(score)) for row, score in found]

    def unit(self, row: int) -> tuple[str, int]:
        """(layer, unit) of a row."""
        for name, units in self.layers:
            if row < units:
                return name, row
            row -= units
        raise IndexError(row)


def neuron_vectors(evidence: LayerEvidence, clip_vectors: Floats) -> Floats:
    """One vector per unit, float32 [units, dim] of unit length; zero for a unit that never responded.

    The mean of the vectors of the unit's top clips, weighted by how far each activation exceeds the unit's
    mean over all clips; the mean of all clip vectors is taken off first, so that what every clip shares
    does not make every unit a match.
    """
    rows, weights = evidence.top.rows, clip_weights(evidence)
    centred = clip_vectors - clip_vectors.mean(axis=0)
    result = np.zeros((evidence.units, clip_vectors.shape[1]), np.float32)
    for rank in range(rows.shape[1]):  # k passes of [units, dim] instead of one array of k times the size
        result += weights[:, rank, None] * centred[rows[:, rank]]
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    return np.where(norms > 0, result / np.maximum(norms, 1e-12), 0).astype(np.float32)


def clip_weights(evidence: LayerEvidence) -> Floats:
    """By how much each top clip's activation exceeds the unit's mean, float32 [units, k]; 0 where it does not."""
    excess = np.where(evidence.top.rows >= 0, evidence.top.values - evidence.moments.mean[:, None], 0)
    weights: Floats = np.maximum(np.nan_to_num(excess), 0).astype(np.float32)
    return weights


def build_neuron_index(layers: Sequence[LayerEvidence], clip_vectors: Floats) -> NeuronIndex:
    """The neuron index over all units of all layers."""
    parts = [neuron_vectors(layer, clip_vectors) for layer in layers]
    sizes = tuple((layer.name, layer.units) for layer in layers)
    return NeuronIndex(faiss_vectors.build(np.concatenate(parts)), sizes)


def load_neuron_index(folder: Folder) -> NeuronIndex:
    """The neuron index of a run.

    Raises:
        ChecksumError: The file was changed.
        InputError: The run holds none.
    """
    layers = tuple((facts["name"], facts["units"]) for facts in folder.manifest()["layers"])
    return NeuronIndex(faiss_vectors.load(folder.file(FILE)), layers)
