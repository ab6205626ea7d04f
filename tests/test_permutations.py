"""Permutation tests against all permutations, written out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from and_retrieval.explanation import permutations as module
from and_retrieval.explanation.permutations import (
    GroupPermutations,
    Indices,
    q_values,
    sequential_counts,
    sequential_p_values,
)
from and_retrieval.numerics import Array, Bools, Doubles, Places


def standard(rows: int, clips: int, seed: int) -> Doubles:
    values = np.random.default_rng(seed).standard_normal((rows, clips))
    values -= values.mean(axis=1, keepdims=True)
    return np.asarray(values / values.std(axis=1, keepdims=True))


def exact(x: Doubles, y: Doubles, groups: Array) -> Doubles:
    """Two-sided p of every pair over all orders of the groups, for groups of 1 and of 2 clips."""
    sizes = np.bincount(groups)[groups]
    alone, pairs = np.flatnonzero(sizes == 1), np.flatnonzero(sizes == 2).reshape(-1, 2)
    exceeding, count = np.zeros((len(x), len(y))), 0
    least = np.abs(x @ y.T) - 1e-9
    for some in permutations(alone):
        for others in permutations(range(len(pairs))):
            order = np.arange(len(groups))
            order[alone] = some
            order[pairs.ravel()] = pairs[list(others)].ravel()
            exceeding += np.abs(x @ y[:, order].T) >= least
            count += 1
    return np.asarray(exceeding / count)


@pytest.mark.parametrize("direct", [0, 10**6], ids=["by Fourier transforms", "by matrix products"])
def test_two_sided_p_values_are_those_of_all_permutations(
    direct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DIRECT", direct)
    groups = np.array([0, 0, 1, 2, 2, 3, 4, 4, 5, 6])
    x, y = standard(6, 10, 0), standard(4, 10, 1)
    x[:2] = y[:2] + 0.3 * x[:2]
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    p_values = GroupPermutations(groups, 20_000).two_sided_p_values(x, y, x @ y.T / 10)
    want = exact(x, y, groups)
    np.testing.assert_allclose(p_values, want, atol=0.015)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 40)
    small = GroupPermutations(groups, 20_000).two_sided_p_values(x, y, x @ y.T / 10)
    np.testing.assert_allclose(small, want, atol=0.015)


@pytest.mark.parametrize("direct", [0, 10**6], ids=["by Fourier transforms", "by matrix products"])
def test_both_signs_count_the_same(direct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECT", direct)
    x, y = standard(3, 40, 2), standard(5, 40, 3)
    test = GroupPermutations(np.arange(40) // 2, 2000)
    np.testing.assert_array_equal(
        test.two_sided_p_values(x, y, x @ y.T / 40), test.two_sided_p_values(-x, y, -x @ y.T / 40)
    )


def test_what_cannot_be_dealt_out_is_not_significant() -> None:
    x = standard(3, 6, 4)
    for groups in (np.zeros(6, dtype=int), np.array([0, 1, 1, 2, 2, 2])):
        test = GroupPermutations(groups)
        np.testing.assert_array_equal(test.two_sided_p_values(x, x, x @ x.T / 6), 1)
        np.testing.assert_array_equal(test.p_values(x, x, np.ones(3)), 1)


class TestSequential:
    """Few permutations for all tests, and more for those that these leave undecided (Besag and Clifford, 1991)."""

    def test_what_is_rarely_exceeded_goes_on(self) -> None:
        rates, asked = np.array([0.5, 0.001, 0.02, 0.0]), []

        def exceeding(draws: range, tests: Places) -> Indices:
            asked.append((draws, tests.tolist()))
            return np.rint(rates[tests] * len(draws)).astype(np.int64)

        count, draws = sequential_counts(4, 2_000, 20_000, exceeding, np.array([True, True, True, False]))
        assert asked == [(range(2_000), [0, 1, 2, 3]), (range(2_000, 20_000), [1])]
        assert draws.tolist() == [2_000, 20_000, 2_000, 2_000]
        assert count.tolist() == [1_000, 20, 40, 0]

    def test_of_two_sides_the_rarer_counts(self) -> None:
        def exceeding(draws: range, tests: Places) -> Indices:
            return np.array([[len(draws), 30], [1, len(draws) - 30]])[:, tests]

        count, draws = sequential_counts(2, 100, 1_000, exceeding)
        assert draws.tolist() == [1_000, 100]
        assert count[:, 0].tolist() == [1_000, 2]

    @pytest.mark.parametrize("tests", [(6,), (3, 2)])
    def test_only_what_stands_out_and_is_not_significant_is_tested_again(
        self, tests: tuple[int, ...]
    ) -> None:
        exact, asked = np.array([0.5, 0.02, 0.002, 0.04, 0.6, np.nan]).reshape(tests), []

        def p_values(wanted: Bools, permutations: int) -> Doubles:
            asked.append((permutations, wanted.ravel().tolist()))
            return np.where(wanted, np.rint(exact * permutations) / permutations, -1)

        p_value = sequential_p_values(p_values, tests, 100, ((1_000, 5, 0.01), (10_000, 30, 0.05)))
        assert asked == [
            (100, [True] * 6),
            (1_000, [False, True, False, True, False, False]),
            (10_000, [False, False, False, False, False, False]),
        ]
        np.testing.assert_allclose(p_value.ravel(), [0.5, 0.02, 0.0, 0.04, 0.6, np.nan])

    def test_q_values_are_over_what_was_tested(self) -> None:
        p_value = np.array([[0.01, np.nan], [0.04, 0.03]])
        np.testing.assert_allclose(q_values(p_value), [[0.03, 1], [0.04, 0.04]])
        assert q_values(np.full(2, np.nan)).tolist() == [1, 1]
        assert q_values(np.zeros(0)).shape == (0,)
