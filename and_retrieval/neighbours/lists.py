"""FAISS on disk: vectors reduced, stored with 8 bits a dimension, and divided into lists around k-means centres (IVF).

The lists nearest to a query are read, through a memory map. The file is what FAISS writes of such an index; it is
trained once and then filled piece by piece, in place, so neither the vectors nor the lists have to fit into memory. It
is made by one thread, so that the same vectors give the same bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..errors import DamagedError
from ..faiss_file import DENSE, INVERTED_LISTS, SPARSE, NotAnIndexError, check
from ..faiss_index import Mask, Rows
from ..types import Floats, Ints
from .reduced import CANDIDATES, CHUNK, TRAINED_ON, Vectors, list_count, principal, probes, sampled

ROUNDS = 6  # iterations of k-means


@dataclass(frozen=True)
class FaissLists:
    """Finds candidates in mapped lists, see the module."""

    index: faiss.IndexPreTransform

    @property
    def count(self) -> int:
        """Number of vectors."""
        return int(self.index.ntotal)

    def near(self, queries: Floats, k: int, among: Mask | None) -> Rows:
        """See `faiss_index.Finder`."""
        rows = self.count if among is None else int(among.sum())
        # One bit for every row; FAISS keeps only a pointer to the array.
        bits = None if among is None else np.packbits(among, bitorder="little")
        of_lists = faiss.SearchParametersIVF()
        of_lists.nprobe = probes(_lists_of(self.index).nlist, self.count, rows, k)
        of_lists.sel = None if bits is None else faiss.IDSelectorBitmap(bits.size, faiss.swig_ptr(bits))
        parameters = faiss.SearchParametersPreTransform()
        parameters.index_params = of_lists
        nearest: Rows = self.index.search(queries, min(k + CANDIDATES, self.count), params=parameters)[1]
        return nearest


def write_lists(vectors: Vectors, path: Path) -> None:
    """Write the lists of float32 [n, dim], see the module."""
    with threadpool_limits(1):
        index = _trained(sampled(vectors), list_count(len(vectors)))
        lists = np.empty(len(vectors), np.int32)
        inverted = _lists_of(index)
        for begin in range(0, len(vectors), CHUNK):
            reduced = _reduced(index, vectors[begin : begin + CHUNK])
            lists[begin : begin + CHUNK] = inverted.quantizer.search(reduced, 1)[1][:, 0]
        counts = np.bincount(lists, minlength=inverted.nlist)
        begins = _reserved(index, counts, path)
        content = np.memmap(path, np.uint8, "r+")
        filled = np.zeros_like(counts)
        for begin in range(0, len(vectors), CHUNK):
            of_rows = lists[begin : begin + CHUNK]
            codes = inverted.sq.compute_codes(_reduced(index, vectors[begin : begin + CHUNK]))
            places = _places(of_rows, filled)
            size = codes.shape[1]
            _put(content, begins[of_rows] + places * size, codes)
            numbers = np.arange(begin, begin + len(of_rows), dtype="<i8")
            _put(
                content,
                begins[of_rows] + counts[of_rows] * size + places * 8,
                numbers[:, None].view(np.uint8),
            )
        content.flush()


def open_lists(path: Path) -> FaissLists:
    """The lists in a file, mapped, not loaded.

    Raises:
        DamagedError: The file is none that `write_lists` wrote.
    """
    try:
        check(path, INVERTED_LISTS)
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except (NotAnIndexError, RuntimeError, FileNotFoundError):
        raise DamagedError(f"{path} is not a FAISS index; make it again") from None
    # The default starts 32 threads for every query, to read ahead.
    lists: Any = faiss.downcast_InvertedLists(_lists_of(index).invlists)
    lists.prefetch_nthread = 0
    return FaissLists(index)


def _trained(sample: Floats, lists: int) -> faiss.IndexPreTransform:
    """The index without vectors."""
    directions = principal(sample)
    reduced, dim = directions.shape
    transform = faiss.LinearTransform(dim, reduced, False)
    faiss.copy_array_to_vector(directions.ravel(), transform.A)
    transform.is_trained = True
    inverted = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(reduced),
        reduced,
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    inverted.cp.niter = ROUNDS
    inverted.cp.min_points_per_centroid = 1
    inverted.cp.max_points_per_centroid = TRAINED_ON
    index = faiss.IndexPreTransform(transform, inverted)
    index.train(sample)
    return index


def _lists_of(index: faiss.IndexPreTransform) -> Any:
    """The `IndexIVFScalarQuantizer` behind the reduction."""
    return faiss.downcast_index(index.index)


def _reduced(index: faiss.IndexPreTransform, vectors: Floats) -> Floats:
    chain: Any = index.chain
    reduced: Floats = chain.at(0).apply(np.ascontiguousarray(vectors, np.float32))
    return reduced


def _reserved(index: faiss.IndexPreTransform, counts: Rows, path: Path) -> Rows:
    """Write a file with room for lists of these lengths; returns where each begins, int64 [lists].

    Raises:
        OSError: The disk has no room for it.
    """
    inverted = _lists_of(index)
    index.ntotal = inverted.ntotal = int(counts.sum())
    head = faiss.serialize_index(index).tobytes()
    empty = SPARSE + bytes(8)  # how FAISS writes the lengths of lists that are all empty
    assert head.endswith(empty)
    lengths = DENSE + len(counts).to_bytes(8, "little") + counts.astype("<u8").tobytes()
    head = head.removesuffix(empty) + lengths
    ends = len(head) + np.cumsum(counts * (inverted.code_size + 8))
    with path.open("wb") as stream:
        stream.write(head)
        stream.flush()
        os.posix_fallocate(stream.fileno(), 0, int(ends[-1]))
    begins: Rows = ends - counts * (inverted.code_size + 8)
    return begins


def _places(lists: Ints, filled: Rows) -> Rows:
    """Places of vectors within their lists, which hold so many already; `filled` counts them in."""
    order = np.argsort(lists, kind="stable")
    first = np.searchsorted(lists[order], lists[order])
    places = np.empty(len(lists), np.int64)
    places[order] = filled[lists[order]] + np.arange(len(lists)) - first
    filled += np.bincount(lists, minlength=len(filled))
    return places


def _put(content: np.memmap[Any, np.dtype[np.uint8]], begins: Rows, values: npt.NDArray[np.uint8]) -> None:
    """Write rows of bytes, [n, width], where they begin."""
    content[begins[:, None] + np.arange(values.shape[1])] = values
