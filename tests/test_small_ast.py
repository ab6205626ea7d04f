"""The small AST of the benches: trained, saved as transformers saves, a target by name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sounds import WriteSound, noise, tone

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from and_retrieval.clips.source import held_out, load_clips, read_clip
from and_retrieval.errors import InputError
from and_retrieval.targets import load_target
from bench import small_ast

TINY = small_ast.TrainConfig(
    epochs=8, batch=8, width=24, blocks=2, frames=160, patches=40, rate=5e-3, threads=1, stretch=0.1
)


@pytest.fixture
def sounds(write_sound: WriteSound) -> Path:
    """Two classes no network should confuse, 12 clips each, one of them unlike the others in length."""
    for seed in range(12):
        seconds = 1.4 + 0.3 * (seed == 5)
        write_sound(f"set/noise/{seed}.wav", noise(seconds, seed=seed))
        write_sound(f"set/tone/{seed}.wav", tone(400 + 50 * seed, seconds, 16_000))
    return write_sound("set/tone/short.wav", tone(500, 0.3, 16_000)).parents[1]


def test_it_learns_and_is_a_target(sounds: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    facts = small_ast.train(sounds, tmp_path / "ast", TINY)
    assert torch.equal(before, torch.random.get_rng_state())
    assert facts.class_names == ("noise", "tone")
    assert facts.trained_on + facts.held_out == 25
    assert facts.accuracy >= 0.8
    # What it was measured by is what others get who load it by name.
    target = load_target(f"hf:{tmp_path / 'ast'}")
    assert target.class_names == facts.class_names
    assert target.logits is not None
    clips = load_clips(sounds).clips
    right = []
    for clip in (clip for clip, out in zip(clips, held_out(clips), strict=True) if out):
        with torch.inference_mode():
            logits = target.logits(target.module(**target.preprocess([read_clip(clip, target.sample_rate)])))
        right.append(facts.class_names[int(logits.argmax())] == clip.label)
    assert np.mean(right) == pytest.approx(facts.accuracy, abs=1e-4)


def test_the_same_settings_give_the_same_bytes_and_are_not_trained_twice(
    sounds: Path, tmp_path: Path
) -> None:
    epochs: list[int] = []
    once = replace(TINY, epochs=1)
    for place, config in (("a", once), ("a", once), ("b", once), ("b", replace(once, seed=1))):
        small_ast.train(sounds, tmp_path / place, config, lambda done, _: epochs.append(done))
        if len(epochs) == 2:
            files = [(tmp_path / name / small_ast.WEIGHTS).read_bytes() for name in "ab"]
            assert files[0] == files[1]
    assert len(epochs) == 3


def test_damaged_facts(tmp_path: Path) -> None:
    assert small_ast.trained(tmp_path) is None
    (tmp_path / small_ast.FACTS).write_text("{}")
    with pytest.raises(InputError, match=r"train it again: python -m bench\.small_ast SOURCE"):
        small_ast.trained(tmp_path)
