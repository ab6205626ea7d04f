"""How each layer's output is read, found by showing the network noise.

Every output has a batch axis, a unit axis and, where there is one, a time axis; whatever is left
(frequency, mostly) is averaged. The batch may be multiplied: a network that cuts a clip into m segments
shows its layers [n * m, ...] for n clips, all segments of the first clip first. The segments then are the
slow part of time, in front of the layer's own time steps. So are the calls of a module that a network calls once
for every stretch of the clip.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..types import Pooling, StepSeconds, Target
from .axes import Outputs, defined_in, is_declared, overlap_of, time_axes_of, unit_axes_of
from .bursts import CLEARLY, Marks, mark, noise
from .choice import resolve_pooling
from .first_look import FirstLook, Trial, are_alike, shapes_of
from .hooks import preprocessed
from .names import deciding_glob
from .plan import Calls, LayerPlan, Shape
from .timing import timed

TRIAL_SECONDS = (1.0, 2.0, 3.0)
"""Lengths of the noise that finds out which axis of an output runs over time."""

_log = logging.getLogger(__name__)


def plan_layers(
    target: Target,
    layers: Sequence[str],
    overrides: Sequence[tuple[str, Pooling]] = (),
    device: str | torch.device = "cpu",
    seconds: Sequence[float] = TRIAL_SECONDS,
    look: FirstLook | None = None,
) -> tuple[LayerPlan, ...]:
    """Finds each layer's axes and number of units by showing the network noise of several lengths.

    Units: the target's `unit_axis`; else convolutions, batch and group norms and pooling have them on axis 1;
    linear layers, layer norms, embeddings, attention and recurrent layers on the last one; any other module
    where the module that ran last before it with an equal output has them, else on the only axis that is left when
    the one that grows with the sound, or moves with a burst, is taken out; of several, axis 1 in outputs of four
    axes or more. Time: the target's `time_axis`, else the axis that grows with the sound (of several the one
    closest to proportional), else, in a layer of fixed length, the axis along which a burst, when it moves in time,
    moves the output of this layer or of one with equal outputs. When the steps are follows from where bursts are
    answered, see `timing.timed`.

    Layers that never run, have no units, put out the same however many clips there are, or are called several times
    on the same stretch of the clip, are left out, with a warning in the log.

    Args:
        target: Its module is in eval mode and on `device`.
        layers: From `match_layers`.
        overrides: (layer glob, pooling) pairs, see `resolve_pooling`.
        device: Where the network is.
        seconds: Lengths to try. Those the network refuses are skipped, so add the clips' own length where
            it may take no other.
        look: The first look, if there was one: its passes are not made again.

    Raises:
        InputError: The network accepts no length or is in training mode, no layer runs, a layer's output cannot be
            read, its units cannot be told from other axes, or it is called several times with outputs of different
            widths.
    """
    if any(m.training for m in target.module.modules()):
        raise InputError(f"target {target.name!r} is in training mode: call module.eval() first")
    pooling = resolve_pooling(target, layers, overrides)
    runs, heard = _trial_runs(target, device, seconds, look)
    shortest = min(heard)
    single = look.seconds if look else shortest
    clips = look.batch if look else 2
    together = look.together if look else shapes_of(target, noise(target, single, clips), device)
    outputs = _read_outputs(target, runs, single, (clips, together), layers)
    chosen = [name for name in layers if name in outputs]
    if not chosen:
        raise InputError(
            f"target {target.name!r} runs none of the layers {', '.join(layers[:5])} on clips; name others"
        )
    if len(chosen) < len(layers):
        rest = ", ".join(name for name in layers if name not in outputs)
        _log.warning("target %r does not run these layers on clips, they are left out: %s", target.name, rest)
    kinds = {outputs[name].alike for name in chosen if not is_declared(target, name, outputs[name])}
    witnesses = {name: out for name, out in outputs.items() if out.alike in kinds}
    marks = _marks(target, witnesses, device, shortest)
    chosen = _joinable(target, chosen, outputs, marks)
    unit_axes = unit_axes_of(target, outputs, marks, chosen)
    time_axes = time_axes_of(target, outputs, unit_axes, marks, pooling)
    plans = [
        _plan(target, name, outputs[name], unit_axes[name], time_axes[name], pooling[name]) for name in chosen
    ]
    plans = _with_units(target, plans)
    later = seconds[-1] if seconds[-1] in heard else max(heard)

    def marks_later() -> dict[str, Marks]:
        known = {plan.name: outputs[plan.name] for plan in plans if plan.name in marks}
        return {} if later == shortest else _marks(target, known, device, later)

    return timed(target, plans, marks, marks_later)


def _plan(
    target: Target, name: str, out: Outputs, unit: int, time: int | None, pooling: Pooling
) -> LayerPlan:
    if out.grows(unit):
        raise InputError(
            f"layer {name!r} has no fixed number of units: its output {list(out.shapes[0])} "
            f"becomes {list(out.shapes[-1])} in longer sounds; leave it out of --layers"
        )
    if len({shape[unit] for shape in out.call_shapes}) > 1:
        raise _of_different_widths(name, out.call_shapes)
    return LayerPlan(
        name,
        units=out.shapes[0][unit],
        unit_axis=unit,
        time_axis=time,
        pooling=pooling,
        batch_axis=out.batch_axis,
        overlap=overlap_of(out),
        shape=out.shapes[0],
        step_seconds=step_seconds_of(target, name),
        calls=out.calls,
    )


def _with_units(target: Target, plans: Sequence[LayerPlan]) -> list[LayerPlan]:
    """The plans of layers that have units at all.

    Raises:
        InputError: None has.
    """
    empty = [plan.name for plan in plans if not plan.units]
    if len(empty) == len(plans):
        raise InputError(f"layer {empty[0]!r} of target {target.name!r} has no units; name others")
    if empty:
        _log.warning(
            "target %r: these layers have no units, they are left out: %s", target.name, ", ".join(empty)
        )
    return [plan for plan in plans if plan.units]


def _marks(
    target: Target, outputs: Mapping[str, Outputs], device: str | torch.device, seconds: float
) -> dict[str, Marks]:
    axes = {name: out.batch_axis for name, out in outputs.items()}
    longest = max(1.0, seconds / min(next(iter(outputs.values())).seconds)) if outputs else 1.0
    sizes = {
        name: round(math.prod(out.shapes[0]) * len(out.call_shapes) * longest)
        for name, out in outputs.items()
    }
    return mark(target, axes, sizes, device, seconds)


def _joinable(
    target: Target, chosen: Sequence[str], outputs: Mapping[str, Outputs], marks: Mapping[str, Marks]
) -> list[str]:
    """The layers whose calls in one pass are one, or successive stretches of the clip; the log names the others.

    Raises:
        InputError: A layer puts out outputs of different widths, or no layer is left.
    """
    joined: list[str] = []
    unjoined: list[str] = []
    for name in chosen:
        out = outputs[name]
        several = out.calls == "stretches" and len(out.call_shapes) > 1
        depth = several and name in marks and marks[name].move_over_calls() < CLEARLY
        if len({len(shape) for shape in out.call_shapes}) > 1 or (depth and len(set(out.call_shapes)) > 1):
            raise _of_different_widths(name, out.call_shapes)
        (unjoined if depth else joined).append(name)
    if not unjoined:
        return joined
    count = len(outputs[unjoined[0]].call_shapes)
    why = (
        f"layer {unjoined[0]!r} is called {count} times a pass, and not on successive stretches of the clip, so its "
        "calls cannot be joined along time; give each call its own module, or name other layers"
    )
    if not joined:
        raise InputError(why)
    _log.warning("target %r: %s; left out: %s", target.name, why, ", ".join(unjoined))
    return joined


def _of_different_widths(name: str, shapes: Sequence[Shape]) -> InputError:
    distinct = " and ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
    return InputError(
        f"layer {name!r} is called {len(shapes)} times a pass with outputs of different widths ({distinct}); leave it "
        "out or give each its own module"
    )


def step_seconds_of(target: Target, layer: str) -> StepSeconds | None:
    """When the steps of a layer's time axis are, if the target says so: the first glob that matches decides."""
    glob = deciding_glob(target.step_seconds, layer)
    return None if glob is None else target.step_seconds[glob]


def _trial_runs(
    target: Target, device: str | torch.device, seconds: Sequence[float], look: FirstLook | None
) -> tuple[dict[float, Trial], list[float]]:
    """Shapes of all layers for one clip per length that the network takes, and the lengths that it really heard.

    Lengths of which the network sees inputs that are alike, as where preprocessing pads all clips, share a pass, unless
    passes of their own give others. The shortest that it takes and the last of `seconds` always have one: bursts are
    shown in clips of these.
    """
    runs: dict[float, Trial] = {}
    heard: dict[float, tuple[Any, Trial]] = {}  # with the inputs
    if look is not None:
        heard[look.seconds] = preprocessed(target, noise(target, look.seconds)), look.one
    refusal: InputError | None = None
    for length in sorted({*seconds, *heard}, key=lambda length: (length != seconds[-1], length)):
        try:
            if length not in heard:
                inputs = preprocessed(target, noise(target, length))
                alike = [trial for other, trial in heard.values() if are_alike(inputs, other)]
                between = length != seconds[-1] and min(heard, default=length) < length
                if between and alike and all(_readable(trial) == _readable(alike[0]) for trial in alike):
                    runs[length] = alike[0]
                    continue
                heard[length] = inputs, shapes_of(target, noise(target, length), device)
            runs[length] = heard[length][1]
        except InputError as error:
            refusal = error
    if not runs:
        raise refusal or InputError("no lengths to try")
    return dict(sorted(runs.items())), sorted(heard)


def _readable(trial: Trial) -> dict[str, list[Shape]]:
    return {name: [call for call in calls if isinstance(call, tuple)] for name, calls in trial.items()}


def _read_outputs(
    target: Target,
    runs: Mapping[float, Trial],
    single: float,
    batch: tuple[int, Trial],
    layers: Sequence[str],
) -> dict[str, Outputs]:
    """The layers that put something out for every clip, in the order in which they ran.

    Args:
        target: With the modules.
        runs: Shapes for one clip, per length.
        single: The length of the clips in `batch`.
        batch: How many clips were shown together, and the shapes for them.
        layers: That are to be read.

    Raises:
        InputError: One of `layers` puts out what cannot be read.
    """
    modules = dict(target.module.named_modules())
    outputs: dict[str, Outputs] = {}
    for name in runs[single]:
        trials = [run.get(name, []) for run in (*runs.values(), batch[1])]
        calls = [[shape for shape in trial if isinstance(shape, tuple)] for trial in trials]
        problem = next((error for trial in trials for error in trial if isinstance(error, InputError)), None)
        problem = problem or _misshapen(name, modules[name], calls)
        if problem and name in layers:
            raise problem
        if problem or not all(trials):
            continue
        place = list(runs).index(single)
        axis_and_kind = _batch_of(modules[name], calls[place], calls[-1], batch[0])
        if (
            axis_and_kind is not None
        ):  # else it computes something all clips share, such as a table of positions
            axis, kind = axis_and_kind
            several = any(len(trial) > 1 for trial in calls[:-1])
            outputs[name] = Outputs(
                shapes=tuple(map(_largest, calls[:-1])),
                seconds=tuple(runs),
                batch_axis=axis,
                rows=tuple(sum(shape[axis] for shape in trial) for trial in calls[:-1]),
                calls=kind if kind == "clips" else "stretches" if several else "once",
                call_shapes=tuple(max(calls[:-1], key=lambda trial: len(set(trial)))),
            )
    return outputs


def _batch_of(
    module: nn.Module, one: Sequence[Shape], several: Sequence[Shape], clips: int
) -> tuple[int, Calls] | None:
    """The axis of the clips in a layer's outputs for one clip and for several, and whether calls are clips; or None."""
    first = next(iter(one))
    if list(several) == [*one] * clips:
        # Called for clip after clip. Sequence-first recurrent layers have the one clip on axis 1.
        turned = defined_in(module, ("rnn",)) and not getattr(module, "batch_first", True) and len(first) == 3
        return int(turned), "clips"
    if len(several) != len(one):
        return None
    for axis in range(len(first)):
        if all(b == _multiplied(a, axis, clips) for a, b in zip(one, several, strict=True)):
            return axis, "once"
    return None


def _largest(shapes: Sequence[Shape]) -> Shape:
    return tuple(map(max, zip(*shapes, strict=True))) if len({len(s) for s in shapes}) == 1 else shapes[-1]


def _multiplied(shape: Shape, axis: int, times: int) -> Shape:
    return (*shape[:axis], times * shape[axis], *shape[axis + 1 :])


def _misshapen(name: str, module: nn.Module, calls: Sequence[Sequence[Shape]]) -> InputError | None:
    shapes = [shape for trial in calls for shape in trial]
    if len({len(trial[-1]) for trial in calls if trial}) > 1:
        return InputError(
            f"layer {name!r}: the number of axes of its output depends on the clips; does the network squeeze "
            "away a batch of one? Give squeeze() the axis"
        )
    short = next((shape for shape in shapes if len(shape) < 2), None)
    if short is not None:
        return InputError(
            f"layer {name!r} puts out {list(short)}: it needs an axis of clips and one of units; "
            "leave it out of --layers"
        )
    kernel = getattr(module, "kernel_size", ())
    if (
        isinstance(kernel, tuple)
        and shapes
        and defined_in(module, ("conv",))
        and len(shapes[0]) < len(kernel) + 2
    ):
        return InputError(
            f"layer {name!r} puts out {list(shapes[0])}, without an axis of clips; give it batches of one: unsqueeze(0)"
        )
    return None
