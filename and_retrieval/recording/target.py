"""The network a run was recorded with, loaded again: with its dictionaries, and only if it is still the same."""

from __future__ import annotations

from ..errors import InputError, StaleError
from ..network.dictionary import Attached, attach, load_dictionary
from ..targets import load_target, weights_hash
from ..types import Target
from .recording import Recording


def load_recorded_target(run: Recording, device: str = "cpu", trust_remote_code: bool = False) -> Target:
    """The target of a run, its dictionaries attached as they were when it was recorded.

    Args:
        run: What was recorded.
        device: `cpu`, `cuda`, ... or `auto`.
        trust_remote_code: See `targets.load_target`.

    Raises:
        InputError: The target or a dictionary cannot be loaded any more.
        StaleError: Its weights, or a dictionary's file, are not those the run was recorded with.
    """
    facts = run.facts
    target = load_target(facts["target"], device, trust_remote_code)
    for entry in facts.get("dictionaries", ()):
        known = Attached(**entry)
        if known.path is None:
            raise InputError(
                f"the dictionary of layer {known.layer!r} of {run.name} was made in Python and has no file; "
                f"save it with dictionary.save_dictionary and {run.remedy} --dictionary {known.layer}=FILE"
            )
        dictionary = load_dictionary(known.path)
        if dictionary.source is None or dictionary.source[1] != known.sha256:
            raise StaleError(f"{known.path} was changed since {run.name} was recorded; {run.remedy}")
        place = next(target.module.parameters(), dictionary.encoder).device
        target = attach(
            target, known.layer, dictionary, device=place, axes=(known.unit_axis, known.time_axis)
        )
    if weights_hash(target.module) != facts["weights"]:
        raise StaleError(
            f"target {facts['target']!r} has other weights than when {run.name} was recorded; {run.remedy}"
        )
    return target
