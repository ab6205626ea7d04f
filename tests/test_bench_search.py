"""The benchmarks of search: what they count, and that they run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench
from and_retrieval import soundbank
from and_retrieval.errors import InputError
from bench import queries, search


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered classes, six clips each."""
    return soundbank.render(tmp_path_factory.mktemp("sounds"), 6, ("siren", "rain", "sine tone"))


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")


def test_two_thousand_units_are_found(sounds: Path, tmp_path: Path) -> None:
    arguments = [str(sounds), "--units", "2000", "--home", str(tmp_path / "home")]
    result, text = bench.run("search", arguments, quiet=True)
    figures = result["figures"]
    for index in ("faiss", "exact"):
        kinds = [kind for kind in figures[index] if kind != "build"]
        assert len(kinds) == 5
        assert all(figures[index][kind]["recall"] >= 0.9 for kind in kinds)
        assert all(figures[index][kind]["milliseconds"]["p50"] > 0 for kind in kinds)
        assert figures[index]["build"]["bytes"] > 2_000 * 521 * 4
    assert all(figures["exact"][kind]["recall"] == 1 for kind in kinds)
    assert set(figures["brute force"]) == {"texts", "units", "pairs of texts"}
    assert "recall by chance 5.0e-03" in text


def test_many_clips_are_found(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 clips of 18 kinds, 50 are compared: those of the moments nearest to a text."""
    arguments = [str(sounds), "--clips", "600", "--queries", "6", "--home", str(tmp_path / "home")]
    with pytest.raises(InputError, match="--clips 600: a store is made from 50,000 moments"):
        bench.run("clip_search", arguments, quiet=True)
    monkeypatch.setattr("and_retrieval.faiss_index.APPROXIMATE_FROM", 100)
    monkeypatch.setattr("and_retrieval.search.search.CANDIDATES", 50)
    result, text = bench.run("clip_search", arguments, quiet=True)
    figures = result["figures"]
    assert figures["faiss"]["recall"] >= 0.9
    assert figures["moments"] > 600
    assert all(figures[name]["milliseconds"]["p50"] > 0 for name in ("all compared", "faiss"))
    assert "600 clips" in text
    assert "recall by chance 2e-02" in text


def test_recall_counts_ties_as_found() -> None:
    truth = search.Timed([(1.0, np.array([0.9, 0.5, 0.5]), np.array([1, 2, 3]))])
    assert search.Timed([(1.0, np.array([0.9, 0.5, 0.5]), np.array([1, 4, 5]))]).recall(truth) == 1
    assert search.Timed([(1.0, np.array([0.5, 0.5, 0.4]), np.array([2, 3, 6]))]).recall(truth) == 0.6667
    assert search.Timed([(0.001, np.zeros(1), None), (0.003, np.zeros(1), None)]).milliseconds()["p50"] == 2


def test_made_up_vectors_are_the_means_of_their_strongest_clips() -> None:
    random = np.random.default_rng(0)
    activations = random.standard_normal((50, 7)).astype(np.float32)
    clips = random.standard_normal((50, 16)).astype(np.float32)
    made = search._from_top_clips(activations, clips)
    for unit in range(7):
        top = np.argsort(-activations[:, unit])[: search.TOP]
        mean = (activations[top, unit] - activations[:, unit].mean()).clip(0) @ clips[top]
        np.testing.assert_allclose(made[unit], mean / np.linalg.norm(mean), atol=1e-5)


def test_areas_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 6, (40, 5)).astype(np.float32)  # with ties
    right = random.random(40) < 0.3
    expected = [roc_auc_score(right, values[:, unit]) for unit in range(5)]
    np.testing.assert_allclose(queries.roc_areas(values, right), expected)


def test_what_is_heard_is_counted() -> None:
    best = {"texts: classes": np.array([1.5, 0.9]), "texts: absent": np.array([0.2, 1.2, 0.5, 0.95])}
    figures = queries.heard_figures(best["texts: absent"], "texts: absent", best)
    assert (figures["queries"], figures["heard"], figures["auc"]) == (4, 0.25, 0.75)
    assert figures["around"]["0.5"] == 0.75
    assert "auc" not in queries.heard_figures(best["texts: classes"], "texts: classes", best)


def test_queries_of_a_small_set(sounds: Path, tmp_path: Path) -> None:
    arguments = [str(sounds), "--set", "esc10", "--home", str(tmp_path / "home")]
    result, text = bench.run("queries", arguments, quiet=True)
    heard = result["figures"]["heard"]
    assert heard["texts: classes"]["heard"] >= 2 / 3
    assert heard["texts: nonsense"]["heard"] <= 0.1
    assert heard["texts: background"]["queries"] == 521
    assert "A without B: difference" in text
    with pytest.raises(InputError, match="--others holds none of the classes"):
        bench.run(
            "queries", [*arguments[:2], "soundbank", *arguments[3:], "--others", str(sounds)], quiet=True
        )
