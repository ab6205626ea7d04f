"""Verdicts: whether the labels of a layer hold, what explains each unit, and the measured concepts among its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ..concepts import ConceptBank
from ..config import LabelConfig
from ..recording.recording import Recording
from ..types import (
    Explanation,
    Kind,
    Label,
    LayerEvidence,
    OverTime,
    Reliability,
    UnitFaithfulness,
    reliability,
)
from .cross_fit import cross_fitted_measured_tests, cross_fitted_tests, folded_layer
from .label_tests import caption_tests, measured_tests, sound_tests, unit_kinds
from .labels import DescribedClips
from .measured_concepts import Measured, beside, meant_sides, measured_labels
from .over_time import held_out_over_time
from .tuned_concepts import Tuned

Tests = list[UnitFaithfulness | None]
ConceptTests = tuple[Tests, list[Kind | None], list[OverTime | None]]
"""Of the first labels, which name concepts: their tests, the kinds of the units, and the labels' tests over time."""
MeasuredTests = Callable[[Sequence[Measured]], Tests]
"""First labels that are measured concepts -> their tests; None for a unit without."""


def with_verdicts(
    units: Sequence[Explanation],
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
    tuned: Sequence[Tuned | None],
) -> list[Explanation]:
    """The units of a layer with their tests, verdicts and kinds, and with measured concepts among their labels.

    A label that holds fails where its concept is nearer at other times of the clips than those at which the unit fires.

    Where qualities of sound explain a unit, the measured concepts that it follows come first, and the test is theirs.
    A label that is itself a word for a quality stays first if it holds and the measured concept does not: it may hear
    what the measurement misses. Where concept and qualities explain a unit equally well, the measured concept that it
    follows most comes second. Where several qualities explain a unit only together, so that none can be named, a label
    that holds stays, and the kind is `both`.

    Args:
        units: With labels and preferences.
        recording: Of the units.
        layer: Their evidence.
        clips: The clips in words.
        bank: The concepts of the labels.
        config: How they were made; as many labels are kept as it says.
        tuned: Per unit the middle of a quality that explains it better than any preference, if there is one.
    """
    tests = _cross_fitted if recording.manifest.cross_fitted else partial(_held_out, tuned=tuned)
    (by_sound, kinds, over_time), of_measured = tests(
        [unit.labels for unit in units], recording, layer, clips, bank, config
    )
    measured = [
        measured_labels(unit.preferences, _first(unit), middle) if kind in ("acoustic", "both") else ()
        for unit, kind, middle in zip(units, kinds, tuned, strict=True)
    ]
    first = [
        _measured_first(labels, middle) if kind == "acoustic" else None
        for labels, kind, middle in zip(measured, kinds, tuned, strict=True)
    ]
    by_quality = of_measured(first)
    by_captions = caption_tests(
        recording,
        layer.name,
        clips.text,
        bank.concepts,
        [unit.labels for unit in units],
        clips.against("captions"),
        clips.captioned,
    )
    return [
        _concluded(
            replace(unit, kind=kind, caption_faithfulness=captions, over_time=time),
            labels, sound, quality, config.count,
        )
        for unit, kind, captions, time, labels, sound, quality in zip(
            units, kinds, by_captions, over_time, measured, by_sound, by_quality, strict=True
        )
    ]  # fmt: skip


def _held_out(
    labels: Sequence[Sequence[Label]],
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
    tuned: Sequence[Tuned | None],
) -> tuple[ConceptTests, MeasuredTests]:
    """The tests of the first labels, which name concepts, on held-out clips, and what tests measured concepts there."""
    similarity, against = clips.similarity(config.evidence), clips.against(config.evidence)
    tests = sound_tests(recording, layer.name, similarity, bank.concepts, labels, against)
    holds = np.array([test is not None and test.reliable for test in tests], bool)
    middles = [None if of_unit is None else of_unit.tuning for of_unit in tuned]
    kinds = unit_kinds(recording, layer.name, similarity, bank.concepts, labels, holds, middles)
    over_time = held_out_over_time(recording, layer, clips.moments, bank.concepts, labels)

    def of_measured(concepts: Sequence[Measured]) -> Tests:
        return measured_tests(recording, layer.name, similarity, concepts, against)

    return (tests, kinds, over_time), of_measured


def _cross_fitted(
    labels: Sequence[Sequence[Label]],
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
) -> tuple[ConceptTests, MeasuredTests]:
    """As `_held_out`, by cross-fitting; what units are tuned to is found anew for every fold."""
    folded = folded_layer(recording, layer.name)
    if folded is None:
        count = len(labels)
        return ([None] * count, [None] * count, [None] * count), lambda _: [None] * count
    tests = cross_fitted_tests(folded, layer, clips, bank, config, labels)
    similarity, against = clips.similarity(config.evidence), clips.against(config.evidence)
    return tests, lambda concepts: cross_fitted_measured_tests(folded, similarity, concepts, against)


def _measured_first(labels: Sequence[Label], middle: Tuned | None) -> Measured:
    """The first of a unit's measured labels as a concept; a tuned one, which comes before all, by its values."""
    if middle is not None:
        return middle.tuning
    return labels[0].concept if labels else None


def _concluded(
    unit: Explanation,
    measured: Sequence[Label],
    by_sound: UnitFaithfulness | None,
    by_quality: UnitFaithfulness | None,
    count: int,
) -> Explanation:
    """A unit with its labels in order, the test of the first, the verdict, and a kind that can be said in words."""
    passed = by_sound is not None and by_sound.reliable
    heard = passed and bool(meant_sides(_first(unit) or ""))
    if unit.kind == "acoustic" and measured and not (heard and reliability(by_quality) != "holds"):
        return replace(
            unit,
            labels=(*measured, *beside(measured, unit.labels))[:count],
            faithfulness=by_quality,
            reliable=reliability(by_quality),
            caption_faithfulness=None,
            over_time=None,
        )
    kind = unit.kind
    if kind == "acoustic" and not heard:
        # Several qualities explain it together, none of which it follows by itself.
        kind = "both" if passed else None
    labels = (*unit.labels[:1], *measured[:1], *beside(measured, unit.labels[1:]))[:count]
    return replace(
        unit, labels=labels, faithfulness=by_sound, reliable=verdict(by_sound, unit.over_time), kind=kind
    )


def verdict(test: UnitFaithfulness | None, over_time: OverTime | None) -> Reliability:
    """The result of a label's test; a label that holds fails where its test over time contradicts it."""
    tested = reliability(test)
    contradicted = over_time is not None and over_time.follows is False
    return "fails" if tested == "holds" and contradicted else tested


def _first(unit: Explanation) -> str | None:
    return unit.labels[0].concept if unit.labels else None
