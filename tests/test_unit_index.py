"""Neuron vectors against a plain loop, and which unit a row of the index is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planting import recorded_layer, recording_manifest

from and_retrieval import faiss_index
from and_retrieval.errors import InputError
from and_retrieval.recording.manifest import RecordingManifest
from and_retrieval.recording.topk import RunningStatistics, RunningTopK
from and_retrieval.recording.unit_index import (
    FILE,
    UnitIndex,
    build_unit_index,
    load_unit_index,
    neuron_vectors,
    unit_index_files,
)
from and_retrieval.store import RECORDING, Folder
from and_retrieval.types import Floats, LayerEvidence


def unit_vectors(n: int, dim: int = 16, seed: int = 0) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def evidence_of(values: Floats, k: int = 5, name: str = "layer") -> LayerEvidence:
    """Evidence of activations [clips, units]."""
    clips, units = values.shape
    top, low = (RunningTopK(units, k, largest) for largest in (True, False))
    moments = RunningStatistics(units)
    rows = np.arange(clips, dtype=np.int32)
    peaks = np.zeros_like(values)
    for kept in (top, low):
        kept.update(rows, values, peaks)
    moments.update(values)
    return LayerEvidence(name, "mean", top.kept(), low.kept(), moments.statistics())


def plain(evidence: LayerEvidence, clip_vectors: Floats) -> Floats:
    centre = clip_vectors.astype(np.float64).mean(axis=0)
    result = np.zeros((evidence.units, clip_vectors.shape[1]))
    for unit in range(evidence.units):
        for row, value in zip(evidence.top.rows[unit], evidence.top.values[unit], strict=True):
            if row >= 0:
                weight = max(0.0, float(value) - float(evidence.statistics.mean[unit]))
                result[unit] += weight * (clip_vectors[row] - centre)
        norm = np.linalg.norm(result[unit])
        if norm > 0:
            result[unit] /= norm
    return result


@settings(max_examples=40, deadline=None)
@given(clips=st.integers(2, 40), units=st.integers(1, 30), k=st.integers(1, 50), seed=st.integers(0, 1000))
def test_vectors_are_those_of_a_plain_loop(clips: int, units: int, k: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((clips, units)).astype(np.float32)
    evidence, clip_vectors = evidence_of(values, k), unit_vectors(clips, seed=seed)
    vectors = neuron_vectors(evidence, clip_vectors)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, plain(evidence, clip_vectors), atol=2e-4)


def test_units_that_never_responded_or_always_the_same_have_the_zero_vector() -> None:
    values = np.random.default_rng(0).random((12, 4)).astype(np.float32)
    values[:, 1] = 0
    values[:, 2] = np.nan
    values[:, 3] = -7.5
    vectors = neuron_vectors(evidence_of(values), unit_vectors(12))
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-6)
    assert not vectors[1:].any()


def test_with_no_clips_seen_every_vector_is_zero() -> None:
    evidence = evidence_of(np.zeros((0, 3), np.float32))
    assert not neuron_vectors(evidence, unit_vectors(4)).any()


def test_a_unit_that_hears_one_kind_of_clip_points_at_it() -> None:
    clip_vectors = unit_vectors(40)
    values = np.random.default_rng(1).uniform(0, 0.01, (40, 40)).astype(np.float32)
    np.fill_diagonal(values, 1.0)
    vectors = neuron_vectors(evidence_of(values), clip_vectors)
    centred = clip_vectors - clip_vectors.mean(axis=0)
    np.testing.assert_array_equal((vectors @ centred.T).argmax(axis=1), np.arange(40))


class TestIndex:
    @pytest.fixture
    def layers(self) -> list[LayerEvidence]:
        random = np.random.default_rng(0)
        sizes = {"a": 4, "b": 1, "c": 6}
        return [
            evidence_of(random.random((20, n)).astype(np.float32), name=name) for name, n in sizes.items()
        ]

    def test_rows_are_layer_after_layer(self, layers: list[LayerEvidence]) -> None:
        index = build_unit_index(layers, unit_vectors(20))
        expected = [("a", n) for n in range(4)] + [("b", 0)] + [("c", n) for n in range(6)]
        assert [index.unit(row) for row in range(11)] == expected
        with pytest.raises(IndexError):
            index.unit(11)
        stored = faiss_index.stored(index.faiss)
        np.testing.assert_array_equal(stored[5:], neuron_vectors(layers[2], unit_vectors(20)))

    def test_units_and_layers_by_name(self, layers: list[LayerEvidence]) -> None:
        index = build_unit_index(layers, unit_vectors(20))
        for row in range(11):
            layer, unit = index.unit(row)
            assert index.row(f"{layer}:{unit}") == row
        assert np.flatnonzero(index.in_layers(["a", "b"])).tolist() == [0, 1, 2, 3, 4]
        assert np.flatnonzero(index.in_layers(["c", "b"])).tolist() == list(range(4, 11))
        assert not index.in_layers([]).any()
        assert [index.rows_of(layer) for layer in "abc"] == [slice(0, 4), slice(4, 5), slice(5, 11)]
        for wrong, says in (
            ("b:1", "has 1 units"),
            ("d:0", "known: a, b, c"),
            ("a", "LAYER:UNIT"),
            (":1", "LAYER:UNIT"),
        ):
            with pytest.raises(InputError, match=says):
                index.row(wrong)

    def test_every_unit_finds_itself(self, layers: list[LayerEvidence]) -> None:
        index = build_unit_index(layers, unit_vectors(20))
        for row, vector in enumerate(faiss_index.stored(index.faiss)):
            layer, unit, score = index.search(vector, 3)[0]
            assert (layer, unit) == index.unit(row)
            assert score == pytest.approx(1, abs=1e-5)
        assert len(index.search(vector, 100)) == 11

    def test_saved_with_a_run_and_loaded(self, layers: list[LayerEvidence], tmp_path: Path) -> None:
        index = build_unit_index(layers, unit_vectors(20))
        folder = Folder(tmp_path / "run", RECORDING)
        manifest = recording_manifest(recorded_layer(layer.name, layer.units) for layer in layers)
        with unit_index_files(folder, layers, unit_vectors(20), None, "faiss") as files:
            folder.commit(files, manifest)
        stored = folder.open(RecordingManifest)
        again = load_unit_index(stored)
        assert again.layers == index.layers == (("a", 4), ("b", 1), ("c", 6))
        query = unit_vectors(1, seed=9)[0]
        assert again.search(query, 5) == index.search(query, 5)
        folder.commit({}, manifest)
        with pytest.raises(InputError, match=r"has no unit_index\.faiss; make the recording again"):
            folder.open(RecordingManifest).file(FILE)

    def test_a_dead_unit_scores_zero(self) -> None:
        values = np.random.default_rng(0).random((12, 2)).astype(np.float32)
        values[:, 1] = 0
        index: UnitIndex = build_unit_index([evidence_of(values)], unit_vectors(12))
        scores = {unit: score for _, unit, score in index.search(unit_vectors(1, seed=3)[0])}
        assert scores[1] == 0
