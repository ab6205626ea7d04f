"""Transformer blocks: short names for the layers inside them that are worth explaining.

In every block of a transformer three layers are told apart, as in the paper: `attention`, what attention adds to
the stream; `intermediate`, the hidden units of the feed-forward network behind their nonlinearity; `output`, what
the feed-forward network adds. A fourth, `heads`, has one unit a head, see `heads`. `block3.intermediate` thus names a
layer of any architecture, and the glob `block*.intermediate` that of all blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    "heads": ("attention.heads", "attention.self.heads", "self_attn.heads"),
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
    """`blockN.kind` -> name of the module, for every block found, in order.

    N is the block's number in the network, or, where several stacks number theirs from 0 on (as HTSAT's stages do),
    its place among all blocks.
    """
    kind_of = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes}
    blocks: dict[str, dict[str, str]] = {}
    for name, _ in network.named_modules():
        block, within = _place(name)
        if block is not None and within in kind_of:
            kind = kind_of[within]
            blocks.setdefault(block, {})[kind] = _called(network, name, kind)
    numbers: Sequence[int] = [int(block.rpartition(".")[2]) for block in blocks]
    if len(set(numbers)) < len(numbers):
        numbers = range(len(blocks))
    return {
        f"block{number}.{kind}": layers[kind]
        for number, layers in sorted(zip(numbers, blocks.values(), strict=True), key=lambda pair: pair[0])
        for kind in KINDS
        if kind in layers
    }


def _place(name: str) -> tuple[str | None, str]:
    """The block that a module is in, which ends with the last number in its name, and its name within the block."""
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isascii() and part.isdigit()]
    if not numbers:
        return None, name
    end = numbers[-1] + 1
    return ".".join(parts[:end]), ".".join(parts[end:])


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
