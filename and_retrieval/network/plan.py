"""The plan of a layer: how what it puts out is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..types import Pooling, StepSeconds

Shape = tuple[int, ...]
Calls = Literal["once", "stretches", "clips"]
"""What the calls of a layer in one forward pass stand for: it has one; successive stretches of time; clips."""


@dataclass(frozen=True, slots=True)
class SteadySteps:
    """Steps at a fixed distance, whatever the clip's length: of networks that pad or crop clips inside.

    Attributes:
        step: Seconds from one step to the next.
        side: Where the clip lies in what the network sees: 0 at its beginning, 0.5 in the middle, 1 at its end.
    """

    step: float
    side: float = 0.0

    def __call__(self, duration: float, steps: int) -> npt.NDArray[np.float64]:
        """Centres of the steps in seconds, float64 [steps]; NaN outside of the clip, except for the nearest step."""
        start = self.side * (duration - self.step * steps)
        centres = start + (np.arange(steps) + 0.5) * self.step
        inside = (centres >= 0) & (centres < duration)
        if not inside.any():
            inside[np.abs(centres - duration / 2).argmin()] = True
        return np.where(inside, centres.clip(0, duration), np.nan)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How one layer's output is read; axes count as in the output, from 0.

    Attributes:
        name: Dotted name of the module.
        units: Number of units.
        unit_axis: Axis of the units.
        time_axis: Axis of the time steps (or tokens) within a segment, or None.
        pooling: How time becomes one number.
        batch_axis: Axis of the clips; 1 in sequence-first networks, otherwise 0.
        overlap: Share of a segment that the next one repeats, 0..1; 0 without segments.
        shape: What the layer put out for one short clip.
        step_seconds: When the time axis' steps are, see `Target.step_seconds`, or None: they divide the clip.
        calls: What the calls of the layer in one forward pass stand for.
    """

    name: str
    units: int
    unit_axis: int
    time_axis: int | None
    pooling: Pooling
    batch_axis: int = 0
    overlap: float = 0.0
    shape: Shape = ()
    step_seconds: StepSeconds | None = None
    calls: Calls = "once"
