"""Ablation: what the units that are pruned put out instead, zero or their mean over the clips that were seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..network.mask import ZERO, Constants
from ..network.plan import LayerPlan
from ..network.probe import probed
from ..recording.recording import Recording
from ..types import Floats, Target
from .concept_clips import KNEE_CLIPS, spread, waveform_batches

MEAN_CLIPS = KNEE_CLIPS
"""Clips, at most, that the means of a layer are measured on where its recorded activations are no means over time."""


def constants_of(ablate: str, recording: Recording, target: Target, plans: Sequence[LayerPlan]) -> Constants:
    """What the units of the planned layers put out when they are pruned.

    The mean of a unit is taken over time and frequency within a clip, and then over the seen clips. Where a layer was
    recorded with another pooling than `mean`, some seen clips are played to the network once more.

    Args:
        ablate: A name of `choices.ABLATIONS`.
        recording: Its evidence and its seen clips are read.
        target: The network, in eval mode.
        plans: From `recording.target.recorded_plans`.

    Returns:
        Nothing for `zero`; for `mean` float32 [units] per layer, 0 for a unit that gave no finite number.

    Raises:
        InputError: No clip can be read.
    """
    if ablate == "zero":
        return ZERO
    known = {layer.name: layer.statistics.mean for layer in recording.layers if layer.pooling == "mean"}
    unknown = [dataclasses.replace(plan, pooling="mean") for plan in plans if plan.name not in known]
    means = {plan.name: known[plan.name] for plan in plans if plan.name in known}
    if unknown:
        means |= _measured_means(recording, target, unknown)
    return {layer: np.nan_to_num(values, nan=0.0) for layer, values in means.items()}


def _measured_means(recording: Recording, target: Target, plans: Sequence[LayerPlan]) -> dict[str, Floats]:
    rows = spread(recording.seen_rows.tolist(), MEAN_CLIPS)
    sums = {plan.name: np.zeros(plan.units) for plan in plans}
    counts = {plan.name: np.zeros(plan.units) for plan in plans}
    for sounds in waveform_batches(recording, target, rows, [], []):
        for layer, (values, _) in probed(target, plans, sounds, target.device).items():
            sums[layer] += np.where(np.isfinite(values), values, 0).sum(axis=0)
            counts[layer] += np.isfinite(values).sum(axis=0)
    return {layer: (sums[layer] / np.maximum(counts[layer], 1)).astype(np.float32) for layer in sums}
