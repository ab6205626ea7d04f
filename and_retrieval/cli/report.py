"""The verb `report`: a run as one HTML file."""

from __future__ import annotations

import argparse
from typing import Any

from ..choices import MEGABYTES
from ..config import REPORT_MEGABYTES
from .options import Result, add_embedder, add_verb, announcer, new_file, number, opened_run


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "report",
        answer,
        "write the explanations of a run as one HTML file",
        "report mine/yamnet --out yamnet.html",
    )
    verb.add_argument("run", metavar="NAME/RUN", help="explained run")
    verb.add_argument(
        "--out", type=new_file("--out", (".html",)), metavar="FILE.html",
        help="file to write (default: report.html in the run's folder)",
    )  # fmt: skip
    verb.add_argument(
        "--megabytes", type=number("--megabytes", MEGABYTES), default=REPORT_MEGABYTES, metavar="MB",
        help=f"largest size of the file, sound included (default: {REPORT_MEGABYTES:g})",
    )  # fmt: skip
    add_embedder(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..report.write import write_report

    run = opened_run(args.run, args)
    path = write_report(run, args.out, args.megabytes, announcer(args)("drawing", "clips"))
    size = path.stat().st_size
    return {"run": run.name, "report": str(path), "bytes": size}, f"{path} ({size / 1e6:.1f} MB)"
