"""Replay: forward passes that begin where they begin to differ.

Many masks of the same late layers are tried on the same clips; what the layers in front of them put out does not
change. It is recorded once and put out again instead of being computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Prefix = Sequence[tuple[str, torch.Tensor]]
"""(module, what it put out), one per call that was over before the layers in question began, in order."""


def recorded_prefix(module: nn.Module, layers: Iterable[str], run: Callable[[], Any]) -> tuple[Any, Prefix]:
    """Runs the network once: its output, and what was put out before any of `layers` began.

    Of modules inside each other only the outermost is kept, so memory is that of a few outputs, not of all.

    Args:
        module: The network, in eval mode.
        layers: Names of modules.
        run: Calls the network.
    """
    names = {inner: name for name, inner in hookable(module)}
    stops = set(layers)
    done: list[tuple[str, torch.Tensor]] = []
    begun: list[int] = []
    reached = False

    def enter(inner: nn.Module, _inputs: Any) -> None:
        nonlocal reached
        reached = reached or names[inner] in stops
        begun.append(len(done))

    def leave(inner: nn.Module, _inputs: Any, output: Any) -> None:
        start = begun.pop()
        if not reached and isinstance(output, torch.Tensor):
            del done[start:]  # the calls inside this one
            done.append((names[inner], output.clone()))  # later layers may change the output in place

    with ExitStack() as undo:
        for inner in names:
            undo.callback(inner.register_forward_pre_hook(enter).remove)
            undo.callback(inner.register_forward_hook(leave).remove)
        return run(), done


def hookable(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """`named_modules` without those that TorchScript runs, which take no hooks."""
    return (
        (name, inner)
        for name, inner in module.named_modules()
        if not isinstance(inner, torch.jit.ScriptModule)
    )


@contextmanager
def replayed(module: nn.Module, prefix: Prefix) -> Iterator[None]:
    """Within the context the calls of `prefix` put out what was recorded, once per pass and in their order.

    To be entered anew for every pass. Later calls of the same modules are computed as ever.
    """
    modules = dict(module.named_modules())
    outputs: dict[str, list[torch.Tensor]] = {}
    for name, output in prefix:
        outputs.setdefault(name, []).append(output)
    with ExitStack() as undo:
        for name, calls in outputs.items():
            inner = modules[name]
            undo.callback(_restore, inner, inner.__dict__.get("forward"))
            inner.forward = _player(iter(calls), inner.forward)
        yield


def _player(calls: Iterator[torch.Tensor], compute: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*inputs: Any, **named: Any) -> Any:
        output = next(calls, None)
        return compute(*inputs, **named) if output is None else output.clone()

    return forward


def _restore(inner: nn.Module, forward: Any) -> None:
    if forward is None:
        del inner.forward
    else:
        inner.forward = forward  # it had been given one of its own before
