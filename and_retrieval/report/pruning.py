"""What the report says of pruning: the results of `prune` in a run's folder, with their curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..pruning.curves import curve_of, draw_curves
from ..pruning.result import stored_results
from ..recording.recording import Recording
from .data import Picture, Section

EXPLAINED = (
    "Units of a concept were masked, and the change measured on held-out clips: of the mean probability of the class "
    "to be pruned, on its own clips, and of the other classes on theirs. The gap is the one less the other; "
    "beside it that of as many random units of the same layers, and of units chosen by the clips' labels. Each row is "
    "the budget at the knee of its curve."
)
HEAD = (
    "pruned", "units", "concept", "others", "gap", "random", "by labels", "accuracy", "accuracy of others",
    "lost most besides", "nearest concepts of the units",
)  # fmt: skip
SHOWN = 3


def pruning_sections(run: Recording) -> tuple[Section, ...]:
    """The report's section on what was pruned of a run: nothing where nothing was."""
    results = stored_results(run)
    if not results:
        return ()
    curves = [curve for curve in map(curve_of, results) if curve is not None and len(curve.gaps) > 1]
    return (
        Section(
            title="Pruning",
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
