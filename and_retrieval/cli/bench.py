"""The verb `bench`: the measurements of a checkout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError, unknown_name
from .options import Result, add_verb


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(
        verbs, "bench", answer, "measure: retrieval, labels, ... (from a checkout of the project)"
    )
    verb.add_argument("suite", metavar="SUITE")
    verb.add_argument("arguments", nargs=argparse.REMAINDER, help="handed to the suite")
    verb.set_defaults(timed=False)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    import importlib
    import importlib.util

    sys.path.insert(0, str(Path.cwd()))
    if importlib.util.find_spec("bench") is None:
        raise InputError("benchmarks are part of the project's checkout: run this inside it")
    import bench

    suite = bench.suites().get(args.suite)
    if suite is None:
        raise unknown_name("suite", args.suite, bench.suites())
    # REMAINDER leaves no option behind SUITE to this parser.
    args.json = args.json or "--json" in args.arguments
    return bench.run(args.suite, [word for word in args.arguments if word != "--json"], quiet=args.json)
