"""Activations of all layers on the clips that are kept: one safetensors file, written and read through a memory map.

A layer has two tensors, float32 [clips, units]: `seen/NUMBER` and `held_out/NUMBER`, NUMBER its place among the
layers. One file holds them all, however many layers there are, so the limit of open files is never reached.
Activations are kept as they are computed: in half precision, a network whose layers put out 10^5 or 10^-9 would lose
its verdicts. What is no finite number is NaN.

Beside them lie the times of the peaks, float16 seconds: `seen_peaks/NUMBER` and `held_out_peaks/NUMBER`, which is exact
to 4 ms in a clip of 10 s. Labels are tested at these times, so they are kept of the clips that labels are tested on:
those held out, and the seen ones as well where so few are held out that tests are cross-fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..clips.moments import Halves
from ..shards.tensors import Shapes, new_tensors, open_tensors
from ..types import Floats, Ints

FILE = "activations.safetensors"
Part = Literal["seen", "held_out"]
SEEN: Part = "seen"
HELD_OUT: Part = "held_out"
PARTS = (SEEN, HELD_OUT)
PEAKS = ("seen_peaks", "held_out_peaks")
LEAST_HELD_OUT = 20
"""Held-out clips below which no test could tell a label from chance; labels are then tested by cross-fitting."""
LATEST = float(np.finfo(np.float16).max)
"""Seconds; a later peak is kept as this."""


class Activations:
    """The activations among the tensors of a file, memory-mapped."""

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        self._tensors = tensors

    def layer(self, number: int, part: Part) -> Floats:
        """Activations of a layer on the `seen` or the `held_out` clips, float32 [clips, units].

        Rows are in the order of the index; those of a clip that could not be read are NaN, and so is every value
        that was no finite number.
        """
        return self._tensors[f"{part}/{number}"]

    def peaks(self, number: int, part: Part) -> Halves:
        """When the units of a layer were strongest in these clips, float16 [clips, units], seconds from their start.

        Rows are as those of `layer`; there are none of `seen` clips where tests are not cross-fitted.
        """
        return self._tensors[f"{part}_peaks/{number}"]

    def keep(self, number: int, part: Part, places: Ints, values: Floats, peaks: Floats) -> None:
        """Write what a layer did on some clips.

        Args:
            number: Place of the layer.
            part: Of the clips.
            places: int32 [n], their rows in that part.
            values, peaks: float32 [n, units].
        """
        self.layer(number, part)[places] = values
        times = self.peaks(number, part)
        if len(times):
            times[places] = np.minimum(peaks, LATEST)

    def shapes(self, number: int) -> tuple[tuple[int, ...] | None, ...]:
        """Shapes of a layer's activations on seen and held-out clips and of their peaks; None if there are none."""
        tensors = (self._tensors.get(f"{name}/{number}") for name in (*PARTS, *PEAKS))
        return tuple(None if tensor is None else tensor.shape for tensor in tensors)


def activation_shapes(units: Sequence[int], seen: int, held_out: int, cross_fitted: bool) -> Shapes:
    """The tensors of so many clips of either part, for `tensors.new_tensors`.

    Args:
        units: Number of units of each layer.
        seen, held_out: Number of clips of either part.
        cross_fitted: Whether the tests of the recording are cross-fitted.
    """
    tensors: tuple[tuple[str, npt.DTypeLike, int], ...] = (
        (SEEN, np.float32, seen),
        (HELD_OUT, np.float32, held_out),
        (PEAKS[0], np.float16, seen if cross_fitted else 0),
        (PEAKS[1], np.float16, held_out),
    )
    return {
        f"{name}/{number}": (kind, (clips, width))
        for number, width in enumerate(units)
        for name, kind, clips in tensors
    }


def new_activations(path: Path, units: Sequence[int], seen: int, held_out: int) -> Activations:
    """A new file with room for all layers, filled with NaN, to be written to.

    Args:
        path: Where; what is there is replaced.
        units: Number of units of each layer.
        seen, held_out: Number of clips of either part.

    Raises:
        InputError: The disk has no room for it.
    """
    shapes = activation_shapes(units, seen, held_out, held_out < LEAST_HELD_OUT)
    return Activations(new_tensors(path, shapes))


def open_activations(path: Path) -> Activations:
    """The activations in a file.

    Raises:
        DamagedError: The file is damaged.
    """
    return Activations(open_tensors(path))
