"""Export: the network's state dict with units really zeroed or constant, a card that says why, and the way back.

A mask sets what a layer puts out. Which weights do the same is found by `makers` and `pruned_weights`; whether they do
is shown by running both.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from ..errors import ChecksumError, InputError, StaleError
from ..files import output_path, replacing, sha256, sort_header, write_text
from ..network.first_look import SAME, tolerance
from ..network.hooks import class_logits, forward, tensor_of
from ..network.mask import ZERO, Constants, Units, checked_units, masked
from ..network.plan import LayerPlan
from ..store.documents import parsed
from ..targets import weights_hash
from ..types import Floats, Target
from .makers import Maker, find_makers
from .pruned_weights import pruned_state

FORMAT = 1
MADE_BY = "and_retrieval prune"
FOR_TRANSFORMERS = {"format": "pt"}  # metadata that transformers before 5 asks for


def export_pruned(
    target: Target,
    source: str,
    units: Units,
    plans: Sequence[LayerPlan],
    waveforms: Sequence[Floats],
    path: str | Path,
    card: Mapping[str, Any],
    constants: Constants = ZERO,
) -> Path:
    """Write the state dict without the units, and beside it a card (.json); returns the path.

    Nothing is written unless the pruned weights give the outputs of the mask on `waveforms`. The network itself is
    not touched. Both files appear whole or not at all.

    Args:
        target: In eval mode.
        source: `targets.weights_hash` of the target.
        units: Layer -> units to prune.
        plans: From `network.layers.plan_layers`.
        waveforms: Equally long, at the target's rate.
        path: A .safetensors file, new or from an earlier export of the same network.
        card: JSON-able: what was removed and what it does; the source's hash and the file's are added.
        constants: What the units put out instead; zero by default.

    Raises:
        InputError: The layers cannot be pruned in the weights, the weights do not reproduce the mask, or the path
            cannot be written or holds something else.
    """
    path = writable(path, source)
    chosen = checked_units(units, plans)
    makers = find_makers(target, list(chosen), waveforms)
    state = pruned_state(target.module, makers, chosen, constants)
    with torch.inference_mode():
        with masked(target, chosen, plans, constants):
            by_mask = _output(target, waveforms)
        with masked(target, {}, ()):  # the same kernels
            by_weights = _output(_with_state(target, state), waveforms)
    difference = float((by_mask - by_weights).abs().max())
    largest = float(torch.maximum(by_mask.abs().max(), by_weights.abs().max()))
    if not difference <= tolerance(target, SAME) * largest:
        raise _not_the_mask(makers, difference, bool(constants))
    try:
        with replacing(path) as scratch:
            scratch.write_bytes(save(_as_stored(target, state), {**FOR_TRANSFORMERS, MADE_BY: source}))
            sort_header(scratch)  # the metadata come in any order; the same export is to give the same bytes
            facts = {
                "format": FORMAT,
                "made_by": MADE_BY,
                **card,
                "units": chosen,
                "zeroed_in": {layer: maker.module for layer, maker in makers.items()},
                "constants": {
                    layer: [float(values[unit]) for unit in chosen[layer]]
                    for layer, values in constants.items()
                    if layer in chosen
                },
                "source_weights": source,
                "weights_sha256": sha256(scratch),
            }
            write_text(card_path(path), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})") from None
    return path


def _not_the_mask(makers: Mapping[str, Maker], difference: float, constant: bool) -> InputError:
    made = ", ".join(f"{layer!r} (zeroed in {maker.module!r})" for layer, maker in makers.items())
    padded = ", or padding with zeros follows" if constant else ""
    instead = ", with --ablate zero" if constant else ""
    return InputError(
        f"{'constant' if constant else 'zeroed'} weights do not give what the mask gives (outputs differ by "
        f"{difference:.2g}): units of {made} reach the rest of the network by another way too{padded}; prune other "
        f"layers{instead}, or without --export"
    )


def load_pruned(target: Target, path: str | Path) -> Target:
    """A copy of the target with exported weights; the target itself keeps its own.

    Raises:
        InputError: No such file, or not an export.
        ChecksumError: The weights are not those the card describes.
        StaleError: They were exported from a network with other weights.
    """
    path = Path(path)
    try:
        card = parsed(card_path(path).read_bytes(), _Card)
    except (OSError, InputError):
        raise InputError(f"{path} has no card {card_path(path).name} of a pruned network beside it") from None
    if card.made_by != MADE_BY or not path.is_file():
        raise InputError(f"{path} is no network exported by prune")
    if sha256(path) != card.weights_sha256:
        raise ChecksumError(f"{path} is not the file its card describes; export it again")
    if card.source_weights != (loaded := weights_hash(target.module, card.not_hashed)):
        raise StaleError(
            f"{path} was exported from weights {card.source_weights}, target {target.name!r} has {loaded}; "
            "export it again"
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is no safetensors file ({error}); export it again") from None
    return _with_state(target, state)


@dataclasses.dataclass(frozen=True, slots=True)
class _Card:
    """What `load_pruned` reads of a card."""

    made_by: str
    source_weights: str
    weights_sha256: str
    not_hashed: tuple[str, ...] = ()


def card_path(path: Path) -> Path:
    """Where the card of an export lies."""
    return path.with_suffix(".json")


def writable(path: str | Path, source: str) -> Path:
    """The path, if an export of the network with weights `source` may be written there.

    Raises:
        InputError: Not a .safetensors name, no such folder, or a file of other origin lies there.
    """
    path = output_path("--export", path, (".safetensors",))
    for file, origin in ((path, _weights_origin), (card_path(path), _card_origin)):
        if file.exists() and origin(file) != (MADE_BY, source):
            raise InputError(f"{file} exists and is no earlier export of this network; choose another name")
    return path


def _weights_origin(path: Path) -> tuple[Any, Any]:
    try:
        with safe_open(path, framework="np") as stored:
            facts = stored.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return None, None
    return MADE_BY if MADE_BY in facts else None, facts.get(MADE_BY)


def _card_origin(path: Path) -> tuple[Any, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts.get("made_by"), facts.get("source_weights")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None, None


def _with_state(target: Target, state: Mapping[str, torch.Tensor]) -> Target:
    for part in target.module.modules():
        # Old-style weight norm keeps the weight it computed last, which cannot be copied with its history.
        if "weight_g" in part._parameters and isinstance(weight := part.__dict__.get("weight"), torch.Tensor):
            part.__dict__["weight"] = weight.detach().clone()
    try:
        module = copy.deepcopy(target.module)
        module.load_state_dict(state)
    except Exception as error:
        raise InputError(
            f"target {target.name!r} cannot be copied with other weights ({type(error).__name__}: {error})"
        ) from error
    return dataclasses.replace(target, module=module.eval().requires_grad_(False))


def _as_stored(target: Target, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights in the type that the target's checkpoint stores, as far as that keeps their values."""
    if target.stored_as is None:
        return dict(state)
    result = {}
    for name, value in state.items():
        narrow = value.to(target.stored_as) if value.is_floating_point() else value
        result[name] = narrow if torch.equal(narrow.to(value.dtype), value) else value
    return result


def _output(target: Target, waveforms: Sequence[Floats]) -> torch.Tensor:
    output = forward(target, waveforms, target.device)
    read = class_logits(target, output) if target.logits is not None else tensor_of("output", output)
    return read.double().cpu()
