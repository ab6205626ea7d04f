"""The clips that pruning changes most: those of the concept and the side effects, as the network itself answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from served import RATE, TARGET
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run, load_target
from and_retrieval.network.mask import masked
from and_retrieval.numerics import softmax
from and_retrieval.pruning.changes import CHANGED, LEAST, changed_clips
from and_retrieval.pruning.effect import OutputClass
from and_retrieval.pruning.prune import prune
from and_retrieval.recording.target import recorded_plans
from and_retrieval.types import Clip

CLASSES = tuple(OutputClass(name, (place,)) for place, name in enumerate("abc"))


def clips_of(count: int) -> list[Clip]:
    return [Clip(f"{row:016x}", "/", f"{row}.wav", 0.0, 1.0) for row in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_those_that_change_most_come_first(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.normal(0, 3, (2, count, 3)).astype(np.float32)
    same = rng.random(count) < 0.3
    after[same] = before[same]
    truth = rng.integers(-1, 3, count)
    of_concept = truth == 0
    rows = rng.permutation(count).tolist()
    told = changed_clips(clips_of(count), rows, before, after, truth, of_concept, CLASSES, "abc")
    moved = np.abs(softmax(after.astype(float)) - softmax(before.astype(float))).sum(axis=1) / 2
    for wanted in (True, False):
        part = [change for change in told if change.of_concept == wanted]
        known = (truth >= 0) & (of_concept == wanted) & (moved >= LEAST)
        assert [change.moved for change in part] == pytest.approx(
            sorted(moved[known], reverse=True)[:CHANGED], abs=1e-6
        )
        for change in part:
            place = rows.index(change.row)
            assert change.path == f"{change.row}.wav"
            assert (change.answer_before, change.answer_after) == (
                "abc"[before[place].argmax()],
                "abc"[after[place].argmax()],
            )
            assert change.class_name == "abc"[truth[place]]


def test_a_class_of_several_columns_counts_as_one() -> None:
    both = (OutputClass("a + b", (0, 1)), OutputClass("c", (2,)))
    before, after = np.log([[[0.5, 0.3, 0.2]], [[0.1, 0.1, 0.8]]])
    (change,) = changed_clips(
        clips_of(1), [0], before, after, np.array([0]), np.array([True]), both, ("a", "b", "c")
    )
    assert (change.before, change.after) == (pytest.approx(0.8), pytest.approx(0.2))
    assert change.moved == pytest.approx(0.6)


def test_what_prune_lists_is_what_the_network_answers(served_home: Path) -> None:
    index = ClipIndex.open(served_home / "s")
    run = Run.open(index.folder.run("net"), index)
    target = load_target(TARGET)
    result = prune(run, target, "heartbeat", budgets=[2], draws=1)
    of_concept = [change for change in result.changed if change.of_concept]
    assert len(of_concept) == min(CHANGED, result.clips[0])
    assert {change.label for change in of_concept} == {"heartbeat"}
    assert {change.answer_before for change in of_concept} == {"heartbeat"}
    assert "heartbeat" not in {change.answer_after for change in of_concept}
    others = [change for change in result.changed if not change.of_concept]
    assert others
    assert max(change.moved for change in others) < min(change.moved for change in of_concept)
    plans = recorded_plans(run.manifest.layers, target, ["relu"])
    assert target.class_names is not None
    for change in result.changed[:3]:
        batch = target.preprocess([index.read(change.row, RATE)])
        with torch.inference_mode():
            whole = target.module(batch)
            with masked(target, {"relu": list(UNITS_OF["heartbeat"])}, plans):
                without = target.module(batch)
        place = target.class_names.index(change.class_name)
        assert change.before == pytest.approx(float(softmax(whole.numpy())[0, place]), abs=1e-4)
        assert change.after == pytest.approx(float(softmax(without.numpy())[0, place]), abs=1e-4)
    told = result.answer()["changed"]
    assert [clip["row"] for clip in told] == [change.row for change in result.changed]
