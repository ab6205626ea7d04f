"""Statistics for comparing two sets of units: intervals, diversity, nearest counterparts. Arrays only.

Intervals are percentile bootstraps over units (Efron 1979); intervals of shares are Wilson's (1927). The units of one
network are not independent of each other, so the true intervals are wider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from ..types import Floats

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]

DRAWS = 1000
COVERAGE = 0.95
LEAST_UNITS = 5  # with fewer units, an interval means nothing
TIE = 1e-5  # cosines closer than this are equal
CHUNK_BYTES = 2**25


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure over units, with the interval that covers it for 95 % of other samples of such units.

    Attributes:
        value: The figure itself.
        low, high: Ends of the interval.
        units: Number of units it is computed from.
    """

    value: float
    low: float
    high: float
    units: int

    def above(self, other: Interval) -> bool:
        """Whether this interval lies wholly above the other."""
        return self.low > other.high

    def overlaps(self, other: Interval) -> bool:
        """Whether some value lies in both intervals."""
        return not (self.above(other) or other.above(self))


def bootstrap(
    values: Array, statistic: Callable[..., Any] = np.mean, seed: int = 0, draws: int = DRAWS
) -> Interval | None:
    """A statistic of units with its percentile interval; None for fewer than `LEAST_UNITS` units.

    Args:
        values: float [units]; NaN is left out.
        statistic: A function with an axis, such as `np.mean` or `np.median`.
        seed: Seed of the draws.
        draws: Number of bootstrap samples; each draws as many units with replacement.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) < LEAST_UNITS:
        return None
    result = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=draws,
        batch=max(CHUNK_BYTES // (8 * len(values)), 1),
        vectorized=True,
        confidence_level=COVERAGE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return _interval(float(statistic(values)), low, high, len(values))


def share(hits: Array) -> Interval | None:
    """The share of units that are hits, with Wilson's interval; None for fewer than `LEAST_UNITS` units.

    It is not a bootstrap, because that gives ten hits out of ten an interval of no width.

    Args:
        hits: bool [units].
    """
    n = len(hits)
    if n < LEAST_UNITS:
        return None
    test = stats.binomtest(int(np.count_nonzero(hits)), n)
    low, high = test.proportion_ci(COVERAGE, method="wilson")
    return _interval(test.statistic, low, high, n)


def distinct_among(
    labels: Sequence[Hashable], units: int, seed: int = 0, draws: int = DRAWS
) -> Interval | None:
    """Number of different labels among `units` random units: rarefaction, with the interval over draws.

    A layer with more units has more labels, so layers are compared on equally many units. The value is the exact
    expectation, sum over labels of 1 - C(N - n_i, m) / C(N, m) (Hurlbert 1971).

    Args:
        labels: The label of every unit.
        units: Number of units to draw, without replacement; the result is None if there are fewer.
        seed: Seed of the draws.
        draws: Number of draws.
    """
    if not 1 <= units <= len(labels):
        return None
    number_of = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    numbers = np.array([number_of[label] for label in labels])
    total, counts = len(numbers), np.bincount(numbers)
    # C(N - n, m) / C(N, m) is a product over the n units of a label, none of which may be drawn.
    steps = np.arange(counts.max())
    spared = np.maximum(total - units - steps, 0) / (total - steps)
    missed = np.concatenate([[1.0], np.cumprod(spared)])[counts]
    random = np.random.default_rng(seed)
    drawn = [len(np.unique(numbers[random.permutation(total)[:units]])) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return _interval(float((1 - missed).sum()), low, high, total)


def effective_number(labels: Sequence[Hashable]) -> float:
    """Number of equally frequent labels with the same diversity: exp of Shannon's entropy (Hill 1973); 0 if empty."""
    if not labels:
        return 0.0
    number_of = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    share = np.bincount([number_of[label] for label in labels]) / len(labels)
    return float(np.exp(-(share * np.log(share)).sum()))


def share_alike(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Probability that a random element of `a` equals a random element of `b`, 0..1."""
    if not a or not b:
        return 0.0
    counts = Counter(a), Counter(b)
    return sum(count * counts[1][name] for name, count in counts[0].items()) / (len(a) * len(b))


def nearest(queries: Floats, vectors: Floats, same: Rows) -> tuple[Rows, Floats]:
    """The nearest vector of each query: its row (-1 for none) and cosine (NaN for none), both [queries].

    Args:
        queries: float32 [n, dim], rows of unit length, or zero for units that never responded.
        vectors: float32 [m, dim], likewise.
        same: int [n], the row in `vectors` of the same unit, or -1; it wins ties.
    """
    rows, cosines = np.full(len(queries), -1), np.full(len(queries), np.nan, np.float32)
    nonzero = vectors.any(axis=1)
    nonzero_queries = np.flatnonzero(queries.any(axis=1))
    if not nonzero.any():
        return rows, cosines
    step = max(CHUNK_BYTES // (4 * len(vectors)), 1)
    for start in range(0, len(nonzero_queries), step):
        part = nonzero_queries[start : start + step]
        cosine = np.where(nonzero, queries[part] @ vectors.T, -np.inf)
        rows[part], cosines[part] = cosine.argmax(axis=1), cosine.max(axis=1)
        same_unit = same[part]
        tied = (same_unit >= 0) & (cosine[np.arange(len(part)), same_unit] >= cosines[part] - TIE)
        rows[part[tied]] = same_unit[tied]
    return rows, cosines


def mutual(of_a: Rows, of_b: Rows) -> Rows:
    """Rows of a that are the nearest of their nearest in b; of_a [a] holds rows of b, of_b [b] rows of a."""
    matched = np.flatnonzero(of_a >= 0)
    both: Rows = matched[of_b[of_a[matched]] == matched]
    return both


def principal(values: Array, dims: int) -> Floats:
    """The first principal components of clips, float32 [clips, dims], or fewer if `values` has fewer columns.

    Args:
        values: float [clips, columns], finite.
        dims: At least 1.
    """
    centred = values.astype(np.float64) - values.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    components: Floats = (centred @ axes[:, ::-1][:, :dims]).astype(np.float32)
    return components


def _interval(value: float, low: float, high: float, units: int) -> Interval:
    return Interval(round(value, 4), round(float(low), 4), round(float(high), 4), units)
