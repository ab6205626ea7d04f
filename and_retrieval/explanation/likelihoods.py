"""WPMI and soft-WPMI for all units of a layer: sums of logarithms over top clips, less a prior."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..numerics import Array, Bools, Doubles, chunks
from ..types import Floats, Ints
from .row_sums import Places, places, row_sums

Prior = Literal["units", "clips", "mixed"]
MIXED_AT = 10  # units at which both priors of "mixed" count the same
LEAST_PROBABILITY = 1e-7  # added inside logarithms
TABLE_BYTES = 16 * 2**20  # of the logarithms held at a time
ROWS = 64  # that are added up in float32 before they are added in float64


def soft_wpmi(
    similarity: Array,
    top_rows: Ints,
    *,
    temperature: float = 0.1,
    prior_weight: float = 1.0,
    p_start: float = 0.998,
    p_end: float = 0.97,
    prior: Prior = "clips",
    layer_rows: Ints | None = None,
    usual: Array | None = None,
) -> Floats:
    """log p(concept | top clips) - prior_weight * log p(concept), as float32 [units, concepts].

    With s = softmax over concepts of similarity / temperature, the clip of rank i belongs to the
    unit's top clips with probability p_i, which falls linearly from `p_start` towards `p_end`, and
    log p(concept | top clips) = sum over ranks of log(1 + p_i (s - 1)).

    log p(concept) is taken over `prior`:
        "units": the log of the mean likelihood over the units of `layer_rows` (by default those given),
            as in CLIP-Dissect. At weight 1 one unit alone, or units that are alike, cancel their own score.
        "clips": the mean log-likelihood of k clips drawn at random, sum over ranks of the mean over
            clips of log(1 + p_i (s - 1)). It does not depend on the other units, and at weight 1
            clips picked without regard to a concept score 0 for it on average, however common. The clips are
            those of `usual`, float [n, concepts], by default all of `similarity`.
        "mixed": of U units, U / (U + `MIXED_AT`) of the first and the rest of the second, so that a layer
            of a single unit has a prior too.

    The log of the mean likelihood over random clips would be the other choice. It charges a concept
    for each top clip that lacks it far more than the mean of the log does: for units made of an
    ESC-10 class and noise (200 clips, bank esc50, k 20) 77 % got their class, against 97-99 % with the
    mean of the log and 17-22 % with "units".
    """
    k = top_rows.shape[1]
    p = p_start - np.arange(k) / max(k, 1) * (p_start - p_end)
    return _scores(
        *_probabilities(similarity, usual, temperature), top_rows, p, prior_weight, prior, layer_rows
    )


def wpmi(
    similarity: Array,
    top_rows: Ints,
    *,
    temperature: float = 0.5,
    prior_weight: float = 0.6,
    prior: Prior = "clips",
    layer_rows: Ints | None = None,
    usual: Array | None = None,
) -> Floats:
    """`soft_wpmi` with every top clip taken for certain (p_i = 1): sum of log s, less the prior."""
    certain = np.ones(top_rows.shape[1])
    both = _probabilities(similarity, usual, temperature)
    return _scores(*both, top_rows, certain, prior_weight, prior, layer_rows)


class _Probabilities:
    """softmax over concepts of similarity / temperature, computed for some concepts at a time.

    Similarities of many clips and concepts lie on disk, so their probabilities must not fill memory.
    """

    def __init__(self, similarity: Array, temperature: float) -> None:
        self._similarity, self._temperature = similarity, temperature
        self.clips, self.concepts = similarity.shape
        self._largest, self._total = np.empty((2, self.clips, 1))
        for part in chunks(*similarity.shape):
            x = similarity[part].astype(np.float64) / temperature
            self._largest[part] = x.max(axis=1, keepdims=True)
            self._total[part] = np.exp(x - self._largest[part]).sum(axis=1, keepdims=True)

    def of(self, concepts: slice) -> Floats:
        """The probabilities of some concepts, float32 [clips, these]."""
        probabilities = np.empty((self.clips, len(range(self.concepts)[concepts])), np.float32)
        for part in chunks(*probabilities.shape):
            x = self._similarity[part, concepts].astype(np.float64) / self._temperature
            probabilities[part] = np.exp(x - self._largest[part]) / self._total[part]
        return probabilities


def _probabilities(
    similarity: Array, usual: Array | None, temperature: float
) -> tuple[_Probabilities, _Probabilities]:
    """Probabilities of concepts for the clips that are scored, and for those that random clips are drawn from."""
    s = _Probabilities(similarity, temperature)
    return s, s if usual is None else _Probabilities(usual, temperature)


def _scores(
    s: _Probabilities,
    usual: _Probabilities,
    top_rows: Ints,
    p: Doubles,
    prior_weight: float,
    prior: Prior,
    layer_rows: Ints | None,
) -> Floats:
    """The likelihood of all units less its weighted prior, see `soft_wpmi`; float32 [units, concepts].

    The logarithms are computed once for every clip and rank, not for every unit.

    Args:
        s: Of the clips of which `top_rows` are rows.
        usual: Of those that the prior "clips" draws from.
        top_rows: int32 [units, k], -1 where a clip is missing.
        p: How surely the clip of each rank belongs to the unit's top clips, float64 [k].
        prior_weight, prior: See `soft_wpmi`.
        layer_rows: Top rows of the units that the prior "units" is of; by default those given.
    """
    of_layer = top_rows if layer_rows is None else layer_rows
    share = {"units": 1.0, "clips": 0.0, "mixed": len(of_layer) / (len(of_layer) + MIXED_AT)}[prior]
    logarithms = _Logarithms(p, s.concepts)
    top_places, layer_places = (logarithms.places(rows, s.clips) for rows in (top_rows, of_layer))
    centre = logarithms.centre
    scores = np.empty((len(top_rows), s.concepts), dtype=np.float32)
    for part in chunks(s.concepts, logarithms.count * (s.clips + 1), TABLE_BYTES, itemsize=4):
        logs = logarithms.table(s.of(part))
        likelihood = _likelihood(logs, top_places, scores[:, part])
        prior_row, prior_of_rank = np.zeros(logs.shape[1]), np.zeros((len(p), logs.shape[1]))
        if share > 0:
            layer = likelihood
            if of_layer is not top_rows:
                layer = _likelihood(logs, layer_places, np.empty((len(of_layer), logs.shape[1]), np.float32))
            prior_row = prior_weight * share * _log_mean(layer, of_layer >= 0, centre)
        if share < 1:
            random = logs if usual is s else logarithms.table(usual.of(part))
            means = _means(random, usual.clips)[logarithms.rank] + centre[:, None]
            prior_of_rank = prior_weight * (1 - share) * means
        _subtract(likelihood, prior_row, prior_of_rank - centre[:, None], top_rows >= 0)
    return scores


class _Logarithms:
    """log(1 + p (s - 1)) for every clip and rank, less what it is where no concept is more probable than another.

    So the logarithms are small, and so is the rounding of their sums. Equal values of p are computed once.

    Attributes:
        count: How many different values of p there are.
        rank: Which of them is that of each rank, int [k].
        centre: What is taken away at each rank, float64 [k].
    """

    def __init__(self, p: Doubles, concepts: int) -> None:
        self._p, rank = np.unique(p, return_inverse=True)
        self._usually = 1 - self._p + LEAST_PROBABILITY + self._p / concepts
        self._room = np.empty(0, np.float32)
        self.count = len(self._p)
        self.rank = rank.reshape(-1)
        self.centre = np.log(self._usually)[self.rank]

    def table(self, s: Floats) -> Floats:
        """The logarithms, float32 [count * (clips + 1), concepts]; 0 after the last clip for one that is missing.

        The next table takes its room.

        Args:
            s: Probabilities, float32 [clips, concepts].
        """
        size = self.count * (len(s) + 1) * s.shape[1]
        if size > len(self._room):
            self._room = np.empty(size, np.float32)
        tables = self._room[:size].reshape(self.count, len(s) + 1, s.shape[1])
        s = np.ascontiguousarray(s)
        for p, usually, table in zip(self._p, self._usually, tables, strict=True):
            logs = table[:-1]
            np.multiply(s, np.float32(p / usually), out=logs)
            logs += np.float32((1 - p + LEAST_PROBABILITY) / usually)
            np.log(logs, out=logs)
            table[-1] = 0
        return tables.reshape(-1, s.shape[1])

    def places(self, rows: Ints, clips: int) -> Places:
        """Where the units' clips are in a table, int [units, k]."""
        return places(rows, clips, self.rank * (clips + 1))


def _means(logs: Floats, clips: int) -> Doubles:
    """Means over clips of a `_log_table`, float64 [certainties, concepts]."""
    of_clips = logs.reshape(-1, clips + 1, logs.shape[1])
    blocks = np.add.reduceat(of_clips, np.arange(0, clips, ROWS), axis=1)  # the missing clip adds 0
    return np.asarray(blocks.sum(axis=1, dtype=np.float64) / clips)


def _likelihood(logs: Floats, of: Places, likelihood: Floats) -> Floats:
    """Write the sums of logarithms of every unit into `likelihood`, float32 [units, concepts], and return it."""
    for part in chunks(len(of), max(logs.shape[1], of.shape[1])):
        likelihood[part] = row_sums(logs, of[part])
    return likelihood


def _subtract(likelihood: Floats, row: Doubles, of_rank: Doubles, present: Bools) -> None:
    """Subtract from every unit `row` and the sum of `of_rank` over the ranks at which it has a clip.

    Args:
        likelihood: float32 [units, concepts]; is changed.
        row, of_rank: float64 [concepts], float64 [k, concepts].
        present: bool [units, k].
    """
    whole = (row + of_rank.sum(axis=0)).astype(np.float32)
    for part in chunks(len(likelihood), likelihood.shape[1]):
        incomplete = np.flatnonzero(~present[part].all(axis=1))
        left = likelihood[part][incomplete] - (row + present[part][incomplete] @ of_rank)
        likelihood[part] -= whole
        likelihood[part][incomplete] = left


def _log_mean(likelihood: Floats, present: Bools, centre: Doubles) -> Doubles:
    """Log of the mean of e to the likelihood over units that have top clips, float64 [concepts]; 0 without any.

    Args:
        likelihood: Relative to `centre`, float32 [units, concepts].
        present: bool [units, k].
        centre: float64 [k].
    """
    import torch  # slow to import

    occupied: Bools = np.any(present, axis=1)
    if not occupied.any():
        return np.zeros(likelihood.shape[1])
    total = np.full(likelihood.shape[1], -np.inf)
    for part in chunks(len(likelihood), likelihood.shape[1]):
        block = likelihood[part]
        if not present[part].all():
            missing = ~present[part][occupied[part]]
            block = block[occupied[part]] - (missing @ centre).astype(np.float32)[:, None]
        total = np.logaddexp(total, torch.logsumexp(torch.from_numpy(block), 0).numpy())
    return np.asarray(total + centre.sum() - np.log(np.count_nonzero(occupied)))
