"""Evidence gathered in batches against all activations at once; what is kept on disk comes back bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planting import commit_batches

from and_retrieval.errors import ChecksumError
from and_retrieval.network.layers import LayerPlan
from and_retrieval.recording.activations import FILE as ACTIVATIONS
from and_retrieval.recording.activations import (
    HELD_OUT,
    SEEN,
    Activations,
    new_activations,
    open_activations,
)
from and_retrieval.recording.evidence import Batch, gather, load_evidence
from and_retrieval.recording.manifest import EVIDENCE, RecordingManifest
from and_retrieval.store import RECORDING, Folder
from and_retrieval.types import Floats, LayerEvidence

PLANS = (
    LayerPlan("conv", 7, 1, 2, "mean"),
    LayerPlan("head", 3, 1, None, "max"),
    LayerPlan("one", 1, 1, None, "mean"),
)
SIZES = [plan.units for plan in PLANS]
Held = npt.NDArray[np.bool_]


class Network:
    """Random activations and peaks of `PLANS` on some clips, a few of which cannot be read."""

    def __init__(self, clips: int, seed: int = 0, unread: Sequence[int] = ()) -> None:
        random = np.random.default_rng(seed)
        self.values = {p.name: random.standard_normal((clips, p.units)).astype(np.float32) for p in PLANS}
        self.peaks = {p.name: random.uniform(0, 5, (clips, p.units)).astype(np.float32) for p in PLANS}
        self.rows = np.array([row for row in random.permutation(clips) if row not in unread], np.int32)
        self.held: Held = random.random(clips) < 0.3

    def batches(self, size: int) -> Iterator[Batch]:
        for first in range(0, len(self.rows), size):
            rows = self.rows[first : first + size]
            yield rows, {p.name: (self.values[p.name][rows], self.peaks[p.name][rows]) for p in PLANS}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run", RECORDING)


def committed(network: Network, folder: Folder, top_k: int = 5, size: int = 4) -> tuple[LayerEvidence, ...]:
    return commit_batches(folder, network.batches(size), PLANS, network.held, top_k)


def evidence_in(folder: Folder) -> tuple[LayerEvidence, ...]:
    stored = folder.open(RecordingManifest)
    return load_evidence(stored.file(EVIDENCE), stored.manifest.layers, stored.manifest.index_clips)


def activations_in(folder: Folder) -> Activations:
    return open_activations(folder.open(RecordingManifest).file(ACTIVATIONS))


def arrays(layer: LayerEvidence) -> dict[str, npt.NDArray[np.generic]]:
    parts = {"top": layer.top, "low": layer.low, "statistics": layer.statistics}
    return {
        f"{part}.{field.name}": np.asarray(getattr(value, field.name))
        for part, value in parts.items()
        for field in fields(value)
    }


@settings(max_examples=25, deadline=None)
@given(clips=st.integers(1, 60), size=st.integers(1, 20), top_k=st.integers(1, 12), seed=st.integers(0, 1000))
def test_batches_give_what_all_activations_at_once_give(
    tmp_path_factory: pytest.TempPathFactory, clips: int, size: int, top_k: int, seed: int
) -> None:
    network = Network(clips, seed, unread=range(0, clips, 7))
    held = int(network.held.sum())
    activations = new_activations(tmp_path_factory.mktemp("any") / "a", SIZES, clips - held, held)
    tapes = gather(network.batches(size), PLANS, network.held, top_k, activations)
    assert not any(tape.missing.any() or tape.missing_clips for tape in tapes)
    evidence = [tape.evidence(plan.name, plan.pooling) for tape, plan in zip(tapes, PLANS, strict=True)]
    shown = np.sort(network.rows[~network.held[network.rows]])
    for plan, layer in zip(PLANS, evidence, strict=True):
        values, peaks = network.values[plan.name], network.peaks[plan.name]
        assert (layer.name, layer.pooling, layer.units) == (plan.name, plan.pooling, plan.units)
        for kept, order in ((layer.top, -1), (layer.low, 1)):
            best = shown[np.argsort(order * values[shown], axis=0, kind="stable")[:top_k]].T
            count = best.shape[1]
            np.testing.assert_array_equal(kept.rows[:, :count], best)
            np.testing.assert_array_equal(kept.values[:, :count], np.take_along_axis(values.T, best, axis=1))
            np.testing.assert_array_equal(kept.peaks[:, :count], np.take_along_axis(peaks.T, best, axis=1))
            assert (kept.rows[:, count:] == -1).all()
            assert np.isnan(kept.values[:, count:]).all()
            used = set(kept.rows.ravel().tolist()) - {-1}
            assert used.isdisjoint(np.flatnonzero(network.held).tolist())
        assert layer.statistics.count == len(shown)
        if len(shown):
            seen = values[shown].astype(np.float64)
            np.testing.assert_allclose(layer.statistics.mean, seen.mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(layer.statistics.std, seen.std(axis=0), atol=1e-6)
            np.testing.assert_array_equal(layer.statistics.low, values[shown].min(axis=0))
            np.testing.assert_array_equal(layer.statistics.high, values[shown].max(axis=0))


class TestOnDisk:
    def test_evidence_comes_back_bit_by_bit(self, folder: Folder) -> None:
        evidence = committed(Network(9), folder, top_k=12)  # more than there are clips: NaN and -1 as well
        loaded = evidence_in(folder)
        assert len(loaded) == len(evidence)
        for one, other in zip(evidence, loaded, strict=True):
            assert (one.name, one.pooling) == (other.name, other.pooling)
            again = arrays(other)
            for name, array in arrays(one).items():
                assert array.dtype == again[name].dtype
                assert array.shape == again[name].shape
                assert array.tobytes() == again[name].tobytes()

    @pytest.mark.parametrize("size", [1, 4, 100])
    def test_activations_are_those_of_the_network(self, size: int, folder: Folder) -> None:
        unread = [2, 11, 17]
        network = Network(30, unread=unread)
        committed(network, folder, size=size)
        activations = activations_in(folder)
        for part, wanted in ((HELD_OUT, network.held), (SEEN, ~network.held)):
            rows = np.flatnonzero(wanted)
            assert 0 < len(rows) < 30
            missing = np.isin(rows, unread)
            for number, plan in enumerate(PLANS):
                kept = activations.layer(number, part)
                assert isinstance(kept, np.memmap)
                assert not kept.flags.writeable
                assert kept.dtype == np.float32
                expected = network.values[plan.name][rows]
                np.testing.assert_array_equal(kept[~missing], expected[~missing])
                assert np.isnan(kept[missing]).all()

    def test_two_recordings_give_the_same_bytes(self, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            folder = Folder(tmp_path / name / "run", RECORDING)
            committed(Network(20), folder)
            made.append({path.name: path.read_bytes() for path in folder.path.iterdir()})
        assert made[0] == made[1]
        assert len(made[0]) == 3  # however many layers there are

    @pytest.mark.parametrize("everything", [True, False])
    def test_all_or_nothing_held_out(self, everything: bool, folder: Folder) -> None:
        network = Network(6)
        network.held[:] = everything
        committed(network, folder)
        activations = activations_in(folder)
        assert activations.layer(0, HELD_OUT).shape == (6 * everything, 7)
        assert activations.layer(0, SEEN).shape == (6 * (not everything), 7)
        assert evidence_in(folder)[0].statistics.count == 6 * (not everything)

    def test_activations_of_any_size_are_kept(self, folder: Folder) -> None:
        network = Network(4)
        network.held[:] = [True, True, True, False]
        network.values["head"][:, 0] = [1e6, -1e6, 1e-9, 1e6]
        evidence = committed(network, folder)
        kept: Floats = np.asarray(activations_in(folder).layer(1, HELD_OUT)[:, 0], np.float32)
        np.testing.assert_array_equal(kept, np.array([1e6, -1e6, 1e-9], np.float32))
        assert evidence[1].top.values[0, 0] == 1e6

    def test_what_is_no_finite_number_is_missing_for_its_unit_alone(self, folder: Folder) -> None:
        network = Network(6)
        network.held[:] = [True, True, False, False, False, False]
        network.values["head"][[1, 3], 0] = [np.inf, np.nan]
        evidence = committed(network, folder)
        held_out, seen = (activations_in(folder).layer(1, part) for part in (HELD_OUT, SEEN))
        np.testing.assert_array_equal(np.isnan(held_out[:, 0]), [False, True])
        np.testing.assert_array_equal(np.isnan(seen[:, 0]), [False, True, False, False])
        assert np.isfinite(seen[:, 1:]).all()
        assert 3 not in evidence[1].top.rows[0]
        assert 3 in evidence[1].top.rows[1]

    def test_recording_again_with_fewer_layers_leaves_nothing_behind(self, folder: Folder) -> None:
        network = Network(12)
        committed(network, folder)
        batches = ((rows, {"conv": outputs["conv"]}) for rows, outputs in network.batches(4))
        commit_batches(folder, batches, PLANS[:1], network.held, 3)
        assert len(list(folder.path.iterdir())) == 3
        assert [layer.name for layer in evidence_in(folder)] == ["conv"]

    def test_a_recording_that_breaks_off_leaves_the_run_before(self, folder: Folder) -> None:
        committed(Network(12), folder)
        before = {path.name: path.read_bytes() for path in folder.path.iterdir()}

        def broken() -> Iterator[Batch]:
            yield from Network(12, seed=1).batches(4)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            commit_batches(folder, broken(), PLANS, Network(12).held, 5)
        assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
        assert len(evidence_in(folder)) == 3

    @pytest.mark.parametrize("name", [EVIDENCE, ACTIVATIONS])
    def test_changed_files_are_noticed(self, name: str, folder: Folder) -> None:
        committed(Network(12), folder)
        path = folder.open(RecordingManifest).file(name)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(ChecksumError, match=r"was changed; make the recording again"):
            folder.open(RecordingManifest).file(name)
