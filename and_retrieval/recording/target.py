"""Loads the network of a recording again, with its dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import InputError, StaleError
from ..network.dictionary import attach, load_dictionary
from ..network.layers import step_seconds_of
from ..network.plan import LayerPlan, SteadySteps
from ..targets import load_target
from ..types import AttachedDictionary, Target
from .manifest import RecordedLayer, RecordingManifest
from .recording import Recording


def load_recorded_target(
    recording: Recording, device: str = "cpu", trust_remote_code: bool = False
) -> Target:
    """Load the target of a recording, with its dictionaries attached as they were then.

    The weights are not checked against the recording; the caller has to do that.

    Args:
        recording: The recording.
        device: `cpu`, `cuda`, ... or `auto`.
        trust_remote_code: See `targets.load_target`.

    Raises:
        InputError: The target or a dictionary cannot be loaded any more.
        StaleError: The file of a dictionary has changed.
    """
    return load_target_of(recording.manifest, recording.name, recording.remedy, device, trust_remote_code)


def load_target_of(
    manifest: RecordingManifest, name: str, remedy: str, device: str = "cpu", trust_remote_code: bool = False
) -> Target:
    """As `load_recorded_target`, from the manifest alone.

    Args:
        manifest: Of the recording.
        name, remedy: How messages call the recording, and the command they give.
        device, trust_remote_code: As there.
    """
    target = load_target(manifest.target, device, trust_remote_code)
    for attached in manifest.dictionaries:
        target = _attached(target, attached, name, remedy)
    return target


def _attached(target: Target, attached: AttachedDictionary, name: str, remedy: str) -> Target:
    layer = attached.layer
    if attached.path is None:
        raise InputError(
            f"the dictionary of layer {layer!r} of {name} was made in Python and has no file; save it "
            f"with dictionary.save_dictionary and {remedy} --dictionary {layer}=FILE"
        )
    dictionary = load_dictionary(attached.path)
    if dictionary.source is None or dictionary.source[1] != attached.sha256:
        raise StaleError(f"{attached.path} has changed since {name} was recorded; {remedy}")
    device = next(target.module.parameters(), dictionary.encoder).device
    axes = attached.unit_axis, attached.time_axis
    return attach(target, layer, dictionary, device=device, axes=axes)


def recorded_plans(
    layers: Sequence[RecordedLayer], target: Target, names: Collection[str]
) -> tuple[LayerPlan, ...]:
    """Plans that read layers as they were read when they were recorded, in the order of `layers`.

    Args:
        layers: All layers of a recording's manifest.
        target: The network; it knows the times of the steps of a time axis.
        names: Names of the layers to plan.
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
