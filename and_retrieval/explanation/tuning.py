"""Tuning: the mean response of every unit over a measured quality of the clips, and what of it is more than chance.

Clips are dealt into bins of about as many clips by the quality. What the bins account for is the share of the unit's
variance that lies between them, so a unit that answers in the middle is seen, which rank correlation is blind to.
Windows of one file are dependent: the test deals out whole files, and the errors of means are summed by file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..clips.qualities import QUALITIES
from ..numerics import Array, Doubles, chunks
from ..recording.activations import SEEN
from ..recording.recording import Recording
from ..types import Floats, Tuning, TuningShape
from .acoustics import filled_ranks

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


class Axis(NamedTuple):
    """A quality that units can be tuned to.

    Attributes:
        measured: Its name among `QUALITIES`.
        words: What it is called in a sentence.
        unit: Of its values.
        logarithmic: Whether equal steps are equal ratios, as for frequencies.
    """

    measured: str
    words: str
    unit: str
    logarithmic: bool


AXES = MappingProxyType(
    {
        "pitch": Axis("pitch", "pitch", "Hz", True),
        "brightness": Axis("brightness", "brightness", "Hz", True),
        "level": Axis("loudness", "level", "dB", False),
        "modulation_rate": Axis("modulation_rate", "modulation rate", "Hz", True),
    }
)
"""Name of a tuning -> its quality."""

MOST_BINS, LEAST_BINS = 12, 4  # half an octave each over the range of pitch; a middle needs two bins at least
CLIPS_PER_BIN = 10  # so that a mean is worth drawing, and few bins are used for few clips
LEAST_FILES = 10  # of all clips; with fewer there is no test
FILES_PER_BIN = 3  # with fewer, a bin has no standard error to speak of
FIRST_LOOK = 400  # permutations for every pair of unit and quality
LATER_LOOKS = ((4_000, 20, 0.01), (20_000, 4, 0.05))
"""Permutations for the pairs that the look before exceeds fewer times than that, with a q-value above that."""

LEVEL = 0.05  # false discovery rate over units and qualities
LEAST_EFFECT = (
    0.04  # share of variance; a rank correlation of 0.2, the weakest that is named, explains as much
)
CONFIDENCE = 0.95  # of the intervals of means, and of the middle against both ends
CENTRES, WIDTHS = (
    144,
    6,
)  # of the bell curves that a peak is fitted with: half a semitone apart over six octaves
NARROWEST, WIDEST = 1 / 60, 1 / 4  # their standard deviations, shares of the range
HALF_HEIGHT = float(np.sqrt(2 * np.log(2)))  # standard deviations from the centre of a bell curve
NARROW = 1.2  # a range between frequencies nearer than this is said with three digits, others with two
ROUNDING = 1e-4  # shares of variance that differ by less, relatively, are equal: sums are float32
CHUNK_BYTES = 32 * 2**20  # of one working array


@dataclass(frozen=True)
class _Bins:
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
class _Curves:
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
class _Shapes:
    """What the curves of one quality look like; x is as in `_Bins`.

    Attributes:
        names: Per unit, or None where neither middle nor ends differ.
        best, low, high: float64 [units], x; see `Tuning`.
    """

    names: Sequence[TuningShape | None]
    best: Doubles
    low: Doubles
    high: Doubles


def tunings(activations: Array, qualities: Array, files: Array, *, seed: int = 0) -> list[tuple[Tuning, ...]]:
    """What every unit is tuned to, strongest first.

    Per unit and quality, the statistic is the correlation ratio, eta² = variance between bins / variance (Pearson
    1905). Its p-value is that of a permutation test that deals whole files out to files of as many clips; its
    q-value that of Benjamini and Hochberg (1995) over all units and qualities. `effect` is (eta² - e) / (1 - e) with
    e the mean of eta² over the permutations: about 0 for a unit that answers to nothing; where every clip is a file of
    its own, Kelley's epsilon² (1935). Every pair gets `FIRST_LOOK` permutations; `LATER_LOOKS` gives more to those
    that stand out but are not yet significant, so a small q-value is an upper bound.

    A peak is named where the best bin but the first and last is above both of these (t tests at 5 %, Bonferroni over
    the bins), a valley likewise, rising and falling where the last is above or below the first. A tuning that is
    significant but has neither of these shapes is left out.

    Args:
        activations: Float [clips, units]; rows that are NaN throughout are left out. A unit that is not finite
            somewhere else has no tuning.
        qualities: Float [clips, qualities] in the order of `QUALITIES`; NaN where a clip lacks one.
        files: int [clips], which file each clip is of.
        seed: Of the permutations.

    Raises:
        ValueError: Not as many rows in all.
    """
    if not len(activations) == len(qualities) == len(files):
        raise ValueError(f"{len(activations)} activations, {len(qualities)} qualities, {len(files)} files")
    read = np.asarray(np.isfinite(activations).any(axis=1))
    binned = [_bins(axis, qualities, files, read) for axis in AXES.values()]
    with threadpool_limits(1):  # the products are small; threads would only wait for each other
        effect, q_value = _tested(activations, binned, seed)
    chosen = (q_value <= LEVEL) & (effect >= LEAST_EFFECT)
    result: list[list[Tuning]] = [[] for _ in range(activations.shape[1])]
    for number, (name, bins) in enumerate(zip(AXES, binned, strict=True)):
        if bins is None:
            continue
        for part in chunks(activations.shape[1], CENTRES * WIDTHS, CHUNK_BYTES):
            units = part.start + np.flatnonzero(chosen[part, number])
            figures = effect[units, number], q_value[units, number]
            described = _described(name, bins, _values(activations, bins.rows, units), *figures)
            for unit, tuning in zip(units.tolist(), described, strict=True):
                result[unit] += [tuning] if tuning else []
    return [tuple(sorted(each, key=lambda tuning: -tuning.effect)) for each in result]


def measured_tunings(
    recording: Recording, layer: str, acoustics: Sequence[str | None]
) -> tuple[list[tuple[Tuning, ...]], list[str | None]]:
    """What the units of a layer are tuned to on its seen clips, and their acoustics in words with it.

    Args:
        recording: Its activations and qualities are read.
        layer: The layer's name.
        acoustics: What rank correlation says of each unit, see `acoustics.describe`.

    Returns:
        Per unit its tunings, see `tunings`, and the words, see `with_tunings`.
    """
    rows, activations = recording.seen_rows, recording.activations(layer, SEEN)
    qualities = recording.qualities[rows]
    measured = tunings(activations, qualities, recording.files_of(rows))
    ranked = rank_explained(activations, qualities).tolist()
    return measured, list(map(with_tunings, acoustics, measured, ranked))


def in_words(tuning: Tuning) -> str:
    """A tuning in words: "tuned to pitch 280-360 Hz", "rises with level"."""
    axis = AXES[tuning.quality]
    if tuning.shape in ("rising", "falling"):
        return f"{'rises' if tuning.shape == 'rising' else 'falls'} with {axis.words}"
    ends = tuning.low, tuning.high
    if axis.logarithmic:
        digits = 2 if tuning.high >= NARROW * tuning.low else 3
        span = "-".join(f"{float(f'{end:.{digits}g}'):g}" for end in ends)
    else:
        span = " to ".join(f"{end:.0f}" for end in ends)
    return f"{'tuned to' if tuning.shape == 'peak' else 'weakest at'} {axis.words} {span} {axis.unit}"


def with_tunings(acoustics: str | None, unit_tunings: Sequence[Tuning], ranked: float) -> str | None:
    """A unit's acoustics in words with the tunings that rank correlation cannot tell.

    Peaks and valleys that explain more than any rank correlation are said first. What rises or falls is said only where
    rank correlation has nothing to say, for it says the same ("prefers loud sounds").

    Args:
        acoustics: What rank correlation says, see `acoustics.describe`.
        unit_tunings: Of the unit.
        ranked: The unit's entry of `rank_explained`.
    """
    said = [
        in_words(tuning)
        for tuning in unit_tunings
        if acoustics is None or (tuning.shape in ("peak", "valley") and tuning.effect > ranked)
    ]
    return "; ".join([*said, *([acoustics] if acoustics else [])]) or None


def rank_explained(activations: Array, qualities: Array) -> Doubles:
    """The largest squared rank correlation of every unit with any quality, float64 [units].

    What tunings are compared with; clips that lack a quality count as middling. 0 where it is not defined.

    Args:
        activations: Float [clips, units]; rows that are NaN throughout are left out.
        qualities: Float [clips, qualities].
    """
    read = np.isfinite(activations).any(axis=1)
    explained = np.zeros(activations.shape[1])
    x = filled_ranks(qualities[read])
    for part in chunks(len(explained), len(x), CHUNK_BYTES if len(x) else 1):
        y = _standardised(stats.rankdata(_values(activations, np.flatnonzero(read), part), axis=1))
        explained[part] = np.nan_to_num((y @ x / max(len(x), 1)) ** 2).max(axis=1, initial=0)
    return explained


def _bins(axis: Axis, qualities: Array, files: Array, read: Bools) -> _Bins | None:
    """The bins of a quality, as many as the clips that have it allow; None where there are too few."""
    values = qualities[:, list(QUALITIES).index(axis.measured)].astype(np.float64)
    rows = np.flatnonzero(read & np.isfinite(values) & ((values > 0) | (not axis.logarithmic)))
    file = np.unique(files[rows], return_inverse=True)[1].reshape(-1)
    if not rows.size or file.max() + 1 < LEAST_FILES:
        return None
    x = np.log2(values[rows]) if axis.logarithmic else values[rows]
    for number in range(min(MOST_BINS, len(rows) // CLIPS_PER_BIN), LEAST_BINS - 1, -1):
        inner = np.unique(np.quantile(x, np.arange(1, number) / number, method="higher"))
        inner = inner[inner > x.min()]
        of = np.searchsorted(inner, x, side="right")
        there = np.bincount(np.unique(of * len(x) + file) // len(x))
        if len(inner) >= LEAST_BINS - 1 and there.min() >= FILES_PER_BIN:
            edges = np.array([x.min(), *inner, x.max()])
            return _Bins(rows, x, edges, of, np.bincount(of), file)
    return None


def _values(activations: Array, rows: Indices, units: Indices | slice) -> Doubles:
    """Activations of some units on some clips, float64 [units, clips]."""
    return np.ascontiguousarray(activations[:, units][rows].T, dtype=np.float64)


def _tested(activations: Array, binned: Sequence[_Bins | None], seed: int) -> tuple[Doubles, Doubles]:
    """Share of variance beyond chance, 0 where not tested, and q-value, there 1, of every pair [units, qualities]."""
    effect = np.zeros((activations.shape[1], len(binned)))
    p_value, q_value, before = np.full(effect.shape, np.nan), np.ones(effect.shape), FIRST_LOOK
    wanted: Bools = np.ones(effect.shape, np.bool_)
    for permutations, fewer, above in ((FIRST_LOOK, 0, 0.0), *LATER_LOOKS):
        if permutations > before:
            wanted = (p_value < fewer / before) & (q_value > above)
        for number, bins in enumerate(binned):
            units = np.flatnonzero(wanted[:, number])
            for part in chunks(len(units), 0 if bins is None else len(bins.rows), CHUNK_BYTES):
                if bins is not None:
                    place = units[part], number
                    values = _standardised(_values(activations, bins.rows, units[part]))
                    effect[place], p_value[place] = _against_chance(values, bins, permutations, seed)
        q_value, before = _q_values(p_value), permutations
    return effect, q_value


def _standardised(values: Doubles) -> Floats:
    """Rows with mean 0 and mean square 1, float32; NaN where one does not vary or is not finite throughout."""
    finite = np.where(np.isfinite(values), values, np.nan)
    varies = finite.max(axis=1, keepdims=True) > finite.min(axis=1, keepdims=True)
    centred = finite - finite.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    return np.asarray(centred / np.where(varies, spread, np.nan), np.float32)


def _against_chance(values: Floats, bins: _Bins, permutations: int, seed: int) -> tuple[Doubles, Doubles]:
    """Share of variance beyond chance (0 where undefined) and its p-value (there NaN), float64 [units].

    Args:
        values: float32 [units, clips], standardised.
        bins: Of these clips.
        permutations: Number of permutations.
        seed: Of these; the same ones for all units.
    """
    units, clips = values.shape
    members = np.zeros((clips, len(bins.counts)), np.float32)
    members[np.arange(clips), bins.of] = 1 / np.sqrt(bins.counts * clips)[bins.of]
    share = ((values @ members).astype(np.float64) ** 2).sum(axis=1)
    least = (share * (1 - ROUNDING)).astype(np.float32)[:, None]
    exceeding, total = np.zeros(units, np.int64), np.zeros(units)
    for order in _orders(bins.files, permutations, members.shape[1] * max(units, clips), seed):
        sums = values @ members[order.T].reshape(clips, -1)
        dealt = np.einsum("upb,upb->up", *[sums.reshape(units, len(order), -1)] * 2)
        exceeding += (dealt >= least).sum(axis=1)
        total += dealt.sum(axis=1, dtype=np.float64)
    chance = total / permutations
    p_value = np.where(np.isfinite(share), (1 + exceeding) / (1 + permutations), np.nan)
    return np.nan_to_num((share - chance) / np.maximum(1 - chance, ROUNDING)), p_value


def _orders(files: Indices, permutations: int, width: int, seed: int) -> Iterator[Indices]:
    """Permutations of the clips that deal whole files out to files of as many clips, int [some, clips] at a time.

    A file whose size no other has stays where it is.

    Args:
        files: int [clips], which file each clip is of.
        permutations: How many.
        width: Numbers that are held for each; as many permutations come at a time as stay within `CHUNK_BYTES`.
        seed: Of the permutations.
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(files)
    rows = np.split(np.argsort(files, kind="stable"), np.cumsum(sizes)[:-1])
    alike = [np.stack([rows[file] for file in np.flatnonzero(sizes == size)]) for size in np.unique(sizes)]
    for part in chunks(permutations, width, CHUNK_BYTES, itemsize=4):
        order = np.empty((part.stop - part.start, len(files)), np.intp)
        for same in alike:
            dealt = rng.permuted(np.tile(np.arange(len(same)), (len(order), 1)), axis=1)
            order[:, same.ravel()] = same[dealt].reshape(len(order), -1)
        yield order


def _q_values(p_value: Doubles) -> Doubles:
    """Benjamini and Hochberg's q-values over the pairs that were tested, 1 for the others."""
    tested = np.isfinite(p_value)
    q_value = np.ones(p_value.shape)
    q_value[tested] = stats.false_discovery_control(p_value[tested])
    return q_value


def _described(
    name: str, bins: _Bins, values: Doubles, effect: Doubles, q_value: Doubles
) -> list[Tuning | None]:
    """The tunings of units to one quality; None for a unit whose curve has no shape that can be named.

    Args:
        name: Of `AXES`.
        bins: Of the clips.
        values: float64 [units, clips].
        effect, q_value: float64 [units].
    """
    curves = _curves(values, bins)
    shapes = _shapes(values, curves, bins)
    own = np.exp2 if AXES[name].logarithmic else np.asarray
    margins = curves.errors * stats.t.ppf((1 + CONFIDENCE) / 2, curves.freedom)
    centres = _rounded(own(bins.centres()))
    places = zip(*(own(x).tolist() for x in (shapes.best, shapes.low, shapes.high)), strict=True)
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
    return tuple(float(f"{value:.5g}") for value in values)


def _curves(values: Doubles, bins: _Bins) -> _Curves:
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
    return _Curves(means.T, np.maximum(errors, least).T, files.astype(np.float64) - 1)


def _shapes(values: Doubles, curves: _Curves, bins: _Bins) -> _Shapes:
    """The shapes of curves, see `tunings`; values are the units' activations [units, clips]."""
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
    return _Shapes(names, best, low, high)


def _middle_wins(curves: _Curves, sign: int) -> Doubles:
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


def _bells(values: Doubles, curves: _Curves, bins: _Bins, sign: Indices) -> tuple[Doubles, Doubles, Doubles]:
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
    fit = _standardised(values * sign[:, None]) @ _standardised(bells).T
    winner = 1 + (sign[:, None] * curves.means[:, 1:-1]).argmax(axis=1)
    place = np.tile(np.searchsorted(bins.edges[1:-1], centres, side="right"), WIDTHS)
    fit[(np.abs(place - winner[:, None]) > 1) | ~(resting >= CLIPS_PER_BIN / 2)] = -np.inf
    chosen = fit.argmax(axis=1)
    centre, half = centres[chosen % CENTRES], HALF_HEIGHT * widths[chosen // CENTRES]
    low, high = (np.clip(centre + side * half, *bins.edges[[0, -1]]) for side in (-1, 1))
    return centre, low, high


def _upper_ends(curves: _Curves, bins: _Bins, sign: Indices) -> tuple[Doubles, Doubles, Doubles]:
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
