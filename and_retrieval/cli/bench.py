"""The verb `bench`: the project's own measurements, run from a checkout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError, unknown_name
from .options import Result, add_verb


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "bench",
        answer,
        "run one of the project's measurements (in a checkout of the project)",
        "bench retrieval sounds/",
    )
    verb.add_argument("suite", metavar="SUITE", help="what to measure: retrieval, labels, ...")
    verb.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments for the suite; try --help"
    )
    verb.set_defaults(timed=False)
    verb.hands_on = True


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    import importlib
    import importlib.util

    sys.path.insert(0, str(Path.cwd()))
    if importlib.util.find_spec("bench") is None:
        raise InputError("the measurements are part of the project's checkout; run this command inside it")
    import bench

    suite = bench.suites().get(args.suite)
    if suite is None:
        raise unknown_name("suite", args.suite, bench.suites())
    # Whatever follows SUITE goes into `arguments`, `--json` included.
    args.json = args.json or "--json" in args.arguments
    return bench.run(args.suite, [word for word in args.arguments if word != "--json"], quiet=args.json)
