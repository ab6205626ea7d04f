"""Measured acoustics of a layer: which qualities its units follow, and whether their strongest clips bear that out.

A rank correlation counts all clips alike. Where a unit answers to few, as the output of a pitch network for one
semitone does, it is decided by the order of the many responses that are nearly nothing: of such units 23 of 60 were
said to prefer unpitched sounds, and what they answer to is pitched. So a preference that the strongest clips contradict
is not said.
"""

from __future__ import annotations

import numpy as np

from ..numerics import Array, Bools, Doubles, Places, by_presence, chunks
from ..recording.activations import SEEN
from ..recording.recording import Recording
from ..types import Preference
from .acoustics import accounted_for, filled_ranks, finite_median, preferences, preferred
from .manifest import LayerAcoustics

MOST, SHARE = 20, 0.1  # clips that are looked at, and of all clips where there are few
CHUNK_BYTES = 32 * 2**20


def measured_acoustics(
    recording: Recording, layer: str
) -> tuple[list[tuple[Preference, ...]], LayerAcoustics | None]:
    """What measured sound has to do with the units of a layer, over its seen clips.

    Returns:
        Per unit which qualities go with its activation, see `acoustics.preferred`, those left out that its strongest
        clips contradict; and how much of the layer the qualities account for, None where there are too few clips to
        tell.
    """
    activations, qualities = recording.activations(layer, SEEN), recording.qualities[recording.seen_rows]
    files = [recording.index.clips[row].sha256 for row in recording.seen_rows]
    ranked = preferences(activations, qualities, files)
    rho = borne_out(ranked.rho, activations, qualities)
    units = [preferred(*of_unit) for of_unit in zip(rho, ranked.q_value, strict=True)]
    share = accounted_for(recording, activations, qualities)
    if share is None:
        return units, None
    return units, LayerAcoustics(finite_median(share.r2), finite_median(share.shuffled))


def borne_out(rho: Array, activations: Array, qualities: Array) -> Array:
    """Rank correlations with qualities, 0 where the strongest clips contradict them, as `rho`.

    Args:
        rho: float [units, qualities].
        activations, qualities: Of the clips, see `strongest_qualities`.
    """
    return np.where(rho * strongest_qualities(activations, qualities) < 0, 0, rho)


def strongest_clips(values: Array) -> tuple[Places, Bools]:
    """The first `MOST` (or a tenth) of the clips of every unit, and whether it is above its median there.

    Args:
        values: float [units, clips], finite.

    Returns:
        int and bool [units, clips of each].
    """
    k = min(MOST, int(np.ceil(SHARE * values.shape[1])))
    best = np.argpartition(-values, k - 1, axis=1)[:, :k]
    return best, np.take_along_axis(values, best, axis=1) > np.median(values, axis=1, keepdims=True)


def strongest_qualities(activations: Array, qualities: Array) -> Doubles:
    """Mean rank of every quality over the strongest clips of every unit, float64 [units, qualities].

    In standard deviations of the quality's ranks: 0 is middling, above 0 more than most clips have, below 0 less. A
    clip that lacks the quality is middling. Only those of the `strongest_clips` above the median count; 0 for a unit
    without any.

    Args:
        activations: float [clips, units]; a unit counts over the clips on which it is finite.
        qualities: float [clips, qualities].
    """
    means = np.zeros((activations.shape[1], qualities.shape[1]))
    for clips, units in by_presence(activations):
        ranks = filled_ranks(qualities[clips])
        for part in (
            units[span] for span in chunks(len(units), len(ranks) + MOST * ranks.shape[1], CHUNK_BYTES)
        ):
            best, above = strongest_clips(activations[clips][:, part].T)
            total = np.einsum("uk,ukq->uq", above, ranks[best])
            means[part] = total / np.maximum(above.sum(axis=1, keepdims=True), 1)
    return means
