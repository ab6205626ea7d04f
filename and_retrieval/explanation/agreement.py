"""Agreement of scores with what is true: average precision, scores that weigh the top, the best of several."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..numerics import Array, Bools, Doubles

Indices = npt.NDArray[np.int64]

POSITIVE_SHARE = 0.2  # of the clips, the strongest, that a unit is said to respond to
BEST_OF = 10  # random labels, the best of which a reliable label has to beat


def auprc(scores: Array, positives: Array) -> Doubles:
    """Average precision of every row: the mean over positives of the precision at their rank.

    Clips of equal score share the rank of the last of them, as in scikit-learn's `average_precision_score`.

    Args:
        scores: float [units, clips], finite.
        positives: bool [units, clips].

    Returns:
        float64 [units], 0..1; NaN without positives.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    last = _last_of_run(np.take_along_axis(scores, order, axis=1))
    right = np.take_along_axis(positives, order, axis=1)
    precision = np.take_along_axis(right.cumsum(axis=1), last, axis=1) / (last + 1)
    count = right.sum(axis=1)
    return np.asarray((right * precision).sum(axis=1) / np.where(count > 0, count, np.nan))


def expected_best(scores: Array, n: int = BEST_OF) -> Doubles:
    """Expected maximum of n of the scores of every row, drawn without replacement.

    The i-th smallest of N is the maximum of C(i - 1, n - 1) of the C(N, n) draws, so the expectation is
    exact. Of no more than n scores all but one are drawn, so that the best of a small bank can exceed it.

    Args:
        scores: float [units, labels].
        n: Number of draws.

    Returns:
        float64 [units].
    """
    total = scores.shape[1]
    n = max(min(n, total - 1), 1)
    i = np.arange(n, total)
    # C(i, n - 1) / C(i - 1, n - 1) = i / (i - n + 1), from C(n - 1, n - 1) = 1 on; logarithms do not overflow.
    log_draws = np.concatenate([[0.0], np.log(i / (i - n + 1)).cumsum()])
    weight = np.exp(log_draws - log_draws.max())
    return np.asarray(np.sort(scores, axis=1)[:, n - 1 :] @ (weight / weight.sum()))


def exponential_scores(values: Array) -> Doubles:
    """Ranks that count the more, the higher they are (Savage, 1956); float64 [units, clips].

    The i-th smallest of n gets the mean of the i-th smallest of n exponential draws, 1/n + ... + 1/(n-i+1):
    about -log of the share of clips that are as strong, less one. Equal values share the mean of theirs.
    """
    n = values.shape[1]
    # Sums of scores up to each rank, so that a run of ties gets its mean at once.
    total = np.concatenate([[0.0], (1 / np.arange(n, 0, -1)).cumsum().cumsum()])
    order = np.argsort(values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    last = _last_of_run(ranked)
    first = n - 1 - _last_of_run(ranked[:, ::-1])[:, ::-1]
    scores = np.empty(values.shape)
    np.put_along_axis(scores, order, (total[last + 1] - total[first]) / (last + 1 - first), axis=1)
    return scores


def strongest(values: Array) -> Bools:
    """The clips a unit responds to: its top `POSITIVE_SHARE`, with those as strong as the last of them.

    Clips at which the unit is at its weakest never count, so a unit that fires on three clips has three.
    Values and result are [units, clips].
    """
    place = values.shape[1] - max(int(np.ceil(POSITIVE_SHARE * values.shape[1])), 1)
    least = np.partition(values, place, axis=1)[:, place, None]
    return np.asarray((values >= least) & (values > values.min(axis=1, keepdims=True)))


def pool_auprc(pool: Doubles, positives: Bools) -> Doubles:
    """`auprc` of every random label for every unit, float64 [units, labels].

    Of every label only the ranks of the positives are looked at: sorted, the i-th has precision i / rank.
    """
    units, clips = positives.shape
    count = positives.sum(axis=1)
    # Rows of the positives first, and a row behind the last clip where a unit has fewer than others.
    width = max(int(count.max(initial=0)), 1)
    rows = np.argsort(~positives, axis=1, kind="stable")[:, :width]
    rows[np.arange(width) >= count[:, None]] = clips
    order = np.argsort(-pool, axis=1, kind="stable")
    last = _last_of_run(np.take_along_axis(pool, order, axis=1))
    rank = np.full((len(pool), clips + 1), np.inf, dtype=np.float32)
    np.put_along_axis(rank, order, (last + 1).astype(np.float32), axis=1)
    tied = (last != np.arange(clips)).any(axis=1)
    precision_sums = np.empty((units, len(pool)))
    for label in range(len(pool)):
        ranks = np.sort(rank[label][rows], axis=1)
        hits = _last_of_run(ranks) + 1 if tied[label] else np.arange(1, width + 1)
        precision_sums[:, label] = (hits / ranks).sum(axis=1)
    return np.asarray(precision_sums / np.where(count > 0, count, np.nan)[:, None])


def _last_of_run(ranked: Array) -> Indices:
    """For every place of sorted rows, the last place with the same value; int64, as `ranked`."""
    clips = ranked.shape[1]
    ends = np.ones(ranked.shape, dtype=np.bool_)
    ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    last = np.where(ends, np.arange(clips), clips)
    return np.asarray(np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1])
