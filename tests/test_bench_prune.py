"""The suite `prune` on a network with two units per class: selectors prune as the oracle does, chance does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, explain, load_embedder, load_target, record, soundbank
from and_retrieval.config import SummaryConfig
from and_retrieval.pruning.selectors import SELECTORS
from bench import Figures, prune


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    folder = tmp_path_factory.mktemp("prune")
    source = soundbank.render(folder / "sounds", concepts=list(UNITS_OF))
    index = ClipIndex.build(source, load_embedder(), folder / "index")
    target = load_target(f"{Path(__file__).parent / 'targets' / 'two_per_class.py'}:load")
    run = record(target, index, layers=["relu"])
    explain(run, summaries=SummaryConfig(llm="none"))
    return prune.network_figures(
        run, target, list(UNITS_OF), list(SELECTORS), "zero", 0, lambda *_: lambda *_: None
    )


def test_every_selector_and_budget_has_its_figures(figures: Figures) -> None:
    assert set(figures["selectors"]) == {*SELECTORS, "random"}
    assert all(len(by_budget) == len(prune.BUDGETS) for by_budget in figures["selectors"].values())
    assert figures["classes"] == {name: name for name in UNITS_OF}
    assert figures["before"]["accuracy"] == 1
    for by_budget in figures["selectors"].values():
        for one in by_budget:
            assert set(one["per_class"]) == set(UNITS_OF)
            assert one["gap"] == pytest.approx(one["delta_rest"] - one["delta_target"])


def test_two_units_of_eight_are_forgotten_by_all_but_chance(figures: Figures) -> None:
    last = {name: by_budget[-1] for name, by_budget in figures["selectors"].items()}  # a quarter: two units
    for name in SELECTORS:
        assert last[name]["gap"] == pytest.approx(last["oracle"]["gap"])
        assert last[name]["accuracy_target"] == 0
    assert last["random"]["gap"] < 0.3 * last["oracle"]["gap"]


def test_the_table_holds_every_selector_against_the_oracle(figures: Figures) -> None:
    text = prune.table({"settings": {}, "data": "", "small_cnn": figures})
    assert "| gap at 3% |" in text
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert set(rows) >= {*SELECTORS, "random"}
    assert " 1.000 |" in rows["oracle"]
