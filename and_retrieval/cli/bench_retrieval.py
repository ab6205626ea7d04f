"""`bench retrieval`: embedders held against captions and labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..choices import TABLE_FORMATS, WINDOW
from ..errors import InputError
from .options import Result, add_device, announcer, device_of, listed, number, one_of, prompt

DESCRIPTION = "search of sounds by text and of texts by sound, and zero-shot classification, by embedders"
EXAMPLE = "bench retrieval clotho/evaluation.csv --embedder embedded --embedder clap"


def add_arguments(parser: Any) -> None:
    """Add the options of the suite."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder, quoted glob or table; captions, labels (several joined by ;) or both",
    )
    parser.add_argument(
        "--embedder", action="append", default=[], metavar="SPEC",
        help="an embedder to measure, as for index; may be repeated (default: embedded)",
    )  # fmt: skip
    parser.add_argument(
        "--prompt", action="append", type=prompt, metavar="TEXT",
        help="sentence with {} in which every class name is read; several are averaged (default: the embedder's own)",
    )  # fmt: skip
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="CSV label,name: other names for the classes"
    )
    parser.add_argument(
        "--concepts", metavar="BANK|FILE", help="further names that zero-shot classification chooses from"
    )
    parser.add_argument(
        "--window", type=number("--window", WINDOW), metavar="SECONDS",
        help="cut longer files into several clips (default: 600)",
    )  # fmt: skip
    parser.add_argument(
        "--format", type=one_of("--format", "format", TABLE_FORMATS), default="markdown",
        metavar="|".join(TABLE_FORMATS), help=f"of the tables: {listed(TABLE_FORMATS, 'markdown')}",
    )  # fmt: skip
    add_device(parser)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the suite; return its result as JSON and as text."""
    from ..benchmark.machine import machine
    from ..benchmark.names import bank_names, labels_of, own_names, read_aliases
    from ..benchmark.retrieval import WINDOW, Labelled, clips_digest, embedded
    from ..benchmark.tables import as_json, tables
    from ..concepts import load_bank
    from ..embed import DEFAULT, load_embedder
    from ..embed.prompts import templates_of
    from ..store import Home

    aliases = read_aliases(args.names) if args.names else {}
    bank = load_bank(args.concepts).concepts if args.concepts else ()
    home, window = Home.find(args.home), args.window or WINDOW
    figures, prompts = {}, {}
    for spec in dict.fromkeys(args.embedder or [DEFAULT]):
        embedder = load_embedder(spec, device_of(args))
        prompts[spec] = tuple(args.prompt or templates_of(embedder))
        progress = announcer(args)(f"embedding ({spec})", "clips")
        index = embedded(args.source, embedder, home, window, progress)
        labels = labels_of(index.clips)
        names = bank_names(labels, bank, aliases) if bank else own_names(labels, aliases)
        measured = Labelled(index.clips, index.vectors(), embedder)
        figures[spec] = measured.figures(names if len(labels) > 1 else None, prompts[spec])
    if not any(figures.values()):
        raise InputError(
            f"{args.source} has neither captions nor labels of two classes; give a table with a column caption or label"
        )
    result = {
        "suite": "retrieval",
        "data": clips_digest(index.clips),
        "clips": len(index.clips),
        "captions": sum(len(clip.captions) for clip in index.clips),
        "classes": len(labels),
        "skipped": [{"path": miss.path, "reason": miss.reason} for miss in index.skipped],
        "prompts": {spec: list(texts) for spec, texts in prompts.items()},
        "machine": machine(),
        "figures": as_json(figures),
    }
    counted = f"{result['clips']} clips, {result['captions']} captions, {result['classes']} classes"
    if labels:
        used = dict.fromkeys(text for texts in prompts.values() for text in texts)
        counted += f"; prompts: {', '.join(map(repr, used))}"
    if index.skipped:
        counted += f"; {len(index.skipped)} skipped, see --json"
    comment = "% " if args.format == "latex" else ""
    return result, f"{tables(figures, args.format)}\n\n{comment}{counted}"
