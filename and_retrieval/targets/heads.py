"""Attention heads as units: what a head puts out before the output projection, as a length per position.

    unit h of the layer `heads` = || x[..., h d : (h + 1) d] ||     x: what the output projection takes in, [..., n d]

Attention modules are found by their structure: they say how many heads they have, make queries, keys and values, and a
linear layer in them, or beside them as in BERT, takes in what all heads put out, one after the other. Each gets a
submodule `heads` without weights, which sees the lengths. As long as nobody changes them, the projection takes in the
very same bits; a head that is masked (length 0) contributes nothing, a head that is scaled or held at a length keeps
its direction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..types import Target
from .blocks import UNCALLED

NAME = "heads"
COUNTS = ("num_heads", "num_attention_heads", "nheads", "n_heads")
"""What attention modules call their number of heads."""
PROJECTIONS = ("o_proj", "out_proj", "linear_out", "proj_out", "to_out", "output.dense", "wo", "proj")
"""What they call their output projection."""
OUTSIDE = {"self": "output.dense"}
"""Name of an attention module -> its output projection, where that is beside it."""


class Heads(nn.Module):
    """The lengths of what an attention's heads put out; a place to record and mask them.

    Attributes:
        count: Number of heads.
        projection: Dotted name of the output projection in the network.
    """

    def __init__(self, count: int, projection: str) -> None:
        super().__init__()
        self.count, self.projection = count, projection

    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        """Lengths, float32 [..., heads], as they are."""
        return lengths

    def before(self, _projection: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A forward pre-hook of the projection: shows this module the lengths, and follows what hooks make of them."""
        if not (self._forward_hooks or self._forward_pre_hooks):
            return None
        x = inputs[0].unflatten(-1, (self.count, -1))
        lengths = x.float().norm(dim=-1)
        changed = self(lengths.clone())  # a hook may write into what it is given
        if changed.equal(lengths):
            return None
        share = torch.where(
            lengths > 0, changed / lengths, 0.0
        )  # a head without a direction stays without one
        share = torch.where(changed == lengths, 1.0, share)  # no rounding in heads that nobody changed
        return ((x * share.unsqueeze(-1).to(x.dtype)).flatten(-2), *inputs[1:])


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention module whose heads can be seen.

    Attributes:
        name: Dotted name of the module.
        projection: Dotted name of its output projection.
        count: Number of heads.
    """

    name: str
    projection: str
    count: int


def with_heads(target: Target) -> Target:
    """The target with a layer `heads` in every attention module of its network, which is changed in place.

    Args:
        target: Any; without attention modules it stays as it is. `load_target` has done this already.
    """
    attach_heads(target.module)
    names = [name for name, module in target.module.named_modules() if isinstance(module, Heads)]
    return dataclasses.replace(target, unit_axis={**dict.fromkeys(names, -1), **target.unit_axis})


def attach_heads(network: nn.Module) -> tuple[str, ...]:
    """Give every attention module of a network the submodule `heads`; gives the names of these layers."""
    modules = dict(network.named_modules())
    names = []
    for attention in tuple(attentions(network)):
        heads = Heads(attention.count, attention.projection).train(modules[attention.name].training)
        modules[attention.name].add_module(NAME, heads)
        modules[attention.projection].register_forward_pre_hook(heads.before)
        names.append(f"{attention.name}.{NAME}")
    return tuple(names)


def attentions(network: nn.Module) -> Iterator[Attention]:
    """The attention modules whose projection is a linear layer that takes in all heads, in module order."""
    modules = dict(network.named_modules())
    for name, module in modules.items():
        count = _count(module)
        if not name or count is None or is_fused(module) or hasattr(module, NAME):
            continue
        parent, _, last = name.rpartition(".")
        places = [f"{name}.{inner}" for inner in PROJECTIONS]
        if last in OUTSIDE:
            places.append(f"{parent}.{OUTSIDE[last]}".removeprefix("."))
        for place in places:
            projection = modules.get(place)
            if isinstance(projection, nn.Linear) and _takes_in_heads(projection, module, count):
                yield Attention(name, place, count)
                break


def is_fused(module: nn.Module) -> bool:
    """Whether an attention never calls its output projection, so that its heads cannot be seen."""
    return isinstance(module, nn.MultiheadAttention) or type(module).__name__ in UNCALLED


def _count(module: nn.Module) -> int | None:
    counts = (getattr(module, name, None) for name in COUNTS)
    return next((n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)


def _takes_in_heads(projection: nn.Linear, attention: nn.Module, count: int) -> bool:
    """Whether a layer is as wide as all heads, and the attention makes queries, keys or values of that width."""
    width = projection.in_features
    sizes = (getattr(attention, name, None) for name in ("head_dim", "attention_head_size", "head_size"))
    size = next((size for size in sizes if isinstance(size, int)), None)
    made = [
        inner.out_features
        for inner in attention.children()
        if isinstance(inner, nn.Linear) and inner is not projection
    ]
    fits = width % count == 0 and (size is None or size * count == width)
    return fits and any(wide in (width, 2 * width, 3 * width) for wide in made)
