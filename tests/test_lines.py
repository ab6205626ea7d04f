"""Explanations for other programs: every format says the same, line by line, and appears whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedders import FakeEmbedder
from planting import plant, say
from sounds import WriteSound, tone

from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import ClipConfig
from and_retrieval.explanation import lines
from and_retrieval.explanation.lines import unit_lines
from and_retrieval.explanation.stored import Explained
from and_retrieval.export.formats import FORMATS, export_units
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Explanation, Label, Meaning, OverTime, Shown, Summary, UnitFaithfulness

HOLDS = UnitFaithfulness(9, 0.5, 0.1, 0.2, 0.75, 0.2, 0.01, True)
NASTY = 'rain, "heavy"; \u2028 näss\n=1+1'
TOLD = (
    Explanation(
        layer="conv",
        unit=0,
        top=(Shown(3, 0.125, 3.5), Shown(0, 0.0, 2.0)),
        low=(Shown(1, 0.0, -1.0),),
        labels=(Label("rain", 0.5), Label(NASTY, -1 / 3, "both")),
        faithfulness=HOLDS,
        reliable="holds",
        over_time=OverTime(16, 0.75, 0.001, True),
        caption_faithfulness=replace(HOLDS, reliable=False, correlation=0.25),
        acoustics="high sounds",
        meanings=(
            Meaning((Label("rain", 0.5),), (0,), Summary("Rain on a roof.", False, origin="written"), HOLDS),
            Meaning(
                (Label("dog", 0.25), Label("cat", 0.125)), (1,), Summary(None, True, "no concept", "raw")
            ),
        ),
        polysemanticity=0.625,
        summary=Summary("Responds to rain.", False, None, "wolves", "repaired"),
        open_concepts=("rain", "roof"),
    ),
    Explanation("conv", 1),
)


@pytest.fixture
def explained(home: Path, tmp_path: Path, write_sound: WriteSound) -> Explained:
    """Of clips that are halves of two files, the second file with two captions."""
    for number in range(2):
        write_sound(f"sounds/{number}.wav", tone(200 + 400 * number, 0.6, 8_000), 8_000)
    (tmp_path / "sounds/clips.csv").write_text("path,caption\n0.wav,\n1.wav,A tone.\n1.wav,A beep.\n")
    index = ClipIndex.build(tmp_path / "sounds/clips.csv", FakeEmbedder(), home / "s", ClipConfig(window=0.3))
    recording = Recording.open(plant(index, {"conv": np.zeros((4, 2))}, "net"), index)
    return say(recording, TOLD, [clip.caption or "hum, drone" for clip in index.clips])


def expected() -> list[dict[str, Any]]:
    """The lines, written out."""
    test = {
        "clips": 9, "correlation": 0.5, "random_correlation": 0.1, "best_correlation": 0.2, "auprc": 0.75,
        "base_rate": 0.2, "q_value": 0.01, "reliable": True,
    }  # fmt: skip
    first = {
        "layer": "conv",
        "unit": 0,
        "labels": [
            {"concept": "rain", "score": 0.5, "evidence": "audio"},
            {"concept": NASTY, "score": -1 / 3, "evidence": "both"},
        ],
        "faithfulness": test,
        "reliable": "holds",
        "kind": None,
        "over_time": {"clips": 16, "score": 0.75, "q_value": 0.001, "follows": True},
        "preferences": [],
        "tuning": [],
        "profile": [],
        "caption_faithfulness": test | {"reliable": False, "correlation": 0.25},
        "acoustics": "high sounds",
        "polysemanticity": 0.625,
        "open_concepts": ["rain", "roof"],
        "summary": "Responds to rain.",
        "summary_origin": "repaired",
        "abstained": False,
        "reason": None,
        "raw": "wolves",
        "meanings": [
            {
                "labels": [{"concept": "rain", "score": 0.5, "evidence": "audio"}],
                "summary": "Rain on a roof.",
                "summary_origin": "written",
                "abstained": False,
                "reason": None,
                "raw": None,
                "clips": [0],
                "reliable": "holds",
                "faithfulness": test,
            },
            {
                "labels": [
                    {"concept": "dog", "score": 0.25, "evidence": "audio"},
                    {"concept": "cat", "score": 0.125, "evidence": "audio"},
                ],
                "summary": None,
                "summary_origin": None,
                "abstained": True,
                "reason": "no concept",
                "raw": "raw",
                "clips": [1],
                "reliable": "untested",
                "faithfulness": None,
            },
        ],
        "top": [
            {
                "path": "1.wav",
                "start": 0.3,
                "peak": 0.125,
                "activation": 3.5,
                "row": 3,
                "caption": "A tone.",
                "captions": ["A tone.", "A beep."],
            },
            {
                "path": "0.wav",
                "start": 0.0,
                "peak": 0.0,
                "activation": 2.0,
                "row": 0,
                "caption": "hum, drone",
                "captions": [],
            },
        ],
        "low": [
            {
                "path": "0.wav",
                "start": 0.3,
                "peak": 0.0,
                "activation": -1.0,
                "row": 1,
                "caption": "hum, drone",
                "captions": [],
            },
        ],
    }
    second = {
        "layer": "conv", "unit": 1, "labels": [], "faithfulness": None, "reliable": "untested",
        "kind": None, "preferences": [], "tuning": [], "profile": [],
        "caption_faithfulness": None, "acoustics": None, "polysemanticity": None, "open_concepts": [],
        "over_time": None,
        "summary": None, "summary_origin": None, "abstained": True, "reason": "no sentence was asked for",
        "raw": None, "meanings": [], "top": [], "low": [],
    }  # fmt: skip
    return [first, second]


def placed(placed_lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines with the bare names of files, as `expected` has them."""
    for line in placed_lines:
        for clip in (*line["top"], *line["low"]):
            assert Path(clip["path"]).is_file()
            clip["path"] = Path(clip["path"]).name
    return placed_lines


def test_a_line_says_all_that_is_known_of_a_unit(explained: Explained) -> None:
    assert placed(list(unit_lines(explained))) == expected()


def test_every_field_of_an_explanation_is_in_its_line(explained: Explained) -> None:
    line = next(unit_lines(explained))
    assert {field.name for field in fields(Explanation)} <= set(line)
    assert {field.name for field in fields(Meaning)} <= set(line["meanings"][0])
    assert {field.name for field in fields(Shown)} <= set(line["top"][0])
    assert set(asdict(HOLDS)) == set(line["faithfulness"])


def test_json_lines(explained: Explained) -> None:
    text = export_units(explained, "jsonl").read_text(encoding="utf-8")
    assert placed([json.loads(line) for line in text.split("\n")[:-1]]) == expected()
    assert "näss" in text


def test_parquet(explained: Explained) -> None:
    table = pq.read_table(export_units(explained, "parquet"))
    assert placed(table.to_pylist()) == expected()


def test_csv(explained: Explained) -> None:
    with export_units(explained, "csv").open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (first["layer"], first["unit"], first["summary"]) == ("conv", "0", "Responds to rain.")
    assert first["labels"] == f"rain; {NASTY}"
    assert first["scores"] == "0.5; -0.333333"
    assert first["reliable"] == "holds"
    assert first["faithfulness_correlation"] == "0.5"
    assert first["caption_faithfulness_correlation"] == "0.25"
    assert (first["over_time_score"], first["over_time_follows"]) == ("0.75", "True")
    assert (second["over_time_score"], second["over_time_follows"]) == ("", "")
    assert first["meanings"] == "rain | dog; cat"
    assert first["open_concepts"] == "rain; roof"
    assert [Path(path).name for path in first["top"].split("; ")] == ["1.wav", "0.wav"]
    assert first["polysemanticity"] == "0.625"
    assert (second["unit"], second["labels"], second["faithfulness_q_value"], second["top"]) == (
        "1",
        "",
        "",
        "",
    )
    assert set(first) == set(second)
    assert None not in first


@pytest.mark.parametrize("form", FORMATS)
class TestFile:
    def test_lies_with_the_run_or_where_it_was_asked_for(
        self, form: str, explained: Explained, tmp_path: Path
    ) -> None:
        exported = export_units(explained, form)
        assert exported == explained.recording.folder.path / FORMATS[form].file
        other = export_units(explained, form, tmp_path / "some.file")
        assert other.read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_file_that_breaks_off_leaves_the_one_before(
    form: str, explained: Explained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone").mkdir()
    path = export_units(explained, form, tmp_path / "alone" / "x")
    before = path.read_bytes()

    def broken(of: Explained) -> Iterator[dict[str, Any]]:
        yield next(unit_lines(of))
        raise KeyboardInterrupt

    monkeypatch.setattr(lines, "unit_lines", broken)
    with pytest.raises(KeyboardInterrupt):
        export_units(explained, form, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_columns_of_a_parquet_file_do_not_depend_on_what_is_in_them() -> None:
    """A run without acoustics, tests and meanings has the columns of one with all of them, so files combine."""
    schema = lines.line_schema()
    assert set(schema.names) == set(expected()[0])
    for unit in expected():
        assert pa.Table.from_pylist([unit], schema).to_pylist() == [unit]
