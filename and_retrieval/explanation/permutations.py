"""Permutation tests of correlations in which clips of one file stay together, for thousands of units at once.

Windows of one file are dependent: they share a recording, a place, often a sound. A test that deals them out one by
one takes them for more evidence than they are. So whole groups of clips are dealt out, to groups of as many clips,
since only these are interchangeable.

Every cyclic shift of a random permutation is a random permutation too, and one Fourier transform gives the sums of
products for all shifts. So each order that is drawn stands for as many permutations as there are groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported when they are used

from ..numerics import Array, Bools, Doubles, Places, chunks
from ..types import Floats

Indices = npt.NDArray[np.int64]
Spectra = npt.NDArray[np.complex64]

PERMUTATIONS = 20_000  # so that 0.1 % of the tests are enough for a q-value of 0.05, whatever their number
FIRST_PERMUTATIONS = 2_000  # for every test; only those rarely exceeded go on
EXCEEDED = 20  # times in the first permutations: that p-value is exact enough
CLEAR = 0.01  # q-value after the first permutations up to which a test has passed, and needs no others
Look = tuple[int, int, float]
"""Permutations of the tests that the look before exceeds fewer times than that, with a q-value above that."""
THOROUGH: tuple[Look, ...] = ((PERMUTATIONS, EXCEEDED, CLEAR),)
ROUNDING = 1e-9  # correlations closer than this are equal
SUMMED = 1e-5  # the same for permuted clips, whose sums are float32
DIRECT = 100  # clips per size of group below which matrix products are faster than Fourier transforms
BLOCK_BYTES = 2**19  # of one working array, so that it stays in the processor's cache


class GroupPermutations:
    """Permutations of the clips, the same for every unit.

    Groups of one size are shifted as wholes among themselves. A group whose size no other has stays where it
    is, which costs power only; where there is no other at all every p-value is 1.
    """

    def __init__(self, groups: Array, permutations: int = PERMUTATIONS, seed: int = 0) -> None:
        """Prepare permutations, the same for the same seed.

        Args:
            groups: int [clips], which group (file) a clip is of.
            permutations: Number of permutations, about; the smallest p-value is its inverse.
            seed: Of the permutations.
        """
        self.strata = strata_of(groups)
        self.width = max((len(rows) for rows in self.strata), default=1)
        self.draws = -(-permutations // self.width)
        self.first = min(-(-FIRST_PERMUTATIONS // self.width), self.draws)
        self.seed = seed

    def p_values(
        self, activation: Doubles, prediction: Doubles, correlation: Doubles, thorough: bool | Bools = True
    ) -> Doubles:
        """One-sided p-values of units, each against a prediction of its own.

        p = (1 + permutations that correlate at least as well) / (1 + permutations). Units exceeded often in the
        first permutations stop there (after Besag and Clifford, 1991).

        Args:
            activation: float64 [units, clips], rows of mean 0 and standard deviation 1.
            prediction: float64 [units, clips], likewise.
            correlation: float64 [units], Pearson's of the two.
            thorough: Whether units go on after the first permutations; one for all, or bool [units].

        Returns:
            float64 [units], above 0, at most 1.
        """
        if self.width == 1:
            return np.ones(len(correlation))
        x, y = activation.astype(np.float32), prediction.astype(np.float32)

        def exceeding(draws: range, units: Places) -> Indices:
            return self._exceeding(draws, x[units], y[units], correlation[units])

        count, draws = sequential_counts(len(correlation), self.first, self.draws, exceeding, thorough)
        return np.asarray((1 + count) / (1 + draws * self.width))

    def two_sided_p_values(self, activation: Doubles, quality: Doubles, correlation: Doubles) -> Doubles:
        """Two-sided p-values of every unit against every quality, (1 + exceeding) / (1 + permutations).

        All permutations are made for every pair.

        Args:
            activation: float64 [units, clips], rows of mean 0 and standard deviation 1.
            quality: float64 [qualities, clips], likewise.
            correlation: float64 [units, qualities], Pearson's of the two.

        Returns:
            float64 [units, qualities], above 0, at most 1.
        """
        if self.width == 1:
            return np.ones(correlation.shape)
        clips = activation.shape[1]
        least = ((np.abs(correlation) - SUMMED) * clips).astype(np.float32)
        x, y = activation.astype(np.float32), quality.astype(np.float32)
        if clips < DIRECT * len(self.strata):
            exceeding = self._exceeding_directly(x, y, least)
        else:
            exceeding = np.zeros(correlation.shape, dtype=np.int64)
            for part in chunks(len(x), max(self.width * len(y), clips), BLOCK_BYTES):
                for sums in self._sums(range(self.draws), x[part], y, _every_pair):
                    exceeding[part] += (np.abs(sums) >= least[part]).sum(axis=0)
        return np.asarray((1 + exceeding) / (1 + self.draws * self.width))

    def _exceeding_directly(self, x: Floats, y: Floats, least: Floats) -> npt.NDArray[np.int64]:
        """In how many permutations each pair of rows reaches `least`, by matrix products; int64, as `least`."""
        rng = np.random.default_rng(self.seed)
        exceeding = np.zeros(least.shape, dtype=np.int64)
        for batch in chunks(self.draws * self.width, y.size, BLOCK_BYTES):
            order = dealt_orders(self.strata, batch.stop - batch.start, rng)
            shuffled = y[:, order].reshape(-1, y.shape[1])  # a row per row of y and permutation
            for part in chunks(len(x), len(shuffled), BLOCK_BYTES):
                sums = (x[part] @ shuffled.T).reshape(-1, len(y), len(order))
                exceeding[part] += (np.abs(sums) >= least[part, :, None]).sum(axis=2)
        return exceeding

    def _exceeding(
        self, draws: range, activation: Floats, prediction: Floats, correlation: Doubles
    ) -> npt.NDArray[np.int64]:
        """In how many permutations each unit correlates at least as well, int64 [units]."""
        least = ((correlation - SUMMED) * activation.shape[1]).astype(np.float32)
        exceeding = np.zeros(len(least), dtype=np.int64)
        for part in chunks(len(least), activation.shape[1], BLOCK_BYTES):
            for sums in self._sums(draws, activation[part], prediction[part], _row_by_row):
                exceeding[part] += (sums >= least[part]).sum(axis=0)
        return exceeding

    def _sums(
        self, draws: Iterable[int], x: Floats, y: Floats, join: Callable[[Spectra, Spectra], Spectra]
    ) -> Iterator[Floats]:
        """Sums over clips of x times permuted y, per draw float32 [permutations, ...] as `join` pairs the rows."""
        x, y = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)
        spectra = [
            scipy.fft.rfft(x[rows], axis=0) for rows in self.strata
        ]  # [frequencies, members, rows of x]
        for draw in draws:
            rng = np.random.default_rng([self.seed, draw])
            total: Floats | float = 0.0
            for rows, spectrum in zip(self.strata, spectra, strict=True):
                shuffled = scipy.fft.rfft(y[rng.permutation(rows)], axis=0, overwrite_x=True)
                np.conjugate(shuffled, out=shuffled)
                shifted = scipy.fft.irfft(join(spectrum, shuffled), len(rows), axis=0, overwrite_x=True)
                whole = len(rows) == self.width
                total = total + (shifted if whole else shifted[rng.integers(len(rows), size=self.width)])
            yield np.asarray(total, np.float32)


def _row_by_row(x: Spectra, y: Spectra) -> Spectra:
    """Products of two spectra [frequencies, members, rows], summed over the members of a group."""
    products = np.multiply(x, y, out=y)
    return products[:, 0] if products.shape[1] == 1 else np.asarray(products.sum(axis=1))


def _every_pair(x: Spectra, y: Spectra) -> Spectra:
    """The same of every row of x with every row of y, [frequencies, rows of x, rows of y]."""
    return np.asarray(x.transpose(0, 2, 1) @ y)


def q_values(p_value: Doubles) -> Doubles:
    """Benjamini and Hochberg's (1995) q-values over the tests that were made, 1 for the others.

    Args:
        p_value: float64, of any shape; NaN where there is nothing to test.
    """
    tested = np.isfinite(p_value)
    q_value = np.ones(p_value.shape)
    q_value[tested] = scipy.stats.false_discovery_control(p_value[tested])
    return q_value


def sequential_counts(
    tests: int,
    first: int,
    draws: int,
    exceeding: Callable[[range, Places], Indices],
    thorough: bool | Bools = True,
) -> tuple[Indices, Indices]:
    """How often tests are exceeded, and in how many draws; those exceeded `EXCEEDED` times in the first stop there.

    A p-value of such a test is exact enough (Besag and Clifford, "Sequential Monte Carlo p-values", 1991).

    Args:
        tests: Their number.
        first: Number of draws that every test gets.
        draws: Number of draws that the others get in all.
        exceeding: Numbers of draws, ascending from call to call, and of tests -> how often each is exceeded, int64
            [tests], or [2, tests] of two-sided tests, the rarer side of which counts.
        thorough: Which tests may go on after the first draws; one for all, or bool [tests].
    """
    count = exceeding(range(first), np.arange(tests))
    dealt = np.full(tests, first)
    rare = np.flatnonzero((np.atleast_2d(count).min(axis=0) < EXCEEDED) & thorough)
    count[..., rare] += exceeding(range(first, draws), rare)
    dealt[rare] = draws
    return count, dealt


def sequential_p_values(
    p_values: Callable[[Bools, int], Doubles],
    shape: tuple[int, ...],
    first: int,
    later: Sequence[Look] = THOROUGH,
    q_values: Callable[[Doubles], Doubles] = q_values,
) -> Doubles:
    """p-values of many tests; only those that stand out but are not yet significant get more permutations.

    Where many tests pass, few permutations are enough for a small q-value, an upper bound of what more would give;
    where few do, few need more.

    Args:
        p_values: Which tests are wanted, bool as `shape`, and a number of permutations -> p-values, float64 as
            `shape`, NaN where there is nothing to test. What it gives for other tests does not count.
        shape: Of the tests.
        first: Number of permutations that every test gets.
        later: What the tests get after that, which the look before left undecided.
        q_values: Of p-values, over the tests that are corrected for together.
    """
    p_value, before = p_values(np.ones(shape, np.bool_), first), first
    for permutations, fewer, above in later:
        wanted: Bools = (p_value < fewer / before) & (q_values(p_value) > above)
        p_value, before = np.where(wanted, p_values(wanted, permutations), p_value), permutations
    return p_value


def strata_of(groups: Array) -> list[Indices]:
    """Rows of the clips, int64 [groups, clips of each], for every size of group; `groups` is int [clips]."""
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(sizes)[:-1])
    return [
        np.stack([rows for rows, size in zip(members, sizes, strict=True) if size == same])
        for same in np.unique(sizes)
    ]


def dealt_orders(strata: Sequence[Indices], count: int, rng: np.random.Generator) -> Indices:
    """Random orders of the clips that deal whole groups out to groups of as many clips, int64 [count, clips].

    Args:
        strata: From `strata_of`.
        count: Number of orders.
        rng: Draws them.
    """
    order = np.empty((count, sum(rows.size for rows in strata)), np.int64)
    for rows in strata:
        dealt = rng.permuted(np.tile(np.arange(len(rows)), (count, 1)), axis=1)
        order[:, rows.ravel()] = rows[dealt].reshape(count, -1)
    return order
