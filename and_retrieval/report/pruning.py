"""The report's section on pruning: the results of `prune` in the run's folder, with their curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..pruning.curves import curve_of, draw_curves
from ..pruning.result import stored_results
from ..recording.recording import Recording
from .data import Picture, Section

EXPLAINED = (
    "Units of a concept were masked, set to zero or to their mean over the seen clips, and the change was measured on "
    "held-out clips. The column concept is the change "
    "of the mean probability of the concept's class on its clips; the column others is that of the other classes on "
    "theirs. The gap is others minus concept. Beside it are the gap when as many random units of the same layers are "
    "masked, and the gap of units chosen by the clips' labels. The logit gap is in logits less their mean over all "
    "classes, with that of random units in brackets. Each row is the budget at the knee of its curve."
)
HEAD = (
    "pruned", "units", "concept", "others", "gap", "random", "by labels", "logit gap", "accuracy", "accuracy of others",
    "other classes that lost most", "concepts nearest to the units",
)  # fmt: skip
SHOWN = 3


def pruning_sections(recording: Recording) -> tuple[Section, ...]:
    """The report's section on pruning; empty if nothing was pruned."""
    results = stored_results(recording)
    if not results:
        return ()
    curves = [curve for curve in map(curve_of, results) if curve is not None and len(curve.gaps) > 1]
    return (
        Section(
            title="Pruning",
            paragraphs=(
                EXPLAINED,
                *(
                    f"{_title(result)}: not measured, {result['unmeasured']}."
                    for result in results
                    if result["unmeasured"] is not None
                ),
            ),
            table=(HEAD, *map(_row, results)),
            pictures=tuple(
                Picture(
                    draw_curves(curve), "image/svg+xml", f"Gap over the share of units pruned: {curve.title}"
                )
                for curve in curves
            ),
        ),
    )


def _title(result: Mapping[str, Any]) -> str:
    mean = ", to the mean" if result["ablate"] == "mean" else ""
    return f"{' + '.join(result['concepts'])} by {result['selector']}{mean}"


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
    budget = result["budgets"][result["chosen"]]
    lost = ", ".join(f"{name} {change:+.2f}" for name, change in result["lost"][:SHOWN])
    removed = ", ".join(f"{name} ({count})" for name, count in result["removed"][:SHOWN])
    before = [budget[f"accuracy_{side}_before"] for side in ("target", "rest")]
    after = [budget[f"accuracy_{side}"] for side in ("target", "rest")]
    accuracy = [
        "" if old is None else f"{old:.2f} → {new:.2f}" for old, new in zip(before, after, strict=True)
    ]
    figures = [
        "" if budget[name] is None else f"{budget[name]:+.3f}"
        for name in ("delta_target", "delta_rest", "gap", "random_gap", "oracle_gap")
    ]
    centred, random = budget["gap_centred"], budget["random_gap_centred"]
    logits = (
        "" if centred is None else f"{centred:+.2f}" + (f" ({random:+.2f})" if random is not None else "")
    )
    size = f"{budget['units']} ({budget['share']:.1%})"
    return (_title(result), size, *figures, logits, *accuracy, lost, removed)
