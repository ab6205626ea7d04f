"""The same on a GPU as on a CPU, but for rounding: recording, embedding, explaining, pruning, by the command line.

Skipped where there is no GPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_models import CLASSES, CLASSIFIERS, saved
from clap_models import save_clap
from command_line import Answer
from sounds import WriteSound, noise

from and_retrieval import ClipIndex, load_embedder, load_target, record
from and_retrieval.config import RecordConfig
from and_retrieval.errors import InputError
from and_retrieval.recording.recording import Recording
from and_retrieval.store import Home

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

ROUNDING = 2e-3
"""Of the largest value: TF32 keeps ten bits of a factor."""


@pytest.fixture
def sounds(write_sound: WriteSound) -> str:
    """Tones, noise and clicks of three classes, with an envelope of their own each."""
    rng = np.random.default_rng(0)
    t = np.arange(32_000) / 16_000
    for number in range(12):
        envelope = np.interp(t, [0, 0.5, 1.0, 2.0], rng.uniform(0.05, 0.8, 4))
        kinds = {
            "dog": np.sign(np.sin(2 * np.pi * rng.uniform(200, 600) * t)),
            "rain": noise(2.0, seed=number),
            "siren": np.sin(2 * np.pi * (rng.uniform(600, 1500) * t + 40 * np.sin(8 * t))),
        }
        for label, sound in kinds.items():
            path = write_sound(f"sounds/{label}/{number}.wav", (envelope * sound).astype(np.float32) * 0.5)
    return str(path.parents[1])


@pytest.mark.parametrize("family", ["ast", "wav2vec2", "whisper"])
def test_a_network_responds_alike_on_both(
    answer: Answer, home: Path, sounds: str, tmp_path: Path, family: str
) -> None:
    answer("index", sounds, "--name", "both", "--embedder", f"clap:{save_clap(tmp_path / 'clap')}")
    target = f"hf:{saved(CLASSIFIERS[family], tmp_path / family)}"
    for device in ("cpu", "cuda"):
        answer("record", "both", "--target", target, "--run", device, "--device", device)
    index = ClipIndex.open(home / "both")
    on_cpu, on_gpu = (Recording.open(Home(home).run("both", device), index) for device in ("cpu", "cuda"))
    for left, right in zip(on_cpu.layers, on_gpu.layers, strict=True):
        scale = np.abs(left.top.values).max()
        assert np.allclose(left.top.values, right.top.values, atol=ROUNDING * scale, rtol=0), left.name
        assert (left.top.rows[:, 0] == right.top.rows[:, 0]).mean() > 0.8, left.name


def test_a_network_is_recorded_where_it_is(home: Path, sounds: str, tmp_path: Path) -> None:
    index = ClipIndex.build(sounds, load_embedder(f"clap:{save_clap(tmp_path / 'clap')}"), home / "s")
    spec = f"hf:{saved(CLASSIFIERS['ast'], tmp_path / 'ast')}"
    for device in ("cpu", "cuda"):
        run = record(load_target(spec, device), index, run=device)
        assert run.manifest.settings.device == device
        assert run.prune("dog", budgets=[2], draws=1, device=device).best
    with pytest.raises(InputError, match="is on cpu, but the settings say cuda"):
        record(load_target(spec), index, config=RecordConfig(device="cuda"))


def test_ears_hear_alike_on_both(answer: Answer, home: Path, sounds: str, tmp_path: Path) -> None:
    clap = save_clap(tmp_path / "clap")
    for device in ("cpu", "cuda"):
        answer("index", sounds, "--name", device, "--embedder", f"clap+fp32:{clap}", "--device", device)
    on_cpu, on_gpu = (ClipIndex.open(home / device).vectors() for device in ("cpu", "cuda"))
    cosines = (on_cpu * on_gpu).sum(1)
    assert cosines.min() > 1 - ROUNDING


def test_from_sounds_to_an_export_on_a_gpu(answer: Answer, sounds: str, tmp_path: Path) -> None:
    target = f"hf:{saved(CLASSIFIERS['ast'], tmp_path / 'ast')}"
    gpu = ("--device", "cuda")
    answer("index", sounds, "--name", "s", "--embedder", f"clap:{save_clap(tmp_path / 'clap')}", *gpu)
    result = answer(
        "record", "s", "--target", target, "--run", "r", *gpu, "--workers", "2", "--shard-seconds", "20"
    )
    assert result["shards"] > 1
    answer("explain", "s/r", "--llm", "none", *gpu)
    exported = tmp_path / "pruned.safetensors"
    curves = {
        device: answer("prune", "s/r", CLASSES[0], "--export", str(exported), "--device", device)
        for device in ("cuda", "cpu")
    }
    assert exported.is_file()
    for on_gpu, on_cpu in zip(curves["cuda"]["budgets"], curves["cpu"]["budgets"], strict=True):
        assert on_gpu["units"] == on_cpu["units"]
        assert on_gpu["gap"] == pytest.approx(on_cpu["gap"], abs=ROUNDING)
