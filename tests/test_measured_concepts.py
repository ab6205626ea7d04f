"""Units that measured sound explains are found by words for what is measured; other words find nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import Answer
from hypothesis import given
from hypothesis import strategies as st
from targets.meters import SAMPLE_RATE, UNITS

from and_retrieval import ClipIndex, Run, explain, load_embedder, load_target, record
from and_retrieval.cli import main
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.config import RecordConfig, SummaryConfig
from and_retrieval.explanation.measured_concepts import LESS, MORE, SYNONYMS, meant_sides
from and_retrieval.report.data import LayerOverview
from and_retrieval.report.write import report_data
from and_retrieval.search.search import Filters, search_neurons
from and_retrieval.store import HOME_VARIABLE

TARGET = f"{Path(__file__).parent / 'targets' / 'meters.py'}:load"
CLIPS = 90


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("silence", ("silence", MORE)),
        ("Mostly silent clips", ("silence", MORE)),
        ("a low hum", ("pitch", LESS)),
        ("a low hum", ("lows", MORE)),
        ("loud", ("loudness", MORE)),
        ("very loud sounds", ("loudness", MORE)),
        ("high-pitched", ("pitch", MORE)),
        ("HIGH PITCHED sound", ("pitch", MORE)),
        ("energy below 300 Hz", ("lows", MORE)),
    ],
)
def test_texts_that_mean_a_quality(text: str, side: tuple[str, int]) -> None:
    assert side in meant_sides(text)


@pytest.mark.parametrize(
    "text", ["dog", "a loudspeaker", "silent film", "", "the", "water drops", "high heels"]
)
def test_texts_that_do_not(text: str) -> None:
    assert meant_sides(text) == ()


def test_every_quality_has_words_for_both_sides() -> None:
    for name, quality in QUALITIES.items():
        assert (name, LESS) in meant_sides(quality.low)
        assert (name, MORE) in meant_sides(quality.high)
    assert {name for name, _ in SYNONYMS} <= set(QUALITIES)


@given(st.text(max_size=30))
def test_any_text_is_understood_or_not(text: str) -> None:
    assert all(name in QUALITIES and sign in (LESS, MORE) for name, sign in meant_sides(text))


def sounds(folder: Path, clips: int) -> Path:
    """Tones of random height and level, most of them padded with silence, under labels that mean nothing."""
    rng = np.random.default_rng(3)
    for number in range(clips):
        times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        height = 120 * 2 ** rng.uniform(0, 4.5)
        sound = 10 ** rng.uniform(-2, -0.1) * np.sin(2 * np.pi * height * times)
        sound *= 0.01 + np.exp(-times / 10 ** rng.uniform(-1.5, 1))  # short sounds are not the padded ones
        sound[len(sound) - int(max(0, rng.uniform(-0.3, 0.8)) * len(sound)) :] = 0
        path = folder / f"{'abc'[number % 3]}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        # A WAV file of floats holds the time at which it was written, and clips are held out by their content.
        soundfile.write(path, sound.astype(np.float32), SAMPLE_RATE, subtype="PCM_24")
    return folder


def recorded(folder: Path, clips: int, hold_out: str) -> Run:
    index = ClipIndex.build(sounds(folder / "sounds", clips), load_embedder(), folder / "home" / "s")
    run = record(load_target(TARGET), index, config=RecordConfig(hold_out=hold_out), run="meters")
    explain(run, summaries=SummaryConfig(llm="none"))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return recorded(tmp_path_factory.mktemp("meters"), CLIPS, "0.3")


@pytest.mark.parametrize(
    ("query", "unit", "quality"),
    [
        ("silence", "silence", "silence"),
        ("loud", "loudness", "loudness"),
        ("high-pitched", "height", "pitch"),
        ("a low hum", "depth", "pitch"),
    ],
)
def test_words_for_a_quality_find_its_unit(run: Run, query: str, unit: str, quality: str) -> None:
    results = search_neurons(run, query, k=3)
    first = results[0]
    assert UNITS[first["unit"]] == unit
    assert first["listens"] is True
    assert first["label_kind"] in ("acoustic", "both")
    assert first["measured"]["rho"] ** 2 > 0.25
    assert first["acoustics"]
    assert sum(one["measured"] is not None for one in results) < len(results)  # not the others
    assert len({one["unit"] for one in results}) == len(results)
    assert quality in {one["quality"] for one in explained_preferences(run, unit)}


def explained_preferences(run: Run, unit: str) -> list[dict[str, Any]]:
    preferences: list[dict[str, Any]] = (
        run.explanations().column("preferences").to_pylist()[UNITS.index(unit)]
    )
    return preferences


def test_preferences_are_those_in_the_words(run: Run) -> None:
    for unit in run.explanations():
        assert unit.acoustics is not None
        assert ", ".join(f"{one.rho:.2f}" for one in unit.preferences) in unit.acoustics


def test_other_queries_are_answered_as_before(run: Run) -> None:
    for query in ("dog", ["loud", "dog"], ["dog", "-loud"]):
        assert all(one["measured"] is None for one in search_neurons(run, query))


def test_filters_hold_for_measured_units(run: Run) -> None:
    holds = run.explanations().reliable()
    if holds.any():
        results = search_neurons(run, "silence", filters=Filters(reliable=True))
        assert {one["unit"] for one in results} <= set(np.flatnonzero(holds).tolist())


def test_the_report_lists_measured_units_first(run: Run) -> None:
    hits = report_data(run).concept_hits
    assert "silence" not in hits  # the bank has the same concept as "Silence"
    for concept, unit in (("Silence", "silence"), ("loud sound", "loudness"), ("high pitch", "height")):
        row, score = hits[concept][0]
        assert (UNITS[row], score) == (unit, None)
        assert len({row for row, _ in hits[concept]}) == len(hits[concept]) == len(UNITS)
    assert all(score is not None for _, score in hits["Dog"])


def test_a_small_set_has_kinds_too(tmp_path: Path) -> None:
    small = recorded(tmp_path, 50, "0.1")
    assert len(small.held_out_rows) < 20
    units = tuple(small.explanations())
    kinds = [unit.kind for unit in units]
    assert kinds.count(None) <= 1
    assert any(kind in ("acoustic", "both") for kind in kinds)
    for unit in units:
        if unit.kind == "acoustic":
            assert unit.labels[0].evidence == "measured"
            assert unit.reliable == "holds"
    for layer in {unit.layer for unit in units}:
        of = [unit for unit in units if unit.layer == layer]
        overview = LayerOverview(layer)
        for unit in of:
            overview.add(unit)
        assert sum(overview.table()["kinds"].values()) == len(of)
    assert search_neurons(small, "silence", k=1)[0]["measured"]["quality"] == "silence"


def test_the_command_line_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(run.index.folder.path.parent))
    result = answer("search", "s/meters", "silence")
    assert result["nothing"] is False
    first = result["results"][0]
    assert first["measured"] == {
        "quality": "silence",
        "rho": first["measured"]["rho"],
        "correlation": None,
        "word": "silence",
    }
    assert main(["search", "s/meters", "silence"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert "measured: silence, rho " in line
    concepts = [label["concept"] for label in first["labels"]]
    measured = sum(label["evidence"] == "measured" for label in first["labels"])
    assert measured
    assert f"  {', '.join(concepts[: min(measured, 3)])} (measured)" in line
    assert line.count("(measured)") == 1
