"""Tuning: the mean response of every unit over a measured quality of the clips, and what of it is more than chance.

Clips are dealt into bins of about as many clips by the quality. What the bins account for is the share of the unit's
variance that lies between them, so a unit that answers in the middle is seen, which rank correlation is blind to.
Windows of one file are dependent: the test deals out whole files, and the errors of means are summed by file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are used
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..numerics import Array, Bools, Doubles, by_presence, chunks, standardised
from ..types import Tuning
from .acoustics import filled_ranks
from .axes import AXES, Axis
from .curves import CENTRES, CONFIDENCE, WIDTHS, Bins, binned, curves_of, shapes_of
from .permutations import dealt_orders, q_values, sequential_p_values, strata_of

Indices = npt.NDArray[np.intp]


FIRST_LOOK = 400  # permutations for every pair of unit and quality
LATER_LOOKS = ((4_000, 20, 0.01), (20_000, 4, 0.05))  # see `permutations.Look`
LEVEL = 0.05  # false discovery rate over units and qualities
LEAST_EFFECT = 0.04  # share of variance: as much as a rank correlation of 0.2, the weakest that is named
ROUNDING = 1e-4  # shares of variance that differ by less, relatively, are equal: sums are float32
ROUGHLY = 2.0**-24  # the precision of float32; half precision rounded what lies near 1 to it
CHUNK_BYTES = 32 * 2**20  # of one working array


def tunings(activations: Array, qualities: Array, files: Array, *, seed: int = 0) -> list[tuple[Tuning, ...]]:
    """What every unit is tuned to, strongest first.

    Per unit and quality, the statistic is the correlation ratio, eta² = variance between bins / variance (Pearson
    1905). Its p-value is that of a permutation test that deals whole files out to files of as many clips; its
    q-value that of Benjamini and Hochberg (1995) over all units and qualities. `effect` is (eta² - e) / (1 - e) with
    e the mean of eta² over the permutations: about 0 for a unit that answers to nothing; where every clip is a file of
    its own, Kelley's epsilon² (1935). Every pair gets `FIRST_LOOK` permutations; `LATER_LOOKS` gives more to those
    that stand out but are not yet significant, so a small q-value is an upper bound.

    A peak is named where the clips within the bell curve that fits best are above those on either side (t tests at
    5 %, Bonferroni over the bells that lie side by side) and above the first and the last bin, a valley likewise,
    rising and falling where the last bin is above or below the first. A tuning that is significant but has neither of
    these shapes is left out.

    Args:
        activations: Float [clips, units]; a unit counts over the clips on which it is finite.
        qualities: Float [clips, qualities] in the order of `QUALITIES`; NaN where a clip lacks one.
        files: int [clips], which file each clip is of.
        seed: Of the permutations.

    Raises:
        ValueError: Not as many rows in all.
    """
    if not len(activations) == len(qualities) == len(files):
        raise ValueError(f"{len(activations)} activations, {len(qualities)} qualities, {len(files)} files")
    every = list(_binned(activations, qualities, files))
    with threadpool_limits(1):  # the products are small; threads would only wait for each other
        effect, q_value = _tested(activations, every, seed)
    chosen = (q_value <= LEVEL) & (effect >= LEAST_EFFECT)
    result: list[list[Tuning]] = [[] for _ in range(activations.shape[1])]
    for number, bins, members in every:
        for part in chunks(len(members), max(CENTRES * WIDTHS, len(bins.rows)), CHUNK_BYTES):
            units = members[part][chosen[members[part], number]]
            figures = effect[units, number], q_value[units, number]
            values = _values(activations, bins.rows, units)
            described = _described(list(AXES)[number], bins, values, *figures)
            for unit, tuning in zip(units.tolist(), described, strict=True):
                result[unit] += [tuning] if tuning else []
    return [tuple(sorted(unit_tunings, key=lambda tuning: -tuning.effect)) for unit_tunings in result]


def rank_explained(activations: Array, qualities: Array) -> Doubles:
    """The largest squared rank correlation of every unit with any quality, float64 [units].

    What tunings are compared with; clips that lack a quality count as middling. 0 where it is not defined. Activations
    that differ by less than `ROUGHLY` of the unit's largest are ranked as equal: next to a peak, the order of what is
    nearly nothing would pass for a preference.

    Args:
        activations: Float [clips, units]; a unit counts over the clips on which it is finite.
        qualities: Float [clips, qualities].
    """
    explained = np.zeros(activations.shape[1])
    for clips, units in by_presence(activations):
        x = filled_ranks(qualities[clips])
        for part in (units[span] for span in chunks(len(units), len(x), CHUNK_BYTES)):
            values = _values(activations, np.flatnonzero(clips), part)
            largest = np.abs(values).max(axis=1, keepdims=True)
            steps = np.rint(values / np.where(largest > 0, largest, 1) / ROUGHLY)
            y = standardised(scipy.stats.rankdata(steps, axis=1), 1).astype(np.float32)
            explained[part] = ((y @ x / len(x)) ** 2).max(axis=1, initial=0)
    return explained


def _binned(activations: Array, qualities: Array, files: Array) -> Iterator[tuple[int, Bins, Indices]]:
    """The number of an axis, its bins, and the units that are finite on the same clips, as far as there are bins."""
    for clips, units in by_presence(activations):
        for number, axis in enumerate(AXES.values()):
            bins = _bins(axis, qualities, files, clips)
            if bins is not None:
                yield number, bins, units


def _bins(axis: Axis, qualities: Array, files: Array, read: Bools) -> Bins | None:
    """The bins of the clips that are `read` and have a quality."""
    x = axis.scaled(qualities[:, axis.column])
    rows = np.flatnonzero(read & np.isfinite(x))
    return binned(x[rows], rows, files[rows])


def _values(activations: Array, rows: Indices, units: Indices | slice) -> Doubles:
    """Activations of some units on some clips, float64 [units, clips]."""
    return np.ascontiguousarray(activations[:, units][rows].T, dtype=np.float64)


def _tested(
    activations: Array, every: Sequence[tuple[int, Bins, Indices]], seed: int
) -> tuple[Doubles, Doubles]:
    """Share of variance beyond chance, 0 where not tested, and q-value, there 1, of every pair [units, qualities]."""
    effect = np.zeros((activations.shape[1], len(AXES)))

    def p_values(wanted: Bools, permutations: int) -> Doubles:
        p_value = np.full(effect.shape, np.nan)
        for number, bins, members in every:
            units = members[wanted[members, number]]
            for part in chunks(len(units), len(bins.rows), CHUNK_BYTES):
                place = units[part], number
                values = _values(activations, bins.rows, units[part])
                effect[place], p_value[place] = _against_chance(values, bins, permutations, seed)
        return p_value

    return effect, q_values(sequential_p_values(p_values, effect.shape, FIRST_LOOK, LATER_LOOKS))


def _against_chance(values: Doubles, bins: Bins, permutations: int, seed: int) -> tuple[Doubles, Doubles]:
    """Share of variance beyond chance (0 where undefined) and its p-value (there NaN), float64 [units].

    Args:
        values: float64 [units, clips].
        bins: Of these clips.
        permutations: Number of permutations.
        seed: Of these; the same ones for all units.
    """
    units, clips = values.shape
    z = standardised(values, 1, constant=np.nan).astype(np.float32)
    members = np.zeros((clips, len(bins.counts)), np.float32)
    members[np.arange(clips), bins.of] = 1 / np.sqrt(bins.counts * clips)[bins.of]
    share = ((z @ members).astype(np.float64) ** 2).sum(axis=1)
    least = (share * (1 - ROUNDING)).astype(np.float32)[:, None]
    exceeding, total = np.zeros(units, np.int64), np.zeros(units)
    rng, strata, width = (
        np.random.default_rng(seed),
        strata_of(bins.files),
        members.shape[1] * max(units, clips),
    )
    for part in chunks(permutations, width, CHUNK_BYTES, itemsize=4):
        order = dealt_orders(strata, part.stop - part.start, rng)
        sums = z @ members[order.T].reshape(clips, -1)
        dealt = np.einsum("upb,upb->up", *[sums.reshape(units, len(order), -1)] * 2)
        exceeding += (dealt >= least).sum(axis=1)
        total += dealt.sum(axis=1, dtype=np.float64)
    chance = total / permutations
    p_value = np.where(np.isfinite(share), (1 + exceeding) / (1 + permutations), np.nan)
    return np.nan_to_num((share - chance) / np.maximum(1 - chance, ROUNDING)), p_value


def _described(
    name: str, bins: Bins, values: Doubles, effect: Doubles, q_value: Doubles
) -> list[Tuning | None]:
    """The tunings of units to one quality; None for a unit whose curve has no shape that can be named.

    Args:
        name: Of `AXES`.
        bins: Of the clips.
        values: float64 [units, clips].
        effect, q_value: float64 [units].
    """
    curves = curves_of(values, bins)
    shapes = shapes_of(values, curves, bins)
    unscaled = np.exp2 if AXES[name].logarithmic else np.asarray
    margins = curves.errors * scipy.stats.t.ppf((1 + CONFIDENCE) / 2, curves.freedom)
    centres = _rounded(unscaled(bins.centres()))
    places = zip(*(unscaled(x).tolist() for x in (shapes.best, shapes.low, shapes.high)), strict=True)
    figures = zip(effect.tolist(), q_value.tolist(), strict=True)
    result: list[Tuning | None] = []
    for shape, place, figure, curve, margin in zip(
        shapes.names, places, figures, curves.means, margins, strict=True
    ):
        best, low, high, share, q = _rounded((*place, *figure))
        drawn = centres, _rounded(curve), _rounded(margin)
        result.append(Tuning(name, shape, best, low, high, share, q, *drawn) if shape else None)
    return result


def _rounded(values: Sequence[float] | Doubles) -> tuple[float, ...]:
    """Five significant digits."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return tuple(float(f"{value:.5g}") for value in plain)
