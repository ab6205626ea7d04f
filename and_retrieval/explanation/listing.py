"""The indexes of a home and their runs, and what has been done with them; read from their manifests alone."""

from __future__ import annotations

from typing import Any

from ..clips.manifest import IndexManifest
from ..errors import AndRetrievalError
from ..recording.manifest import RecordingManifest, identity
from ..store import Folder, Home, Stored
from .manifest import ExplanationManifest, explanation_folder


def listed_index(home: Home, name: str) -> dict[str, Any]:
    """An index and its runs as the verb `runs` lists them; what cannot be opened has a `problem` instead."""
    try:
        index = home.index(name).open(IndexManifest).manifest
    except AndRetrievalError as error:
        return {"name": name, "problem": str(error), "runs": []}
    return {
        "name": name,
        "clips": index.clips,
        "embedder": index.embedder,
        "runs": [_run(home.run(name, run), name) for run in home.runs(name)],
    }


def _run(folder: Folder, index: str) -> dict[str, Any]:
    name = f"{index}/{folder.path.name}"
    try:
        stored = folder.open(RecordingManifest)
    except AndRetrievalError as error:
        return {"run": name, "problem": str(error)}
    recorded = stored.manifest
    return {
        "run": name,
        "target": recorded.target,
        "dictionaries": [dictionary.layer for dictionary in recorded.dictionaries],
        "layers": [{"name": layer.name, "units": layer.units} for layer in recorded.layers],
        "clips": recorded.read_clips,
        "held_out": len(recorded.held_out_rows),
        "explained": _explained(stored),
    }


def _explained(recording: Stored[RecordingManifest]) -> bool:
    """Whether there are explanations that were made after the run was recorded."""
    try:
        explanation = explanation_folder(recording.folder).open(ExplanationManifest)
    except AndRetrievalError:
        return False
    return explanation.manifest.recorded == identity(recording)
