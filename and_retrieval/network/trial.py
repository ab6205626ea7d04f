"""A trial before recording: whether what a network gives for a clip is the clip's alone.

Chance (dropout left on, a random crop) and neighbours (a floor in dB below the batch's maximum) would both be recorded
as if they were the clip's. Two clips are shown alone, twice, and together in a batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..targets import layer_names
from ..types import Floats, Target
from .hooks import forward, tensor_of, trace
from .plan import LayerPlan
from .probe import probed

SAME = 1e-5
"""Largest difference between two passes on the same clip, relative to the layer's largest value, that is no chance."""
ALIKE = 1e-3
"""The same between a clip alone and in a batch, whose kernels round otherwise."""
ROUNDINGS = 16
"""Units in the last place that either allows in networks of lower precision."""
REPEATS = 8
"""Passes on the same clip where random numbers were drawn: a layer that is rarely dropped shows in one of them."""
LOUD, FAINT = 0.0, -120.0
"""Level in dB at the beginning and at the end of the second clip; the first is loud all through."""


def trial_clips(target: Target, seconds: float) -> list[Floats]:
    """Two clips that differ in sound and in level: loud noise, and noise that fades away."""
    size = max(round(seconds * target.sample_rate), 1)
    drawn = np.random.default_rng(1).uniform(-0.9, 0.9, (2, size))
    fade = 10 ** (np.linspace(LOUD - 20, FAINT, size) / 20)
    return [drawn[0].astype(np.float32), (drawn[1] * fade).astype(np.float32)]


def check_repeatable(
    target: Target, layers: Sequence[str], device: str | torch.device, seconds: Sequence[float]
) -> None:
    """Show the network a clip, another, and the first again.

    Args:
        target: In eval mode, on `device`.
        layers: That are to be recorded.
        device: Where the network is.
        seconds: Lengths to try; the first that the network takes serves. Where it takes none nothing is checked.

    Raises:
        InputError: A layer gives other values the second time; names the layer.
    """
    for length in seconds:
        clips = trial_clips(target, length)
        try:
            outputs = _outputs(target, layers, clips[:1], device)
        except InputError:
            continue
        _outputs(target, (), clips[1:], device)
        before = _random_states()
        changed = _first_change(target, outputs, clips[0], device)
        repeats = 0 if _random_states() == before else REPEATS
        while changed is None and repeats:
            changed = _first_change(target, outputs, clips[0], device)
            repeats -= 1
        if changed is not None:
            raise _by_chance(target, changed, clips[0], device)
        return


def check_independent(
    target: Target,
    plans: Sequence[LayerPlan],
    device: str | torch.device,
    batch: int,
    seconds: Sequence[float],
) -> None:
    """Show the network two clips alone, and many of them in a batch.

    Args:
        target: In eval mode, on `device`.
        plans: Of the layers that are to be recorded.
        device: Where the network is.
        batch: Clips per batch; with 1 there is nothing to check.
        seconds: As in `check_repeatable`.

    Raises:
        InputError: A layer gives other values for a clip in a batch; names the layer.
    """
    if batch < 2:
        return
    for length in seconds:
        clips = trial_clips(target, length)
        try:
            alone = [probed(target, plans, [clip], device) for clip in clips]
        except InputError:
            continue
        together = probed(target, plans, [clips[place % 2] for place in range(batch)], device)
        tolerance = _tolerance(target, ALIKE)
        for plan in plans:
            expected = np.concatenate([alone[place % 2][plan.name][0] for place in range(batch)])
            share = _difference(torch.from_numpy(together[plan.name][0]), torch.from_numpy(expected))
            if share > tolerance:
                raise InputError(
                    f"layer {plan.name!r} of target {target.name!r} gives other values for a clip when other clips are "
                    f"in its batch (they differ by {share:.2g} of the largest): something up to there looks at the "
                    "whole batch, such as a floor in dB below its maximum; use --batch 1, or mend the network"
                )
        return


def _outputs(
    target: Target, layers: Iterable[str], clips: Sequence[Floats], device: str | torch.device
) -> dict[str, list[torch.Tensor | None]]:
    with torch.inference_mode(), trace(target.module, layers, _copied) as seen:
        forward(target, clips, device)
    return seen


def _copied(name: str, output: Any) -> torch.Tensor | None:
    try:
        return tensor_of(name, output).clone()
    except InputError:
        return None


def _first_change(
    target: Target, outputs: dict[str, list[torch.Tensor | None]], clip: Floats, device: str | torch.device
) -> str | None:
    """The layer that gives something else than before, the first in the order in which they run."""
    changed: list[str] = []
    calls = dict.fromkeys(outputs, 0)
    tolerance = _tolerance(target, SAME)

    def compare(name: str, output: Any) -> None:
        number, calls[name] = calls[name], calls[name] + 1
        before = outputs[name][number] if number < len(outputs[name]) else None
        try:
            now = tensor_of(name, output)
        except InputError:
            return
        if before is None or now.shape != before.shape or _difference(now, before) > tolerance:
            changed.append(name)

    with torch.inference_mode(), trace(target.module, outputs, compare):
        forward(target, [clip], device)
    return changed[0] if changed else None


def _by_chance(target: Target, layer: str, clip: Floats, device: str | torch.device) -> InputError:
    """The error that names the layer, and the module within the network where it begins."""
    every = _outputs(target, layer_names(target.module), [clip], device)
    begins = next(
        (name for _ in range(REPEATS) if (name := _first_change(target, every, clip, device))), layer
    )
    kind = type(dict(target.module.named_modules())[begins]).__name__
    return InputError(
        f"layer {layer!r} of target {target.name!r} gives other values when the same clip is shown again; it begins at "
        f"{begins!r} (a {kind}) or before: chance, or what is kept from the clip before; switch dropout off "
        "(module.eval(), no functional dropout) and take random crops and noise out of preprocess"
    )


def _difference(x: torch.Tensor, y: torch.Tensor) -> float:
    """Largest difference, relative to the largest finite value; what is not finite in both alike does not count."""
    x, y = x.double(), y.double()
    finite = x.isfinite() & y.isfinite()
    if bool((x.isfinite() != y.isfinite()).any()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    x, y = x[finite], y[finite]
    scale = float(torch.maximum(x.abs().max(), y.abs().max()))
    return float((x - y).abs().max()) / scale if scale > 0 else 0.0


def _tolerance(target: Target, least: float) -> float:
    """`least`, or more in networks of lower precision."""
    kinds = {p.dtype for p in target.module.parameters() if p.is_floating_point()}
    return max([least, *(ROUNDINGS * torch.finfo(kind).eps for kind in kinds)])


def _random_states() -> tuple[bytes, str, str]:
    """Where the generators stand that a network may draw from."""
    numpy_state: Any = np.random.get_state(legacy=False)
    drawn = numpy_state["state"]
    torches = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ())]
    of_torch = b"".join(state.numpy().tobytes() for state in torches)
    return of_torch, f"{hash(drawn['key'].tobytes())} {drawn['pos']}", repr(random.getstate())
