"""Safetensors files that are written and read through a memory map, so that none has to fit into memory."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import DamagedError, InputError
from ..store import RECORDING

Tensors = dict[str, npt.NDArray[Any]]
Shapes = Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]]

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
ALIGNMENT = 8  # bytes; the tensors begin at a multiple of it, as safetensors asks
NAMES = {
    "F16": np.float16, "F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64, "BOOL": np.bool_
}  # fmt: skip


def new_tensors(path: Path, shapes: Shapes) -> Tensors:
    """A new file with room for all tensors, memory-mapped to be written to; numbers are NaN, the rest is zero.

    The map is closed when the last array taken from it is gone.

    Args:
        path: Where; what is there is replaced.
        shapes: Name -> type and shape.

    Raises:
        InputError: The disk has no room for it. The room is reserved first, so that a full disk is noticed here
            and not while the map is written to.
    """
    names = {str(np.dtype(kind)): name for name, kind in NAMES.items()}
    header: dict[str, dict[str, object]] = {}
    end = 0
    widest_first = sorted(
        shapes.items(), key=lambda entry: -np.dtype(entry[1][0]).itemsize
    )  # all are aligned
    for tensor, (kind, shape) in widest_first:
        begin, end = end, end + int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        header[tensor] = {
            "dtype": names[str(np.dtype(kind))],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.flush()
        _reserve(stream.fileno(), 8 + len(text) + end, path.parent, "record fewer layers")
    tensors = open_tensors(path, "r+")
    for array in tensors.values():
        array[:] = np.nan if array.dtype.kind == "f" else 0
    return tensors


def scratch_array(shape: tuple[int, ...], folder: Path | None) -> npt.NDArray[np.float32]:
    """Room for float32 numbers that may not fit into memory: a memory-mapped file without a name, to be written to.

    Nothing has to remove it: it is gone with the last array taken from it, or with the process, however that ends.

    Args:
        shape: Of the array.
        folder: On whose disk it is; None for memory. Where it may only be read, the file is where the system keeps
            temporary ones.

    Raises:
        InputError: The disk has no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * 4
    if folder is None or not size:
        return np.empty(shape, np.float32)
    folder = folder if _is_writable(folder) else Path(tempfile.gettempdir())
    with tempfile.TemporaryFile(dir=folder) as stream:
        _reserve(stream.fileno(), size, folder, "name fewer concepts")
        return np.memmap(stream, np.float32, "r+", shape=shape)


def _is_writable(folder: Path) -> bool:
    """Whether files may be made in a folder; a user's permissions alone do not say that of a disk, nor of `root`."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        if error.errno in READ_ONLY:
            return False
        raise
    return True


def _reserve(file: int, size: int, folder: Path, remedy: str) -> None:
    """Reserve bytes for an open file of a folder.

    Raises:
        InputError: The disk has no room for it.
    """
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        raise InputError(
            f"{folder} has no room for {size / 1e9:.1f} GB ({error.strerror}); free some space, or {remedy}"
        ) from None


def open_tensors(path: Path, mode: Literal["r", "r+"] = "r", kind: str = RECORDING) -> Tensors:
    """The tensors of a file, memory-mapped; `kind` is what the file belongs to, for the message.

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
            tensors[name] = raw[begin:end].view(NAMES[entry["dtype"]]).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError):
        raise DamagedError(f"{path} is damaged; make the {kind} again") from None
    return tensors
