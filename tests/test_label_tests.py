"""Labels of a run are tested, and its units' measured sound is named: on the planted network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from targets.planted import BANDS

from and_retrieval import ClipIndex, ConceptBank, Run, explain, load_embedder, load_target, record, soundbank
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.config import LabelConfig, RecordConfig, SummaryConfig
from and_retrieval.recording.activations import FILE as ACTIVATIONS
from and_retrieval.recording.activations import HELD_OUT, LEAST_HELD_OUT, Activations
from and_retrieval.shards.tensors import open_tensors

CONCEPTS = (*BANDS, "birds chirping", "car horn", "church bell", "clock ticking", "dog bark", "siren")
BANK = ConceptBank("bank", CONCEPTS)
SILENT = SummaryConfig(llm="none")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    folder = tmp_path_factory.mktemp("trust")
    return ClipIndex.build(
        soundbank.render(folder / "sounds", concepts=CONCEPTS), load_embedder(), folder / "index"
    )


@pytest.fixture(scope="module")
def run(index: ClipIndex) -> Run:
    target = load_target(f"{Path(__file__).parent / 'targets' / 'planted.py'}:load")
    return record(target, index, config=RecordConfig(hold_out="0.4"))


def test_planted_labels_hold_on_unseen_clips(run: Run) -> None:
    explanations = explain(run, [BANK], LabelConfig(k=5), SILENT)
    assert len(run.held_out_rows) >= LEAST_HELD_OUT
    for unit in explanations:
        assert unit.faithfulness is not None
        assert unit.faithfulness.reliable
        assert unit.faithfulness.clips == len(run.held_out_rows)
        assert (
            unit.faithfulness.correlation
            > unit.faithfulness.best_correlation
            > unit.faithfulness.random_correlation
        )


def test_labels_of_activations_dealt_out_anew_do_not_hold(run: Run, tmp_path: Path) -> None:
    """The held-out activations are shuffled over the clips, on disk.

    The test's level is 5 %, so one shuffle in twenty may pass (of 100, 6 let one of the four units through);
    `test_faithfulness` counts them. This one must make every unit abstain.
    """
    copy = tmp_path / "index"
    shutil.copytree(run.index.folder.path, copy)
    shuffled = Run.open(ClipIndex.open(copy).folder.run(run.folder.path.name), ClipIndex.open(copy))
    files = {}
    for name in shuffled.stored.files:
        files[name] = shuffled.folder.scratch(name)
        shutil.copyfile(run.stored.file(name), files[name])
    activations = Activations(open_tensors(files[ACTIVATIONS], "r+"))
    for number in range(len(run.layers)):
        np.random.default_rng(1).shuffle(activations.layer(number, HELD_OUT))
    del activations
    shuffled.folder.commit(files, shuffled.manifest)
    explanations = explain(Run.open(shuffled.folder, shuffled.index), [BANK], LabelConfig(k=5), SILENT)
    assert not any(unit.faithfulness and unit.faithfulness.reliable for unit in explanations)
    assert all(
        unit.summary.reason == "its label does not predict it on clips it was not made from"
        for unit in explanations
    )


def test_few_held_out_clips_are_cross_fitted(index: ClipIndex) -> None:
    target = load_target(f"{Path(__file__).parent / 'targets' / 'planted.py'}:load")
    few = record(target, index, config=RecordConfig(hold_out="0.05"), run="few")
    assert len(few.held_out_rows) < LEAST_HELD_OUT
    for unit in explain(few, [BANK], LabelConfig(k=5), SILENT):
        assert unit.faithfulness is not None
        assert unit.faithfulness.clips == len(index.clips)
        assert unit.reliable == "holds"


def test_measured_sound_is_named(run: Run) -> None:
    qualities = run.qualities
    assert qualities.shape == (len(run.index.clips), len(QUALITIES))
    brightness = qualities[:, list(QUALITIES).index("brightness")]
    of = {label: np.nanmean(brightness[[c.label == label for c in run.index.clips]]) for label in CONCEPTS}
    assert of["white noise"] > of["smoke alarm"] > of["heartbeat"]
    explanations = explain(run, [BANK], LabelConfig(k=5), SILENT)
    words = {name: unit.acoustics or "" for name, unit in zip(BANDS, explanations, strict=True)}
    for name, quality in {
        "dial tone": "low-pitched",
        "heartbeat": "fluctuating",
        "smoke alarm": "treble-heavy",
        "white noise": "bright",
    }.items():
        assert quality in words[name]
    detectors = explanations.manifest.acoustics["detectors"]
    assert detectors.r2 > detectors.shuffled


def test_labels_are_tested_by_captions_too(run: Run) -> None:
    explanations = explain(run, [BANK], LabelConfig(k=5), SILENT)
    for unit in explanations:
        by_captions = unit.caption_faithfulness
        assert by_captions is not None
        assert by_captions.reliable
        assert by_captions.clips == len(run.held_out_rows)
        assert by_captions != unit.faithfulness
        assert by_captions.correlation > by_captions.best_correlation > by_captions.random_correlation
    assert tuple(run.explanations()) == tuple(explanations)


def test_without_captions_there_is_no_second_opinion(index: ClipIndex, tmp_path: Path) -> None:
    """Phrases that stand for captions come from the clips' sound, so they are not tested with."""
    sounds = Path(index.clips[0].root)
    bare = ClipIndex.build(f"{sounds}/*/*.flac", load_embedder(), tmp_path / "bare")
    assert not any(clip.caption for clip in bare.clips)
    target = load_target(f"{Path(__file__).parent / 'targets' / 'planted.py'}:load")
    recorded = record(target, bare, config=RecordConfig(hold_out="0.4"))
    explanations = explain(recorded, [BANK], LabelConfig(k=5), SILENT)
    assert all(unit.faithfulness is not None for unit in explanations)
    assert all(unit.caption_faithfulness is None for unit in explanations)
