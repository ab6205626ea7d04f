"""Activations of all layers on the clips that are kept: one safetensors file, written and read through a memory map.

A layer has two tensors, float32 [clips, units]: `seen/NUMBER` and `held_out/NUMBER`, NUMBER its place among the
layers. One file holds them all, however many layers there are, so the limit of open files is never reached.
Activations are kept as they are computed: in half precision, a network whose layers put out 10^5 or 10^-9 would lose
its verdicts. What is no finite number is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..shards.tensors import Shapes, new_tensors, open_tensors
from ..types import Floats

FILE = "activations.safetensors"
Part = Literal["seen", "held_out"]
SEEN: Part = "seen"
HELD_OUT: Part = "held_out"


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

    def shapes(self, number: int) -> tuple[tuple[int, ...] | None, ...]:
        """Shapes of a layer's tensors, of the `seen` and of the `held_out` clips; None if there is none."""
        tensors = (self._tensors.get(f"{part}/{number}") for part in (SEEN, HELD_OUT))
        return tuple(None if tensor is None else tensor.shape for tensor in tensors)


def activation_shapes(units: Sequence[int], seen: int, held_out: int) -> Shapes:
    """The tensors of so many clips of either part, for `tensors.new_tensors`, by the number of units of each layer."""
    return {
        f"{part}/{number}": (np.float32, (clips, count))
        for number, count in enumerate(units)
        for part, clips in ((SEEN, seen), (HELD_OUT, held_out))
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
    return Activations(new_tensors(path, activation_shapes(units, seen, held_out)))


def open_activations(path: Path) -> Activations:
    """The activations in a file.

    Raises:
        DamagedError: The file is damaged.
    """
    return Activations(open_tensors(path))
