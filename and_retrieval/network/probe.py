"""The probe: clips -> one activation and one peak time per unit, for all layers in one pass.

Peaks take a layer's time axis to span exactly the clip unless the target says when its steps are; a network that
pads clips to a fixed length without saying so therefore peaks too early by the share of its padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from ..clips.index import read_in_order
from ..config import ClipConfig
from ..errors import InputError
from ..progress import Progress
from ..types import Clip, Floats, Ints, Pooling, Skipped, Target
from .hooks import forward, tensor_of, trace, users_code
from .layers import LayerPlan, match_layers, plan_layers, resolve_pooling

__all__ = [
    "LayerPlan",
    "equal_length_batches",
    "match_layers",
    "plan_layers",
    "pool",
    "probe",
    "read_batches",
    "resolve_pooling",
]


def equal_length_batches(lengths: Sequence[int], batch: int) -> Iterator[list[int]]:
    """Row numbers in batches of at most `batch`, all of a batch equally long.

    Lengths come in the order in which they first appear, rows of a length in ascending order.

    Args:
        lengths: Number of samples of every row.
        batch: At least 1.

    Raises:
        InputError: `batch` is below 1.
    """
    if batch < 1:
        raise InputError(f"batch is {batch}; it must be at least 1")
    rows_of: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows_of.setdefault(int(length), []).append(row)
    for rows in rows_of.values():
        yield from (rows[i : i + batch] for i in range(0, len(rows), batch))


def read_batches(
    clips: Sequence[Clip],
    sample_rate: int,
    batch: int,
    cut: ClipConfig,
    skipped: list[Skipped],
    progress: Progress,
) -> Iterator[tuple[list[int], list[Floats]]]:
    """Read clips in batches of equal length, so that no pooled mean ever counts padding.

    Args:
        clips: What to read.
        sample_rate: Hz.
        batch: Clips per batch at most.
        cut: How the clips were cut, see `ClipIndex.cut`.
        skipped: Filled with the clips that cannot be read.
        progress: Called with clips done and in all.

    Yields:
        Places in `clips`, and their waveforms.
    """
    # Grouped by duration first, to read each clip once; clips that differ by a sample part afterwards.
    groups = equal_length_batches([round(clip.duration * sample_rate) for clip in clips], batch)
    done = 0
    for places, sounds, misses in read_in_order(clips, groups, sample_rate, cut):
        skipped += misses
        for same in equal_length_batches([len(sound) for sound in sounds], batch):
            yield [places[i] for i in same], [sounds[i] for i in same]
        done += len(places) + len(misses)
        progress(done, len(clips))


def pool(output: torch.Tensor, n: int, plan: LayerPlan, duration: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's output for n equally long clips -> activations and peaks, both float32 [n, units].

    The response of a unit over time is its mean over everything but batch, unit and time. `mean` is the
    response's mean, `first` and `last` its value at the first and last step, `max` the largest single
    value of the output at any position. The peak is the centre of the step with the largest response, whatever
    the pooling, in seconds: (step + 0.5) / steps * duration, half the duration without steps. Segments that
    overlap are laid so that together they span the duration.

    Where the plan says when the steps are, those it calls padding or special tokens count only for `first`, which
    is the very first step; `last` is the last one that counts, and the peak is the strongest one's own time.

    Raises:
        InputError: The batch is no multiple of n, the number of units is not the planned one, or no step counts.
    """
    x = _arranged(output, n, plan)
    if plan.step_seconds is not None and plan.time_axis is not None:
        return _pooled_steps(x, plan, duration)
    response = x.mean(3)
    segments = output.shape[plan.batch_axis] // n
    peaks = _seconds(response.argmax(1), segments, x.shape[1] // segments, plan.overlap, duration)
    return _pooled(x, response, plan.pooling), peaks


def _pooled_steps(x: torch.Tensor, plan: LayerPlan, duration: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`pool` of [n, steps, units, rest] where steps have times of their own."""
    assert plan.step_seconds is not None
    with users_code(f"layer {plan.name!r}: step_seconds failed on {x.shape[1]} steps of {duration:g} s"):
        seconds = torch.from_numpy(plan.step_seconds(duration, x.shape[1])).to(x.device)
    counted = torch.isfinite(seconds).nonzero()[:, 0]
    if not len(counted):
        raise InputError(
            f"layer {plan.name!r}: all {x.shape[1]} steps of a clip of {duration:g} s are padding"
        )
    real = x[:, counted]
    response = real.mean(3)
    peaks = seconds[counted].float()[response.argmax(1)]
    if plan.pooling == "first":
        return x[:, 0].mean(2), peaks
    return _pooled(real, response, plan.pooling), peaks


def _pooled(x: torch.Tensor, response: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """[n, steps, units, rest] and its mean over the rest -> [n, units]."""
    if pooling == "mean":
        return response.mean(1)
    if pooling == "max":
        return x.amax((1, 3))
    return response[:, 0 if pooling == "first" else -1].contiguous()


def _seconds(step: torch.Tensor, segments: int, steps: int, overlap: float, duration: float) -> torch.Tensor:
    """Centre in seconds of a step out of segments * steps, float32."""
    hop = 1 - overlap  # in segments
    start = torch.div(step, steps, rounding_mode="floor") * hop
    within = (step % steps + 0.5) / steps
    return ((start + within) * (duration / ((segments - 1) * hop + 1))).float()


def _arranged(output: torch.Tensor, n: int, plan: LayerPlan) -> torch.Tensor:
    """Output -> float32 [n, steps, units, rest], steps running over segments, then over time within one."""
    time = [] if plan.time_axis is None else [plan.time_axis]
    named = {plan.batch_axis, plan.unit_axis, *time}
    if output.ndim <= max(named) or output.shape[plan.unit_axis] != plan.units:
        raise InputError(
            f"layer {plan.name!r} put out {list(output.shape)} where {plan.units} units on axis {plan.unit_axis} "
            "were expected; its shape must not depend on the clip's length or the batch"
        )
    rows = output.shape[plan.batch_axis]
    if rows % n:
        raise InputError(f"layer {plan.name!r} put out {rows} rows for {n} clips, which is no multiple")
    rest = [axis for axis in range(output.ndim) if axis not in named]
    steps = rows // n * math.prod(output.shape[axis] for axis in time)
    x = output.float().permute(plan.batch_axis, *time, plan.unit_axis, *rest)
    return x.reshape(n, steps, plan.units, math.prod(output.shape[axis] for axis in rest))


def probe(
    target: Target,
    plans: Sequence[LayerPlan],
    batches: Iterable[tuple[Ints, Sequence[Floats]]],
    device: str | torch.device = "cpu",
) -> Iterator[tuple[Ints, dict[str, tuple[Floats, Floats]]]]:
    """Shows the network batch after batch; one forward pass serves all layers.

    Args:
        target: Its module is in eval mode and on `device`.
        plans: From `plan_layers`.
        batches: Rows and their waveforms at the target's rate, equally long within a batch.
        device: Where the network is.

    Yields:
        The rows, and per layer its activations and peaks (seconds), both float32 [n, units]. On a CPU the
        same batches give the same bytes. No hook is left on the network between batches.

    Raises:
        InputError: The network failed on a batch, or a layer's output does not fit its plan.
    """
    plan_of = {plan.name: plan for plan in plans}
    for rows, waveforms in batches:
        n, duration = len(waveforms), len(waveforms[0]) / target.sample_rate

        def take(
            name: str, output: Any, n: int = n, duration: float = duration
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return pool(tensor_of(name, output), n, plan_of[name], duration)

        # Not around the yield: inference mode would leak into whoever consumes the batches.
        with torch.inference_mode(), trace(target.module, plan_of, take) as pooled:
            forward(target, waveforms, device)
        if missing := [name for name in plan_of if name not in pooled]:
            raise InputError(
                f"layer {missing[0]!r} did not run on {n} waveforms of {duration:g} s; leave it out of --layers"
            )
        yield rows, {name: (pooled[name][0].cpu().numpy(), pooled[name][1].cpu().numpy()) for name in plan_of}
