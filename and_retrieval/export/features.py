"""Units as JSON features in the manner of Neuronpedia, with clips in place of tokens.

    {"modelId", "source", "features": [{"modelId", "layer", "index", "explanations", "activations", "maxActApprox",
     "frac_nonzero", "freq_hist_data_bar_values", "freq_hist_data_bar_heights"}]}

`explanations` holds the sentence and the labels, each with the name of what made it and its scores; `activations` the
strongest clips, with value and time of the peak; the histogram counts all clips that are not held out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..explanation.stored import Explained
from ..numerics import Array, Doubles, chunks
from ..types import Explanation

BARS = 30


def write_features(explained: Explained, path: Path) -> None:
    """Write all units into one JSON file, layer by layer."""
    model = explained.recording.manifest.target
    head = {"modelId": model, "source": explained.recording.name}
    with path.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        first = True
        for layer in explained.recording.manifest.layers:
            rows = explained.recording.unit_index.rows_of(layer.name)
            _, activations = explained.recording.seen_activations(layer.name)
            edges, counts = histograms(activations)
            nonzero = np.nan_to_num((activations != 0).mean(axis=0))
            for unit in explained[rows]:
                feature = {
                    **_feature(explained, unit),
                    "frac_nonzero": round(float(nonzero[unit.unit]), 6),
                    "freq_hist_data_bar_values": _finite(edges[unit.unit]),
                    "freq_hist_data_bar_heights": counts[unit.unit].tolist(),
                }
                stream.write(("" if first else ",") + "\n" + json.dumps(feature, ensure_ascii=False))
                first = False
        stream.write("\n]}\n")


def histograms(activations: Array) -> tuple[Doubles, Array]:
    """Lower edges of the bars, float64 [units, bars], and their counts, int [units, bars]; NaN is left out.

    Args:
        activations: float [clips, units].
    """
    units = activations.shape[1]
    edges, counts = np.full((units, BARS), np.nan), np.zeros((units, BARS), np.int64)
    for part in chunks(units, len(activations)):
        values = np.asarray(activations[:, part], np.float64)
        present = np.isfinite(values)
        low = np.where(present, values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(present, values, -np.inf).max(axis=0, initial=-np.inf)
        known = np.isfinite(low)
        width = np.where(known & (high > low), (high - low) / BARS, 1.0)
        with np.errstate(invalid="ignore"):
            bar = np.minimum(np.nan_to_num((values - low) / width), BARS - 1).astype(np.int64)
        place = bar + np.arange(values.shape[1]) * BARS
        counts[part] = np.bincount(place[present], minlength=values.shape[1] * BARS).reshape(-1, BARS)
        edges[part][known] = low[known, None] + width[known, None] * np.arange(BARS)
    return edges, counts


def _feature(explained: Explained, unit: Explanation) -> dict[str, Any]:
    clips, phrases = explained.recording.index.clips, explained.phrases
    return {
        "modelId": explained.recording.manifest.target,
        "layer": unit.layer,
        "index": str(unit.unit),
        "explanations": _explanations(explained, unit),
        "maxActApprox": unit.top[0].activation if unit.top else None,
        "activations": [
            {
                "path": clips[shown.row].path,
                "start": clips[shown.row].start,
                "maxValue": shown.activation,
                "maxValueTime": shown.peak,
                "text": phrases[shown.row],
            }
            for shown in unit.top
        ],
    }


def _explanations(explained: Explained, unit: Explanation) -> list[dict[str, Any]]:
    made = explained.manifest
    sentences = []
    if unit.summary.text:
        author = made.summaries.llm if unit.summary.origin in ("written", "repaired") else "rule"
        sentences.append(
            {"description": unit.summary.text, "typeName": "sentence", "explanationModelName": author}
        )
    labels: list[dict[str, Any]] = [
        {
            "description": label.concept,
            "typeName": "label",
            "explanationModelName": scorer,
            "scores": [{"name": scorer, "value": label.score}],
        }
        for label in unit.labels
        for scorer in ("rank correlation" if label.evidence == "measured" else made.labelling.score,)
    ]
    if labels and unit.faithfulness:
        test = unit.faithfulness
        labels[0]["scores"] += [
            {"name": "correlation", "value": test.correlation, "best_of_ten_random": test.best_correlation},
            {"name": "auprc", "value": test.auprc, "chance": test.base_rate},
        ]
        labels[0]["reliable"] = unit.reliable
    return [*sentences, *labels]


def _finite(values: Doubles) -> list[float]:
    return [float(f"{value:.6g}") for value in values if np.isfinite(value)]
