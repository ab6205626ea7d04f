"""LAION's own code and ours give the same vectors for the same checkpoint file.

Needs laion-clap, which wants other versions than this project: `make parity` installs it beside them and runs this.
What laion-clap asks of the network while it is imported and built (three tokenizers, RoBERTa's weights) is answered
here with random weights and a small vocabulary.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from clap_models import SENTENCES, randomise, roberta_tokenizer, save_vocabulary
from sounds import noise, tone

from and_retrieval import soundbank
from and_retrieval.embed import load_embedder
from and_retrieval.types import Floats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("laion_clap") is None, reason="laion-clap is not installed: make parity"
    ),
]

RATE = 48_000
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "esc10"
CLOSE = 1e-4


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    save_vocabulary(folder)
    return folder


@contextlib.contextmanager
def without_hub(tokenizer: Any) -> Iterator[None]:
    """What laion-clap asks of a hub while it is imported and built is answered from here."""
    import transformers

    roberta = transformers.RobertaConfig(
        vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RobertaTokenizer", "BertTokenizer", "BartTokenizer"):
            patch.setattr(getattr(transformers, name), "from_pretrained", lambda *_, **__: tokenizer)
        build = transformers.RobertaModel
        patch.setattr(build, "from_pretrained", lambda *_, **__: build(roberta))
        yield


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> Any:
    return roberta_tokenizer(vocabulary)


@pytest.fixture(scope="module")
def laion(tokenizer: Any) -> Any:
    """The package laion_clap."""
    # torchvision's compiled part does not load beside a CPU-only torch; only its resizing in Python is used.
    for name, takes in (("nms", "Tensor a, Tensor b, float c"), ("qnms", "Tensor a, Tensor b, float c")):
        with contextlib.suppress(RuntimeError):  # it did load
            torch.library.define(f"torchvision::{name}", f"({takes}) -> Tensor")
    with without_hub(tokenizer):
        import laion_clap
    return laion_clap


def official(laion: Any, tokenizer: Any, path: Path, kind: str, fused: bool) -> Any:
    """LAION's module with random weights, which `path` then holds in the format of its training code."""
    torch.manual_seed(0)
    with without_hub(tokenizer):
        module = laion.CLAP_Module(enable_fusion=fused, device="cpu", amodel=kind)
    randomise(module.model)
    state = {f"module.{name}": value for name, value in module.model.state_dict().items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514).expand(1, -1)
    settings = {"text_optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-4), "params": []}]}}
    torch.save({"epoch": 1, "name": "random", "state_dict": state, "optimizer": settings}, path)
    randomise(module.model, seed=1)
    module.load_ckpt(str(path), verbose=False)
    return module.eval()


def sounds() -> list[Floats]:
    """Noise, tones, rendered sounds and, where they lie beside the checkout, recordings; one of them too loud."""
    waveforms = [
        noise(10, RATE),
        noise(3.3, RATE, seed=1, amplitude=1.5),
        tone(1_000, 4, RATE) + noise(4, RATE) * 0.01,
    ]
    rendered = (soundbank.clip(concept, 1).waveform for concept in soundbank.CONCEPTS[::20])
    waveforms += [soxr.resample(sound, soundbank.RATE, RATE) for sound in rendered]
    for path in sorted(RECORDINGS.rglob("*.ogg"))[::100]:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        waveforms.append(soxr.resample(sound.mean(axis=1), rate, RATE))
    return waveforms


@pytest.mark.parametrize(
    ("kind", "fused"), [("HTSAT-tiny", False), ("HTSAT-tiny", True), ("HTSAT-base", False)]
)
def test_the_same_vectors(
    laion: Any, tokenizer: Any, vocabulary: Path, tmp_path: Path, kind: str, fused: bool
) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((vocabulary / name).read_bytes())
    path = tmp_path / "random.pt"
    theirs = official(laion, tokenizer, path, kind, fused)
    ours = load_embedder(f"laion+fp32:{path}")
    waveforms = sounds()
    expected = np.concatenate([theirs.get_audio_embedding_from_data([sound]) for sound in waveforms])
    heard = ours.embed_audio(waveforms)
    spread = (expected @ expected.T)[~np.eye(len(expected), dtype=bool)]
    print(
        f"\n{kind} fused={fused}: audio {np.abs(heard - expected).max():.1e}, other clips' cosine {spread.mean():.3f}"
    )
    assert spread.mean() < 0.99  # otherwise equal vectors would say little
    np.testing.assert_allclose(heard, expected, atol=CLOSE)
    texts = [*SENTENCES, "dog"]
    expected = theirs.get_text_embedding(texts)
    read = ours.embed_text(texts)
    print(
        f"text {np.abs(read - expected).max():.1e}, other texts' cosine {(expected @ expected.T)[0, 1:].mean():.3f}"
    )
    np.testing.assert_allclose(read, expected, atol=CLOSE)
