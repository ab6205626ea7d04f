"""Everything that is said and measured of one unit, for its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..clips.index import ClipIndex
from ..explanation.axes import AXES
from ..explanation.lines import unit_line
from ..numerics import standardised
from ..recording.activations import HELD_OUT
from ..types import Explanation
from .opened import OpenRun

BINS = 40  # of the distribution of activations
QUANTILES = (0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1)
NEAREST = 8  # units listed as like this one, and as firing together
CORRELATED_UP_TO = 20_000
"""Units of a run up to which all are looked at for those that fire together; beyond, those of the unit's layer."""


COMPARED = 4_000
"""Seen clips by which units that fire together are found; of more, so many, evenly spread. With so many, a correlation
of 0 comes out below 0.04 in 99 of 100 cases."""


def unit_page(run: OpenRun, row: int) -> dict[str, Any]:
    """A unit as its exported line, with what else its page shows.

    Args:
        run: The run.
        row: Row of the unit in the unit index.

    Returns:
        The fields of an exported line, see `explanation.lines`; and `chance` (polysemanticity of random clips), `axes`
        (of the tuning curves), `activations` (histogram), `quantiles` (clips by how strongly the unit responded),
        `nearest` (units whose strongest clips are alike) and `together` (units whose activations go with its own).
    """
    recording = run.recording
    layer, unit = recording.unit_index.unit(row)
    explained = run.explained
    if explained is not None:
        line = unit_line(explained.at([row], clips=True)[0], explained)
        chance: float | None = explained.manifest.random_polysemanticity
    else:
        line = {
            "layer": layer,
            "unit": unit,
            "labels": [],
            "meanings": [],
            "tuning": [],
            **_evidence(run, row),
        }
        chance = None
    for clip in (*line["top"], *line["low"]):
        clip["seconds"] = recording.index.clips[clip["row"]].duration
    return {
        **line,
        "run": recording.name,
        "recorded": recording.identity,
        "explained": explained is not None,
        "problem": run.problem,
        "chance": chance,
        "axes": {
            name: {"words": a.words, "unit": a.unit, "logarithmic": a.logarithmic} for name, a in AXES.items()
        },
        **_distribution(run, layer, unit),
        "nearest": _nearest(run, row),
        "together": _together(run, layer, unit),
    }


def clip_facts(index: ClipIndex, row: int, phrase: str | None = None) -> dict[str, Any]:
    """What is shown of a clip; `seconds` is its length, as `duration` is that of a moment in search results."""
    clip = index.clips[row]
    return {
        "row": row,
        "path": clip.file,
        "start": clip.start,
        "seconds": clip.duration,
        "label": clip.label,
        "caption": phrase or clip.caption,
        "captions": list(clip.captions),
    }


def _evidence(run: OpenRun, row: int) -> dict[str, Any]:
    """Top and bottom clips of a unit that is not explained."""
    layer, unit = run.recording.unit_index.unit(row)
    evidence = run.recording.layer(layer)

    def kept(name: str) -> list[dict[str, Any]]:
        of = getattr(evidence, name)
        return [
            {
                **clip_facts(run.recording.index, int(clip)),
                "peak": float(of.peaks[unit, place]),
                "activation": float(of.values[unit, place]),
            }
            for place, clip in enumerate(of.rows[unit])
            if clip >= 0
        ]

    return {"top": kept("top"), "low": kept("low"), "reliable": "untested", "kind": None, "summary": None}


def _distribution(run: OpenRun, layer: str, unit: int) -> dict[str, Any]:
    """Histogram of the unit's activations on seen and on held-out clips, and seen clips at some quantiles."""
    recording = run.recording
    rows, seen = recording.seen_activations(layer)
    values = np.asarray(seen[:, unit], np.float64)
    finite = np.isfinite(values)
    rows, values = rows[finite], values[finite]
    held = np.asarray(recording.activations(layer, HELD_OUT)[:, unit], np.float64)
    held = held[np.isfinite(held)]
    if not len(values):
        return {"activations": None, "quantiles": []}
    span = (
        float(min(values.min(), held.min(initial=np.inf))),
        float(max(values.max(), held.max(initial=-np.inf))),
    )
    counts, edges = np.histogram(values, BINS, span)
    order = np.argsort(values, kind="stable")
    phrases = run.explained.phrases if run.explained else {}
    quantiles = []
    for quantile in QUANTILES:
        place = int(order[round(quantile * (len(order) - 1))])
        clip = int(rows[place])
        facts = clip_facts(recording.index, clip, phrases.get(clip))
        quantiles.append({**facts, "quantile": quantile, "activation": float(values[place]), "peak": None})
    return {
        "activations": {
            "low": span[0],
            "high": span[1],
            "edges": [float(f"{edge:.5g}") for edge in edges],
            "seen": counts.tolist(),
            "held_out": np.histogram(held, BINS, span)[0].tolist(),
            "mean": float(values.mean()),
            "std": float(values.std()),
        },
        "quantiles": quantiles,
    }


def _nearest(run: OpenRun, row: int) -> list[dict[str, Any]]:
    """Units whose neuron vectors are nearest, with the cosine."""
    units = run.recording.unit_index
    vector = units.vectors(np.array([row]))[0]
    if not vector.any():
        return []
    scores, rows = units.nearest(vector, NEAREST + 1)
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    return _named(run, [(score, other) for score, other in pairs if other != row][:NEAREST])


def _together(run: OpenRun, layer: str, unit: int) -> list[dict[str, Any]]:
    """Units whose activations on the seen clips correlate most with the unit's, with Pearson's correlation."""
    recording = run.recording
    table = run.table
    layers = [name for name, _ in table.layers] if len(table) <= CORRELATED_UP_TO else [layer]
    kept = len(recording.activations(layer, "seen"))
    clips = np.linspace(0, kept - 1, min(kept, COMPARED)).astype(np.intp)
    values = np.nan_to_num(np.asarray(recording.activations(layer, "seen")[clips, unit], np.float64))
    values = standardised(values[:, None])[:, 0]
    best: list[tuple[float, int]] = []
    for name in layers:
        others = np.nan_to_num(recording.activations(name, "seen")[clips])
        spread = others.std(axis=0)
        fit = (values @ (others - others.mean(axis=0))) / len(values)
        correlation = np.where(spread > 0, fit / np.where(spread > 0, spread, 1), 0)
        rows = recording.unit_index.rows_of(name)
        if name == layer:
            correlation[unit] = -np.inf  # the unit itself
        top = np.argsort(-correlation, kind="stable")[:NEAREST]
        best += [(float(correlation[place]), rows.start + int(place)) for place in top]
    best = [pair for pair in sorted(best, key=lambda pair: (-pair[0], pair[1])) if pair[0] > 0]
    return _named(run, best[:NEAREST])


def _named(run: OpenRun, scored: Sequence[tuple[float, int]]) -> list[dict[str, Any]]:
    """Units by (score, row), with their first labels."""
    rows = [row for _, row in scored]
    explanations: Sequence[Explanation | None] = [None] * len(rows)
    if run.explained:
        explanations = run.table.explanations(rows)
    named = []
    for (score, row), unit in zip(scored, explanations, strict=True):
        layer, number = run.table.place(row)
        label = unit.labels[0].concept if unit and unit.labels else None
        named.append({"layer": layer, "unit": number, "label": label, "score": round(score, 4)})
    return named
