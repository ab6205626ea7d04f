"""The verb `runs`: the indexes and runs in the home folder."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import AndRetrievalError
from ..store import Folder, Home, Stored
from .options import Result, add_verb

if TYPE_CHECKING:
    from ..recording.manifest import RecordingManifest


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(verbs, "runs", answer, "list the indexes and their runs", "runs mine")
    verb.add_argument("name", nargs="?", metavar="NAME", help="list only this index")


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    home = Home.find(args.home)
    names = [args.name] if args.name else home.indexes()
    if args.name:
        home.require_index(args.name)
    indexes = [_index(home, name) for name in names]
    lines = [line for index in indexes for line in _lines(index)]
    return {"home": str(home.path), "indexes": indexes}, "\n".join(lines) or f"no index in {home.path}"


def _index(home: Home, name: str) -> Result:
    from ..clips.manifest import IndexManifest

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


def _run(folder: Folder, index: str) -> Result:
    from ..recording.manifest import RecordingManifest

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
    from ..explanation.manifest import ExplanationManifest, explanation_folder
    from ..recording.manifest import identity

    try:
        explanation = explanation_folder(recording.folder).open(ExplanationManifest)
    except AndRetrievalError:
        return False
    return explanation.manifest.recorded == identity(recording)


def _lines(index: Result) -> list[str]:
    if "problem" in index:
        return [f"{index['name']}  {index['problem']}"]
    lines = [f"{index['name']}  {index['clips']} clips, embedder {index['embedder']}"]
    for run in index["runs"]:
        if "problem" in run:
            lines.append(f"  {run['run']}  {run['problem']}")
            continue
        units = sum(layer["units"] for layer in run["layers"])
        state = "explained" if run["explained"] else f"not explained: and-retrieval explain {run['run']}"
        lines.append(
            f"  {run['run']}  {run['target']}, {len(run['layers'])} layers, {units} units, "
            f"{run['clips']} clips, {state}"
        )
    return lines
