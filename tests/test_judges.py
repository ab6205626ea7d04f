"""Measures of labels against brute force, planted units and chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from and_retrieval.explanation.agreement import strongest
from bench import judges

Rng = np.random.Generator


def units(seed: int, count: int = 6, clips: int = 40, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of labels and activations that go with them, both [units, clips]."""
    rng = np.random.default_rng(seed)
    similarity = np.round(rng.standard_normal((count, clips)), 1)  # with ties
    return similarity, similarity + noise * rng.standard_normal((count, clips))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**16))
def test_overlap_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    claims, positives = rng.random((2, 4, 12)) < 0.4
    f1, iou = judges.overlap(claims, positives)
    for unit in range(4):
        truth, claimed = positives[unit], claims[unit]
        assert f1[unit] == pytest.approx(f1_score(truth, claimed, zero_division=0))
        assert iou[unit] == pytest.approx(jaccard_score(truth, claimed, zero_division=0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**16))
def test_no_threshold_is_better(seed: int) -> None:
    similarity, activations = units(seed)
    positives = strongest(activations)
    chosen = judges.best_thresholds(similarity, positives)
    best = judges.overlap(judges.claimed(similarity, chosen), positives)[0]
    for unit, values in enumerate(similarity):
        candidates = [*np.unique(values), values.min() - 1]
        tried = [f1_score(positives[unit], values > one, zero_division=0) for one in candidates]
        assert best[unit] == pytest.approx(max(tried))


def test_measures_of_true_labels_fall_in_both_sanity_tests() -> None:
    similarity, activations = units(1, 60, 100, 0.3)
    thresholds = judges.best_thresholds(similarity, strongest(activations))
    figures = judges.sanity(similarity, activations, thresholds)
    assert figures["units"] >= 50
    for measure in ("correlation", "pearson", "auprc", "f1", "iou"):
        assert figures[measure]["missing"] >= 0.95
        assert figures[measure]["extra"] >= 0.95


def test_measures_of_labels_that_say_nothing_do_not_fall() -> None:
    similarity, _ = units(2, 200, 100)
    activations = np.random.default_rng(3).standard_normal((200, 100))
    thresholds = np.quantile(similarity, 0.8, axis=1)
    figures = judges.sanity(similarity, activations, thresholds)
    for measure in (
        "correlation",
        "pearson",
    ):  # F1 and IoU fall with the number of claims, whatever they are worth
        assert figures[measure]["missing"] == pytest.approx(0.5, abs=0.15)
        assert figures[measure]["extra"] == pytest.approx(0.5, abs=0.15)


def test_changed_claims_are_as_many_as_said() -> None:
    similarity, _ = units(4)
    claims = judges.claimed(similarity, np.quantile(similarity, 0.75, axis=1))
    rng = np.random.default_rng(0)
    lost = judges._drawn(claims, claims.sum(axis=1) // 2, rng)
    assert (lost & ~claims).sum() == 0
    assert lost.sum(axis=1).tolist() == (claims.sum(axis=1) // 2).tolist()
    borrowed = judges._borrowed(similarity, claims, rng)
    for unit, row in enumerate(borrowed):
        assert set(row) <= set(similarity[unit][claims[unit]])


def clusters(seed: int = 0, clips: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of clips in six directions, and the direction of each clip."""
    rng = np.random.default_rng(seed)
    kind = np.arange(clips) % 6
    vectors = np.eye(6)[kind] @ rng.standard_normal((6, 16)) + 0.1 * rng.standard_normal((clips, 16))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), kind


def test_an_intruder_among_clips_of_one_kind_is_found() -> None:
    vectors, kind = clusters()
    activations = (kind == np.arange(6)[:, None]) + 0.01 * np.random.default_rng(1).random((6, 60))
    figures = judges.intruders(vectors, activations)
    assert figures["measured"] >= 0.95
    assert figures["random"] == pytest.approx(0.2, abs=0.15)
    assert figures["chance"] == 0.2
    nothing = judges.intruders(vectors, np.random.default_rng(2).random((300, 60)))
    assert nothing["measured"] == pytest.approx(0.2, abs=0.05)


def test_clips_are_sorted_by_a_label_that_tells_them_apart() -> None:
    similarity, activations = units(5, 200, 60, 0.1)
    other = np.random.default_rng(6).standard_normal(similarity.shape)
    figures = judges.detection(similarity, other, activations)
    assert figures["measured"] >= 0.95
    assert figures["random"] == pytest.approx(0.5, abs=0.03)
    flat = judges.detection(np.zeros_like(similarity), other, activations)
    assert flat["measured"] == 0.5  # a label that says the same of all clips


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**16))
def test_answers_are_areas_under_the_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    activations = np.round(rng.standard_normal((30, 5)), 1)
    concept = rng.permutation(np.arange(30) % 4)
    wanted = rng.integers(0, 4, 5)
    area, apart = judges.answers(activations, concept, wanted)
    for unit in range(5):
        played = concept == wanted[unit]
        values = activations[:, unit]
        assert area[unit] == pytest.approx(roc_auc_score(played, values))
        assert apart[unit] == pytest.approx((values[played].mean() - values[~played].mean()) / values.std())


def test_units_answer_when_their_label_is_played() -> None:
    rng = np.random.default_rng(0)
    concept = np.arange(80) % 8
    wanted = np.array([0, 3, 5, -1])
    activations = (concept[:, None] == wanted) + 0.1 * rng.standard_normal((80, 4))
    figures = judges.rendered_figures(activations, concept, wanted)
    assert figures["units"] == 3
    assert figures["auc"]["measured"] > 0.99 > 0.6 > figures["auc"]["random"]
    assert figures["difference"]["measured"] > 2
    assert judges.rendered_figures(activations, concept, np.full(4, -1)) == {"units": 0}


def test_labels_beside_labels_drawn_at_random() -> None:
    similarity, activations = units(7, 40, 80, 0.3)
    other = np.random.default_rng(8).standard_normal(similarity.shape)
    seen, held_out = (
        judges.Judged(similarity[:, part], other[:, part], activations[:, part])
        for part in (slice(40), slice(40, 80))
    )
    vectors, _ = clusters(0, 40)
    figures = judges.judged_figures(seen, held_out, vectors)
    for measure in ("f1", "iou", "detection"):
        assert figures[measure]["measured"] > figures[measure]["random"] + 0.2
    assert set(figures["intruder"]) == {"measured", "random", "chance"}
