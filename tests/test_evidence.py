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

from and_retrieval.errors import ChecksumError, InputError
from and_retrieval.network.layers import LayerPlan
from and_retrieval.recording.evidence import (
    Batch,
    Gathered,
    evidence_files,
    gather,
    layer_facts,
    load_activations,
    load_evidence,
)
from and_retrieval.store import Folder
from and_retrieval.types import Floats, LayerEvidence

PLANS = (
    LayerPlan("conv", 7, 1, 2, "mean"),
    LayerPlan("head", 3, 1, None, "max"),
    LayerPlan("one", 1, 1, None, "mean"),
)
Held = npt.NDArray[np.bool_]


class Recording:
    """Random activations and peaks of `PLANS` on some clips, a few of which cannot be read."""

    def __init__(self, clips: int, seed: int = 0, unread: Sequence[int] = ()) -> None:
        random = np.random.default_rng(seed)
        self.values = {p.name: random.standard_normal((clips, p.units)).astype(np.float32) for p in PLANS}
        self.peaks = {p.name: random.uniform(0, 5, (clips, p.units)).astype(np.float32) for p in PLANS}
        self.rows = np.array([row for row in random.permutation(clips) if row not in unread], np.int32)
        self.held = random.random(clips) < 0.3

    def batches(self, size: int) -> Iterator[Batch]:
        for first in range(0, len(self.rows), size):
            rows = self.rows[first : first + size]
            yield rows, {p.name: (self.values[p.name][rows], self.peaks[p.name][rows]) for p in PLANS}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run", "run")


def committed(recording: Recording, folder: Folder, top_k: int = 5, size: int = 4) -> Gathered:
    gathered = gather(recording.batches(size), PLANS, recording.held, top_k, folder)
    folder.commit(evidence_files(gathered), {"layers": layer_facts(gathered.layers)})
    return gathered


def arrays(layer: LayerEvidence) -> dict[str, npt.NDArray[np.generic]]:
    parts = {"top": layer.top, "low": layer.low, "moments": layer.moments}
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
    recording = Recording(clips, seed, unread=range(0, clips, 7))
    folder = Folder(tmp_path_factory.mktemp("any") / "run", "run")
    gathered = gather(recording.batches(size), PLANS, recording.held, top_k, folder)
    shown = np.sort(recording.rows[~recording.held[recording.rows]])
    for plan, layer in zip(PLANS, gathered.layers, strict=True):
        values, peaks = recording.values[plan.name], recording.peaks[plan.name]
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
            assert used.isdisjoint(np.flatnonzero(recording.held).tolist())
        assert layer.moments.count == len(shown)
        if len(shown):
            seen = values[shown].astype(np.float64)
            np.testing.assert_allclose(layer.moments.mean, seen.mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(layer.moments.std, seen.std(axis=0), atol=1e-6)
            np.testing.assert_array_equal(layer.moments.low, values[shown].min(axis=0))
            np.testing.assert_array_equal(layer.moments.high, values[shown].max(axis=0))


class TestOnDisk:
    def test_evidence_comes_back_bit_by_bit(self, folder: Folder) -> None:
        gathered = committed(Recording(9), folder, top_k=12)  # more than there are clips: NaN and -1 as well
        loaded = load_evidence(folder)
        assert len(loaded) == len(gathered.layers)
        for one, other in zip(gathered.layers, loaded, strict=True):
            assert (one.name, one.pooling) == (other.name, other.pooling)
            again = arrays(other)
            for name, array in arrays(one).items():
                assert array.dtype == again[name].dtype
                assert array.shape == again[name].shape
                assert array.tobytes() == again[name].tobytes()

    @pytest.mark.parametrize("size", [1, 4, 100])
    def test_activations_are_those_of_the_network_in_half_precision(self, size: int, folder: Folder) -> None:
        unread = [2, 11, 17]
        recording = Recording(30, unread=unread)
        committed(recording, folder, size=size)
        for part, wanted in (("held_out", recording.held), ("seen", ~recording.held)):
            rows = np.flatnonzero(wanted)
            assert 0 < len(rows) < 30
            missing = np.isin(rows, unread)
            for plan in PLANS:
                kept = load_activations(folder, plan.name, part)
                assert isinstance(kept, np.memmap)
                assert not kept.flags.writeable
                assert kept.dtype == np.float16
                expected = recording.values[plan.name][rows].astype(np.float16)
                np.testing.assert_array_equal(kept[~missing], expected[~missing])
                assert np.isnan(kept[missing]).all()

    def test_two_recordings_give_the_same_bytes(self, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            folder = Folder(tmp_path / name / "run", "run")
            committed(Recording(20), folder)
            made.append({path.name: path.read_bytes() for path in folder.path.iterdir()})
        assert made[0] == made[1]
        assert len(made[0]) == 2 + 2 * len(PLANS)

    @pytest.mark.parametrize("everything", [True, False])
    def test_all_or_nothing_held_out(self, everything: bool, folder: Folder) -> None:
        recording = Recording(6)
        recording.held[:] = everything
        committed(recording, folder)
        assert load_activations(folder, "conv", "held_out").shape == (6 * everything, 7)
        assert load_activations(folder, "conv", "seen").shape == (6 * (not everything), 7)
        assert load_evidence(folder)[0].moments.count == 6 * (not everything)

    def test_activations_beyond_half_precision_are_clipped(self, folder: Folder) -> None:
        recording = Recording(4)
        recording.held[:] = [True, True, True, False]
        recording.values["head"][:, 0] = [1e6, -1e6, 1e-9, 1e6]
        gathered = committed(recording, folder)
        kept: Floats = np.asarray(load_activations(folder, "head", "held_out")[:, 0], np.float32)
        np.testing.assert_array_equal(kept, [65504, -65504, 0])
        assert gathered.layers[1].top.values[0, 0] == 1e6  # the evidence keeps float32

    def test_recording_again_with_fewer_layers_leaves_nothing_behind(self, folder: Folder) -> None:
        recording = Recording(12)
        committed(recording, folder)
        first = PLANS[:1]
        batches = ((rows, {"conv": found["conv"]}) for rows, found in recording.batches(4))
        gathered = gather(batches, first, recording.held, 3, folder)
        folder.commit(evidence_files(gathered), {"layers": layer_facts(gathered.layers)})
        assert len(list(folder.path.iterdir())) == 4
        assert [layer.name for layer in load_evidence(folder)] == ["conv"]

    def test_a_recording_that_breaks_off_leaves_the_run_before(self, folder: Folder) -> None:
        committed(Recording(12), folder)
        before = {path.name: path.read_bytes() for path in folder.path.iterdir()}

        def broken() -> Iterator[Batch]:
            yield from Recording(12, seed=1).batches(4)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gather(broken(), PLANS, Recording(12).held, 5, folder)
        assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
        assert len(load_evidence(folder)) == 3

    def test_unknown_layers_and_changed_files(self, folder: Folder) -> None:
        committed(Recording(12), folder)
        with pytest.raises(InputError, match="did not record layer 'cnov'; it recorded conv, head, one"):
            load_activations(folder, "cnov", "seen")
        for name, load in (
            ("evidence.safetensors", lambda: load_evidence(folder)),
            ("held_out-1.npy", lambda: load_activations(folder, "head", "held_out")),
        ):
            path = folder.file(name)
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
            with pytest.raises(ChecksumError, match="was changed"):
                load()
