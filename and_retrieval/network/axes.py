"""Axes: on which axis of a layer's output its units lie, and which one runs over time.

What a target declares comes first, then what the modules' types prescribe, then what noise and short bursts show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..types import Floats, Pooling, Target
from .hooks import forward, tensor_of, trace

TRIAL_LOUDNESS = 0.1
BURST_TIMES = (0.15, 0.4, 0.75)
"""Where in the noise a burst is put, as shares of its length; uneven, so that no segment grid hides it."""
BURST_SECONDS = 0.05
BURST_MOVES = 0.05
"""Total variation (0..1) between an axis' profiles of bursts at different times, above which it is time."""

CHANNELS_SECOND = ("conv", "pooling", "batchnorm", "instancenorm")
"""Modules of torch.nn whose layers, subclasses included, have their units on axis 1."""
FEATURES_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What one layer put out for one clip, per length tried; `seconds` are those lengths."""

    shapes: tuple[Shape, ...]
    seconds: tuple[float, ...]
    batch_axis: int

    @property
    def ndim(self) -> int:
        return len(self.shapes[0])

    def grows(self, axis: int) -> bool:
        """Whether the axis' size depends on the clip's length."""
        return len({shape[axis] for shape in self.shapes}) > 1


def noise(target: Target, seconds: float, n: int = 1) -> list[Floats]:
    """n times the same noise, at the target's rate."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * target.sample_rate))
    return [(TRIAL_LOUDNESS * samples.clip(-3, 3)).astype(np.float32)] * n


def defined_in(module: nn.Module, sources: Iterable[str]) -> bool:
    """Whether the module's class, or one it derives from, is defined in one of the files of torch.nn."""
    names = {f"torch.nn.modules.{source}" for source in sources}
    return any(cls.__module__ in names for cls in type(module).__mro__)


def unit_axes_of(target: Target, outputs: Mapping[str, Outputs]) -> dict[str, int]:
    """Unit axis of every layer; `outputs` is in the order in which the layers ran."""
    modules = dict(target.module.named_modules())
    axes: dict[str, int] = {}
    latest: dict[tuple[int, tuple[Shape, ...]], int] = {}
    for name, out in outputs.items():
        alike = (out.batch_axis, out.shapes)
        declared = next((axis for glob, axis in target.unit_axis.items() if fnmatchcase(name, glob)), None)
        if declared is not None:
            others = [axis for axis in range(out.ndim) if axis != out.batch_axis]
            axis: int | None = _declared_axis(target, name, declared, out, others, "unit")
        else:
            axis = _own_unit_axis(modules[name], out)
        if axis is None:
            axis = latest.get(alike, _likely_unit_axis(out))
        axes[name] = latest[alike] = axis
    return axes


def _own_unit_axis(module: nn.Module, out: Outputs) -> int | None:
    """The axis that the module's type prescribes."""
    if defined_in(module, CHANNELS_SECOND) or isinstance(module, nn.GroupNorm):
        axis = 1
    elif isinstance(module, FEATURES_LAST) or defined_in(module, ("rnn",)):
        axis = out.ndim - 1
        # Layer norms over channels that permute inside (ConvNeXt) are subclasses of LayerNorm too.
        if isinstance(module, nn.LayerNorm) and module.normalized_shape[-1] != out.shapes[0][axis]:
            return None
    else:
        return None
    return axis if axis != out.batch_axis else None


def _likely_unit_axis(out: Outputs) -> int:
    usual = [1] if out.ndim != 3 else [2]
    order = [axis for axis in (*usual, *reversed(range(out.ndim))) if axis != out.batch_axis]
    return next((axis for axis in order if not out.grows(axis)), order[0])


def time_axes_of(
    target: Target,
    outputs: Mapping[str, Outputs],
    unit_axes: Mapping[str, int],
    pooling: Mapping[str, Pooling],
    device: str | torch.device,
    length: float,
) -> dict[str, int | None]:
    """Time axis of every layer, or None; those without a pooling are not recorded, but bear witness."""
    found: dict[str, int | None] = {}
    unclear: dict[str, tuple[int, ...]] = {}
    for name, out in outputs.items():
        others = [axis for axis in range(out.ndim) if axis not in (out.batch_axis, unit_axes[name])]
        glob = next((glob for glob in target.time_axis if fnmatchcase(name, glob)), None)
        growing = [axis for axis in others if out.grows(axis)]
        wide = tuple(axis for axis in others if out.shapes[0][axis] > 1)
        found[name] = None
        declared = None if glob is None else target.time_axis[glob]
        if glob is not None and declared is None:
            continue
        if declared is not None and name in pooling:
            found[name] = _declared_axis(target, name, declared, out, others)
        elif growing:
            found[name] = min(growing, key=partial(_from_proportional, out))
        elif wide:
            unclear[name] = wide
    if unclear.keys() & pooling.keys():
        moves = _burst_moves(target, outputs, unclear, device, length)
        best = {name: max((moves[name, axis], axis) for axis in axes) for name, axes in unclear.items()}
        # An attention that looks everywhere moves nothing, but it runs over the tokens of its neighbours.
        proven = {
            (outputs[name], unit_axes[name]): axis
            for name, (move, axis) in best.items()
            if move > BURST_MOVES
        }
        for name, (_, axis) in best.items():
            found[name] = proven.get((outputs[name], unit_axes[name]))
            if found[name] is None and pooling.get(name) in ("first", "last"):
                found[name] = axis
    return found


def _declared_axis(
    target: Target, name: str, declared: int, out: Outputs, others: Sequence[int], kind: str = "time"
) -> int:
    axis = declared + out.ndim if declared < 0 else declared
    if axis not in others:
        raise InputError(
            f"target {target.name!r} declares axis {declared} as {kind} of layer {name!r}, whose output is "
            f"{list(out.shapes[0])}; its {kind}_axis must be one of {', '.join(map(str, others)) or 'none'}"
        )
    return axis


def _from_proportional(out: Outputs, axis: int) -> float:
    """How far the axis' growth is from that of the sound, summed over the lengths, in log units."""
    sizes = [max(shape[axis], 1) for shape in out.shapes]
    return sum(
        abs(math.log(size / sizes[-1]) - math.log(second / out.seconds[-1]))
        for size, second in zip(sizes, out.seconds, strict=True)
    )


def overlap_of(out: Outputs) -> float:
    """Share of a segment that the next one repeats, from the line through segment counts over lengths.

    m segments of w seconds every h seconds need w + (m - 1) h seconds; the line gives h and w.
    """
    counts = np.array([shape[out.batch_axis] for shape in out.shapes])
    if len(set(counts)) < 2:
        return 0.0
    hop = 1 / np.polyfit(out.seconds, counts, 1)[0]
    window = np.mean(np.array(out.seconds) - (counts - 1) * hop)
    return round(float(np.clip(1 - hop / window, 0.0, 0.95)), 3) if window > 0 else 0.0


def _burst_moves(
    target: Target,
    outputs: Mapping[str, Outputs],
    unclear: Mapping[str, tuple[int, ...]],
    device: str | torch.device,
    length: float,
) -> dict[tuple[str, int], float]:
    """How far the trace of a short burst moves along each unclear axis when the burst moves in time, 0..1.

    The trace is the change of the output against the noise alone, averaged over the other axes; how far
    two traces lie apart is their total variation. Along frequency a burst leaves the same trace whenever
    it comes; along time it does not.
    """
    quiet = noise(target, length)[0] * 0.01
    burst = noise(target, BURST_SECONDS)[0] / TRIAL_LOUDNESS / 3
    clips = [quiet]
    for share in BURST_TIMES:
        clip = quiet.copy()
        at = int(share * len(clip))
        clip[at : at + len(burst)] += burst[: len(clip) - at]
        clips.append(clip)

    def take(name: str, output: Any) -> dict[int, float]:
        x = tensor_of(name, output).double().movedim(outputs[name].batch_axis, 0)
        change = (x := x.reshape(len(clips), -1, *x.shape[1:]))[1:].sub(x[:1]).abs()
        # Clips, segments, then the other axes in their old order.
        return {
            axis: _farthest(change.movedim(axis + 1 + (axis < outputs[name].batch_axis), -1))
            for axis in unclear[name]
        }

    with torch.inference_mode(), trace(target.module, unclear, take) as seen:
        forward(target, clips, device)
    return {(name, axis): move for name, moves in seen.items() for axis, move in moves.items()}


def _farthest(change: torch.Tensor) -> float:
    """[bursts, ..., steps] -> greatest total variation between the bursts' normalised profiles over steps."""
    profile = change.flatten(1, -2).mean(1)
    heard = profile[profile.sum(1) > 0]  # a network that crops its input may miss a burst
    if len(heard) < 2:
        return 0.0
    share = heard / heard.sum(1, keepdim=True)
    return float((share[:, None] - share[None]).abs().sum(2).max()) / 2
