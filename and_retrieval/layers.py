"""Layers: names that globs match, and how each layer's output is read, found by showing the network noise.

Every output has a batch axis, a unit axis and, where there is one, a time axis; whatever is left
(frequency, mostly) is averaged. The batch may be multiplied: a network that cuts a clip into m segments
shows its layers [n * m, ...] for n clips, all segments of the first clip first. The segments then are the
slow part of time, in front of the layer's own time steps.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from .errors import InputError, unknown_name
from .hooks import forward, tensor_of, trace
from .targets import layer_names
from .types import Floats, Pooling, Target

TRIAL_SECONDS = (1.0, 2.0, 3.0)
"""Lengths of the noise that finds out which axis of an output runs over time."""
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
Trial = dict[str, Shape | InputError]
"""Shape of every layer's output in one forward pass, in the order in which they ran."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How one layer's output is read; axes count as in the output, from 0.

    Attributes:
        name: Dotted name of the module.
        units: Number of units.
        unit_axis: Axis of the units.
        time_axis: Axis of the time steps (or tokens) within a segment, or None.
        pooling: How time becomes one number.
        batch_axis: Axis of the clips; 1 in sequence-first networks, otherwise 0.
        overlap: Share of a segment that the next one repeats, 0..1; 0 without segments.
    """

    name: str
    units: int
    unit_axis: int
    time_axis: int | None
    pooling: Pooling
    batch_axis: int = 0
    overlap: float = 0.0


def match_layers(module: nn.Module, globs: Sequence[str]) -> tuple[str, ...]:
    """Names of the layers that any of `globs` matches, in module order.

    A `*` also matches dots. Without globs: all convolutions and linear layers, or, in a network that has
    none, all modules without children.

    Raises:
        InputError: A glob matches nothing.
    """
    names = layer_names(module)
    if not globs:
        return _default_layers(module)
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise _no_such_layer(glob, names)
    return tuple(name for name in names if any(fnmatchcase(name, glob) for glob in globs))


def _default_layers(module: nn.Module) -> tuple[str, ...]:
    inner = [(name, m) for name, m in module.named_modules() if name]
    # An attention's output projection is used for its weights and never called.
    weighty = [
        name for name, m in inner if _is_weighty(m) and not isinstance(m, NonDynamicallyQuantizableLinear)
    ]
    chosen = weighty or [name for name, m in inner if not any(True for _ in m.children())]
    if not chosen:
        raise InputError(
            "the network has no layers: its module must contain submodules, e.g. nn.Sequential(network)"
        )
    return tuple(chosen)


def _is_weighty(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _defined_in(module, ("conv",))


def _no_such_layer(glob: str, names: Sequence[str]) -> InputError:
    if not names:
        return InputError(f"layer {glob!r} matches nothing: the network has no layers")
    bare = glob.strip("*") or glob
    close = difflib.get_close_matches(bare, names, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else f"its {len(names)} layers begin with {', '.join(names[:5])}"
    )
    example = (close or names)[0].split(".")[0]
    return InputError(
        f"layer {glob!r} matches no layer of the network; {hint} (example: --layers '{example}*')"
    )


def resolve_pooling(
    target: Target, layers: Sequence[str], overrides: Sequence[tuple[str, Pooling]]
) -> dict[str, Pooling]:
    """Pooling of every layer: the first override whose glob matches, then the target's own, then `mean`.

    Raises:
        InputError: An override names an unknown pooling or matches none of `layers`.
    """
    for glob, pooling in overrides:
        if pooling not in get_args(Pooling):
            raise unknown_name("pooling", pooling, get_args(Pooling))
        if not any(fnmatchcase(layer, glob) for layer in layers):
            raise _no_such_layer(glob, layers)
    rules = [*overrides, *target.pooling.items()]
    return {layer: next((p for glob, p in rules if fnmatchcase(layer, glob)), "mean") for layer in layers}


@dataclass(frozen=True, slots=True)
class _Outputs:
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


def plan_layers(
    target: Target,
    layers: Sequence[str],
    overrides: Sequence[tuple[str, Pooling]] = (),
    device: str | torch.device = "cpu",
    seconds: Sequence[float] = TRIAL_SECONDS,
) -> tuple[LayerPlan, ...]:
    """Finds each layer's axes and number of units by showing the network noise of several lengths.

    Units: the target's `unit_axis`; else convolutions, batch and group norms and pooling have them on axis 1;
    linear layers, layer norms, embeddings, attention and recurrent layers on the last one; any other module
    where the module that ran last before it with an equal output has them, else by dimensions (2: axis 1,
    3: the last, more: axis 1, avoiding an axis that grows with the sound). Time: the target's `time_axis`,
    else the axis that grows with the sound (of several the one closest to proportional), else, in a layer of
    fixed length, the axis along which a burst, when it moves in time, moves the output of this layer or of one
    with equal outputs.

    Layers that never run, or put out the same however many clips there are, are left out, with a warning
    in the log.

    Args:
        target: Its module is in eval mode and on `device`.
        layers: From `match_layers`.
        overrides: (layer glob, pooling) pairs, see `resolve_pooling`.
        device: Where the network is.
        seconds: Lengths to try. Those the network refuses are skipped, so add the clips' own length where
            it may take no other.

    Raises:
        InputError: The network accepts no length or is in training mode, no layer runs, or a layer's
            output cannot be read.
    """
    if any(m.training for m in target.module.modules()):
        raise InputError(f"target {target.name!r} is in training mode: call module.eval() first")
    pooling = resolve_pooling(target, layers, overrides)
    runs, single, pair = _trial_runs(target, device, seconds)
    outputs = _read_outputs(runs, single, pair, layers)
    chosen = [name for name in layers if name in outputs]
    if not chosen:
        raise InputError(
            f"target {target.name!r} runs none of the layers {', '.join(layers[:5])} on clips; name others"
        )
    if len(chosen) < len(layers):
        rest = ", ".join(name for name in layers if name not in outputs)
        _log.warning("target %r does not run these layers on clips, they are left out: %s", target.name, rest)
    unit_axes = _unit_axes(target, outputs)
    time_axes = _time_axes(target, outputs, unit_axes, pooling, device, single)
    plans = []
    for name in chosen:
        out, unit = outputs[name], unit_axes[name]
        if out.grows(unit):
            raise InputError(
                f"layer {name!r} has no fixed number of units: its output {list(out.shapes[0])} "
                f"becomes {list(out.shapes[-1])} in longer sounds; leave it out of --layers"
            )
        units = out.shapes[0][unit]
        plans.append(
            LayerPlan(name, units, unit, time_axes[name], pooling[name], out.batch_axis, _overlap(out))
        )
    return tuple(plans)


def _noise(target: Target, seconds: float, n: int = 1) -> list[Floats]:
    """n times the same noise, at the target's rate."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * target.sample_rate))
    return [(TRIAL_LOUDNESS * samples.clip(-3, 3)).astype(np.float32)] * n


def _trial_runs(
    target: Target, device: str | torch.device, seconds: Sequence[float]
) -> tuple[dict[float, Trial], float, Trial]:
    """Shapes of all layers for one clip per length, the first length accepted, and for two clips of that."""

    def take(name: str, output: Any) -> Shape | InputError:
        try:
            return tuple(tensor_of(name, output).shape)
        except InputError as error:
            return error  # a matter only for the layers that are asked for

    def shapes(length: float, n: int) -> Trial:
        with torch.inference_mode(), trace(target.module, layer_names(target.module), take) as seen:
            forward(target, _noise(target, length, n), device)
        return seen

    runs: dict[float, Trial] = {}
    refusal: InputError | None = None
    for length in sorted(set(seconds)):
        try:
            runs[length] = shapes(length, 1)
        except InputError as error:
            refusal = error
    if not runs:
        raise refusal or InputError("no lengths to try")
    single = next(iter(runs))
    return runs, single, shapes(single, 2)


def _read_outputs(
    runs: Mapping[float, Trial], single: float, pair: Trial, layers: Sequence[str]
) -> dict[str, _Outputs]:
    """The layers that put something out for every clip, in the order in which they ran.

    Raises:
        InputError: One of `layers` puts out what cannot be read.
    """
    outputs: dict[str, _Outputs] = {}
    for name in runs[single]:
        trials = [run.get(name) for run in (*runs.values(), pair)]
        shapes = [shape for shape in trials if isinstance(shape, tuple)]
        problem = next((error for error in trials if isinstance(error, InputError)), None)
        problem = problem or _misshapen(name, shapes)
        if problem and name in layers:
            raise problem
        if problem or None in trials:
            continue
        one, two = shapes[list(runs).index(single)], shapes.pop()
        doubled = [axis for axis in range(len(one)) if two == _doubled(one, axis)]
        if doubled:  # else it computes something all clips share, such as a table of positions
            outputs[name] = _Outputs(tuple(shapes), tuple(runs), doubled[0])
    return outputs


def _doubled(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])


def _misshapen(name: str, shapes: Sequence[Shape]) -> InputError | None:
    if len({len(shape) for shape in shapes}) > 1:
        return InputError(
            f"layer {name!r}: the number of axes of its output depends on the clips; does the network squeeze "
            "away a batch of one? Give squeeze() the axis"
        )
    if any(len(shape) < 2 for shape in shapes):
        return InputError(
            f"layer {name!r} puts out {list(shapes[0])}: it needs an axis of clips and one of units; "
            "leave it out of --layers"
        )
    return None


def _defined_in(module: nn.Module, sources: Iterable[str]) -> bool:
    """Whether the module's class, or one it derives from, is defined in one of the files of torch.nn."""
    names = {f"torch.nn.modules.{source}" for source in sources}
    return any(cls.__module__ in names for cls in type(module).__mro__)


def _unit_axes(target: Target, outputs: Mapping[str, _Outputs]) -> dict[str, int]:
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


def _own_unit_axis(module: nn.Module, out: _Outputs) -> int | None:
    """The axis that the module's type prescribes."""
    if _defined_in(module, CHANNELS_SECOND) or isinstance(module, nn.GroupNorm):
        axis = 1
    elif isinstance(module, FEATURES_LAST) or _defined_in(module, ("rnn",)):
        axis = out.ndim - 1
        # Layer norms over channels that permute inside (ConvNeXt) are subclasses of LayerNorm too.
        if isinstance(module, nn.LayerNorm) and module.normalized_shape[-1] != out.shapes[0][axis]:
            return None
    else:
        return None
    return axis if axis != out.batch_axis else None


def _likely_unit_axis(out: _Outputs) -> int:
    usual = [1] if out.ndim != 3 else [2]
    order = [axis for axis in (*usual, *reversed(range(out.ndim))) if axis != out.batch_axis]
    return next((axis for axis in order if not out.grows(axis)), order[0])


def _time_axes(
    target: Target,
    outputs: Mapping[str, _Outputs],
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
        declared = next((axis for glob, axis in target.time_axis.items() if fnmatchcase(name, glob)), None)
        growing = [axis for axis in others if out.grows(axis)]
        wide = tuple(axis for axis in others if out.shapes[0][axis] > 1)
        found[name] = None
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
    target: Target, name: str, declared: int, out: _Outputs, others: Sequence[int], kind: str = "time"
) -> int:
    axis = declared + out.ndim if declared < 0 else declared
    if axis not in others:
        raise InputError(
            f"target {target.name!r} declares axis {declared} as {kind} of layer {name!r}, whose output is "
            f"{list(out.shapes[0])}; its {kind}_axis must be one of {', '.join(map(str, others)) or 'none'}"
        )
    return axis


def _from_proportional(out: _Outputs, axis: int) -> float:
    """How far the axis' growth is from that of the sound, summed over the lengths, in log units."""
    sizes = [max(shape[axis], 1) for shape in out.shapes]
    return sum(
        abs(math.log(size / sizes[-1]) - math.log(second / out.seconds[-1]))
        for size, second in zip(sizes, out.seconds, strict=True)
    )


def _overlap(out: _Outputs) -> float:
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
    outputs: Mapping[str, _Outputs],
    unclear: Mapping[str, tuple[int, ...]],
    device: str | torch.device,
    length: float,
) -> dict[tuple[str, int], float]:
    """How far the trace of a short burst moves along each unclear axis when the burst moves in time, 0..1.

    The trace is the change of the output against the noise alone, averaged over the other axes; how far
    two traces lie apart is their total variation. Along frequency a burst leaves the same trace whenever
    it comes; along time it does not.
    """
    quiet = _noise(target, length)[0] * 0.01
    burst = _noise(target, BURST_SECONDS)[0] / TRIAL_LOUDNESS / 3
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
