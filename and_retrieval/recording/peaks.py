"""Where the evidence of units lies: at the moments in which they were strongest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..clips.moments import ClipMoments
from ..faiss_index import Rows
from ..types import Floats, LayerEvidence

MIDDLE = 1e-3
"""Seconds from the middle of its clip from which a peak counts as a time: a layer without time has all peaks there."""
OF_THE_PEAK = ("mean", "max")
"""Poolings whose value comes from the steps at which the unit is strong."""


def peak_moments(layer: LayerEvidence, moments: ClipMoments | None) -> Rows | None:
    """The moment of each top clip at which the unit was strongest, int64 [units, k]; -1 where there is no clip.

    None where the evidence is whole clips: the index holds no moments, the layer has no time axis, or what counts of
    its time is its first or last step.
    """
    if moments is None or layer.pooling not in OF_THE_PEAK:
        return None
    rows, peaks = layer.top.rows, layer.top.peaks
    timed = (rows >= 0) & np.isfinite(peaks)
    if not (np.abs(peaks - moments.durations[rows] / 2) > MIDDLE)[timed].any():
        return None
    return moments.at(rows, peaks)


@dataclass(frozen=True)
class EvidenceVectors:
    """The vectors of a layer's evidence: of whole clips, or of moments.

    Attributes:
        rows: int [units, k], the row of each top clip's vector; -1 where there is no clip.
        take: Vectors of some rows, float32 [rows, dim].
        mean: What all clips of the index share, float32 [dim]: the mean vector of clips, or of their moments.
    """

    rows: Rows
    take: Callable[[Rows], Floats]
    mean: Floats


def evidence_vectors(
    layer: LayerEvidence, clip_vectors: Floats, moments: ClipMoments | None = None
) -> EvidenceVectors:
    """The vectors of a layer's evidence.

    Args:
        layer: Its top clips.
        clip_vectors: float32 [clips, dim], all clips of the index.
        moments: Their moments, where the index holds any.
    """
    rows = peak_moments(layer, moments)
    if moments is None or rows is None:
        return EvidenceVectors(
            layer.top.rows.astype(np.int64), clip_vectors.__getitem__, clip_vectors.mean(axis=0)
        )
    return EvidenceVectors(rows, moments.take, moments.total / np.float32(len(moments.durations)))
