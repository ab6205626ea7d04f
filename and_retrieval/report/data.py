"""The content of a report, and its tables for the page: in these, units refer to layers, concepts, clips by number."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ..clips.bands import band_edges
from ..explanation.axes import AXES
from ..explanation.faithfulness import LEVEL
from ..explanation.tuned_concepts import in_words
from ..types import Explanation, Kind, Label, Meaning, Shown, Summary, Tuning, UnitFaithfulness

FREQUENT = 8  # labels listed in a layer's overview
BINS = 30  # of the distribution of scores
LEAST_DRAWN = 0.15  # partial correlation; profiles that nowhere reach it are not drawn


@dataclass(frozen=True)
class Picture:
    """A picture in a section: the file's content, its media type (image/png, image/svg+xml), its description."""

    content: bytes
    media_type: str
    description: str


@dataclass(frozen=True)
class Section:
    """A part of the report between the layers and the units.

    Attributes:
        title: Heading.
        paragraphs: Text under the heading.
        table: Rows of cells, starting with the names of the columns; may be empty.
        pictures: Pictures below the table.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the page says about a clip: file, start in the file (seconds), and its captions, the typical one first."""

    path: str
    start: float
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportData:
    """The content of a report.

    Attributes:
        title: Heading and window title.
        facts: Name -> value, shown under the title in this order.
        notes: Warnings and remarks; each is a paragraph.
        layers: Names of the layers, in the order in which the page shows them.
        explanations: One per unit; a `Shown.row` below 0 has no sound.
        clips: Row -> facts of the clip, for every row that the explanations show.
        concept_hits: Concept -> (index into `explanations`, score) pairs, best first; the score is None for a unit that
            measured sound explains by the concept.
        layer_facts: Layer -> (name, value) pairs shown in its overview.
        random_polysemanticity: Polysemanticity of random clips, shown beside that of every unit; None if unknown.
        sections: Further parts of the page.
    """

    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    layers: tuple[str, ...]
    explanations: Sequence[Explanation]
    clips: Mapping[int, ClipFacts]
    concept_hits: Mapping[str, Sequence[tuple[int, float | None]]]
    layer_facts: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    random_polysemanticity: float | None = None
    sections: Sequence[Section] = ()


def check(data: ReportData) -> None:
    """Check that the parts of a report belong together.

    Raises:
        ValueError: An explanation or a fact belongs to an unknown layer, a unit is explained twice, a concept hit
            points outside `explanations`, or a meaning names a clip that is not among its unit's top clips.
    """
    names = set(data.layers)
    for unit in data.explanations:
        if unit.layer not in names:
            raise ValueError(f"unit {unit.unit} is of layer {unit.layer!r}, which is not in layers")
        if any(not 0 <= place < len(unit.top) for meaning in unit.meanings for place in meaning.clips):
            raise ValueError(f"a meaning of unit {unit.layer}:{unit.unit} names a clip that is not in top")
    if unknown := [layer for layer in data.layer_facts if layer not in names]:
        raise ValueError(f"there are facts about layer {unknown[0]!r}, which is not in layers")
    for (layer, number), times in Counter((unit.layer, unit.unit) for unit in data.explanations).items():
        if times > 1:
            raise ValueError(f"unit {layer}:{number} is explained {times} times")
    for concept, hits in data.concept_hits.items():
        if any(not 0 <= i < len(data.explanations) for i, _ in hits):
            raise ValueError(f"a hit of concept {concept!r} points outside the explanations")


def text_tables(data: ReportData) -> dict[str, Any]:
    """The page's text as JSON-able tables."""
    numbers = _Numbers()
    layer_number = {name: number for number, name in enumerate(data.layers)}
    units = [_unit(unit, layer_number[unit.layer], numbers) for unit in data.explanations]
    return {
        "title": data.title,
        "facts": [[name, value] for name, value in data.facts.items()],
        "notes": list(data.notes),
        "layers": [
            layer_overview(
                name, [e for e in data.explanations if e.layer == name], data.layer_facts.get(name, ())
            )
            for name in data.layers
        ],
        "sections": [_section(section) for section in data.sections],
        "bands": _drawn(band_edges()[:, 1].tolist()),
        "level": LEVEL,
        "randomSpread": data.random_polysemanticity,
        "scoreRange": _score_range(data.explanations),
        "concepts": list(numbers.concepts),
        "axes": [_axis(quality, centres) for quality, centres in numbers.axes],
        "clips": [_clip(row, data.clips[row]) for row in numbers.clips],
        "units": units,
        "hits": [
            [name, [[i, None if score is None else _number(score)] for i, score in hits]]
            for name, hits in data.concept_hits.items()
        ],
    }


@dataclass(frozen=True)
class _Numbers:
    """Numbers the concepts, clips and axes of curves in the order in which units first refer to them.

    Attributes:
        concepts: Concept -> number.
        clips: Row -> number.
        axes: (quality, centres) -> number.
    """

    concepts: dict[str, int] = field(default_factory=dict)
    clips: dict[int, int] = field(default_factory=dict)
    axes: dict[tuple[str, tuple[float, ...]], int] = field(default_factory=dict)

    def clip(self, shown: Shown) -> list[Any]:
        """A clip of a unit: its number, peak and activation."""
        number = self.clips.setdefault(shown.row, len(self.clips))
        return [number, _number(shown.peak), _number(shown.activation)]

    def labels(self, labels: Sequence[Label]) -> list[list[Any]]:
        """Labels: the concept's number, the score and the source of the label."""
        return [
            [self.concepts.setdefault(x.concept, len(self.concepts)), _number(x.score), x.evidence]
            for x in labels
        ]

    def curve(self, tuning: Tuning) -> list[Any]:
        """A tuning curve: its name, the number of its axis, the effect and what is drawn."""
        axis = self.axes.setdefault((tuning.quality, tuning.centres), len(self.axes))
        drawn = tuning.means, tuning.margins, (tuning.low, tuning.high)
        return [in_words(tuning), axis, _number(tuning.effect), *map(_drawn, drawn)]


def _unit(unit: Explanation, layer: int, numbers: _Numbers) -> dict[str, Any]:
    """A unit's row in the page's table; `layer` is the number of its layer."""
    return {
        "layer": layer,
        "unit": unit.unit,
        "labels": numbers.labels(unit.labels),
        **_sentence(unit.summary),
        "reliable": unit.reliable,
        "kind": unit.kind,
        "faithfulness": _figures(unit.faithfulness),
        "byCaptions": _figures(unit.caption_faithfulness),
        "overTime": None if unit.over_time is None else list(astuple(unit.over_time)),
        "acoustics": unit.acoustics,
        "tuning": [numbers.curve(tuning) for tuning in unit.tuning if tuning.centres],
        "profile": _profile(unit.profile),
        "words": list(unit.open_concepts),
        "spread": None if unit.polysemanticity is None else _number(unit.polysemanticity),
        "meanings": [_meaning(meaning, numbers) for meaning in unit.meanings],
        "top": [numbers.clip(shown) for shown in unit.top],
        "low": [numbers.clip(shown) for shown in unit.low],
    }


def _profile(profile: Sequence[float]) -> list[float]:
    """A spectral profile to two decimals, one value per mel band; empty where there is nothing to see in it."""
    strongest = max((abs(value) for value in profile if math.isfinite(value)), default=0.0)
    if strongest < LEAST_DRAWN:
        return []
    return [round(value, 2) if math.isfinite(value) else 0.0 for value in profile]


def _meaning(meaning: Meaning, numbers: _Numbers) -> dict[str, Any]:
    return {
        "labels": numbers.labels(meaning.labels),
        **_sentence(meaning.summary),
        "reliable": meaning.reliable,
        "faithfulness": _figures(meaning.faithfulness),
        "clips": list(meaning.clips),
    }


def best_score(unit: Explanation) -> float:
    """Score of a unit's first label; minus infinity if it has none."""
    score = unit.labels[0].score if unit.labels else -math.inf
    return score if math.isfinite(score) else -math.inf


def _scored(labels: Sequence[Label]) -> list[Label]:
    """The labels whose scores are on the scale of the run, which those of measured concepts are not."""
    return [label for label in labels if label.evidence != "measured" and math.isfinite(label.score)]


def layer_overview(
    name: str, explanations: Sequence[Explanation], facts: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Counts of a layer's units, its most frequent first labels and the distribution of their scores."""
    verdicts = [e.reliable for e in explanations]
    frequent = Counter(e.labels[0].concept for e in explanations if e.labels)
    scores = np.array([e.labels[0].score for e in explanations if _scored(e.labels[:1])])
    spread = [e.polysemanticity for e in explanations if e.polysemanticity is not None]
    return {
        "name": name,
        "units": len(explanations),
        "labelled": sum(bool(e.labels) for e in explanations),
        "tested": sum(state != "untested" for state in verdicts),
        "reliable": verdicts.count("holds"),
        "sentences": sum(e.summary.text is not None for e in explanations),
        "kinds": kind_counts(explanations),
        "several": sum(bool(e.meanings) for e in explanations),
        "spread": _number(float(np.median(spread))) if spread else None,
        "facts": [list(fact) for fact in facts],
        "heard": 0,
        "frequent": sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT],
        "scores": _distribution(scores) if len(scores) else None,
    }


def kind_counts(explanations: Sequence[Explanation]) -> dict[str, int] | None:
    """How many of the units whose label was tested are of which `kind`, `none` included; None if none was tested."""
    tested = [unit.kind or "none" for unit in explanations if unit.faithfulness is not None]
    return {kind: tested.count(kind) for kind in (*get_args(Kind), "none")} if tested else None


def _sentence(summary: Summary) -> dict[str, Any]:
    return {"text": summary.text, "origin": summary.origin, "reason": summary.reason, "raw": summary.raw}


def _clip(row: int, clip: ClipFacts) -> dict[str, Any]:
    return {"row": row, "path": clip.path, "start": round(float(clip.start), 3), "captions": clip.captions}


def _figures(test: UnitFaithfulness | None) -> list[float | None] | None:
    """The fields of `UnitFaithfulness` in their order, without the verdict."""
    return [_number(value) for value in astuple(test)[:-1]] if test else None


def _axis(quality: str, centres: Sequence[float]) -> dict[str, Any]:
    """A measured quality as the axis of curves, with the centres of its bins."""
    axis = AXES[quality]
    return {
        "name": axis.words,
        "unit": axis.unit,
        "logarithmic": axis.logarithmic,
        "centres": _drawn(centres),
    }


def _section(section: Section) -> dict[str, Any]:
    pictures = [
        [
            f"data:{picture.media_type};base64,{base64.b64encode(picture.content).decode()}",
            picture.description,
        ]
        for picture in section.pictures
    ]
    return {
        "title": section.title,
        "paragraphs": list(section.paragraphs),
        "table": [list(row) for row in section.table],
        "pictures": pictures,
    }


def _distribution(scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    low, high = float(scores.min()), float(scores.max())
    counts, _ = np.histogram(scores, bins=BINS, range=(low, high))
    return {
        "low": _number(low),
        "high": _number(high),
        "median": _number(float(np.median(scores))),
        "counts": counts.tolist(),
    }


def _score_range(explanations: Sequence[Explanation]) -> list[float]:
    """Ends of the score bars: the lowest score or 0, whichever is lower, and the highest score."""
    scores = [label.score for e in explanations for label in _scored(e.labels)]
    return [min([0.0, *scores]), max(scores, default=1.0)]


def _drawn(values: Sequence[float]) -> list[float]:
    """Three significant digits of finite numbers, enough for a small curve."""
    return [float(f"{value:.3g}") for value in values]


def _number(value: float) -> float | None:
    """Five significant digits, for a small page; None for what JSON cannot hold."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
