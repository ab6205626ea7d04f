"""Makers: the modules whose weights make the units of a layer.

They are the layer itself or, for a layer without weights, the one it gets its input from, as long as everything between
keeps a zero unit zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ..errors import InputError
from ..network.dictionary import FEATURES, Dictionary
from ..network.hooks import forward, tensor_of
from ..network.mask import masked
from ..network.replay import hookable
from ..targets.heads import Heads
from ..types import Floats, Target

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


Call = tuple[str, Any, Any]
"""A module's name, its first input and its output; calls are listed in the order in which they end."""


@dataclass(frozen=True)
class Maker:
    """What makes a layer's units, and what they go through on the way to the layer and behind it.

    Attributes:
        module: Name of the module whose row i of weight and bias makes unit i; of attention heads the projection whose
            columns take unit i in.
        between: Modules from its output to the layer's, in order, and the shape of what each takes in. They put out
            zero for zero, unit by unit.
        followers: Modules that take in the layer's output.
    """

    module: str
    between: tuple[tuple[str, tuple[int, ...]], ...] = ()
    followers: tuple[str, ...] = ()


def find_makers(target: Target, layers: Sequence[str], waveforms: Sequence[Floats]) -> dict[str, Maker]:
    """What makes the units of every layer, found by following one forward pass backwards.

    Args:
        target: In eval mode.
        layers: Names of modules.
        waveforms: Equally long, at the target's rate.

    Raises:
        InputError: A layer's units are not made by weights of its own, nor by those of a layer in front of it from
            which only modules that keep zero zero lead to it; names a layer that can be exported.
    """
    calls: list[Call] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, inputs, output: calls.append((name, inputs[0] if inputs else None, output))

    hooks = [module.register_forward_hook(note(name)) for name, module in hookable(target.module)]
    try:
        with torch.inference_mode(), masked(target, {}, ()):
            forward(target, waveforms, target.device)
    finally:
        for hook in hooks:
            hook.remove()
    modules = dict(target.module.named_modules())
    return {layer: _maker(layer, modules, calls) for layer in layers}


def _maker(layer: str, modules: Mapping[str, nn.Module], calls: Sequence[Call]) -> Maker:
    end = max((place for place, (name, *_) in enumerate(calls) if name == layer), default=None)
    if end is None:
        raise InputError(f"layer {layer!r} does not run, so nothing of it can be exported")
    if is_feature(layer, modules):
        return Maker(layer)
    if isinstance(heads := modules[layer], Heads):
        return Maker(heads.projection)
    value = tensor_of(layer, calls[end][2])
    followers = tuple(name for name, taken, _ in calls[end + 1 :] if taken is value)
    between: list[tuple[str, tuple[int, ...]]] = []
    end += 1
    while True:
        # The module that ended first with this very tensor made it; others hand it on, or change it in place.
        place = next((place for place, call in enumerate(calls) if _puts_out(call, value)), None)
        name, taken, _ = calls[place] if place is not None else ("", None, None)
        module = modules.get(name)
        between = [
            *(
                (later, tuple(value.shape))
                for later, same, output in calls[(place or 0) + 1 : end]
                if same is value and output is value and later and _keeps_zero(modules[later], value)
            ),
            *between,
        ]
        if name and _has_rows(module):
            return Maker(name, tuple(between), followers)
        if module is None or not isinstance(taken, torch.Tensor) or not _keeps_zero(module, taken):
            raise _not_exportable(layer, name, modules, calls)
        between = [(name, tuple(taken.shape)), *between]
        value, end = taken, place or 0


def _puts_out(call: Call, value: torch.Tensor) -> bool:
    name, _, output = call
    first = output[0] if isinstance(output, tuple | list) and output else output
    return name != "" and first is value


def _has_rows(module: nn.Module | None) -> bool:
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d) and module.groups == 1
    return module is not None and (isinstance(module, ROWS) or transposed) and rows_of(module) is not None


def rows_of(module: nn.Module) -> str | None:
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
    axis = row_axis(module)
    for name, length in parts:
        if length is not None and length.ndim > axis and length.shape[axis] == length.numel() > 1:
            return name
    return None


def row_axis(module: nn.Module) -> int:
    """The axis of a module's weight along which its units lie."""
    return int(isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d))


def _computed(module: nn.Module) -> str | None:
    """How a module's weight is computed, where that leaves no row of its own to a unit; or None."""
    if not isinstance(module, (*ROWS, nn.ConvTranspose1d, nn.ConvTranspose2d)) or rows_of(module) is not None:
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


def is_feature(layer: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a layer is the features of a learned dictionary."""
    owner, _, last = layer.rpartition(".")
    return last == FEATURES and isinstance(modules.get(owner), Dictionary)


def _not_exportable(
    layer: str, stuck: str, modules: Mapping[str, nn.Module], calls: Sequence[Call]
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
