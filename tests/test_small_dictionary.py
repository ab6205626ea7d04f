"""The dictionary that is trained for measurements finds planted directions, the same ones every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sounds import WriteSound, noise, tone

from and_retrieval import soundbank
from and_retrieval.clips.source import load_clips
from and_retrieval.network.dictionary import load_dictionary, save_dictionary
from and_retrieval.network.layers import plan_layers
from and_retrieval.run import no_progress
from and_retrieval.targets import load_target

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks are not installed
from bench import dictionary
from bench.small_dictionary import (
    TrainConfig,
    layer_vectors,
    linear_variance_explained,
    random_dictionary,
    train,
    variance_explained,
)

TARGET = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"
CONFIG = TrainConfig(features=48, k=3, epochs=40, batch=128, rate=3e-3)


@pytest.fixture(scope="module")
def planted() -> tuple[torch.Tensor, torch.Tensor]:
    """24 directions in 16 dimensions, and 4,000 sums of three of them."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=1)
    weights = torch.zeros(4000, 24)
    for row in weights:
        row[torch.randperm(24, generator=generator)[:3]] = torch.rand(3, generator=generator) + 0.5
    return directions, weights @ directions + 0.3


def test_planted_directions_are_found(planted: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    directions, vectors = planted
    seen, unseen = vectors[:3200], vectors[3200:]
    learned = train(seen, CONFIG)
    explained = variance_explained(learned, unseen)
    assert explained > 0.85
    assert explained > variance_explained(random_dictionary(seen, CONFIG), unseen) + 0.15
    assert explained > linear_variance_explained(seen, unseen, CONFIG.k) + 0.2
    assert learned.decoder is not None
    nearest = (directions @ torch.nn.functional.normalize(learned.decoder, dim=0)).max(dim=1).values
    assert (nearest > 0.9).float().mean() > 0.7
    for name in ("a", "b"):
        save_dictionary(train(seen, CONFIG) if name == "a" else learned, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert variance_explained(load_dictionary(tmp_path / "a"), unseen) == pytest.approx(explained, abs=1e-5)


def test_vectors_are_what_the_layer_puts_out_everywhere(tmp_path: Path, write_sound: WriteSound) -> None:
    write_sound("sounds/a.wav", tone(400, 0.5, 16_000), 16_000)
    write_sound("sounds/b.wav", noise(0.4), 16_000)
    target = load_target(TARGET)
    plan = plan_layers(target, ("detectors",))[0]
    clips = load_clips(tmp_path / "sounds").clips
    vectors = layer_vectors(target, plan, clips)
    steps = [(round(clip.duration * 16_000) - 1024) // 512 + 1 for clip in clips]
    assert vectors.shape == (sum(steps), 4)
    assert np.isfinite(vectors.numpy()).all()
    assert vectors[: steps[0], 0].mean() > 0.9  # the tone lies in the first band


@pytest.mark.slow
def test_the_suite_measures_units_features_and_random_directions(tmp_path: Path) -> None:
    kinds = ("dial tone", "heartbeat", "smoke alarm", "white noise", "dog bark", "siren", "rain", "car horn")
    sounds = soundbank.render(tmp_path / "sounds", concepts=kinds)
    figures = dictionary.run(
        source=str(sounds), embedder="embedded", target=TARGET, layer="detectors", features=8, k=2, concepts="audioset",
        top=None, home=str(tmp_path / "home"), seed=0, announce=no_progress,
    )  # fmt: skip
    units, learned, random = figures["layers"].values()
    assert (units["units"], learned["units"], random["units"]) == (4, 8, 8)
    assert units["variance_explained"] is None
    assert learned["variance_explained"] > random["variance_explained"] + 0.1
    assert learned["alive"] > 0
    table = dictionary.table(figures)
    assert "8 learned features" in table
    assert "the best 2 directions of the seen ones explain" in table
    assert str(tmp_path) not in json.dumps(figures)
