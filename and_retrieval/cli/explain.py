"""The verb `explain`: labels, tests and sentences."""

from __future__ import annotations

import argparse
from typing import Any

from .options import Result, add_device, add_verb, announcer, device_of, opened_run


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "explain", answer, "label every unit and write one sentence about it")
    verb.add_argument("run", metavar="NAME/RUN")
    verb.add_argument(
        "--concepts", action="append", default=[], metavar="BANK|FILE",
        help="audioset (default), esc50, acoustic, labels (of the clips), or a .txt, .csv, .json; repeatable",
    )  # fmt: skip
    verb.add_argument(
        "--score",
        default="soft-wpmi",
        help="soft-wpmi (default), wpmi, top-mean, cos, cos-cubed, rank-reorder, selective",
    )
    verb.add_argument(
        "--evidence", default="audio", metavar="audio|captions|both",
        help="what is held against the concepts (default: audio)",
    )  # fmt: skip
    verb.add_argument(
        "-k", type=int, help="top clips that are looked at (default: as many as the unit mainly responds to)"
    )
    verb.add_argument(
        "--rank", default="score", metavar="score|llm|both",
        help="what orders a unit's best labels: their score (default), the language model, or both",
    )  # fmt: skip
    verb.add_argument("--llm", metavar="NAME|PATH|none", help="language model (default: see `models list`)")
    verb.add_argument(
        "--summaries", type=int, metavar="N", help="sentences for the N clearest units per layer only"
    )
    verb.add_argument(
        "--open-concepts", choices=("auto", "yes", "no"), default="auto", metavar="auto|yes|no",
        help="words of the captions that describe a unit (default: auto, where the tagger is installed)",
    )  # fmt: skip
    verb.add_argument(
        "--ask-adjectives", action="store_true",
        help="let the language model say which adjectives that are not listed can describe a sound",
    )  # fmt: skip
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from ..config import LabelConfig, OpenConceptConfig, SummaryConfig
    from ..explanation.explain import DEFAULT_BANK, explain

    run = opened_run(args.run, args, device_of(args))
    llm = args.llm or SummaryConfig().llm
    explanations = explain(
        run,
        tuple(args.concepts) or (DEFAULT_BANK,),
        LabelConfig(score=args.score, evidence=args.evidence, k=args.k, rank=args.rank),
        SummaryConfig(llm=llm, units=args.summaries),
        announcer(args),
        OpenConceptConfig(wanted=args.open_concepts, ask_adjectives=args.ask_adjectives),
    )
    units, labelled = len(explanations), sum(bool(e.labels) for e in explanations)
    abstained = sum(e.summary.abstained for e in explanations)
    reliable = sum(e.reliable == "holds" for e in explanations)
    result = {"run": run.name, "units": units, "labelled": labelled, "abstained": abstained, "llm": llm}
    result["several_meanings"] = sum(bool(e.meanings) for e in explanations)
    result["reliable"] = reliable if any(e.reliable != "untested" for e in explanations) else None
    by_captions = [e.caption_faithfulness.reliable for e in explanations if e.caption_faithfulness]
    result["reliable_by_captions"] = sum(by_captions) if by_captions else None
    trusted = f"{reliable} of them reliably, " if result["reliable"] is not None else ""
    text = (
        f"{labelled} of {units} units labelled, {trusted}{units - abstained} sentences "
        f"by {llm} ({run.folder.path})\n"
        f'next     and-retrieval report {run.name}, and-retrieval search {run.name} "water drops",'
        f" and-retrieval export {run.name}"
    )
    return result, text
