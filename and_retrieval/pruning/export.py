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
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ..errors import ChecksumError, InputError, StaleError
from ..files import output_path, replacing, sha256, sort_header, write_text
from ..network.dictionary import FEATURES, Dictionary
from ..network.hooks import class_logits, forward, tensor_of
from ..network.mask import Units, checked_units, masked
from ..network.plan import LayerPlan
from ..network.replay import hookable
from ..store import parsed
from ..targets import weights_hash
from ..types import Floats, Target

FORMAT = 1
MADE_BY = "and_retrieval prune"
FOR_TRANSFORMERS = {"format": "pt"}  # metadata that transformers before 5 asks for
SAME = 1e-5  # largest difference between mask and weights, relative to the largest output
ROUNDINGS = 16  # units in the last place that are allowed instead in networks of lower precision

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
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d) and module.groups == 1
    return module is not None and (isinstance(module, ROWS) or transposed) and _rows_of(module) is not None


def _rows_of(module: nn.Module) -> str | None:
    """The entry of a module's state dict whose row i makes unit i zero, or None where its weight is computed otherwise.

    Of a weight in weight norm it is the length of each row, as long as rows are what it is taken over.
    """
    if isinstance(module._parameters.get("weight"), nn.Parameter):
        return "weight"
    parts = [("weight_g", module._parameters.get("weight_g"))]
    if is_parametrized(module, "weight"):
        steps: Any = cast(Any, module.parametrizations)["weight"]
        if len(steps) == 1 and type(steps[0]).__name__ == "_WeightNorm":
            parts.append(("parametrizations.weight.original0", steps.original0))
    axis = _row_axis(module)
    for name, length in parts:
        if length is not None and length.ndim > axis and length.shape[axis] == length.numel() > 1:
            return name
    return None


def _row_axis(module: nn.Module) -> int:
    return int(isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d))


def _computed(module: nn.Module) -> str | None:
    """How a module's weight is computed, where that leaves no row of its own to a unit; or None."""
    if (
        not isinstance(module, (*ROWS, nn.ConvTranspose1d, nn.ConvTranspose2d))
        or _rows_of(module) is not None
    ):
        return None
    if "weight_g" in module._parameters:
        return "weight norm over another axis than the units"
    if is_parametrized(module, "weight"):
        names = [type(step).__name__ for step in cast(Any, module.parametrizations)["weight"]]
        over = " over another axis than the units" if names == ["_WeightNorm"] else ""
        return ", ".join(name.strip("_") for name in names) + over
    return "spectral norm or a pruning mask" if "weight_orig" in module._parameters else None


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
    why = "code outside any module computes its output"
    if stuck in modules and stuck:
        how = _computed(modules[stuck])
        why = f"{stuck!r}, a {type(modules[stuck]).__name__}, computes its output" + (
            f" by a weight that is computed itself ({how})" if how else ""
        )
    instead = f"; record and prune {inside[-1]!r} instead" if inside else ""
    return InputError(
        f"units of layer {layer!r} cannot be zeroed in the weights: {why}{instead}, or prune without --export"
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
        axis = _row_axis(modules[maker])
        weight = state[f"{maker}.{_rows_of(modules[maker])}"]
        if rows.numel() and int(rows[-1]) >= weight.shape[axis]:
            raise InputError(
                f"layer {layer!r} has more units than {maker!r}, which makes them; prune another layer"
            )
        weight.index_fill_(axis, rows, 0)
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
    if not difference <= _tolerance(target) * float(
        torch.maximum(by_mask.abs().max(), by_weights.abs().max())
    ):
        made = ", ".join(f"{layer!r} (zeroed in {maker!r})" for layer, maker in makers.items())
        raise InputError(
            f"zeroed weights do not give what the mask gives (outputs differ by {difference:.2g}): units of {made} "
            "reach the rest of the network by another way too; prune other layers, or without --export"
        )
    try:
        with replacing(path) as scratch:
            save_file(_as_stored(target, state), scratch, {**FOR_TRANSFORMERS, MADE_BY: source})
            sort_header(scratch)  # the metadata come in any order; the same export is to give the same bytes
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


def _tolerance(target: Target) -> float:
    kinds = {p.dtype for p in target.module.parameters() if p.is_floating_point()}
    return max([SAME, *(ROUNDINGS * torch.finfo(kind).eps for kind in kinds)])


def _output(target: Target, waveforms: Sequence[Floats], device: str | torch.device) -> torch.Tensor:
    output = forward(target, waveforms, device)
    read = class_logits(target, output) if target.logits is not None else tensor_of("output", output)
    return read.double().cpu()
