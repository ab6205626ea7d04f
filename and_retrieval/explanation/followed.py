"""What units follow most of measured sound, chosen for each fold by the clips of the others, and a test of that.

A unit follows a quality, by rank correlation that its strongest clips bear out, or the middle of one, as a bell curve
over the quality. A bell has two numbers more to fit, so it has to explain more (Bayesian information criterion: Schwarz
1978). Whether and which is decided by correlations over the clips outside the fold, and the clips of the fold are
predicted by it.

Ranks, scores and the strongest clips are taken once, among all clips: ranks without each fold would take a sort per
fold and permutation. So what a unit did on a fold does bear on the choice for it, by shifting the ranks of the other
clips, but not which clip of the fold it did what on: dealt out anew within the fold, the activations leave the choice
as it is. Drawn anew as noise, they change it for 16 % of the units of noise (500 units, 90 clips), and for less than
1 % of units whose correlation with what they follow is 0.8.

The folds also choose on clips that they share, so that predictions agree by chance in several folds at once. Held
against permutations that keep the predictions, as labels of held-out clips are, 10 % of units of noise reach p <= 0.05
on 90 clips. So every permutation deals the activations out before anything is chosen, and chooses anew in each fold.
And a middle that is found by chance agrees better with the unit than a quality that is; so a unit with a middle in most
folds is compared with permutations that find one as well, and one without with those that find none. Then of 12,000
units of noise 4.4 % reach p <= 0.05, and 3.6 % of those with a middle. All choices are largest sums of products, so
that a matrix product makes them for all units at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used

from ..numerics import Array, Bools, Doubles, Places, by_presence, chunks, standardised
from ..types import Floats
from .acoustics import filled_ranks
from .agreement import exponential_scores
from .axes import AXES
from .bells import Bells
from .curves import CLIPS_PER_BIN, bell_grid
from .permutations import dealt_orders, sequential_p_values, strata_of
from .strongest_clips import strongest_clips

FIRST_LOOK, LATER_LOOKS = 400, ((4_000, 20, 0.01),)  # permutations, see `permutations.Look`
CENTRES, WIDTHS = 16, 4  # of the bells over each quality; neighbours overlap, few clips tell no more apart
MORE_NUMBERS = 2  # that a bell has to fit: its centre and its width
ROUNDING = 1e-5  # correlations closer than this are equal: sums are float32
CHUNK_BYTES = 2**22  # of one working array
BATCH = 50  # orders that are drawn at a time


@dataclass(frozen=True)
class Followed:
    """What the units of a layer follow by the clips outside each fold, see the module.

    Attributes:
        predictions: float32 [units, clips], what that says of the clips of each fold; 0 where a unit follows nothing.
        bells: Per fold the bells of all units; none for a unit that follows a quality by rank.
        groups: The units that are finite on the same clips.
    """

    predictions: Floats
    bells: tuple[Bells, ...]
    groups: tuple[_Group, ...]

    def p_values(self, wanted: Bools, seed: int = 0) -> Doubles:
        """One-sided p-values of the correlation of predictions and exponential scores, see the module; float64 [units].

        Args:
            wanted: bool [units]; NaN for the others, and for units without a finite value.
            seed: Of the permutations.
        """

        def p_values(left: Bools, permutations: int) -> Doubles:
            p_value = np.full(len(wanted), np.nan)
            for group in self.groups:
                asked = np.flatnonzero((left & wanted)[group.units])
                p_value[group.units[asked]] = group.p_values(asked, permutations, seed)
            return p_value

        return sequential_p_values(p_values, wanted.shape, FIRST_LOOK, LATER_LOOKS)


def followed(activations: Array, qualities: Array, fold: Array, files: Array) -> Followed:
    """What units follow most, chosen for each fold by the clips of the others, ranked among all clips.

    Args:
        activations: float [clips, units]; a unit counts over the clips on which it is finite.
        qualities: float [clips, qualities] in the order of `QUALITIES`; NaN where a clip lacks one.
        fold: int [clips], from 0 on; clips of one file are in one.
        files: int [clips].
    """
    clips, units = activations.shape
    predictions = np.zeros((units, clips), np.float32)
    bells = tuple(Bells.none(units) for _ in range(int(fold.max(initial=-1)) + 1))
    groups = []
    for there, members in by_presence(activations):
        rows = np.flatnonzero(there)
        rows = rows[np.argsort(fold[rows], kind="stable")]
        group = _Group(members, activations[np.ix_(rows, members)], qualities[rows], fold[rows], files[rows])
        groups.append(group)
        for part in group.parts(len(members)):
            choice = group.choice(part, np.arange(len(rows)))
            predictions[np.ix_(members[part], rows)] = group.predicted(choice)
            for number, of_fold in zip(group.folds, choice.bells, strict=True):
                group.write_bells(bells[number], members[part], of_fold)
    return Followed(predictions, bells, tuple(groups))


@dataclass(frozen=True)
class _Choice:
    """What some units follow in each fold, and how that agrees with what they did.

    Attributes:
        quality: int [folds, units].
        sign: float32 [folds, units]: 1 for much of the quality, -1 for little, 0 for nothing.
        bells: int [folds, units], which bell; -1 for none.
        tuned: bool [units], whether it is a bell in most folds.
        correlation: float64 [units], of the predictions and the exponential scores.
    """

    quality: Places
    sign: Floats
    bells: Places
    tuned: Bools
    correlation: Doubles


class _Group:
    """Units that are finite on the same clips, which are in the order of their folds."""

    def __init__(
        self, units: Places, activations: Array, qualities: Array, fold: Array, files: Array
    ) -> None:
        self.units = units
        values = activations.T.astype(np.float64)
        self.folds, starts = np.unique(fold, return_index=True)
        self._spans = [slice(*ends) for ends in zip(starts, [*starts[1:], len(fold)], strict=True)]
        self._sizes = np.array([span.stop - span.start for span in self._spans])[:, None]
        self._strata = strata_of(files)
        ranks = standardised(scipy.stats.rankdata(values, axis=1), 1)
        scores = standardised(exponential_scores(values), 1)
        strong = np.zeros(values.shape)
        best, above = strongest_clips(values)
        np.put_along_axis(strong, best, above, axis=1)
        self._units = np.stack([scores, ranks, strong]).astype(np.float32)
        self._sides = standardised(filled_ranks(qualities)).astype(np.float32)
        self._grid = _grid(qualities)
        self._bells = standardised(self._grid.responses(qualities), 1).T.astype(np.float32)
        self._sums = {
            power: [
                np.stack([(of[span].astype(np.float64) ** power).sum(axis=0) for span in self._spans])
                for of in (self._sides, self._bells)
            ]
            for power in (1, 2)
        }
        self._rest = [
            _moments_elsewhere(sums, squares, len(fold) - self._sizes)
            for sums, squares in zip(self._sums[1], self._sums[2], strict=True)
        ]

    def parts(self, units: int) -> Iterator[slice]:
        """Slices over so many units, few enough to work on at a time."""
        width = len(self._spans) * (3 * self._sides.shape[1] + self._bells.shape[1]) + 3 * len(self._sides)
        return chunks(units, width, CHUNK_BYTES, 4)

    def p_values(self, units: Places, permutations: int, seed: int) -> Doubles:
        """One-sided p-values of some units by permutation, float64 [units]."""
        alike, exceeding = np.zeros((2, len(units)), np.int64)
        for part in self.parts(len(units)):
            observed = self.choice(units[part], np.arange(len(self._sides)))
            rng = np.random.default_rng(seed)
            for start in range(0, permutations, BATCH):
                for order in dealt_orders(self._strata, min(BATCH, permutations - start), rng):
                    choice = self.choice(units[part], order)
                    same = choice.tuned == observed.tuned
                    alike[part] += same
                    exceeding[part] += same & (choice.correlation >= observed.correlation - ROUNDING)
        return np.asarray((1 + exceeding) / (1 + alike))

    def choice(self, units: Places | slice, order: Array) -> _Choice:
        """What units would follow if their activations were dealt out to the clips in that order."""
        dealt = self._units[:, units][:, :, order]
        sides = np.stack([dealt[:, :, span] @ self._sides[span] for span in self._spans])
        bells = np.stack([dealt[0, :, span] @ self._bells[span] for span in self._spans])
        count = len(order) - self._sizes
        (score_mean, rank_mean), (score_scale, rank_scale) = (
            of.swapaxes(0, 1) for of in self._elsewhere(dealt[:2], count)
        )
        others = sides.sum(axis=0) - sides
        rho = _centred(others[:, 1], rank_mean, *self._rest[0], count)
        strong = others[:, 2]
        of_rank = _squared(np.abs(rho).max(axis=2) * rank_scale)
        rho = np.where(rho * strong < 0, 0, rho)
        quality = np.abs(rho).argmax(axis=2)
        sign = np.sign(_at(rho, quality))
        rest = _centred(bells.sum(axis=0) - bells, score_mean, *self._rest[1], count)
        place = rest.argmax(axis=2)
        of_bell = _squared(np.maximum(_at(rest, place), 0) * score_scale)
        tuned = (1 - of_rank) > count ** (MORE_NUMBERS / count) * (1 - of_bell)
        agrees = np.where(tuned, _at(bells, place), sign * _at(sides[:, 0], quality)).sum(axis=0)
        bell, mostly = np.where(tuned, place, -1), 2 * tuned.sum(axis=0) > len(self._spans)
        return _Choice(quality, sign, bell, mostly, self._correlation(agrees, quality, sign, bell))

    def predicted(self, choice: _Choice) -> Floats:
        """What a choice says of the clips of each fold, float32 [units, clips]."""
        return np.concatenate(
            [
                np.where(
                    bells[:, None] >= 0,
                    self._bells[span].T[bells],
                    sign[:, None] * self._sides[span].T[quality],
                )
                for span, quality, sign, bells in zip(
                    self._spans, choice.quality, choice.sign, choice.bells, strict=True
                )
            ],
            axis=1,
        ).astype(np.float32)

    def write_bells(self, bells: Bells, units: Places, places: Places) -> None:
        """Write the bells of some units in a fold."""
        tuned = places >= 0
        units, grid = units[tuned], self._grid.at(places[tuned])
        bells.axis[units], bells.centre[units], bells.half[units] = grid.axis, grid.centre, grid.half

    def _elsewhere(self, dealt: Array, count: Array) -> tuple[Floats, Floats]:
        """`_moments_elsewhere` of units, float32 [folds, *dealt but clips]."""
        spans = [dealt[..., span] for span in self._spans]
        sums, squares = (np.stack([(of**power).sum(axis=-1) for of in spans]) for power in (1, 2))
        return _moments_elsewhere(sums, squares, count[:, None])

    def _correlation(self, agrees: Array, quality: Places, sign: Array, bell: Places) -> Doubles:
        """Correlation of predictions with standardised scores, from the sum of their products; 0 for no prediction."""
        folds, clips = np.arange(len(self._spans))[:, None], len(self._sides)
        mean, square = (
            np.where(bell >= 0, of_bells[folds, bell], sign**power * of_sides[folds, quality]).sum(axis=0)
            / clips
            for power, (of_sides, of_bells) in self._sums.items()
        )
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        return np.asarray(np.where(deviation > 0, agrees / clips / np.where(deviation > 0, deviation, 1), 0))


def _grid(qualities: Array) -> Bells:
    """Bells over every quality of `AXES` that has a range on these clips; the first is none at all."""
    grids = [np.array([[-1.0], [0.0], [1.0]])]
    for number, axis in enumerate(AXES.values()):
        x = axis.scaled(qualities[:, axis.column])
        x = x[np.isfinite(x)]
        first, last = np.quantile(x, [0.01, 0.99]).tolist() if len(x) >= CLIPS_PER_BIN else (0, 0)
        if first < last:
            bells, grid = bell_grid(x, CENTRES, WIDTHS)
            grid = grid[:, bells.any(axis=1)]
            grids.append(np.concatenate([np.full((1, grid.shape[1]), number), grid]))
    axis_of, centre, half = np.concatenate(grids, axis=1)
    return Bells(axis_of.astype(np.intp), centre, half)


def _at(sums: Array, place: Places) -> Array:
    """One of the last axis for each of the others."""
    return np.take_along_axis(sums, place[:, :, None], axis=2)[:, :, 0]


def _moments_elsewhere(sums: Array, squares: Array, count: Array) -> tuple[Floats, Floats]:
    """Mean and inverse standard deviation over the clips outside each fold, from sums per fold; 0 for a constant."""
    mean = (sums.sum(axis=0) - sums) / count
    variance = (squares.sum(axis=0) - squares) / count - mean**2
    varies = variance > ROUNDING
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


def _centred(products: Floats, mean: Floats, other_mean: Floats, other_scale: Floats, count: Array) -> Floats:
    """Correlations times the unit's standard deviation, from sums of products outside each fold [folds, units, n]."""
    covariance = np.divide(products, count[:, None], dtype=np.float32)
    covariance -= mean[:, :, None] * other_mean[:, None]
    covariance *= other_scale[:, None]
    return np.asarray(covariance, np.float32)


def _squared(correlation: Array) -> Doubles:
    """Squared correlations, below 1."""
    return np.asarray(np.minimum(correlation.astype(np.float64) ** 2, 1 - ROUNDING))
