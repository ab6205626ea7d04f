"""Activations of all layers on all clips: one safetensors file, written and read through a memory map.

A layer has two tensors, float32 [clips, units]: `seen/NUMBER` and `held_out/NUMBER`, NUMBER its place among the
layers. One file holds them all, however many layers there are, so the limit of open files is never reached.
Activations are kept as they are computed: in half precision, a network whose layers put out 10^5 or 10^-9 would lose
its verdicts. What is no finite number is NaN.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DamagedError, InputError
from ..types import Floats

FILE = "activations.safetensors"
Part = Literal["seen", "held_out"]
SEEN: Part = "seen"
HELD_OUT: Part = "held_out"

ALIGNMENT = 8  # bytes; the tensors begin at a multiple of it, as safetensors asks
_WIDTH = np.dtype(np.float32).itemsize


class Activations:
    """The tensors of a file of activations, memory-mapped.

    The map is closed when the last array taken from it is gone.
    """

    def __init__(self, tensors: Mapping[str, Floats]) -> None:
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


def new_activations(path: Path, units: Sequence[int], seen: int, held_out: int) -> Activations:
    """A new file with room for all layers, filled with NaN, to be written to.

    Args:
        path: Where; what is there is replaced.
        units: Number of units of each layer.
        seen, held_out: Number of clips of either part.

    Raises:
        InputError: The disk has no room for it. The room is reserved first, so that a full disk is noticed here
            and not while the map is written to.
    """
    header: dict[str, dict[str, object]] = {}
    end = 0
    for number, count in enumerate(units):
        for part, clips in ((SEEN, seen), (HELD_OUT, held_out)):
            begin, end = end, end + clips * count * _WIDTH
            header[f"{part}/{number}"] = {
                "dtype": "F32",
                "shape": [clips, count],
                "data_offsets": [begin, end],
            }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    begin = 8 + len(text)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.flush()
        try:
            os.posix_fallocate(stream.fileno(), 0, begin + end)
        except OSError as error:
            raise InputError(
                f"{path.parent} has no room for {end / 1e9:.1f} GB of activations ({error.strerror}); "
                "free some space or record fewer layers"
            ) from None
    activations = open_activations(path, "r+")
    for tensor in activations._tensors.values():
        tensor[:] = np.nan
    return activations


def open_activations(path: Path, mode: Literal["r", "r+"] = "r") -> Activations:
    """The activations in a file.

    Raises:
        DamagedError: The file is damaged.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        size = path.stat().st_size - 8 - length
        raw = np.memmap(path, np.uint8, mode, 8 + length, (size,)) if size else np.zeros(0, np.uint8)
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            tensors[name] = raw[begin:end].view(np.float32).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError):
        raise DamagedError(f"{path} is damaged; make the recording again") from None
    return Activations(tensors)
