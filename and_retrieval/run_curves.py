"""Results of `prune` that lie in a run's folder, and their curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .curves import Curve, draw_curves
from .errors import InputError
from .pruned import Pruned
from .run_prune import FILE, recorded
from .runs import RecordedRun


def plotted(run: RecordedRun, result: Pruned, path: Path | None = None) -> Path | None:
    """Draw a result's curves, as SVG into the run's folder or into a .svg or .png file; the file, or None.

    Without a path there is none for a single budget, or where nothing was measured.

    Raises:
        InputError: A path was given, but nothing was measured, or it cannot be written.
    """
    curve = curve_of(result.plain())
    if path is None:
        if curve is None or len(curve.gaps) < 2:
            return None
        return run.folder.write_text(f"prune-{result.slug}.svg", draw_curves(curve).decode())
    if curve is None:
        raise InputError(f"there are no curves to draw: {result.unmeasured}")
    try:
        path.write_bytes(draw_curves(curve, "png" if path.suffix == ".png" else "svg"))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})") from None
    return path


def curve_of(result: Mapping[str, Any]) -> Curve | None:
    """The curve of a stored result, see `Pruned.plain`; None where nothing was measured."""
    budgets = result["budgets"]
    if result["unmeasured"] is not None:
        return None

    def column(name: str) -> list[float] | None:
        values = [one[name] for one in budgets]
        return None if None in values else values

    return Curve(
        title=f"{' + '.join(result['concepts'])}, {result['selector']}",
        shares=[one["share"] for one in budgets],
        gaps=[one["gap"] for one in budgets],
        random=column("random_gap"),
        spread=column("random_gap_std"),
        oracle=column("oracle_gap") if result["selector"] != "oracle" else None,
        knee=result["chosen"],
    )


def stored_results(run: RecordedRun) -> list[dict[str, Any]]:
    """Results of `prune` in the run's folder, as `Pruned.plain` gives them, by name; none of an earlier recording."""
    found = []
    for path in sorted(run.folder.path.glob(FILE.format("*"))):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["recorded"] == recorded(run):
                found.append(content)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged or foreign: made anew by the next prune
    return found
