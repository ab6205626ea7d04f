"""Explanations on disk: they come back as they were, in part or whole, and never mixed with those of another time."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from documents import rewritten
from embedders import FakeEmbedder
from planting import plant, say
from sounds import WriteSound, tone

from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import LabelConfig, SummaryConfig
from and_retrieval.errors import ChecksumError, InputError, StaleError
from and_retrieval.explanation import stored
from and_retrieval.explanation.manifest import (
    FILE,
    ExplanationManifest,
    LayerAcoustics,
    OpenConceptSettings,
    explanation_folder,
)
from and_retrieval.explanation.stored import (
    PHRASES,
    UNITS,
    ExplanationWriter,
    is_explained,
    load_explained,
)
from and_retrieval.recording.recording import Recording
from and_retrieval.store import Folder, StoredFile
from and_retrieval.types import Explanation, Label, Meaning, Shown, Summary, UnitFaithfulness

HOLDS = UnitFaithfulness(9, 0.5, 0.1, 0.2, 0.75, 0.2, 0.01, True)
FAILS = UnitFaithfulness(9, 0.25, 0.1, 0.3, 0.5, 0.2, 0.25, False)
TOLD = (
    Explanation(
        layer="conv",
        unit=0,
        top=(Shown(4, 1.25, 3.5), Shown(2, 0.0, 2.0)),
        labels=(Label("rain", 0.5), Label("Rädchen", -0.25, "both")),
        faithfulness=HOLDS,
        reliable="holds",
        caption_faithfulness=FAILS,
        acoustics="high sounds",
        meanings=(
            Meaning((Label("rain", 0.5),), (0,), Summary("Rain on a roof.", False, origin="written"), HOLDS),
            Meaning((), (1,), Summary(None, True, "no concept")),
        ),
        polysemanticity=0.625,
        summary=Summary("Responds to rain.", False, None, "wolves", "repaired"),
        open_concepts=("rain", "roof"),
    ),
    Explanation("conv", 1, labels=(Label("dog", 1 / 3),), faithfulness=FAILS, reliable="fails", polysemanticity=0.0),
    Explanation("conv", 2),
    Explanation("head", 0, labels=(Label("dog", 0.1),), polysemanticity=1.0),
    Explanation(
        "head", 1, low=(Shown(0, 0.0, -1.0),), summary=Summary(None, True, "too long", "raw\nanswer")
    ),
)  # fmt: skip


@pytest.fixture
def index(tmp_path: Path, home: Path, write_sound: WriteSound) -> ClipIndex:
    for number in range(5):
        write_sound(f"sounds/{number}.wav", tone(200 + 400 * number, 0.3, 8_000), 8_000)
    return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "tones")


def recorded(index: ClipIndex, seed: int = 0) -> Recording:
    random = np.random.default_rng(seed)
    return Recording.open(
        plant(index, {"conv": random.random((5, 3)), "head": random.random((5, 2))}, "net"), index
    )


@pytest.fixture
def recording(index: ClipIndex) -> Recording:
    return recorded(index)


class TestReading:
    def test_they_come_back_as_they_were(self, recording: Recording) -> None:
        assert not is_explained(recording)
        explained = say(recording, TOLD)
        assert is_explained(recording)
        again = load_explained(Recording.open(recording.folder, recording.index))
        for one in (explained, again):
            assert len(one) == 5
            assert tuple(one) == TOLD
            assert one[0] == TOLD[0]
            assert one[-1] == TOLD[-1]
            assert one[1:3] == TOLD[1:3]
            assert TOLD[4] in one

    def test_how_they_were_made_comes_back(self, recording: Recording) -> None:
        facts: dict[str, Any] = {
            "bank": "Bänke",
            "concepts": ("rain", "dog"),
            "labelling": LabelConfig(score="cos", evidence="both", k=7, rank="both"),
            "summaries": SummaryConfig(llm="x.gguf", units=3),
            "acoustics": {"conv": LayerAcoustics(0.25, -0.125)},
            "random_polysemanticity": 0.9375,
            "open_concepts": OpenConceptSettings(8, False, "a.whl"),
        }
        say(recording, TOLD, **facts)
        made = load_explained(recording).manifest
        assert made == ExplanationManifest(recorded=recording.identity, **facts)

    def test_some_units_are_read_without_their_clips_in_the_order_asked(
        self, recording: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stored, "ROW_GROUP", 2)
        explained = say(recording, TOLD)
        assert pq.ParquetFile(explained.stored.file(UNITS)).num_row_groups == 3
        bare = [replace(unit, top=(), low=()) for unit in TOLD]
        for rows in ([0], [4], [3, 0], [1, 4, 0, 2, 3], [2, 2], []):
            assert load_explained(recording).at(rows) == [bare[row] for row in rows]
        assert tuple(load_explained(recording)) == TOLD

    def test_only_the_rows_that_are_asked_for_are_read(
        self, recording: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stored, "ROW_GROUP", 1)
        explained = say(recording, TOLD)
        read: list[tuple[int, tuple[str, ...]]] = []
        whole = pq.ParquetFile.read_row_group

        def noted(self: pq.ParquetFile, group: int, columns: list[str], **options: Any) -> Any:
            read.append((group, tuple(columns)))
            return whole(self, group, columns=columns, **options)

        monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
        explained.at([3, 1])
        assert [group for group, _ in read] == [1, 3]
        assert all(not {"top", "low"} & set(columns) for _, columns in read)

    def test_threads_read_the_same_explanations_at_once(
        self, recording: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stored, "ROW_GROUP", 1)
        say(recording, TOLD)
        program = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {str(Path(__file__).parent)!r})
from embedders import FakeEmbedder
from and_retrieval.clips.index import ClipIndex
from and_retrieval.explanation.stored import load_explained
from and_retrieval.recording.recording import Recording
index = ClipIndex.open({str(recording.index.folder.path)!r}, FakeEmbedder())
explained = load_explained(Recording.open(index.folder.run("net"), index))
def read(number):
    rows = [number % 5, (number + 2) % 5]
    places = [("conv", "head")[row > 2] for row in rows]
    assert [unit.layer for unit in explained.at(rows, clips=True)] == places
    return explained.column("unit").to_pylist()
with ThreadPoolExecutor(8) as threads:
    assert set(map(tuple, threads.map(read, range(3000)))) == {{(0, 1, 2, 0, 1)}}
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr  # a shared reader ended the whole process

    def test_columns_over_all_units(self, recording: Recording) -> None:
        explained = say(recording, TOLD)
        assert explained.reliable().tolist() == [True, False, False, False, False]
        assert explained.several_meanings().tolist() == [True, False, False, False, False]
        spread = explained.polysemanticity()
        assert spread.dtype == np.float64
        assert [None if math.isnan(value) else value for value in spread] == [0.625, 0.0, None, 1.0, None]
        assert explained.column("layer").to_pylist() == ["conv"] * 3 + ["head"] * 2

    def test_clips_that_are_shown_have_phrases_and_no_others(self, recording: Recording) -> None:
        explained = say(recording, TOLD, ["a", "b", "Gewitter, fern", "d", "e\nf"])
        assert explained.phrases == {0: "a", 2: "Gewitter, fern", 4: "e\nf"}

    def test_of_no_clips_at_all(self, recording: Recording) -> None:
        bare = [replace(unit, top=(), low=(), meanings=()) for unit in TOLD]
        assert say(recording, bare).phrases == {}

    def test_writing_layer_by_layer_is_writing_at_once(self, recording: Recording) -> None:
        def committed() -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in recording.folder.path.iterdir()}

        made = say(recording, TOLD).manifest
        with ExplanationWriter(recording) as writer:
            writer.add(TOLD[:3])
            writer.add(TOLD[3:])
            writer.commit([clip.path for clip in recording.index.clips], made)
        assert tuple(load_explained(recording)) == TOLD
        first = committed()
        with ExplanationWriter(recording) as writer:
            writer.add(TOLD[:3])
            writer.add(TOLD[3:])
            writer.commit([clip.path for clip in recording.index.clips], made)
        assert committed() == first


class TestRefusing:
    def test_before_explain_the_command_is_named(self, recording: Recording) -> None:
        with pytest.raises(
            InputError, match="tones/net is not explained yet; run: and-retrieval explain tones/net"
        ):
            load_explained(recording)

    def test_of_an_earlier_recording(self, index: ClipIndex) -> None:
        say(recorded(index), TOLD)
        assert tuple(load_explained(recorded(index))) == TOLD  # the same recording again: nothing changed
        again = recorded(index, seed=1)
        assert is_explained(again)
        with pytest.raises(
            StaleError, match="was recorded again since; run: and-retrieval explain tones/net"
        ):
            load_explained(again)

    @pytest.mark.parametrize("text", ["{", "{}", "[]", "", "null"])
    def test_a_damaged_manifest(self, text: str, recording: Recording) -> None:
        say(recording, TOLD)
        (recording.folder.path / FILE).write_text(text)
        with pytest.raises(
            InputError, match=r"net/explanation\.json is damaged \(.*\); make the explanation again"
        ):
            load_explained(recording)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"concepts": "rain"}, "concepts: "),
            ({"concepts": ["rain", 1]}, r"concepts\.1: "),
            ({"random_polysemanticity": "1"}, "random_polysemanticity: "),
            ({"labelling": {"k": "20"}}, r"labelling\.k: "),
            ({"acoustics": {"conv": {"r2": 0.5}}}, r"acoustics\.conv\.shuffled: Field required"),
        ],
    )
    def test_a_mistyped_field(self, change: dict[str, Any], says: str, recording: Recording) -> None:
        say(recording, TOLD)
        rewritten(recording.folder.path / FILE, **change)
        with pytest.raises(InputError, match=rf"explanation\.json is damaged \({says}") as caught:
            load_explained(recording)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("name", "use"), [(UNITS, tuple), (PHRASES, lambda e: e.phrases)])
    def test_a_changed_file(self, name: str, use: Any, recording: Recording) -> None:
        path = say(recording, TOLD).stored.file(name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(ChecksumError, match="was changed; make the explanation again"):
            use(load_explained(recording))

    def test_of_other_units_than_were_recorded(self, recording: Recording) -> None:
        explained = say(recording, TOLD[:3])
        with pytest.raises(
            InputError, match=r"units-\w{12}\.parquet is damaged; run: and-retrieval explain tones/net"
        ):
            tuple(explained)

    def test_with_other_columns(self, recording: Recording) -> None:
        explained = say(recording, TOLD)
        folder = explanation_folder(recording.folder)
        table = pq.read_table(explained.stored.file(UNITS)).drop_columns(["acoustics"])
        phrases = explained.stored.file(PHRASES).read_bytes()
        files = {
            UNITS: lambda path: pq.write_table(table, path),
            PHRASES: lambda path: path.write_bytes(phrases),
        }
        folder.commit(files, explained.manifest)
        with pytest.raises(InputError, match="is damaged; run: and-retrieval explain tones/net"):
            tuple(load_explained(recording))


class Killed(BaseException):
    """What stands in for the end of the process."""


STEPS = (
    "begin units",
    "placed units",
    "begin phrases",
    "placed phrases",
    "begin manifest",
    "manifest in place",
)


def kill_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die when the commit of explanations comes to a step."""
    place, write, sweep = Folder._place, Folder.write_text, Folder._sweep

    def placed(self: Folder, name: str, source: Any) -> StoredFile:
        plain = name.partition(".")[0]
        if step == f"begin {plain}":
            raise Killed
        entry = place(self, name, source)
        if step == f"placed {plain}":
            raise Killed
        return entry

    def written(self: Folder, name: str, text: str) -> Path:
        if step == "begin manifest":
            raise Killed
        return write(self, name, text)

    def swept(self: Folder, *names: Any) -> None:
        if step == "manifest in place":
            raise Killed
        sweep(self, *names)

    monkeypatch.setattr(Folder, "_place", placed)
    monkeypatch.setattr(Folder, "write_text", written)
    monkeypatch.setattr(Folder, "_sweep", swept)


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_dies_leaves_the_old_explanations_or_the_new_ones(
    step: str, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tuple(replace(unit, labels=(Label("new", 1.0),)) for unit in TOLD)
    say(recording, TOLD, ["old"] * 5, bank="old")
    before = {path.name: path.read_bytes() for path in recording.folder.path.iterdir()}
    kill_at(step, monkeypatch)
    with pytest.raises(Killed):
        say(recording, new, ["new"] * 5, bank="new")
    monkeypatch.undo()
    after = load_explained(Recording.open(recording.folder, recording.index))
    expected, phrase = (new, "new") if step == "manifest in place" else (TOLD, "old")
    assert (after.manifest.bank, tuple(after), set(after.phrases.values())) == (phrase, expected, {phrase})
    kept = {path.name: path.read_bytes() for path in recording.folder.path.iterdir()}
    del after  # whose files would stay
    others = before.keys() - {FILE}
    assert {name: kept.get(name) for name in others} == {name: before[name] for name in others}
    assert tuple(say(recording, new, ["new"] * 5, bank="new")) == new
    left = {path.name.partition("-")[0] for path in recording.folder.path.iterdir()}
    assert len(list(recording.folder.path.iterdir())) == len(before)  # nothing of the one that died is left
    assert {"units", "phrases", FILE, "manifest.json"} <= left


def test_the_first_explanations_that_break_off_leave_none(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name for path in recording.folder.path.iterdir()}

    def broken() -> None:
        with ExplanationWriter(recording) as writer:
            writer.add(TOLD[:3])
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        broken()
    assert not is_explained(recording)
    assert {path.name for path in recording.folder.path.iterdir()} == before
