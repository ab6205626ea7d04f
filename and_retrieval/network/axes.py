"""Axes: on which axis of a layer's output its units lie, and which one runs over time.

What a target declares comes first, then what the modules' types prescribe, then what noise and short bursts show.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from ..errors import InputError
from ..types import Pooling, Target
from .bursts import Marks
from .names import deciding_glob
from .plan import Calls, Shape

BURST_MOVES = 0.05
"""Total variation (0..1) between an axis' profiles of bursts at different times, above which it may be time."""

CONVOLUTIONS = ("conv",)
CHANNELS_SECOND = ("pooling", "batchnorm", "instancenorm")
"""Modules of torch.nn whose layers, subclasses included, have their units on axis 1."""
FEATURES_LAST = (nn.Linear, nn.Bilinear, nn.Embedding, nn.MultiheadAttention)
NORMALISED_LAST = (nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What one layer put out for one clip, per length tried.

    Attributes:
        shapes: Of one call, the largest size on each axis where calls differ.
        seconds: The lengths.
        batch_axis: Axis of the clips.
        rows: Sizes of the batch axis over all calls.
        calls: What several calls stand for, as far as their number tells.
        call_shapes: The shapes of all calls at the first length.
    """

    shapes: tuple[Shape, ...]
    seconds: tuple[float, ...]
    batch_axis: int
    rows: tuple[int, ...]
    calls: Calls
    call_shapes: tuple[Shape, ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shapes[0])

    @property
    def alike(self) -> tuple[int, tuple[Shape, ...]]:
        """Equal for layers whose outputs cannot be told apart by their shapes."""
        return self.batch_axis, self.shapes

    def grows(self, axis: int) -> bool:
        """Whether the axis' size depends on the clip's length."""
        return len({shape[axis] for shape in self.shapes}) > 1


def defined_in(module: nn.Module, sources: Iterable[str]) -> bool:
    """Whether the module's class, or one it derives from, is defined in one of the files of torch.nn."""
    names = {f"torch.nn.modules.{source}" for source in sources}
    return any(cls.__module__ in names for cls in type(module).__mro__)


def is_declared(target: Target, name: str, out: Outputs) -> bool:
    """Whether bursts cannot add anything: the layer has no time axis, or the target declares it and its steps' times.

    That is so of layers with two axes and one row a clip, and of those with three whose time axis and steps are
    declared, which leaves one axis for the units.
    """
    if out.calls != "once" or set(out.rows) != {1} or len(out.call_shapes) != 1:
        return False
    timed = deciding_glob(target.step_seconds, name) is not None
    return out.ndim == 2 or (out.ndim == 3 and timed and _declared_time(target, name, out) is not None)


def _declared_time(target: Target, name: str, out: Outputs) -> int | None:
    """The time axis that the target declares for a layer, counted from 0."""
    glob = deciding_glob(target.time_axis, name)
    axis = None if glob is None else target.time_axis[glob]
    return axis + out.ndim if axis is not None and axis < 0 else axis


def unit_axes_of(
    target: Target, outputs: Mapping[str, Outputs], marks: Mapping[str, Marks], layers: Collection[str]
) -> dict[str, int]:
    """Unit axis of every layer; `outputs` is in the order in which the layers ran.

    Raises:
        InputError: Of one of `layers` it cannot be told.
    """
    modules = dict(target.module.named_modules())
    axes: dict[str, int] = {}
    latest: dict[tuple[int, tuple[Shape, ...]], int] = {}
    for name, out in outputs.items():
        glob = deciding_glob(target.unit_axis, name)
        declared = None if glob is None else target.unit_axis[glob]
        moved = _moved_axis(marks[name]) if name in marks else _declared_time(target, name, out)
        if declared is not None:
            candidates = [axis for axis in range(out.ndim) if axis != out.batch_axis]
            axis: int | None = _declared_axis(target, name, declared, out, candidates, "unit")
        else:
            axis = _own_unit_axis(modules[name], out, moved)
        if axis is None and latest.get(out.alike) != moved:
            axis = latest.get(out.alike)
        if axis is None:
            axis = _likely_unit_axis(target, name, out, moved)
        if axis is None and name in layers:
            raise InputError(
                f"layer {name!r} puts out {list(out.shapes[0])}, and it cannot be told on which of these axes its "
                f"units lie; say so in the target, for example unit_axis={{{name!r}: 1}}, or leave it out of --layers"
            )
        axes[name] = axis if axis is not None else out.ndim - 1
        if axis is not None:
            latest[out.alike] = axis
    return axes


def _moved_axis(marks: Marks) -> int | None:
    """The only axis along which a burst's trace follows the burst, or None."""
    followers = [axis for axis in marks.change if marks.follows(axis)]
    return followers[0] if len(followers) == 1 else None


def _own_unit_axis(module: nn.Module, out: Outputs, moved: int | None) -> int | None:
    """The axis that the module's type prescribes; of modules without a weight per unit, unless it is time."""
    weighty = True
    if defined_in(module, CONVOLUTIONS):
        axis = 1
    elif isinstance(module, FEATURES_LAST) or defined_in(module, ("rnn",)):
        axis = out.ndim - 1
    elif defined_in(module, CHANNELS_SECOND) or isinstance(module, nn.GroupNorm):
        axis, weighty = 1, False
    elif isinstance(module, NORMALISED_LAST):
        axis, weighty = out.ndim - 1, False
        # Layer norms over channels that permute inside (ConvNeXt) are subclasses of LayerNorm too.
        if isinstance(module, nn.LayerNorm) and module.normalized_shape[-1] != out.shapes[0][axis]:
            return None
    else:
        return None
    return axis if axis != out.batch_axis and (weighty or axis != moved) else None


def _likely_unit_axis(target: Target, name: str, out: Outputs, moved: int | None) -> int | None:
    """The axis of the units by what is left when time is taken out; None where several axes are as likely."""
    glob = deciding_glob(target.time_axis, name)
    time = moved if glob is None else target.time_axis[glob]
    candidates = [axis for axis in range(out.ndim) if axis != out.batch_axis]
    still = [axis for axis in candidates if not out.grows(axis) and time not in (axis, axis - out.ndim)]
    wide = [axis for axis in still if out.shapes[0][axis] > 1] or still
    if len(wide) < 2:
        return wide[0] if wide else candidates[0]
    if out.ndim > 3:
        return 1 if 1 in wide else None
    return candidates[-1] if glob is not None else None


def time_axes_of(
    target: Target,
    outputs: Mapping[str, Outputs],
    unit_axes: Mapping[str, int],
    marks: Mapping[str, Marks],
    pooling: Mapping[str, Pooling],
) -> dict[str, int | None]:
    """Time axis of every layer, or None; those without a pooling are not recorded, but bear witness."""
    axes: dict[str, int | None] = {}
    unclear: dict[str, tuple[int, ...]] = {}
    for name, out in outputs.items():
        not_units = [axis for axis in range(out.ndim) if axis not in (out.batch_axis, unit_axes[name])]
        glob = deciding_glob(target.time_axis, name)
        growing = [axis for axis in not_units if out.grows(axis)]
        wide = tuple(axis for axis in not_units if out.shapes[0][axis] > 1)
        axes[name] = None
        declared = None if glob is None else target.time_axis[glob]
        if glob is not None and declared is None:
            continue
        if declared is not None and name in pooling:
            axes[name] = _declared_axis(target, name, declared, out, not_units)
        elif growing:
            axes[name] = min(growing, key=partial(_from_proportional, out))
        elif wide:
            unclear[name] = wide
    if unclear.keys() & pooling.keys():
        best = {
            name: max((marks[name].move(axis) if name in marks else 0.0, axis) for axis in candidates)
            for name, candidates in unclear.items()
        }
        # An attention that looks everywhere moves nothing, but it runs over the tokens of its neighbours.
        proven = {
            (outputs[name].alike, unit_axes[name]): axis
            for name, (move, axis) in best.items()
            if move > BURST_MOVES
        }
        for name, (_, axis) in best.items():
            axes[name] = proven.get((outputs[name].alike, unit_axes[name]))
            if axes[name] is None and pooling.get(name) in ("first", "last"):
                axes[name] = axis
    return axes


def _declared_axis(
    target: Target, name: str, declared: int, out: Outputs, allowed: Sequence[int], kind: str = "time"
) -> int:
    axis = declared + out.ndim if declared < 0 else declared
    if axis not in allowed:
        raise InputError(
            f"target {target.name!r} declares axis {declared} as {kind} of layer {name!r}, whose output is "
            f"{list(out.shapes[0])}; its {kind}_axis must be one of {', '.join(map(str, allowed)) or 'none'}"
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
    counts = np.array(out.rows)
    if len(set(counts)) < 2:
        return 0.0
    hop = 1 / np.polyfit(out.seconds, counts, 1)[0]
    window = np.mean(np.array(out.seconds) - (counts - 1) * hop)
    return round(float(np.clip(1 - hop / window, 0.0, 0.95)), 3) if window > 0 else 0.0
