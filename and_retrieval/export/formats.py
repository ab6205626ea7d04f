"""The formats in which explanations are exported, and where the files lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..choices import EXPORT_FORMATS, known_name
from ..explanation.lines import write_csv, write_jsonl, write_parquet
from ..explanation.stored import Explained
from ..files import output_path, writing
from .atlas import write_atlas
from .features import write_features


class Format(NamedTuple):
    """What writes a format, and the name of the file in the run's folder."""

    write: Callable[[Explained, Path], None]
    file: str


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "jsonl": Format(write_jsonl, "explanations.jsonl"),
        "csv": Format(write_csv, "explanations.csv"),
        "parquet": Format(write_parquet, "explanations.parquet"),
        "embedding-atlas": Format(write_atlas, "embedding-atlas.parquet"),
        "neuronpedia": Format(write_features, "neuronpedia.json"),
    }
)
"""Name of a format -> the format."""


def export_units(explained: Explained, form: str, out: Path | None = None) -> Path:
    """Write explanations for other programs, in one step; returns the file.

    Args:
        explained: What is written.
        form: One of `choices.EXPORT_FORMATS`.
        out: The file; by default one in the run's folder, see `Format`.

    Raises:
        InputError: Another format, or a file that cannot be written.
    """
    chosen = FORMATS[known_name("format", form, EXPORT_FORMATS)]
    path = explained.recording.folder.path / chosen.file
    if out is not None:
        path = output_path("--out", out)
    with writing(path) as scratch:
        chosen.write(explained, scratch)
    return path
