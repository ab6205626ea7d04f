"""The network that was recorded, loaded again with its dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import InputError, StaleError
from ..network.dictionary import attach, load_dictionary
from ..network.layers import step_seconds_of
from ..network.plan import LayerPlan, SteadySteps
from ..targets import load_target
from ..types import AttachedDictionary, Target
from .manifest import RecordedLayer
from .recording import Recording


def load_recorded_target(
    recording: Recording, device: str = "cpu", trust_remote_code: bool = False
) -> Target:
    """The target of a recording, its dictionaries attached as they were when it was recorded.

    The weights are not compared with those that were recorded; whoever uses the target does that, once.

    Args:
        recording: What was recorded.
        device: `cpu`, `cuda`, ... or `auto`.
        trust_remote_code: See `targets.load_target`.

    Raises:
        InputError: The target or a dictionary cannot be loaded any more.
        StaleError: The file of a dictionary was changed.
    """
    target = load_target(recording.manifest.target, device, trust_remote_code)
    for known in recording.manifest.dictionaries:
        target = _attached(target, known, recording)
    return target


def _attached(target: Target, known: AttachedDictionary, recording: Recording) -> Target:
    if known.path is None:
        raise InputError(
            f"the dictionary of layer {known.layer!r} of {recording.name} was made in Python and has no file; save it "
            f"with dictionary.save_dictionary and {recording.remedy} --dictionary {known.layer}=FILE"
        )
    dictionary = load_dictionary(known.path)
    if dictionary.source is None or dictionary.source[1] != known.sha256:
        raise StaleError(f"{known.path} was changed since {recording.name} was recorded; {recording.remedy}")
    device = next(target.module.parameters(), dictionary.encoder).device
    axes = known.unit_axis, known.time_axis
    return attach(target, known.layer, dictionary, device=device, axes=axes)


def recorded_plans(
    layers: Sequence[RecordedLayer], target: Target, names: Collection[str]
) -> tuple[LayerPlan, ...]:
    """How the output of some layers was read when it was recorded, in the order of `layers`.

    Args:
        layers: Of a recording's manifest.
        target: The network; says when the steps of a time axis are.
        names: Layers that are wanted.
    """
    return tuple(
        LayerPlan(
            name=layer.name,
            units=layer.units,
            unit_axis=layer.unit_axis,
            time_axis=layer.time_axis,
            pooling=layer.pooling,
            batch_axis=layer.batch_axis,
            overlap=layer.overlap,
            shape=layer.output,
            step_seconds=step_seconds_of(target, layer.name)
            or (SteadySteps(layer.step, layer.side) if layer.step is not None else None),
            calls=layer.calls,
        )
        for layer in layers
        if layer.name in names
    )
