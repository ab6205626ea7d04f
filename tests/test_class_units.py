"""The measurements on units whose meaning is known, as typed, on a few rendered classes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench
from and_retrieval import soundbank
from and_retrieval.checkpoints.bundled import locate
from and_retrieval.errors import AndRetrievalError
from bench import ranking, sentences, small_cnn

CONCEPTS = ("siren", "rain", "dog bark", "church bell", "white noise")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("sounds"), 20, CONCEPTS)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Result files go here, and a network is trained in a few steps."""
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "bench" / "results")
    brief = small_cnn.TrainConfig(epochs=12, widths=(4, 8, 8, 16), hidden=16, crop=1.0)
    monkeypatch.setattr(small_cnn, "TrainConfig", lambda seed: replace(brief, seed=seed))
    return tmp_path


def test_a_name_is_told_by_its_telling_words() -> None:
    assert sentences._named("Responds to dogs barking.", "dog bark")
    assert not sentences._named("Responds to the sound of rain.", "sound of the dog")
    assert not sentences._named("Responds to trains.", "rain")


def test_the_first_of_the_best_counts() -> None:
    proposals = [["a", "b"], ["a", "b"], ["b", "c"]]
    assert ranking.first(proposals, [[1, 1], [0, 1], [2, 1]], ["a", "b", "a"]) == pytest.approx(2 / 3)


def test_sentences_are_judged_by_their_own_class() -> None:
    names = ("siren", "rain", "church bell")
    right = sentences.judge([f"Responds to the sound of {name}." for name in names], names)
    assert right["nearest"] == right["names_class"] == 1
    assert right["cosine_own"] == pytest.approx(1, abs=1e-5)
    wrong = sentences.judge([f"Responds to the sound of {name}." for name in (*names[1:], names[0])], names)
    assert wrong["nearest"] == wrong["names_class"] == 0
    none = sentences.judge([None] * 3, names)
    assert none == {"names_class": 0, "nearest": 0, "cosine_own": 0, "cosine_other": 0}
    at_random = sentences.at_random(names)
    assert at_random["cosine_own"] == pytest.approx(wrong["cosine_other"] * 2 - 1, abs=0.5)
    assert at_random["names_class"] == 0


@pytest.mark.slow
def test_faithfulness_of_a_trained_network(source: Path, results: Path) -> None:
    arguments = [str(source), "--home", str(results), "--k", "5", "--targets", "small_cnn"]
    result, text = bench.run("faithfulness", arguments, quiet=True)
    assert set(result["figures"]["networks"]) == {"small_cnn"}
    layers = result["figures"]["networks"]["small_cnn"]["layers"]
    assert set(layers) == {"block4", "hidden_relu", "classes"}
    for layer in layers.values():
        assert layer["controls"]["shuffled"] <= 0.05
        assert layer["controls"]["noise"] <= 0.05
        assert layer["controls"]["shuffles"] * layer["units"] >= 200
        for tested in ("sound", "captions"):
            assert layer[tested]["reliable"]["measured"] > layer[tested]["reliable"]["random_labels"]
    assert "small_cnn classes" in text
    kept = list((results / "bench" / "results").glob("faithfulness-*.json"))
    assert [json.loads(path.read_text())["suite"] for path in kept] == ["faithfulness"]
    assert str(results) not in kept[0].read_text()


def language_models() -> list[str]:
    try:
        return [str(locate(name)) for name in ranking.MODELS]
    except AndRetrievalError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["ranking", "sentences"])
def test_what_language_models_add(suite: str, source: Path, results: Path, monkeypatch: Any) -> None:
    language_models()
    for module in (ranking, sentences):
        monkeypatch.setattr(module, "MODELS", ("smollm2",))
    result, text = bench.run(suite, [str(source), "--home", str(results), "--k", "5"], quiet=True)
    figures = result["figures"]
    assert set(figures["described"]) == {"captions", "nearest concepts"}
    assert figures["units"] == len(CONCEPTS)
    assert "accuracy" in text
    if suite == "ranking":
        assert 0 < figures["chance"] < figures["among"] <= 1
        shares = figures["described"]["captions"]["top_1"]
        assert all(share <= figures["among"] for share in shares.values())
        assert "smollm2: calibrated" in shares
    else:
        captions = figures["described"]["captions"]["smollm2"]
        assert np.isclose(sum(captions[origin] for origin in sentences.ORIGINS), 1, atol=0.01)
        assert captions["cosine_own"] > captions["cosine_other"]
