"""Mean responses of units over a quality in bins, their errors, and what shape they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from ..numerics import Array, Doubles
from ..types import Floats, TuningShape

Indices = npt.NDArray[np.intp]

MOST_BINS, LEAST_BINS = 12, 4  # half an octave each over the range of pitch; a middle needs two bins at least
CLIPS_PER_BIN = 10  # so that a mean is worth drawing, and few bins are used for few clips
LEAST_FILES = 10  # of all clips; with fewer there is no test
FILES_PER_BIN = 3  # with fewer, a bin has no standard error to speak of
CONFIDENCE = 0.95  # of the intervals of means, and of the middle against both ends
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


def standardised(values: Doubles) -> Floats:
    """Rows with mean 0 and mean square 1, float32; NaN where one does not vary or is not finite throughout."""
    finite = np.where(np.isfinite(values), values, np.nan)
    varies = finite.max(axis=1, keepdims=True) > finite.min(axis=1, keepdims=True)
    centred = finite - finite.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    return np.asarray(centred / np.where(varies, spread, np.nan), np.float32)


def curves_of(values: Doubles, bins: Bins) -> Curves:
    """Mean responses of units [units, clips] over the bins.

    The variance of a mean is that of the linearised mean of clusters: f / (f - 1) times the sum over the bin's f files
    of the squared sum of their clips' deviations, over the squared number of clips (Cochran 1977, section 9A.5).
    """
    clips, number = len(bins.of), len(bins.counts)
    pairs, pair = np.unique(bins.of * clips + bins.files, return_inverse=True)
    within = pairs // clips  # the bin of every pair of bin and file
    files = np.bincount(within)
    by_pair = sparse.csr_array((np.ones(clips), (pair, np.arange(clips))))
    by_bin = sparse.csr_array((np.ones(len(pairs)), (within, np.arange(len(pairs)))), (number, len(pairs)))
    sums = by_pair @ values.T
    means: Doubles = (by_bin @ sums) / bins.counts[:, None]
    deviation = sums - means[within] * np.bincount(pair)[:, None]
    scale = np.sqrt(files / (files - 1)) / bins.counts
    errors: Doubles = np.sqrt(by_bin @ deviation**2) * scale[:, None]
    least = 1e-9 * values.std(axis=1)  # what is smaller is rounding
    return Curves(means.T, np.maximum(errors, least).T, files.astype(np.float64) - 1)


def shapes_of(values: Doubles, curves: Curves, bins: Bins) -> Shapes:
    """The shapes of curves, see `tuning.tunings`; values are the units' activations [units, clips]."""
    peak, valley = _middle_wins(curves, 1), _middle_wins(curves, -1)
    ends = np.subtract(*curves.means[:, [-1, 0]].T) / np.hypot(*curves.errors[:, [-1, 0]].T)
    differ = np.abs(ends) >= stats.t.ppf((1 + CONFIDENCE) / 2, min(curves.freedom[[0, -1]]))
    middle = np.maximum(peak, valley) >= 1
    sign = np.where(middle, np.where(peak >= valley, 1, -1), np.sign(ends)).astype(int)
    best, low, high = _bells(values, curves, bins, sign)
    end = _upper_ends(curves, bins, sign)
    names: list[TuningShape | None] = [
        ("valley", "peak")[up] if m else ("falling", "rising")[up] if d else None
        for m, d, up in zip(middle.tolist(), differ.tolist(), (sign > 0).tolist(), strict=True)
    ]
    best, low, high = (np.where(middle, bell, e) for bell, e in zip((best, low, high), end, strict=True))
    return Shapes(names, best, low, high)


def _middle_wins(curves: Curves, sign: int) -> Doubles:
    """By how much the best bin but the first and last is beyond both of these, in critical differences [units].

    Args:
        curves: Mean responses.
        sign: 1 for above, -1 for below.
    """
    rows, inner = np.arange(len(curves.means)), len(curves.freedom) - 2
    best = 1 + (sign * curves.means[:, 1:-1]).argmax(axis=1)
    margins = []
    for end in (0, -1):
        difference = sign * (curves.means[rows, best] - curves.means[:, end])
        error = np.hypot(curves.errors[rows, best], curves.errors[:, end])
        freedom = np.minimum(curves.freedom[best], curves.freedom[end])
        margins.append(difference / error / stats.t.ppf(1 - (1 - CONFIDENCE) / inner, freedom))
    return np.asarray(np.minimum(*margins))


def _bells(values: Doubles, curves: Curves, bins: Bins, sign: Indices) -> tuple[Doubles, Doubles, Doubles]:
    """Centre and both half heights of the bell curve over x that fits every unit best, upside down where sign is -1.

    Least squares with free height and offset over a grid of centres and widths: the fit is best where the correlation
    is highest. The centre lies in the bin that wins or beside it, and the bell rests on `CLIPS_PER_BIN` / 2 clips at
    least.
    """
    first, last = np.quantile(bins.x, [0.01, 0.99]).tolist()
    centres = np.linspace(first, last, CENTRES)
    widths = np.geomspace(NARROWEST, WIDEST, WIDTHS) * (last - first)
    bells = np.exp(-(((bins.x - centres[:, None]) / widths[:, None, None]) ** 2) / 2).reshape(-1, len(bins.x))
    resting = bells.sum(axis=1) ** 2 / np.maximum((bells**2).sum(axis=1), np.finfo(np.float64).tiny)
    fit = standardised(values * sign[:, None]) @ standardised(bells).T
    winner = 1 + (sign[:, None] * curves.means[:, 1:-1]).argmax(axis=1)
    place = np.tile(np.searchsorted(bins.edges[1:-1], centres, side="right"), WIDTHS)
    fit[(np.abs(place - winner[:, None]) > 1) | ~(resting >= CLIPS_PER_BIN / 2)] = -np.inf
    chosen = fit.argmax(axis=1)
    centre, half = centres[chosen % CENTRES], HALF_HEIGHT * widths[chosen // CENTRES]
    low, high = (np.clip(centre + side * half, *bins.edges[[0, -1]]) for side in (-1, 1))
    return centre, low, high


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
