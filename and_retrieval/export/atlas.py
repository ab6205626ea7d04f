"""Units as a map for Embedding Atlas: one row a unit with x, y, its label, and the sound it responds to most.

    embedding-atlas embedding-atlas.parquet --x x --y y --text label

The sound is a struct of bytes and path, as the data sets library writes audio. x and y are those of the map that
`serve` draws, empty for units that never responded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..clips.files import UnreadableAudioError
from ..explanation.stored import ROW_GROUP, Explained
from ..report.media import SAMPLE_RATE, encode_mp3
from ..types import Explanation, Floats, Shown

EXCERPT = 3.0
"""Seconds of sound around the peak of a unit's strongest clip."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("layer", pa.string()),
        ("unit", pa.int32()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("reliable", pa.string()),
        ("kind", pa.string()),
        ("summary", pa.string()),
        ("open_concepts", pa.string()),
        ("polysemanticity", pa.float32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)


def write_atlas(explained: Explained, path: Path) -> None:
    """Write the map; a unit whose strongest clip cannot be read any more has no sound."""
    places = explained.positions
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for start in range(0, len(explained), ROW_GROUP):
            units = explained[start : start + ROW_GROUP]
            sounds = dict(_sounds(explained, units))
            rows = [
                {**_row(unit), "x": _known(x), "y": _known(y), "audio": sounds.get(place)}
                for place, (unit, (x, y)) in enumerate(
                    zip(units, places[start : start + len(units)], strict=True)
                )
            ]
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def _known(position: float) -> float | None:
    return float(position) if np.isfinite(position) else None


def _row(unit: Explanation) -> dict[str, object]:
    first = unit.labels[0] if unit.labels else None
    return {
        "id": f"{unit.layer}:{unit.unit}",
        "layer": unit.layer,
        "unit": unit.unit,
        "label": first.concept if first else "no label",
        "score": first.score if first else None,
        "reliable": unit.reliable,
        "kind": unit.kind,
        "summary": unit.summary.text,
        "open_concepts": ", ".join(unit.open_concepts),
        "polysemanticity": unit.polysemanticity,
    }


def _sounds(explained: Explained, units: Sequence[Explanation]) -> Iterator[tuple[int, dict[str, object]]]:
    """Place of a unit -> the sound around the peak of its strongest clip; every clip is read once."""
    index = explained.recording.index
    of_clip: dict[int, list[int]] = {}
    for place, unit in enumerate(units):
        if unit.top:
            of_clip.setdefault(unit.top[0].row, []).append(place)
    for row, places in of_clip.items():
        try:
            sound = index.read(row, SAMPLE_RATE)
        except UnreadableAudioError:
            continue
        for place in places:
            yield place, {"bytes": _excerpt(sound, units[place].top[0]), "path": index.clips[row].path}


def _excerpt(sound: Floats, shown: Shown) -> bytes:
    wanted = round(EXCERPT * SAMPLE_RATE)
    start = round((shown.peak - EXCERPT / 2) * SAMPLE_RATE)
    start = max(0, min(start, len(sound) - wanted))
    return encode_mp3(np.clip(sound[start : start + wanted], -1.0, 1.0))
