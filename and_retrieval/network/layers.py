"""Layers: names that globs match, and how each layer's output is read, found by showing the network noise.

Every output has a batch axis, a unit axis and, where there is one, a time axis; whatever is left
(frequency, mostly) is averaged. The batch may be multiplied: a network that cuts a clip into m segments
shows its layers [n * m, ...] for n clips, all segments of the first clip first. The segments then are the
slow part of time, in front of the layer's own time steps.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ..choices import POOLINGS, known_name
from ..errors import InputError
from ..targets import layer_names
from ..types import Pooling, StepSeconds, Target
from .axes import Outputs, Shape, defined_in, noise, overlap_of, time_axes_of, unit_axes_of
from .hooks import forward, tensor_of, trace
from .names import matches

TRIAL_SECONDS = (1.0, 2.0, 3.0)
"""Lengths of the noise that finds out which axis of an output runs over time."""
Trial = dict[str, Shape | InputError]
"""Shape of every layer's output in one forward pass, in the order in which they ran."""

NO_ALIASES: Mapping[str, str] = MappingProxyType({})

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
        shape: What the layer put out for one short clip.
        step_seconds: When the time axis' steps are, see `Target.step_seconds`, or None: they divide the clip.
    """

    name: str
    units: int
    unit_axis: int
    time_axis: int | None
    pooling: Pooling
    batch_axis: int = 0
    overlap: float = 0.0
    shape: Shape = ()
    step_seconds: StepSeconds | None = None


def match_layers(
    module: nn.Module, globs: Sequence[str], aliases: Mapping[str, str] = NO_ALIASES
) -> tuple[str, ...]:
    """Names of the layers that any of `globs` matches, or whose alias they match, in module order.

    A `*` also matches dots. Without globs: all convolutions and linear layers, or, in a network that has
    none, all modules without children.

    Raises:
        InputError: A glob matches nothing.
    """
    names = layer_names(module)
    if not globs:
        return _default_layers(module)
    for glob in globs:
        if not any(matches(name, glob, aliases) for name in names):
            raise _no_such_layer(glob, (*names, *aliases))
    return tuple(name for name in names if any(matches(name, glob, aliases) for glob in globs))


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
    return isinstance(module, nn.Linear) or defined_in(module, ("conv",))


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
        known_name("pooling", pooling, POOLINGS)
        if not any(matches(layer, glob, target.aliases) for layer in layers):
            raise _no_such_layer(glob, layers)
    rules = [*overrides, *target.pooling.items()]
    return {
        layer: next((p for glob, p in rules if matches(layer, glob, target.aliases)), "mean")
        for layer in layers
    }


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
    unit_axes = unit_axes_of(target, outputs)
    time_axes = time_axes_of(target, outputs, unit_axes, pooling, device, single)
    plans = []
    for name in chosen:
        out, unit = outputs[name], unit_axes[name]
        if out.grows(unit):
            raise InputError(
                f"layer {name!r} has no fixed number of units: its output {list(out.shapes[0])} "
                f"becomes {list(out.shapes[-1])} in longer sounds; leave it out of --layers"
            )
        plans.append(
            LayerPlan(
                name,
                units=out.shapes[0][unit],
                unit_axis=unit,
                time_axis=time_axes[name],
                pooling=pooling[name],
                batch_axis=out.batch_axis,
                overlap=overlap_of(out),
                shape=out.shapes[0],
                step_seconds=step_seconds_of(target, name),
            )
        )
    return tuple(plans)


def step_seconds_of(target: Target, layer: str) -> StepSeconds | None:
    """When the steps of a layer's time axis are, if the target says so: the first glob that matches decides."""
    return next((steps for glob, steps in target.step_seconds.items() if fnmatchcase(layer, glob)), None)


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
            forward(target, noise(target, length, n), device)
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
) -> dict[str, Outputs]:
    """The layers that put something out for every clip, in the order in which they ran.

    Raises:
        InputError: One of `layers` puts out what cannot be read.
    """
    outputs: dict[str, Outputs] = {}
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
            outputs[name] = Outputs(tuple(shapes), tuple(runs), doubled[0])
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
