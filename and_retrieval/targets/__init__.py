"""Targets: the networks that can be explained, by registered name or brought by the user."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from ..checkpoints.devices import resolve_device
from ..errors import InputError, unknown_name
from ..types import Target
from . import archive, huggingface, user
from .heads import with_heads
from .user import checked_target

REGISTRY: Mapping[str, str] = {"yamnet": "and_retrieval.targets.yamnet:load"}
"""Name -> `module:function`, imported only when asked for; the function returns a `Target`."""
FORMS = "'hf:ORG/NAME', 'torch:FILE.pt2' or your own 'file.py:function'"


def load_target(spec: str, device: str = "cpu", trust_remote_code: bool = False) -> Target:
    """The target called `spec`: in eval mode, on `device`, without gradients, named as it was typed.

    Args:
        spec: A registered name; `hf:ORG/NAME` or `hf:FOLDER` for a transformers model, see `huggingface`;
            `torch:FILE.pt2` for a torch.export archive, see `archive`; `path/to/file.py:function` or
            `package.module:function`. The function takes no arguments and returns a `Target`; it is
            executed because the user named it.
        device: `cpu`, `cuda`, `cuda:1`, ... or `auto`.
        trust_remote_code: Whether a Hugging Face model may run program code it brings along, and whether a
            torch.export archive, which is a program, may be loaded.

    Raises:
        InputError: The name, file, function or device does not exist, the function failed, or what it
            returned cannot be used.
    """
    place = resolve_device(device)
    if spec in REGISTRY:
        module_name, function = REGISTRY[spec].split(":")
        target = checked_target(getattr(importlib.import_module(module_name), function)(), spec)
    elif spec in ("hf:", "torch:"):
        raise InputError(f"target {spec!r} names no model: write {FORMS}")
    elif spec.startswith("hf:"):
        target = huggingface.load(spec.removeprefix("hf:"), trust_remote_code)
    elif is_archive(spec):
        target = archive.load(spec.removeprefix("torch:"), trust_remote_code)
    elif ":" in spec or spec.endswith(".py"):
        target = user.load(spec)
    else:
        raise unknown_name("target", spec, REGISTRY, f"or name {FORMS}")
    module = target.module.eval().requires_grad_(False)
    try:
        module = module.to(place)
    except RuntimeError as error:
        raise InputError(f"target {spec!r} cannot be moved to device {device!r}: {error}") from error
    return with_heads(dataclasses.replace(target, module=module, name=spec))


def is_code(spec: str) -> bool:
    """Whether loading the target of that name runs program code that does not come with this package."""
    known = spec in REGISTRY or spec.startswith("hf:")
    return is_archive(spec) or (not known and (":" in spec or spec.endswith(".py")))


def is_archive(spec: str) -> bool:
    """Whether the name is that of a torch.export archive."""
    return spec.startswith("torch:")


def layer_names(module: nn.Module) -> tuple[str, ...]:
    """Dotted names of all submodules in module order, without the root; a shared one under its first name."""
    return tuple(name for name, _ in module.named_modules() if name)


def weights_hash(module: nn.Module, without: Collection[str] = ()) -> str:
    """16 hex digits of the sha256 over names, dtypes, shapes and bytes of the state dict.

    It tells weights apart, not code: two networks without parameters hash alike.

    Args:
        module: The network.
        without: Entries of the state dict that are left out, such as a counter of calls.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if name in without:
            continue
        digest.update(f"{name}\n".encode())
        _feed(digest, value)
    return digest.hexdigest()[:16]


def entry_hashes(module: nn.Module) -> dict[str, str]:
    """Entry of the state dict -> 16 hex digits of the sha256 of its content."""
    hashes = {}
    for name, value in module.state_dict().items():
        digest = hashlib.sha256()
        _feed(digest, value)
        hashes[name] = digest.hexdigest()[:16]
    return hashes


def changed_entries(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Entries that differ between two `entry_hashes`, or are in one of them only, in order."""
    return tuple(sorted(name for name in {*before, *after} if before.get(name) != after.get(name)))


def _feed(digest: Any, value: Any) -> None:
    """Adds a state dict's value; quantised and stateful modules keep tuples and plain values there."""
    if isinstance(value, torch.Tensor):
        plain = value.dequantize() if value.is_quantized else value
        dense = (plain if plain.layout == torch.strided else plain.to_dense()).detach().cpu()
        digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(dense.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(f"{key}\n".encode())
            _feed(digest, value[key])
    elif isinstance(value, tuple | list):
        for item in value:
            _feed(digest, item)
    elif isinstance(value, bool | int | float | str | bytes | torch.dtype | None):
        digest.update(f"{value!r}\n".encode())
    else:  # the repr of an unknown object may hold its address, which changes from run to run
        digest.update(f"{type(value).__qualname__}\n".encode())
