"""The verb `report`: a run as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import Result, add_embedder, add_verb, announcer, opened_run


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "report", answer, "write the explanations of a run as one HTML file")
    verb.add_argument("run", metavar="NAME/RUN")
    verb.add_argument("--out", metavar="FILE.html", help="default: report.html in the run's folder")
    verb.add_argument(
        "--megabytes", type=float, default=25.0, help="largest size, sound included (default: 25)"
    )
    add_embedder(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from ..report.write import write_report

    run = opened_run(args.run, args)
    path = write_report(
        run, Path(args.out) if args.out else None, args.megabytes, announcer(args)("drawing", "clips")
    )
    size = path.stat().st_size
    return {"run": run.name, "report": str(path), "bytes": size}, f"{path} ({size / 1e6:.1f} MB)"
