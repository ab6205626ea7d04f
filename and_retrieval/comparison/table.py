"""A comparison as a CSV: one row per run and layer, every figure with the ends of its interval."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..files import writing
from .compare import Comparison, as_json


def write_table(comparison: Comparison, path: Path) -> Path:
    """Write the layers of both runs, in one step; returns the file. A figure that could not be measured is empty."""
    plain = as_json(comparison)
    runs = [(comparison.a, comparison.target_a, plain["layers_a"])]
    if comparison.b != comparison.a:
        runs.append((comparison.b, comparison.target_b, plain["layers_b"]))
    rows = [
        {"run": run, "target": target, **dict(_flat(layer))}
        for run, target, layers in runs
        for layer in layers
    ]
    with writing(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _flat(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Columns of nested figures, their names joined by `_`; an interval's own value has the name of the interval."""
    for name, value in figures.items():
        column = before.rstrip("_") if before and name == "value" else f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{column}_")
        else:
            yield column, value
