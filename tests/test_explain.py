"""Explain, the whole stage: each step adds its fields, and what it leaves is of one mind however it ends."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from embedders import FakeEmbedder
from planting import plant
from sounds import WriteSound, noise, tone

from and_retrieval import ClipIndex, ConceptBank, explain
from and_retrieval.config import LabelConfig, OpenConceptConfig, SummaryConfig
from and_retrieval.errors import InputError
from and_retrieval.explanation.manifest import FILE
from and_retrieval.explanation.stored import Explained, load_explained
from and_retrieval.recording.recording import Recording
from and_retrieval.store import Folder, StoredFile
from and_retrieval.types import Explanation, reliability

OLD = ConceptBank("old", ("rain", "siren", "dog bark"))
NEW = ConceptBank("new", ("violin", "engine", "applause"))
LAYERS = {"conv": 3, "head": 2}
SILENT = SummaryConfig(llm="none")


@pytest.fixture
def recording(home: Path, tmp_path: Path, write_sound: WriteSound) -> Recording:
    """Of 60 short sounds, 24 of them held out; two layers of units at random, the first of which never responded."""
    for number in range(60):
        sound = tone(150 + 50 * number, 0.2, 8_000) if number % 2 else noise(0.2, 8_000, seed=number)
        write_sound(f"sounds/{number % 3}/{number}.wav", sound, 8_000)
    index = ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "s")
    random = np.random.default_rng(0)
    layers = {name: random.random((60, units)).astype(np.float32) for name, units in LAYERS.items()}
    layers["conv"][:, 0] = 0
    return Recording.open(plant(index, layers, "net", np.arange(60) % 5 < 2), index)


def explained(recording: Recording, bank: ConceptBank, **settings: Any) -> Explained:
    opened = OpenConceptConfig(wanted="no")
    return explain(recording, [bank], LabelConfig(k=5, count=2), SILENT, opened=opened, **settings)


def labels(explanations: Explained) -> set[str]:
    named = (label for unit in explanations for label in unit.labels)
    meant = (label for unit in explanations for meaning in unit.meanings for label in meaning.labels)
    return {label.concept for label in (*named, *meant)}


def test_every_unit_is_told_of_in_order(recording: Recording) -> None:
    explanations = explained(recording, OLD)
    assert [(unit.layer, unit.unit) for unit in explanations] == [
        (n, u) for n, units in LAYERS.items() for u in range(units)
    ]
    for layer in recording.layers:
        for unit in range(layer.units):
            row = explanations[recording.unit_index.row(f"{layer.name}:{unit}")]
            assert [clip.row for clip in row.top] == [r for r in layer.top.rows[unit].tolist() if r >= 0]
            assert [clip.activation for clip in row.low] == layer.low.values[unit].tolist()
            assert set(explanations.phrases) >= {clip.row for clip in (*row.top, *row.low)}
            assert not {clip.row for clip in row.top} & set(recording.held_out_rows.tolist())


def test_what_is_said_of_a_label_is_its_test(recording: Recording) -> None:
    dead, *others = explained(recording, OLD)
    assert (dead.labels, dead.faithfulness, dead.reliable, dead.meanings) == ((), None, "untested", ())
    for unit in others:
        assert len(unit.labels) == 2
        assert unit.faithfulness is not None
        assert unit.faithfulness.clips == 24
        assert unit.reliable == reliability(unit.faithfulness)
        assert unit.caption_faithfulness is None  # no clip has a caption
        assert unit.summary.abstained
        assert unit.open_concepts == ()


def test_the_manifest_says_how(recording: Recording) -> None:
    made = explained(recording, OLD).manifest
    assert (made.recorded, made.bank, made.concepts) == (recording.identity, "old", OLD.concepts)
    assert (made.labelling, made.summaries) == (LabelConfig(k=5, count=2), SILENT)
    assert set(made.acoustics) == set(LAYERS)
    assert 0 < made.random_polysemanticity <= 1.5
    assert made.open_concepts is None


def test_twice_gives_the_same_bytes_and_leaves_no_scratch(recording: Recording) -> None:
    kept = []
    for _ in range(2):
        explained(recording, OLD)
        kept.append({path.name: path.read_bytes() for path in recording.folder.path.iterdir()})
    assert kept[0] == kept[1]
    assert not any(name.startswith(".") for name in kept[0])


def test_one_layer_is_held_at_a_time(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    from and_retrieval.explanation.stored import ExplanationWriter

    added: list[set[str]] = []
    add = ExplanationWriter.add_table

    def noted(self: ExplanationWriter, units: pa.Table) -> None:
        added.append(set(units.column("layer").to_pylist()))
        add(self, units)

    monkeypatch.setattr(ExplanationWriter, "add_table", noted)
    explained(recording, OLD)
    assert added == [{"conv"}, {"head"}]


class Killed(BaseException):
    """What stands in for the end of the process."""


def die_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die within `explain`, at the step."""
    place, write = Folder._place, Folder.write_text

    def placed(self: Folder, name: str, source: Any) -> StoredFile:
        plain = name.partition(".")[0]
        if step == f"before {plain}":
            raise Killed
        entry = place(self, name, source)
        if step == f"after {plain}":
            raise Killed
        return entry

    def written(self: Folder, name: str, text: str) -> Path:
        if step == f"before {name}":
            raise Killed
        path = write(self, name, text)
        if step == f"after {name}":
            raise Killed
        return path

    def measured(*_: Any) -> Any:
        raise Killed

    monkeypatch.setattr(Folder, "_place", placed)
    monkeypatch.setattr(Folder, "write_text", written)
    if step == "while labelling":
        monkeypatch.setattr("and_retrieval.explanation.explain.measured_acoustics", measured)


STEPS = (
    "while labelling", "before units", "after units", "before phrases", "after phrases", "before map",
    "after map", f"before {FILE}", f"after {FILE}",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_killed_between_its_files_it_leaves_the_old_or_the_new(
    step: str, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained(recording, OLD)
    die_at(step, monkeypatch)
    with pytest.raises(Killed):
        explained(recording, NEW)
    monkeypatch.undo()
    explanations = load_explained(Recording.open(recording.folder, recording.index))
    bank = NEW if step == f"after {FILE}" else OLD
    assert (explanations.manifest.bank, explanations.manifest.concepts) == (bank.name, bank.concepts)
    assert labels(explanations)
    assert labels(explanations) <= set(bank.concepts)
    assert {word for phrase in explanations.phrases.values() for word in phrase.split(", ")} <= set(
        bank.concepts
    )
    again = explained(recording, NEW)
    assert labels(again) <= set(NEW.concepts)
    assert {path.name.partition("-")[0] for path in recording.folder.path.iterdir()} == {
        "activations", "evidence", "manifest.json", "qualities", "unit_index", FILE, "units", "phrases", "map",
    }  # fmt: skip


@pytest.mark.parametrize("step", STEPS[:-1])
def test_the_first_that_is_killed_leaves_none(
    step: str, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_at(step, monkeypatch)
    with pytest.raises(Killed):
        explained(recording, NEW)
    monkeypatch.undo()
    with pytest.raises(InputError, match="is not explained yet"):
        load_explained(recording)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"banks": ["no-such"]}, "no-such"),
        ({"banks": ("audiosets",)}, "did you mean audioset"),
        ({"labelling": LabelConfig(rank="llm")}, "choose one with --llm"),
        ({"summaries": SummaryConfig(llm="gpt")}, "unknown language model"),
    ],
)
def test_bad_settings_change_nothing(settings: dict[str, Any], says: str, recording: Recording) -> None:
    explained(recording, OLD)
    before = {path.name: path.read_bytes() for path in recording.folder.path.iterdir()}
    default: dict[str, Any] = {"banks": [NEW], "summaries": SILENT, "opened": OpenConceptConfig(wanted="no")}
    with pytest.raises(InputError, match=says):
        explain(recording, **(default | settings))
    assert {path.name: path.read_bytes() for path in recording.folder.path.iterdir()} == before


def test_every_field_is_filled_by_some_step(recording: Recording) -> None:
    """A field that no step fills would always be empty: `explain` sets all but the captions' test here."""
    explanations = explained(recording, OLD)
    bare = Explanation("x", 0)
    never = {
        field.name
        for field in fields(Explanation)
        if all(getattr(unit, field.name) == getattr(bare, field.name) for unit in explanations)
    }
    assert never <= {
        "caption_faithfulness", "acoustics", "preferences", "meanings", "open_concepts", "kind", "tuning", "profile",
        "over_time",
    }  # fmt: skip
