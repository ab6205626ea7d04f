"""Array arithmetic that several stages share."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from and_retrieval import numerics
from and_retrieval.numerics import chunks, softmax, standardised
from and_retrieval.types import Floats

NUMBERS = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32), st.sampled_from([np.nan, np.inf, -np.inf])
)


@given(st.integers(0, 200), st.integers(0, 50), st.integers(1, 5_000), st.sampled_from([2, 4, 8]))
def test_chunks_cover_every_row_once_within_their_bytes(
    count: int, width: int, limit: int, itemsize: int
) -> None:
    parts = list(chunks(count, width, limit, itemsize))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
    for part in parts:
        rows = part.stop - part.start
        assert rows == 1 or rows * width * itemsize <= limit


def test_softmax_of_large_numbers() -> None:
    assert softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])).tolist() == [[0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize("temperature", [0.02, 1.0, 7.0])
def test_softmax_does_not_show_its_chunks(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    expected = special.softmax(x.astype(np.float64) / temperature, axis=1).astype(np.float32)
    for limit in (1, 8 * 7 * 3, numerics.CHUNK_BYTES):
        monkeypatch.setattr(chunks, "__defaults__", (limit, 8))
        np.testing.assert_array_equal(softmax(x, temperature), expected)


@pytest.mark.parametrize("axis", [0, 1])
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=NUMBERS))
def test_standardised_values(axis: int, values: Floats) -> None:
    z, nothing = standardised(values, axis), standardised(values, axis, constant=np.nan)
    for of_line, of_nothing, line in zip(
        *(np.moveaxis(array, axis, 1) for array in (z, nothing, values)), strict=True
    ):
        if np.isfinite(line).all() and line.min() < line.max():
            exact = [Fraction(float(value)) for value in line]
            mean = sum(exact) / len(exact)
            deviation = float(sum((value - mean) ** 2 for value in exact) / len(exact)) ** 0.5
            np.testing.assert_allclose(
                of_line, [float(value - mean) / deviation for value in exact], atol=1e-6
            )
            np.testing.assert_array_equal(of_line, of_nothing)
        else:
            assert not of_line.any()
            assert np.isnan(of_nothing).all()


def test_what_is_left_of_standardised_values_may_be_rounding() -> None:
    values = np.random.default_rng(0).standard_normal((1, 100))
    x, y = standardised(values, 1), standardised(values / 3 + 7, 1)
    rounding = y - x * (x @ y.T / 100)
    assert 0 < np.abs(rounding).max() < 1e-12
    assert standardised(rounding, 1).any()
    assert not standardised(rounding, 1, least=1e-9).any()
    assert standardised(np.zeros((3, 0)), 1).shape == (3, 0)
