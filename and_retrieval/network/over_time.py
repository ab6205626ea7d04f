"""What units put out over the time of one clip, step by step, before it is pooled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import InputError
from ..numerics import Doubles
from ..types import Floats, Target
from .hooks import forward, tensor_of, trace, users_code
from .plan import LayerPlan
from .probe import joined, response_of
from .timing import even_seconds


def over_time(
    target: Target, plans: Sequence[LayerPlan], waveform: Floats, device: str | torch.device = "cpu"
) -> tuple[dict[str, tuple[Doubles, Floats]], object]:
    """The response of every unit over one clip's time, in one forward pass, and the network's output.

    A response is the mean of the output over everything but unit and time, as `probe.pool` reads it. Steps are in
    ascending time; those that are padding are left out. A layer without time has one step in the clip's middle.

    Args:
        target: Its module is in eval mode and on `device`.
        plans: From `plan_layers`, or as they were recorded.
        waveform: Float32 [samples] at the target's rate.
        device: Where the network is.

    Returns:
        Layer -> seconds float64 [steps] from the clip's start, and responses float32 [steps, units]; and what the
        module put out.

    Raises:
        InputError: The network failed on the clip, a layer did not run, or its output does not fit its plan.
    """
    plan_of = {plan.name: plan for plan in plans}
    duration = len(waveform) / target.sample_rate
    with (
        torch.inference_mode(),
        trace(
            target.module,
            plan_of,
            lambda name, output: response_of(tensor_of(name, output), plan_of[name]),
        ) as seen,
    ):
        output = forward(target, [waveform], device)
    if missing := [name for name in plan_of if name not in seen]:
        raise InputError(f"layer {missing[0]!r} did not run on a clip of {duration:g} s; record it again")
    responses = {}
    for name, plan in plan_of.items():
        response, segments = joined(seen[name], 1, plan)
        values = response.mean[0].cpu().numpy()
        seconds = _step_seconds(plan, len(values), segments, duration)
        counted = np.flatnonzero(np.isfinite(seconds))
        order = counted[np.argsort(seconds[counted], kind="stable")]
        responses[name] = seconds[order], values[order]
    return responses, output


def _step_seconds(plan: LayerPlan, steps: int, segments: int, duration: float) -> Doubles:
    """Time of each step, float64 [steps]; NaN for padding."""
    if plan.step_seconds is not None and (plan.time_axis is not None or steps > 1):
        with users_code(f"layer {plan.name!r}: step_seconds failed on {steps} steps of {duration:g} s"):
            return np.asarray(plan.step_seconds(duration, steps), np.float64)
    return even_seconds(steps, segments, plan.overlap if segments > 1 else 0.0, duration)
