"""Measures of ranked lists, and what chance would score on them, as exact expectations.

Ties are ranked by position, earlier first.
"""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating[Any]]
Truth = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]


def best_first(scores: Scores, truth: Truth) -> Truth:
    """`truth`, bool [queries, items], with every row's items in descending order of `scores`."""
    return np.take_along_axis(truth, np.argsort(-scores, axis=1, kind="stable"), axis=1)


def found(scores: Scores, truth: Truth, k: int) -> float:
    """Share of queries with a right item among the k best; for one right item each this is top-k accuracy."""
    return float(best_first(scores, truth)[:, :k].any(axis=1).mean())


def precision(scores: Scores, truth: Truth, k: int) -> float:
    """Share of right items among the k best, mean over queries; k beyond the items counts as wrong."""
    return float(best_first(scores, truth)[:, :k].sum(axis=1).mean() / k)


def mean_average_precision(scores: Scores, truth: Truth) -> float:
    """Mean over queries of the precision at each right item's rank, averaged over the right items.

    Raises:
        ValueError: A query has no right item.
    """
    ranked = best_first(scores, truth)
    right = ranked.sum(axis=1)
    if not right.all():
        raise ValueError(f"query {int(np.argmin(right))} has no right item")
    precisions = ranked.cumsum(axis=1) / np.arange(1, ranked.shape[1] + 1)
    return float(((precisions * ranked).sum(axis=1) / right).mean())


def chance_found(truth: Truth, k: int) -> float:
    """`found` of a random order: 1 - C(n - m, k) / C(n, k) for m right among n, mean over queries."""
    n = truth.shape[1]
    k = min(k, n)
    return float(np.mean([1 - comb(n - int(m), k) / comb(n, k) for m in truth.sum(axis=1)]))


def chance_precision(truth: Truth, k: int) -> float:
    """`precision` of a random order: m / n, less where k exceeds n."""
    return float(truth.mean() * min(k, truth.shape[1]) / k)


def chance_average_precision(truth: Truth) -> float:
    """`mean_average_precision` of a random order.

    Rank i holds a right item with probability m / n, and then (i - 1) (m - 1) / (n - 1) right ones are
    expected before it, so the expectation is the mean over ranks of (1 + (i - 1) (m - 1) / (n - 1)) / i.
    """
    n = truth.shape[1]
    rank = np.arange(1, n + 1)
    share_before = (truth.sum(axis=1)[:, None] - 1) / max(n - 1, 1)
    return float(((1 + (rank - 1) * share_before) / rank).mean())


def one_right(columns: npt.NDArray[np.integer[Any]], width: int) -> Truth:
    """Truth with exactly one right item a query: bool [queries, width], true at `columns`."""
    truth = np.zeros((len(columns), width), dtype=np.bool_)
    truth[np.arange(len(columns)), columns] = True
    return truth


def beside(measured: float, chance: float) -> dict[str, float]:
    """A figure and what chance scores, to four places, as result files hold them."""
    return {"measured": round(measured, 4), "chance": round(chance, 4)}
