"""Every selector finds the unit that was planted for a concept, and no held-out clip can tell it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from and_retrieval.errors import InputError
from and_retrieval.pruning.selectors import SELECTORS, KnownLayer, Wanted, find_selector
from and_retrieval.types import Floats, Kept, LayerEvidence, UnitStatistics

CLIPS, UNITS, CONCEPTS, DIM = 60, 12, 5, 16
PLANTED = {0: 7, 1: 2}  # concept -> unit


@pytest.fixture(scope="module")
def known() -> tuple[Wanted, KnownLayer]:
    """60 clips of five kinds, 48 of them seen; unit 7 answers to the first kind, unit 2 to the second."""
    rng = np.random.default_rng(0)
    texts = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0][:CONCEPTS].astype(np.float32)
    kind = np.arange(CLIPS) % CONCEPTS
    clips = texts[kind] + 0.1 * rng.standard_normal((CLIPS, DIM))
    clips = (clips / np.linalg.norm(clips, axis=1, keepdims=True)).astype(np.float32)
    rows = np.arange(48)
    activations = rng.standard_normal((48, UNITS)).astype(np.float32)
    for concept, unit in PLANTED.items():
        activations[:, unit] = 3 * (kind[rows] == concept) + 0.3 * rng.standard_normal(48)
    activations[:, 11] = 1.0  # never changes
    layer = LayerEvidence("x", "mean", *_ends(activations), _statistics(activations))
    weights = np.maximum(activations - activations.mean(0), 0)
    vectors = weights.T @ (clips[rows] - clips.mean(0))
    vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    words = [("odd",) for _ in range(UNITS)]
    words[7], words[2], words[5] = ("bark", "loud"), ("rain",), ()
    vector_of = {"odd": texts[4], "bark": texts[0], "rain": texts[1], "loud": texts[3]}
    similarity = clips @ texts.T
    labelled = np.stack([kind == 0, kind == 1], axis=1)
    wanted = Wanted(("bark", "rain"), texts[:2], similarity, similarity, labelled)
    return wanted, KnownLayer(layer, rows, activations, vectors, words, vector_of)


def _ends(activations: Floats) -> tuple[Kept, Kept]:
    kept = []
    for sign in (-1, 1):
        rows = np.argsort(sign * activations, axis=0, kind="stable")[:5].T.astype(np.int32)
        kept.append(
            Kept(rows, np.take_along_axis(activations.T, rows, axis=1), np.zeros(rows.shape, np.float32))
        )
    return kept[0], kept[1]


def _statistics(a: Floats) -> UnitStatistics:
    return UnitStatistics(len(a), a.mean(0), a.std(0), a.min(0), a.max(0))


@pytest.mark.parametrize("name", SELECTORS)
def test_the_planted_units_are_first(known: tuple[Wanted, KnownLayer], name: str) -> None:
    scores = find_selector(name)(*known)
    assert scores.shape == (UNITS, 2)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()
    assert {concept: int(scores[:, concept].argmax()) for concept in PLANTED} == PLANTED


@pytest.mark.parametrize("name", SELECTORS)
def test_clips_that_were_not_seen_do_not_count(known: tuple[Wanted, KnownLayer], name: str) -> None:
    wanted, layer = known
    rng = np.random.default_rng(1)
    shuffled = wanted.audio.copy()
    shuffled[48:] = rng.random((12, CONCEPTS))
    labels = wanted.labelled.copy()  # type: ignore[union-attr]
    labels[48:] = ~labels[48:]
    other = replace(wanted, audio=shuffled, captions=shuffled, labelled=labels)
    np.testing.assert_array_equal(find_selector(name)(wanted, layer), find_selector(name)(other, layer))


def test_oracle_is_the_standardised_difference_of_means(known: tuple[Wanted, KnownLayer]) -> None:
    wanted, layer = known
    a, is_wanted = layer.activations, np.asarray(wanted.labelled)[:48, 0]
    unit = a[:, 3]
    expected = (unit[is_wanted].mean() - unit[~is_wanted].mean()) / unit.std()
    scores = find_selector("oracle")(wanted, layer)
    assert scores[3, 0] == pytest.approx(expected, rel=1e-5)
    assert scores[11, 0] == -np.inf


def test_what_is_missing_is_said(known: tuple[Wanted, KnownLayer]) -> None:
    wanted, layer = known
    with pytest.raises(InputError, match="needs clips with labels"):
        find_selector("oracle")(replace(wanted, labelled=None), layer)
    with pytest.raises(InputError, match="run `and-retrieval explain` first"):
        find_selector("open")(wanted, replace(layer, words=None))
    with pytest.raises(InputError, match="unknown selector 'selectve'; did you mean selective"):
        find_selector("selectve")
    assert find_selector("soft_wpmi") is SELECTORS["soft-wpmi"]


def test_a_unit_without_words_is_never_taken(known: tuple[Wanted, KnownLayer]) -> None:
    assert (find_selector("open")(*known)[5] == -np.inf).all()
