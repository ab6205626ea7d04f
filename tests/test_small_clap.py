"""The small CLAP of the benches: trained, saved as transformers saves, an embedder by name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from and_retrieval import ClipIndex, load_embedder, soundbank
from and_retrieval.clips.source import load_clips
from and_retrieval.errors import InputError
from and_retrieval.search.search import search_clips
from bench import small_clap

CONCEPTS = ("frog", "siren", "rain", "church bell")
TINY = small_clap.TrainConfig(
    dim=32, width=16, depths=(1,), heads=(2,), text_width=32, text_blocks=1, tokens=300, seconds=2, steps=150,
    batch=4, rate=3e-3, transpose=1, gain=3.0, bands=4, gaps=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("sounds"), clips_per_concept=8, concepts=CONCEPTS)


@pytest.fixture(scope="module")
def place(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clap")
    before = torch.random.get_rng_state()
    small_clap.train([sounds], place, TINY)
    assert torch.equal(before, torch.random.get_rng_state())
    return place


@pytest.fixture(scope="module")
def index(place: Path, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    return ClipIndex.build(sounds, load_embedder(f"clap:{place}"), tmp_path_factory.mktemp("home") / "index")


def test_it_learns_and_is_an_embedder(place: Path, index: ClipIndex) -> None:
    facts = small_clap.trained(place)
    assert facts is not None
    [tested] = facts.zero_shot
    assert (tested.classes, tested.trained_on, tested.held_out) == (4, 24, 8)
    assert tested.accuracy >= 0.6  # chance 0.25
    assert index.prompts == (small_clap.SENTENCE,)
    # What the training measured is what others get who load it by name.
    held = [row for row, clip in enumerate(index.clips) if clip.fold == "4"]
    near = index.vectors()[held] @ index.concept_vectors(sorted(CONCEPTS)).T
    right = [
        sorted(CONCEPTS)[best] == index.clips[row].label
        for best, row in zip(near.argmax(1), held, strict=True)
    ]
    assert np.mean(right) == pytest.approx(tested.accuracy, abs=1e-4)
    assert [clip["label"] for clip in search_clips(index, "siren", 4)].count("siren") >= 3


def test_sounds_and_texts_lie_in_cones_of_their_own(index: ClipIndex) -> None:
    """What makes it worth having: an offset between sounds and texts, as contrastive models have."""
    of_sounds, of_texts = index.vectors().mean(axis=0), index.concept_vectors(CONCEPTS).mean(axis=0)
    assert min(np.linalg.norm(of_sounds), np.linalg.norm(of_texts)) > 0.05


def test_the_same_settings_give_the_same_bytes_and_are_not_trained_twice(
    sounds: Path, tmp_path: Path
) -> None:
    steps: list[int] = []
    once = replace(TINY, steps=2)
    for place, config in (("a", once), ("a", once), ("b", once)):
        small_clap.train([sounds], tmp_path / place, config, lambda done, _: steps.append(done))
    assert steps == [1, 2, 1, 2]
    for name in (small_clap.WEIGHTS, "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_several_sources_are_tested_apart_and_labels_that_read_the_same_are_one(
    sounds: Path, tmp_path: Path
) -> None:
    other = soundbank.render(tmp_path / "more", clips_per_concept=8, concepts=("frog", "owl hoot"))
    table = other.read_text().replace(",owl hoot,", ",Church_Bell,")
    other.with_name("renamed.csv").write_text(table)
    config = replace(TINY, steps=1)
    facts = small_clap.train([sounds, other.with_name("renamed.csv")], tmp_path / "clap", config)
    assert [source.classes for source in facts.zero_shot] == [4, 2]
    with pytest.raises(InputError, match="4 labels to learn, but a step needs 5; give more sources"):
        small_clap.train([sounds, other.with_name("renamed.csv")], tmp_path / "x", replace(config, batch=5))


def test_damaged_facts(tmp_path: Path) -> None:
    assert small_clap.trained(tmp_path) is None
    (tmp_path / small_clap.FACTS).write_text("{}")
    with pytest.raises(InputError, match=r"train it again: python -m bench\.small_clap SOURCE"):
        small_clap.trained(tmp_path)


def test_the_clips_that_it_did_not_learn_from_are_listed(place: Path, sounds: Path) -> None:
    table = sounds.parent / "held_out.csv"
    with table.open("w", encoding="utf-8") as stream:
        small_clap.write_held_out(sounds, stream)
    listed = load_clips(table).clips
    table.unlink()
    kept_out = [clip for clip in load_clips(sounds).clips if clip.fold == "4"]
    assert [(clip.sha256, clip.label, clip.captions, clip.duration) for clip in listed] == [
        (clip.sha256, clip.label, clip.captions, clip.duration) for clip in kept_out
    ]
    assert len(listed) == small_clap.trained(place).zero_shot[0].held_out  # type: ignore[union-attr]
