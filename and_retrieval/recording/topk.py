"""Running top-k, bottom-k and statistics of every unit: plain arrays, fed batch by batch, mergeable.

Memory is O(units x k), whatever the number of clips. One clip beats another if it is stronger, or
equally strong and in a lower row. This order is total, so neither the order of the batches nor the
order in which partial results are merged changes the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..types import Floats, Ints, Kept, UnitStatistics

_ROW_BITS = 32
_LAST_ROW = 2**31 - 1
_NOTHING = np.iinfo(np.int64).min

_Ranks = npt.NDArray[np.int64]


class RunningTopK:
    """The k strongest (`largest`) or weakest clips of every unit among the clips so far.

    A clip is kept as one int64, its rank: the bits of the value, rearranged to sort as integers do, above
    the complement of its row. Comparing two ranks compares strength first and then row, so a single
    comparison decides whether a clip replaces another, and only units that gain a clip are touched.

    The simple way, sorting the kept clips and the batch by strength and row, takes 8 times as long (`bench.topk`), and
    3.6 times if only units that gain a clip are sorted. A stable sort by strength alone, which is correct only while
    rows ascend, takes 3.5 to 4.3 and 2 times as long.
    """

    def __init__(self, units: int, k: int, largest: bool) -> None:
        if k < 1 or units < 0:
            raise ValueError(f"RunningTopK needs k >= 1 and units >= 0, got k={k}, units={units}")
        self.units = units
        self.k = k
        self.largest = largest
        self._ranks: _Ranks = np.full((units, k), _NOTHING, dtype=np.int64)
        self._peaks: Floats = np.full((units, k), np.nan, dtype=np.float32)
        self._weakest = np.zeros(units, dtype=np.intp)
        self._bar: Floats = np.full(units, -np.inf, dtype=np.float32)
        self._highest_row = -1

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self._ranks.nbytes + self._peaks.nbytes + self._weakest.nbytes + self._bar.nbytes

    def update(self, rows: Ints, values: Floats, peaks: Floats) -> None:
        """Add a batch of clips.

        Args:
            rows: int32 [n], rows of the clips in the clip index, >= 0; each clip must be added only once.
            values: float32 [n, units], activations. NaN and infinities are never kept.
            peaks: float32 [n, units], time of the strongest response, in seconds from the clip's start.

        Raises:
            ValueError: The shapes do not match, or a row is negative.
        """
        shape = (len(rows), self.units)
        if values.shape != shape or peaks.shape != shape:
            raise ValueError(
                f"expected values and peaks of shape {shape}, got {values.shape} and {peaks.shape}"
            )
        if len(rows) and int(np.min(rows)) < 0:
            raise ValueError(f"rows must be >= 0, got {int(np.min(rows))}")
        for row, value, peak in zip(rows, values, peaks, strict=True):
            strength = self._strength(value)
            # A later row loses every tie, so the many zeros of rectified units cost nothing.
            later = int(row) > self._highest_row
            candidates = np.flatnonzero(strength > self._bar if later else strength >= self._bar)
            candidates = candidates[np.isfinite(strength[candidates])]
            self._insert(candidates, _rank(strength[candidates], row), peak[candidates])
            self._highest_row = max(self._highest_row, int(row))

    def merge(self, other: RunningTopK) -> None:
        """Add the clips that `other` kept; it must have been fed other clips.

        Raises:
            ValueError: The two differ in `units`, `k` or `largest`.
        """
        expected, given = (self.units, self.k, self.largest), (other.units, other.k, other.largest)
        if given != expected:
            raise ValueError(f"cannot merge (units, k, largest) = {given} into {expected}")
        all_units = np.arange(self.units)
        for slot in range(self.k):
            self._insert(all_units, other._ranks[:, slot], other._peaks[:, slot])
        self._highest_row = max(self._highest_row, other._highest_row)

    @classmethod
    def of(cls, kept: Kept, largest: bool) -> RunningTopK:
        """The state in which `kept` gives that."""
        units, k = kept.rows.shape
        running = cls(units, k, largest)
        there = kept.rows >= 0
        strength = running._strength(np.where(there, kept.values, np.float32(0)))
        running._ranks = np.where(there, _rank(strength, kept.rows), _NOTHING)
        running._peaks = np.array(kept.peaks)
        running._weakest = running._ranks.argmin(axis=1)
        weakest = running._ranks.min(axis=1)
        running._bar = np.where(weakest == _NOTHING, np.float32(-np.inf), _strength_of(weakest))
        running._highest_row = int(kept.rows.max(initial=-1))
        return running

    def kept(self) -> Kept:
        """The kept clips, strongest (weakest) first, padded with -1 and NaN."""
        order = np.argsort(self._ranks, axis=1)[:, ::-1]
        ranks = np.take_along_axis(self._ranks, order, axis=1)
        peaks = np.take_along_axis(self._peaks, order, axis=1)
        missing = ranks == _NOTHING
        rows = (_LAST_ROW - (ranks & _LAST_ROW)).astype(np.int32)
        values = self._strength(_strength_of(ranks))
        return Kept(
            rows=np.where(missing, np.int32(-1), rows),
            values=np.where(missing, np.float32(np.nan), values),
            peaks=np.where(missing, np.float32(np.nan), peaks),
        )

    def _strength(self, values: Floats) -> Floats:
        """Strength of values, and values of strength, float32; adding zero makes -0.0 tie with 0.0."""
        return (values if self.largest else -values) + np.float32(0)

    def _insert(self, units: npt.NDArray[np.intp], ranks: _Ranks, peaks: Floats) -> None:
        """Replace the weakest clip of every unit by the given clip, if that outranks it."""
        better = ranks > self._ranks[units, self._weakest[units]]
        units = units[better]
        if not units.size:
            return
        slots = self._weakest[units]
        self._ranks[units, slots] = ranks[better]
        self._peaks[units, slots] = peaks[better]
        kept = self._ranks[units]
        weakest = kept.argmin(axis=1)
        self._weakest[units] = weakest
        ranks = kept[np.arange(len(units)), weakest]
        self._bar[units] = np.where(ranks == _NOTHING, np.float32(-np.inf), _strength_of(ranks))


def _rank(strength: Floats, row: int | np.integer | Ints) -> _Ranks:
    bits = np.ascontiguousarray(strength, dtype=np.float32).view(np.int32)
    ordered = (bits ^ ((bits >> 31) & _LAST_ROW)).astype(np.int64)
    return (ordered << _ROW_BITS) | (_LAST_ROW - np.asarray(row, np.int64))


def _strength_of(ranks: _Ranks) -> Floats:
    ordered = (ranks >> _ROW_BITS).astype(np.int32)
    return (ordered ^ ((ordered >> 31) & _LAST_ROW)).view(np.float32)


class RunningStatistics:
    """Mean, standard deviation, lowest and highest activation of every unit, in float64.

    Batches are combined by the parallel rule of Chan, Golub and LeVeque (1979). A NaN or infinite
    activation is left out of its unit's statistics and counted in `ignored`.

    Attributes:
        units: Number of units.
        clips: Number of clips seen.
        ignored: int64 [units], activations left out.
    """

    def __init__(self, units: int) -> None:
        self.units = units
        self.clips = 0
        self.ignored = np.zeros(units, dtype=np.int64)
        self._mean = np.zeros(units)
        self._squares = np.zeros(units)
        self._low = np.full(units, np.inf)
        self._high = np.full(units, -np.inf)

    def update(self, values: Floats) -> None:
        """Add activations, float32 [n, units].

        Raises:
            ValueError: `values` has another number of units.
        """
        if values.ndim != 2 or values.shape[1] != self.units:
            raise ValueError(f"expected values of shape (n, {self.units}), got {values.shape}")
        batch = RunningStatistics(self.units)
        batch.clips = len(values)
        finite = np.isfinite(values)
        batch.ignored = len(values) - finite.sum(axis=0)
        low = high = values
        if batch.ignored.any():
            low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
            values = np.where(finite, values, 0)
        count = batch._counts()
        x = values.astype(np.float64)
        batch._mean = x.sum(axis=0) / np.maximum(count, 1)
        x -= batch._mean
        x *= finite
        batch._squares = np.einsum("nu,nu->u", x, x)
        batch._low = low.min(axis=0, initial=np.inf)
        batch._high = high.max(axis=0, initial=-np.inf)
        self.merge(batch)

    def merge(self, other: RunningStatistics) -> None:
        """Add the statistics of other clips.

        Raises:
            ValueError: `other` has another number of units.
        """
        if self.units != other.units:
            raise ValueError(f"cannot merge statistics of {other.units} units into {self.units}")
        count, other_count = self._counts(), other._counts()
        total = np.maximum(count + other_count, 1)
        difference = other._mean - self._mean
        self._mean = self._mean + difference * (other_count / total)
        self._squares = self._squares + other._squares + difference**2 * (count * (other_count / total))
        self._low = np.minimum(self._low, other._low)
        self._high = np.maximum(self._high, other._high)
        self.ignored = self.ignored + other.ignored
        self.clips += other.clips

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that `of` needs to go on: `clips` int64 [1], `ignored` int64 [units], the rest float64 [units]."""
        return {
            "clips": np.array([self.clips]),
            "ignored": self.ignored,
            "mean": self._mean,
            "squares": self._squares,
            "low": self._low,
            "high": self._high,
        }

    @classmethod
    def of(cls, state: Mapping[str, npt.NDArray[Any]]) -> RunningStatistics:
        """The statistics whose `state` that is."""
        running = cls(len(state["mean"]))
        running.clips, running.ignored = int(state["clips"][0]), np.array(state["ignored"])
        running._mean, running._squares = np.array(state["mean"]), np.array(state["squares"])
        running._low, running._high = np.array(state["low"]), np.array(state["high"])
        return running

    def statistics(self) -> UnitStatistics:
        """The statistics; `std` is the population's (divides by n); NaN for a unit without any finite activation."""
        count = self._counts()
        seen = count > 0
        std = np.sqrt(self._squares / np.maximum(count, 1))
        columns = (self._mean, std, self._low, self._high)
        mean, std, low, high = (np.where(seen, column, np.nan).astype(np.float32) for column in columns)
        return UnitStatistics(count=self.clips, mean=mean, std=std, low=low, high=high)

    def _counts(self) -> npt.NDArray[np.int64]:
        return self.clips - self.ignored
