"""The verb `compare`: two runs side by side."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..choices import PICTURES
from .options import Result, add_device, add_embedder, add_verb, device_of, new_file, opened_run

if TYPE_CHECKING:
    from ..comparison.profile import LayerProfile
    from ..comparison.statistics import Interval


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    verb = add_verb(
        verbs,
        "compare",
        answer,
        "compare two explained runs, layer by layer",
        "compare mine/cnn mine/ast --out both.png",
    )
    verb.add_argument("a", metavar="NAME/RUN", help="first run")
    verb.add_argument("b", metavar="NAME/RUN", help="second run")
    verb.add_argument(
        "--out", type=new_file("--out", PICTURES), metavar="FILE.png|.svg",
        help="draw the figures of all layers into this file",
    )  # fmt: skip
    verb.add_argument(
        "--table", type=new_file("--table", (".csv",)), metavar="FILE.csv",
        help="write the figures of all layers into this table",
    )  # fmt: skip
    add_embedder(verb)
    add_device(verb)


def answer(args: argparse.Namespace) -> tuple[Result, str]:
    """Run the verb; return its result as JSON and as text."""
    from ..comparison.compare import as_json, compare
    from ..comparison.picture import draw
    from ..comparison.table import write_table

    device = device_of(args)
    compared = compare(opened_run(args.a, args, device), opened_run(args.b, args, device))
    picture = str(draw(compared, args.out)) if args.out else None
    table = str(write_table(compared, args.table)) if args.table else None
    lines = [
        *_table(compared.a, compared.target_a, compared.layers_a),
        *(_table(compared.b, compared.target_b, compared.layers_b) if compared.b != compared.a else ()),
        "",
        *compared.findings,
        *(f"left out: {left}" for left in compared.left_out),
        "",
        *compared.caveats,
        *([f"picture  {picture}"] if picture else ()),
        *([f"table  {table}"] if table else ()),
    ]
    return {**as_json(compared), "picture": picture, "table": table}, "\n".join(lines)


def _table(run: str, target: str, layers: tuple[LayerProfile, ...]) -> list[str]:
    """One line per layer of a run, with chance in brackets."""
    width = max((len(layer.name) for layer in layers), default=0)
    lines = [
        f"{run} ({target})",
        f"  {'layer':{width}}  units  reliable  faithfulness (best of ten)  polysemanticity (random)  "
        "concepts (effective)  R² concepts  acoustics (shuffled)  kinds: concept  acoustic  both",
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
            f"{_value(acoustics.r2 if acoustics else None):>9} "
            f"{_chance(acoustics.shuffled if acoustics else None):10}  "
            f"{_value(layer.kinds.get('concept')):>14}  {_value(layer.kinds.get('acoustic')):>8}  "
            f"{_value(layer.kinds.get('both')):>4}"
        )
    return lines


def _value(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.2f}"


def _chance(value: float | None) -> str:
    return "" if value is None else f"({value:.2f})"
