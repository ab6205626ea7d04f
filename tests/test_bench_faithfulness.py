"""The suite `faithfulness` from end to end, on a network whose units stand for one rendered class each."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from targets.two_per_class import UNITS_OF

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench
from and_retrieval import soundbank
from bench import small_cnn

PLANTED = str(Path(__file__).parent / "targets" / "two_per_class.py") + ":load"
NAME = "targets/two_per_class.py:load"
OTHERS = ("accordion", "bagpipes", "cat meow", "dog bark", "engine", "hammer", "piano", "thunder", "violin")
BRIEF = small_cnn.TrainConfig(epochs=4, batch=8, widths=(4, 8, 8, 8), hidden=8, crop=1.0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the suite returns as typed, its demo set cut to the planted classes."""
    folder = tmp_path_factory.mktemp("faithfulness")
    source = soundbank.render(folder / "sounds", 12, list(UNITS_OF))
    (folder / "bank.txt").write_text("\n".join([*UNITS_OF, *OTHERS]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "RESULTS", folder / "results")
        patch.setattr(soundbank, "render", partial(soundbank.render, concepts=list(UNITS_OF)))
        patch.setattr(small_cnn, "TrainConfig", lambda **_: BRIEF)
        arguments = [str(source), "--targets", "small_cnn", PLANTED, "--rendered", "2"]
        arguments += ["--concepts", str(folder / "bank.txt"), "--home", str(folder / "home")]
        return bench.run("faithfulness", arguments, quiet=True)


@pytest.fixture(scope="module")
def planted(measured: tuple[dict[str, Any], str]) -> dict[str, Any]:
    """Figures of the layer whose units 2i and 2i + 1 stand for class i."""
    layers: dict[str, Any] = measured[0]["figures"]["networks"][NAME]["layers"]
    return layers["relu"]


def test_planted_units_are_right_by_every_measure(planted: dict[str, Any]) -> None:
    assert planted["units"] == planted["labelled"] == 8
    for source in ("sound", "captions"):
        figures = planted[source]
        assert figures["reliable"]["measured"] == 1
        assert figures["auprc"]["measured"] == 1
        assert figures["correlation"]["random"] < 0.3 < figures["correlation"]["measured"]
    assert planted["captions"]["reliable"]["by_both"] == 1
    assert planted["f1"]["random"] < 0.6 < planted["f1"]["measured"]
    assert planted["iou"]["measured"] <= planted["f1"]["measured"]
    assert planted["rendered"]["units"] == 8
    assert planted["rendered"]["auc"] == {"measured": 1, "random": pytest.approx(0.2, abs=0.3), "chance": 0.5}
    assert planted["rendered"]["difference"]["measured"] > 2


def test_measures_fall_in_both_sanity_tests(planted: dict[str, Any]) -> None:
    sanity = planted["sanity"]
    assert 0 < sanity["units"] <= 8
    for measure in ("correlation", "pearson", "auprc", "f1", "iou"):
        assert sanity[measure] == {"missing": 1, "extra": 1}


def test_nonsense_gets_little(planted: dict[str, Any]) -> None:
    controls = planted["controls"]
    assert controls["shuffles"] == 25  # of 8 units each: 200
    assert controls["noise"] < 0.05
    assert controls["shuffled"] < 0.1
    assert controls["shuffled"] <= controls["shuffled_most"] < 1
    assert planted["sound"]["reliable"]["random_labels"] < 0.5


def test_a_trained_network_stands_beside_and_no_place_is_told(measured: tuple[dict[str, Any], str]) -> None:
    result, text = measured
    assert set(result["figures"]["networks"]) == set(result["settings"]["weights"]) == {"small_cnn", NAME}
    layers = result["figures"]["networks"]["small_cnn"]["layers"]
    assert list(layers) == ["block4", "hidden_relu", "classes"]
    assert f"| {NAME} relu | 8 | sound | 1.000 |" in text
    assert f"| {NAME} relu | rendered, auc | 1.000 |" in text
    assert f"| {NAME} relu | f1 | 1.000 | 1.000 |" in text
    assert str(Path(__file__).parent) not in text + json.dumps(result)
