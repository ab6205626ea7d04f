"""The verb `export`: explanations in a format that other programs read."""

from __future__ import annotations

import argparse
from typing import Any

from ..choices import EXPORT_FORMATS
from .options import Result, add_verb, listed, new_file, one_of, opened_run

DEFAULT_FORMAT = "jsonl"


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "export",
        answer,
        "write the explanations of a run for other programs",
        "export mine/yamnet --format csv --out units.csv",
    )
    verb.add_argument("run", metavar="NAME/RUN", help="explained run")
    verb.add_argument(
        "--format", type=one_of("--format", "format", EXPORT_FORMATS), default=DEFAULT_FORMAT,
        metavar="|".join(EXPORT_FORMATS), help=listed(EXPORT_FORMATS, DEFAULT_FORMAT),
    )  # fmt: skip
    verb.add_argument(
        "--out", type=new_file("--out"), metavar="FILE",
        help="file to write (default: in the run's folder)",
    )  # fmt: skip


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..explanation.stored import load_explained
    from ..export.formats import export_units

    explained = load_explained(opened_run(args.run, args))
    path = export_units(explained, args.format, args.out)
    result = {
        "run": explained.recording.name,
        "format": args.format,
        "file": str(path),
        "units": len(explained),
    }
    return result, f"{len(explained)} units in {path}"
