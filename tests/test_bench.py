"""The benchmarks: registry, measures against hand counts and scikit-learn, and the small network's training."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench
from and_retrieval import soundbank
from and_retrieval.benchmark import measures as m
from and_retrieval.benchmark.names import Names, bank_names, classes_of, own_names, read_aliases
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.concepts import load_bank
from and_retrieval.errors import ChecksumError, InputError
from and_retrieval.recording.unit_index import neuron_vectors
from and_retrieval.targets import load_target
from and_retrieval.types import Clip, Kept, LayerEvidence, UnitStatistics
from bench import labels, small_cnn
from bench.source import ESC10_NAMES

CONCEPTS = ("siren", "rain", "sine tone")
SMALL = small_cnn.TrainConfig(epochs=4, batch=3, widths=(4, 8, 8, 8), hidden=16, crop=1.0)
SCORES = np.array([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.4, 0.6]])
TRUTH = np.array([[False, False, True, True], [False, True, False, False]])


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered classes, four clips each, one clip a fold."""
    return soundbank.render(tmp_path_factory.mktemp("sounds"), 4, CONCEPTS)


# Registry and result files


def test_registry_names_the_suites_and_imports_none_of_them() -> None:
    assert set(bench.suites()) >= {"labels", "topk"}
    assert all(
        module == f"bench.{bench.OTHERWISE_NAMED.get(name, name)}" for name, module in bench.suites().items()
    )
    assert bench.suites()["and"] == "bench.dissection"


def test_every_suite_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in bench.suites():
        with pytest.raises(SystemExit) as left:
            bench.run(name, ["--help"])
        assert left.value.code == 0
        assert f"bench {name}" in capsys.readouterr().out


class Counting:
    """A suite that counts, in place of one that measures for minutes."""

    __doc__ = "Counts."

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("source")
        parser.add_argument("--to", type=int, default=2)
        parser.add_argument("--home")

    @staticmethod
    def run(source: str, to: int, announce: bench.Announce, **_home: str | None) -> bench.Figures:
        announce("counting", "numbers")(to, to)
        return {"settings": {"to": to}, "data": Path(source).name, "counted": {"upto": to, "half": to / 3}}


def test_a_result_is_kept_without_places_and_overwrites_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "suites", lambda: {"counting": "bench.counting"})
    monkeypatch.setitem(sys.modules, "bench.counting", Counting)  # type: ignore[arg-type]
    source = tmp_path / "esc" / "clips.csv"
    bench.run("counting", [str(source)], quiet=True)
    result, text = bench.run("counting", [str(source), "--home", str(tmp_path)], quiet=True)
    (kept,) = (tmp_path / "results").iterdir()
    assert json.loads(kept.read_text()) == result
    assert str(tmp_path) not in kept.read_text()
    assert result["command"] == "and-retrieval bench counting esc/clips.csv"
    assert result["machine"]["cores"] >= 1
    assert "| counted | 2 | 0.667 |" in text
    bench.run("counting", [str(source), "--to", "3"], quiet=True)
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_markdown_joins_columns_and_guards_bars() -> None:
    lines = bench.markdown([{"a": "x|y", "b": 0.12345}, {"b": 2, "c": None}]).splitlines()
    assert lines == ["| a | b | c |", "| --- | --- | --- |", "| x\\|y | 0.123 |  |", "|  | 2 |  |"]


# Measures


def test_found_and_precision_on_hand_counted_lists() -> None:
    # The first query ranks 0 2 3 1 with 2 and 3 right, the second 1 3 2 0 with 1 right.
    assert [m.recall_at(SCORES, TRUTH, k) for k in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert [m.precision(SCORES, TRUTH, k) for k in (1, 2, 3)] == pytest.approx([1 / 2, 2 / 4, 3 / 6])
    assert m.mean_average_precision(SCORES, TRUTH) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)


# Names of classes


def _clip(label: str | None, number: int = 0) -> Clip:
    return Clip(id=f"{number:016x}", root="/", path=f"{number}.wav", start=0.0, duration=1.0, label=label)


def test_class_names_are_found_in_a_bank_by_alias_and_added_when_missing() -> None:
    classes = classes_of([_clip("dog_bark"), _clip("sea_waves"), _clip("Gong")], "x")
    assert own_names(classes) == Names(("Gong", "dog bark", "sea waves"), (0, 1, 2), classes)
    names = bank_names(classes, ("sea waves", "Dog"), {"dog_bark": "dog"})
    assert names == Names(("sea waves", "Dog", "Gong"), (2, 1, 0), classes)


def test_esc10_aliases_all_lie_in_the_esc50_bank() -> None:
    aliases = read_aliases(ESC10_NAMES)
    assert len(aliases) == 10
    assert set(aliases.values()) <= set(load_bank("esc50").concepts)


def test_sources_that_cannot_be_measured_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 2 clips of x carry no label"):
        classes_of([_clip("a"), _clip(None)], "x")
    with pytest.raises(InputError, match="one class only"):
        classes_of([_clip("a")], "x")
    with pytest.raises(InputError, match="cannot be read"):
        read_aliases(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns label,name"):
        read_aliases(tmp_path / "bad.csv")


def test_the_digest_changes_with_labels_and_not_with_the_place() -> None:
    clips = [_clip("a"), _clip("b", 1)]
    elsewhere = [replace(clip, root="/mnt") for clip in clips]
    assert clips_digest(clips) == clips_digest(elsewhere)
    assert clips_digest(clips) != clips_digest([_clip("a"), _clip("c", 1)])


# Labels and search of class units


def _evidence(rng: np.random.Generator, units: int, clips: int, k: int) -> LayerEvidence:
    rows = np.stack([rng.permutation(clips)[:k] for _ in range(units)]).astype(np.int32)
    values = np.sort(rng.standard_normal((units, k)).astype(np.float32))[:, ::-1].copy()
    rows[0, -1], values[0, -1] = -1, np.nan
    kept = Kept(rows, values, np.zeros_like(values))
    mean = np.zeros(units, np.float32)
    return LayerEvidence(
        "layer", "mean", kept, kept, UnitStatistics(clips, mean, mean + 1, mean - 3, mean + 3)
    )


def test_one_of_the_ways_to_weigh_is_the_package_s() -> None:
    rng = np.random.default_rng(0)
    layer, vectors = _evidence(rng, 6, 30, 5), rng.standard_normal((30, 8)).astype(np.float32)
    ours = labels.weighted(layer, vectors, excess=True, centred=True)
    np.testing.assert_allclose(ours, neuron_vectors(layer, vectors), atol=1e-6)
    others = [labels.weighted(layer, vectors, excess, centred) for _, excess, centred in labels.ways()[1:]]
    assert all(np.abs(ours - other).max() > 1e-3 for other in others)


def test_own_clips_are_counted_among_those_seen() -> None:
    rows = np.array([[0, 1, 2], [3, 0, -1]], np.int32)
    layer = replace(_evidence(np.random.default_rng(0), 2, 4, 3), top=Kept(rows, rows * 1.0, rows * 0.0))
    assert labels.own_clips(layer, [0, 0, 1, 1], 3) == {"mean": 0.5833, "worst": 0.5}
    assert labels.own_clips(layer, [0, 0, 1, 1], 1) == {"mean": 1.0, "worst": 1.0}


def test_search_looks_for_the_unit_of_the_last_layer() -> None:
    axes = np.eye(4, dtype=np.float32)
    hidden = axes[[0, 3]]  # answers to the first class too, and comes before its own unit
    figures = labels.search_figures([hidden, axes[:3]], axes[:3])
    assert figures["3 units (last layer)"]["R@1"] == {"measured": 1.0, "chance": 0.3333}
    assert figures["5 units (last two layers)"]["R@1"] == {"measured": 0.6667, "chance": 0.2}


# The small network


def test_training_twice_gives_the_same_bytes_and_learns(sounds: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    first = small_cnn.train(sounds, tmp_path / "a", SMALL)
    torch.manual_seed(99)
    second = small_cnn.train(sounds, tmp_path / "b", SMALL)
    assert first == second
    assert (tmp_path / "a" / small_cnn.WEIGHTS).read_bytes() == (
        tmp_path / "b" / small_cnn.WEIGHTS
    ).read_bytes()
    assert (first.trained_on, first.held_out) == (9, 3)
    assert first.class_names == tuple(sorted({clip.label or "" for clip in load_clips(sounds).clips}))
    other = small_cnn.train(sounds, tmp_path / "c", replace(SMALL, seed=1))
    assert other.weights != first.weights
    assert not torch.are_deterministic_algorithms_enabled()
    torch.random.set_rng_state(before)


def test_training_leaves_the_global_generator_alone(sounds: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    small_cnn.train(sounds, tmp_path, replace(SMALL, epochs=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_trained_network_is_used_again_until_its_settings_change(sounds: Path, tmp_path: Path) -> None:
    epochs: list[int] = []
    once = replace(SMALL, epochs=1)
    for config in (once, once, replace(SMALL, epochs=2)):
        small_cnn.train(sounds, tmp_path, config, lambda _, total: epochs.append(total))
    assert epochs == [1, 2, 2]


def test_the_network_is_a_target_and_names_its_own_training_clips(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(small_cnn.HOME_VARIABLE, str(tmp_path))
    spec = f"{Path(small_cnn.__file__)}:load"
    with pytest.raises(InputError, match=r"python -m bench\.small_cnn SOURCE"):
        load_target(spec)
    small_cnn.train(sounds, tmp_path, replace(SMALL, epochs=30))
    target = load_target(spec)
    assert not target.module.training
    assert target.class_names is not None
    assert target.logits is not None
    clips = [clip for clip in load_clips(sounds).clips if clip.fold != "4"]
    with torch.inference_mode():
        outputs = [target.module(target.preprocess([read_clip(clip, target.sample_rate)])) for clip in clips]
    guessed = [target.class_names[int(target.logits(output).argmax())] for output in outputs]
    assert np.mean([g == clip.label for g, clip in zip(guessed, clips, strict=True)]) >= 0.8


def test_changed_weights_are_not_loaded(sounds: Path, tmp_path: Path) -> None:
    small_cnn.train(sounds, tmp_path, replace(SMALL, epochs=1))
    with (tmp_path / small_cnn.WEIGHTS).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ChecksumError, match="was changed"):
        small_cnn.as_target(tmp_path)


def test_mel_filters_cover_the_spectrum() -> None:
    filters = small_cnn.mel_filters()
    assert filters.shape == (small_cnn.MELS, small_cnn.FRAME // 2 + 1)
    assert (filters >= 0).all()
    # Triangles that overlap by half sum to one between the first and the last centre.
    inside = filters.sum(0)[2:-12]
    torch.testing.assert_close(inside, torch.ones_like(inside), atol=1e-4, rtol=0)
