"""The verb `compare`: two runs side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Result, add_device, add_embedder, add_verb, device_of, opened_run

if TYPE_CHECKING:
    from ..comparison.profile import LayerProfile
    from ..comparison.statistics import Interval


def add(verbs: Any) -> None:
    """Its options."""
    verb = add_verb(verbs, "compare", answer, "hold two explained runs against each other, layer by layer")
    verb.add_argument("a", metavar="NAME/RUN")
    verb.add_argument("b", metavar="NAME/RUN")
    verb.add_argument("--out", metavar="FILE.png|.svg", help="draw the figures of every layer")
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Its result as JSON and as text."""
    from ..comparison.compare import as_json, compare
    from ..comparison.picture import check_format, draw

    out = Path(args.out) if args.out else None
    if out:
        check_format(out)
    device = device_of(args)
    found = compare(opened_run(args.a, args, device), opened_run(args.b, args, device))
    picture = str(draw(found, out)) if out else None
    lines = [
        *_table(found.a, found.target_a, found.layers_a),
        *(_table(found.b, found.target_b, found.layers_b) if found.b != found.a else ()),
        "",
        *found.findings,
        *(f"left out: {what}" for what in found.left_out),
        "",
        *found.caveats,
        *([f"picture  {picture}"] if picture else ()),
    ]
    return {**as_json(found), "picture": picture}, "\n".join(lines)


def _table(run: str, target: str, layers: tuple[LayerProfile, ...]) -> list[str]:
    """A run's layers, chance in brackets."""
    width = max((len(layer.name) for layer in layers), default=0)
    lines = [
        f"{run} ({target})",
        f"  {'layer':{width}}  units  reliable  faithfulness (best of ten)  polysemanticity (random)  "
        "concepts (effective)  R² concepts  acoustics (shuffled)",
    ]
    for layer in layers:
        lean = layer.leaning
        concepts, acoustics = (lean.concepts, lean.acoustics) if lean else (None, None)
        lines.append(
            f"  {layer.name:{width}}  {layer.units:5}  {_value(layer.reliable):>8}  "
            f"{_value(layer.correlation):>12} {_chance(layer.best_correlation):13}  "
            f"{_value(layer.polysemanticity):>15} {_chance(layer.random_polysemanticity):8}  "
            f"{layer.concepts:8} {f'({layer.effective_concepts:.1f})':11}  "
            f"{_value(concepts.r2 if concepts else None):>11}  "
            f"{_value(acoustics.r2 if acoustics else None):>9} {_chance(acoustics.shuffled if acoustics else None)}"
        )
    return lines


def _value(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.2f}"


def _chance(value: float | None) -> str:
    return "" if value is None else f"({value:.2f})"
