"""The networks of docs/gallery.md, as a reader would copy them: recorded on rendered sounds, with random weights."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import audio_models
import numpy as np
import pytest
import torch
from audio_models import FEW, WAVE, WHISPER
from clap_models import save_clap
from command_line import Answer
from embedders import FakeEmbedder
from readme_examples import ROOT, readme_example
from test_network_models import MODELS

from and_retrieval import soundbank
from and_retrieval.clips.index import ClipIndex
from and_retrieval.recording.recording import Recording

CONCEPTS = ("dog bark", "rain", "siren")
BLOCKS = audio_models.BLOCKS
TDNN = {
    "tdnn_dim": (16, 16, 24),
    "tdnn_kernel": (5, 3, 1),
    "tdnn_dilation": (1, 2, 1),
    "xvector_output_dim": 12,
}
PLACE = re.compile(r'^PLACE = "[^"]+"', re.MULTILINE)
RELEASED = 'state = torch.load("Cnn14_mAP=0.431.pth", weights_only=True)["model"]'


def speaker(t: Any) -> tuple[Any, Any]:
    """A WavLM with an x-vector head, and its feature extractor."""
    return t.WavLMForXVector(t.WavLMConfig(**WAVE, **FEW, **TDNN)), t.Wav2Vec2FeatureExtractor()


def codec(t: Any) -> tuple[Any, Any]:
    """EnCodec with as many layers as the released one, each narrow."""
    config = t.EncodecConfig(num_filters=2, hidden_size=8, codebook_size=16, codebook_dim=8)
    return t.EncodecModel(config), t.EncodecFeatureExtractor()


def whisper(t: Any) -> tuple[Any, Any]:
    """Whisper as it is released, with encoder and decoder."""
    return t.WhisperForConditionalGeneration(t.WhisperConfig(**WHISPER)), t.WhisperFeatureExtractor()


Build = Callable[[Any], tuple[Any, Any]]
CHECKPOINTS: Mapping[str, Build] = {"whisper": whisper, "codec": codec, "speaker": speaker}
"""Program -> the model that it loads."""
BY_NAME: Mapping[str, Build | None] = {
    "openai/whisper-tiny": whisper,
    "facebook/encodec_24khz": MODELS["encodec"],
    "descript/dac_44khz": MODELS["dac"],
    "microsoft/wavlm-base-plus-sv": speaker,
    "facebook/hubert-base-ls960": audio_models._wave("Hubert", head="Model"),
    "MIT/ast-finetuned-audioset-10-10-0.4593": audio_models.CLASSIFIERS["ast"],
    "laion/clap-htsat-unfused": None,
}
"""Name in the table -> a model of the same kind; None: CLAP."""

EXPECTED = {
    "whisper": {
        f"layers.{n}.{kind}": units
        for n in range(BLOCKS)
        for kind, units in (("self_attn.heads", 2), ("activation_fn", audio_models.HIDDEN))
    },
    "codec": None,
    "speaker": {"tdnn.0": 16, "tdnn.1": 16, "tdnn.2": 24, "feature_extractor": 12},
    "crepe": {"classifier": 360},
    "torchaudio": {
        f"encoder.transformer.layers.{n}.{kind}": units
        for n in range(12)
        for kind, units in (("attention.heads", 12), ("feed_forward.intermediate_dense", 3072))
    },
    "cnn14": {
        **{f"conv_block{n}.conv2": 2 ** (5 + n) for n in range(1, 7)},
        "fc1": 2048,
        "fc_audioset": 527,
    },
}
"""Name of the program -> the layers it records by itself, and their units; None: too many to list."""
SLOW = ("torchaudio", "cnn14", "crepe", "facebook/encodec_24khz", "descript/dac_44khz")


def slow_marked(names: Iterable[str]) -> list[Any]:
    """Names as parameters, those of what takes long marked so."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rendered sounds."""
    return soundbank.render(tmp_path_factory.mktemp("sounds"), 1, CONCEPTS)


@pytest.fixture
def index(rendered: Path, home: Path) -> ClipIndex:
    return ClipIndex.build(rendered, FakeEmbedder(), home / "s")


def recorded(answer: Answer, index: ClipIndex, target: str) -> Mapping[str, int]:
    """Layer -> units of what `record` leaves of a target; every unit has an activation for every clip."""
    options = ("--batch", "2", "--top-k", "2", "--hold-out", "0", "--run", "r")
    summary = answer("record", "s", "--target", target, *options)
    assert summary["clips"] == len(CONCEPTS)
    assert summary["skipped"] == []
    recording = Recording.open(index.folder.run("r"), index)
    for layer in recording.layers:
        values = layer.top.values
        assert np.isfinite(values).all(), layer.name
        assert np.ptp(values, axis=1).max() > 0, layer.name  # sounds differ to some unit
    return {layer["name"]: layer["units"] for layer in summary["layers"]}


def program(name: str, folder: Path) -> Path:
    """The program in a file, with the place of its checkpoint, if it has one, replaced by that of a small one."""
    text = readme_example(name)
    if name in CHECKPOINTS:
        saved = audio_models.saved(CHECKPOINTS[name], folder / "checkpoint")
        text, places = PLACE.subn(f'PLACE = "{saved}"', text)
        assert places == 1
    path = folder / "network.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", slow_marked(EXPECTED))
def test_a_program_is_recorded_as_it_stands(
    name: str, index: ClipIndex, tmp_path: Path, answer: Answer
) -> None:
    layers = recorded(answer, index, f"{program(name, tmp_path)}:load")
    assert EXPECTED[name] in (None, layers)
    if name == "codec":
        assert len(layers) == 18  # its convolutions, those of blocks and shortcuts included
        assert list(layers.values())[-1] == 8


def test_the_table_of_names_is_tested() -> None:
    text = (ROOT / "docs/gallery.md").read_text(encoding="utf-8").partition("\n## A Whisper")[0]
    assert set(re.findall(r"`hf:(\w[\w./-]+)`", text)) == set(BY_NAME)


@pytest.mark.parametrize("name", slow_marked(BY_NAME))
def test_a_network_is_recorded_by_its_name(
    name: str, index: ClipIndex, tmp_path: Path, answer: Answer
) -> None:
    build = BY_NAME[name]
    folder = save_clap(tmp_path / "m") if build is None else audio_models.saved(build, tmp_path / "m")
    assert recorded(answer, index, f"hf:{folder}")


def test_released_weights_of_cnn14_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the released file, read from the code that wrote it (audioset_tagging_cnn, pytorch/models.py)."""
    path = program("cnn14", tmp_path)
    network = runpy.run_path(str(path))["Cnn14"]()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {f"bn0.{part}" for part in norm} | {
        f"{layer}.{part}" for layer in ("fc1", "fc_audioset") for part in ("weight", "bias")
    }
    for block in range(1, 7):
        for n in (1, 2):
            names |= {f"conv_block{block}.conv{n}.weight", *(f"conv_block{block}.bn{n}.{p}" for p in norm)}
    assert set(network.state_dict()) == names
    front = {
        "spectrogram_extractor.stft.conv_real.weight": torch.ones(1),
        "logmel_extractor.melW": torch.ones(1),
    }
    torch.save({"iteration": 1, "model": front | network.state_dict()}, tmp_path / "Cnn14_mAP=0.431.pth")
    text = path.read_text()
    assert RELEASED in text
    path.write_text(
        text.replace("    # state =", "    state =").replace("    # network.load", "    network.load")
    )
    monkeypatch.chdir(tmp_path)
    loaded = runpy.run_path(str(path))["load"]().module
    assert all(value.equal(network.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_mel_bands_of_cnn14_are_those_of_librosa(tmp_path: Path) -> None:
    from transformers.audio_utils import mel_filter_bank

    bank = runpy.run_path(str(program("cnn14", tmp_path)))["mel"].mel_scale.fb
    theirs = mel_filter_bank(513, 64, 50.0, 14_000.0, 32_000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(bank.numpy(), theirs, atol=1e-6)


def test_the_torchaudio_network_is_that_of_the_pipeline() -> None:
    import torchaudio

    with torch.device("meta"):
        ours = torchaudio.models.hubert_base().state_dict()
        bundle = torchaudio.pipelines.HUBERT_BASE
        theirs = torchaudio.models.wav2vec2_model(**bundle._params).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }


def test_crepe_has_the_layers_of_torchcrepe(tmp_path: Path) -> None:
    network = runpy.run_path(str(program("crepe", tmp_path)))["Crepe"]().eval()
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")}
    assert shapes["conv1.weight"] == (128, 1, 512, 1)
    assert shapes["conv6.weight"] == (64, 32, 64, 1)
    assert shapes["conv1_BN.weight"] == (128,)
    assert shapes["classifier.weight"] == (360, 256)
    assert network(torch.zeros(2, 16_000)).shape == (2, 101, 360)
