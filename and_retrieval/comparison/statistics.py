"""What it takes to hold two sets of units against each other: intervals, diversity, nearest counterparts. Arrays only.

Intervals are percentile bootstraps over units (Efron 1979), those of shares Wilson's (1927). The units of one
network are not independent of each other, so true intervals are wider.
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
LEAST_UNITS = 5  # with fewer an interval says nothing
TIE = 1e-5  # cosines closer than this are equal
CHUNK_BYTES = 2**25


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure over units and where it would lie for other units of the same kind, 95 % of the time.

    Attributes:
        value: The figure itself.
        low, high: Ends of the interval.
        units: How many units it is made of.
    """

    value: float
    low: float
    high: float
    units: int

    def above(self, other: Interval) -> bool:
        """Whether this lies wholly above the other."""
        return self.low > other.high

    def overlaps(self, other: Interval) -> bool:
        """Whether there is a value that lies in both."""
        return not (self.above(other) or other.above(self))


def bootstrap(
    values: Array, statistic: Callable[..., Any] = np.mean, seed: int = 0, draws: int = DRAWS
) -> Interval | None:
    """A statistic of units with its percentile interval; None for fewer than `LEAST_UNITS` of them.

    Args:
        values: float [units]; NaN is left out.
        statistic: Along an axis, as `np.mean` and `np.median`.
        seed: Of the draws.
        draws: How often as many units are drawn, with replacement.
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) < LEAST_UNITS:
        return None
    found = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=draws,
        batch=max(CHUNK_BYTES // (8 * len(values)), 1),
        vectorized=True,
        confidence_level=COVERAGE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return _interval(float(statistic(values)), low, high, len(values))


def share(hits: Array) -> Interval | None:
    """The share of units for which something holds, with Wilson's interval; None for fewer than `LEAST_UNITS`.

    A bootstrap of ten hits out of ten would have an interval without width.

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
    """How many different labels `units` of them carry: rarefaction, with the interval over draws.

    The more units a layer has, the more labels it has; among equally many units layers compare. The value is the
    exact expectation, sum over labels of 1 - C(N - n_i, m) / C(N, m) (Hurlbert 1971).

    Args:
        labels: One a unit.
        units: How many are drawn, without replacement; None is returned when there are fewer.
        seed: Of the draws.
        draws: How often.
    """
    if not 1 <= units <= len(labels):
        return None
    of = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    which = np.array([of[label] for label in labels])
    total, counts = len(which), np.bincount(which)
    # C(N - n, m) / C(N, m) as a product over the n units of a label, each of which must not be drawn.
    steps = np.arange(counts.max())
    spared = np.maximum(total - units - steps, 0) / (total - steps)
    missed = np.concatenate([[1.0], np.cumprod(spared)])[counts]
    random = np.random.default_rng(seed)
    drawn = [len(np.unique(which[random.permutation(total)[:units]])) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return _interval(float((1 - missed).sum()), low, high, total)


def effective_number(labels: Sequence[Hashable]) -> float:
    """How many equally frequent labels would be as diverse: exp of Shannon's entropy (Hill 1973); 0 without any."""
    if not labels:
        return 0.0
    of = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    share = np.bincount([of[label] for label in labels]) / len(labels)
    return float(np.exp(-(share * np.log(share)).sum()))


def share_alike(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Chance that a random one of `a` equals a random one of `b`, 0..1."""
    if not a or not b:
        return 0.0
    counts = Counter(a), Counter(b)
    return sum(count * counts[1][name] for name, count in counts[0].items()) / (len(a) * len(b))


def nearest(queries: Floats, vectors: Floats, same: Rows) -> tuple[Rows, Floats]:
    """The nearest of `vectors` for each query: rows (-1 for none) and cosines (NaN for none), both [queries].

    Args:
        queries: float32 [n, dim], rows of unit length, or zero for units that never responded.
        vectors: float32 [m, dim], likewise.
        same: int [n], the row that is the same unit, -1 for none; among equally near ones it goes first.
    """
    rows, cosines = np.full(len(queries), -1), np.full(len(queries), np.nan, np.float32)
    there = vectors.any(axis=1)
    asked = np.flatnonzero(queries.any(axis=1))
    if not there.any():
        return rows, cosines
    step = max(CHUNK_BYTES // (4 * len(vectors)), 1)
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        cosine = np.where(there, queries[part] @ vectors.T, -np.inf)
        rows[part], cosines[part] = cosine.argmax(axis=1), cosine.max(axis=1)
        own = same[part]
        tied = (own >= 0) & (cosine[np.arange(len(part)), own] >= cosines[part] - TIE)
        rows[part[tied]] = own[tied]
    return rows, cosines


def mutual(of_a: Rows, of_b: Rows) -> Rows:
    """Rows of a whose nearest in b has them as its nearest; of_a [a] are rows of b, of_b [b] rows of a."""
    matched = np.flatnonzero(of_a >= 0)
    both: Rows = matched[of_b[of_a[matched]] == matched]
    return both


def principal(values: Array, dims: int) -> Floats:
    """The first principal components of clips, float32 [clips, dims]; fewer where there are fewer columns.

    Args:
        values: float [clips, columns], finite.
        dims: At least 1.
    """
    centred = values.astype(np.float64) - values.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    found: Floats = (centred @ axes[:, ::-1][:, :dims]).astype(np.float32)
    return found


def _interval(value: float, low: float, high: float, units: int) -> Interval:
    return Interval(round(value, 4), round(float(low), 4), round(float(high), 4), units)
