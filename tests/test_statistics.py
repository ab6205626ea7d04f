"""Intervals, diversity and counterparts, against formulas and brute force."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval.comparison.statistics import (
    Interval,
    bootstrap,
    distinct_among,
    effective_number,
    mutual,
    nearest,
    principal,
    share,
    share_alike,
)
from and_retrieval.types import Floats


def unit_rows(n: int, dim: int = 5, seed: int = 0) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_the_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        interval = bootstrap(random.normal(0.3, 1, 60), seed=seed, draws=300)
        assert interval is not None
        inside += interval.low <= 0.3 <= interval.high
    assert 0.9 <= inside / 200 <= 0.99


def test_nan_is_left_out_and_few_units_have_no_interval() -> None:
    values = np.array([1.0, np.nan, 2, 3, 4, 5])
    interval = bootstrap(values)
    assert interval is not None
    assert (interval.value, interval.units) == (3.0, 5)
    assert bootstrap(values) == interval
    assert bootstrap(values[:5]) is None


@given(st.integers(5, 200), st.data())
def test_wilsons_interval_solves_its_equation(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    interval = share(np.arange(n) < hits)
    assert interval is not None
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high > interval.low
    for end in {interval.low, interval.high} - {0.0, 1.0}:
        # The share lies 1.96 standard deviations from the end, as the end's own spread has it.
        assert abs(hits / n - end) == pytest.approx(1.96 * (end * (1 - end) / n) ** 0.5, abs=2e-3)
    assert share(np.ones(4, np.bool_)) is None


@pytest.mark.parametrize(
    ("other", "apart"), [((2, 3), True), ((-1, 0.4), True), ((0.9, 2), False), ((0, 3), False)]
)
def test_intervals_overlap_or_not(other: tuple[float, float], apart: bool) -> None:
    one = Interval(0.7, 0.5, 1.0, 9)
    assert one.overlaps(Interval(0, *other, 9)) is not apart


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.data())
def test_distinct_labels_among_fewer_units(labels: list[int], data: st.DataObject) -> None:
    m = data.draw(st.integers(1, len(labels)))
    want = sum(1 - comb(len(labels) - labels.count(label), m) / comb(len(labels), m) for label in set(labels))
    interval = distinct_among(labels, m, draws=20)
    assert interval is not None
    assert interval.value == pytest.approx(want, abs=1e-4)
    assert interval.low <= interval.high <= len(set(labels))
    assert distinct_among(labels, len(labels) + 1) is None


def test_diversity() -> None:
    assert effective_number(["a", "b", "c", "d"] * 3) == pytest.approx(4)
    assert effective_number(["a"] * 7) == pytest.approx(1)
    assert 1 < effective_number(["a"] * 7 + ["b"]) < 2
    assert effective_number([]) == 0
    assert share_alike(["a", "a", "b", "c"], ["a", "b"]) == pytest.approx(0.5 * 0.5 + 0.25 * 0.5)
    assert share_alike([], ["a"]) == 0


@given(st.integers(0, 99), st.integers(1, 12), st.integers(1, 12))
def test_nearest_and_mutual_are_what_brute_force_finds(seed: int, n: int, m: int) -> None:
    a, b = unit_rows(n, seed=seed), unit_rows(m, seed=seed + 1000)
    of_a, cosine = nearest(a, b, np.full(n, -1))
    of_b, _ = nearest(b, a, np.full(m, -1))
    table = a @ b.T
    assert of_a.tolist() == table.argmax(axis=1).tolist()
    assert np.allclose(cosine, table.max(axis=1))
    want = [i for i in range(n) if table[:, table[i].argmax()].argmax() == i]
    assert mutual(of_a, of_b).tolist() == want


def test_a_unit_is_its_own_counterpart_even_among_twins() -> None:
    a = unit_rows(4)[[0, 1, 1, 1, 2, 3]]
    rows, cosines = nearest(a, a, np.arange(6))
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.allclose(cosines, 1)
    assert mutual(rows, rows).tolist() == [0, 1, 2, 3, 4, 5]


def test_silent_units_have_no_counterpart() -> None:
    a, b = unit_rows(4), unit_rows(3, seed=1)
    a[2] = b[0] = 0
    rows, cosines = nearest(a, b, np.full(4, -1))
    assert rows[2] == -1
    assert np.isnan(cosines[2])
    assert 0 not in rows
    assert nearest(a, np.zeros_like(b), np.full(4, -1))[0].tolist() == [-1] * 4


def test_principal_components_hold_the_most_variance() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((50, 6)) * [1, 9, 1, 5, 0.1, 1]
    components = principal(values, 2)
    want = np.linalg.svd(values - values.mean(0), full_matrices=False)
    assert np.allclose(np.abs(components), np.abs(want[0][:, :2] * want[1][:2]), atol=1e-4)
    assert principal(values, 10).shape == (50, 6)


def test_intervals_are_those_written_out() -> None:
    values = np.random.default_rng(3).exponential(size=40)
    drawn = values[np.random.default_rng(7).integers(40, size=(1000, 40))]
    for statistic in (np.mean, np.median):
        interval = bootstrap(values, statistic, seed=7)
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(
            tuple(np.quantile(statistic(drawn, axis=1), [0.025, 0.975])), abs=1e-4
        )
    assert bootstrap(np.ones(9)) == Interval(1.0, 1.0, 1.0, 9)
    assert share(np.arange(10) < 8) == Interval(0.8, 0.4902, 0.9433, 10)  # Wilson 1927
