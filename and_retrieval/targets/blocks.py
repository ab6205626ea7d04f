"""Transformer blocks: short names for the layers inside them that are worth explaining.

In every block of a transformer three layers are told apart, as in the paper: `attention`, what attention adds to
the stream; `intermediate`, the hidden units of the feed-forward network behind their nonlinearity; `output`, what
the feed-forward network adds. `block3.intermediate` thus names a layer of any architecture, and the glob
`block*.intermediate` that of all blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

KINDS: Mapping[str, tuple[str, ...]] = {
    "attention": (
        "attention.o_proj",  # AST
        "attention.out_proj",  # wav2vec2 and its kin
        "attention.output.dense",  # SEW-D, and AST before transformers 5
        "self_attn.out_proj",  # Whisper
        "self_attn.linear_out",  # conformers
    ),
    "intermediate": (
        "mlp.activation_fn",
        "feed_forward.intermediate_act_fn",
        "intermediate.intermediate_act_fn",
        "activation_fn",
        "ffn2.intermediate_act_fn",
    ),
    "output": ("mlp.fc2", "feed_forward.output_dense", "output.dense", "fc2", "ffn2.output_dense"),
}
"""Kind -> what the architectures call that layer within a block."""

UNCALLED: Mapping[str, str] = {"WavLMAttention": "attention"}
"""Attention classes that use their projection's weights without calling it -> what is hooked instead."""

LAST_BLOCKS = 2
"""Blocks recorded when the user names no layers."""


def block_aliases(network: nn.Module) -> dict[str, str]:
    """`blockN.kind` -> name of the module, for every block found, in order."""
    kind_of = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes}
    blocks: dict[int, dict[str, str]] = {}
    for name, _ in network.named_modules():
        number, within = _place(name)
        if number is not None and within in kind_of:
            kind = kind_of[within]
            blocks.setdefault(number, {})[kind] = _called(network, name, kind)
    return {
        f"block{number}.{kind}": layers[kind]
        for number, layers in sorted(blocks.items())
        for kind in KINDS
        if kind in layers
    }


def _place(name: str) -> tuple[int | None, str]:
    """The number of the block that a module is in, the last in its name, and its name within the block."""
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isascii() and part.isdigit()]
    if not numbers:
        return None, name
    return int(parts[numbers[-1]]), ".".join(parts[numbers[-1] + 1 :])


def default_layers(network: nn.Module, aliases: Mapping[str, str], classes: int | None) -> tuple[str, ...]:
    """The hidden units of the last blocks, and the layer of the classes where there is one."""
    hidden = [name for alias, name in aliases.items() if alias.endswith(".intermediate")][-LAST_BLOCKS:]
    heads = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    return (*hidden, *heads[-1:])


def _called(network: nn.Module, name: str, kind: str) -> str:
    parent: Any = network.get_submodule(name.rpartition(".")[0])
    if kind == "attention" and type(parent).__name__ in UNCALLED:
        return name.rpartition(".")[0]
    return name
