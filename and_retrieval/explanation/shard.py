"""One shard of explanations: the units of a layer, as columns in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..shards.folder import Shards
from ..types import Explanation
from . import columns
from .manifest import ExplainPlan, LayerAcoustics

FOLDER = "explain-shards"
"""Folder of the shards in that of the run."""
_ACOUSTICS = b"acoustics"


def store_layer(
    shards: Shards[ExplainPlan],
    number: int,
    explain: Callable[[], tuple[Sequence[Explanation], LayerAcoustics | None]],
) -> None:
    """Explain a layer, and commit its explanations.

    Args:
        shards: The plan, and where to put the shards.
        number: Place of the layer.
        explain: Gives all its units, and what `strongest_clips.measured_acoustics` gives.
    """

    def write(path: Path) -> tuple[()]:
        units, acoustics = explain()
        note = json.dumps(None if acoustics is None else asdict(acoustics))
        table = columns.table(units, Explanation).replace_schema_metadata({_ACOUSTICS: note.encode()})
        pq.write_table(table, path, compression="zstd")
        return ()

    shards.leave(number, write)


def read_layer(path: Path) -> tuple[pa.Table, LayerAcoustics | None]:
    """What `store_layer` committed: the units as columns, and the acoustics of the layer."""
    table = pq.read_table(path)
    acoustics = json.loads(table.schema.metadata[_ACOUSTICS])
    return table.cast(columns.schema(Explanation)), None if acoustics is None else LayerAcoustics(**acoustics)
