"""Dictionaries that other libraries write, and directions: what they call things, and what cannot be taken over.

A folder of SAELens has cfg.json and sae_weights.safetensors, one of EleutherAI's sparsify cfg.json and sae.safetensors.
Nothing that changes the features is guessed: a setting that is not understood is refused. Features of a transcoder are
read off its input, but what its decoder writes belongs to another layer, so they cannot be masked. Directions are
vectors in a layer's space (probes, steering vectors, concept vectors): feature i is the component along vector i.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..files import sha256

CONFIG = "cfg.json"
SAE_LENS, SPARSIFY = "sae_weights.safetensors", "sae.safetensors"
KINDS = (
    *("standard", "topk", "jumprelu"),
    *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
)
"""Architectures of SAELens that are understood."""
Tensors = Mapping[str, torch.Tensor]
ORTHONORMAL = 1e-4


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        InputError: It is none.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            settings = stored.metadata() or {}
            return {name: stored.get_tensor(name) for name in stored.keys()}, settings  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}); pickled checkpoints are not opened: save the weights "
            "with safetensors.torch.save_file"
        ) from None


def folder_arguments(folder: Path) -> tuple[dict[str, Any], str]:
    """Arguments of `Dictionary` out of a folder of SAELens or sparsify, and a hash of its files.

    Raises:
        InputError: The folder is neither, or has a setting that cannot be taken over.
    """
    files = {name: folder / name for name in (CONFIG, SAE_LENS, SPARSIFY)}
    weights = next((files[name] for name in (SAE_LENS, SPARSIFY) if files[name].is_file()), None)
    if weights is None or not files[CONFIG].is_file():
        raise InputError(
            f"{folder} holds no dictionary; SAELens writes {CONFIG} and {SAE_LENS}, sparsify {CONFIG} and {SPARSIFY}"
        )
    try:
        config = json.loads(files[CONFIG].read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise InputError(f"{files[CONFIG]} is not JSON ({error})") from None
    tensors, _ = read_tensors(weights)
    arguments = (_sae_lens if weights.name == SAE_LENS else _sparsify)(config, tensors)
    digest = hashlib.sha256("".join(sha256(files[name]) for name in (CONFIG, weights.name)).encode())
    return arguments, digest.hexdigest()


def _sae_lens(config: Mapping[str, Any], tensors: Tensors) -> dict[str, Any]:
    """SAELens, of version 3 to 6; `W_enc` is [units, features] and `W_dec` [features, units]."""
    kind = str(config.get("architecture", "standard"))
    transcoder = "transcoder" in kind
    named = str(config.get("activation_fn", config.get("activation_fn_str", "relu"))).lower()
    k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k"))
    activation = "jumprelu" if "jumprelu" in kind else "topk" if kind == "topk" or named == "topk" else named
    _refuse(
        "SAELens",
        ("architecture", kind, kind in KINDS),
        ("activation_fn", named, activation in ("relu", "topk", "jumprelu")),
        ("normalize_activations", config.get("normalize_activations", "none"), None),
        ("reshape_activations", config.get("reshape_activations", "none"), None),
        ("finetuning_scaling_factor", config.get("finetuning_scaling_factor", False), None),
    )
    bias, decoder = tensors.get("b_dec"), _needed(tensors, "W_dec")
    # A decoder that counts as normalised: its norms belong to the features.
    norms = decoder.norm(dim=-1) if config.get("rescale_acts_by_decoder_norm") else torch.ones(len(decoder))
    return {
        "encoder": (_needed(tensors, "W_enc") * norms).T,
        "encoder_bias": _needed(tensors, "b_enc") * norms,
        "decoder": None if transcoder else (decoder / norms[:, None]).T,
        "decoder_bias": None if transcoder else bias,
        "activation": activation,
        "k": int(k) if activation == "topk" and k is not None else None,
        "threshold": tensors.get("threshold") if activation == "jumprelu" else None,
        # Old versions always took b_dec off; newer ones say so.
        "pre_bias": bool(config.get("apply_b_dec_to_input", bias is not None)) and not transcoder,
    }


def _sparsify(config: Mapping[str, Any], tensors: Tensors) -> dict[str, Any]:
    """EleutherAI's sparsify; `W_dec` is [features, units]; TopK, b_dec taken off before encoding but in transcoders."""
    transcoder = bool(config.get("transcode", False)) or "W_skip" in tensors
    activation = str(config.get("activation", "topk"))
    _refuse("sparsify", ("activation", activation, activation == "topk"))
    k = config.get("k")
    if not isinstance(k, int) or k < 1:
        raise InputError(f"{CONFIG} of sparsify gives k {k!r}; a number of features from 1 on is needed")
    return {
        "encoder": _needed(tensors, "encoder.weight"),
        "encoder_bias": _needed(tensors, "encoder.bias"),
        "decoder": None if transcoder or "W_dec" not in tensors else tensors["W_dec"].T,
        "decoder_bias": None if transcoder else _needed(tensors, "b_dec"),
        "activation": "topk",
        "k": k,
        "pre_bias": not transcoder,
    }


def _refuse(library: str, *settings: tuple[str, Any, bool | None]) -> None:
    """Raise InputError for a setting that is not understood; None: understood where it is none or false."""
    for name, value, fine in settings:
        if not (value in (None, False, "none", "None") if fine is None else fine):
            raise InputError(
                f"{CONFIG} of {library} has {name} {value!r}, which changes the features and is not understood; "
                "fold it into the weights and save them as a safetensors file"
            )


def _needed(tensors: Tensors, name: str) -> torch.Tensor:
    if name not in tensors:
        raise InputError(f"no tensor {name}; there are {', '.join(sorted(tensors)) or 'none'}")
    return tensors[name]


def directions(tensors: Tensors) -> dict[str, Any]:
    """Arguments of `Dictionary` for vectors: float [units] each, or [vectors, units], in the order of their names.

    Each is brought to unit length. If they are orthonormal, a masked one is projected out; else they cannot be masked.

    Raises:
        InputError: They have different lengths, or one is zero or not finite.
    """
    rows = [tensors[name].float().reshape(-1, tensors[name].shape[-1]) for name in sorted(tensors)]
    widths = {row.shape[1] for row in rows}
    if len(widths) > 1:
        raise InputError(
            f"directions of one layer have one length, not {', '.join(map(str, sorted(widths)))}"
        )
    vectors = torch.cat(rows)
    lengths = vectors.norm(dim=1, keepdim=True)
    if not torch.isfinite(lengths).all() or (lengths == 0).any():
        raise InputError("a direction is zero or holds values that are no finite numbers")
    vectors = vectors / lengths
    orthonormal = torch.allclose(vectors @ vectors.T, torch.eye(len(vectors)), atol=ORTHONORMAL)
    return {
        "encoder": vectors,
        "encoder_bias": torch.zeros(len(vectors)),
        "decoder": vectors.T.contiguous() if orthonormal else None,
        "activation": "linear",
    }


def are_directions(tensors: Tensors, known: frozenset[str], settings: Mapping[str, str]) -> bool:
    """Whether a file's tensors are vectors: no name of a dictionary's, and at most two axes."""
    return (
        bool(tensors)
        and not known & tensors.keys()
        and "activation" not in settings
        and all(
            tensor.ndim in (1, 2) and tensor.numel() and tensor.is_floating_point()
            for tensor in tensors.values()
        )
    )
