"""Results of `prune` that lie in a run's folder, their curves, and what the report says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runs import RecordedRun
from ..unlearning.pruned import Pruned
from ..unlearning.run import FILE
from .curves import Curve, draw_curves
from .data import Picture, Section

EXPLAINED = (
    "Units of a concept were masked, and the change measured on held-out clips: of the mean probability of the class "
    "that is to be forgotten, on its own clips, and of the other classes on theirs. The gap is the one less the other; "
    "beside it that of as many random units of the same layers, and of units chosen by the clips' labels. Each row is "
    "the budget at the knee of its curve."
)
HEAD = (
    "forgotten", "units", "concept", "others", "gap", "random", "by labels", "accuracy", "accuracy of others",
    "lost most besides", "nearest concepts of the units",
)  # fmt: skip
SHOWN = 3


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
            if content["recorded"] == run.recorded:
                found.append(content)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged or foreign: made anew by the next prune
    return found


def forgetting(run: RecordedRun) -> tuple[Section, ...]:
    """The report's section on what was pruned of a run: nothing where nothing was."""
    results = stored_results(run)
    if not results:
        return ()
    curves = [curve for curve in map(curve_of, results) if curve is not None and len(curve.gaps) > 1]
    return (
        Section(
            title="Forgetting",
            paragraphs=(
                EXPLAINED,
                *(
                    f"{_title(one)}: not measured, {one['unmeasured']}."
                    for one in results
                    if one["unmeasured"] is not None
                ),
            ),
            table=(HEAD, *(_row(one) for one in results)),
            pictures=tuple(
                Picture(
                    draw_curves(curve), "image/svg+xml", f"Gap over the share of units removed: {curve.title}"
                )
                for curve in curves
            ),
        ),
    )


def _title(result: Mapping[str, Any]) -> str:
    return f"{' + '.join(result['concepts'])} by {result['selector']}"


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
    one = result["budgets"][result["chosen"]]
    lost = ", ".join(f"{name} {change:+.2f}" for name, change in result["lost"][:SHOWN])
    removed = ", ".join(f"{name} ({count})" for name, count in result["removed"][:SHOWN])
    before = [one[f"accuracy_{side}_before"] for side in ("target", "rest")]
    after = [one[f"accuracy_{side}"] for side in ("target", "rest")]
    accuracy = [
        "" if old is None else f"{old:.2f} → {new:.2f}" for old, new in zip(before, after, strict=True)
    ]
    figures = [
        "" if one[name] is None else f"{one[name]:+.3f}"
        for name in ("delta_target", "delta_rest", "gap", "random_gap", "oracle_gap")
    ]
    return (_title(result), f"{one['units']} ({one['share']:.1%})", *figures, *accuracy, lost, removed)
