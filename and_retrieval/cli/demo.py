"""The verb `demo`: a rendered set of sounds, explained."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..store import Home
from .options import Result, add_device, add_verb, announcer, built, device_of, index_result, named_target

SUMMARIES = 30
"""Sentences per layer in the demo, which is to take two minutes at most on two cores."""


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "demo", answer, "render a set of sounds, explain YAMNet on it, write a report")
    verb.add_argument("--out", metavar="DIR", help="folder for sounds, index and report (default: the home)")
    verb.add_argument("--llm", metavar="NAME|PATH|none", help="language model of the summaries")
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from .. import soundbank
    from ..config import RecordConfig, SummaryConfig
    from ..explanation.explain import explain
    from ..report.write import write_report
    from ..run import record

    home = Home(Path(args.out)) if args.out else Home.find(args.home)
    begin = time.monotonic()
    announce = announcer(args)
    source = soundbank.render(home.path / "soundbank", progress=announce("rendering", "clips"))
    index = built(source, "demo", "embedded", home, args, announce)
    device = device_of(args)
    run = record(named_target("yamnet", device), index, config=RecordConfig(device=device), announce=announce)
    llm = args.llm or SummaryConfig().llm
    explanations = explain(run, summaries=SummaryConfig(llm=llm, units=SUMMARIES), announce=announce)
    report = write_report(run, progress=announce("drawing", "clips"))
    result = {
        **index_result(index),
        "run": run.name,
        "units": len(explanations),
        "labelled": sum(bool(e.labels) for e in explanations),
        "llm": llm,
        "report": str(report),
    }
    where = f" --home {home.path}" if home != Home.find(None) else ""
    text = (
        f"{len(explanations)} units of YAMNet explained with {len(index.clips)} rendered sounds in "
        f"{time.monotonic() - begin:.0f} s\nreport   {report}\n"
        f'next     and-retrieval search {run.name} "water drops"{where}'
    )
    return result, text
