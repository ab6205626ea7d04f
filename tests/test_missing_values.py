"""A unit that gave no finite number for some clips is explained by the others, as if those clips did not exist."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from and_retrieval.clips.bands import BANDS
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.explanation.acoustics import explained_by_acoustics, preferences
from and_retrieval.explanation.cross_fit import _evidence
from and_retrieval.explanation.faithfulness import faithfulness
from and_retrieval.explanation.kinds import FITTED, kinds, rivals
from and_retrieval.explanation.over_time import Fired
from and_retrieval.explanation.profiles import spectral_profiles
from and_retrieval.explanation.scores import SCORES, effective_clips, score_activations
from and_retrieval.explanation.tuning import rank_explained, tunings
from and_retrieval.types import Floats, Kept, LayerEvidence, UnitStatistics

CLIPS = 120
GONE = np.arange(5, 100, 7)
REST = np.setdiff1d(np.arange(CLIPS), GONE)
FILES = np.arange(CLIPS) // 2


@pytest.fixture
def measured() -> Floats:
    random = np.random.default_rng(0)
    return np.exp(random.standard_normal((CLIPS, len(QUALITIES)))).astype(np.float32)


@pytest.fixture
def units(measured: Floats) -> Floats:
    """Two units that are finite on all clips and, between them, one that is not."""
    random = np.random.default_rng(1)
    made = measured[:, :3] + random.standard_normal((CLIPS, 3)).astype(np.float32)
    made[GONE, 1] = np.resize(np.array([np.nan, np.inf, -np.inf], np.float32), len(GONE))
    return made


def test_preferences(units: Floats, measured: Floats) -> None:
    names = [str(file) for file in FILES]
    result = preferences(units, measured, names)
    alone = preferences(units[REST, 1:2], measured[REST], [names[row] for row in REST])
    whole = preferences(units[:, [0, 2]], measured, names)
    np.testing.assert_allclose(result.rho[1], alone.rho[0])
    np.testing.assert_allclose(result.rho[[0, 2]], whole.rho)
    assert result.q_value[1, 1] < 0.05


def test_what_acoustics_explains(units: Floats, measured: Floats) -> None:
    result = explained_by_acoustics(units, measured, [str(file) for file in FILES])
    alone = explained_by_acoustics(units[REST, 1:2], measured[REST], [str(file) for file in FILES[REST]])
    np.testing.assert_allclose(result.r2[1], alone.r2[0])
    assert np.isfinite(result.r2).all()


def test_tunings(units: Floats, measured: Floats) -> None:
    result, alone = (
        tunings(units[:, 1:2], measured, FILES),
        tunings(units[REST, 1:2], measured[REST], FILES[REST]),
    )
    assert result == alone
    np.testing.assert_allclose(
        rank_explained(units, measured)[1], rank_explained(units[REST], measured[REST])[1]
    )


def test_spectral_profiles(units: Floats) -> None:
    bands = np.random.default_rng(2).standard_normal((CLIPS, BANDS)).astype(np.float32)
    np.testing.assert_allclose(
        spectral_profiles(units, bands)[1], spectral_profiles(units[REST, 1:2], bands[REST])[0]
    )


@pytest.mark.parametrize("crossed", [False, True])
def test_faithfulness(units: Floats, measured: Floats, crossed: bool) -> None:
    rivals_of, labels = -measured[:, ::-1], np.array([0, 1, 2])
    predictions = measured[:, :3].T + 1 if crossed else None
    result = faithfulness(
        units, measured, labels, rivals=rivals_of, bank=300, groups=FILES, predictions=predictions
    )
    alone = faithfulness(
        units[REST, 1:2],
        measured[REST],
        labels[1:2],
        rivals=rivals_of[REST],
        bank=300,
        groups=FILES[REST],
        predictions=None if predictions is None else predictions[1:2, REST],
    )
    for field in dataclasses.fields(result):
        if field.name not in ("clips", "q_value", "reliable"):
            np.testing.assert_allclose(getattr(result, field.name)[1], getattr(alone, field.name)[0])
    assert result.clips == CLIPS


def test_kinds(units: Floats, measured: Floats) -> None:
    fold = np.where(np.arange(CLIPS) % 2 == 0, FITTED, 0)
    tested, finite = fold != FITTED, np.isfinite(units[:, 1])
    predictions = np.random.default_rng(3).standard_normal((3, tested.sum()))
    result = rivals([units], measured, fold, predictions, FILES[tested])
    there = predictions[1:2, finite[tested]], FILES[tested & finite]
    alone = rivals([units[finite, 1:2]], measured[finite], fold[finite], *there)
    for name in ("label", "qualities", "label_adds", "qualities_add"):
        np.testing.assert_allclose(getattr(result, name)[1], getattr(alone, name)[0], atol=1e-12)
    halves = [units[: CLIPS // 2], units[CLIPS // 2 :]]
    np.testing.assert_array_equal(
        rivals(halves, measured, fold, predictions, FILES[tested]).label, result.label
    )
    units[:, 1] = np.nan
    result = rivals([units], measured, fold, predictions, FILES[tested])
    of_units = kinds(np.ones(3, bool), result, np.zeros(3, bool))
    assert of_units[1] is None
    assert all(of_units[::2])


def test_effective_clips_and_scores(units: Floats, measured: Floats) -> None:
    assert effective_clips(units)[1] == effective_clips(units[REST])[1]
    for name in ("cos", "cos-cubed", "rank-reorder", "selective"):
        score = SCORES[name].score
        result = score_activations(score, measured, units)
        np.testing.assert_allclose(result[1], score(measured[REST], units[REST, 1:2])[0], rtol=1e-5)


def test_cross_fitted_evidence(units: Floats) -> None:
    k, none = 8, np.zeros((3, 8), np.float32)
    nothing = Kept(none.astype(np.int32), none, none)
    layer = LayerEvidence("a", "mean", nothing, nothing, UnitStatistics(0, *([none[:, 0]] * 4)))
    fired = Fired(units, np.zeros_like(units), np.arange(CLIPS) + 1000, FILES)
    every, rest = np.ones(CLIPS, bool), np.isin(np.arange(CLIPS), REST)
    result, alone = _evidence(layer, fired, every), _evidence(layer, fired, rest)
    for of_found, of_alone in ((result.top, alone.top), (result.low, alone.low)):
        np.testing.assert_array_equal(of_found.rows[1], of_alone.rows[1])
        np.testing.assert_array_equal(of_found.values[1], of_alone.values[1])
    for name in ("mean", "std", "low", "high"):
        np.testing.assert_allclose(
            getattr(result.statistics, name)[1], getattr(alone.statistics, name)[1], rtol=1e-6
        )
    units[3:, 1] = np.nan
    result = _evidence(layer, fired, every)
    assert (result.top.rows[1] >= 0).tolist() == [True] * 3 + [False] * (k - 3)
    np.testing.assert_array_equal(result.top.rows[1, :3], result.low.rows[1, 2::-1])
    units[:, 1] = np.nan
    result = _evidence(layer, fired, every)
    assert (result.top.rows[1] < 0).all()
    assert not result.fired[1].any()
    assert np.isnan(result.statistics.mean[1])
