"""What a report says, and the same as tables that its page draws: units point to layers, concepts, clips by number."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..explanation.faithfulness import LEVEL
from ..explanation.tuning import AXES, in_words
from ..types import Explanation, Label, Meaning, Shown, Summary, Tuning, UnitFaithfulness

FREQUENT = 8  # labels in a layer's overview
BINS = 30  # of the distribution of scores


@dataclass(frozen=True)
class Picture:
    """A picture in a section: the file's content, its media type (image/png, image/svg+xml), what it shows in words."""

    content: bytes
    media_type: str
    description: str


@dataclass(frozen=True)
class Section:
    """A part of the report between the layers and the units.

    Attributes:
        title: Its heading.
        paragraphs: Text under the heading.
        table: Rows of cells, the first one with the names of the columns; may be empty.
        pictures: Shown below.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the page says of a clip: its file, where it begins in it (seconds), and the clip in words, if known."""

    path: str
    start: float
    caption: str | None = None


@dataclass(frozen=True)
class ReportData:
    """What a report says.

    Attributes:
        title: Heading and window title.
        facts: Name -> value, shown under the title in this order.
        notes: Warnings and honest remarks, one paragraph each.
        layers: Names of the layers, in the order they are shown.
        explanations: One per unit; a `Shown.row` below 0 has no sound.
        clips: Row -> what is said of the clip, for every row that the explanations show.
        concept_hits: Concept -> (index into `explanations`, score) pairs, best first.
        layer_facts: Layer -> (name, value) pairs shown in its overview.
        random_polysemanticity: That of clips picked at random, shown beside every unit's; None where unknown.
        sections: Further parts of the page.
    """

    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    layers: tuple[str, ...]
    explanations: Sequence[Explanation]
    clips: Mapping[int, ClipFacts]
    concept_hits: Mapping[str, Sequence[tuple[int, float]]]
    layer_facts: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    random_polysemanticity: float | None = None
    sections: Sequence[Section] = ()


def check(data: ReportData) -> None:
    """See to it that a report's parts belong together.

    Raises:
        ValueError: An explanation or facts of an unknown layer, a unit explained twice, a concept hit that points
            outside `explanations`, or a meaning that names a clip its unit does not have.
    """
    names = set(data.layers)
    for one in data.explanations:
        if one.layer not in names:
            raise ValueError(f"unit {one.unit} is of layer {one.layer!r}, which is not in layers")
        if any(not 0 <= place < len(one.top) for meaning in one.meanings for place in meaning.clips):
            raise ValueError(f"a meaning of unit {one.layer}:{one.unit} names a clip that is not in top")
    if unknown := [layer for layer in data.layer_facts if layer not in names]:
        raise ValueError(f"there are facts about layer {unknown[0]!r}, which is not in layers")
    for (layer, unit), times in Counter((one.layer, one.unit) for one in data.explanations).items():
        if times > 1:
            raise ValueError(f"unit {layer}:{unit} is explained {times} times")
    for concept, hits in data.concept_hits.items():
        if any(not 0 <= i < len(data.explanations) for i, _ in hits):
            raise ValueError(f"a hit of concept {concept!r} points outside the explanations")


def text_tables(data: ReportData) -> dict[str, Any]:
    """The page's text as JSON-able tables."""
    concepts: dict[str, int] = {}
    clips: dict[int, int] = {}
    axes: dict[tuple[str, tuple[float, ...]], int] = {}
    layer_number = {name: i for i, name in enumerate(data.layers)}

    def show(shown: Shown) -> list[Any]:
        return [clips.setdefault(shown.row, len(clips)), _number(shown.peak), _number(shown.activation)]

    def named(labels: Sequence[Label]) -> list[list[Any]]:
        return [[concepts.setdefault(x.concept, len(concepts)), _number(x.score), x.evidence] for x in labels]

    def curve(tuning: Tuning) -> list[Any]:
        axis = axes.setdefault((tuning.quality, tuning.centres), len(axes))
        drawn = tuning.means, tuning.margins, (tuning.low, tuning.high)
        return [in_words(tuning), axis, _number(tuning.effect), *map(_drawn, drawn)]

    def meant(meaning: Meaning) -> dict[str, Any]:
        return {
            "labels": named(meaning.labels),
            **_sentence(meaning.summary),
            "reliable": meaning.reliable,
            "faithfulness": _figures(meaning.faithfulness),
            "clips": list(meaning.clips),
        }

    units = [
        {
            "layer": layer_number[e.layer],
            "unit": e.unit,
            "labels": named(e.labels),
            **_sentence(e.summary),
            "reliable": e.reliable,
            "faithfulness": _figures(e.faithfulness),
            "byCaptions": _figures(e.caption_faithfulness),
            "acoustics": e.acoustics,
            "tuning": [curve(tuning) for tuning in e.tuning if tuning.centres],
            "words": list(e.open_concepts),
            "spread": None if e.polysemanticity is None else _number(e.polysemanticity),
            "meanings": [meant(meaning) for meaning in e.meanings],
            "top": [show(s) for s in e.top],
            "low": [show(s) for s in e.low],
        }
        for e in data.explanations
    ]
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
        "level": LEVEL,
        "randomSpread": data.random_polysemanticity,
        "scoreRange": _score_range(data.explanations),
        "concepts": list(concepts),
        "axes": [_axis(quality, centres) for quality, centres in axes],
        "clips": [_clip(row, data.clips[row]) for row in clips],
        "units": units,
        "hits": [
            [name, [[i, _number(score)] for i, score in hits]] for name, hits in data.concept_hits.items()
        ],
    }


def best_score(one: Explanation) -> float:
    """Score of a unit's first label; minus infinity where there is none."""
    score = one.labels[0].score if one.labels else -math.inf
    return score if math.isfinite(score) else -math.inf


def layer_overview(
    name: str, explanations: Sequence[Explanation], facts: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Counts of a layer's units, its most frequent best labels and the distribution of their scores."""
    verdicts = [e.reliable for e in explanations]
    frequent = Counter(e.labels[0].concept for e in explanations if e.labels)
    scores = np.array([s for s in map(best_score, explanations) if math.isfinite(s)])
    spread = [e.polysemanticity for e in explanations if e.polysemanticity is not None]
    return {
        "name": name,
        "units": len(explanations),
        "labelled": sum(bool(e.labels) for e in explanations),
        "tested": sum(state != "untested" for state in verdicts),
        "reliable": verdicts.count("holds"),
        "sentences": sum(e.summary.text is not None for e in explanations),
        "several": sum(bool(e.meanings) for e in explanations),
        "spread": _number(float(np.median(spread))) if spread else None,
        "facts": [list(fact) for fact in facts],
        "heard": 0,
        "frequent": sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT],
        "scores": _distribution(scores) if len(scores) else None,
    }


def _sentence(summary: Summary) -> dict[str, Any]:
    return {"text": summary.text, "origin": summary.origin, "reason": summary.reason, "raw": summary.raw}


def _clip(row: int, clip: ClipFacts) -> dict[str, Any]:
    return {"row": row, "path": clip.path, "start": round(float(clip.start), 3), "caption": clip.caption}


def _figures(test: UnitFaithfulness | None) -> list[float | None] | None:
    """The fields of `UnitFaithfulness` in its order, but for the verdict."""
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
        [f"data:{one.media_type};base64,{base64.b64encode(one.content).decode()}", one.description]
        for one in section.pictures
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
    """Ends of the score bars: 0 or the lowest score, and the highest."""
    scores = [x.score for e in explanations for x in e.labels if math.isfinite(x.score)]
    return [min([0.0, *scores]), max(scores, default=1.0)]


def _drawn(values: Sequence[float]) -> list[float]:
    """Three significant digits of finite numbers, enough for a small curve."""
    return [float(f"{value:.3g}") for value in values]


def _number(value: float) -> float | None:
    """Five significant digits, for a small page; None for what JSON cannot hold."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
