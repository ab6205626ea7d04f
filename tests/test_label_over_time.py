"""Whether a label follows its unit over time: planted units, brute force, and what the verdict makes of it."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from targets.marked import marked
from test_moment_evidence import TARGET, layer_of, loud_second, moments_of

from and_retrieval import ClipIndex, ConceptBank, Run, load_target, record
from and_retrieval.cli import main
from and_retrieval.config import LabelConfig, RecordConfig, SummaryConfig
from and_retrieval.explanation.lines import unit_lines
from and_retrieval.explanation.moments import NearMoments, near_moments
from and_retrieval.explanation.over_time import (
    LEAST_CLIPS,
    SHIFTS,
    Fired,
    firing_clips,
    held_out_over_time,
    labels_over_time,
)
from and_retrieval.explanation.space import concept_directions
from and_retrieval.explanation.verdicts import verdict
from and_retrieval.numerics import centred
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.types import Embedder, Label, OverTime, UnitFaithfulness

BANK = ConceptBank("sounds", ("dog bark", "rain", "church bell", "helicopter", "baby cry"))
OTHERS = ("rain", "church bell", "helicopter", "baby cry")
SILENT = SummaryConfig(llm="none")
TIMED = layer_of([[0]] * 3, [[0.3]] * 3)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of clips of two sounds; half of them are a bark and a siren in either order, captioned as barks."""
    folder = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    rows = [["path", "caption"]]
    for number in range(96):
        names = ["dog bark", "siren"] if number % 2 else random.choice(OTHERS, 2, replace=False).tolist()
        parts = [np.tile(marked(loud_second(name, number), name), 2) for name in random.permutation(names)]
        soundfile.write(folder / f"{number:02}.wav", np.concatenate(parts), 16_000)
        rows.append([f"{number:02}.wav", names[0]])
    with (folder / "clips.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    with (folder / "few.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows[:41])
    return folder


@pytest.fixture(scope="module")
def run(sounds: Path, tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Run:
    index = ClipIndex.build(sounds / "clips.csv", embedder, tmp_path_factory.mktemp("home") / "pairs")
    return record(load_target(TARGET), index, config=RecordConfig(hold_out="0.5"))


class TestUnitsOfTheSameClips:
    """One unit fires at the bark, the other at the siren beside it: no test of whole clips can tell them apart."""

    def test_the_label_holds_for_that_of_the_bark_and_fails_for_that_of_the_siren(self, run: Run) -> None:
        bark, siren = run.explain(BANK, labelling=LabelConfig(evidence="captions"), summaries=SILENT)
        assert [unit.labels[0].concept for unit in (bark, siren)] == ["dog bark"] * 2
        assert bark.faithfulness is not None
        assert siren.faithfulness is not None
        assert bark.faithfulness.reliable
        assert siren.faithfulness.reliable
        assert bark.over_time is not None
        assert siren.over_time is not None
        assert (bark.over_time.follows, siren.over_time.follows) == (True, False)
        assert bark.over_time.score > 0.6
        assert siren.over_time.score < -0.6
        assert (bark.reliable, siren.reliable) == ("holds", "fails")
        assert siren.summary.text is None

    def test_export_and_report_say_so(self, run: Run, tmp_path: Path) -> None:
        explained = run.explain(BANK, labelling=LabelConfig(evidence="captions"), summaries=SILENT)
        bark, siren = unit_lines(explained)
        assert set(bark["over_time"]) == {"clips", "score", "q_value", "follows"}
        assert [unit["over_time"]["follows"] for unit in (bark, siren)] == [True, False]
        home, out = run.index.folder.path.parent, tmp_path / "units.csv"
        assert main(["export", run.name, "--format", "csv", "--out", str(out), "--home", str(home)]) == 0
        with out.open(newline="") as stream:
            told = list(csv.DictReader(stream))
        assert [unit["over_time_follows"] for unit in told] == ["True", "False"]
        assert main(["report", run.name, "--out", str(tmp_path / "r.html"), "--home", str(home)]) == 0
        assert '"overTime":[' in (tmp_path / "r.html").read_text().replace(" ", "")

    def test_each_follows_its_own_sound(self, run: Run) -> None:
        names = ("dog bark", "siren")
        near = near_moments(run.index, concept_directions(run.index, names))
        own = held_out_over_time(run, run.layers[0], near, names, [[Label(name, 1.0)] for name in names])
        assert [test is not None and test.follows for test in own] == [True, True]
        others = [[Label(name, 1.0)] for name in reversed(names)]
        swapped = held_out_over_time(run, run.layers[0], near, names, others)
        assert [test is not None and test.follows for test in swapped] == [False, False]

    def test_a_set_too_small_to_hold_out_is_cross_fitted(
        self, sounds: Path, tmp_path: Path, embedder: Embedder
    ) -> None:
        index = ClipIndex.build(sounds / "few.csv", embedder, tmp_path / "few")
        few = record(load_target(TARGET), index)
        assert few.manifest.cross_fitted
        assert len(few.peaks("heard", SEEN)) == len(few.seen_rows)
        bark, siren = few.explain(BANK, labelling=LabelConfig(evidence="captions"), summaries=SILENT)
        assert bark.over_time is not None
        assert siren.over_time is not None
        assert (bark.over_time.follows, siren.over_time.follows) == (True, False)

    def test_peaks_are_kept_of_the_clips_that_labels_are_tested_on(self, run: Run) -> None:
        peaks = run.peaks("heard", HELD_OUT)
        assert (peaks.shape, peaks.dtype) == ((len(run.held_out_rows), 2), np.float16)
        assert len(run.peaks("heard", SEEN)) == 0
        with_both = [row for row, clip in enumerate(run.held_out_rows) if clip % 2]
        assert (np.abs(np.diff(peaks[with_both].astype(float), axis=1)) > 0.9).all()

    def test_without_moments_or_time_there_is_none(self, run: Run) -> None:
        labels = [[Label("dog bark", 1.0)]] * 2
        layer = run.layers[0]
        near = near_moments(run.index, np.eye(5, run.index.dim, dtype=np.float32))
        assert held_out_over_time(run, layer, None, BANK.concepts, labels) == [None, None]
        assert all(held_out_over_time(run, layer, near, BANK.concepts, labels))
        middle = replace(layer_of([[0], [1]], [[2.0], [2.0]]), name=layer.name)
        assert held_out_over_time(run, middle, near, BANK.concepts, labels) == [None, None]
        assert held_out_over_time(run, layer, near, BANK.concepts, [[], []]) == [None, None]


def planted_times(random: np.random.Generator, clips: int, units: int) -> tuple[NearMoments, Fired]:
    """Random moments, and units that fire at random times."""
    durations = random.uniform(2.5, 12, clips)
    moments = moments_of(durations.tolist(), seed=int(random.integers(99)))
    near = NearMoments(moments, np.zeros(5, np.float32), np.eye(3, 5, dtype=np.float32))
    values = random.random((clips, units)).astype(np.float32)
    peaks = (random.random((clips, units)) * durations[:, None]).astype(np.float32)
    return near, Fired(values, peaks, np.arange(clips), np.arange(clips))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_score_and_p_value_are_those_of_all_steps_tried_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    near, fired = planted_times(random, LEAST_CLIPS + 1, 1)
    (test,) = labels_over_time(layer_of([[0]], [[0.3]]), near, fired, np.array([[1]]))
    assert test is not None
    moments = near.moments
    nearness = centred(moments.take(slice(None)), near.centre) @ near.concepts[1]
    steps = []
    for clip in np.argsort(-fired.activations[:, 0])[:LEAST_CLIPS]:
        duration = moments.durations[clip]
        times = (fired.peaks[clip, 0] + np.arange(SHIFTS) / SHIFTS * duration) % duration
        of_clip = np.array([nearness[moments.at(np.array([clip]), np.array([time]))[0]] for time in times])
        steps.append(of_clip - of_clip.mean())
    at_peaks, best = sum(of_clip[0] for of_clip in steps), sum(of_clip.max() for of_clip in steps)
    assert test.clips == LEAST_CLIPS
    assert test.score == pytest.approx(at_peaks / best, abs=1e-4)
    sums = np.array([sum(chosen) for chosen in product(*steps)])
    exact = 2 * min((sums >= at_peaks - 1e-5).mean(), (sums <= at_peaks + 1e-5).mean())
    assert test.q_value == pytest.approx(min(1, exact), abs=0.06)


@pytest.mark.parametrize("files", [1, 3])
def test_a_test_of_random_peaks_keeps_its_level(files: int) -> None:
    random = np.random.default_rng(files)
    near, fired = planted_times(random, 60, 400)
    grouped = Fired(fired.activations, fired.peaks, fired.rows, fired.rows // files)
    layer = layer_of([[0]] * 400, [[0.3]] * 400)
    told = labels_over_time(layer, near, grouped, random.integers(0, 3, (1, 400)))
    assert sum(test is not None and test.follows is not None for test in told) <= 4


def test_of_every_file_one_clip_counts_and_none_at_its_weakest() -> None:
    activations = np.array([[3, 0], [5, 0], [1, 0], [np.nan, 2], [4, 0], [0, 0], [2, 0]], np.float32)
    clips, there = firing_clips(activations, np.array([0, 0, 1, 2, 3, 4, 5]))
    assert clips[there[:, 0], 0].tolist() == [1, 4, 6, 2]
    assert clips[there[:, 1], 1].tolist() == [3]


TEST = UnitFaithfulness(30, 0.7, 0.0, 0.3, 0.8, 0.2, 0.001, True)


@pytest.mark.parametrize(("follows", "result"), [(True, "holds"), (None, "holds"), (False, "fails")])
def test_only_a_label_that_is_contradicted_fails(follows: bool | None, result: str) -> None:
    assert verdict(TEST, OverTime(9, 0.1, 0.5, follows)) == result
    assert verdict(None, OverTime(9, -0.9, 0.001, follows)) == "untested"
