"""Masks: chosen units of a network put out a constant, mostly zero, or a multiple, for as long as a context lasts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..types import Floats, Target
from .hooks import NAMED_OUTPUTS, tensor_of
from .plan import LayerPlan

Units = Mapping[str, Sequence[int]]
"""Layer -> units of it; one unit named twice counts once."""
Constants = Mapping[str, Floats]
"""Layer -> what each of its units puts out when it is masked, float32 [units]; zero in layers that are not named."""
ZERO: Constants = MappingProxyType({})
Change = Callable[[str, torch.Tensor, int, torch.Tensor], torch.Tensor]
"""(layer, its output, axis of its units, numbers of units) -> a copy in which these units are others."""


@contextmanager
def masked(
    target: Target | nn.Module, units: Units, plans: Sequence[LayerPlan], constants: Constants = ZERO
) -> Iterator[None]:
    """Within the context the units put out their constant, at every position and in every call of their layer.

    What follows a layer sees the constants, whatever the layer itself computed. Nothing is changed but hooks, which
    go with the context, whether it ends well or by an exception; afterwards the network puts out the same bits as
    before. PyTorch's fused attention, which skips submodules, is off meanwhile, as it is when layers are recorded.

    Args:
        target: A target or its module.
        units: What to mask; layers without units are left alone.
        plans: From `layers.plan_layers`; tell on which axis a layer's units lie.
        constants: What masked units put out; zero by default.

    Raises:
        InputError: A layer has no plan or is not in the network, a unit does not exist, or (when the network is
            called) a layer puts out something in which no unit can be masked.
    """

    def change(layer: str, kept: torch.Tensor, axis: int, numbers: torch.Tensor) -> torch.Tensor:
        if layer not in constants:
            return kept.index_fill(axis, numbers, 0)
        constant = torch.as_tensor(np.asarray(constants[layer], np.float32)).to(kept)[numbers]
        shape = [*kept.shape[:axis], len(numbers), *kept.shape[axis + 1 :]]
        along = constant.reshape([-1] + [1] * (kept.ndim - axis - 1))
        return kept.index_copy(axis, numbers, along.expand(shape))

    with _changed(target, units, plans, change):
        yield


@contextmanager
def scaled(
    target: Target | nn.Module, units: Units, plans: Sequence[LayerPlan], factor: float
) -> Iterator[None]:
    """As `masked`, but the units put out what they compute times `factor`, at every position and in every call.

    Raises:
        InputError: As `masked`.
    """

    def change(_layer: str, kept: torch.Tensor, axis: int, numbers: torch.Tensor) -> torch.Tensor:
        return kept.index_copy(axis, numbers, kept.index_select(axis, numbers) * factor)

    with _changed(target, units, plans, change):
        yield


@contextmanager
def _changed(
    target: Target | nn.Module, units: Units, plans: Sequence[LayerPlan], change: Change
) -> Iterator[None]:
    module = target if isinstance(target, nn.Module) else target.module
    chosen = checked_units(units, plans)
    axis = {plan.name: plan.unit_axis for plan in plans}
    modules = dict(module.named_modules())
    if missing := [layer for layer in chosen if layer not in modules]:
        raise InputError(f"the network has no layer {missing[0]!r}, so nothing of it can be masked")
    with ExitStack() as undo:
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        for layer, numbers in chosen.items():
            hook = _changing(layer, torch.tensor(numbers), axis[layer], change)
            undo.callback(modules[layer].register_forward_hook(hook).remove)
        yield


def checked_units(units: Units, plans: Sequence[LayerPlan]) -> dict[str, list[int]]:
    """The units of every layer that has any, ascending and each once.

    Raises:
        InputError: A layer has no plan, or a unit does not exist.
    """
    sizes = {plan.name: plan.units for plan in plans}
    chosen = {
        layer: sorted({int(unit) for unit in numbers}) for layer, numbers in units.items() if len(numbers)
    }
    for layer, numbers in chosen.items():
        if layer not in sizes:
            raise InputError(f"layer {layer!r} was not recorded; recorded are {', '.join(sizes) or 'none'}")
        if numbers[0] < 0 or numbers[-1] >= sizes[layer]:
            wrong = numbers[-1] if numbers[0] >= 0 else numbers[0]
            raise InputError(f"layer {layer!r} has units 0 to {sizes[layer] - 1}, there is no unit {wrong}")
    return chosen


def _changing(
    layer: str, numbers: torch.Tensor, axis: int, change: Change
) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        kept = tensor_of(layer, output)
        if kept.ndim <= axis or kept.shape[axis] <= int(numbers[-1]):
            raise InputError(
                f"layer {layer!r} put out {list(kept.shape)} where units were expected on axis {axis}; mask another"
            )
        # A copy, since the layer may have put out its own input or a buffer of its own.
        return rebuilt(layer, output, change(layer, kept, axis, numbers.to(kept.device)))

    return hook


def rebuilt(layer: str, output: Any, changed: torch.Tensor) -> Any:
    """A layer's output with the tensor that `hooks.tensor_of` reads exchanged for another."""
    if isinstance(output, torch.Tensor):
        return changed
    try:
        if isinstance(output, Mapping):
            key = next((k for k in NAMED_OUTPUTS if k in output), next(iter(output)))
            rebuilt: Any = copy.copy(output)
            rebuilt[key] = changed
            same = rebuilt[key] is changed and output[key] is not changed
        else:
            items = (changed, *output[1:])
            rebuilt = type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
            same = rebuilt[0] is changed and len(rebuilt) == len(output)
    except Exception as error:
        raise _not_maskable(layer, output) from error
    if not same:
        raise _not_maskable(layer, output)
    return rebuilt


def _not_maskable(layer: str, output: Any) -> InputError:
    return InputError(
        f"layer {layer!r} puts out a {type(output).__name__}, which cannot be put together again with units masked; "
        "name other layers with --layers, e.g. the ones inside it"
    )
