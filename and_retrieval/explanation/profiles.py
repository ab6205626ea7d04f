"""Spectral profiles: which mel bands a unit answers to, the other bands held constant."""

from __future__ import annotations

import numpy as np

from ..clips.bands import BANDS
from ..numerics import Array, by_presence, chunks, standardised
from ..recording.activations import SEEN
from ..recording.recording import Recording
from ..types import Floats

RIDGE = 0.1
"""Added to the diagonal of the bands' correlations.

Planted band-pass units (ESC-10 and 400 rendered clips; noise of the unit's own standard deviation): strongest band
right for 88 to 99 % at 0.1, for 72 to 91 % at 0.003, by plain correlation for 93 to 100 %. But of units that answer to
two bands both are found for 80 %, by plain correlation or with only the overall level held constant for 30 to 50 %; of
units that answer to one band less another for 98 %, against 60 to 94 %.
"""

LEAST_CLIPS = 2 * BANDS  # with fewer, holding the other bands constant leaves mostly noise
CHUNK_BYTES = 32 * 2**20  # of one working array over units


def spectral_profiles(activations: Array, bands: Array) -> Floats:
    """Partial correlation of every unit with the level of every band, the other bands held constant.

    With C the bands' correlations plus `RIDGE` on the diagonal, c their correlations with the unit and w = C⁻¹ c, it is
    w_j / sqrt(w_j² + (C⁻¹)_jj (1 - c·w)): the entry of the inverse of the joint correlation matrix over the square
    root of the two diagonal ones (Whittaker 1990, section 5.8), of a ridge regression. A band that does not vary has 0.

    Args:
        activations: Float [clips, units]; a unit counts over the clips on which it is finite.
        bands: Float [clips, bands], see `clips.bands`. Clips that are NaN here are left out.

    Returns:
        float32 [units, bands], -1..1; rows of NaN for units that do not vary or have fewer than `LEAST_CLIPS` clips.

    Raises:
        ValueError: Not as many rows in both.
    """
    if len(activations) != len(bands):
        raise ValueError(f"activations of {len(activations)} clips, bands of {len(bands)}")
    measured = np.isfinite(bands).all(axis=1)
    profiles = np.full((activations.shape[1], bands.shape[1]), np.nan, np.float32)
    for shown, units in by_presence(activations):
        read = measured & shown
        clips = int(read.sum())
        if clips < LEAST_CLIPS:
            continue
        x = standardised(bands[read])
        inverse = np.linalg.inv(x.T @ x / clips + RIDGE * np.eye(x.shape[1]))
        for part in (units[span] for span in chunks(len(units), clips, CHUNK_BYTES)):
            c = standardised(activations[np.ix_(read, part)], constant=np.nan).T @ x / clips
            w = c @ inverse
            unexplained = np.maximum(1 - (c * w).sum(axis=1, keepdims=True), 0)
            size = np.sqrt(w**2 + np.diag(inverse) * unexplained)
            profiles[part] = w / np.maximum(size, np.finfo(np.float64).tiny)
    return profiles


def measured_profiles(recording: Recording, layer: str) -> list[tuple[float, ...]]:
    """The profiles of the units of a layer on its seen clips to three decimals, see `spectral_profiles`.

    Empty where there is none.
    """
    profiles = spectral_profiles(recording.activations(layer, SEEN), recording.bands[recording.seen_rows])
    measured = np.isfinite(profiles[:, 0])
    rows = profiles.astype(np.float64).round(3).tolist()
    return [tuple(row) if there else () for row, there in zip(rows, measured.tolist(), strict=True)]
