"""The verb `explain`: label units, test the labels and write sentences."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..choices import COUNT, COUNT_OR_NONE, EVIDENCE, OPEN_CONCEPTS, RANKS, SCORES
from ..concepts import BUILT_IN, DEFAULT_BANK, OWN_LABELS
from ..config import LabelConfig, OpenConceptConfig, SummaryConfig
from ..errors import first_of
from .options import (
    Result,
    add_device,
    add_embedder,
    add_verb,
    add_workers,
    announcer,
    device_of,
    listed,
    number,
    one_of,
    opened_run,
)

if TYPE_CHECKING:
    from ..explanation.stored import Explained

UNKNOWN_TOLD = 5
"""Concepts named that the embedder does not know."""


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "explain",
        answer,
        "label every unit, test the label, and write a sentence about the unit",
        "explain mine/yamnet --concepts audioset --concepts my_words.txt",
    )
    verb.add_argument("run", metavar="NAME/RUN", help="run to explain")
    verb.add_argument(
        "--concepts", action="append", default=[], metavar="BANK|FILE",
        help=f"what units may be labelled with: {listed(BUILT_IN, DEFAULT_BANK)}, {OWN_LABELS} (of the clips), "
        "or a .txt, .csv or .json file; repeatable",
    )  # fmt: skip
    verb.add_argument(
        "--score", type=one_of("--score", "score", SCORES), default=LabelConfig.score, metavar="NAME",
        help=f"how well a concept describes a unit: {listed(SCORES, LabelConfig.score)}",
    )  # fmt: skip
    verb.add_argument(
        "--evidence", type=one_of("--evidence", "evidence", EVIDENCE), default=LabelConfig.evidence,
        metavar="|".join(EVIDENCE),
        help=f"what is compared with the concepts (default: {LabelConfig.evidence})",
    )  # fmt: skip
    verb.add_argument(
        "-k", type=number("-k", COUNT), default=LabelConfig.k, metavar="K",
        help="number of top clips to look at (default: as many as the unit mainly responds to)",
    )  # fmt: skip
    verb.add_argument(
        "--rank", type=one_of("--rank", "rank", RANKS), default=LabelConfig.rank, metavar="|".join(RANKS),
        help="what puts a unit's best labels in order: their score, the language model, or both "
        f"(default: {LabelConfig.rank})",
    )  # fmt: skip
    verb.add_argument(
        "--llm", metavar="NAME|PATH|none",
        help=f"language model that writes the sentences (default: {SummaryConfig.llm}; see `models list`)",
    )  # fmt: skip
    verb.add_argument(
        "--summaries", type=number("--summaries", COUNT_OR_NONE), metavar="N",
        help="write sentences only for the N units of each layer with the clearest labels (default: for all)",
    )  # fmt: skip
    verb.add_argument(
        "--open-concepts", type=one_of("--open-concepts", "choice", OPEN_CONCEPTS),
        default=OpenConceptConfig.wanted, metavar="|".join(OPEN_CONCEPTS),
        help="find words in the captions that describe a unit "
        f"(default: {OpenConceptConfig.wanted}, if the tagger is installed)",
    )  # fmt: skip
    verb.add_argument(
        "--ask-adjectives", action="store_true",
        help="ask the language model whether an adjective that is not listed can describe a sound",
    )  # fmt: skip
    add_workers(verb)
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..explanation.explain import explain

    run = opened_run(args.run, args, device_of(args))
    llm = args.llm or SummaryConfig.llm
    explained = explain(
        run,
        tuple(args.concepts) or (DEFAULT_BANK,),
        LabelConfig(score=args.score, evidence=args.evidence, k=args.k, rank=args.rank),
        SummaryConfig(llm=llm, units=args.summaries),
        announcer(args),
        OpenConceptConfig(wanted=args.open_concepts, ask_adjectives=args.ask_adjectives),
        args.workers,
    )
    counts, example = _counted(explained)
    units, composed = len(explained), counts["composed"]
    result = {
        "run": run.name,
        "units": units,
        "labelled": counts["labelled"],
        "abstained": counts["abstained"],
        "composed": composed,
        "llm": llm,
        "several_meanings": counts["several meanings"],
        "reliable": counts["reliable"] if counts["tested"] else None,
        "reliable_by_captions": counts["reliable by captions"] if counts["tested by captions"] else None,
        "unknown_concepts": list(explained.manifest.unknown_concepts),
        **asdict(explained.shards),
    }
    unknown = explained.manifest.unknown_concepts
    trusted = f"{counts['reliable']} of them reliably, " if result["reliable"] is not None else ""
    sentences = f"{units - counts['abstained'] - composed} sentences by {llm} and {composed} composed by rule"
    text = (
        f"{counts['labelled']} of {units} units labelled, {trusted}"
        f"{'no sentences' if llm == 'none' else sentences} ({run.folder.path})\n{_left_out(unknown)}"
        f'next     and-retrieval report {run.name}, and-retrieval search {run.name} "{example}",'
        f" and-retrieval export {run.name}"
    )
    return result, text


def _counted(explained: Explained) -> tuple[Counter[str], str]:
    """Of how many units what is true, and something to search for that is found.

    That is the label that predicts its unit best among those that hold, rather a concept than a measured one; else the
    best of any.
    """
    counts, place, example = Counter[str](), (3, 0.0), "dog bark"
    for unit in (unit for part in explained.in_parts() for unit in part):
        holds, by_captions = unit.reliable == "holds", unit.caption_faithfulness
        facts = {
            "labelled": bool(unit.labels),
            "abstained": unit.summary.abstained,
            "composed": unit.summary.origin == "composed",
            "several meanings": bool(unit.meanings),
            "tested": unit.reliable != "untested",
            "reliable": holds,
            "tested by captions": by_captions is not None,
            "reliable by captions": by_captions is not None and by_captions.reliable,
        }
        counts.update(name for name, is_true in facts.items() if is_true)
        for label in unit.labels[:1]:
            choice = (0 if label.evidence != "measured" else 1) if holds else 2
            correlation = unit.faithfulness.correlation if unit.faithfulness else 0.0
            if (choice, -correlation) < place:
                place, example = (choice, -correlation), label.concept
    return counts, example


def _left_out(unknown: Sequence[str]) -> str:
    """A line about the concepts that the embedder does not know; nothing where it knows all."""
    if not unknown:
        return ""
    shown = first_of(unknown, UNKNOWN_TOLD) + (", see --json" if len(unknown) > UNKNOWN_TOLD else "")
    return f"{len(unknown)} concepts left out, the embedder does not know them: {shown}\n"
