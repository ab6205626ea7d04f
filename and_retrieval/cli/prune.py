"""The verb `prune`: find the units of a concept, mask them, measure the cost, export the network without them."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..choices import ABLATIONS, BUDGET, COUNT, PICTURES, SELECTORS
from ..config import DEFAULT_ABLATION, DEFAULT_SELECTOR, DRAWS
from .options import (
    Result,
    add_device,
    add_embedder,
    add_trust,
    add_verb,
    announcer,
    device_of,
    glob,
    listed,
    new_file,
    number,
    one_of,
    opened_run,
    skipped_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..pruning.result import Pruned


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "prune",
        answer,
        "prune a concept from a network and measure what that costs",
        'prune mine/yamnet "dog bark" --budget 0.12 --export without_dog.safetensors',
    )
    verb.add_argument("run", metavar="NAME/RUN", help="run of the network")
    verb.add_argument(
        "concepts", nargs="+", metavar="CONCEPT", help="a few words; several concepts are pruned together"
    )
    verb.add_argument(
        "--selector", type=one_of("--selector", "selector", SELECTORS), default=DEFAULT_SELECTOR, metavar="NAME",
        help=f"how the units are found: {listed(SELECTORS, DEFAULT_SELECTOR)}",
    )  # fmt: skip
    verb.add_argument(
        "--ablate", type=one_of("--ablate", "ablation", ABLATIONS), default=DEFAULT_ABLATION, metavar="NAME",
        help="what pruned units put out: zero, or mean, their mean over the clips that were not held out (default: "
        f"{DEFAULT_ABLATION})",
    )  # fmt: skip
    verb.add_argument(
        "--layers", type=glob("--layers"), action="append", default=[], metavar="GLOB",
        help="layers to prune units in; repeatable (default: all recorded ones except the class units)",
    )  # fmt: skip
    verb.add_argument(
        "--budget", type=number("--budget", BUDGET), action="append", default=[], metavar="N",
        help="how many units to prune, or which share of them (below 1); repeatable (default: six shares, with the "
        "knee of the curve marked)",
    )  # fmt: skip
    verb.add_argument(
        "--draws", type=number("--draws", COUNT), default=DRAWS, metavar="N",
        help=f"how often random units are pruned for comparison (default: {DRAWS})",
    )  # fmt: skip
    verb.add_argument(
        "--export", type=new_file("--export", (".safetensors",)), metavar="FILE.safetensors",
        help="write the weights without the units pruned at the knee, and a card that describes them",
    )  # fmt: skip
    verb.add_argument(
        "--plot", type=new_file("--plot", PICTURES), metavar="FILE.svg|.png",
        help="draw the curves into this file (default: beside the result in the run's folder)",
    )  # fmt: skip
    verb.add_argument(
        "--target", metavar="SPEC",
        help="the network of the run, named again; needed where the run names code that you never named on this "
        "machine",
    )  # fmt: skip
    add_trust(verb)
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..pruning.curves import plotted
    from ..pruning.prune import prune
    from ..recording.target import load_recorded_target

    device = device_of(args)
    run = opened_run(args.run, args, device)
    result = prune(
        run,
        load_recorded_target(run, device, args.trust_remote_code, args.target),
        args.concepts,
        selector=args.selector,
        ablate=args.ablate,
        layers=tuple(args.layers),
        budgets=tuple(args.budget),
        draws=args.draws,
        export=args.export,
        progress=announcer(args)("masking", "clips"),
    )
    picture = plotted(run, result, args.plot)
    return {**result.answer(), "plot": str(picture) if picture else None}, _text(result, picture)


def _text(result: Pruned, picture: Path | None) -> str:
    best = result.best
    lines = [
        f"{' + '.join(result.concepts)}: {result.selector} over {', '.join(result.layers)}, to {result.ablate}"
    ]
    if result.unmeasured:
        lines.append(f"{best.units} units found; the effect is not measured: {result.unmeasured}")
    else:
        of_concept, rest = result.clips
        meant = ", ".join(dict.fromkeys(name for name in result.classes if name))
        lines.append(
            f"class {meant}, {of_concept} held-out clips, {rest} of other classes; change of mean probability, "
            "gap = rest - target; logit gap: the same in logits less their mean over all classes"
        )
        lines.append(result.table())
        lines.append(f"* the knee: {best.units} units")
        if best.beats_random is False:
            lines.append(
                "random units do as much: the network does not keep this concept in these layers alone"
            )
    lines += [f"note: {note}" for note in result.notes]
    if result.lost:
        lines.append(
            "other classes that lost most: "
            + ", ".join(f"{name} {change:+.3f}" for name, change in result.lost)
        )
    if result.removed:
        removed = ", ".join(f"{name} ({count})" for name, count in result.removed)
        lines.append(f"nearest concepts of the pruned units: {removed}")
    if picture:
        lines.append(f"curves   {picture}")
    if result.export:
        lines.append(f"exported {result.export}")
    return "\n".join(lines) + skipped_text([asdict(miss) for miss in result.skipped])
