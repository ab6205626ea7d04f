"""`bench units`: concepts searching units of which it is known what they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..choices import TABLE_FORMATS
from .options import Result, add_device, add_embedder, add_trust, device_of, listed, one_of, opened_run

DESCRIPTION = (
    "search of units by concept, where it is known what units stand for: by default those of the classes"
)
EXAMPLE = "bench units mine/yamnet"


def add_arguments(parser: Any) -> None:
    """Add the options of the suite."""
    parser.add_argument("run", metavar="NAME/RUN", help="recorded run")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE",
        help="CSV concept,layer,unit: what is known (default: the units of the network's classes)",
    )  # fmt: skip
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="CSV label,name: which class of the network a label means"
    )
    parser.add_argument(
        "--format", type=one_of("--format", "format", TABLE_FORMATS), default="markdown",
        metavar="|".join(TABLE_FORMATS), help=f"of the tables: {listed(TABLE_FORMATS, 'markdown')}",
    )  # fmt: skip
    add_embedder(parser)
    add_device(parser)
    add_trust(parser)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the suite; return its result as JSON and as text."""
    from ..benchmark.machine import machine
    from ..benchmark.names import read_aliases
    from ..benchmark.tables import as_json, tables
    from ..benchmark.units import class_units, read_truth, unit_figures
    from ..recording.target import load_recorded_target

    run = opened_run(args.run, args, device_of(args))
    aliases = read_aliases(args.names) if args.names else {}
    if args.truth:
        known = read_truth(args.truth, run)
    else:
        target = load_recorded_target(run, device_of(args), args.trust_remote_code)
        known = class_units(run, target.class_names, aliases)
    figures = {run.name: unit_figures(run, known)}
    result = {
        "suite": "units",
        "run": run.name,
        "concepts": list(known.units),
        "unmatched": list(known.unmatched),
        "layers": list(known.layers),
        "machine": machine(),
        "figures": as_json(figures),
    }
    comment = "% " if args.format == "latex" else ""
    summary = f"{len(known.units)} concepts, known units in {', '.join(known.layers)}"
    if known.unmatched:
        summary += f"; without a class: {', '.join(known.unmatched)} (name it with --names)"
    return result, f"{tables(figures, args.format)}\n\n{comment}{summary}"
