"""Which layers of a network are recorded, and how each is pooled over time."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ..choices import POOLINGS, known_name
from ..errors import InputError
from ..targets import layer_names
from ..targets.heads import NAME as HEADS
from ..targets.heads import is_fused
from ..types import Pooling, Target
from .axes import defined_in
from .names import matches

NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def match_layers(
    module: nn.Module, globs: Sequence[str], aliases: Mapping[str, str] = NO_ALIASES
) -> tuple[str, ...]:
    """Names of the layers that any of `globs` matches, or whose alias they match, in module order.

    A `*` also matches dots. Without globs: all convolutions and linear layers, or, in a network that has
    none, all modules without children.

    Raises:
        InputError: A glob matches nothing.
    """
    names = layer_names(module)
    if not globs:
        return _default_layers(module)
    for glob in globs:
        if not any(matches(name, glob, aliases) for name in names):
            _check_heads(module, glob)
            raise _no_such_layer(glob, (*names, *aliases))
    return tuple(name for name in names if any(matches(name, glob, aliases) for glob in globs))


def _default_layers(module: nn.Module) -> tuple[str, ...]:
    inner = [(name, m) for name, m in module.named_modules() if name]
    # An attention's output projection is used for its weights and never called.
    weighty = [
        name for name, m in inner if _is_weighty(m) and not isinstance(m, NonDynamicallyQuantizableLinear)
    ]
    chosen = weighty or [name for name, m in inner if not any(True for _ in m.children())]
    if not chosen:
        raise InputError(
            "the network has no layers: its module must contain submodules, e.g. nn.Sequential(network)"
        )
    return tuple(chosen)


def _is_weighty(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or defined_in(module, ("conv",))


def _check_heads(module: nn.Module, glob: str) -> None:
    """Raise InputError if a glob asks for heads, and those of the network cannot be seen."""
    fused = [name for name, inner in module.named_modules() if is_fused(inner)]
    if glob.endswith(HEADS) and fused:
        kind = type(module.get_submodule(fused[0])).__name__
        raise InputError(
            f"layer {glob!r}: the heads of {fused[0]!r} cannot be recorded, as a {kind} computes them and its output "
            f"projection in one step; record {fused[0]!r} itself"
        )


def _no_such_layer(glob: str, names: Sequence[str]) -> InputError:
    if not names:
        return InputError(f"layer {glob!r} matches nothing: the network has no layers")
    bare = glob.strip("*") or glob
    close = difflib.get_close_matches(bare, names, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else f"its {len(names)} layers begin with {', '.join(names[:5])}"
    )
    example = (close or names)[0].split(".")[0]
    return InputError(
        f"layer {glob!r} matches no layer of the network; {hint} (example: --layers '{example}*')"
    )


def resolve_pooling(
    target: Target, layers: Sequence[str], overrides: Sequence[tuple[str, Pooling]]
) -> dict[str, Pooling]:
    """Pooling of every layer: the first override whose glob matches, then the target's own, then `mean`.

    Raises:
        InputError: An override names an unknown pooling or matches none of `layers`.
    """
    for glob, pooling in overrides:
        known_name("pooling", pooling, POOLINGS)
        if not any(matches(layer, glob, target.aliases) for layer in layers):
            raise _no_such_layer(glob, layers)
    rules = [*overrides, *target.pooling.items()]
    return {
        layer: next((p for glob, p in rules if matches(layer, glob, target.aliases)), "mean")
        for layer in layers
    }
