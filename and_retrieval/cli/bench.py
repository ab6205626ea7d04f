"""The verb `bench`: measurements of embedders and runs; in a checkout, the project's own as well."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import unknown_name
from . import bench_retrieval, bench_units
from .options import Result, add_verb
from .parser import VerbFormatter, VerbParser

SUITES: dict[str, ModuleType] = {"retrieval": bench_retrieval, "units": bench_units}
"""Suites that come with the package; those that check the project itself are in the folder `bench` of a checkout."""


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "bench",
        answer,
        "measure embedders on your sounds (retrieval) and the search of units (units)",
        "bench retrieval sounds.csv --embedder embedded --embedder clap",
    )
    verb.add_argument(
        "suite", metavar="SUITE",
        help="retrieval or units; in a checkout of the project also the suites of its folder bench",
    )  # fmt: skip
    verb.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments for the suite; try --help"
    )
    verb.set_defaults(timed=False)
    verb.hands_on = True


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    # Whatever follows SUITE goes into `arguments`, `--json` included.
    args.json = args.json or "--json" in args.arguments
    arguments = [word for word in args.arguments if word != "--json"]
    if args.suite in SUITES:
        return _packaged(args, SUITES[args.suite], arguments)
    sys.path.insert(0, str(Path.cwd()))
    if importlib.util.find_spec("bench") is None:
        raise unknown_name(
            "suite", args.suite, SUITES, "others need a checkout of the project as the current folder"
        )
    import bench

    suites = bench.suites()
    if args.suite not in suites:
        raise unknown_name("suite", args.suite, [*SUITES, *suites])
    return bench.run(args.suite, arguments, quiet=args.json)


def _packaged(args: argparse.Namespace, suite: ModuleType, arguments: list[str]) -> tuple[Result, str]:
    parser = VerbParser(
        prog=f"and-retrieval bench {args.suite}",
        description=suite.DESCRIPTION,
        epilog=f"example: and-retrieval {suite.EXAMPLE}",
        formatter_class=VerbFormatter,
    )
    parser.add_argument("--home", default=args.home, metavar="DIR", help="folder of all indexes")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    suite.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    parsed.json = args.json
    answered: tuple[Result, str] = suite.answer(parsed)
    return answered
