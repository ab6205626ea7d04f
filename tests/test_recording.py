"""Recordings on disk: they open on the index they were recorded on, also when it grew, and on no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import rewritten
from embedders import FakeEmbedder
from planting import plant
from sounds import WriteSound, noise, tone

from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.config import ClipConfig, RecordConfig
from and_retrieval.errors import ChecksumError, InputError, StaleError
from and_retrieval.recording.activations import FILE as ACTIVATIONS
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.manifest import EVIDENCE, QUALITIES_FILE, RecordedLayer, RecordingManifest
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import FILE as UNIT_INDEX
from and_retrieval.store import Folder
from and_retrieval.types import AttachedDictionary, Skipped

LAYERS = {"conv": 3, "head": 2}
HELD = np.array([False, True, False, False, True])


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number in range(5):
        write_sound(f"sounds/{number}.wav", tone(200 + 400 * number, 0.3, 8_000), 8_000)
    return tmp_path / "sounds"


@pytest.fixture
def index(sounds: Path, home: Path) -> ClipIndex:
    return ClipIndex.build(sounds, FakeEmbedder(), home / "tones")


def drawn(seed: int = 0, clips: int = 5) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {layer: random.random((clips, units)).astype(np.float32) for layer, units in LAYERS.items()}


def record(index: ClipIndex, name: str = "net", seed: int = 0, **facts: Any) -> Folder:
    return plant(index, drawn(seed), name, HELD, 3, **{"target": "net", **facts})


class TestOpen:
    def test_gives_what_was_recorded(self, index: ClipIndex) -> None:
        recording = Recording.open(record(index), ClipIndex.open(index.folder.path))
        assert recording.name == "tones/net"
        assert recording.manifest.index_clips == 5
        assert [(layer.name, layer.units) for layer in recording.layers] == [("conv", 3), ("head", 2)]
        units = recording.unit_index
        assert units.layers == (("conv", 3), ("head", 2))
        order = [(layer.name, unit) for layer in recording.layers for unit in range(layer.units)]
        assert order == [units.unit(row) for row in range(5)]
        assert [units.row(f"{layer}:{unit}") for layer, unit in order] == list(range(5))
        assert recording.qualities.shape == (5, len(QUALITIES))

    def test_on_an_index_that_grew(self, index: ClipIndex, sounds: Path, write_sound: WriteSound) -> None:
        folder = record(index)
        before = Recording.open(folder, index).layers
        write_sound("sounds/0-first-by-name.wav", noise(0.3, 8_000), 8_000)
        grown = ClipIndex.build(sounds, FakeEmbedder(), index.folder.path)
        assert len(grown.clips) == 6
        recording = Recording.open(folder, ClipIndex.open(index.folder.path))
        np.testing.assert_array_equal(recording.layers[0].top.rows, before[0].top.rows)
        assert [recording.index.clips[row] for row in range(5)] == list(index.clips)
        assert [*recording.seen_rows, *recording.held_out_rows] == [0, 2, 3, 1, 4]  # the new clip is neither
        assert folder.exists()  # building the index again leaves its runs alone

    def test_on_a_changed_index_is_refused(
        self, index: ClipIndex, sounds: Path, write_sound: WriteSound
    ) -> None:
        folder = record(index)
        write_sound("sounds/2.wav", noise(0.3, 8_000), 8_000)
        changed = ClipIndex.build(sounds, FakeEmbedder(), index.folder.path)
        with pytest.raises(
            StaleError, match="record it again: and-retrieval record tones --target net --run net"
        ):
            Recording.open(folder, changed)

    def test_on_an_index_with_fewer_clips_is_refused(
        self, index: ClipIndex, sounds: Path, home: Path
    ) -> None:
        folder = record(index)
        (sounds / "4.wav").unlink()
        fewer = ClipIndex.build(sounds, FakeEmbedder(), home / "fewer")
        with pytest.raises(StaleError):
            Recording.open(folder, fewer)

    def test_on_the_same_clips_of_another_embedder_is_refused(
        self, index: ClipIndex, sounds: Path, home: Path
    ) -> None:
        folder = record(index)
        other = ClipIndex.build(sounds, FakeEmbedder("fake-2"), home / "other")
        with pytest.raises(StaleError, match="other clips or another embedder"):
            Recording.open(folder, other)
        same = ClipIndex.build(sounds, FakeEmbedder(), home / "same")
        assert Recording.open(folder, same).index is same

    def test_something_else_than_a_recording(self, index: ClipIndex) -> None:
        with pytest.raises(StaleError, match="is a clip index, not a recording"):
            Recording.open(Folder(index.folder.path, "recording"), index)


class TestManifest:
    def test_every_field_comes_back(self, index: ClipIndex) -> None:
        layer = RecordedLayer("conv", 3, "max", (1, 3, 5), 1, 2, 0, 0.25, 4)
        facts = {
            "weights": "abc",
            "aliases": {"c": "conv"},
            "dictionaries": (AttachedDictionary("conv", None, None, 1, None),),
            "cut": ClipConfig(window=0.5, silence=1e-4),
            "settings": RecordConfig(
                layers=("conv",), pooling=(("c*", "max"),), hold_out="0.4", device="cpu"
            ),
            "skipped": (Skipped("a.wav", "silent"),),
        }
        folder = record(index, **facts)
        manifest = folder.open(RecordingManifest).manifest
        assert {name: getattr(manifest, name) for name in facts} == facts
        assert manifest.held_out_rows == (1, 4)
        assert manifest.read_clips == 4
        folder.commit({}, replace(manifest, layers=(layer,)))
        assert folder.open(RecordingManifest).manifest.layers == (layer,)

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            (("weights",), None, r"weights: Field required"),
            (("held_out_rows",), [1, "4"], r"held_out_rows\.1: "),
            (("layers", 1, "units"), "2", r"layers\.1\.units: "),
            (("layers", 0, "pooling"), "sum", r"layers\.0\.pooling: .*'mean', 'max', 'first' or 'last'"),
            (("cut", "silence"), "loud", r"cut\.silence: "),
            (("aliases",), [], r"aliases: "),
        ],
    )
    def test_a_flaw_is_one_line_that_names_the_file_and_the_field(
        self, path: tuple[Any, ...], value: Any, says: str, index: ClipIndex
    ) -> None:
        folder = record(index)
        content = json.loads(folder.manifest_path.read_text())
        *way, last = path
        place = content
        for step in way:
            place = place[step]
        place[last] = value
        rewritten(folder.manifest_path, **content)
        with pytest.raises(
            InputError, match=rf"net/manifest\.json is damaged \({says}.*\); make the recording again"
        ) as caught:
            Recording.open(folder, index)
        assert "\n" not in str(caught.value)


class TestActivations:
    def test_are_those_of_the_rows_in_their_order(self, index: ClipIndex) -> None:
        recording = Recording.open(record(index), index)
        assert recording.seen_rows.tolist() == [0, 2, 3]
        assert recording.held_out_rows.tolist() == [1, 4]
        for layer, values in drawn().items():
            for part, rows in ((SEEN, recording.seen_rows), (HELD_OUT, recording.held_out_rows)):
                kept = recording.activations(layer, part)  # type: ignore[arg-type]
                np.testing.assert_array_equal(kept, values[rows])
                assert isinstance(kept, np.memmap)
        rows, seen = recording.seen_activations("head")
        np.testing.assert_array_equal(rows, [0, 2, 3])
        np.testing.assert_array_equal(seen, recording.activations("head", SEEN))

    def test_leave_out_clips_that_could_not_be_read(self, index: ClipIndex) -> None:
        values = drawn()
        values["head"][2] = np.nan
        recording = Recording.open(plant(index, values, "net", HELD, 3), index)
        rows, seen = recording.seen_activations("head")
        np.testing.assert_array_equal(rows, [0, 3])
        np.testing.assert_array_equal(seen, values["head"][[0, 3]])

    def test_of_an_unknown_layer(self, index: ClipIndex) -> None:
        recording = Recording.open(record(index), index)
        with pytest.raises(InputError, match=r"unknown recorded layer 'haed'; did you mean head\?"):
            recording.activations("haed", SEEN)

    def test_with_nothing_held_out(self, index: ClipIndex) -> None:
        recording = Recording.open(plant(index, drawn(), "net"), index)
        assert recording.held_out_rows.shape == (0,)
        assert recording.held_out_rows.dtype.kind == "i"
        assert recording.activations("conv", HELD_OUT).shape == (0, 3)
        assert recording.files_of(recording.held_out_rows).tolist() == []
        np.testing.assert_array_equal(recording.seen_rows, range(5))


def test_windows_of_one_file_belong_together(home: Path, write_sound: WriteSound) -> None:
    for number in range(2):
        write_sound(f"long/{number}.wav", noise(0.9, 8_000, seed=number), 8_000)
    index = ClipIndex.build(home.parent / "long", FakeEmbedder(), home / "long", ClipConfig(window=0.3))
    recording = Recording.open(plant(index, {"one": np.zeros((6, 1))}, held=np.arange(6) % 3 == 0), index)
    files = recording.files_of(range(6))
    assert [index.clips[row].path for row in range(6)] == ["0.wav"] * 3 + ["1.wav"] * 3
    assert len(set(files[:3])) == len(set(files[3:])) == 1
    assert files[0] != files[3]
    assert recording.files_of(recording.held_out_rows).tolist() in ([0, 1], [1, 0])


class TestLayers:
    @pytest.fixture
    def recording(self, index: ClipIndex) -> Recording:
        return Recording.open(record(index, aliases={"last": "head", "first": "conv"}), index)

    @pytest.mark.parametrize(
        ("globs", "layers"),
        [
            (["head"], ("head",)), (["*"], ("conv", "head")), (["last", "c*"], ("conv", "head")),
            (["last"], ("head",)), (["la*"], ("head",)), (["head", "last"], ("head",)), ([], ()),
        ],
    )  # fmt: skip
    def test_are_named_by_globs_and_aliases(
        self, globs: list[str], layers: tuple[str, ...], recording: Recording
    ) -> None:
        assert recording.matching_layers(globs) == layers

    def test_that_were_not_recorded_are_told_with_those_that_were(self, recording: Recording) -> None:
        with pytest.raises(
            InputError, match=r"unknown recorded layer 'lats'; did you mean last\?.*tones/net"
        ):
            recording.matching_layers(["head", "lats"])


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "use"),
        [
            (EVIDENCE, lambda r: r.layers),
            (UNIT_INDEX, lambda r: r.unit_index),
            (QUALITIES_FILE, lambda r: r.qualities),
            (ACTIVATIONS, lambda r: r.activations("head", HELD_OUT)),
        ],
    )
    def test_that_were_changed_are_noticed(self, name: str, use: Any, index: ClipIndex) -> None:
        folder = record(index)
        path = folder.open(RecordingManifest).file(name)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        recording = Recording.open(folder, index)
        with pytest.raises(ChecksumError, match="was changed; make the recording again"):
            use(recording)

    def test_the_identity_is_that_of_what_was_heard(self, index: ClipIndex) -> None:
        first = Recording.open(record(index), index).identity
        assert Recording.open(record(index), index).identity == first
        assert Recording.open(record(index, seed=1), index).identity != first
