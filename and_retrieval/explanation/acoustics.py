"""Which measured qualities a unit's activation goes with, and how much of it they account for.

Rank correlation says which, by a permutation test over files; a cross-validated regression says how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are used
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..clips.qualities import QUALITIES
from ..numerics import Array, Bools, Doubles, Places, by_presence, chunks, standardised
from ..recording.recording import Recording
from ..types import Floats, Preference
from .permutations import GroupPermutations, q_values, sequential_p_values

LEAST_CLIPS = 10  # with fewer nothing is tested
FIRST_LOOK = 400  # permutations for every pair
LATER_LOOKS = ((4_000, 20, 0.01), (20_000, 20, 0.01), (200_000, 4, 0.05))  # see `permutations.Look`
RIDGE = 0.01  # of the number of clips, added to the diagonal of the rank correlations
SHUFFLES = 5
LEAST_SEEN = 20  # clips; with fewer, of fewer groups than `LEAST_GROUPS`, nothing is cross-validated
LEAST_GROUPS = 5
CHUNK_BYTES = 32 * 2**20  # of one working array over units


@dataclass(frozen=True)
class Preferences:
    """How the activation of every unit goes with every quality.

    Attributes:
        rho: float32 [units, qualities], Spearman's rank correlation, -1..1; 0 where it is not defined.
        q_value: float32 [units, qualities], 0..1: share of false finds among all pairs with a q-value up to
            this one (Benjamini and Hochberg 1995); 1 where there is no correlation to test.
    """

    rho: Floats
    q_value: Floats


@dataclass(frozen=True)
class Explained:
    """How much of every unit's activation the qualities account for, on clips not fitted to.

    Attributes:
        r2: float32 [units], at most 1, below 0 where the fit is worse than the mean; NaN for a unit that
            does not vary. A unit that gave no finite number for some clips counts over the others.
        shuffled: float32 [units], the same with the clips' qualities dealt out at random.
    """

    r2: Floats
    shuffled: Floats


def preferences(
    activations: Array, qualities: Array, groups: Sequence[str] | None = None, *, seed: int = 0
) -> Preferences:
    """Spearman's correlation of every unit with every quality, ties by average rank, and its q-value.

    The p-value is two-sided, by permutation of whole groups of clips, see `permutations`: windows of one file are
    dependent. A quality is compared over the clips that have it, and a unit over the clips on which it is finite. A
    pair is not tested with fewer than 10 such clips, or when the unit or the quality does not vary.

    Every pair gets `FIRST_LOOK` permutations; `LATER_LOOKS` gives more to pairs that stand out but are not yet
    significant, so a small q-value is an upper bound. On one core, 10,000 units and 400 clips take 3 s.

    Args:
        activations: Float [clips, units]; rows that are NaN throughout are left out.
        qualities: Float [clips, qualities]; NaN where a clip lacks one.
        groups: The file of each clip, whose clips are dealt out together; None lets every clip be its own.
        seed: Of the permutations.

    Raises:
        ValueError: Not as many rows in all.
    """
    files = _numbered(groups, len(activations))[_read(activations)]
    activations, qualities = _readable(activations, qualities)
    rho = np.zeros((activations.shape[1], qualities.shape[1]))  # 0 where it is not defined

    def p_values(wanted: Bools, permutations: int) -> Doubles:
        return _tested(activations, qualities, files, rho, wanted, permutations, seed)

    with threadpool_limits(1):  # the products are small; threads would only wait for each other
        p_value = sequential_p_values(p_values, rho.shape, FIRST_LOOK, LATER_LOOKS)
    return Preferences(rho.astype(np.float32), q_values(p_value).astype(np.float32))


def _tested(
    activations: Array,
    qualities: Array,
    files: Array,
    rho: Doubles,
    wanted: Bools,
    permutations: int,
    seed: int,
) -> Doubles:
    """p-values of the pairs that are `wanted`, NaN where not tested; their rank correlations are written into `rho`.

    All are [units, qualities].
    """
    p_value = np.full(wanted.shape, np.nan)
    for clips, units, columns in _comparable(activations, qualities, wanted):
        goal = _standard_ranks(qualities[clips][:, columns])
        test = GroupPermutations(files[clips], permutations, seed)
        for part in (units[rows] for rows in chunks(len(units), len(goal), CHUNK_BYTES)):
            ranks = _standard_ranks(activations[np.ix_(clips, part)])
            correlation = np.clip(ranks.T @ goal / len(goal), -1, 1)
            place = np.ix_(part, columns)
            rho[place] = np.nan_to_num(correlation)
            p = test.two_sided_p_values(np.nan_to_num(ranks.T), np.nan_to_num(goal.T), rho[place])
            p_value[place] = np.where(np.isfinite(correlation), p, np.nan)
    return p_value


def _comparable(
    activations: Array, qualities: Array, wanted: Bools
) -> Iterator[tuple[Bools, Places, Places]]:
    """Blocks of the pairs that are `wanted`, [units, qualities], in which the same clips have both.

    Blocks of fewer than `LEAST_CLIPS` clips are left out.

    Yields:
        The clips, bool [clips]; the units and the qualities, both int.
    """
    # Most units and qualities are there on all clips, so few sets of clips have to be ranked.
    for clips, units in by_presence(activations):
        asked = np.concatenate([np.isfinite(qualities) & clips[:, None], wanted[units]])
        for column in np.unique(asked, axis=1).T:
            present, members = column[: len(qualities)], units[column[len(qualities) :]]
            if present.sum() >= LEAST_CLIPS and members.size:
                yield present, members, np.flatnonzero((asked == column[:, None]).all(axis=0))


def preferred(
    rho: Array, q_value: Array, *, least: float = 0.2, level: float = 0.05, most: int = 3
) -> tuple[Preference, ...]:
    """A unit's strongest preferences, of each kind of quality (`Quality.kind`) only the strongest.

    Args:
        rho, q_value: The unit's rows of `Preferences`, [qualities].
        least: Weakest |rho| worth saying.
        level: Highest q-value.
        most: Most qualities named.
    """
    chosen: dict[str, Preference] = {}
    rows = [
        row
        for row in zip(QUALITIES.items(), rho.tolist(), q_value.tolist(), strict=True)
        if abs(row[1]) >= least and row[2] <= level
    ]
    for (name, quality), value, _ in sorted(rows, key=lambda row: -abs(row[1])):
        chosen.setdefault(quality.kind, Preference(name, round(value, 4)))
    return tuple(chosen.values())[:most]


def in_words(preferences: Sequence[Preference]) -> str | None:
    """Preferences in words: "prefers bright, tonal, short sounds (rho 0.61, 0.44, -0.40)"; None without any."""
    if not preferences:
        return None
    words = ", ".join(map(word_of, preferences))
    return f"prefers {words} sounds (rho {', '.join(f'{one.rho:.2f}' for one in preferences)})"


def word_of(preference: Preference) -> str:
    """What a unit with a preference prefers, in a word: "bright", "quiet"."""
    quality = QUALITIES[preference.quality]
    return quality.high if preference.rho > 0 else quality.low


def explained_by_acoustics(
    activations: Array,
    qualities: Array,
    groups: Sequence[str] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Explained:
    """Cross-validated R² of a ridge regression of every unit's activation ranks on the qualities' ranks.

    R² = 1 - sum (y - prediction)² / sum (y - mean of the fitted clips)², over all clips, each predicted by
    the fit to the other folds. A quality that a clip lacks gets the middle rank. The baseline is the mean
    over `SHUFFLES` random orders of the clips' qualities, the same for all units.

    Args:
        activations: Float [clips, units]; rows that are NaN throughout are left out.
        qualities: Float [clips, qualities]; NaN where a clip lacks one.
        groups: Clips of one group (fold, source file) are never on both sides; None lets every clip be its
            own. With fewer groups than `folds`, there are as many folds as groups.
        folds: At least 2.
        seed: Of the folds and the shuffles.

    Raises:
        ValueError: Not as many rows in all, or fewer than two folds.
    """
    files = _numbered(groups, len(activations))[_read(activations)]
    activations, qualities = _readable(activations, qualities)
    if not activations.size or len(np.unique(files)) < 2 or folds < 2:
        raise ValueError("cross-validation needs at least 2 folds of clips")
    explained = np.full((2, activations.shape[1]), np.nan)
    for clips, units in by_presence(activations):
        whole = bool(clips.all())
        if whole or len(np.unique(files[clips])) > 1:
            shown = (
                (activations, qualities, files)
                if whole
                else (activations[clips], qualities[clips], files[clips])
            )
            explained[:, units] = _explained(*shown, units, folds, seed)
    return Explained(*explained.astype(np.float32))


def _explained(
    activations: Array, qualities: Array, groups: Array, units: Places, folds: int, seed: int
) -> Doubles:
    """R² of units that are finite on all of these clips, and with the qualities dealt out: float64 [2, units]."""
    members = np.unique(groups, return_inverse=True)[1].reshape(-1)
    count = min(folds, int(members.max()) + 1)
    random = np.random.default_rng(seed)
    fold = random.permutation(int(members.max()) + 1)[members] % count
    x = filled_ranks(qualities)
    orders = [np.arange(len(x)), *(random.permutation(len(x)) for _ in range(SHUFFLES))]
    r2 = np.full((len(orders), len(units)), np.nan)
    for part in chunks(len(units), len(x), CHUNK_BYTES):
        y = _standard_ranks(activations[:, units[part]])
        r2[:, part] = _cross_validated([x[order] for order in orders], y, fold)
    return np.stack([r2[0], r2[1:].mean(axis=0)])


def accounted_for(recording: Recording, activations: Array, predictors: Array) -> Explained | None:
    """How much of a layer's units predictors account for, folds apart; None with too few clips to cross-validate.

    Args:
        recording: Of which the clips are.
        activations: float [seen clips, units], see `Recording.activations`.
        predictors: float [seen clips, predictors].
    """
    clips = [recording.index.clips[row] for row in recording.seen_rows]
    groups = [clip.fold or clip.sha256 for clip in clips]
    different = len(set(groups))
    if different < LEAST_GROUPS and len(clips) < LEAST_SEEN:
        return None
    return explained_by_acoustics(activations, predictors, groups if different > 1 else None)


def finite_median(values: Floats) -> float:
    """Median of the finite values to 4 decimals, 0 without any."""
    finite = values[np.isfinite(values)]
    return round(float(np.median(finite)), 4) if finite.size else 0.0


def _read(activations: Array) -> Bools:
    """Which clips the network was shown, bool [clips]."""
    return np.asarray(np.isfinite(activations).any(axis=1))


def _numbered(groups: Sequence[str] | None, clips: int) -> npt.NDArray[np.intp]:
    """The number of each clip's group, int [clips]; without groups every clip is its own.

    Raises:
        ValueError: Not one group per clip.
    """
    if groups is None:
        return np.arange(clips)
    if len(groups) != clips:
        raise ValueError(f"{len(groups)} groups for {clips} clips")
    return np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)


def _readable(activations: Array, qualities: Array) -> tuple[Array, Array]:
    if len(activations) != len(qualities):
        raise ValueError(f"activations of {len(activations)} clips, qualities of {len(qualities)}")
    shown = _read(activations)
    return (activations, qualities) if shown.all() else (activations[shown], qualities[shown])


def _standard_ranks(values: Array) -> Doubles:
    """Average ranks of every column with mean 0 and mean square 1; NaN where one is NaN or none differs."""
    return standardised(scipy.stats.rankdata(values, axis=0, nan_policy="propagate"), constant=np.nan)


def filled_ranks(qualities: Array) -> Doubles:
    """Standard ranks among the clips that have a quality, 0 for the others [clips, qualities]."""
    ranks = np.zeros(qualities.shape)
    for column, present in enumerate(np.isfinite(qualities).T):
        if present.any():
            ranks[present, column] = np.nan_to_num(_standard_ranks(qualities[present, column, None])[:, 0])
    return ranks


def _cross_validated(orders: Sequence[Doubles], y: Doubles, fold: npt.NDArray[np.intp]) -> Doubles:
    """R² of ridge predictions of y [clips, units] by every x [clips, qualities], each fold by the others.

    Returns:
        float64 [orders, units].
    """
    wrong, spread = np.zeros((len(orders), y.shape[1])), np.zeros(y.shape[1])
    for number in range(int(fold.max()) + 1):
        out = fold == number
        y_mean = y[~out].mean(axis=0)
        fitted_y, rest = y[~out] - y_mean, y[out] - y_mean
        spread += (rest**2).sum(axis=0)
        for place, x in enumerate(orders):
            x_mean = x[~out].mean(axis=0)
            fitted = x[~out] - x_mean
            gram = fitted.T @ fitted + RIDGE * len(fitted) * np.eye(x.shape[1])
            weights = np.linalg.solve(gram, fitted.T @ fitted_y)
            wrong[place] += ((rest - (x[out] - x_mean) @ weights) ** 2).sum(axis=0)
    return np.asarray(1 - wrong / spread)
