"""The verb `runs`: the indexes and runs in the home folder."""

from __future__ import annotations

import argparse
from typing import Any

from ..store import Home
from .options import Result, add_verb


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(verbs, "runs", answer, "list the indexes and their runs", "runs mine")
    verb.add_argument("name", nargs="?", metavar="NAME", help="list only this index")


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..explanation.listing import listed_index

    home = Home.find(args.home)
    names = [args.name] if args.name else home.indexes()
    if args.name:
        home.require_index(args.name)
    indexes = [listed_index(home, name) for name in names]
    lines = [line for index in indexes for line in _lines(index)]
    return {"home": str(home.path), "indexes": indexes}, "\n".join(lines) or f"no index in {home.path}"


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
