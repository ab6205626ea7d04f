"""Whether a file holds an index as `faiss_index` or `neighbours.lists` writes them, before FAISS reads it.

FAISS believes the sizes that a file states: it may ask for more memory than there is, or follow row numbers out of its
arrays, which ends the process. So the file is walked first, piece by piece as FAISS writes it (`index_write.cpp`):
every size has to fit the file, and all pieces have to agree on dimensions and rows.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

FLAT, TRANSFORMED, LINEAR, INVERTED, LISTS = b"IxFI", b"IxPT", b"LTra", b"IwSq", b"ilar"
VECTORS, INVERTED_LISTS = FLAT, TRANSFORMED
"""The kinds of files: vectors as they are, and lists of reduced ones."""
INNER_PRODUCT = 0
EIGHT_BITS = 0
DENSE, SPARSE = b"full", b"sprs"  # how the lengths of the lists are written

Header = tuple[int, int]
"""Dimensions and rows."""


class NotAnIndexError(ValueError):
    """The file is no index of its kind."""


def check(path: Path, kind: bytes = VECTORS) -> None:
    """Raise NotAnIndexError unless the file is complete, of that kind, and agrees with itself."""
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    walk = _Walk(content)
    walk.index(kind)
    _agree(walk.left() == 0)


class _Walk:
    """Reads a file from its beginning to its end."""

    def __init__(self, content: npt.NDArray[np.uint8]) -> None:
        self._content, self._at = content, 0

    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._content) - self._at

    def index(self, kind: bytes) -> Header:
        """An index of that kind, with all that it holds."""
        _agree(self._bytes(4).tobytes() == kind)
        dim, rows, _, _, trained, metric = self._numbers("<iqqqBi")
        _agree(dim > 0 and rows >= 0 and trained == 1 and metric == INNER_PRODUCT)
        if kind == FLAT:
            _agree(self._array(4).size == dim * rows * 4)
        elif kind == TRANSFORMED:
            _agree(self._numbers("<i") == (1,))
            into = self._linear(dim)
            _agree(self.index(INVERTED) == (into, rows))
        else:
            self._inverted(dim, rows)
        return dim, rows

    def _linear(self, dim: int) -> int:
        """A matrix that takes vectors of `dim` numbers; returns how many it makes of them."""
        _agree(self._bytes(4).tobytes() == LINEAR)
        self._numbers("<B")
        matrix, bias = self._array(4), self._array(4)
        takes, makes, trained = self._numbers("<iiB")
        _agree(takes == dim and matrix.size == takes * makes * 4 and bias.size == 0 and trained == 1)
        return makes

    def _inverted(self, dim: int, rows: int) -> None:
        lists, _ = self._numbers("<QQ")
        _agree(self.index(FLAT) == (dim, lists))
        _agree(self._numbers("<B") == (0,))  # no direct map
        _agree(self._array(8).size == 0)
        bits, _, _, coded, size = self._numbers("<iifQQ")
        _agree(
            bits == EIGHT_BITS and self._array(4).size == 2 * dim * 4
        )  # least value and width of each dimension
        _agree(coded == size == dim and self._numbers("<QB") == (size, 0))
        _agree(self._bytes(4).tobytes() == LISTS and self._numbers("<QQ") == (lists, size))
        lengths = self._lengths(lists)
        _agree(sum(lengths) == rows)
        listed = np.zeros(rows, bool)
        for length in lengths:
            self._bytes(length * size)
            numbers = self._bytes(length * 8).view(np.int64)
            _agree(bool(((numbers >= 0) & (numbers < rows)).all()))
            listed[numbers] = True
        _agree(bool(listed.all()))

    def _lengths(self, lists: int) -> list[int]:
        kind = self._bytes(4).tobytes()
        _agree(kind in (DENSE, SPARSE))
        stated = self._array(8).view(np.uint64)
        if kind == DENSE:
            _agree(len(stated) == lists)
            return [int(length) for length in stated]
        places, lengths = stated[::2], stated[1::2]
        _agree(len(places) == len(lengths) and len(places) <= lists and bool((places < lists).all()))
        _agree(bool((np.diff(places.astype(np.int64)) > 0).all()))
        return [int(length) for length in lengths]

    def _numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._bytes(struct.calcsize(form)).tobytes())

    def _array(self, width: int) -> npt.NDArray[np.uint8]:
        """The bytes of an array, whose length comes first."""
        (length,) = self._numbers("<Q")
        return self._bytes(length * width)

    def _bytes(self, count: int) -> npt.NDArray[np.uint8]:
        _agree(count <= self.left())
        piece = self._content[self._at : self._at + count]
        self._at += count
        return np.ascontiguousarray(piece)


def _agree(holds: bool) -> None:
    if not holds:
        raise NotAnIndexError
