"""A trial before recording: whether what a network gives for a clip is the clip's alone.

Chance (dropout left on, a random crop) and neighbours (a floor in dB below the batch's maximum) would both be recorded
as if they were the clip's. Where a first look leaves a doubt, two clips are shown alone, twice, and in a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..targets import layer_names
from ..types import Floats, Target
from .first_look import SAME, FirstLook, difference, random_states, tolerance, trial_clips
from .hooks import copied, forward, tensor_of, trace
from .plan import LayerPlan
from .probe import probed

ALIKE = 1e-3
"""As `SAME`, between a clip alone and in a batch, whose kernels round otherwise."""
REPEATS = 8
"""Passes on the same clip where random numbers were drawn: a layer that is rarely dropped shows in one of them."""


def check_repeatable(
    target: Target,
    layers: Sequence[str],
    device: str | torch.device,
    seconds: Sequence[float],
    look: FirstLook | None = None,
) -> None:
    """Show the network a clip, another, and the first again, unless a first look left no doubt.

    Args:
        target: In eval mode, on `device`.
        layers: That are to be recorded.
        device: Where the network is.
        seconds: Lengths to try; the first that the network takes serves. Where it takes none nothing is checked.
        look: The first look, if there was one.

    Raises:
        InputError: A layer gives other values the second time; names the layer.
    """
    if look is not None and not look.drew and look.furthest <= tolerance(target, SAME):
        return
    for length in seconds:
        clips = trial_clips(target, length)
        try:
            outputs = _outputs(target, layers, clips[:1], device)
        except InputError:
            continue
        _outputs(target, (), clips[1:], device)
        before = random_states()
        changed = _first_change(target, outputs, clips[0], device)
        repeats = 0 if random_states() == before else REPEATS
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
    look: FirstLook | None = None,
) -> None:
    """Show the network two clips alone, and many of them in a batch, unless a first look left no doubt.

    Args:
        target: In eval mode, on `device`.
        plans: Of the layers that are to be recorded.
        device: Where the network is.
        batch: Clips per batch; with 1 there is nothing to check.
        seconds, look: As in `check_repeatable`.

    Raises:
        InputError: A layer gives other values for a clip in a batch; names the layer.
    """
    if batch < 2 or (look is not None and batch <= look.batch and look.furthest <= SAME):
        return
    for length in seconds:
        clips = trial_clips(target, length)
        try:
            alone = [probed(target, plans, [clip], device) for clip in clips]
        except InputError:
            continue
        together = probed(target, plans, [clips[place % 2] for place in range(batch)], device)
        most = tolerance(target, ALIKE)
        for plan in plans:
            expected = np.concatenate([alone[place % 2][plan.name][0] for place in range(batch)])
            share = difference(torch.from_numpy(together[plan.name][0]), torch.from_numpy(expected))
            if share > most:
                raise InputError(
                    f"layer {plan.name!r} of target {target.name!r} gives other values for a clip when other clips are "
                    f"in its batch (they differ by {share:.2g} of the largest): something up to there looks at the "
                    "whole batch, such as a floor in dB below its maximum; use --batch 1, or mend the network"
                )
        return


def _outputs(
    target: Target, layers: Iterable[str], clips: Sequence[Floats], device: str | torch.device
) -> dict[str, list[torch.Tensor | None]]:
    with torch.inference_mode(), trace(target.module, layers, copied) as seen:
        forward(target, clips, device)
    return seen


def _first_change(
    target: Target, outputs: dict[str, list[torch.Tensor | None]], clip: Floats, device: str | torch.device
) -> str | None:
    """The layer that gives something else than before, the first in the order in which they run."""
    changed: list[str] = []
    calls = dict.fromkeys(outputs, 0)
    most = tolerance(target, SAME)

    def compare(name: str, output: Any) -> None:
        number, calls[name] = calls[name], calls[name] + 1
        before = outputs[name][number] if number < len(outputs[name]) else None
        try:
            now = tensor_of(name, output)
        except InputError:
            return
        if before is None or now.shape != before.shape or difference(now, before) > most:
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
