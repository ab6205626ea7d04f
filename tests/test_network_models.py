"""Networks of transformers: names of blocks, the part that hears, arguments by the model's signature."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sounds import noise
from torch import nn

from and_retrieval.checkpoints import torchaudio_shim  # noqa: F401  (before transformers)
from and_retrieval.errors import InputError
from and_retrieval.network.choice import match_layers
from and_retrieval.network.layers import plan_layers
from and_retrieval.network.probe import probed
from and_retrieval.targets import load_target
from and_retrieval.targets.blocks import block_aliases

LONG_NAMES = [
    "encoder.layers.0.conv.parametrizations.weight.original0.of_some_length_that_goes_on_and_on!",
    "decoder.upsampler.12." + "resblocks_and_more_of_them." * 40 + "7",
    "text_encoder.encoder.layers.5." + "a" * 5_000,
    "semantic.layers.23." + "layernorm_1." * 300 + "-",
    "kernel_predictor.0." + "ab_" * 2_000 + "!",
]


class Named(nn.Module):
    """A module that claims to have parts of any names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def named_modules(self, *_: Any, **__: Any) -> Any:
        return ((name, self) for name in self.names)

    def get_submodule(self, _target: str) -> nn.Module:
        return self


@pytest.mark.parametrize("name", LONG_NAMES)
def test_long_names_take_no_time(name: str) -> None:
    begin = time.process_time()
    assert block_aliases(Named([name] * 20)) == {}
    assert time.process_time() - begin < 1


@settings(max_examples=50, deadline=1000)
@given(st.lists(st.text("a1_.Z-", min_size=1, max_size=400), min_size=1, max_size=20))
def test_any_names_take_no_time(names: list[str]) -> None:
    block_aliases(Named(names))


def test_names_of_blocks_are_what_they_were() -> None:
    names = [
        "a.layers.0.attention.o_proj",
        "a.layers.12.mlp.fc2",
        "x.3.blocks.2.output.dense",
        "fc2",
        "layers.1.other",
    ]
    assert block_aliases(Named(names)) == {
        "block0.attention": "a.layers.0.attention.o_proj",
        "block2.output": "x.3.blocks.2.output.dense",
        "block12.output": "a.layers.12.mlp.fc2",
    }


def _encodec(t: Any) -> tuple[Any, Any]:
    config = t.EncodecConfig(
        num_filters=4, hidden_size=8, codebook_size=16, codebook_dim=8, num_lstm_layers=1
    )
    return t.EncodecModel(config), t.EncodecFeatureExtractor()


def _dac(t: Any) -> tuple[Any, Any]:
    config = t.DacConfig(
        encoder_hidden_size=4, downsampling_ratios=[2, 4], decoder_hidden_size=16, upsampling_ratios=[4, 2],
        codebook_size=16, codebook_dim=4, n_codebooks=2, hop_length=8,
    )  # fmt: skip
    return t.DacModel(config), t.DacFeatureExtractor(hop_length=8)


def _clap(t: Any) -> tuple[Any, Any]:
    audio = {
        "spec_size": 256, "num_mel_bins": 64, "patch_embeds_hidden_size": 16, "depths": [1, 1],
        "num_attention_heads": [2, 2], "hidden_size": 32, "num_classes": 5, "window_size": 4,
    }  # fmt: skip
    text = {
        "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    }  # fmt: skip
    config = t.ClapConfig(audio_config=audio, text_config=text, projection_dim=8)
    return t.ClapModel(config), t.ClapFeatureExtractor(truncation="rand_trunc")


MODELS: dict[str, Callable[[Any], tuple[Any, Any]]] = {"encodec": _encodec, "dac": _dac, "clap": _clap}


def saved(name: str, folder: Path) -> tuple[Path, Any]:
    import transformers

    torch.manual_seed(0)
    model, extractor = MODELS[name](transformers)
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("name", MODELS)
def test_models_of_sound_are_recorded(name: str, tmp_path: Path) -> None:
    folder, model = saved(name, tmp_path / name)
    target = load_target(f"hf:{folder}")
    names = match_layers(target.module, target.layers)
    plans = plan_layers(target, names[:6])
    sounds = [noise(1.0, target.sample_rate, seed=seed) for seed in range(2)]
    got = probed(target, plans, sounds)
    assert got
    assert all(np.isfinite(values).all() for values, _ in got.values())
    if name == "clap":
        theirs = model.audio_model(**target.preprocess(sounds)).pooler_output
        torch.testing.assert_close(target.module(**target.preprocess(sounds)).pooler_output, theirs)


def test_a_model_of_text_hears_no_sound(tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="hear no sound"):
        load_target(f"hf:{tmp_path}")


def test_the_type_of_stored_weights_is_known(tmp_path: Path) -> None:
    folder, _ = saved("dac", tmp_path / "dac")
    path = folder / "model.safetensors"
    assert load_target(f"hf:{folder}").stored_as is None
    save_file({name: value.half() for name, value in load_file(path).items()}, path, {"format": "pt"})
    assert load_target(f"hf:{folder}").stored_as is torch.float16


def patterns() -> list[str]:
    """Every regular expression that stands as text in a call of `re` in the package."""
    import ast

    import and_retrieval

    globs = set()
    for path in Path(and_retrieval.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            if of_re and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                globs.add(node.args[0].value)
    return sorted(globs)


@pytest.mark.parametrize("pattern", patterns())
def test_no_pattern_explodes(pattern: str) -> None:
    import re

    begin = time.process_time()
    for text in (
        "a" * 2_000,
        "a." * 1_000,
        "_1a" * 700,
        " " * 2_000,
        "(" * 2_000,
        "a, " * 700,
        "0" * 2_000,
        "a-" * 1_000,
    ):
        for end in ("", "!", "\x00"):
            re.search(pattern, text + end)
            re.fullmatch(pattern, text + end)
    assert time.process_time() - begin < 2
