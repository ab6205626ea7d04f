"""Bells: what the middle of a quality to which units are tuned says of clips.

A unit tuned to a middle is said to answer as a bell curve over the quality does: 1 at its best value, a half at both
ends of its range, and 0 on clips that lack the quality, for what has no pitch has none of 300 Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..numerics import Array, Doubles, Places, by_presence, chunks, standardised
from ..types import Tuning
from .agreement import exponential_scores
from .axes import AXES
from .curves import HALF_HEIGHT

CHUNK_BYTES = 32 * 2**20  # of one working array


@dataclass(frozen=True)
class Bells:
    """One bell curve for each of some units.

    Attributes:
        axis: int [units], place of the quality among `AXES`; -1 for a unit without a bell.
        centre, half: float64 [units], best value and half the range, on the scale of `Axis.scaled`.
    """

    axis: Places
    centre: Doubles
    half: Doubles

    @classmethod
    def of(cls, tunings: Sequence[Tuning | None]) -> Bells:
        """Those of tunings whose shape is `peak`; a unit without one has no bell."""
        bells = cls.none(len(tunings))
        for place, tuning in enumerate(tunings):
            if tuning is not None and tuning.shape == "peak":
                bells.axis[place] = list(AXES).index(tuning.quality)
                values = np.array([tuning.best, tuning.low, tuning.high])
                best, low, high = AXES[tuning.quality].scaled(values).tolist()
                # Ranges end where the clips do, so that the longer side is the bell's own.
                bells.centre[place], bells.half[place] = best, max(high - best, best - low)
        return bells

    @classmethod
    def none(cls, units: int) -> Bells:
        """Units without a bell."""
        return cls(np.full(units, -1, np.intp), np.zeros(units), np.ones(units))

    def at(self, units: Places | slice) -> Bells:
        """Those of some units."""
        return Bells(self.axis[units], self.centre[units], self.half[units])

    def responses(self, qualities: Array) -> Doubles:
        """What they say of clips, float64 [units, clips], 0..1; 0 throughout for a unit without a bell.

        Args:
            qualities: float [clips, qualities] in the order of `QUALITIES`.
        """
        curves = np.zeros((len(self.axis), len(qualities)))
        for number, axis in enumerate(AXES.values()):
            units = np.flatnonzero(self.axis == number)
            away = axis.scaled(qualities[:, axis.column]) - self.centre[units, None]
            widths = away * HALF_HEIGHT / self.half[units, None]
            curves[units] = np.nan_to_num(np.exp(-(widths**2) / 2))
        return curves

    def correlations(self, activations: Array, qualities: Array) -> Doubles:
        """Pearson's correlation of what they say with the exponential scores of the activations, float64 [units].

        0 for a unit without a bell; a unit counts over the clips on which it is finite.

        Args:
            activations: float [clips, units].
            qualities: float [clips, qualities].
        """
        result = np.zeros(len(self.axis))
        for clips, units in by_presence(activations):
            units = units[self.axis[units] >= 0]
            for part in (units[span] for span in chunks(len(units), int(clips.sum()), CHUNK_BYTES)):
                values = np.ascontiguousarray(activations[clips][:, part].T, dtype=np.float64)
                scores = standardised(exponential_scores(values).T)
                curves = standardised(self.at(part).responses(qualities[clips]).T)
                result[part] = (scores * curves).mean(axis=0)
        return result
