"""Faithfulness: the measures against their definitions, and how often labels of known worth are believed."""

from __future__ import annotations

import tracemalloc
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kstest, permutation_test
from sklearn.metrics import average_precision_score

from and_retrieval.explanation.agreement import auprc, expected_best, exponential_scores, strongest
from and_retrieval.explanation.faithfulness import Faithfulness, faithfulness, left_over
from and_retrieval.explanation.scores import soft_wpmi

Array = npt.NDArray[Any]

CONCEPTS = 60
SEEN, HELD = 320, 80
FIGURES = [name for name in Faithfulness.__dataclass_fields__ if name != "clips"]


def world(rng: np.random.Generator, clips: int = SEEN + HELD) -> tuple[Array, Array]:
    """Each clip's class of twenty, and similarity to concepts: three near synonyms per class, with hubs."""
    carried = rng.integers(0, CONCEPTS // 3, clips)
    likeness = (carried[:, None] == np.arange(CONCEPTS) // 3).astype(float)
    hubs = 0.3 * rng.standard_normal((clips, 1)) * rng.random(CONCEPTS)
    return carried, (0.4 * likeness + 0.1 * hubs + 0.08 * rng.standard_normal((clips, CONCEPTS))).astype(
        np.float32
    )


def best_labels(similarity: Array, activations: Array) -> Array:
    rows = np.argsort(-activations, axis=0, kind="stable")[:20].T.astype(np.int32)
    return soft_wpmi(similarity, rows).argmax(axis=1)


NOISE = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "sparse": lambda rng, shape: np.maximum(rng.standard_normal(shape) - 2, 0),
    "lognormal": lambda rng, shape: np.exp(3 * rng.standard_normal(shape)),
}


@pytest.mark.parametrize("kind", NOISE)
def test_noise_gets_no_reliable_label(kind: str) -> None:
    shares, p_values = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        _, similarity = world(rng)
        activations = NOISE[kind](rng, (SEEN + HELD, 200)).astype(np.float32)
        labels = best_labels(similarity[:SEEN], activations[:SEEN])
        result = faithfulness(activations[SEEN:], similarity[SEEN:], labels, permutations=4000, seed=seed)
        shares.append(result.reliable.mean())
        p_values.append(result.p_value[np.isfinite(result.pearson)])
    assert max(shares) <= 0.05
    p = np.concatenate(p_values)
    assert np.mean(p <= 0.05) < 0.08
    assert np.mean(p <= 0.01) < 0.025
    if kind in ("normal", "cauchy"):
        assert kstest(p, "uniform").pvalue > 1e-3


def test_detectors_keep_their_labels_and_shuffled_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    carried, similarity = world(rng)
    truth = rng.integers(0, CONCEPTS // 3, 150)
    units = (carried[:, None] == truth) + 0.2 * rng.standard_normal((SEEN + HELD, 150))
    labels = best_labels(similarity[:SEEN], units[:SEEN])
    result = faithfulness(units[SEEN:], similarity[SEEN:], labels)
    present = np.isin(truth, carried[SEEN:])
    assert result.reliable[present].mean() > 0.95
    assert np.all(result.pearson[result.reliable] > result.random_pearson[result.reliable])
    for seed in range(4):
        shuffled = np.random.default_rng(seed).permutation(units[:SEEN])
        labels = best_labels(similarity[:SEEN], shuffled)
        held = np.random.default_rng(seed + 100).permutation(units[SEEN:])
        assert faithfulness(held, similarity[SEEN:], labels, permutations=4000).reliable.mean() <= 0.05


def test_true_units_among_noise_are_found_and_few_others() -> None:
    rng = np.random.default_rng(1)
    carried, similarity = world(rng, 200)
    truth = rng.integers(0, CONCEPTS // 3, 2000)
    units = rng.standard_normal((200, 2000))
    units[:, :20] += 6 * (carried[:, None] == truth[:20])
    result = faithfulness(units, similarity, 3 * truth)
    assert result.reliable[:20].all()
    assert result.reliable[20:].sum() <= 5


def test_a_label_no_better_than_any_other_is_not_reliable() -> None:
    rng = np.random.default_rng(2)
    loudness = rng.standard_normal((100, 1))
    similarity = (loudness + 0.5 * rng.standard_normal((100, CONCEPTS))).astype(np.float32)
    units = loudness + 0.3 * rng.standard_normal((100, 300))
    result = faithfulness(units, similarity, rng.integers(0, CONCEPTS, 300))
    assert np.mean(result.q_value <= 0.05) == 1
    assert result.reliable.mean() < 0.2
    assert result.pearson.mean() == pytest.approx(result.random_pearson.mean(), abs=0.02)


def test_every_figure_by_its_definition() -> None:
    rng = np.random.default_rng(3)
    similarity = rng.standard_normal((40, 7)).astype(np.float32)
    units = rng.standard_normal((40, 5)).astype(np.float16) + similarity[:, :5].astype(np.float16)
    labels = np.array([0, 1, 2, 3, 6])
    result = faithfulness(units, similarity, labels)
    assert result.clips == 40
    for unit, label in enumerate(labels):
        a = units[:, unit].astype(float)
        scores = exponential_scores(a[None])[0]
        positives = a >= np.sort(a)[-8]
        for name, measure in (
            ("pearson", lambda z, a=a: np.corrcoef(z, a)[0, 1]),
            ("correlation", lambda z, s=scores: np.corrcoef(z, s)[0, 1]),
            ("auprc", lambda z, p=positives: average_precision_score(p, z)),
        ):
            every = [measure(column.astype(float)) for column in similarity.T]
            draws = [max(chosen) for chosen in combinations(every, 6)]
            assert getattr(result, name)[unit] == pytest.approx(every[label], abs=1e-6)
            assert getattr(result, f"random_{name}")[unit] == pytest.approx(np.mean(every), abs=1e-6)
            assert getattr(result, f"best_{name}")[unit] == pytest.approx(np.mean(draws), abs=1e-6)
        assert result.base_rate[unit] == 0.2


def test_p_value_is_that_of_the_permutation_test() -> None:
    rng = np.random.default_rng(4)
    similarity = rng.standard_normal((50, 12)).astype(np.float32)
    units = np.maximum(rng.standard_normal((50, 12)) + np.linspace(0, 0.6, 12) * similarity, 0)
    result = faithfulness(units, similarity, np.arange(12))
    for unit in range(12):
        scores = exponential_scores(units[None, :, unit])[0]
        expected = permutation_test(
            (scores, similarity[:, unit].astype(float)),
            lambda x, y, axis: (x * y).mean(axis=axis),
            permutation_type="pairings",
            alternative="greater",
            n_resamples=20_000,
            vectorized=True,
            rng=np.random.default_rng(0),
        ).pvalue
        # An estimate of 2,000 draws at least, and one of 20,000.
        deviation = np.sqrt(expected / 2_000) + 1e-4
        assert abs(result.p_value[unit] - expected) < 4 * deviation


def test_only_units_that_are_not_clear_get_all_permutations() -> None:
    rng = np.random.default_rng(5)
    similarity = rng.standard_normal((60, 200)).astype(np.float32)
    noise = rng.standard_normal((60, 200))
    good = similarity + 0.1 * noise
    labels = np.arange(200)
    clear = faithfulness(good, similarity, labels)
    assert clear.p_value.max() < 1 / 1_900  # the least that the first permutations can give
    assert clear.p_value.min() > 1 / 2_200
    assert (clear.q_value <= 0.01).all()
    alone = faithfulness(np.where(labels == 7, good, noise), similarity, labels)
    assert alone.p_value[7] < 1 / 19_000
    assert alone.q_value[7] <= 0.01
    hopeless = np.flatnonzero(alone.p_value > 0.02)
    assert len(hopeless) > 150
    np.testing.assert_allclose(alone.p_value[hopeless] * 2_041, np.rint(alone.p_value[hopeless] * 2_041))


def test_random_labels_are_measured_by_one_measure_if_no_others_are_wanted() -> None:
    rng = np.random.default_rng(6)
    similarity = rng.standard_normal((40, 30)).astype(np.float32)
    units = rng.standard_normal((40, 5)) + similarity[:, :5]
    whole, fast = (faithfulness(units, similarity, np.arange(5), all_random=every) for every in (True, False))
    for name, values in vars(whole).items():
        if name in ("random_pearson", "best_pearson", "random_auprc", "best_auprc"):
            assert np.isfinite(values).all()
            assert np.isnan(getattr(fast, name)).all()
        else:
            np.testing.assert_array_equal(getattr(fast, name), values)


@pytest.mark.parametrize("permutations", [0, 500, 2_000, 9_000])
def test_the_smallest_p_value_is_that_of_the_permutations_asked_for(permutations: int) -> None:
    """One detector among many units of noise: it takes all permutations to tell, and is exceeded in none."""
    rng = np.random.default_rng(8)
    similarity = rng.standard_normal((HELD, CONCEPTS))
    units = rng.standard_normal((HELD, 300))
    units[:, 0] += 3 * similarity[:, 0]
    p_value = faithfulness(units, similarity, np.zeros(300, int), permutations=permutations).p_value
    made = -(-permutations // HELD) * HELD  # every order that is drawn stands for as many as there are clips
    assert p_value.min() == p_value[0] == pytest.approx(1 / (1 + made))


def test_groups_are_dealt_out_whole() -> None:
    """Files of eight windows that sound alike: only with groups does noise look like noise."""
    rng = np.random.default_rng(5)
    files = np.arange(20).repeat(8)
    similarity = rng.standard_normal((20, CONCEPTS))[files] + 0.3 * rng.standard_normal((160, CONCEPTS))
    units = rng.standard_normal((20, 400))[files] + 0.3 * rng.standard_normal((160, 400))
    labels = rng.integers(0, CONCEPTS, 400)
    alone = faithfulness(units, similarity, labels, permutations=2000)
    together = faithfulness(units, similarity, labels, groups=files, permutations=2000)
    assert np.mean(alone.p_value <= 0.05) > 0.2
    assert np.mean(together.p_value <= 0.05) < 0.09
    assert kstest(together.p_value, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(alone.pearson, together.pearson)


def test_groups_of_several_sizes() -> None:
    rng = np.random.default_rng(6)
    sizes = np.array([1] * 15 + [2] * 30 + [3] * 12 + [9])
    files = rng.permutation(len(sizes))[np.arange(len(sizes)).repeat(sizes)]
    order = rng.permutation(len(files))
    files = files[order]
    similarity = rng.standard_normal((len(sizes), CONCEPTS))[files]
    similarity += 0.3 * rng.standard_normal(similarity.shape)
    labels = rng.integers(0, CONCEPTS, 300)
    noise = rng.standard_normal((len(sizes), 300))[files]
    p = faithfulness(noise, similarity, labels, groups=files, permutations=2000).p_value
    assert np.mean(p <= 0.05) < 0.09
    assert 0.3 < p.mean() < 0.6
    result = faithfulness(similarity[:, labels] + noise, similarity, labels, groups=files)
    assert result.reliable.mean() > 0.95


def test_nothing_to_permute_is_no_evidence() -> None:
    rng = np.random.default_rng(7)
    similarity = rng.standard_normal((30, CONCEPTS))
    result = faithfulness(similarity[:, :4], similarity, np.arange(4), groups=np.zeros(30, dtype=int))
    np.testing.assert_array_equal(result.p_value, 1)
    assert not result.reliable.any()
    np.testing.assert_allclose(result.pearson, 1)


def test_a_unit_with_two_meanings_needs_both_labels() -> None:
    rng = np.random.default_rng(8)
    carried, similarity = world(rng, 300)
    unit = (np.isin(carried, (2, 11)) + 0.2 * rng.standard_normal(300))[:, None]
    both = faithfulness(unit, similarity, np.array([[6, 33]]))
    first = faithfulness(unit, similarity, np.array([[6, -1]]))
    last = faithfulness(unit, similarity, np.array([[-1, 33]]))
    assert both.reliable.all()
    assert both.pearson > max(first.pearson, last.pearson) + 0.1
    assert both.auprc > max(first.auprc, last.auprc) + 0.1
    assert both.random_pearson == pytest.approx(first.random_pearson, abs=0.05)


def test_units_without_anything_to_test() -> None:
    rng = np.random.default_rng(9)
    _, similarity = world(rng, 80)
    units = rng.standard_normal((80, 4))
    units[:, 1] = 3  # constant
    units[:, 2] = np.nan
    result = faithfulness(units, similarity, np.array([-1, 0, 0, 0]))
    for name in FIGURES[:-3]:
        assert np.isnan(getattr(result, name)[:3]).all(), name
        assert np.isfinite(getattr(result, name)[3]), name
    np.testing.assert_array_equal(result.p_value[:3], 1)
    np.testing.assert_array_equal(result.q_value[:3], 1)
    assert result.q_value[3] == result.p_value[3]
    assert not result.reliable[:3].any()


def test_unreadable_clips_are_left_out() -> None:
    rng = np.random.default_rng(10)
    _, similarity = world(rng, 80)
    units = (similarity[:, :6] + 0.1 * rng.standard_normal((80, 6))).astype(np.float16)
    gaps = [3, 40, 79]
    holes = units.copy()
    holes[gaps] = np.nan
    same(
        faithfulness(holes, similarity, np.arange(6)),
        faithfulness(np.delete(units, gaps, 0), np.delete(similarity, gaps, 0), np.arange(6)),
    )


@pytest.mark.parametrize("clips", [0, 1, 2, 3])
def test_too_few_clips_prove_nothing(clips: int) -> None:
    rng = np.random.default_rng(11)
    similarity = rng.standard_normal((clips, 5)).astype(np.float32)
    result = faithfulness(similarity[:, :3], similarity, np.arange(3))
    assert result.clips == clips
    assert not result.reliable.any()


def test_a_bank_of_one_concept_leaves_the_permutation_test() -> None:
    rng = np.random.default_rng(112)
    similarity = rng.standard_normal((80, 1))
    units = np.hstack([similarity, rng.standard_normal((80, 3))])
    assert faithfulness(units, similarity, np.zeros(4, dtype=int)).reliable.tolist() == [True] + [False] * 3


def test_the_division_into_chunks_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(13)
    _, similarity = world(rng, 90)
    units = np.maximum(rng.standard_normal((90, 50)) + similarity[:, :50] * 3, 0)
    labels = np.where(rng.random((50, 2)) < 0.3, -1, np.stack([np.arange(50), np.arange(50)[::-1]], axis=1))
    whole = faithfulness(units, similarity, labels)
    same(whole, faithfulness(units, similarity, labels))
    monkeypatch.setattr("and_retrieval.explanation.faithfulness.CHUNK_BYTES", 8 * 90 * 7)
    same(whole, faithfulness(units, similarity, labels))


def test_memory_does_not_grow_with_the_units() -> None:
    rng = np.random.default_rng(14)
    similarity = rng.standard_normal((500, 20)).astype(np.float32)
    peaks = []
    for units in (3_000, 6_000):
        activations = rng.standard_normal((500, units)).astype(np.float16)
        tracemalloc.start()
        faithfulness(activations, similarity, np.zeros(units, dtype=int), permutations=500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 256 * 2**20
    assert peaks[1] < peaks[0] + 5 * 2**20


def test_shapes_have_to_match() -> None:
    units, similarity = np.zeros((10, 3)), np.zeros((10, 4))
    for wrong in (
        (units[:9], similarity, np.zeros(3, int)),
        (units, similarity, np.zeros(2, int)),
        (units, similarity, np.full(3, 4)),
    ):
        with pytest.raises(ValueError, match=r"differ|concepts"):
            faithfulness(*wrong)
    with pytest.raises(ValueError, match="groups"):
        faithfulness(units, similarity, np.zeros(3, int), groups=np.zeros(9, int))


def test_auprc_is_average_precision() -> None:
    rng = np.random.default_rng(16)
    for scores in (rng.standard_normal((20, 60)), rng.integers(0, 5, (20, 60)), np.zeros((20, 60))):
        positives = rng.random((20, 60)) < rng.random((20, 1)) * 0.8 + 0.1
        expected = [average_precision_score(p, s) for p, s in zip(positives, scores, strict=True)]
        np.testing.assert_allclose(auprc(scores, positives), expected, rtol=1e-12)
    assert np.isnan(auprc(np.zeros((1, 5)), np.zeros((1, 5), bool)))


def test_random_auprc_with_tied_concepts() -> None:
    rng = np.random.default_rng(17)
    similarity = np.round(rng.standard_normal((60, 6)))
    similarity[:, 5] = 0.2
    units = np.maximum(rng.standard_normal((60, 8)) - np.linspace(-1, 1.8, 8), 0)
    result = faithfulness(units, similarity, np.zeros(8, int))
    positives = strongest(units.T)
    every = [[average_precision_score(p, z) for z in similarity.T] for p in positives]
    np.testing.assert_allclose(result.random_auprc, np.mean(every, axis=1), rtol=1e-6)
    np.testing.assert_allclose(result.base_rate, positives.mean(axis=1))


def test_exponential_scores_and_strongest_of_ties() -> None:
    expected = [1 / 4, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3 + 1 / 2, 1 / 4 + 1 / 3 + 1 / 2 + 1]
    np.testing.assert_allclose(
        exponential_scores(np.array([[30, -1, 7, 8.0]]))[0], np.array(expected)[[3, 0, 1, 2]]
    )
    tied = exponential_scores(np.array([[0, 5, 0, 0.0]]))[0]
    np.testing.assert_allclose(tied, [np.mean(expected[:3]), expected[3]] + [np.mean(expected[:3])] * 2)
    ten = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0], range(10), [4] * 10])
    assert strongest(ten).sum(axis=1).tolist() == [1, 3, 2, 0]


def test_expected_best_by_enumeration() -> None:
    scores = np.random.default_rng(18).standard_normal((3, 8))
    for n in range(1, 8):
        draws = [scores[:, list(chosen)].max(axis=1) for chosen in combinations(range(8), n)]
        np.testing.assert_allclose(expected_best(scores, n), np.mean(draws, axis=0), rtol=1e-12)
    np.testing.assert_allclose(expected_best(scores[:, :1]), scores[:, 0])
    assert np.isfinite(expected_best(np.zeros((1, 5000)))).all()


def two_of_eight(random: np.random.Generator) -> tuple[Any, Any]:
    """240 clips of 40 concepts, each heard in a few; units that answer to concepts 0 and 1, and one that is noise."""
    similarity = random.standard_normal((240, 40)) * 0.1 + np.eye(40)[random.integers(0, 8, 240)]
    units = similarity[:, 0] + similarity[:, 1] + 0.2 * random.standard_normal((20, 240))
    return np.vstack([units, random.standard_normal((20, 240))]).T, similarity


def test_a_label_holds_in_what_the_others_leave() -> None:
    activations, similarity = two_of_eight(np.random.default_rng(19))
    label, other = np.zeros(40, int), np.ones((40, 1), int)
    rest = left_over(activations, similarity, other)
    alone, beside = faithfulness(activations, similarity, label), faithfulness(rest, similarity, label)
    assert beside.reliable[:20].all()
    assert (beside.correlation[:20] > alone.correlation[:20]).all()
    assert beside.reliable[20:].sum() <= 1
    np.testing.assert_allclose(faithfulness(rest, similarity, other).correlation[:20].clip(0.1), 0.1)


def test_nothing_is_taken_off_where_no_other_is_or_where_it_goes_the_other_way() -> None:
    activations, similarity = two_of_eight(np.random.default_rng(20))
    scores = exponential_scores(activations.T).T
    np.testing.assert_allclose(left_over(activations, similarity, np.full((40, 2), -1)), scores)
    against = left_over(-similarity[:, :1] @ np.ones((1, 40)), similarity, np.zeros((40, 1), int))
    np.testing.assert_allclose(against, exponential_scores(np.tile(-similarity[:, 0], (40, 1))).T)


def test_what_is_left_keeps_clips_that_could_not_be_read() -> None:
    activations, similarity = two_of_eight(np.random.default_rng(21))
    activations[7] = np.nan
    rest = left_over(activations, similarity, np.ones((40, 1), int))
    assert np.isnan(rest[7]).all()
    kept = np.arange(240) != 7
    np.testing.assert_allclose(
        rest[kept], left_over(activations[kept], similarity[kept], np.ones((40, 1), int))
    )
    assert left_over(np.empty((5, 0)), similarity[:5], np.empty((0, 2), int)).shape == (5, 0)


def same(one: Faithfulness, other: Faithfulness) -> None:
    assert one.clips == other.clips
    for name in FIGURES:
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-12, err_msg=name
        )
