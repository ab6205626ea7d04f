"""Permutation tests against all permutations, written out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from and_retrieval.explanation import permutations as module
from and_retrieval.explanation.permutations import GroupPermutations
from and_retrieval.numerics import Array, Doubles


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
