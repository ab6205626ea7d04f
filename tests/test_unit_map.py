"""The map: made once by `explain`, the same each time, whatever the number of units; the page reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import RUN, Visitor, visiting
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from and_retrieval import faiss_index
from and_retrieval.explanation import unit_map
from and_retrieval.explanation.unit_map import EMBEDDED, inside, placed
from and_retrieval.faiss_index import Rows
from and_retrieval.recording.unit_index import UnitIndex
from and_retrieval.types import Floats


def units_of(vectors: Floats) -> UnitIndex:
    return UnitIndex(faiss_index.build(vectors), (("layer", len(vectors)),))


def grouped(units: int = 240, groups: int = 4, seed: int = 0) -> tuple[Floats, Rows]:
    """Unit-length vectors of which every fourth are alike, and the group of each; unit 7 never responded."""
    rng = np.random.default_rng(seed)
    group = np.arange(units) % groups
    vectors = rng.normal(size=(groups, 32))[group] + 0.2 * rng.normal(size=(units, 32))
    vectors[7] = 0
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return (vectors / lengths).astype(np.float32), group


# ---------- positions ----------


def test_alike_units_lie_near_each_other_whether_placed_or_set_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, group = grouped()
    assert EMBEDDED == 4_000
    monkeypatch.setattr(unit_map, "EMBEDDED", 120)
    at = placed(units_of(vectors))
    assert np.isnan(at[7]).all()
    assert np.nanmax(np.abs(at)) == pytest.approx(1)
    far = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.fill_diagonal(far, np.inf)
    known = np.delete(np.arange(240), 7)
    nearest = np.nanargmin(np.nan_to_num(far, nan=np.inf), axis=1)
    assert (group[nearest[known]] == group[known]).mean() > 0.97


def nearest_kept(vectors: Floats, at: Floats, k: int = 10) -> float:
    """Share of each unit's k nearest by cosine that are among its k nearest on the map."""
    cosines = vectors @ vectors.T
    far = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.fill_diagonal(cosines, -np.inf)
    np.fill_diagonal(far, np.inf)
    pairs = zip(np.argsort(-cosines, axis=1)[:, :k], np.argsort(far, axis=1)[:, :k], strict=True)
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in pairs]))


def test_a_hundred_steps_keep_as_many_neighbours_as_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(0)
    parents = rng.normal(size=(12, 32))
    vectors = (
        parents[rng.integers(0, 12, 500)] + parents[rng.integers(0, 12, 500)] + rng.normal(size=(500, 32))
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    usual = TSNE(init="pca", random_state=0, n_jobs=1).fit_transform(vectors)
    here = nearest_kept(vectors, placed(units_of(vectors)))
    assert here > nearest_kept(vectors, usual) - 0.02
    assert here > 0.5  # chance is 10 of 499
    monkeypatch.setattr(unit_map, "EMBEDDED", 250)  # half of them are set beside others
    assert nearest_kept(vectors, placed(units_of(vectors))) > 0.4


def test_the_same_units_lie_at_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = grouped()
    for embedded in (240, 100):
        monkeypatch.setattr(unit_map, "EMBEDDED", embedded)
        first = placed(units_of(vectors))
        with threadpool_limits(2):
            assert placed(units_of(vectors)).tobytes() == first.tobytes()
    monkeypatch.setattr(unit_map, "PART", 32 * 4 * 50)  # read in parts
    assert np.allclose(placed(units_of(vectors)), first, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("units", [1, 2, 4, 5, 9])
def test_few_units_have_places_too(units: int) -> None:
    vectors, _ = grouped(40)
    at = placed(units_of(vectors[:units]))
    assert at.shape == (units, 2)
    assert np.isfinite(at[:7]).all()
    assert np.isnan(placed(units_of(np.zeros((units, 32), np.float32)))).all()


@dataclass(frozen=True)
class Counting(UnitIndex):
    """A unit index that knows how many vectors were asked for at a time."""

    asked: tuple[int, ...] = ()

    def vectors(self, rows: Rows) -> Floats:
        object.__setattr__(self, "asked", (*self.asked, len(rows)))
        return super().vectors(rows)


def test_only_so_many_vectors_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = grouped(2_000)
    monkeypatch.setattr(unit_map, "EMBEDDED", 60)
    monkeypatch.setattr(unit_map, "PART", 32 * 4 * 100)
    units = Counting(faiss_index.build(vectors), (("layer", 2_000),))
    assert np.isfinite(placed(units)).all(axis=1).sum() == 1_999
    assert max(units.asked) <= 100
    assert sum(units.asked) >= 2_000


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(*[st.floats(-1, 1, width=16)] * 2), min_size=1, max_size=20))
def test_what_lies_in_a_square(points: list[tuple[float, float]]) -> None:
    square = [(-0.503, -0.503), (0.503, -0.503), (0.503, 0.503), (-0.503, 0.503)]
    at = np.array(points, np.float32)
    assert inside(at, square).tolist() == (np.abs(at) < 0.503).all(axis=1).tolist()


CORNER = st.tuples(*[st.integers(-20, 20).map(lambda n: n / 10)] * 2)


@settings(deadline=None)
@given(st.lists(CORNER, min_size=3, max_size=12), st.integers(0, 2**31))
def test_what_lies_in_any_loop(corners: list[tuple[float, float]], seed: int) -> None:
    from matplotlib.path import Path as Loop

    at = np.random.default_rng(seed).uniform(-2.1, 2.1, (200, 2)).astype(np.float32)
    assert inside(at, corners).tolist() == Loop(np.array(corners)).contains_points(at).tolist()
    assert not inside(np.full((3, 2), np.nan, np.float32), corners).any()


# ---------- where it is ----------


def test_explain_places_the_units_and_the_page_reads_it(
    visitor: Visitor, served_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list((served_home / "s/runs/net").glob("map-*.safetensors"))) == 1
    monkeypatch.setattr(unit_map, "placed", None)
    with visiting(served_home) as other:
        told = other.get("/api/map", run=RUN)
    assert len(told["x"]) == len(told["y"]) == len(told["layer"]) == 12
    at = np.array([told["x"], told["y"]], float)
    assert np.nanmax(np.abs(at)) == pytest.approx(1)
    within = visitor.get("/api/units", run=RUN, lasso="-2,-2;0.1,-2;0.1,2;-2,2", limit=100)
    assert within["total"] == sum(x is not None and x < 0.1 for x in told["x"])


def test_a_loop_that_is_none_is_refused(visitor: Visitor) -> None:
    for wrong in ("1,2", "a,b;c,d;e,f", "1,2;3,4;" * 900, "1,2;3,4"):
        answer = visitor.client.get("/api/units", params={"run": RUN, "lasso": wrong})
        assert answer.status_code == 422
