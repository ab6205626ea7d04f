"""The probe: clips -> one activation and one peak time per unit, for all layers in one pass.

Peaks take a layer's time axis to span exactly the clip, unless the target says when its steps are or its plan has found
that the network pads or cuts clips inside.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..clips.reading import Group, read_in_order
from ..config import ClipConfig
from ..errors import InputError
from ..progress import Progress
from ..types import Clip, Floats, Ints, Pooling, Skipped, Target
from .choice import match_layers, resolve_pooling
from .hooks import forward, tensor_of, trace, users_code
from .layers import plan_layers
from .plan import LayerPlan
from .timing import even_seconds

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
    done = 0
    groups = equally_long(clips, sample_rate, batch)
    read: Iterator[Group[None]] = read_in_order(clips, groups, sample_rate, cut)
    for group in read:
        skipped += group.misses
        yield from equal_parts(group, batch)
        done += len(group.rows) + len(group.misses)
        progress(done, len(clips))


def equally_long(clips: Sequence[Clip], sample_rate: int, batch: int) -> Iterator[list[int]]:
    """Places of clips in groups that are as long as each other by their durations, see `equal_length_batches`."""
    return equal_length_batches([round(clip.duration * sample_rate) for clip in clips], batch)


def equal_parts(group: Group[Any], batch: int) -> Iterator[tuple[list[int], list[Floats]]]:
    """Rows and waveforms of a group that was read, in batches of equal length: sounds may differ by a sample."""
    for same in equal_length_batches([len(sound) for sound in group.sounds], batch):
        yield [group.rows[i] for i in same], [group.sounds[i] for i in same]


STEPS = 32  # of a block whose largest value is found first


@dataclass(frozen=True, slots=True)
class Response:
    """What one call of a layer put out, without what is left beside units and time.

    Attributes:
        mean: Mean over the rest (frequency, mostly), float32 [rows, steps, units].
        largest: Largest value over the rest, the same shape; only where the pooling needs it, else `mean`.
    """

    mean: torch.Tensor
    largest: torch.Tensor


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
    return pool_calls([response_of(output, plan, kept=False)], n, plan, duration)


def pool_calls(
    calls: Sequence[Response], n: int, plan: LayerPlan, duration: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `pool`, of all calls of a layer in one pass.

    Calls are joined along time in their order, or, where they are no stretches of time (`LayerPlan.calls`) but a batch
    in parts, along the batch.

    Raises:
        InputError: As `pool`.
    """
    response, segments = joined(calls, n, plan)
    if plan.step_seconds is not None and (plan.time_axis is not None or response.mean.shape[1] > 1):
        return _pooled_steps(response, plan, duration)
    seconds = even_seconds(response.mean.shape[1], segments, plan.overlap if segments > 1 else 0.0, duration)
    when = torch.from_numpy(seconds).to(response.mean.device)
    return _pooled(response, plan.pooling), when[strongest_step(response.mean)].float()


def response_of(output: torch.Tensor, plan: LayerPlan, kept: bool = True) -> Response:
    """The response over time of what one call of a layer put out.

    Args:
        output: Of the layer.
        plan: How it is read.
        kept: Whether the response is used after the call, when later layers may have changed the output in place.

    Raises:
        InputError: The number of units is not the planned one, or there is nothing to take a mean of.
    """
    x = _arranged(output, plan)
    if x.shape[3] == 1:  # a mean of one takes six times as long as a copy
        only = x[..., 0].clone() if kept else x[..., 0]
        return Response(only, only)
    mean = x.mean(3)
    return Response(mean, x.amax(3) if plan.pooling == "max" else mean)


def strongest_step(response: torch.Tensor) -> torch.Tensor:
    """As `response.argmax(1)`, which takes six times as long where steps do not lie side by side in memory.

    Args:
        response: [n, steps, units].

    Returns:
        int64 [n, units], the first of equally strong steps.
    """
    steps = response.shape[1]
    whole = steps // STEPS * STEPS
    if response.stride(1) == 1 or whole < 2 * STEPS:
        return response.argmax(1)
    of_blocks = [response[:, :whole].reshape(len(response), -1, STEPS, response.shape[2]).amax(2)]
    if whole < steps:
        of_blocks.append(response[:, whole:].amax(1, keepdim=True))
    first = torch.cat(of_blocks, 1).argmax(1, keepdim=True) * STEPS
    within = torch.arange(STEPS, device=response.device)[None, :, None]
    block = (first + within).clamp(
        max=steps - 1
    )  # behind the end, the last step again: it does not come first
    return first[:, 0] + response.gather(1, block).argmax(1)


def joined(calls: Sequence[Response], n: int, plan: LayerPlan) -> tuple[Response, int]:
    """The calls of one pass as one response [n, steps, units], and in how many equal segments the steps lie."""
    sizes = [tuple(call.mean.shape[:2]) for call in calls]
    rows = sum(size[0] for size in sizes)
    if rows % n:
        raise InputError(f"layer {plan.name!r} put out {rows} rows for {n} clips, which is no multiple")
    along_time = plan.calls == "stretches" and not any(size[0] % n for size in sizes)
    count = n if along_time else -1

    def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        if len(parts) == 1:
            return parts[0].reshape(n, -1, plan.units)
        if along_time:
            return torch.cat(
                [part.reshape(count, part.numel() // (n * plan.units), plan.units) for part in parts], 1
            )
        return torch.cat(list(parts)).reshape(n, -1, plan.units)

    mean = join([call.mean for call in calls])
    largest = join([call.largest for call in calls]) if plan.pooling == "max" else mean
    alike = len({size[1] for size in sizes}) == 1
    return Response(mean, largest), rows // n if alike else 1


def _pooled_steps(response: Response, plan: LayerPlan, duration: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`pool_calls` where steps have times of their own."""
    assert plan.step_seconds is not None
    steps = response.mean.shape[1]
    with users_code(f"layer {plan.name!r}: step_seconds failed on {steps} steps of {duration:g} s"):
        seconds = torch.from_numpy(plan.step_seconds(duration, steps)).to(response.mean.device)
    counted = torch.isfinite(seconds).nonzero()[:, 0]
    if not len(counted):
        raise InputError(f"layer {plan.name!r}: all {steps} steps of a clip of {duration:g} s are padding")
    real = Response(response.mean[:, counted], response.largest[:, counted])
    peaks = seconds[counted].float()[strongest_step(real.mean)]
    if plan.pooling == "first":
        return response.mean[:, 0].contiguous(), peaks
    return _pooled(real, plan.pooling), peaks


def _pooled(response: Response, pooling: Pooling) -> torch.Tensor:
    """[n, steps, units] -> [n, units]."""
    if pooling == "mean":
        return response.mean.mean(1)
    if pooling == "max":
        return response.largest.amax(1)
    return response.mean[:, 0 if pooling == "first" else -1].contiguous()


def _arranged(output: torch.Tensor, plan: LayerPlan) -> torch.Tensor:
    """Output -> float32 [rows, steps, units, rest]."""
    time = [] if plan.time_axis is None else [plan.time_axis]
    named = {plan.batch_axis, plan.unit_axis, *time}
    if output.ndim <= max(named) or output.shape[plan.unit_axis] != plan.units:
        raise InputError(
            f"layer {plan.name!r} put out {list(output.shape)} where {plan.units} units on axis {plan.unit_axis} "
            "were expected; its shape must not depend on the clip's length or the batch"
        )
    if not output.numel():
        raise InputError(
            f"layer {plan.name!r} put out {list(output.shape)}, which holds nothing: clips are too short"
        )
    rest = [axis for axis in range(output.ndim) if axis not in named]
    x = output.float().permute(plan.batch_axis, *time, plan.unit_axis, *rest)
    steps = math.prod(output.shape[axis] for axis in time)
    return x.reshape(
        output.shape[plan.batch_axis], steps, plan.units, math.prod(output.shape[axis] for axis in rest)
    )


def probe(
    target: Target,
    plans: Sequence[LayerPlan],
    batches: Iterable[tuple[Ints, Sequence[Floats]]],
    device: str | torch.device = "cpu",
    refused: list[tuple[int, InputError]] | None = None,
) -> Iterator[tuple[Ints, dict[str, tuple[Floats, Floats]]]]:
    """Shows the network batch after batch; one forward pass serves all layers.

    Args:
        target: Its module is in eval mode and on `device`.
        plans: From `plan_layers`.
        batches: Rows and their waveforms at the target's rate, equally long within a batch.
        device: Where the network is.
        refused: Where it is given, a batch that fails is shown clip by clip, and filled with the rows that fail and
            why; otherwise the first failure is raised.

    Yields:
        The rows, and per layer its activations and peaks (seconds), both float32 [n, units]. On a CPU the
        same batches give the same bytes. No hook is left on the network between batches.

    Raises:
        InputError: The network failed on a batch, or a layer's output does not fit its plan.
    """
    for rows, waveforms in batches:
        try:
            yield rows, probed(target, plans, waveforms, device)
        except InputError as error:
            if refused is None:
                raise
            if len(rows) == 1:
                refused.append((int(rows[0]), error))
                continue
            alone = ((rows[i : i + 1], [waveform]) for i, waveform in enumerate(waveforms))
            yield from probe(target, plans, alone, device, refused)


def probed(
    target: Target,
    plans: Sequence[LayerPlan],
    waveforms: Sequence[Floats],
    device: str | torch.device = "cpu",
    held: Collection[str] = (),
) -> dict[str, tuple[Floats, Floats]]:
    """Per layer the activations and peaks of equally long clips, see `probe`.

    Args:
        target: Its module is in eval mode and on `device`.
        plans: From `plan_layers`.
        waveforms: At the target's rate.
        device: Where the network is.
        held: Layers that are called several times although their plans say once.

    Raises:
        InputError: As `probe`.
    """
    plan_of = {plan.name: plan for plan in plans}
    n, duration = len(waveforms), len(waveforms[0]) / target.sample_rate

    def take(name: str, output: Any) -> Response | tuple[torch.Tensor, torch.Tensor]:
        plan = plan_of[name]
        tensor = tensor_of(name, output)
        # Pooled at once where that is all: responses of all layers together would take much memory.
        rows = tensor.shape[plan.batch_axis] if plan.batch_axis < tensor.ndim else 0
        if plan.calls == "once" and name not in held and rows % n == 0:
            return pool(tensor, n, plan, duration)
        return response_of(tensor, plan)

    with torch.inference_mode(), trace(target.module, plan_of, take) as seen:
        forward(target, waveforms, device)
    if missing := [name for name in plan_of if name not in seen]:
        raise InputError(
            f"layer {missing[0]!r} did not run on {n} waveforms of {duration:g} s; leave it out of --layers"
        )
    again = {name for name, calls in seen.items() if len(calls) > 1 and not isinstance(calls[0], Response)}
    if again:
        return probed(target, plans, waveforms, device, {*held, *again})
    results = {}
    for name, plan in plan_of.items():
        first, *later = seen[name]
        calls = [call for call in (first, *later) if isinstance(call, Response)]
        values, peaks = pool_calls(calls, n, plan, duration) if isinstance(first, Response) else first
        results[name] = values.cpu().numpy(), peaks.cpu().numpy()
    return results
