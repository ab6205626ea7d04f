"""FAISS held against plain matrix products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from and_retrieval.errors import InputError
from and_retrieval.faiss_index import Rows, brute_force, build, load, save, search, stored
from and_retrieval.types import Floats

Search = Callable[..., tuple[Floats, Rows]]


class Backend(NamedTuple):
    """A way to make an index and to search it."""

    build: Callable[[Floats], Any]
    search: Search


BACKENDS = {
    "brute force": Backend(lambda vectors: vectors, brute_force),
    "flat": Backend(build, search),
}


@pytest.fixture(scope="module", params=BACKENDS, name="backend")
def _backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]


def unit_vectors(n: int, dim: int, seed: int, repeats: bool = False) -> Floats:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, dim))
    if repeats:
        rows = rows[random.integers(0, max(1, n // 3), n)]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class TestEveryBackend:
    """One suite over brute force and the index."""

    @settings(max_examples=40, deadline=None)
    @given(
        n=st.integers(1, 250),
        dim=st.integers(1, 64),
        queries=st.integers(1, 10),
        k=st.integers(1, 40),
        seed=st.integers(0, 2**32 - 1),
        repeats=st.booleans(),
        share=st.sampled_from([None, 0.0, 0.1, 0.6, 1.0]),
    )
    def test_small_sets_are_searched_exactly(
        self,
        backend: Backend,
        n: int,
        dim: int,
        queries: int,
        k: int,
        seed: int,
        repeats: bool,
        share: float | None,
    ) -> None:
        vectors = unit_vectors(n, dim, seed, repeats)
        asked = unit_vectors(queries, dim, seed + 1)
        among = None if share is None else np.random.default_rng(seed).random(n) < share
        scores, rows = backend.search(backend.build(vectors), asked, k, among)
        allowed = np.arange(n) if among is None else np.flatnonzero(among)
        cosines = (asked.astype(np.float64) @ vectors.T)[:, allowed]
        assert scores.shape == rows.shape == (queries, min(k, len(allowed)))
        assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
        np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :k], atol=1e-5)
        # Whatever the ties: every row may be chosen, has the score it is listed with, and is not listed twice.
        assert np.isin(rows, allowed).all()
        np.testing.assert_allclose(np.take_along_axis(asked @ vectors.T, rows, axis=1), scores, atol=1e-5)
        assert all(len(set(row)) == len(row) for row in rows.tolist())

    def test_zero_vectors_score_zero(self, backend: Backend) -> None:
        vectors = unit_vectors(60, 8, 0)
        vectors[10:] = 0
        scores, rows = backend.search(backend.build(vectors), vectors[:1], 60)
        assert sorted(rows[0].tolist()) == list(range(60))
        assert rows[0, 0] == 0
        np.testing.assert_array_equal(scores[0][rows[0] >= 10], 0)


def test_every_row_can_be_had_back(tmp_path: Path) -> None:
    vectors = unit_vectors(3_000, 20, 0)
    index = build(vectors)
    save(index, tmp_path / "x.faiss")
    for one in (index, load(tmp_path / "x.faiss")):
        np.testing.assert_array_equal(stored(one), vectors)
        np.testing.assert_array_equal(stored(one, np.array([7, 2_999, 7])), vectors[[7, 2_999, 7]])
    before, after = (search(one, vectors[:9], 20) for one in (index, load(tmp_path / "x.faiss")))
    np.testing.assert_array_equal(before[1], after[1])


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
