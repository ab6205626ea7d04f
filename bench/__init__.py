"""Measurements that anyone can repeat: `and-retrieval bench SUITE [arguments]`, from a checkout.

A suite is a module of this package with `run(**options)` that returns figures as a JSON-able dict. It may have:

    add_arguments(parser)   its command line; `run` is then called with what was parsed and with `announce`
    table(figures) -> str   its figures as Markdown; without it every dict of numbers becomes a row

The keys `settings` (a dict) and `data` (a digest of the sounds measured on) of what `run` returns name the
result file `bench/results/<suite>-<12 hex digits>.json`, so that the same measurement overwrites itself.
Nothing in that file says where anything lies on the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from and_retrieval.benchmark.machine import machine
from and_retrieval.benchmark.tables import markdown
from and_retrieval.files import write_text
from and_retrieval.progress import Progress, terminal_progress

RESULTS = Path(__file__).parent / "results"
SUITES = (
    "and",
    "labels",
    "ranking",
    "faithfulness",
    "error_rates",
    "prune",
    "dictionary",
    "meanings",
    "moments",
    "over_time",
    "tuned",
    "summaries",
    "sentences",
    "implied",
    "open_concepts",
    "queries",
    "ears",
    "grid",
    "search",
    "clip_search",
    "serve",
    "tab",
    "speed",
    "overhead",
    "rates",
    "cost",
    "explain",
    "topk",
)

OTHERWISE_NAMED = {"and": "dissection"}
"""Suites whose module is named otherwise: `and` is a word of Python's own."""

Announce = Callable[[str, str], Progress]
"""(what is done, unit of counting) -> the progress to call."""
Figures = dict[str, Any]


def suites() -> dict[str, str]:
    """Name of every suite that is there -> its module, not yet imported."""
    modules = {name: OTHERWISE_NAMED.get(name, name) for name in SUITES}
    here = Path(__file__).parent
    return {name: f"bench.{module}" for name, module in modules.items() if (here / f"{module}.py").is_file()}


def run(name: str, arguments: Sequence[str], quiet: bool = False) -> tuple[Figures, str]:
    """Run a suite and keep its result.

    Args:
        name: One of `suites()`.
        arguments: The suite's own command line.
        quiet: No progress on stderr.

    Returns:
        What was written to the result file, and the figures as Markdown.

    Raises:
        InputError: An argument cannot be used.
        SystemExit: `--help` was asked for, or the arguments do not parse.
    """
    suite = importlib.import_module(suites()[name])
    begin = [line for line in (suite.__doc__ or "").splitlines() if line][:1]
    parser = argparse.ArgumentParser(prog=f"and-retrieval bench {name}", description="".join(begin))
    takes_arguments = hasattr(suite, "add_arguments")
    if takes_arguments:
        suite.add_arguments(parser)
    options = vars(parser.parse_args(arguments))
    if takes_arguments:
        options["announce"] = lambda task, unit: terminal_progress(task, unit, quiet=quiet)
    figures: Figures = suite.run(**options)
    result = {
        "suite": name,
        "command": shlex.join(["and-retrieval", "bench", name, *_repeatable(arguments)]),
        "settings": figures.get("settings", {}),
        "data": figures.get("data", ""),
        "machine": machine(),
        "figures": {key: value for key, value in figures.items() if key not in ("settings", "data")},
    }
    path = RESULTS / f"{name}-{_digest(name, result['settings'], result['data'])}.json"
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    table = suite.table(figures) if hasattr(suite, "table") else markdown(list(_numbers(figures)))
    return result, f"{table}\n\nkept in {path.parent.parent.name}/{path.parent.name}/{path.name}"


def _numbers(figures: Mapping[str, Any], *path: str) -> Iterator[dict[str, Any]]:
    """One row for every dict that holds numbers, at any depth."""
    numbers = {
        key: value for key, value in figures.items() if isinstance(value, int | float) and key != "settings"
    }
    if numbers:
        yield {"": " / ".join(path), **numbers}
    for key, value in figures.items():
        if isinstance(value, Mapping) and key != "settings":
            yield from _numbers(value, *path, key)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _repeatable(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments without what only this machine has: its folders, and where the results of this call lie."""
    for before, argument in pairwise(["", *arguments]):
        if "--home" not in (before, argument) and not argument.startswith("--home="):
            yield nameless(argument)


def nameless(argument: str) -> str:
    """A path, of KIND:PATH too, without the folders that only this machine has: its last two parts."""
    kind, colon, place = argument.rpartition(":") if ":/" in argument else ("", "", argument)
    path = Path(place)
    named = path.is_absolute() or ".." in path.parts
    return kind + colon + "/".join(path.parts[-2:]) if named else argument
