"""Array arithmetic that several stages share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from and_retrieval import numerics
from and_retrieval.numerics import chunks, softmax


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
