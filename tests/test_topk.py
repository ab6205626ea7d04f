"""Streamed top-k and statistics against sorting everything at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from and_retrieval.recording.topk import RunningStatistics, RunningTopK
from and_retrieval.types import Floats, Kept

# Few distinct values make ties the rule; the specials are where float order and integer order differ.
TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-40, -1e-40, 3e38, -3e38, np.nan, np.inf, -np.inf])
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)


def activations(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
    shapes = st.tuples(st.integers(0, 40), st.integers(1, 5))
    return shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=elements))


def by_full_sort(rows: npt.NDArray[np.int32], values: Floats, peaks: Floats, k: int, largest: bool) -> Kept:
    """What `RunningTopK` promises, unit by unit with a stable sort over all clips."""
    units = values.shape[1]
    kept = Kept(
        rows=np.full((units, k), -1, np.int32),
        values=np.full((units, k), np.nan, np.float32),
        peaks=np.full((units, k), np.nan, np.float32),
    )
    by_row = np.argsort(rows)
    for unit in range(units):
        usable = by_row[np.isfinite(values[by_row, unit])]
        strength = values[usable, unit] if largest else -values[usable, unit]
        best = usable[np.argsort(-strength, kind="stable")][:k]
        kept.rows[unit, : len(best)] = rows[best]
        kept.values[unit, : len(best)] = values[best, unit]
        kept.peaks[unit, : len(best)] = peaks[best, unit]
    return kept


def assert_same(one: Kept, two: Kept) -> None:
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.peaks, two.peaks)
    assert (one.rows.dtype, one.values.dtype, one.peaks.dtype) == (np.int32, np.float32, np.float32)


def feed(
    running: RunningTopK, order: npt.NDArray[np.int_], values: Floats, peaks: Floats, batch: int
) -> None:
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        running.update(part.astype(np.int32), values[part], peaks[part])


@settings(max_examples=300, deadline=None)
@given(
    values=st.one_of(activations(TIED), activations(ANY)),
    k=st.integers(1, 45),
    largest=st.booleans(),
    batch=st.integers(1, 17),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_a_full_sort_in_any_order_and_batching(
    values: Floats, k: int, largest: bool, batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    peaks = rng.random(values.shape, dtype=np.float32)
    order = rng.permutation(len(values))
    running = RunningTopK(values.shape[1], k, largest)
    feed(running, order, values, peaks, batch)
    rows = np.arange(len(values), dtype=np.int32)
    assert_same(running.kept(), by_full_sort(rows, values, peaks, k, largest))


@settings(max_examples=200, deadline=None)
@given(
    values=activations(TIED),
    k=st.integers(1, 12),
    largest=st.booleans(),
    parts=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_merged_parts_equal_one_stream(values: Floats, k: int, largest: bool, parts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    peaks = rng.random(values.shape, dtype=np.float32)
    whole = RunningTopK(values.shape[1], k, largest)
    feed(whole, np.arange(len(values)), values, peaks, 7)
    pieces = []
    for share in np.array_split(rng.permutation(len(values)), parts):
        pieces.append(RunningTopK(values.shape[1], k, largest))
        feed(pieces[-1], share, values, peaks, 3)
    merged = RunningTopK(values.shape[1], k, largest)
    for index in rng.permutation(parts):
        merged.merge(pieces[index])
    assert_same(merged.kept(), whole.kept())


def test_a_merged_run_goes_on_taking_ties_of_lower_rows() -> None:
    late, early = RunningTopK(1, 2, True), RunningTopK(1, 2, True)
    one = np.ones((2, 1), np.float32)
    late.update(np.array([8, 9], np.int32), one, one)
    early.merge(late)
    early.update(np.array([3, 4], np.int32), one, one)
    assert early.kept().rows.tolist() == [[3, 4]]


def test_ties_keep_the_lower_rows_whatever_the_order() -> None:
    running = RunningTopK(1, 3, True)
    flat = np.zeros((5, 1), np.float32)
    running.update(np.array([9, 2, 7, 0, 4], np.int32), flat, flat)
    assert running.kept().rows.tolist() == [[0, 2, 4]]


def test_fewer_clips_than_k_are_padded() -> None:
    running = RunningTopK(2, 4, True)
    values = np.array([[1, np.nan], [3, -2]], np.float32)
    running.update(np.array([5, 6], np.int32), values, values / 10)
    kept = running.kept()
    assert kept.rows.tolist() == [[6, 5, -1, -1], [6, -1, -1, -1]]
    np.testing.assert_array_equal(
        kept.values, np.array([[3, 1, np.nan, np.nan], [-2] + [np.nan] * 3], np.float32)
    )
    assert np.isnan(kept.peaks[1]).tolist() == [False, True, True, True]


def test_rows_up_to_the_largest_int32() -> None:
    running = RunningTopK(1, 2, False)
    rows = np.array([2**31 - 1, 2**31 - 2, 0], np.int32)
    values = np.array([[-1], [-1], [5]], np.float32)
    running.update(rows, values, values)
    assert running.kept().rows.tolist() == [[2**31 - 2, 2**31 - 1]]


def test_memory_does_not_grow_with_clips() -> None:
    running = RunningTopK(50, 3, True)
    before = running.nbytes
    rng = np.random.default_rng(0)
    for start in range(0, 500, 10):
        values = rng.standard_normal((10, 50), dtype=np.float32)
        running.update(np.arange(start, start + 10, dtype=np.int32), values, values)
    assert running.nbytes == before


def test_shapes_that_do_not_fit_are_refused() -> None:
    running = RunningTopK(3, 2, True)
    rows = np.array([0, 1], np.int32)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        running.update(rows, np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="rows must be >= 0"):
        running.update(
            np.array([-1, 1], np.int32), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
        )
    with pytest.raises(ValueError, match="cannot merge"):
        running.merge(RunningTopK(3, 2, False))
    with pytest.raises(ValueError, match="k >= 1"):
        RunningTopK(3, 0, True)


MODERATE = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@settings(max_examples=200, deadline=None)
@given(values=activations(MODERATE), cuts=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 9))
def test_moments_equal_numpy_over_finite_values(values: Floats, cuts: list[int], seed: int) -> None:
    parts = np.split(values, sorted(cuts))
    pieces = []
    for part in parts:
        pieces.append(RunningStatistics(values.shape[1]))
        pieces[-1].update(part)
    running = RunningStatistics(values.shape[1])
    for index in np.random.default_rng(seed).permutation(len(pieces)):
        running.merge(pieces[index])
    statistics = running.statistics()
    assert statistics.count == len(values)
    np.testing.assert_array_equal(running.ignored, (~np.isfinite(values)).sum(axis=0))
    for unit, column in enumerate(values.astype(np.float64).T):
        finite = column[np.isfinite(column)]
        got = [float(x[unit]) for x in (statistics.mean, statistics.std, statistics.low, statistics.high)]
        if not finite.size:
            assert np.isnan(got).all()
            continue
        want = [finite.mean(), finite.std(), finite.min(), finite.max()]
        scale = float(np.abs(finite).max())
        least = float(np.finfo(np.float32).smallest_subnormal)  # what the float32 results round to near zero
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9 * scale + least)


def test_moments_keep_their_precision_far_from_zero() -> None:
    rng = np.random.default_rng(1)
    values = (1e5 + rng.standard_normal((4000, 3))).astype(np.float32)
    running = RunningStatistics(3)
    for part in np.split(values, 250):
        running.update(part)
    np.testing.assert_allclose(running.statistics().std, values.astype(np.float64).std(axis=0), rtol=1e-6)


def test_moments_refuse_other_widths() -> None:
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        RunningStatistics(2).update(np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="cannot merge"):
        RunningStatistics(2).merge(RunningStatistics(3))
