"""LAION's own CLAP checkpoints (`630k-audioset-best.pt` and the like) as a `transformers.ClapModel`.

The file's keys are renamed, joined projections are split, and the size of the network is read from the shapes, so
that HTSAT-tiny, -base and -large load in the same way, with or without fusion. Parts that do not affect an embedding
(the tagging head, `*_transform`) are left out. Nothing in the file is executed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints import torchaudio_shim  # noqa: F401  (transformers' CLAP imports torchaudio)
from ..checkpoints.devices import usual_precision
from ..checkpoints.hub import TOKENIZER, load_pickled, local_model, readable
from ..errors import InputError
from .clap import Checkpoint, ClapEmbedder, check_complete, check_finite

MAX_TOKENS = 77  # as in training
LOWEST = 50  # Hz, lower edge of the mel bands
HEAD = 64  # size of a RoBERTa attention head
TOKENIZERS = ("laion/clap-htsat-unfused", "FacebookAI/roberta-base")

State = dict[str, torch.Tensor]

UNUSED = re.compile(
    r"(audio|text)_transform\.|audio_branch\.(tscam_conv|head|spectrogram_extractor|logmel_extractor)\.|.*attn_mask$"
)
RENAMED = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
)


def load(place: str, device: str = "cpu", precision: str = "") -> ClapEmbedder:
    """Load the embedder of an official LAION checkpoint.

    Such a file holds no vocabulary: the tokenizer's files are taken from the same folder, else from a model of
    `TOKENIZERS` on the hub, which has the vocabulary of RoBERTa.

    Args:
        place: The .pt file.
        device: The device to run on.
        precision: See `clap.load`.

    Raises:
        InputError: There is no such file, it holds code, it is not a CLAP with HTSAT and RoBERTa, or no tokenizer can
            be loaded.
    """
    path = Path(os.path.abspath(Path(place).expanduser()))  # noqa: PTH100 (keeps links, takes `..` away)
    typed, precision = f"+{precision}" if precision else "", precision or usual_precision(device)
    name, subject = f"laion+{precision}:{path}", f"embedder 'laion{typed}:{path}'"
    with readable(subject, f"{path} cannot be read"):
        return ClapEmbedder(_checkpoint(path, name, subject), device, precision)


def _checkpoint(path: Path, name: str, subject: str) -> Checkpoint:
    state = read_state(path, subject)
    config = config_of(state, subject)
    import transformers

    fused = config.audio_config.enable_fusion
    extractor = transformers.ClapFeatureExtractor(
        frequency_min=LOWEST, truncation="fusion" if fused else "rand_trunc"
    )
    _check_filters(state, extractor, subject)
    folder = _tokenizer_folder(path, subject)
    return Checkpoint(
        name=name,
        config=config,
        extractor=extractor,
        tokenizer=transformers.RobertaTokenizer.from_pretrained(folder),
        files=(path, *(folder / file for file in (*TOKENIZER, "merges.txt") if (folder / file).is_file())),
        load=lambda: _network(path, subject),
        max_tokens=MAX_TOKENS,
        quantised=True,
    )


def read_state(path: Path, subject: str) -> State:
    """The weights of a checkpoint by name, without the prefix of distributed training.

    Raises:
        InputError: There is no such file, it is damaged, it is not a checkpoint, or reading it would run code.
    """
    if not path.is_file():
        raise InputError(f"{subject}: there is no file {path}")
    content = load_pickled(path, subject, also=_numbers())
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    state = {str(key).removeprefix("module."): value for key, value in state.items()}
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        state = {}
    _check_kind(state, path, subject)
    return state


def config_of(state: State, subject: str) -> Any:
    """The `transformers.ClapConfig` that fits the shapes of a checkpoint.

    Raises:
        InputError: The shapes are not those of a CLAP with HTSAT and RoBERTa.
    """
    import transformers

    try:
        audio, text = _audio_settings(state), _text_settings(state)
        joint = state["audio_projection.2.weight"].shape[0]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{subject}: not the shapes of a CLAP with HTSAT and RoBERTa ({error})") from None
    return transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=joint)


def _audio_settings(state: State) -> dict[str, Any]:
    tower = "audio_branch."
    depths = [
        _count(state, rf"{tower}layers\.{stage}\.blocks\.(\d+)\.")
        for stage in range(_count(state, rf"{tower}layers\.(\d+)\."))
    ]
    tables = [
        state[f"{tower}layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        for stage in range(len(depths))
    ]
    patches = state[f"{tower}patch_embed.proj.weight"]
    return {
        "depths": depths,
        "num_attention_heads": [table.shape[1] for table in tables],
        "window_size": (math.isqrt(tables[0].shape[0]) + 1) // 2,
        "patch_embeds_hidden_size": patches.shape[0],
        "patch_size": patches.shape[2],
        "patch_stride": [patches.shape[2]] * 2,
        "hidden_size": patches.shape[0] * 2 ** (len(depths) - 1),
        "num_hidden_layers": len(depths),
        "num_mel_bins": state[f"{tower}bn0.weight"].shape[0],
        "enable_fusion": any(".fusion_model." in key for key in state),
        "fusion_type": "aff_2d",
    }


def _text_settings(state: State) -> dict[str, Any]:
    tower = "text_branch."
    vocabulary, width = state[f"{tower}embeddings.word_embeddings.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": _count(state, rf"{tower}encoder\.layer\.(\d+)\."),
        "num_attention_heads": width // HEAD,
        "intermediate_size": state[f"{tower}encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": state[f"{tower}embeddings.position_embeddings.weight"].shape[0],
        "layer_norm_eps": 1e-5,
    }


def renamed(state: State) -> State:
    """LAION's weights under the names of `transformers.ClapModel`."""
    result: State = {}
    for key, value in state.items():
        if UNUSED.match(key):
            continue
        for pattern, replacement in RENAMED:
            key = re.sub(pattern, replacement, key)
        if ".qkv." in key:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                result[key.replace(".qkv.", f".{part}.")] = piece
        else:
            result[key] = value
    return result


def _network(path: Path, subject: str) -> Any:
    with readable(subject, f"{path} cannot be read"):
        return _built(path, subject)


def _built(path: Path, subject: str) -> Any:
    """The network with the weights of a checkpoint."""
    import transformers

    state = read_state(path, subject)
    config = config_of(state, subject)
    with torch.device("meta"):  # no time spent on random weights
        network = transformers.ClapModel(config)
    weights = {
        name: value.float() if value.is_floating_point() else value for name, value in renamed(state).items()
    }
    weights |= {name: value for name, value in _computed(config, network).items() if name not in weights}
    try:
        missing, unknown = network.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:
        raise InputError(f"{subject}: {path} does not fit: {str(error).splitlines()[1].strip()}") from None
    check_complete(missing, subject, path)
    if unknown:
        raise InputError(
            f"{subject}: {path} holds {len(unknown)} weights that a CLAP does not have, such as {unknown[0]}"
        )
    check_finite(network, subject, path)
    return network


def _computed(config: Any, network: Any) -> State:
    """Buffers that a checkpoint may lack, depending on the version of transformers."""
    positions = torch.arange(config.text_config.max_position_embeddings).expand(1, -1)
    buffers = {"position_ids": positions, "token_type_ids": torch.zeros_like(positions)}
    computed = {f"text_model.embeddings.{name}": value for name, value in buffers.items()}
    for name, module in network.named_modules():
        if name.endswith(".attention.self") and hasattr(module, "create_relative_position_index"):
            computed[f"{name}.relative_position_index"] = module.create_relative_position_index()
    return computed


def _check_kind(state: State, path: Path, subject: str) -> None:
    if not any(key.startswith("audio_branch.patch_embed.") for key in state):
        is_pann = any(key.startswith("audio_branch.conv") for key in state)
        raise InputError(
            f"{subject}: {path} is not a LAION CLAP checkpoint with an HTSAT audio tower "
            f"({'it has a PANN tower' if is_pann else 'it has no audio tower'})"
        )
    if (
        "text_branch.embeddings.LayerNorm.weight" not in state
        or "text_branch.pooler.dense.weight" not in state
    ):
        raise InputError(f"{subject}: {path} has a text tower other than RoBERTa, which is not supported")
    vocabulary = state["text_branch.embeddings.word_embeddings.weight"].shape[0]
    if state["text_branch.embeddings.token_type_embeddings.weight"].shape[0] != 1:
        raise InputError(
            f"{subject}: {path} has a text tower other than RoBERTa (vocabulary of {vocabulary})"
        )
    if any(".fusion_model." in key for key in state) and not any(".mel_conv2d." in key for key in state):
        raise InputError(
            f"{subject}: {path} was made with a fusion other than aff_2d, which is not supported"
        )


def _check_filters(state: State, extractor: Any, subject: str) -> None:
    """Raise InputError unless the mel filters stored in the checkpoint equal those of the feature extractor."""
    stored = state.get("audio_branch.logmel_extractor.melW")
    if stored is None or extractor.truncation == "fusion":  # with fusion the file's filters are not used
        return
    filters = extractor.mel_filters_slaney
    if stored.shape != filters.shape or not np.allclose(stored.numpy(), filters, atol=1e-6):
        raise InputError(
            f"{subject}: made with other mel bands than LAION's (64 from 50 Hz to 14 kHz at 48 kHz)"
        )


def _tokenizer_folder(path: Path, subject: str) -> Path:
    if any((path.parent / file).is_file() for file in TOKENIZER):
        return path.parent
    reasons = []
    for spec in TOKENIZERS:
        try:
            return local_model(spec, subject, (TOKENIZER,))
        except InputError as error:
            reasons.append(str(error))
    raise InputError(
        f"{subject}: a LAION file holds no vocabulary; put RoBERTa's vocab.json and merges.txt (or tokenizer.json) "
        f"into {path.parent}. Also tried {' and '.join(TOKENIZERS)}: {reasons[-1]}"
    )


def _count(state: State, pattern: str) -> int:
    """Number of consecutive indices, from 0, that the names hold where `pattern` captures one."""
    return 1 + max(int(match[1]) for key in state if (match := re.match(pattern, key)))


def _numbers() -> list[Any]:
    """NumPy's scalar types, in which these files store the optimizer's settings; they are data, not code."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before NumPy 2, and since
    return [*((scalar, name) for name in names), np.dtype, *kinds]
