"""What units follow in sets too small to hold clips out: chosen by clips it is not tested on, and tested."""

from __future__ import annotations

import numpy as np
import pytest

from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.explanation.acoustics import filled_ranks
from and_retrieval.explanation.agreement import exponential_scores
from and_retrieval.explanation.axes import AXES
from and_retrieval.explanation.bells import Bells
from and_retrieval.explanation.followed import Followed, followed
from and_retrieval.explanation.permutations import GroupPermutations
from and_retrieval.numerics import Array, Doubles, standardised
from and_retrieval.types import Floats

CLIPS, FOLDS, UNITS = 90, 5, 40
FOLD = np.arange(CLIPS) % FOLDS
FILES = np.arange(CLIPS)
MOST = FOLDS // 2 + 1  # folds in which a unit has a bell


@pytest.fixture(scope="module")
def qualities() -> Floats:
    """Qualities that go together, as those of sounds do; some clips lack a pitch."""
    random = np.random.default_rng(0)
    mixed = random.standard_normal((CLIPS, 6)) @ random.standard_normal((6, len(QUALITIES)))
    mixed += 0.7 * random.standard_normal(mixed.shape)
    for axis in AXES.values():
        if axis.logarithmic:
            mixed[:, axis.column] = 2 ** (8 + mixed[:, axis.column] / 2)
    mixed[::9, list(QUALITIES).index("pitch")] = np.nan
    return mixed.astype(np.float32)


def noisy(clean: Array, noise: float, seed: int = 1) -> Floats:
    """Units that respond alike but for noise, float32 [clips, UNITS]."""
    values = np.random.default_rng(seed).standard_normal((CLIPS, UNITS))
    return (standardised(clean)[:, None] + noise * values).astype(np.float32)


def correlations(activations: Array, chosen: Followed) -> Doubles:
    scores = standardised(exponential_scores(activations.T.astype(np.float64)), 1)
    return np.asarray((scores * standardised(chosen.predictions, 1)).mean(axis=1))


def noise_units(units: int) -> Floats:
    """Half of them normal, half of them 0 but for a few clips."""
    values = np.random.default_rng(3).standard_normal((CLIPS, units))
    values[:, units // 2 :] = np.maximum(values[:, units // 2 :] - 1, 0)
    return values.astype(np.float32)


def test_of_noise_no_more_pass_than_the_level_says(qualities: Floats) -> None:
    """Nor of those with a middle in most folds; permutations of fixed predictions would let too many pass."""
    units = noise_units(700)
    chosen = followed(units, qualities, FOLD, FILES)
    p_value = chosen.p_values(np.ones(len(units.T), bool))
    error = 2 * np.sqrt(0.05 * 0.95 / len(p_value))
    assert abs((p_value <= 0.05).mean() - 0.05) <= error
    assert (p_value <= 0.5).mean() == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / len(p_value)))
    tuned = np.stack([of_fold.axis >= 0 for of_fold in chosen.bells]).sum(axis=0) >= MOST
    assert tuned.sum() >= 70
    assert (p_value[tuned] <= 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / tuned.sum())
    scores = standardised(exponential_scores(units.T.astype(np.float64)), 1)
    predictions = standardised(chosen.predictions, 1)
    fixed = GroupPermutations(FILES, 1_000).p_values(scores, predictions, correlations(units, chosen))
    assert (fixed <= 0.05).mean() > 0.05 + 2 * error


@pytest.mark.parametrize("quality", ["loudness", "brightness", "pitch", "silence"])
@pytest.mark.parametrize("sign", [1, -1])
def test_planted_qualities_are_followed(qualities: Floats, quality: str, sign: int) -> None:
    ranks = filled_ranks(qualities)[:, list(QUALITIES).index(quality)]
    units = noisy(sign * ranks, 1.0)
    chosen = followed(units, qualities, FOLD, FILES)
    assert np.median(correlations(units, chosen)) > 0.5
    assert (chosen.p_values(np.ones(UNITS, bool)) <= 0.01).mean() >= 0.95


@pytest.mark.parametrize("name", list(AXES))
def test_planted_middles_are_followed(qualities: Floats, name: str) -> None:
    axis = AXES[name]
    x = axis.scaled(qualities[:, axis.column])
    centre, width = np.nanmedian(x), 0.3 * np.nanstd(x)
    units = noisy(np.nan_to_num(np.exp(-(((x - centre) / width) ** 2) / 2)), 0.7)
    chosen = followed(units, qualities, FOLD, FILES)
    assert (chosen.p_values(np.ones(UNITS, bool)) <= 0.01).mean() >= 0.95
    for of_fold in chosen.bells:
        right = of_fold.axis == list(AXES).index(name)
        assert right.mean() >= 0.8
        assert np.median(np.abs(of_fold.centre[right] - centre)) <= width


def test_which_clip_of_a_fold_did_what_does_not_bear_on_its_predictions(qualities: Floats) -> None:
    """Dealt out anew within a fold, so that the ranks of the other clips stay."""
    units = noisy(filled_ranks(qualities)[:, 0], 2.0)
    before = followed(units, qualities, FOLD, FILES)
    for number in range(FOLDS):
        out = np.flatnonzero(number == FOLD)
        changed = units.copy()
        changed[out] = np.random.default_rng(number).permuted(units[out], axis=0)
        after = followed(changed, qualities, FOLD, FILES)
        np.testing.assert_array_equal(after.predictions[:, out], before.predictions[:, out])
        np.testing.assert_array_equal(after.bells[number].centre, before.bells[number].centre)
        assert (after.predictions != before.predictions).any()


@pytest.mark.parametrize(("noise", "least"), [(2.0, 0.85), (0.7, 0.95), (0.1, 1.0)])
def test_a_fold_drawn_anew_bears_on_its_predictions_by_the_ranks_of_the_others_alone(
    qualities: Floats, noise: float, least: float
) -> None:
    """Its own activations, replaced by noise, shift the others' ranks: that changes few choices, and no clear one.

    Below all others they leave the order of the others as it is, and the choice as well, whatever they are.
    """
    units = noisy(filled_ranks(qualities)[:, 0], noise)
    before = followed(units, qualities, FOLD, FILES)
    same = []
    for number in range(FOLDS):
        out = np.flatnonzero(number == FOLD)
        drawn = np.random.default_rng(number).standard_normal((3, len(out), UNITS))
        anew, below, far_below = units.copy(), units.copy(), units.copy()
        anew[out], below[out], far_below[out] = drawn[0], drawn[1] - 100, 9 * drawn[2] - 1_000
        of_anew, of_below, of_far_below = (
            followed(changed, qualities, FOLD, FILES) for changed in (anew, below, far_below)
        )
        same.append((of_anew.predictions[:, out] == before.predictions[:, out]).all(axis=1).mean())
        np.testing.assert_array_equal(of_below.predictions[:, out], of_far_below.predictions[:, out])
    assert np.mean(same) >= least
    assert np.mean(same) < 1 or noise < 1  # ranks among all clips: not wholly without the fold


@pytest.mark.parametrize("quality", ["loudness", "brightness", "silence"])
def test_units_that_measure_a_quality_have_no_middle(qualities: Floats, quality: str) -> None:
    """Nor in a fold without which ranks vary more: they are correlated as they lie outside the fold."""
    ranks = filled_ranks(qualities)[:, list(QUALITIES).index(quality)]
    chosen = followed(noisy(ranks, 0.1), qualities, FOLD, FILES)
    assert not any((of_fold.axis >= 0).any() for of_fold in chosen.bells)
    np.testing.assert_allclose(chosen.predictions, np.tile(standardised(ranks), (UNITS, 1)), atol=1e-5)


def test_without_bells_it_is_the_strongest_rank_correlation(qualities: Floats) -> None:
    """By loops: of the qualities whose mean over the strongest clips has the sign of the correlation."""
    flat = qualities.copy()
    for axis in AXES.values():
        flat[:, axis.column] = 1
    units = noisy(filled_ranks(flat)[:, list(QUALITIES).index("silence")], 1.5)
    chosen = followed(units, flat, FOLD, FILES)
    assert not any((of_fold.axis >= 0).any() for of_fold in chosen.bells)
    ranks = standardised(filled_ranks(flat))
    for unit in range(UNITS):
        response = standardised(units[:, unit].argsort().argsort())
        strongest = np.argsort(-units[:, unit])[:9]
        for number in range(FOLDS):
            rest = np.flatnonzero(number != FOLD)
            rho = standardised(response[rest]) @ standardised(ranks[rest])
            strong = ranks[np.intersect1d(rest, strongest)].sum(axis=0)
            best = np.abs(np.where(rho * strong < 0, 0, rho)).argmax()
            out = number == FOLD
            np.testing.assert_allclose(
                chosen.predictions[unit, out], np.sign(rho[best]) * ranks[out, best], atol=1e-5
            )


def test_missing_clips_and_units_without_a_response(qualities: Floats) -> None:
    units = noisy(filled_ranks(qualities)[:, 0], 1.0)
    rest = np.arange(CLIPS) % 7 > 0
    units[~rest, 1], units[:, 2], units[:, 3] = np.nan, np.nan, 4.0
    chosen = followed(units, qualities, FOLD, FILES)
    alone = followed(units[rest, 1:2], qualities[rest], FOLD[rest], FILES[rest])
    np.testing.assert_array_equal(chosen.predictions[1, rest], alone.predictions[0])
    wanted = np.arange(UNITS) < 4
    p_value = chosen.p_values(wanted)
    assert p_value[1] == alone.p_values(np.ones(1, bool))[0]
    assert np.isnan(p_value[[2, *range(4, UNITS)]]).all()
    assert p_value[3] == 1
    assert not chosen.predictions[2].any()


def test_clips_of_one_file_stay_together(qualities: Floats) -> None:
    """Of units that are alike within files, files dealt out whole let no more pass than the level says."""
    files = np.arange(CLIPS) // 3
    fold, units = files % FOLDS, np.repeat(noise_units(300)[: CLIPS // 3], 3, axis=0)
    alike = np.repeat(qualities[: CLIPS // 3], 3, axis=0)
    p_value = followed(units, alike, fold, files).p_values(np.ones(300, bool))
    assert (p_value <= 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)


def test_bells_are_those_of_the_predictions(qualities: Floats) -> None:
    axis = AXES["level"]
    x = axis.scaled(qualities[:, axis.column])
    units = noisy(np.exp(-(((x - np.median(x)) / (0.3 * x.std())) ** 2) / 2), 0.5)
    chosen = followed(units, qualities, FOLD, FILES)
    responses: list[Bells] = list(chosen.bells)
    for number, of_fold in enumerate(responses):
        tuned, out = of_fold.axis >= 0, number == FOLD
        expected = standardised(of_fold.at(tuned.nonzero()[0]).responses(qualities), 1)[:, out]
        np.testing.assert_allclose(chosen.predictions[np.ix_(tuned, out)], expected, atol=1e-5)
