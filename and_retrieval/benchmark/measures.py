"""Measures of ranked lists, and what chance would score on them, as exact expectations.

Ties never help: of items with the same score the wrong ones are ranked first, and average precision is that of
scikit-learn, which takes all items of one score together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from ..numerics import Doubles, Places

Scores = npt.NDArray[np.floating[Any]]
Truth = npt.NDArray[np.bool_]


def best_first(scores: Scores, truth: Truth) -> Truth:
    """`truth`, bool [queries, items], with every row's items in descending order of `scores`, ties wrong first."""
    return np.take_along_axis(truth, np.lexsort((truth, -scores), axis=1), axis=1)


def first_ranks(ranked: Truth) -> Places:
    """Rank of the first right item of every query, from 1: int [queries], of what `best_first` gives.

    Raises:
        ValueError: A query has no right item.
    """
    _need_right(ranked)
    return np.asarray(ranked.argmax(axis=1) + 1)


def precision_up_to(ranked: Truth, k: int) -> Doubles:
    """AP@k of every query: precisions at the ranks of the right items among the k best, over min(right items, k).

    The mean over queries is mAP@k as audio retrieval reports it (DCASE language-based audio retrieval, LAION-CLAP).

    Args:
        ranked: What `best_first` gives.
        k: Items that count.
    """
    _need_right(ranked)
    best = ranked[:, :k]
    precisions = best.cumsum(axis=1) / np.arange(1, best.shape[1] + 1)
    return np.asarray((precisions * best).sum(axis=1) / np.minimum(ranked.sum(axis=1), k))


def recall_at(scores: Scores, truth: Truth, k: int) -> float:
    """Share of queries with a right item among the k best; for one right item each this is top-k accuracy."""
    return float(best_first(scores, truth)[:, :k].any(axis=1).mean())


def precision(scores: Scores, truth: Truth, k: int) -> float:
    """Share of right items among the k best, mean over queries; k beyond the items counts as wrong."""
    return float(best_first(scores, truth)[:, :k].sum(axis=1).mean() / k)


def mean_average_precision(scores: Scores, truth: Truth) -> float:
    """Mean over queries of the average precision, see `Ordering`.

    Raises:
        ValueError: A query has no right item.
    """
    _need_right(truth)
    return float(Ordering(scores, truth).average_precision().mean())


class Ordering:
    """Items in the order of their scores, also where some count several times or not at all (as in a bootstrap)."""

    def __init__(self, scores: Scores, truth: Truth) -> None:
        """Sort float [queries, items] once, ties wrong first; `truth` is bool of the same shape."""
        self._order = np.lexsort((truth, -scores), axis=1)
        self._right = np.take_along_axis(truth, self._order, axis=1)
        ordered = np.take_along_axis(scores, self._order, axis=1)
        ends = np.ones(scores.shape, bool)
        ends[:, :-1] = ordered[:, :-1] != ordered[:, 1:]
        place = np.where(ends, np.arange(scores.shape[1]), scores.shape[1])
        self._last = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]  # of those with the same score

    def _weighted(self, weights: Doubles | None) -> Doubles:
        return np.ones(self._order.shape) if weights is None else weights[self._order]

    def average_precision(self, weights: Doubles | None = None) -> Doubles:
        """scikit-learn's `average_precision_score` of every query, NaN for one without right items: float64 [queries].

        It is the precision over all items that score at least as much as a right item, averaged over the right items.
        `weights`, float64 [items], say how often each item counts.
        """
        weight = self._weighted(weights)
        right = weight * self._right
        seen, hit = (np.take_along_axis(x.cumsum(axis=1), self._last, axis=1) for x in (weight, right))
        total = right.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray((right * (hit / np.maximum(seen, 1e-12))).sum(axis=1) / total)

    def first_ranks(self, weights: Doubles | None = None) -> Doubles:
        """Rank of the first right item of every query, from 1; NaN without one. float64 [queries]."""
        weight = self._weighted(weights)
        right = self._right & (weight > 0)
        first = right.argmax(axis=1)[:, None]
        ahead = np.take_along_axis(weight.cumsum(axis=1) - weight, first, axis=1)[:, 0]
        return np.where(right.any(axis=1), ahead + 1, np.nan)


def chance_recall_at(truth: Truth, k: int) -> float:
    """`recall_at` of a random order: 1 - C(n - m, k) / C(n, k) for m right among n, mean over queries."""
    return float(chance_within(truth.sum(axis=1), truth.shape[1], k).mean())


def chance_within(right: npt.NDArray[np.integer[Any]], items: int, k: int) -> Doubles:
    """Probability that a random order has one of the right items, int [queries], among the first k of all items."""
    wrong = items - right
    k = min(k, items)
    with np.errstate(invalid="ignore"):
        missed = _log_choose(wrong, k) - _log_choose(np.array(items), k)
    return np.asarray(np.where(wrong < k, 1.0, 1 - np.exp(missed)))


def _log_choose(n: npt.NDArray[Any], k: int) -> Doubles:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1))


def chance_precision(truth: Truth, k: int) -> float:
    """`precision` of a random order: m / n, less where k exceeds n."""
    return float(truth.mean() * min(k, truth.shape[1]) / k)


def chance_average_precision(truth: Truth) -> float:
    """`mean_average_precision` of a random order without ties."""
    return float(chance_precision_up_to(truth.sum(axis=1), truth.shape[1], truth.shape[1]).mean())


def chance_precision_up_to(right: npt.NDArray[np.integer[Any]], items: int, k: int) -> Doubles:
    """`precision_up_to` of a random order, for int [queries] right items among all items: float64 [queries].

    Rank i holds a right item with probability m / n, and then (i - 1) (m - 1) / (n - 1) right ones are
    expected before it, so precision times being right is m / n (1 + (i - 1) (m - 1) / (n - 1)) / i.
    """
    rank = np.arange(1, min(k, items) + 1)
    different, place = np.unique(right, return_inverse=True)
    share_before = (different[:, None] - 1) / max(items - 1, 1)
    summed = ((1 + (rank - 1) * share_before) / rank).sum(axis=1) * different / items
    return np.asarray((summed / np.minimum(different, k))[place])


def chance_median_rank(right: npt.NDArray[np.integer[Any]], items: int) -> float:
    """Median over queries and random orders of the first right item's rank: the least that half do not exceed."""
    low, high = 1, items
    while low < high:
        middle = (low + high) // 2
        if chance_within(right, items, middle).mean() >= 0.5:
            high = middle
        else:
            low = middle + 1
    return float(low)


def one_right(columns: npt.NDArray[np.integer[Any]], width: int) -> Truth:
    """Truth with exactly one right item a query: bool [queries, width], true at `columns`."""
    truth = np.zeros((len(columns), width), dtype=np.bool_)
    truth[np.arange(len(columns)), columns] = True
    return truth


def beside(measured: float, chance: float) -> dict[str, float]:
    """A figure and what chance scores, to four places, as result files hold them."""
    return {"measured": round(measured, 4), "chance": round(chance, 4)}


def _need_right(truth: Truth) -> None:
    right = truth.any(axis=1)
    if not right.all():
        raise ValueError(f"query {int(np.argmin(right))} has no right item")
