"""Export: the network's state dict with units really zeroed, a card that says why, and the way back.

A mask zeroes what a layer puts out. The weights that make it zero are the rows (weight and bias) of the layer itself,
or, for a layer without weights, of the one it gets its input from, as long as everything between keeps a zero unit
zero. Whether that is so is shown by running both.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import ChecksumError, InputError, StaleError
from ..files import output_path, replacing, sha256, write_text
from ..network.dictionary import FEATURES, Dictionary
from ..network.hooks import class_logits, forward, tensor_of
from ..network.mask import Units, checked_units, masked
from ..network.plan import LayerPlan
from ..network.replay import hookable
from ..targets import weights_hash
from ..types import Floats, Target

FORMAT = 1
MADE_BY = "and_retrieval prune"
SAME = 1e-5  # largest difference between mask and weights, relative to the largest output

# Put out zero for zero, unit by unit, whatever the other units do.
KEEP_ZERO = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Tanh, nn.Tanhshrink, nn.Softsign, nn.Hardswish, nn.Hardshrink, nn.Softshrink,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.LPPool1d, nn.LPPool2d,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.Upsample,
)  # fmt: skip
ROWS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d,
)  # fmt: skip
"""Modules whose unit i is zero when row i of weight and bias is."""


def zeroed_by(
    target: Target, layers: Sequence[str], waveforms: Sequence[Floats], device: str | torch.device = "cpu"
) -> dict[str, str]:
    """Layer -> the module whose weights make its units, found by following one forward pass backwards.

    Args:
        target: In eval mode, on `device`.
        layers: Names of modules.
        waveforms: Equally long, at the target's rate.
        device: Where the network is.

    Raises:
        InputError: A layer's units are not made by weights of its own, nor by those of a layer in front of it from
            which only modules that keep zero zero lead to it; names a layer that can be exported.
    """
    calls: list[tuple[str, Any, Any]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, inputs, output: calls.append((name, inputs[0] if inputs else None, output))

    hooks = [module.register_forward_hook(note(name)) for name, module in hookable(target.module)]
    try:
        with torch.inference_mode(), masked(target, {}, ()):
            forward(target, waveforms, device)
    finally:
        for hook in hooks:
            hook.remove()
    modules = dict(target.module.named_modules())
    return {layer: _maker(layer, modules, calls) for layer in layers}


def _maker(layer: str, modules: Mapping[str, nn.Module], calls: Sequence[tuple[str, Any, Any]]) -> str:
    value = next((output for name, _, output in reversed(calls) if name == layer), None)
    if value is None:
        raise InputError(f"layer {layer!r} does not run, so nothing of it can be exported")
    if _is_feature(layer, modules):
        return layer
    value = tensor_of(layer, value)
    while True:
        # The module that ended first with this very tensor made it; others hand it on.
        name, taken, _ = next((call for call in calls if _puts_out(call, value)), ("", None, None))
        module = modules.get(name)
        if name and _has_rows(module):
            return name
        if module is None or not isinstance(taken, torch.Tensor) or not _keeps_zero(module, taken):
            raise _not_exportable(layer, name, modules, calls)
        value = taken


def _puts_out(call: tuple[str, Any, Any], value: torch.Tensor) -> bool:
    name, _, output = call
    first = output[0] if isinstance(output, tuple | list) and output else output
    return name != "" and first is value


def _has_rows(module: nn.Module | None) -> bool:
    # Weights that are computed (weight norm, pruning masks) are no parameters and cannot be written to.
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d) and module.groups == 1
    known = isinstance(module, ROWS) or transposed
    return known and module is not None and isinstance(module._parameters.get("weight"), nn.Parameter)


def _keeps_zero(module: nn.Module, taken: torch.Tensor) -> bool:
    """Whether zero stays zero: by type, or, for a function of the user's or of a library, by trying.

    Trying does not show that units are independent of each other; comparing mask and weights does.
    """
    if isinstance(module, KEEP_ZERO):
        return True
    if any(True for _ in (*module.children(), *module.parameters(), *module.buffers())):
        return False
    try:
        output = module(torch.zeros_like(taken))
    except Exception:
        return False
    return isinstance(output, torch.Tensor) and output.shape == taken.shape and not bool(output.any())


def _is_feature(layer: str, modules: Mapping[str, nn.Module]) -> bool:
    owner, _, last = layer.rpartition(".")
    return last == FEATURES and isinstance(modules.get(owner), Dictionary)


def _not_exportable(
    layer: str, stuck: str, modules: Mapping[str, nn.Module], calls: Sequence[tuple[str, Any, Any]]
) -> InputError:
    names = [name for name, *_ in calls]
    before = [name for name in names[: names.index(layer)] if _has_rows(modules.get(name))]
    inside = [name for name in before if name.startswith(f"{layer}.")] or before
    why = (
        f"{stuck!r}, a {type(modules[stuck]).__name__},"
        if stuck in modules and stuck
        else "code outside any module"
    )
    instead = f"; record and prune {inside[-1]!r} instead" if inside else ""
    return InputError(
        f"units of layer {layer!r} cannot be zeroed in the weights: {why} computes its output{instead}, "
        "or prune without --export"
    )


def zeroed_state(module: nn.Module, makers: Mapping[str, str], units: Units) -> dict[str, torch.Tensor]:
    """A copy of the state dict in which the rows of the units are zero.

    Args:
        module: The network.
        makers: From `zeroed_by`.
        units: Layer -> units.

    Raises:
        InputError: The state dict holds what is no tensor (quantised networks).
    """
    state: dict[str, torch.Tensor] = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor) or value.is_quantized:
            raise InputError(
                f"{name} of the network is no plain tensor, so its state dict cannot be exported"
            )
        state[name] = value.detach().cpu().contiguous().clone()
    modules = dict(module.named_modules())
    for layer, numbers in units.items():
        maker = makers[layer]
        rows = torch.tensor(sorted(numbers), dtype=torch.int64)
        if isinstance(modules.get(maker.rpartition(".")[0]), Dictionary):
            state[f"{maker.rpartition('.')[0]}.kept"][rows] = 0
            continue
        transposed = isinstance(modules[maker], nn.ConvTranspose1d | nn.ConvTranspose2d)
        weight = state[f"{maker}.weight"]
        if rows.numel() and int(rows[-1]) >= weight.shape[int(transposed)]:
            raise InputError(
                f"layer {layer!r} has more units than {maker!r}, which makes them; prune another layer"
            )
        weight.index_fill_(int(transposed), rows, 0)
        if f"{maker}.bias" in state:
            state[f"{maker}.bias"][rows] = 0
    return state


def export_pruned(
    target: Target,
    source: str,
    units: Units,
    plans: Sequence[LayerPlan],
    waveforms: Sequence[Floats],
    path: str | Path,
    card: Mapping[str, Any],
    device: str | torch.device = "cpu",
) -> Path:
    """Write the state dict without the units, and beside it a card (.json); returns the path.

    Nothing is written unless the zeroed weights give the outputs of the mask on `waveforms`. The network itself is
    not touched. Both files appear whole or not at all.

    Args:
        target: In eval mode, on `device`.
        source: `targets.weights_hash` of the target.
        units: Layer -> units to zero.
        plans: From `network.layers.plan_layers`.
        waveforms: Equally long, at the target's rate.
        path: A .safetensors file, new or from an earlier export of the same network.
        card: JSON-able: what was removed and what it does; the source's hash and the file's are added.
        device: Where the network is.

    Raises:
        InputError: The layers cannot be zeroed in the weights, the weights do not reproduce the mask, or the path
            cannot be written or holds something else.
    """
    path = writable(path, source)
    chosen = checked_units(units, plans)
    makers = zeroed_by(target, list(chosen), waveforms, device)
    state = zeroed_state(target.module, makers, chosen)
    with torch.inference_mode():
        with masked(target, chosen, plans):
            by_mask = _output(target, waveforms, device)
        with masked(target, {}, ()):  # the same kernels
            by_weights = _output(_with_state(target, state), waveforms, device)
    difference = float((by_mask - by_weights).abs().max())
    if not difference <= SAME * max(1.0, float(by_mask.abs().max())):
        made = ", ".join(f"{layer!r} (zeroed in {maker!r})" for layer, maker in makers.items())
        raise InputError(
            f"zeroed weights do not give what the mask gives (outputs differ by {difference:.2g}): units of {made} "
            "reach the rest of the network by another way too; prune other layers, or without --export"
        )
    try:
        with replacing(path) as scratch:
            # One entry: several are written in any order, and the same export is to give the same bytes.
            save_file(state, scratch, {MADE_BY: source})
            facts = {
                "format": FORMAT,
                "made_by": MADE_BY,
                **card,
                "units": chosen,
                "zeroed_in": makers,
                "source_weights": source,
                "weights_sha256": sha256(scratch),
            }
            write_text(card_path(path), json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})") from None
    return path


def load_pruned(target: Target, path: str | Path) -> Target:
    """A copy of the target with exported weights; the target itself keeps its own.

    Raises:
        InputError: No such file, or not an export.
        ChecksumError: The weights are not those the card describes.
        StaleError: They were exported from a network with other weights.
    """
    path = Path(path)
    try:
        card = json.loads(card_path(path).read_text(encoding="utf-8"))
        made_by, source, digest = card["made_by"], card["source_weights"], card["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} has no card {card_path(path).name} of a pruned network beside it") from None
    if made_by != MADE_BY or not path.is_file():
        raise InputError(f"{path} is no network exported by prune")
    if sha256(path) != digest:
        raise ChecksumError(f"{path} is not the file its card describes; export it again")
    if source != (own := weights_hash(target.module)):
        raise StaleError(
            f"{path} was exported from weights {source}, target {target.name!r} has {own}; export it again"
        )
    return _with_state(target, load_file(path))


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
    except (SafetensorError, OSError):
        return None, None
    return MADE_BY if MADE_BY in facts else None, facts.get(MADE_BY)


def _card_origin(path: Path) -> tuple[Any, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts.get("made_by"), facts.get("source_weights")
    except (OSError, ValueError, AttributeError):
        return None, None


def _with_state(target: Target, state: Mapping[str, torch.Tensor]) -> Target:
    try:
        module = copy.deepcopy(target.module)
        module.load_state_dict(state)
    except Exception as error:
        raise InputError(
            f"target {target.name!r} cannot be copied with other weights ({type(error).__name__}: {error})"
        ) from error
    return dataclasses.replace(target, module=module.eval().requires_grad_(False))


def _output(target: Target, waveforms: Sequence[Floats], device: str | torch.device) -> torch.Tensor:
    output = forward(target, waveforms, device)
    read = class_logits(target, output) if target.logits is not None else tensor_of("output", output)
    return read.double().cpu()
