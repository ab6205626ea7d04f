"""Lance: vectors reduced, in half precision, as a table of fragments with an index (IVF_PQ), a folder on disk.

Fragments are written piece by piece and committed together. The names of the files are random, so two tables of the
same vectors have other bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import DamagedError, MissingExtraError
from ..faiss_index import Mask, Rows
from ..types import Floats
from .reduced import CANDIDATES, TRAINED_ON, Vectors, list_count, principal, probes, sampled

FRAGMENT = 1 << 20  # vectors of a fragment
BLOCK = 16_384  # vectors of a fragment that are reduced at a time
SUBVECTOR = 4  # dimensions that one byte of the index stands for
MULTIPLE = 16  # of which the number of dimensions has to be one
REFINED = 4  # times as many vectors as are wanted are looked at in half precision
CACHE = 256 << 20  # bytes of the index that stay in memory
DIRECTIONS, REDUCED, LISTS = b"directions", b"reduced", b"lists"  # of the table's metadata


@dataclass(frozen=True)
class LanceTable:
    """Finds candidates in a table, see the module.

    Attributes:
        dataset: The table.
        directions: float32 [reduced, dim].
        count: Number of vectors.
        lists: Number of lists that they are divided into.
    """

    dataset: Any
    directions: Floats
    count: int
    lists: int

    def near(self, queries: Floats, k: int, among: Mask | None) -> Rows:
        """See `faiss_index.Finder`."""
        rows = self.count if among is None else int(among.sum())
        wanted = min(self.count, int((k + CANDIDATES) * self.count / max(rows, 1)))
        reduced = _padded(queries @ self.directions.T)
        near = np.full((len(queries), wanted), -1, np.int64)
        for place, query in enumerate(reduced):
            nearest = {
                "column": "vector",
                "q": query,
                "k": wanted,
                "nprobes": probes(self.lists, self.count, rows, k),
                "refine_factor": REFINED,
            }
            hits = self.dataset.to_table(columns=["row", "_distance"], nearest=nearest)["row"].to_numpy()
            hits = hits[(hits >= 0) & (hits < self.count)]  # FAISS would follow any number
            hits = hits if among is None else hits[among[hits]]
            near[place, : len(hits)] = hits
        return near


def write_table(vectors: Vectors, path: Path) -> None:
    """Write the table of float32 [n, dim], see the module."""
    lance = _lance()
    from lance.fragment import LanceFragment

    path.unlink(missing_ok=True)
    directions = principal(sampled(vectors))
    width = len(_padded(directions.T)[0])
    kind = pa.list_(pa.float16(), width)
    lists = list_count(len(vectors))
    metadata = {
        DIRECTIONS: directions.tobytes().hex(),
        REDUCED: str(len(directions)),
        LISTS: str(lists),
    }
    schema = pa.schema({"row": pa.int64(), "vector": kind}, metadata=metadata)

    def blocks(begin: int) -> Any:
        for first in range(begin, min(begin + FRAGMENT, len(vectors)), BLOCK):
            block = np.asarray(vectors[first : min(first + BLOCK, begin + FRAGMENT)], np.float32)
            reduced = _padded(block @ directions.T).astype(np.float16)
            values = pa.FixedSizeListArray.from_arrays(pa.array(reduced.ravel()), width)
            yield pa.record_batch([np.arange(first, first + len(block)), values], schema=schema)

    fragments = [
        LanceFragment.create(path, pa.RecordBatchReader.from_batches(schema, blocks(begin)))
        for begin in range(0, len(vectors), FRAGMENT)
    ]
    table = lance.LanceDataset.commit(path, lance.LanceOperation.Overwrite(schema, fragments))
    table.create_index(
        "vector",
        "IVF_PQ",
        metric="dot",
        num_partitions=lists,
        num_sub_vectors=width // SUBVECTOR,
        sample_rate=TRAINED_ON,
    )


def open_table(path: Path) -> LanceTable:
    """The table in a folder.

    Raises:
        DamagedError: The folder holds none that `write_table` wrote.
        MissingExtraError: Lance is not installed.
    """
    lance = _lance()
    try:
        table = lance.dataset(path, index_cache_size_bytes=CACHE, metadata_cache_size_bytes=CACHE)
        width = table.schema.field("vector").type.list_size
        numbers = bytes.fromhex(table.schema.metadata[DIRECTIONS].decode())
        directions = np.frombuffer(numbers, np.float32).reshape(int(table.schema.metadata[REDUCED]), -1)
        fits = len(_padded(directions.T)[0]) == width
        lists = int(table.schema.metadata[LISTS])
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        fits = False
    if not fits:
        raise DamagedError(f"{path} is not a Lance table; make it again")
    return LanceTable(table, directions, table.count_rows(), lists)


def _lance() -> Any:
    """The package, which writes a line for every list that is empty unless it is told not to."""
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lance
    except ImportError:
        raise MissingExtraError("--store lance", "lance") from None
    return lance


def _padded(vectors: Floats) -> Floats:
    """Vectors with zeros behind them, so that an index can divide their dimensions."""
    return np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % MULTIPLE)))
