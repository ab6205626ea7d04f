"""Runs on disk: they open on the index they were recorded on, also when it grew, and on no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedders import FakeEmbedder
from sounds import WriteSound, noise, tone

from and_retrieval import faiss_index
from and_retrieval.clips.index import ClipIndex
from and_retrieval.errors import InputError, StaleError
from and_retrieval.network.layers import LayerPlan
from and_retrieval.recording.evidence import evidence_files, gather, layer_facts
from and_retrieval.recording.recording import SETTINGS, Recording, unit_rows
from and_retrieval.recording.unit_index import FILE, build_unit_index
from and_retrieval.store import EXPLANATIONS, Folder
from and_retrieval.types import Explanation, Label, Meaning, Shown, Summary, UnitFaithfulness

PLANS = (LayerPlan("conv", 3, 1, None, "mean"), LayerPlan("head", 2, 1, None, "mean"))

EXPLANATIONS_OF_TWO = (
    Explanation(
        "conv", 0, (Label("rain", 0.5), Label("Rädchen", -0.25, "both")),
        Summary("Responds to rain.", False, None, "wolves", "repaired"),
        (Shown("a/b.wav", 10.0, 1.25, 3.5, 4, "rain on a roof"), Shown("c.wav", 0.0, 0.0, 2.0)), (),
        UnitFaithfulness(9, 0.5, 0.1, 0.2, 0.75, 0.2, 0.01, True), "high sounds",
        UnitFaithfulness(9, 0.25, 0.1, 0.3, 0.5, 0.2, 0.25, False),
        (
            Meaning(
                (Label("rain", 0.5),), Summary("Rain on a roof.", False, origin="written"), (0,),
                UnitFaithfulness(9, 0.25, 0.1, 0.2, 0.5, 0.2, 0.01, True),
            ),
            Meaning((), Summary(None, True, "no concept"), (1,)),
        ),
        0.625, ("rain", "roof"),
    ),
    Explanation("head", 1, (), Summary(None, True, "too long", "raw\nanswer"), (), (Shown("x", 0, 0, -1.0),)),
)  # fmt: skip


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number in range(5):
        write_sound(f"sounds/{number}.wav", tone(200 + 400 * number, 0.3, 8_000), 8_000)
    return tmp_path / "sounds"


@pytest.fixture
def index(sounds: Path, home: Path) -> ClipIndex:
    return ClipIndex.build(sounds, FakeEmbedder(), home / "tones")


def record(index: ClipIndex, name: str = "net", seed: int = 0) -> Folder:
    random = np.random.default_rng(seed)
    rows = np.arange(len(index.clips), dtype=np.int32)
    held = rows == 1
    found = {
        p.name: (
            random.random((len(rows), p.units)).astype(np.float32),
            np.zeros((len(rows), p.units), np.float32),
        )
        for p in PLANS
    }
    folder = Folder(index.folder.path / "runs" / name, "run")
    gathered = gather([(rows, found)], PLANS, held, 3, folder)
    neurons = build_unit_index(gathered.layers, index.vectors())
    facts: dict[str, Any] = {
        "target": "net",
        "index_clips": len(index.clips),
        "index_digest": index.digest(),
        "layers": layer_facts(gathered.layers),
    }
    files = {FILE: lambda path: faiss_index.save(neurons.faiss, path), **evidence_files(gathered)}
    folder.commit(files, facts)
    return folder


class TestOpen:
    def test_gives_what_was_recorded(self, index: ClipIndex) -> None:
        run = Recording.open(record(index), ClipIndex.open(index.folder.path))
        assert run.name == "tones/net"
        assert run.facts["index_clips"] == 5
        assert [(layer.name, layer.units) for layer in run.layers] == [("conv", 3), ("head", 2)]
        assert run.neurons.layers == (("conv", 3), ("head", 2))
        order = [(layer.name, unit) for layer, unit in unit_rows(run.layers)]
        assert order == [run.neurons.unit(row) for row in range(5)]

    def test_on_an_index_that_grew(self, index: ClipIndex, sounds: Path, write_sound: WriteSound) -> None:
        folder = record(index)
        before = Recording.open(folder, index).layers
        write_sound("sounds/0-first-by-name.wav", noise(0.3, 8_000), 8_000)
        grown = ClipIndex.build(sounds, FakeEmbedder(), index.folder.path)
        assert len(grown.clips) == 6
        run = Recording.open(folder, ClipIndex.open(index.folder.path))
        np.testing.assert_array_equal(run.layers[0].top.rows, before[0].top.rows)
        assert [run.index.clips[row] for row in range(5)] == list(index.clips)
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

    def test_something_else_than_a_run(self, index: ClipIndex) -> None:
        with pytest.raises(StaleError, match="is a clip index, not a run"):
            Recording.open(Folder(index.folder.path, "run"), index)


class TestExplanations:
    @pytest.fixture
    def run(self, index: ClipIndex) -> Recording:
        return Recording.open(record(index), index)

    def test_come_back_as_they_were(self, run: Recording) -> None:
        assert not run.explained()
        run.write_explanations(EXPLANATIONS_OF_TWO, {"score": "soft-wpmi", "llm": None})
        assert run.explained()
        assert run.explanations() == EXPLANATIONS_OF_TWO
        assert run.settings()["score"] == "soft-wpmi"
        again = Recording.open(run.folder, run.index)
        assert again.explanations() == EXPLANATIONS_OF_TWO

    def test_are_one_json_object_a_line_that_anybody_can_read(self, run: Recording) -> None:
        run.write_explanations(EXPLANATIONS_OF_TWO, {})
        text = (run.folder.path / EXPLANATIONS).read_text(encoding="utf-8")
        first, second = (json.loads(line) for line in text.splitlines())
        assert first["labels"] == [
            {"concept": "rain", "score": 0.5, "evidence": "audio"},
            {"concept": "Rädchen", "score": -0.25, "evidence": "both"},
        ]
        assert [meaning["summary"] for meaning in first["meanings"]] == ["Rain on a roof.", None]
        assert (first["summary"], first["abstained"], first["reason"]) == ("Responds to rain.", False, None)
        assert (first["summary_origin"], first["raw"]) == ("repaired", "wolves")
        assert second["summary_origin"] is None
        assert (second["summary"], second["abstained"], second["raw"]) == (None, True, "raw\nanswer")
        assert first["top"][0]["caption"] == "rain on a roof"
        assert "Rädchen" in text

    def test_before_explain_the_command_is_named(self, run: Recording) -> None:
        for ask in (run.explanations, run.settings):
            with pytest.raises(
                InputError, match="tones/net is not explained yet: and-retrieval explain tones/net"
            ):
                ask()

    def test_of_an_earlier_recording_are_refused(self, run: Recording) -> None:
        run.write_explanations(EXPLANATIONS_OF_TWO, {})
        record(run.index, seed=0)  # the same recording again: nothing changed
        assert Recording.open(run.folder, run.index).explanations() == EXPLANATIONS_OF_TWO
        record(run.index, seed=1)
        with pytest.raises(StaleError, match="was recorded again since: and-retrieval explain tones/net"):
            Recording.open(run.folder, run.index).explanations()

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (EXPLANATIONS, "{\n"), (EXPLANATIONS, '{"layer": "conv"}\n'), (EXPLANATIONS, "[]\n"),
            (EXPLANATIONS, '"text"\n'), (SETTINGS, "{"), (SETTINGS, "{}"), (SETTINGS, "[]"),
            (SETTINGS, ""), (SETTINGS, None),
        ],
    )  # fmt: skip
    def test_that_are_damaged_name_the_command(self, name: str, text: str | None, run: Recording) -> None:
        run.write_explanations(EXPLANATIONS_OF_TWO, {})
        path = run.folder.path / name
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(InputError, match="make it again: and-retrieval explain tones/net"):
            run.explanations()
