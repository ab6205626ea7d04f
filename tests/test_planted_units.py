"""The whole way on a network whose units are known: labels and search find what was planted."""

from __future__ import annotations

from pathlib import Path

import pytest
from targets.planted import BANDS

from and_retrieval import (
    ClipIndex,
    ConceptBank,
    Run,
    explain,
    load_embedder,
    load_target,
    record,
    search_neurons,
    soundbank,
)
from and_retrieval.config import LabelConfig, SummaryConfig

PLANTED = tuple(BANDS)
OTHERS = (
    "baby cry",
    "birds chirping",
    "car horn",
    "church bell",
    "clock ticking",
    "dog bark",
    "helicopter",
    "siren",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("planted")
    source = soundbank.render(folder / "sounds", concepts=[*PLANTED, *OTHERS])
    index = ClipIndex.build(source, load_embedder(), folder / "index")
    target = load_target(f"{Path(__file__).parent / 'targets' / 'planted.py'}:load")
    return record(target, index)


@pytest.mark.parametrize("k", [5, 10])
def test_labels_name_what_was_planted(run: Run, k: int) -> None:
    bank = ConceptBank("planted", tuple(sorted([*PLANTED, *OTHERS])))
    explanations = explain(run, [bank], LabelConfig(k=k), SummaryConfig(llm="none"))
    assert tuple(unit.labels[0].concept for unit in explanations) == PLANTED


def test_labels_out_of_a_large_bank_are_near(run: Run) -> None:
    explanations = explain(run, ["audioset"], LabelConfig(k=5), SummaryConfig(llm="none"))
    unit_concepts = [{label.concept for label in unit.labels} for unit in explanations]
    for labels, near in zip(
        unit_concepts,
        (
            {"Dial tone"},
            {"Heart sounds, heartbeat"},
            {"Smoke detector, smoke alarm"},
            {"White noise", "Static"},
        ),
        strict=True,
    ):
        assert near & labels


@pytest.mark.parametrize(("unit", "concept"), list(enumerate(PLANTED)))
def test_search_finds_the_planted_unit(run: Run, unit: int, concept: str) -> None:
    first, second = search_neurons(run, concept, k=2)
    assert first["unit"] == unit
    assert first["score"] > second["score"] + 0.1


def test_held_out_clips_are_no_evidence(run: Run) -> None:
    shown = {int(row) for layer in run.layers for kept in (layer.top, layer.low) for row in kept.rows.ravel()}
    held = set(run.held_out_rows.tolist())
    assert held
    assert not shown & held
