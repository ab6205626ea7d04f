"""Hooks and forward passes: what a target's layers put out while it hears waveforms.

A module may be called several times in a forward pass; all its calls are seen, in their order. A module registered
under several names has the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from ..errors import AndRetrievalError, InputError
from ..types import Floats, Target

NAMED_OUTPUTS = ("last_hidden_state", "logits")
T = TypeVar("T")


@contextmanager
def trace(
    module: nn.Module, layers: Iterable[str], take: Callable[[str, Any], T]
) -> Iterator[dict[str, list[T]]]:
    """Within the context, every call of a layer appends `take(name, output)` to its list in the yielded dict.

    `take` sees the output before later layers can change it in place. The lists are in the order of calls, the
    dict in that of last calls. PyTorch's fused attention, which skips the submodules, is off meanwhile; what is
    recorded thus does not depend on which layers are recorded.
    """
    seen: dict[str, list[T]] = {}

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            calls = seen.pop(name, [])
            calls.append(take(name, output))
            seen[name] = calls

        return hook

    modules = dict(module.named_modules())
    with ExitStack() as undo:
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        for name in layers:
            undo.callback(modules[name].register_forward_hook(hook_for(name)).remove)
        yield seen


@contextmanager
def users_code(failed: str) -> Iterator[None]:
    """Within the context, what a user's code raises becomes an `InputError`: `failed`, and what happened, in one line.

    That includes SystemExit, which would end the program without a word. An interrupt from the keyboard passes.
    """
    try:
        yield
    except AndRetrievalError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{failed}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def forward(target: Target, waveforms: Sequence[Floats], device: str | torch.device = "cpu") -> Any:
    """The network's output for equally long waveforms at the target's rate.

    Raises:
        InputError: Preprocessing or network failed; names the target, the input and what happened.
    """
    inputs = _to_device(preprocessed(target, waveforms), device)
    shape = _size_of(waveforms)
    if isinstance(inputs, torch.Tensor):
        shape += f", input {list(inputs.shape)}"
    elif isinstance(inputs, dict):
        shape += f", input { {k: list(v.shape) for k, v in inputs.items() if isinstance(v, torch.Tensor)} }"
    else:
        raise InputError(
            f"target {target.name!r}: preprocess returned {type(inputs).__name__}, not a tensor or a dict of tensors"
        )
    with users_code(f"target {target.name!r}: the network failed on {shape}"):
        return target.module(**inputs) if isinstance(inputs, dict) else target.module(inputs)


def preprocessed(target: Target, waveforms: Sequence[Floats]) -> Any:
    """What the target's preprocessing makes of equally long waveforms.

    Raises:
        InputError: It failed; names the target and what happened.
    """
    with users_code(f"target {target.name!r}: preprocess failed on {_size_of(waveforms)}"):
        return target.preprocess(list(waveforms))


def _size_of(waveforms: Sequence[Floats]) -> str:
    return f"{len(waveforms)} waveforms of {len(waveforms[0])} samples"


def class_logits(target: Target, output: Any) -> torch.Tensor:
    """What `target.logits` reads from the network's output, [clips, classes]; the target must have it.

    Raises:
        InputError: Reading failed; names the target and what happened.
    """
    assert target.logits is not None
    with users_code(f"target {target.name!r}: logits failed"):
        return target.logits(output)


def tensor_of(layer: str, output: Any) -> torch.Tensor:
    """The floating tensor a layer put out: itself, the first of a tuple, the main one of a mapping."""
    first = output
    if isinstance(output, Mapping):
        key = next((k for k in NAMED_OUTPUTS if k in output), next(iter(output), None))
        first = output[key] if key is not None else None
    # A packed sequence is a tuple too, but its rows are time steps of mixed clips.
    elif isinstance(output, tuple | list) and not isinstance(output, PackedSequence) and output:
        first = output[0]
    if isinstance(first, torch.Tensor) and first.is_floating_point() and first.layout == torch.strided:
        return first
    kind = f"{first.dtype} tensor" if isinstance(first, torch.Tensor) else type(first).__name__
    inside = "" if first is output else f" (in a {type(output).__name__})"
    raise InputError(
        f"layer {layer!r} puts out a {kind}{inside}, not a floating-point tensor; "
        "name other layers with --layers, e.g. the ones inside it"
    )


def copied(
    layer: str, output: Any, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> torch.Tensor | None:
    """A copy of `tensor_of` an output, on another device or in another type if asked for; None where it has none."""
    try:
        return tensor_of(layer, output).to(device=device, dtype=dtype, copy=True)
    except InputError:
        return None


def _to_device(inputs: Any, device: str | torch.device) -> Any:
    if isinstance(inputs, Mapping):
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    return inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs
