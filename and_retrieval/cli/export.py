"""The verb `export`: explanations in a format that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import Result, add_verb, opened_run

FORMATS = ("jsonl", "csv", "parquet")


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(verbs, "export", answer, "write the explanations of a run for other programs")
    verb.add_argument("run", metavar="NAME/RUN")
    verb.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    verb.add_argument("--out", metavar="FILE", help="default: explanations.FORMAT in the folder of the run")


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """The result as JSON and as text."""
    from ..explanation.lines import export_units
    from ..explanation.stored import load_explained

    out = Path(args.out).expanduser() if args.out else None
    if out and not out.parent.is_dir():
        raise InputError(f"{out.parent} does not exist; make it first")
    if out and out.is_dir():
        raise InputError(f"--out {out}: this is a folder; give the name of a file")
    explained = load_explained(opened_run(args.run, args))
    path = export_units(explained, args.format, out)
    result = {
        "run": explained.recording.name,
        "format": args.format,
        "file": str(path),
        "units": len(explained),
    }
    return result, f"{len(explained)} units in {path}"
