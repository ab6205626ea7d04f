"""Stores: what finds candidates among very many vectors without reading them all, on disk.

A store lists vectors that are probably near to a query. Their scores are computed from the stored vectors themselves
(`faiss_index.search`), so scores and verdicts do not depend on the store, only what is missed does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import MissingExtraError
from ..faiss_index import Finder
from ..types import Floats
from .lists import open_lists, write_lists
from .reduced import Vectors
from .table import open_table, write_table


@dataclass(frozen=True)
class Store:
    """A kind of store.

    Attributes:
        file: Ending of its file or folder, with the dot.
        write: Makes the store of vectors, float32 [n, dim] of unit length, at a path, in place of a file there. They
            are read a block at a time.
        open: Opens it; a file that no store could have written raises DamagedError.
    """

    file: str
    write: Callable[[Vectors, Path], None]
    open: Callable[[Path], Finder]


STORES = {
    "faiss": Store(".faiss", write_lists, open_lists),
    "lance": Store(".lance", write_table, open_table),
}


@contextmanager
def temporary_store(name: str, vectors: Floats) -> Iterator[Finder]:
    """A store of float32 [n, dim] of unit length that goes with the block."""
    store = STORES[name]
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"vectors{store.file}"
        store.write(vectors, path)
        yield store.open(path)


def check_store(name: str, index: str | None = None) -> None:
    """Raise MissingExtraError if a store needs a package that is not installed; `index` names the one that has it."""
    if name == "lance" and find_spec("lance") is None:
        feature = f"--store {name}"
        raise MissingExtraError(feature if index is None else f"index {index!r}, made with {feature},", name)
