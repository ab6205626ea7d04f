"""Groups of top clips: joined as an oracle joins them, found where planted, not found where there are none."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from and_retrieval.explanation import groups as meanings
from and_retrieval.explanation.groups import (
    FALSE_RATE,
    LEAST_CLIPS,
    MOST_GROUPS,
    Space,
    find_groups,
    probe_space,
)
from and_retrieval.types import Embedder, Floats, Ints

CLASSES, PER_CLASS, DIM = 30, 30, 96


def clip_vectors(seed: int = 0) -> Floats:
    """Clips of `CLASSES` directions, class after class, scattered about them."""
    random = np.random.default_rng(seed)
    centres = np.repeat(random.normal(size=(CLASSES, DIM)), PER_CLASS, axis=0)
    vectors = centres + 0.7 * random.normal(size=centres.shape)
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def space() -> Space:
    vectors = clip_vectors()
    return probe_space(vectors, np.arange(len(vectors)), 20)


def sets(shares: tuple[int, ...], units: int, seed: int = 1) -> Ints:
    """Rows of units with so many clips each of classes drawn at random."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(units):
        classes = random.choice(CLASSES, len(shares), replace=False)
        members = [
            c * PER_CLASS + random.choice(PER_CLASS, n, False) for c, n in zip(classes, shares, strict=True)
        ]
        rows.append(random.permutation(np.concatenate(members)))
    return np.array(rows, np.int32)


def equal(rows: Ints) -> Floats:
    return np.ones(rows.shape, np.float32)


def split(space: Space, rows: Ints) -> float:
    return float(find_groups(space, rows, equal(rows)).several.mean())


def test_sets_of_one_class_stay_whole(space: Space) -> None:
    assert split(space, sets((20,), 400)) <= FALSE_RATE
    assert split(space, sets((9,), 400)) <= FALSE_RATE


def test_random_sets_are_split_as_rarely_as_said(space: Space) -> None:
    random = np.random.default_rng(3)
    rows = np.stack([random.choice(CLASSES * PER_CLASS, 20, False) for _ in range(400)]).astype(np.int32)
    assert split(space, rows) <= FALSE_RATE + 0.03


@pytest.mark.parametrize("shares", [(10, 10), (14, 6), (8, 6, 6), (5, 5, 5, 5), (4, 4)])
def test_planted_classes_are_the_groups(space: Space, shares: tuple[int, ...]) -> None:
    rows = sets(shares, 200)
    groups = find_groups(space, rows, equal(rows))
    classes = rows // PER_CLASS
    right = [
        groups.group[unit].min() >= 0
        and all(
            (groups.group[unit, a] == groups.group[unit, b]) == (classes[unit, a] == classes[unit, b])
            for a, b in combinations(range(rows.shape[1]), 2)
        )
        for unit in range(len(rows))
    ]
    assert np.mean(right) >= 0.9


def test_the_first_group_has_the_strongest_clip_and_they_count_up(space: Space) -> None:
    rows = sets((7, 7, 6), 50)
    for group in find_groups(space, rows, equal(rows)).group:
        first = [int(np.flatnonzero(group == number)[0]) for number in range(group.max() + 1)]
        assert first == sorted(first)


def test_at_most_so_many_groups_the_heaviest_ones(space: Space) -> None:
    members = [c * PER_CLASS + np.arange(4 if c else 3) for c in range(MOST_GROUPS + 1)]
    rows = np.concatenate(members)[None].astype(np.int32)
    group = find_groups(space, rows, equal(rows)).group[0]
    assert set(group[rows[0] >= PER_CLASS]) == set(range(MOST_GROUPS))
    assert set(group[rows[0] < PER_CLASS]) == {-1}


def test_clips_of_one_file_make_no_group() -> None:
    vectors = clip_vectors()
    files = np.arange(len(vectors))
    files[PER_CLASS : 2 * PER_CLASS] = PER_CLASS
    rows = np.concatenate([np.arange(8), PER_CLASS + np.arange(8)])[None].astype(np.int32)
    assert find_groups(probe_space(vectors, np.arange(len(vectors)), 16), rows, equal(rows)).several.all()
    assert not find_groups(probe_space(vectors, files, 16), rows, equal(rows)).several.any()


def test_clips_without_weight_are_none(space: Space) -> None:
    rows = sets((10, 10), 20)
    weights = np.where(rows // PER_CLASS == (rows // PER_CLASS)[:, :1], 1, 0).astype(np.float32)
    groups = find_groups(space, rows, weights)
    assert not groups.several.any()
    alone = find_groups(space, np.where(weights > 0, rows, -1).astype(np.int32), weights)
    np.testing.assert_array_equal(groups.polysemanticity, alone.polysemanticity)


def test_a_group_that_hardly_counts_is_none(space: Space) -> None:
    rows = np.concatenate([np.arange(10), PER_CLASS + np.arange(10)])[None].astype(np.int32)
    weights = np.where(rows < PER_CLASS, 1, 0.01).astype(np.float32)
    assert not find_groups(space, rows, weights).several.any()


def test_polysemanticity_runs_from_identical_to_random(space: Space) -> None:
    random = np.random.default_rng(4)
    scattered = np.stack([random.choice(CLASSES * PER_CLASS, 20, False) for _ in range(50)]).astype(np.int32)
    one, two, none = (
        float(np.median(find_groups(space, rows, equal(rows)).polysemanticity))
        for rows in (sets((20,), 50), sets((10, 10), 50), scattered)
    )
    assert one < two - 0.2 < none - 0.3
    assert none == pytest.approx(space.random_polysemanticity, abs=0.05)
    same = probe_space(np.repeat(clip_vectors()[::90], 40, axis=0), np.arange(400), 20)
    rows = np.arange(20, dtype=np.int32)[None]
    assert find_groups(same, rows, equal(rows)).polysemanticity[0] == pytest.approx(0, abs=1e-5)


def test_polysemanticity_of_too_few_clips_is_unknown(space: Space) -> None:
    rows = sets((20,), 1)
    few = np.where(np.arange(20) < LEAST_CLIPS - 1, 1, 0)[None].astype(np.float32)
    assert np.isnan(find_groups(space, rows, few).polysemanticity[0])
    assert np.isnan(find_groups(space, rows, np.zeros((1, 20), np.float32)).polysemanticity[0])


def test_polysemanticity_is_the_mean_over_pairs_of_different_files(space: Space) -> None:
    rows = sets((5, 3), 1)
    weights = np.linspace(1, 0.2, 8, dtype=np.float32)[None]
    files = space.files.copy()
    files[rows[0, 1]] = files[rows[0, 0]]
    changed = replace(space, files=files, random_cosine=0.1)
    pairs = [(a, b) for a, b in combinations(range(8), 2) if files[rows[0, a]] != files[rows[0, b]]]
    vectors = space.directions[rows[0]].astype(np.float64)
    counts = [float(weights[0, a] * weights[0, b]) for a, b in pairs]
    mean = np.average([vectors[a] @ vectors[b] for a, b in pairs], weights=counts)
    assert find_groups(changed, rows, weights).polysemanticity[0] == pytest.approx((1 - mean) / 0.9, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.floats(-0.3, 0.9))
def test_clips_are_joined_by_average_linkage(seed: int, k: int, apart: float) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(3, k, 5))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    cosines = (vectors @ vectors.transpose(0, 2, 1)).astype(np.float32)
    for got, near in zip(meanings._joined(cosines, apart), cosines, strict=True):
        oracle = AgglomerativeClustering(
            n_clusters=None, metric="precomputed", linkage="average", distance_threshold=1 - apart
        ).fit_predict(1 - near.astype(np.float64))
        assert [[a == b for a in got] for b in got] == [[a == b for a in oracle] for b in oracle]
        assert all(got[place] <= place and got[got[place]] == got[place] for place in range(k))


def test_chunks_do_not_show(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sets((10, 10), 30)
    whole = find_groups(space, rows, equal(rows))
    monkeypatch.setattr(meanings, "CHUNK_BYTES", 7 * 4 * 20 * DIM)
    parts = find_groups(space, rows, equal(rows))
    np.testing.assert_array_equal(whole.group, parts.group)
    np.testing.assert_allclose(whole.polysemanticity, parts.polysemanticity, atol=1e-6)


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_few_clips_have_no_groups(clips: int) -> None:
    space = probe_space(clip_vectors()[:clips], np.arange(clips), 20)
    rows = np.where(np.arange(20) < clips, np.arange(20), -1)[None].astype(np.int32)
    assert not find_groups(space, rows, (rows >= 0).astype(np.float32)).several.any()


def test_one_long_file_has_no_groups() -> None:
    vectors = clip_vectors()
    rows = sets((10, 10), 5)
    groups = find_groups(probe_space(vectors, np.zeros(len(vectors), np.intp), 20), rows, equal(rows))
    assert not groups.several.any()
    assert np.isnan(groups.polysemanticity).all()


def test_a_dead_layer_is_no_trouble(space: Space) -> None:
    nothing = np.empty((0, 20), np.int32)
    assert find_groups(space, nothing, nothing.astype(np.float32)).group.shape == (0, 20)


@pytest.mark.slow
def test_recordings_of_one_class_stay_whole_and_two_are_told_apart(
    shared: Path, embedder: Embedder, home: Path
) -> None:
    from and_retrieval import ClipIndex

    index = ClipIndex.build(shared / "esc10", embedder, home / "esc10")
    label = np.array([clip.label for clip in index.clips])
    files: npt.NDArray[np.intp] = np.unique([clip.sha256 for clip in index.clips], return_inverse=True)[1]
    space = probe_space(index.vectors(), files, 20)
    random = np.random.default_rng(0)
    rows = {name: np.flatnonzero(label == name) for name in np.unique(label)}
    single = [random.choice(class_rows, 20, False) for class_rows in rows.values() for _ in range(30)]
    double = [
        np.concatenate([random.choice(rows[one], 10, False) for one in pair])
        for pair in combinations(rows, 2)
        for _ in range(5)
    ]
    assert split(space, np.array(single, np.int32)) <= FALSE_RATE
    assert split(space, np.array(double, np.int32)) >= 0.9
