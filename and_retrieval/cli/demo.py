"""The verb `demo`: a rendered set of sounds, explained."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..config import SummaryConfig
from ..store import Home
from .options import Result, add_device, add_verb, announcer, built, device_of, index_result, named_target

SUMMARIES = 30
"""Number of sentences per layer, so that the demo takes at most two minutes on two cores."""


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "demo",
        answer,
        "render a set of sounds, explain YAMNet with it, and write a report",
        "demo --out demo/",
    )
    verb.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the sounds, the index and the report (default: the home folder)",
    )
    verb.add_argument(
        "--llm", metavar="NAME|PATH|none",
        help=f"language model that writes the sentences (default: {SummaryConfig.llm}; see `models list`)",
    )  # fmt: skip
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from .. import soundbank
    from ..explanation.explain import explain
    from ..report.write import write_report
    from ..run import record

    home = Home(Path(args.out)) if args.out else Home.find(args.home)
    begin = time.monotonic()
    announce = announcer(args)
    source = soundbank.render(home.path / "soundbank", progress=announce("rendering", "clips"))
    index = built(source, "demo", "embedded", home, args, announce)
    device = device_of(args)
    run = record(named_target("yamnet", device), index, announce=announce)
    llm = args.llm or SummaryConfig.llm
    explained = explain(run, summaries=SummaryConfig(llm=llm, units=SUMMARIES), announce=announce)
    report = write_report(run, progress=announce("drawing", "clips"))
    result = {
        **index_result(index),
        "run": run.name,
        "units": len(explained),
        "labelled": sum(bool(unit.labels) for unit in explained),
        "llm": llm,
        "report": str(report),
    }
    where = f" --home {home.path}" if home != Home.find(None) else ""
    text = (
        f"{len(explained)} units of YAMNet explained with {len(index.clips)} rendered sounds in "
        f"{time.monotonic() - begin:.0f} s\nreport   {report}\n"
        f'next     and-retrieval search {run.name} "a crying baby"{where}'
    )
    return result, text
