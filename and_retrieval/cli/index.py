"""The verb `index`: sounds into a clip index."""

from __future__ import annotations

import argparse
from typing import Any

from ..files import one_line
from ..store import Home
from .options import Result, add_device, add_verb, announcer, built, index_result, skipped_text


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "index", answer, "embed a folder of sound into a clip index, or add to one")
    verb.add_argument(
        "source",
        metavar="SOURCE",
        help="folder, quoted glob, or table with path,label,caption,fold,start,end",
    )
    verb.add_argument("--name", required=True, help="name of the index; an existing one is added to")
    verb.add_argument(
        "--embedder",
        default="embedded",
        metavar="NAME",
        help="embedded (default), clap, clap:ORG/NAME, clap:/folder, laion:/file.pt; clap+bf16:... is faster",
    )
    verb.add_argument(
        "--window", type=float, metavar="S", help="longer files are cut into clips of S seconds (default: 10)"
    )
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    home = Home.find(args.home)
    index = built(args.source, args.name, args.embedder, home, args, announcer(args))
    result = index_result(index)
    lines = [f"{len(index.clips)} clips in index {index.name} ({index.folder.path})"]
    if index.changed:
        lines.append(f"{index.changed} clips got another label, caption or fold; explain runs on them again")
    lines += map(one_line, index.notes)
    return result, "\n".join(lines) + skipped_text(result["skipped"])
