"""The verb `prune`: find the units of a concept, mask them, say what is lost, export the network without them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .options import Result, add_device, add_trust, add_verb, announcer, device_of, opened_run

if TYPE_CHECKING:
    from ..pruning.result import Pruned

PICTURES = (".svg", ".png")


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "prune", answer, "remove a concept from a network and measure what that costs")
    verb.add_argument("run", metavar="NAME/RUN")
    verb.add_argument("concepts", nargs="+", metavar="CONCEPT", help="a few words; several go together")
    verb.add_argument(
        "--selector", default="selective", metavar="NAME",
        help="selective (default), soft_wpmi, cos_cubed, captions, retrieval, open, random, oracle",
    )  # fmt: skip
    verb.add_argument(
        "--layers", action="append", default=[], metavar="GLOB",
        help="recorded layers, repeatable (default: all but the class units)",
    )  # fmt: skip
    verb.add_argument(
        "--budget", action="append", default=[], type=float, metavar="N",
        help="units, or a share below 1; repeatable (default: several, the knee is marked)",
    )  # fmt: skip
    verb.add_argument("--draws", type=int, default=5, help="of random units, to compare with (default: 5)")
    verb.add_argument(
        "--export", metavar="FILE.safetensors", help="weights without the units at the knee, and a card"
    )
    verb.add_argument(
        "--plot", metavar="FILE.svg|png", help="curves (default: beside the result in the run's folder)"
    )
    add_trust(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    if args.draws < 1:
        raise InputError(f"--draws {args.draws}: draw random units at least once")
    plot = Path(args.plot).expanduser() if args.plot else None
    if plot and plot.suffix not in PICTURES:
        raise InputError(f"--plot {plot}: give a name that ends in .svg or .png")
    if plot and not plot.parent.is_dir():
        raise InputError(f"{plot.parent} does not exist; make it first")
    from ..pruning.curves import plotted

    run = opened_run(args.run, args, device_of(args))
    result = run.prune(
        *args.concepts,
        selector=args.selector,
        layers=tuple(args.layers),
        budgets=tuple(args.budget),
        draws=args.draws,
        export=args.export,
        device=device_of(args),
        trust_remote_code=args.trust_remote_code,
        progress=announcer(args)("masking", "clips"),
    )
    picture = plotted(run, result, plot)
    facts = result.plain()
    # One name for one concept, which is what most callers ask for.
    told = {
        "concept": " + ".join(result.concepts),
        **facts,
        "layers": list(result.layers),
        "sizes": facts["layers"],
    }
    return {**told, "plot": str(picture) if picture else None}, _text(result, picture)


def _text(result: Pruned, picture: Path | None) -> str:
    best = result.best
    lines = [f"{' + '.join(result.concepts)}: {result.selector} over {', '.join(result.layers)}"]
    if result.unmeasured:
        lines.append(f"{best.units} units found; the effect is not measured: {result.unmeasured}")
    else:
        own, rest = result.clips
        meant = ", ".join(dict.fromkeys(name for name in result.classes if name))
        lines.append(
            f"class {meant}, {own} held-out clips, {rest} of other classes; change of mean probability, "
            "gap = rest - target"
        )
        lines.append(result.table())
        lines.append(f"* the knee: {best.units} units")
        if best.beats_random is False:
            lines.append(
                "no more than random units would do: the network does not keep this in these layers alone"
            )
    lines += [f"note: {note}" for note in result.notes]
    if result.lost:
        lines.append(
            "lost most besides: " + ", ".join(f"{name} {change:+.3f}" for name, change in result.lost)
        )
    if result.removed:
        removed = ", ".join(f"{name} ({count})" for name, count in result.removed)
        lines.append(f"nearest concepts of the removed units: {removed}")
    if picture:
        lines.append(f"curves   {picture}")
    if result.export:
        lines.append(f"exported {result.export}")
    return "\n".join(lines)
