"""Preferences for measured qualities against SciPy and planted units."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.explanation.acoustics import (
    explained_by_acoustics,
    filled_ranks,
    in_words,
    preferences,
    preferred,
)
from and_retrieval.explanation.strongest_clips import borne_out, strongest_qualities
from and_retrieval.types import Floats

NAMES = list(QUALITIES)


def table(clips: int, seed: int = 0) -> Floats:
    """Qualities with ties, some of them missing."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((clips, len(QUALITIES))).astype(np.float32)
    values[:, NAMES.index("onset_rate")] = random.integers(0, 4, clips)
    for name in ("pitch", "decay", "modulation_rate"):
        values[random.random(clips) < 0.4, NAMES.index(name)] = np.nan
    return values


def test_correlations_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    measured = table(80)
    activations = np.maximum(random.standard_normal((80, 7)) + 0.5 * measured[:, :1], 0).astype(np.float16)
    figures = preferences(activations, measured)
    rho, p = np.empty((2, 7, len(QUALITIES)))
    for unit in range(7):
        for column in range(len(QUALITIES)):
            there = np.isfinite(measured[:, column])
            rho[unit, column], p[unit, column] = stats.spearmanr(
                activations[there, unit], measured[there, column]
            )
    np.testing.assert_allclose(figures.rho, rho, atol=1e-6)
    # Of independent clips the t distribution is a good approximation, so both tests say nearly the same.
    q_value = stats.false_discovery_control(p.ravel()).reshape(p.shape)
    np.testing.assert_allclose(figures.q_value, q_value, atol=0.08)
    assert np.mean((figures.q_value <= 0.05) == (q_value <= 0.05)) >= 0.98
    assert (figures.rho.dtype, figures.q_value.dtype) == (np.float32, np.float32)


def windows(files: int, each: int, seed: int = 0) -> tuple[Floats, Floats, list[str]]:
    """Activations of 200 units and qualities that have nothing in common, much alike within a file; the files."""
    random = np.random.default_rng(seed)
    which = np.repeat(np.arange(files), each)
    measured = random.standard_normal((files, len(QUALITIES)))[which]
    activations = random.standard_normal((files, 200))[which]
    measured += 0.3 * random.standard_normal(measured.shape)
    activations += 0.3 * random.standard_normal(activations.shape)
    return activations, measured, [f"file {number}" for number in which]


def test_windows_of_few_files_are_no_evidence() -> None:
    activations, measured, files = windows(8, 20)
    measured[3, 0] = np.nan  # one file is a window shorter there
    alone = preferences(activations, measured)
    together = preferences(activations, measured, files)
    np.testing.assert_array_equal(together.rho, alone.rho)
    assert np.mean(alone.q_value <= 0.05) > 0.4
    assert not (together.q_value <= 0.05).any()
    same = preferences(activations, measured, ["all"] * 160)
    np.testing.assert_array_equal(same.q_value, 1)


def test_a_preference_shows_in_windows_of_many_files() -> None:
    random = np.random.default_rng(10)
    activations, measured, files = windows(60, 4)
    activations[:, 7] = measured[:, NAMES.index("brightness")] + 0.5 * random.standard_normal(240)
    activations[:, 8] = -measured[:, NAMES.index("duration")] + 0.5 * random.standard_normal(240)
    figures = preferences(activations, measured, files)
    assert figures.q_value[7, NAMES.index("brightness")] <= 0.05
    assert figures.q_value[8, NAMES.index("duration")] <= 0.05
    assert np.mean(figures.q_value <= 0.05) < 0.003
    assert (in_words(preferred(figures.rho[8], figures.q_value[8])) or "").startswith(
        "prefers short sounds (rho -0."
    )


def test_units_of_noise_prefer_nothing() -> None:
    random = np.random.default_rng(2)
    figures = preferences(random.standard_normal((120, 500)), table(120))
    assert np.mean((figures.q_value <= 0.05).any(axis=1)) <= 0.05
    assert in_words(preferred(figures.rho[0], figures.q_value[0])) is None


def test_a_planted_unit_is_described() -> None:
    random = np.random.default_rng(3)
    measured = table(200)
    activations = random.standard_normal((200, 40))
    activations[:, 0] = measured[:, NAMES.index("brightness")] + 0.5 * random.standard_normal(200)
    activations[:, 1] = -measured[:, NAMES.index("duration")] + 0.6 * measured[:, NAMES.index("tonality")]
    figures = preferences(activations, measured)
    bright, short = (in_words(preferred(figures.rho[unit], figures.q_value[unit])) for unit in (0, 1))
    assert bright == f"prefers bright sounds (rho {figures.rho[0, NAMES.index('brightness')]:.2f})"
    assert short is not None
    assert short.startswith("prefers short, tonal sounds (rho -0.8")


def test_a_description_names_the_strongest_of_a_kind_and_three_at_most() -> None:
    rho, q_value = np.zeros(len(QUALITIES)), np.ones(len(QUALITIES))
    strengths = {"highs": 0.5, "brightness": 0.7, "tonality": -0.6, "duration": 0.4, "loudness": 0.3}
    for name, value in {**strengths, "attack": 0.9}.items():
        rho[NAMES.index(name)] = value
        q_value[NAMES.index(name)] = 0.2 if name == "attack" else 0.01
    assert (
        in_words(preferred(rho, q_value)) == "prefers bright, noisy, sustained sounds (rho 0.70, -0.60, 0.40)"
    )
    assert in_words(preferred(rho, q_value, least=0.65)) == "prefers bright sounds (rho 0.70)"
    assert in_words(preferred(0.2 * rho, q_value)) is None


def test_dead_units_and_unread_clips() -> None:
    random = np.random.default_rng(4)
    measured = table(60)
    activations = random.standard_normal((60, 4)).astype(np.float32)
    activations[:, 1] = 0
    activations[:, 2] = np.nan
    whole = preferences(activations[:, [0, 3]], measured)
    padded = np.insert(activations, 5, np.nan, axis=0)
    figures = preferences(padded, np.insert(measured, 5, 1.0, axis=0))
    np.testing.assert_allclose(figures.rho[[0, 3]], whole.rho, atol=1e-6)
    np.testing.assert_array_equal(figures.rho[1], 0)
    np.testing.assert_array_equal(figures.q_value[1], 1)
    assert in_words(preferred(figures.rho[1], figures.q_value[1])) is None
    r2 = explained_by_acoustics(padded, np.insert(measured, 5, 1.0, axis=0)).r2
    assert np.isfinite(r2[[0, 3]]).all()
    assert np.isnan(r2[[1, 2]]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 4), st.booleans(), st.data())
def test_preferences_are_always_finite(clips: int, units: int, grouped: bool, data: st.DataObject) -> None:
    some = st.sampled_from([0.0, 1.0, -2.5, 1e-8, np.nan])
    activations = data.draw(arrays(np.float32, (clips, units), elements=some))
    measured = data.draw(arrays(np.float32, (clips, len(QUALITIES)), elements=some))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = (
            data.draw(st.lists(st.sampled_from("abcde"), min_size=clips, max_size=clips)) if grouped else None
        )
        figures = preferences(activations, measured, files)
    assert figures.rho.shape == figures.q_value.shape == (units, len(QUALITIES))
    assert (np.abs(figures.rho) <= 1).all()
    assert ((figures.q_value >= 0) & (figures.q_value <= 1)).all()
    for rho, q_value in zip(figures.rho, figures.q_value, strict=True):
        in_words(preferred(rho, q_value))


Permuted = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.mark.parametrize(
    "score",
    [
        lambda a, q: preferences(a, q).rho,
        lambda a, q: preferences(a, q).q_value,
        lambda a, q: explained_by_acoustics(a, q).r2,
    ],
    ids=["rho", "q_value", "r2"],
)
def test_units_may_come_in_any_order(score: Permuted) -> None:
    random = np.random.default_rng(5)
    measured = table(70)
    activations = random.standard_normal((70, 9)) + measured[:, :1]
    order = random.permutation(9)
    np.testing.assert_allclose(
        score(activations[:, order], measured), score(activations, measured)[order], atol=1e-6
    )


def test_clips_may_come_in_any_order() -> None:
    random = np.random.default_rng(6)
    measured, activations, order = table(70), random.standard_normal((70, 9)), random.permutation(70)
    one, other = preferences(activations, measured), preferences(activations[order], measured[order])
    np.testing.assert_allclose(other.rho, one.rho, atol=1e-6)


def test_chunks_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, activations = table(50), np.random.default_rng(7).standard_normal((50, 9))
    one, r2 = preferences(activations, measured), explained_by_acoustics(activations, measured)
    monkeypatch.setattr("and_retrieval.explanation.acoustics.CHUNK_BYTES", 2 * 8 * 50)
    figures = preferences(activations, measured)
    np.testing.assert_allclose(figures.rho, one.rho, atol=1e-6)
    np.testing.assert_allclose(figures.q_value, one.q_value, atol=1e-6)
    again = explained_by_acoustics(activations, measured)
    np.testing.assert_allclose(again.r2, r2.r2, atol=1e-6)
    np.testing.assert_allclose(again.shuffled, r2.shuffled, atol=1e-6)


def test_what_acoustics_explain_is_found_and_no_more() -> None:
    random = np.random.default_rng(8)
    measured = table(300)
    activations = random.standard_normal((300, 60))
    driven = measured[:, NAMES.index("brightness")] - measured[:, NAMES.index("attack")]
    activations[:, 0] = np.exp(driven)
    activations[:, 1] = driven + driven.std() * random.standard_normal(300)
    figures = explained_by_acoustics(activations, measured)
    assert figures.r2[0] > 0.9
    assert figures.r2[1] == pytest.approx(0.5, abs=0.12)
    assert figures.r2[2:].max() < 0.15
    assert -0.15 < figures.r2[2:].mean() < 0
    assert figures.shuffled.max() < 0.1
    np.testing.assert_array_equal(figures.r2, explained_by_acoustics(activations, measured).r2)


def test_clips_of_one_group_never_help_to_predict_each_other() -> None:
    random = np.random.default_rng(9)
    group = np.repeat(np.arange(40), 5)
    measured = table(40)[group] + 0.01 * random.standard_normal((200, len(QUALITIES)))
    activations = random.standard_normal((40, 30))[group]
    leaking = explained_by_acoustics(activations, measured).r2.mean()
    honest = explained_by_acoustics(activations, measured, [f"file {g}" for g in group]).r2.mean()
    assert leaking > 0.1
    assert honest < 0


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="5 clips, qualities of 6"):
        preferences(np.zeros((5, 2)), table(6))
    with pytest.raises(ValueError, match="5 groups for 6 clips"):
        preferences(np.zeros((6, 2)), table(6), ["a"] * 5)
    with pytest.raises(ValueError, match="3 groups for 6 clips"):
        explained_by_acoustics(np.zeros((6, 2)), table(6), ["a"] * 3)
    with pytest.raises(ValueError, match="at least 2"):
        explained_by_acoustics(np.zeros((6, 2)), table(6), ["a"] * 6)


def test_a_preference_that_the_strongest_clips_contradict_is_found() -> None:
    """Units that answer to few bright clips, and follow darkness among the others, where they do next to nothing."""
    random = np.random.default_rng(11)
    measured = table(300)
    bright = measured[:, NAMES.index("brightness")]
    order = bright.argsort().argsort() / 300
    fires = order > 0.9
    contrary = np.where(fires, 1.0 + order, 1e-3 * (1 - order))[:, None] + 1e-5 * random.standard_normal(
        (300, 20)
    )
    honest = order[:, None] + 0.8 * random.standard_normal((300, 200))
    activations = np.concatenate([contrary, honest, np.zeros((300, 1))], axis=1).astype(np.float32)
    activations[5, 20] = np.nan
    rho = preferences(activations, measured).rho[:, NAMES.index("brightness")]
    strongest = strongest_qualities(activations, measured)
    left = borne_out(preferences(activations, measured).rho, activations, measured)
    assert not left[:20, NAMES.index("brightness")].any()
    assert (left[20:220, NAMES.index("brightness")] == rho[20:220]).mean() > 0.97
    assert (rho[:20] < -0.2).all()
    assert (strongest[:20, NAMES.index("brightness")] > 1).all()
    assert ((strongest[20:220, NAMES.index("brightness")] > 0).mean()) > 0.97
    assert not strongest[220].any()
    by_hand = [
        filled_ranks(measured)[np.argsort(-activations[:, unit])[:20]].mean(axis=0) for unit in range(20)
    ]
    np.testing.assert_allclose(strongest[:20], by_hand, atol=1e-9)
