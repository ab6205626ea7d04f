"""Loads the network of a recording again, with its dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..checkpoints.named_code import check_noted
from ..errors import InputError, StaleError
from ..network.dictionary import attach, load_dictionary
from ..network.layers import step_seconds_of
from ..network.plan import LayerPlan, SteadySteps
from ..targets import is_archive, is_code, load_target
from ..types import AttachedDictionary, Target
from .manifest import RecordedLayer
from .recording import Recording


def load_recorded_target(
    recording: Recording, device: str = "cpu", trust_remote_code: bool = False, named: str | None = None
) -> Target:
    """Load the target of a recording, with its dictionaries attached as they were then.

    The weights are not checked against the recording; the caller has to do that.

    Args:
        recording: The recording.
        device: `cpu`, `cuda`, ... or `auto`.
        trust_remote_code: See `targets.load_target`.
        named: The network, named again by the user, see `targets.load_target`; by default the one that the manifest
            names, if that holds no program code or only code that was named on this machine before.

    Raises:
        InputError: The target or a dictionary cannot be loaded any more, or the manifest names code that the user has
            not named here.
        StaleError: The file of a dictionary has changed.
    """
    spec = named or recording.manifest.target
    if named is None and is_code(spec) and not trust_remote_code:
        check_noted(spec, f"run {recording.name!r}", f"name it: prune {recording.name} --target {spec}")
    target = load_target(spec, device, trust_remote_code or (named is None and is_archive(spec)))
    return with_dictionaries(target, recording.manifest.dictionaries, recording.name, recording.remedy)


def with_dictionaries(
    target: Target, dictionaries: Sequence[AttachedDictionary], name: str, remedy: str
) -> Target:
    """A target with the dictionaries of a recording attached, as they were then.

    Args:
        target: The network, without them.
        dictionaries: Of the recording's manifest.
        name, remedy: How messages call the recording, and the command they give.

    Raises:
        InputError: A dictionary has no file.
        StaleError: The file of a dictionary has changed.
    """
    for attached in dictionaries:
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
    axes = attached.unit_axis, attached.time_axis
    return attach(target, layer, dictionary, axes=axes)


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
