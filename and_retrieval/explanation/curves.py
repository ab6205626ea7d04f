"""Mean responses of units over a quality in bins, their errors, and what shape they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are used

from ..numerics import Array, Doubles, standardised
from ..types import TuningShape

Indices = npt.NDArray[np.intp]

MOST_BINS, LEAST_BINS = 12, 4  # half an octave each over the range of pitch; a middle needs two bins at least
CLIPS_PER_BIN = 10  # so that a mean is worth drawing, and few bins are used for few clips
LEAST_FILES = 10  # of all clips; with fewer there is no test
FILES_PER_BIN = 3  # with fewer, a bin has no standard error to speak of
CONFIDENCE = 0.95  # of the intervals of means, and of the middle against both ends
SIDE_FILES = FILES_PER_BIN  # that a peak has to beat on either side
CENTRES, WIDTHS = 144, 6  # of the bell curves fitted to a peak: half a semitone apart over six octaves
NARROWEST, WIDEST = 1 / 60, 1 / 4  # their standard deviations, shares of the range
HALF_HEIGHT = float(np.sqrt(2 * np.log(2)))  # standard deviations from the centre of a bell curve


@dataclass(frozen=True)
class Bins:
    """The clips that have a quality, in bins.

    Attributes:
        rows: int [clips], which of all clips they are.
        x: float64 [clips], the quality, as its logarithm to base 2 where the axis is logarithmic.
        edges: float64 [bins + 1], lowest x, inner edges, highest x.
        of: int [clips], the bin of each.
        counts: int [bins], clips of each.
        files: int [clips], which file a clip is of.
    """

    rows: Indices
    x: Doubles
    edges: Doubles
    of: Indices
    counts: Indices
    files: Indices

    def centres(self) -> Doubles:
        """Mean x of the clips of each bin, float64 [bins]."""
        return np.asarray(np.bincount(self.of, self.x) / self.counts)


@dataclass(frozen=True)
class Curves:
    """Mean responses over the bins of a quality, all float64 [units, bins] but for `freedom` [bins].

    Attributes:
        means: In the unit's own scale.
        errors: Standard errors, clips of one file summed before they are squared.
        freedom: Degrees of freedom: files of the bin less one.
    """

    means: Doubles
    errors: Doubles
    freedom: Doubles


@dataclass(frozen=True)
class Shapes:
    """What the curves of one quality look like; x is as in `Bins`.

    Attributes:
        names: Per unit, or None where neither middle nor ends differ.
        best, low, high: float64 [units], x; see `Tuning`.
    """

    names: Sequence[TuningShape | None]
    best: Doubles
    low: Doubles
    high: Doubles


def binned(x: Doubles, rows: Indices, files: Array) -> Bins | None:
    """Bins of about as many clips each, as many as the clips allow; None where there are too few clips or files.

    Args:
        x: float64 [clips], the quality of the clips that have it.
        rows: int [clips], which of all clips they are.
        files: int [clips], which file each is of.
    """
    file = np.unique(files, return_inverse=True)[1].reshape(-1)
    if not rows.size or file.max() + 1 < LEAST_FILES:
        return None
    for number in range(min(MOST_BINS, len(rows) // CLIPS_PER_BIN), LEAST_BINS - 1, -1):
        inner = np.unique(np.quantile(x, np.arange(1, number) / number, method="higher"))
        inner = inner[inner > x.min()]
        of = np.searchsorted(inner, x, side="right")
        there = np.bincount(np.unique(of * len(x) + file) // len(x))
        if len(inner) >= LEAST_BINS - 1 and there.min() >= FILES_PER_BIN:
            edges = np.array([x.min(), *inner, x.max()])
            return Bins(rows, x, edges, of, np.bincount(of), file)
    return None


def curves_of(values: Doubles, bins: Bins) -> Curves:
    """Mean responses of units [units, clips] over the bins.

    The variance of a mean is that of the linearised mean of clusters: f / (f - 1) times the sum over the bin's f files
    of the squared sum of their clips' deviations, over the squared number of clips (Cochran 1977, section 9A.5).
    """
    clips, number = len(bins.of), len(bins.counts)
    pairs, pair = np.unique(bins.of * clips + bins.files, return_inverse=True)
    within = pairs // clips  # the bin of every pair of bin and file
    files = np.bincount(within)
    by_pair = scipy.sparse.csr_array((np.ones(clips), (pair, np.arange(clips))))
    by_bin = scipy.sparse.csr_array(
        (np.ones(len(pairs)), (within, np.arange(len(pairs)))), (number, len(pairs))
    )
    sums = by_pair @ values.T
    means: Doubles = (by_bin @ sums) / bins.counts[:, None]
    deviation = sums - means[within] * np.bincount(pair)[:, None]
    scale = np.sqrt(files / (files - 1)) / bins.counts
    errors: Doubles = np.sqrt(by_bin @ deviation**2) * scale[:, None]
    least = 1e-9 * values.std(axis=1)  # what is smaller is rounding
    return Curves(means.T, np.maximum(errors, least).T, files.astype(np.float64) - 1)


def shapes_of(values: Doubles, curves: Curves, bins: Bins) -> Shapes:
    """The shapes of curves, see `tuning.tunings`; values are the units' activations [units, clips]."""
    fit, grid = _bell_fits(values, bins)
    bells = {sign: grid[:, (sign * fit).argmax(axis=1)] for sign in (1, -1)}
    peak, valley = (_beyond_sides(values, curves, bins, bell, sign) for sign, bell in bells.items())
    ends = np.subtract(*curves.means[:, [-1, 0]].T) / np.hypot(*curves.errors[:, [-1, 0]].T)
    differ = np.abs(ends) >= scipy.stats.t.ppf((1 + CONFIDENCE) / 2, min(curves.freedom[[0, -1]]))
    middle = np.maximum(peak, valley) >= 1
    up = (peak >= 1) & ((valley < 1) | (fit.max(axis=1) >= -fit.min(axis=1)))
    sign = np.where(middle, np.where(up, 1, -1), np.sign(ends)).astype(int)
    centre, half = np.where(sign > 0, bells[1], bells[-1])
    low, high = (np.clip(centre + side * half, *bins.edges[[0, -1]]) for side in (-1, 1))
    names: list[TuningShape | None] = [
        ("valley", "peak")[up] if m else ("falling", "rising")[up] if d else None
        for m, d, up in zip(middle.tolist(), differ.tolist(), (sign > 0).tolist(), strict=True)
    ]
    ends_of = _upper_ends(curves, bins, sign)
    return Shapes(names, *(np.where(middle, x, e) for x, e in zip((centre, low, high), ends_of, strict=True)))


def _bell_fits(values: Doubles, bins: Bins) -> tuple[Doubles, Doubles]:
    """How well bell curves over x fit units: correlations [units, bells], and centres and half widths [2, bells].

    Least squares with free height and offset: the fit is best where the correlation is highest.
    """
    bells, grid = bell_grid(bins.x)
    x, y = (standardised(rows, 1).astype(np.float32) for rows in (values, bells))
    return (x @ y.T / len(bins.x)).astype(np.float64), grid


def bell_grid(x: Doubles, centres: int = CENTRES, widths: int = WIDTHS) -> tuple[Doubles, Doubles]:
    """Bell curves all over a quality, evenly spaced: their values [bells, clips], centres and half widths [2, bells].

    A bell that rests on fewer than `CLIPS_PER_BIN` / 2 clips is 0 throughout.

    Args:
        x: float64 [clips], on the scale of `Axis.scaled`; at least two that differ.
        centres, widths: Number of each.
    """
    first, last = np.quantile(x, [0.01, 0.99]).tolist()
    places, deviations = np.meshgrid(
        np.linspace(first, last, centres), np.geomspace(NARROWEST, WIDEST, widths) * (last - first)
    )
    grid = np.stack([places.ravel(), deviations.ravel()])
    bells = np.exp(-(((x - grid[0, :, None]) / grid[1, :, None]) ** 2) / 2)
    resting = bells.sum(axis=1) ** 2 / np.maximum((bells**2).sum(axis=1), np.finfo(np.float64).tiny)
    bells[resting < CLIPS_PER_BIN / 2] = 0
    return bells, grid * [[1], [HALF_HEIGHT]]


def _beyond_sides(values: Doubles, curves: Curves, bins: Bins, bell: Doubles, sign: int) -> Doubles:
    """By how much the clips within a unit's bell are beyond those on either side, in critical differences [units].

    Student's t with the variance that both have together, as if they were alike, clips of one file summed before they
    are squared. (A unit that answers to few clips varies most where it answers, so a variance of its own would hide
    the difference.) The level is shared among as many bells as lie side by side over the range. Below 0 where a side
    has fewer than `SIDE_FILES` files, or the first or last bin is beyond the bell.

    Args:
        values: [units, clips].
        curves: Mean responses.
        bins: The clips.
        bell: Centres and half widths [2, units].
        sign: 1 for above, -1 for below.
    """
    by_file = scipy.sparse.csr_array((np.ones(len(bins.files)), (np.arange(len(bins.files)), bins.files)))
    x = (bins.x - bell[0][:, None]) / bell[1][:, None]
    inside, middle = np.abs(x) <= 1, values.mean(axis=1, keepdims=True)
    values, count = values - middle, np.maximum(inside.sum(axis=1), 1)
    within = (inside * values).sum(axis=1) / count
    beyond = np.full(len(values), np.inf)
    level = (1 - CONFIDENCE) * np.minimum(2 * bell[1] / (bins.edges[-1] - bins.edges[0]), 1)
    for side in (x < -1, x > 1):
        beside, both = np.maximum(side.sum(axis=1), 1), inside | side
        mean = (both * values).sum(axis=1, keepdims=True) / (count + beside)[:, None]
        files = ((both @ by_file) > 0).sum(axis=1)
        spread = (((both * (values - mean)) @ by_file) ** 2).sum(axis=1)
        variance = spread / (count + beside) * files / np.maximum(files - 1, 1)
        error = np.sqrt(variance * (1 / count + 1 / beside))
        difference = sign * (within - (side * values).sum(axis=1) / beside)
        critical = scipy.stats.t.ppf(1 - level, np.maximum(files - 2, 1))
        margin = difference / np.where(error > 0, error, np.inf) / critical
        enough = ((side @ by_file) > 0).sum(axis=1) >= SIDE_FILES
        beyond = np.minimum(beyond, np.where(enough, margin, -1))
    ends = sign * (within[:, None] - (curves.means[:, [0, -1]] - middle))
    return np.where(ends.min(axis=1) > 0, beyond, -1)


def _upper_ends(curves: Curves, bins: Bins, sign: Indices) -> tuple[Doubles, Doubles, Doubles]:
    """Of curves that rise (sign 1) or fall (-1): centre of the stronger end bin, and the range of the upper half.

    That range reaches from this end over all bins whose mean is above the middle of the smallest and the largest.
    """
    toward = np.where(sign[:, None] > 0, curves.means[:, ::-1], curves.means)  # from the stronger end
    above = toward > (toward.min(axis=1, keepdims=True) + toward.max(axis=1, keepdims=True)) / 2
    count = np.maximum(np.logical_and.accumulate(above, axis=1).sum(axis=1), 1)
    number, centres = len(bins.counts), bins.centres()
    best = np.where(sign > 0, centres[-1], centres[0])
    low = np.where(sign > 0, bins.edges[number - count], bins.edges[0])
    high = np.where(sign > 0, bins.edges[-1], bins.edges[count])
    return best, low, high
