"""Axes: the measured qualities that units can be tuned to, and the scales on which they are."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..clips.qualities import QUALITIES
from ..numerics import Array, Doubles


class Axis(NamedTuple):
    """A quality that units can be tuned to.

    Attributes:
        measured: Its name among `QUALITIES`.
        words: What it is called in a sentence.
        unit: Of its values.
        logarithmic: Whether equal steps are equal ratios, as for frequencies.
    """

    measured: str
    words: str
    unit: str
    logarithmic: bool

    @property
    def column(self) -> int:
        """Its place among `QUALITIES`."""
        return list(QUALITIES).index(self.measured)

    def scaled(self, values: Array) -> Doubles:
        """Values of the quality on a scale of equal steps, float64; NaN where there is none."""
        values = values.astype(np.float64)
        if not self.logarithmic:
            return np.where(np.isfinite(values), values, np.nan)
        there = np.isfinite(values) & (values > 0)
        return np.where(there, np.log2(np.where(there, values, 1)), np.nan)


AXES = MappingProxyType(
    {
        "pitch": Axis("pitch", "pitch", "Hz", True),
        "brightness": Axis("brightness", "brightness", "Hz", True),
        "level": Axis("loudness", "level", "dB", False),
        "modulation_rate": Axis("modulation_rate", "modulation rate", "Hz", True),
    }
)
"""Name of a tuning -> its quality."""
