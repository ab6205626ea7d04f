"""FAISS held against plain matrix products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from and_retrieval.errors import InputError
from and_retrieval.types import Floats
from and_retrieval.vectors import brute_force, build, load, save, search, stored


def unit_vectors(n: int, dim: int, seed: int, repeats: bool = False) -> Floats:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dim))
    if repeats:
        rows = rows[random.integers(0, max(1, n // 3), n)]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300),
    dim=st.integers(1, 64),
    queries=st.integers(1, 30),
    k=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    repeats=st.booleans(),
)
def test_search_finds_what_brute_force_finds(
    n: int, dim: int, queries: int, k: int, seed: int, repeats: bool
) -> None:
    vectors = unit_vectors(n, dim, seed, repeats)
    asked = unit_vectors(queries, dim, seed + 1)
    scores, rows = search(build(vectors), asked, k)
    expected_scores, expected_rows = brute_force(vectors, asked, k)
    assert scores.shape == rows.shape == expected_scores.shape == expected_rows.shape == (queries, min(k, n))
    assert (scores.dtype, rows.dtype, expected_rows.dtype) == (np.float32, np.int64, np.int64)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    # Whatever the ties: every row has the score it is listed with, and none is listed twice.
    np.testing.assert_allclose(np.take_along_axis(asked @ vectors.T, rows, axis=1), scores, atol=1e-5)
    assert all(len(set(row)) == len(row) for row in rows.tolist())
    for query in range(queries):
        full = np.sort(asked[query] @ vectors.T)[::-1]
        apart = np.concatenate([[True], full[:-1] - full[1:] > 1e-4, [True]])
        alone = (apart[:-1] & apart[1:])[: rows.shape[1]]  # neither tied with the one above nor the one below
        np.testing.assert_array_equal(rows[query][alone], expected_rows[query][alone])


def test_on_unit_vectors_the_score_is_the_cosine() -> None:
    vectors = np.eye(3, dtype=np.float32)
    scores, rows = search(build(vectors), np.array([[0.6, 0.8, 0.0]], np.float32), 3)
    np.testing.assert_array_equal(rows, [[1, 0, 2]])
    np.testing.assert_allclose(scores, [[0.8, 0.6, 0.0]], atol=1e-7)


def test_saved_and_loaded_it_is_the_same_bytes(tmp_path: Path) -> None:
    vectors = unit_vectors(50, 16, 0)
    for name in ("a", "b"):
        save(build(vectors), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = load(tmp_path / "a")
    assert stored(again).tobytes() == vectors.tobytes()
    for one, other in zip(search(again, vectors[:5], 7), search(build(vectors), vectors[:5], 7), strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_memory_layout_will_do() -> None:
    vectors = unit_vectors(20, 6, 0)
    index = build(np.asfortranarray(vectors))
    np.testing.assert_array_equal(stored(index), vectors)
    reversed_queries = np.ascontiguousarray(vectors[::-1])[::-1]
    np.testing.assert_array_equal(
        search(index, reversed_queries.astype(np.float64), 1)[1][:, 0], np.arange(20)
    )


def test_queries_that_do_not_fit() -> None:
    index = build(unit_vectors(5, 4, 0))
    with pytest.raises(InputError, match="query vectors have 3 dimensions, the index 4"):
        search(index, np.zeros((1, 3), np.float32), 1)
    for k in (0, -1):
        with pytest.raises(InputError, match="ask for 1 or more"):
            search(index, np.zeros((1, 4), np.float32), k)


@pytest.mark.parametrize("content", [b"", b"not an index", b"IxFI" + bytes(10)])
def test_a_file_that_is_no_index(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.faiss").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.faiss is not a FAISS index"):
        load(tmp_path / "x.faiss")
    with pytest.raises(InputError, match="not a FAISS index"):
        load(tmp_path / "nothing.faiss")
