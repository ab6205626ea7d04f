"""The content of a report, and its tables for the page: in these, units refer to layers, concepts, clips by number."""

from __future__ import annotations

import base64
import math
from array import array
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
    """Check that the parts of a report belong together; units are checked where they are read, by `TextTables`.

    Raises:
        ValueError: A fact belongs to an unknown layer, or a concept hit points outside `explanations`.
    """
    if unknown := [layer for layer in data.layer_facts if layer not in data.layers]:
        raise ValueError(f"there are facts about layer {unknown[0]!r}, which is not in layers")
    for concept, hits in data.concept_hits.items():
        if any(not 0 <= i < len(data.explanations) for i, _ in hits):
            raise ValueError(f"a hit of concept {concept!r} points outside the explanations")


class TextTables:
    """The page's text as JSON-able tables, made unit by unit: what is kept does not grow with the units' clips."""

    def __init__(self, data: ReportData) -> None:
        self._data = data
        self._numbers = _Numbers()
        self._layers = {
            name: LayerOverview(name, number, data.layer_facts.get(name, ()))
            for number, name in enumerate(data.layers)
        }
        self._scores = [0.0, -math.inf]  # lowest, not above 0, and highest

    def unit(self, unit: Explanation) -> dict[str, Any]:
        """The row of the next unit; it counts in the tables.

        Raises:
            ValueError: The unit belongs to an unknown layer, was there before, or has a meaning that names a clip which
                is not among its top clips.
        """
        layer = self._layers.get(unit.layer)
        if layer is None:
            raise ValueError(f"unit {unit.unit} is of layer {unit.layer!r}, which is not in layers")
        if any(not 0 <= place < len(unit.top) for meaning in unit.meanings for place in meaning.clips):
            raise ValueError(f"a meaning of unit {unit.layer}:{unit.unit} names a clip that is not in top")
        layer.add(unit)
        for label in _scored(unit.labels):
            self._scores = [min(self._scores[0], label.score), max(self._scores[1], label.score)]
        return _unit(unit, layer.number, self._numbers)

    def tables(self) -> dict[str, Any]:
        """All tables but that of the units, once all of these are there."""
        data, numbers, (low, high) = self._data, self._numbers, self._scores
        return {
            "title": data.title,
            "facts": [[name, value] for name, value in data.facts.items()],
            "notes": list(data.notes),
            "layers": [layer.table() for layer in self._layers.values()],
            "sections": [_section(section) for section in data.sections],
            "bands": _drawn(band_edges()[:, 1].tolist()),
            "level": LEVEL,
            "randomSpread": data.random_polysemanticity,
            "scoreRange": [low, high if math.isfinite(high) else 1.0],
            "concepts": list(numbers.concepts),
            "axes": [_axis(quality, centres) for quality, centres in numbers.axes],
            "clips": [_clip(row, data.clips[row]) for row in numbers.clips],
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


class LayerOverview:
    """Counts of a layer's units, its most frequent first labels and the distribution of their scores.

    Attributes:
        number: Place of the layer.
    """

    def __init__(self, name: str, number: int = 0, facts: Sequence[tuple[str, str]] = ()) -> None:
        self.number = number
        self._name, self._facts = name, facts
        self._units: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._frequent: Counter[str] = Counter()
        self._scores, self._spread = array("d"), array("d")

    def add(self, unit: Explanation) -> None:
        """Count a unit.

        Raises:
            ValueError: It was counted before.
        """
        if unit.unit in self._units:
            raise ValueError(f"unit {unit.layer}:{unit.unit} is explained twice")
        self._units.add(unit.unit)
        self._counts["labelled"] += bool(unit.labels)
        self._counts["tested"] += unit.reliable != "untested"
        self._counts["reliable"] += unit.reliable == "holds"
        self._counts["sentences"] += unit.summary.text is not None
        self._counts["several"] += bool(unit.meanings)
        if unit.faithfulness is not None:
            self._kinds[unit.kind or "none"] += 1
        if unit.labels:
            self._frequent[unit.labels[0].concept] += 1
        self._scores.extend(label.score for label in _scored(unit.labels[:1]))
        if unit.polysemanticity is not None:
            self._spread.append(unit.polysemanticity)

    def table(self) -> dict[str, Any]:
        """The overview of the units counted; `kinds` says what explains the tested ones, None if none was tested."""
        kinds = {kind: self._kinds[kind] for kind in (*get_args(Kind), "none")}
        counted = ("labelled", "tested", "reliable", "sentences", "several")
        return {
            "name": self._name,
            "units": len(self._units),
            **{name: self._counts[name] for name in counted},
            "kinds": kinds if self._kinds else None,
            "spread": _number(float(np.median(self._spread))) if self._spread else None,
            "facts": [list(fact) for fact in self._facts],
            "heard": 0,
            "frequent": sorted(self._frequent.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT],
            "scores": _distribution(np.array(self._scores)) if self._scores else None,
        }


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


def _drawn(values: Sequence[float]) -> list[float]:
    """Three significant digits of finite numbers, enough for a small curve."""
    return [float(f"{value:.3g}") for value in values]


def _number(value: float) -> float | None:
    """Five significant digits, for a small page; None for what JSON cannot hold."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
