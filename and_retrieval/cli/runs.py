"""The verb `runs`: what is there."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..errors import AndRetrievalError
from ..store import Folder, Home
from .options import Result, add_verb


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "runs", answer, "list the indexes and the runs on them")
    verb.add_argument("name", nargs="?", metavar="NAME", help="of one index only")


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    home = Home.find(args.home)
    names = [args.name] if args.name else home.indexes()
    if args.name:
        home.require_index(args.name)
    indexes = [_index(home, name) for name in names]
    lines = [line for index in indexes for line in _lines(index)]
    return {"home": str(home.path), "indexes": indexes}, "\n".join(lines) or f"no index in {home.path}"


def _index(home: Home, name: str) -> Result:
    try:
        facts = home.index(name).manifest()
    except AndRetrievalError as error:
        return {"name": name, "problem": str(error), "runs": []}
    return {
        "name": name,
        "clips": facts["clips"],
        "embedder": facts["embedder"],
        "runs": [_run(home.run(name, run), name) for run in home.runs(name)],
    }


def _run(folder: Folder, index: str) -> Result:
    name = f"{index}/{folder.path.name}"
    try:
        facts = folder.manifest()
    except AndRetrievalError as error:
        return {"run": name, "problem": str(error)}
    return {
        "run": name,
        "target": facts["target"],
        "dictionaries": [entry["layer"] for entry in facts.get("dictionaries", ())],
        "layers": [{"name": layer["name"], "units": layer["units"]} for layer in facts["layers"]],
        "clips": facts["index_clips"] - len(facts["skipped"]),
        "held_out": facts["held_out"],
        "explained": _explained(folder, facts),
    }


def _explained(folder: Folder, facts: dict[str, Any]) -> bool:
    """Whether there are explanations, made since the run was recorded."""
    from ..recording.recording import SETTINGS, recording

    try:
        recorded = json.loads((folder.path / SETTINGS).read_text(encoding="utf-8"))["recorded"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(recorded == recording(facts))


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
