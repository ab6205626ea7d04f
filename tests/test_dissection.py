"""The paper's protocol on a network whose units are known: names, chance, pruning in logits, what cannot be done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from targets.two_per_class import UNITS_OF

from and_retrieval import soundbank
from and_retrieval.benchmark.names import own_names
from and_retrieval.errors import InputError
from and_retrieval.language.llm import Likelihood
from bench import Figures, dissection, nameless
from bench import run as run_suite
from bench.source import ESC10_NAMES

TARGET = f"{Path(__file__).parent / 'targets' / 'two_per_class.py'}:load"
NAMES = tuple(UNITS_OF)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("sounds"), concepts=list(UNITS_OF))


def measured(source: Path, home: Path, **changed: Any) -> Figures:
    options: dict[str, Any] = {
        "embedder": "embedded",
        "concepts": "esc50",
        "aliases": ESC10_NAMES,
        "targets": [TARGET],
        "layers": [],
        "llm": "none",
        "share": 0.25,
        "home": str(home),
        "seed": 0,
        "announce": lambda *_: lambda *_: None,
    }
    return dissection.run(str(source), **(options | changed))


@pytest.fixture(scope="module")
def figures(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return measured(source, tmp_path_factory.mktemp("home"))


def test_class_units_are_named_by_either_way(figures: Figures) -> None:
    labels = figures["networks"][nameless(TARGET)]["labels"]
    class_names, wide = labels["4 names (own)"], labels[next(title for title in labels if "esc50" in title)]
    assert set(class_names) == {"DB", "TAB"}  # no model, no ICL
    for method in class_names.values():
        assert set(method) == set(dissection.SCORES)
        assert method["soft-wpmi"]["top_1"] == {"measured": 1.0, "chance": 0.25}
        assert method["soft-wpmi"]["top_5"] == {"measured": 1.0, "chance": 1.0}
        assert method["soft-wpmi"]["cosine"]["measured"] == pytest.approx(1, abs=1e-4)
        assert method["soft-wpmi"]["cosine"]["chance"] < 0.6
    assert wide["TAB"]["soft-wpmi"]["top_1"]["chance"] < 0.03
    assert wide["TAB"]["soft-wpmi"]["top_1"]["measured"] >= 0.5


def test_the_units_of_a_class_are_pruned(figures: Figures) -> None:
    pruned = figures["networks"][nameless(TARGET)]["pruned"]
    assert set(pruned) == {"zero", "mean"}
    zero, mean = (pruned[ablate]["selectors"] for ablate in ("zero", "mean"))
    assert set(zero) == {*dissection.SELECTORS, "random"}
    for rows in (zero, mean):
        for name in ("captions", "soft-wpmi", "selective", "oracle"):
            assert rows[name]["gap_logit"] > 2 * rows["random"]["gap_logit"]
            assert rows[name]["gap_logit"] == pytest.approx(
                rows[name]["delta_rest_logit"] - rows[name]["delta_target_logit"]
            )
    # Set to zero, a unit takes what it says on every clip; set to the mean, only what it tells clips apart by.
    assert zero["oracle"]["gap_logit"] > mean["oracle"]["gap_logit"] > 0
    assert pruned["zero"]["units"] == {"relu": 8}  # not the class units


def test_the_tables_show_chance(figures: Figures) -> None:
    text = dissection.table(figures)
    head = next(line for line in text.splitlines() if line.startswith("| network | among"))
    assert "top-1 by chance" in head
    assert "cosine by chance" in head
    assert f"| {nameless(TARGET)} | zero | soft-wpmi (TAB) |" in text
    assert "| mean | random |" in text


def test_the_suite_is_called_and(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.RESULTS", tmp_path)
    line = [str(source), "--targets", TARGET, "--llm", "none", "--home", str(tmp_path), "--share", "0.25"]
    result, text = run_suite("and", line, quiet=True)
    assert result["suite"] == "and"
    assert str(source.parent) not in json.dumps(result) + text
    assert str(Path(__file__).parent) not in json.dumps(result) + text
    assert "top-1" in text
    assert [path.name.startswith("and-") for path in tmp_path.glob("*.json")] == [True]


class Knows:
    """A model that finds the third name likeliest for what is said of its clips, and all alike for nothing."""

    def __init__(self, phrase: str) -> None:
        self.phrase = phrase

    def log_probabilities(
        self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
    ) -> list[list[Likelihood]]:
        return [
            [
                Likelihood(-1.0 if self.phrase in prompt.splitlines()[-2] and place == 2 else -5.0, 1)
                for place in range(len(names))
            ]
            for prompt, names in zip(prompts, continuations, strict=True)
        ]


class Layer:
    """Evidence of two units, the second of which has one clip only."""

    class top:  # noqa: N801
        rows = np.array([[0, 1], [2, -1]])


def test_the_model_is_shown_what_is_said_of_each_units_clips() -> None:
    phrases = ("a dog", "barking", "rain")
    order = dissection.chosen_by_model(Layer, phrases, own_names("abcd"), Knows("barking"))  # type: ignore[arg-type]
    assert order == [[2, 0, 1, 3], [0, 1, 2, 3]]
    assert all(sorted(unit) == [0, 1, 2, 3] for unit in order)


def test_a_network_without_class_units(source: Path, tmp_path: Path) -> None:
    bare = TARGET.replace(":load", ":without_classes")
    with pytest.raises(InputError, match="has no class names"):
        measured(source, tmp_path, targets=[bare])
    with pytest.raises(InputError, match="has a unit for each of its 4 classes; name it with --layers"):
        measured(source, tmp_path, layers=["relu"])
