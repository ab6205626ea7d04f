"""Scores of concepts for units: the published numbers, planted units and invariances."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval import numerics
from and_retrieval.config import LabelConfig
from and_retrieval.errors import InputError
from and_retrieval.explanation import scores as label
from and_retrieval.explanation.rank_reorder import _moved_by_chance
from and_retrieval.explanation.scores import SCORES, label_units
from and_retrieval.recording.topk import RunningStatistics, RunningTopK
from and_retrieval.types import Floats, Ints, LayerEvidence

GOLDEN = Path(__file__).parent / "golden" / "similarity.npz"
FROM_TOP = [name for name, scorer in SCORES.items() if scorer.from_top]
NEEDS_ALL = [name for name, scorer in SCORES.items() if not scorer.from_top]


def golden() -> dict[str, Floats]:
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def top_rows(activations: Floats, k: int) -> Ints:
    return np.argsort(-activations, axis=0, kind="stable")[:k].T.astype(np.int32)


def evidence_of(activations: Floats, k: int) -> LayerEvidence:
    clips, units = activations.shape
    rows = np.arange(clips, dtype=np.int32)
    top, low, statistics = RunningTopK(units, k, True), RunningTopK(units, k, False), RunningStatistics(units)
    top.update(rows, activations, np.zeros_like(activations))
    low.update(rows, activations, np.zeros_like(activations))
    statistics.update(activations)
    return LayerEvidence("layer", "mean", top.kept(), low.kept(), statistics.statistics())


def planted(
    units: int, seed: int, clips: int = 400, concepts: int = 40
) -> tuple[Floats, Floats, npt.NDArray[Any]]:
    """Similarity, activations and each unit's true concept.

    Clips carry one concept each, some concepts far more often than others; related concepts are
    heard along with it, and some concepts are hubs, near to every clip.
    """
    rng = np.random.default_rng(seed)
    often = 1 / np.arange(1, concepts + 1) ** 0.5
    carried = np.append(
        np.arange(concepts).repeat(4), rng.choice(concepts, clips - 4 * concepts, p=often / often.sum())
    )
    directions = rng.standard_normal((concepts, 32))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hubs = 0.1 * rng.standard_normal(concepts)
    similarity = (
        0.4 * (directions @ directions.T)[carried] + hubs + 0.06 * rng.standard_normal((clips, concepts))
    )
    truth = rng.integers(0, concepts, units)
    activations = (carried[:, None] == truth) + 0.1 * rng.standard_normal((clips, units))
    return similarity.astype(np.float32), activations.astype(np.float32), truth


def score(name: str, similarity: Floats, activations: Floats, k: int = 8) -> Floats:
    scorer = SCORES[name]
    return scorer.score(similarity, top_rows(activations, k) if scorer.from_top else activations)


@pytest.mark.parametrize(
    ("name", "compute", "atol"),
    [
        # The published numbers are float32 sums of up to 100 logarithms of small numbers: the same
        # formula recomputed in float32 differs from them by 6e-5 for soft-WPMI.
        ("cos_similarity", lambda p, a: label.cos(p, a), 5e-7),
        ("cos_similarity_cubed", lambda p, a: label.cos_cubed(p, a), 5e-7),
        ("wpmi", lambda p, a: label.wpmi(p, top_rows(a, 28), prior="units"), 1e-4),
        ("soft_wpmi", lambda p, a: label.soft_wpmi(p, top_rows(a, 100), prior="units"), 2e-4),
    ],
)
def test_published_numbers(name: str, compute: Callable[[Floats, Floats], Floats], atol: float) -> None:
    arrays = golden()
    expected = arrays[f"expected_{name}"]
    values = compute(arrays["clip_concept_similarity"], arrays["activations"])
    assert values.shape == (40, 30)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(values.argmax(axis=1), expected.argmax(axis=1))


def test_rank_reorder_is_the_average_over_random_orders() -> None:
    arrays = golden()
    similarity = arrays["clip_concept_similarity"][:, :5].astype(np.float64) + 0.6
    activations = arrays["activations"][:, :3].astype(np.float64)
    n = 10
    rng = np.random.default_rng(0)
    expected = np.empty((3, 5))
    for unit in range(3):
        rows = np.argsort(-activations[:, unit])[:n]
        top = activations[rows, unit]
        ascending = top[::-1]
        shuffles = rng.permuted(np.tile(ascending, (40_000, 1)), axis=1)
        by_chance = np.mean(np.abs(ascending - shuffles) ** 3)
        for concept in range(5):
            near = similarity[rows, concept]
            reordered = ascending[np.argsort(np.argsort(near))]
            moved = np.mean(np.abs(top - reordered) ** 3)
            expected[unit, concept] = -moved / by_chance / np.sqrt(near.mean())
    np.testing.assert_allclose(label.rank_reorder(similarity, activations), expected, rtol=0.01)


@pytest.mark.parametrize("scale", [1e-18, 1e-9, 1, 1e9, 1e18])
@pytest.mark.parametrize("offset", [0, 30])
@pytest.mark.parametrize(("compute", "power"), [(label.cos, 1), (label.cos_cubed, 3)])
def test_cosines_in_float32_are_those_in_float64(
    compute: Callable[..., Floats], power: int, offset: float, scale: float
) -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(0.2, 0.1, (300, 20)).astype(np.float32)
    activations = (scale * (offset + rng.standard_normal((300, 12)) * rng.lognormal(0, 2, 12))).astype(
        np.float32
    )
    activations[:, 3] = scale * 7
    p, a = similarity.astype(np.float64), activations.astype(np.float64)
    if power == 3:
        p, a = (p - p.mean(axis=0)) ** 3, ((a - a.mean(axis=0)) / scale) ** 3
    norms = np.linalg.norm(a, axis=0)[:, None] * np.maximum(
        np.linalg.norm(p, axis=0), 1e-3 if power == 1 else 0
    )
    expected = a.T @ p / np.maximum(norms, 1e-300)
    scores = compute(similarity, activations)
    # Next to a large mean, the digits of float32 itself are few.
    np.testing.assert_allclose(np.delete(scores, 3, 0), np.delete(expected, 3, 0), rtol=0, atol=2e-5)
    np.testing.assert_array_equal(scores[3], 0) if power == 3 else None


@given(st.lists(st.integers(0, 2**19 - 1), min_size=1, max_size=40))
def test_the_cube_by_chance_is_the_mean_over_all_pairs(steps: list[int]) -> None:
    ascending = np.sort(np.array([[0, *steps]], np.int32), axis=1)
    x = ascending[0].astype(np.float64)
    expected = np.mean(np.abs(x[:, None] - x) ** 3)
    assert _moved_by_chance(ascending)[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("prior", ["units", "clips", "mixed"])
@pytest.mark.parametrize(("compute", "temperature"), [(label.soft_wpmi, 0.1), (label.wpmi, 0.5)])
def test_likelihoods_are_the_sums_of_logarithms(
    compute: Callable[..., Floats], temperature: float, prior: str
) -> None:
    rng = np.random.default_rng(0)
    similarity, usual = (rng.normal(0.2, 0.2, (n, 13)).astype(np.float32) for n in (60, 45))
    rows, layer = (rng.integers(0, 60, (n, 7)).astype(np.int32) for n in (9, 14))
    rows[2, 4:], rows[5], layer[3, 2:], layer[4] = -1, -1, -1, -1
    p = 0.998 - np.arange(7) / 7 * 0.028 if compute is label.soft_wpmi else np.ones(7)

    def logs(x: Floats) -> npt.NDArray[np.float64]:  # [clips, k, concepts]
        s = np.exp(x.astype(np.float64) / temperature)
        s /= s.sum(axis=1, keepdims=True)
        return np.log(1 + p[:, None] * (s[:, None] - 1) + 1e-7)

    def likelihood(of: Ints) -> npt.NDArray[np.float64]:
        return np.array(
            [
                sum((logs(similarity)[row, i] for i, row in enumerate(unit) if row >= 0), np.zeros(13))
                for unit in of
            ]
        )

    share = {"units": 1.0, "clips": 0.0, "mixed": 14 / 24}[prior]
    of_units = np.log(np.exp(np.delete(likelihood(layer), 4, axis=0)).mean(axis=0))
    of_clips = (rows >= 0) @ logs(usual).mean(axis=0)
    expected = likelihood(rows) - 0.6 * (share * of_units + (1 - share) * of_clips)
    scores = compute(similarity, rows, prior_weight=0.6, prior=prior, layer_rows=layer, usual=usual)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_rank_reorder_ends_of_the_scale() -> None:
    activations = np.arange(40, dtype=np.float32)[:, None]
    agrees = 0.25 + np.zeros((40, 1)) + 1e-9 * activations
    assert label.rank_reorder(agrees, activations, top_fraction=0.2) == pytest.approx(0)
    flat = label.rank_reorder(agrees, np.ones_like(activations))
    assert flat == pytest.approx(-2, rel=1e-6)  # chance, over the root of the mean similarity
    assert np.isfinite(label.rank_reorder(-agrees, activations)).all()


@pytest.mark.parametrize("present", [3, 1])
@pytest.mark.parametrize("compute", [label.soft_wpmi, label.wpmi])
def test_with_the_clips_prior_random_clips_score_zero_on_average(
    compute: Callable[..., Floats], present: int
) -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(0, 0.15, (30, 6)) + np.array([0.3, 0, 0, 0, 0, -0.3])  # one hub, one far off
    sets = rng.integers(0, 30, (100_000, 3)).astype(np.int32)
    sets[:, present:] = -1
    likelihood = compute(similarity, sets, prior_weight=0).astype(np.float64)
    scores = compute(similarity, sets, prior_weight=1).astype(np.float64)
    error = likelihood.std(axis=0) / np.sqrt(len(sets))
    assert np.all(np.abs(scores.mean(axis=0)) < 4 * error)
    assert np.all(np.abs(likelihood.mean(axis=0)) > 100 * error)


@pytest.mark.parametrize("name", SCORES)
def test_planted_units_get_their_concept(name: str) -> None:
    similarity, activations, truth = planted(units=60, seed=1)
    right = float(np.mean(score(name, similarity, activations).argmax(axis=1) == truth))
    chance = 1 / similarity.shape[1]
    # Rank-reorder judges the order within the top clips, in which nothing was planted.
    assert right > (10 * chance if name == "rank-reorder" else 0.9), f"{name}: {right:.2f}"


@pytest.mark.parametrize("name", ["soft-wpmi", "wpmi"])
def test_a_layer_of_one_unit_needs_the_clips_prior(name: str) -> None:
    right = {"clips": 0, "units": 0}
    for seed in range(20):
        similarity, activations, truth = planted(units=1, seed=seed)
        for prior in right:
            scores = getattr(label, name.replace("-", "_"))(
                similarity, top_rows(activations, 8), prior=prior, prior_weight=1.0
            )
            right[prior] += int(scores.argmax() == truth[0])
    assert right["clips"] >= 18
    assert right["units"] <= 4


def test_with_the_clips_prior_units_do_not_depend_on_each_other() -> None:
    similarity, activations, _ = planted(units=9, seed=4)
    rows = top_rows(activations, 8)
    together = label.soft_wpmi(similarity, rows)
    np.testing.assert_array_equal(together[3:4], label.soft_wpmi(similarity, rows[3:4]))
    assert not np.array_equal(
        label.soft_wpmi(similarity, rows, prior="units")[3:4],
        label.soft_wpmi(similarity, rows[3:4], prior="units"),
    )


@pytest.mark.parametrize("name", SCORES)
def test_order_of_clips_units_and_concepts_does_not_matter(name: str) -> None:
    similarity, activations, _ = planted(units=12, seed=2)
    rng = np.random.default_rng(0)
    clips, units, concepts = (rng.permutation(n) for n in (len(similarity), 12, similarity.shape[1]))
    straight = score(name, similarity, activations)
    permuted = score(name, similarity[clips][:, concepts], activations[clips][:, units])
    np.testing.assert_allclose(permuted, straight[units][:, concepts], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SCORES)
def test_a_duplicated_concept_scores_the_same(name: str) -> None:
    similarity, activations, _ = planted(units=5, seed=3)
    doubled = np.concatenate([similarity, similarity[:, 7:8]], axis=1)
    scores = score(name, doubled, activations)
    np.testing.assert_allclose(scores[:, 7], scores[:, -1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("prior", ["clips", "units"])
@pytest.mark.parametrize("name", SCORES)
def test_chunks_change_nothing(name: str, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    similarity, activations, _ = planted(units=23, seed=5)
    if name.endswith("wpmi"):
        rows = top_rows(activations, 8)
        compute = lambda: getattr(label, name.replace("-", "_"))(similarity, rows, prior=prior)  # noqa: E731
    else:
        compute = lambda: score(name, similarity, activations)  # noqa: E731
    whole = compute()
    for size in (1, 5000, 50_000):
        monkeypatch.setattr(numerics.chunks, "__defaults__", (size, 8))
        np.testing.assert_allclose(compute(), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prior", ["clips", "units"])
def test_memory_is_the_result_and_a_few_chunks(prior: str) -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(0, 0.1, (200, 1000)).astype(np.float32)
    rows = rng.integers(0, 200, (6000, 10)).astype(np.int32)
    tracemalloc.start()
    scores = label.soft_wpmi(similarity, rows, prior=prior)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes + 8 * numerics.CHUNK_BYTES


@pytest.mark.parametrize("name", FROM_TOP)
def test_missing_top_clips_contribute_nothing(name: str) -> None:
    similarity, activations, _ = planted(units=6, seed=6)
    rows = top_rows(activations, 8)
    options: dict[str, float] = {"p_start": 0.98, "p_end": 0.98} if name == "soft-wpmi" else {}
    compute: Callable[..., Floats] = getattr(label, name.replace("-", "_"))
    short = compute(similarity, rows[:, :5], **options)
    padded = compute(similarity, np.where(np.arange(8) < 5, rows, -1).astype(np.int32), **options)
    np.testing.assert_allclose(padded, short, rtol=1e-6, atol=1e-6)
    nothing = compute(similarity, np.full((2, 8), -1, np.int32), **options)
    np.testing.assert_array_equal(nothing, 0)


@pytest.mark.parametrize("name", SCORES)
def test_a_constant_unit_gives_finite_scores(name: str) -> None:
    similarity, activations, _ = planted(units=3, seed=7)
    activations[:, 1] = 0
    assert np.isfinite(score(name, similarity, activations)).all()


def test_label_units_finds_planted_concepts_best_first() -> None:
    similarity, activations, truth = planted(units=30, seed=8)
    names = [f"concept {i}" for i in range(similarity.shape[1])]
    labels = label_units(similarity, evidence_of(activations, 10), names, LabelConfig(k=8, count=3))
    assert [len(unit_labels) for unit_labels in labels] == [3] * 30
    right = sum(
        unit_labels[0].concept == names[true] for unit_labels, true in zip(labels, truth, strict=True)
    )
    assert right >= 27
    for unit_labels in labels:
        scores = [entry.score for entry in unit_labels]
        assert scores == sorted(scores, reverse=True)
        assert len({entry.concept for entry in unit_labels}) == 3


def test_label_units_equals_a_full_stable_sort_however_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity, activations, _ = planted(units=17, seed=9)
    similarity = np.repeat(similarity, 2, axis=1)  # every concept ties with its neighbour
    names = [f"{i}" for i in range(similarity.shape[1])]
    config = LabelConfig(score="top-mean", k=6, count=7)
    labels = label_units(similarity, evidence_of(activations, 6), names, config)
    order = np.argsort(-label.top_mean(similarity, top_rows(activations, 6)), axis=1, kind="stable")[:, :7]
    assert [[int(entry.concept) for entry in unit_labels] for unit_labels in labels] == order.tolist()
    monkeypatch.setattr(label, "LABEL_BYTES", 1)
    assert label_units(similarity, evidence_of(activations, 6), names, config) == labels


def test_dead_and_constant_units_get_no_label_and_sparse_units_only_what_fired() -> None:
    similarity, activations, _ = planted(units=5, seed=10)
    activations[:, 1] = 0
    activations[:, 2] = -3.5
    activations[:, 3] = np.nan
    activations[:, 4] = 0
    fired = [200, 300]
    activations[fired, 4] = [2, 1]
    names = [f"{i}" for i in range(similarity.shape[1])]
    labels = label_units(similarity, evidence_of(activations, 10), names, LabelConfig(score="top-mean", k=10))
    assert [len(unit_labels) for unit_labels in labels] == [5, 0, 0, 0, 5]
    of_two = label.top_mean(similarity, np.array([fired], np.int32))[0]
    assert labels[4][0].concept == names[int(of_two.argmax())]
    assert labels[4][0].score == of_two.max()


def test_fewer_concepts_than_labels() -> None:
    similarity, activations, _ = planted(units=2, seed=11)
    labels = label_units(similarity[:, :2], evidence_of(activations, 4), ["a", "b"], LabelConfig(count=5))
    assert [len(unit_labels) for unit_labels in labels] == [2, 2]


def test_unknown_and_unusable_scores_name_the_remedy() -> None:
    similarity, activations, _ = planted(units=1, seed=12)
    names = [f"{i}" for i in range(similarity.shape[1])]
    evidence = evidence_of(activations, 4)
    with pytest.raises(InputError, match=r"unknown score 'soft_wpm'; did you mean soft-wpmi"):
        label_units(similarity, evidence, names, LabelConfig(score="soft_wpm"))
    for name in NEEDS_ALL:
        with pytest.raises(ValueError, match="needs the activations"):
            label_units(similarity, evidence, names, LabelConfig(score=name))
    with pytest.raises(ValueError, match="40 columns for 3 concepts"):
        label_units(similarity, evidence, names[:3], LabelConfig())


@pytest.mark.parametrize("name", NEEDS_ALL)
def test_scores_of_all_activations_label_planted_units(name: str) -> None:
    similarity, activations, truth = planted(units=6, seed=3)
    names = [f"{i}" for i in range(similarity.shape[1])]
    evidence = evidence_of(activations, 10)
    unit_labels = label_units(similarity, evidence, names, LabelConfig(score=name), (similarity, activations))
    assert [int(labels[0].concept) for labels in unit_labels] == list(truth)
