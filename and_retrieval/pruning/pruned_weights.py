"""Pruned weights: a network's state dict whose units put out zero, or a constant, by weights instead of by a mask.

A zeroed unit has zero weights and a zero bias; an attention head has no weights of its own, so the projection behind it
takes it in by zero columns. A unit that is held at a constant has zero weights and the bias that
comes out as the constant behind whatever lies between the weights and the layer; where the weights have no bias, the
unit is zeroed and what the constant would add is put into the bias of the module that follows the layer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..network.mask import ZERO, Constants, Units
from ..targets.heads import Heads
from .makers import Maker, is_feature, row_axis, rows_of

STEPS = 200  # of the grid on which a bias is looked for
HALVINGS = 80  # of the step in which it lies, enough for any floating type
REACH = 8.0  # how far the grid goes beyond four times the constants; behind tanh(8) nothing changes

State = dict[str, torch.Tensor]


def pruned_state(
    module: nn.Module, makers: Mapping[str, Maker], units: Units, constants: Constants = ZERO
) -> State:
    """A copy of the state dict in which the units put out zero, or their constants.

    Args:
        module: The network.
        makers: From `makers.find_makers`.
        units: Layer -> units.
        constants: See `network.mask.Constants`.

    Raises:
        InputError: The state dict holds what is no tensor (quantised networks), or no weights hold a unit at its
            constant.
    """
    state = _copied(module)
    modules = dict(module.named_modules())
    for layer, numbers in units.items():
        maker = makers[layer].module
        rows = torch.tensor(sorted(numbers), dtype=torch.int64)
        if is_feature(layer, modules):
            if layer in constants:
                raise _not_held(layer, "it holds the features of a dictionary, which can only be removed")
            state[f"{maker.rpartition('.')[0]}.kept"][rows] = 0
            continue
        if isinstance(heads := modules[layer], Heads):
            if layer in constants:
                raise _not_held(layer, "they are attention heads, which can only be removed")
            _take_nothing_from(state, layer, heads, rows)
            continue
        axis = row_axis(modules[maker])
        weight = state[f"{maker}.{rows_of(modules[maker])}"]
        if rows.numel() and int(rows[-1]) >= weight.shape[axis]:
            raise InputError(
                f"layer {layer!r} has more units than {maker!r}, which makes them; prune another layer"
            )
        weight.index_fill_(axis, rows, 0)
        if f"{maker}.bias" in state:
            state[f"{maker}.bias"][rows] = 0
        if layer in constants:
            values = torch.from_numpy(np.asarray(constants[layer], np.float32))[rows]
            _hold(state, modules, layer, makers[layer], rows, values)
    return state


def _take_nothing_from(state: State, layer: str, heads: Heads, rows: torch.Tensor) -> None:
    """Make the output projection take nothing in from some heads."""
    weight = state.get(f"{heads.projection}.weight")
    if weight is None:
        raise InputError(
            f"heads of layer {layer!r} cannot be removed from the weights: those of {heads.projection!r} are computed "
            "from others; prune without --export"
        )
    weight.view(len(weight), heads.count, -1)[:, rows] = 0


def _copied(module: nn.Module) -> State:
    state: State = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor) or value.is_quantized:
            raise InputError(
                f"{name} of the network is no plain tensor, so its state dict cannot be exported"
            )
        state[name] = value.detach().cpu().contiguous().clone()
    return state


def _hold(
    state: State,
    modules: Mapping[str, nn.Module],
    layer: str,
    maker: Maker,
    rows: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Make units whose weights are zero put out `values`, float32 [rows]."""
    bias = f"{maker.module}.bias"
    if bias in state:
        before = _before(modules, maker.between, len(state[bias]), rows, values)
        if before is None:
            raise _not_held(layer, f"nothing that {maker.module!r} puts out becomes these means on the way")
        state[bias][rows] = before.to(state[bias])
        return
    takers = [name for name in maker.followers if _adds(modules.get(name)) and f"{name}.bias" in state]
    if len(takers) != 1:
        raise _not_held(
            layer, f"neither {maker.module!r}, which makes them, nor one module behind has a bias"
        )
    state[f"{takers[0]}.bias"] += _added(modules[takers[0]], state, takers[0], rows, values)


def _before(
    modules: Mapping[str, nn.Module],
    between: Sequence[tuple[str, tuple[int, ...]]],
    units: int,
    rows: torch.Tensor,
    values: torch.Tensor,
) -> torch.Tensor | None:
    """What has to go into the modules between for `values` to come out, [rows]; None where nothing does."""
    if not between:
        return values
    shape = (1, *between[0][1][1:])
    axes = [axis for axis, size in enumerate(shape) if size == units and axis]
    if not axes:
        return None
    axis = 1 if 1 in axes else axes[-1]
    steps = [copy.deepcopy(modules[name]).cpu() for name, _ in between]
    everywhere = [1] * axis + [units] + [1] * (len(shape) - axis - 1)

    def after(biases: torch.Tensor) -> torch.Tensor:
        filled = torch.zeros(units).index_copy(0, rows, biases.float())
        x = filled.reshape(everywhere).expand(shape)
        for step in steps:
            x = step(x.clone())
        # The middle of what comes out: at the border, pooling may have taken in padding.
        middle = x.movedim(axis, -1).reshape(-1, units).median(dim=0).values
        return middle[rows].double()

    wanted = values.double()
    reach = REACH + 4 * float(wanted.abs().max())
    with torch.inference_mode():
        grid = torch.linspace(-reach, reach, STEPS + 1, dtype=torch.float64)
        curve = torch.stack([after(x.expand(len(rows))) for x in grid])  # [grid, rows]
        rises = (curve[:-1] <= wanted) & (wanted <= curve[1:])
        if not rises.any(dim=0).all():
            return None
        # The last rise: functions such as GELU fall before they rise.
        last = STEPS - 1 - rises.flip(0).int().argmax(dim=0)
        low, high = grid[last], grid[last + 1]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            under = after(middle) <= wanted
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    return low


def _adds(module: nn.Module | None) -> bool:
    """Whether a constant that a module takes in changes what it puts out by a constant."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        unpadded = isinstance(module.padding, tuple) and not any(module.padding)
        return module.groups == 1 and (unpadded or module.padding_mode != "zeros")
    return isinstance(module, nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)


def _added(
    module: nn.Module, state: State, name: str, rows: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """What units at constants add to what a module puts out, beside what they add at zero: [its units]."""
    weight = state[f"{name}.weight"]
    values = values.to(weight)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        scale = weight / (state[f"{name}.running_var"] + module.eps).sqrt()
        return torch.zeros_like(weight).index_copy(0, rows, scale[rows] * values)
    return weight.flatten(2).sum(2)[:, rows] @ values if weight.ndim > 2 else weight[:, rows] @ values


def _not_held(layer: str, why: str) -> InputError:
    return InputError(
        f"units of layer {layer!r} cannot be held at their means by weights: {why}; prune with --ablate zero, or "
        "without --export"
    )
