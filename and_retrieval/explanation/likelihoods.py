"""WPMI and soft-WPMI for all units of a layer: sums of logarithms over top clips, less a prior."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from ..numerics import Doubles, chunks
from ..types import Floats, Ints

Prior = Literal["units", "clips", "mixed"]
MIXED_AT = 10  # units at which both priors of "mixed" count the same
LEAST_PROBABILITY = 1e-7  # added inside logarithms
TABLE_BYTES = 8 * 2**20  # of the logarithms held at a time


def wpmi_scores(
    s: Floats,
    usual: Floats,
    top_rows: Ints,
    p: Doubles,
    prior_weight: float,
    prior: Prior,
    layer_rows: Ints | None,
) -> Floats:
    """The likelihood of all units less its weighted prior, see `scores.soft_wpmi`; float32 [units, concepts].

    The logarithms are computed once for every clip and rank, not for every unit.

    Args:
        s: Probabilities, float32 [clips, concepts]; `top_rows` are rows of it.
        usual: Those of the clips that the prior "clips" draws from.
        top_rows: int32 [units, k], -1 where a clip is missing.
        p: How surely the clip of each rank belongs to the unit's top clips, float64 [k].
        prior_weight, prior: See `scores.soft_wpmi`.
        layer_rows: Top rows of the units that the prior "units" is of; by default those given.
    """
    of_layer = top_rows if layer_rows is None else layer_rows
    share = {"units": 1.0, "clips": 0.0, "mixed": len(of_layer) / (len(of_layer) + MIXED_AT)}[prior]
    certainties, rank = np.unique(p, return_inverse=True)
    scores = np.empty((len(top_rows), s.shape[1]), dtype=np.float32)
    for part in chunks(s.shape[1], len(certainties) * len(s), TABLE_BYTES, itemsize=4):
        logs, means = _log_table(s[:, part], certainties)
        _likelihood(logs, means[rank], top_rows, rank, scores[:, part])
        of_random = means if usual is s else _log_table(usual[:, part], certainties)[1]
        log_prior = np.zeros(logs.shape[2])
        if share > 0:
            likelihood = scores[:, part]
            if of_layer is not top_rows:
                likelihood = np.empty((len(of_layer), logs.shape[2]), np.float32)
                _likelihood(logs, means[rank], of_layer, rank, likelihood)
            log_prior = share * _log_mean(likelihood, np.any(of_layer >= 0, axis=1))
        for units in chunks(len(top_rows), logs.shape[2]):
            of_clips = (1 - share) * ((top_rows[units] >= 0) @ of_random[rank])
            scores[units, part] -= prior_weight * (log_prior + of_clips)
    return scores


def _log_table(s: Floats, certainties: Doubles) -> tuple[Floats, Doubles]:
    """log(1 + p (s - 1)) for every p, less its mean over clips, and that mean.

    Returns:
        float32 [certainties, clips + 1, concepts], in which the last clip stands for none and is 0; and float64
        [certainties, concepts]. Without their mean, the logarithms are small, and so is the rounding of their sums.
    """
    logs = np.zeros((len(certainties), len(s) + 1, s.shape[1]), np.float32)
    means = np.zeros((len(certainties), s.shape[1]))
    for place, p in enumerate(certainties):
        table = logs[place, :-1]
        np.multiply(s, np.float32(p), out=table)
        table += np.float32(1 - p + LEAST_PROBABILITY)
        np.log(table, out=table)
        means[place] = table.mean(axis=0, dtype=np.float64)
        means[place] = means[place].astype(np.float32)  # what is taken away is what is given back
        table -= means[place].astype(np.float32)
    return logs, means


def row_sums(tables: Floats, rows: Ints, table: npt.NDArray[np.intp]) -> Floats:
    """For every unit the sum of `tables[table[i], rows[i]]` over ranks i, float32 [units, concepts].

    Args:
        tables: float32 [tables, clips + 1, concepts], in which the last clip stands for -1.
        rows: int32 [units, k], -1 where a clip is missing.
        table: int [k], the table of every rank.
    """
    import torch

    size = tables.shape[1]
    places = np.where(rows >= 0, rows, size - 1) + table.reshape(-1) * size
    flat = torch.from_numpy(tables.reshape(-1, tables.shape[2]))
    total: Floats = torch.nn.functional.embedding_bag(torch.from_numpy(places), flat, mode="sum").numpy()
    return total


def _likelihood(
    logs: Floats, means: Doubles, rows: Ints, rank: npt.NDArray[np.intp], likelihood: Floats
) -> None:
    """Write the sums of logarithms of every unit into `likelihood`, float32 [units, concepts].

    Args:
        logs: Less their means, see `_log_table`.
        means: Those means for every rank, float64 [k, concepts].
        rows, rank: See `row_sums`.
        likelihood: Is written to.
    """
    for part in chunks(len(rows), logs.shape[2]):
        likelihood[part] = row_sums(logs, rows[part], rank) + (rows[part] >= 0) @ means


def _log_mean(likelihood: Floats, present: npt.NDArray[np.bool_]) -> Doubles:
    """Log of the mean of e to the likelihood over units that have top clips, float64 [concepts]; 0 without any."""
    total = np.zeros(likelihood.shape[1])
    if not present.any():
        return total
    highest = likelihood.max(axis=0, where=present[:, None], initial=-np.inf)
    for part in chunks(len(likelihood), likelihood.shape[1]):
        total += np.exp(likelihood[part][present[part]] - highest).sum(axis=0, dtype=np.float64)
    return np.asarray(highest + np.log(total / np.count_nonzero(present)))
