"""Whether a run holds what is expected of it: concepts that units must have, and concepts that none may have.

A unit has a concept if a label that passed its test means it: the unit's first label, or the first of one of its
several meanings. Which labels a concept means is decided as in `prune`: the label of that name, else one with that name
between its commas, else the labels near it. Words for measured sound ("silence", "loud") mean measured labels as well,
and values ("pitch of 300 Hz") the labels of units tuned to them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..explanation.measured_concepts import meant_names
from ..explanation.space import concept_directions
from ..explanation.stored import Explained
from ..explanation.tuned_concepts import Meant, is_meant, meant_values, name_of
from ..pruning.matching import Vocabulary
from ..types import Explanation, Label, Tuning
from ..vocabulary import unknown_texts

EXPECTED = {"yes": True, "no": False}
COLUMNS = ("units", "concept", "expected")


@dataclass(frozen=True, slots=True)
class Expectation:
    """A line of a table of expectations.

    Attributes:
        units: Layer, quoted glob of layers, or LAYER:UNIT, where UNIT may be a glob too.
        concept: A text.
        expected: Whether a unit must have the concept (else none may).
        line: Its number in the table, from 1.
    """

    units: str
    concept: str
    expected: bool
    line: int


@dataclass(frozen=True, slots=True)
class Check:
    """An expectation held against a run.

    Attributes:
        expectation: What was expected.
        labels: Labels of the run's concept bank that the concept means.
        units: Number of units that were looked at.
        tested: Number of those whose first label could be tested.
        having: Units that have the concept, as LAYER:UNIT.
    """

    expectation: Expectation
    labels: tuple[str, ...]
    units: int
    tested: int
    having: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the run is as expected."""
        return bool(self.having) == self.expectation.expected


def read_expectations(path: Path) -> tuple[Expectation, ...]:
    """A CSV with the columns units, concept and expected (yes or no).

    Raises:
        InputError: It cannot be read, lacks a column, holds no line, or a line lacks a value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable UTF-8 CSV ({error})") from None
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}; give the columns {','.join(COLUMNS)}")
    read = []
    for row in reader:
        units, concept, expected = ((row[name] or "").strip() for name in COLUMNS)
        if not any((units, concept, expected)):
            continue
        if not units or not concept or expected.lower() not in EXPECTED:
            raise InputError(
                f"{path}, line {reader.line_num}: give units, a concept, and expected as yes or no "
                f"(not {units!r}, {concept!r}, {expected!r})"
            )
        read.append(Expectation(units, concept, EXPECTED[expected.lower()], reader.line_num))
    if not read:
        raise InputError(f"{path} holds no expectation; give lines such as: classifier,dog bark,yes")
    return tuple(read)


def audit(explained: Explained, expectations: Sequence[Expectation]) -> tuple[Check, ...]:
    """Hold expectations against the explanations of a run.

    Raises:
        InputError: A pattern matches no unit, a concept is unknown to the embedder or far from every label, or no
            unit of a pattern could be tested.
    """
    index, bank = explained.recording.index, explained.manifest.concepts
    vocabulary = Vocabulary.of(bank, partial(concept_directions, index))
    labels: dict[str, tuple[str, ...]] = {}
    for concept in dict.fromkeys(one.concept for one in expectations):
        if values := meant_values(concept):
            labels[concept] = _tuned_labels(explained, values)
            continue
        measured = meant_names(concept)
        if not measured:
            vocabulary.check(concept, partial(unknown_texts, index))
        labels[concept] = (*measured, *(bank[place] for place in vocabulary.all_meant(concept, bank)))
    return tuple(_check(explained, one, labels[one.concept]) for one in expectations)


def _tuned_labels(explained: Explained, values: Meant) -> tuple[str, ...]:
    """The tuned concepts of a run whose ranges hold some of the values."""
    tunings = [Tuning(**tuning) for of_unit in explained.column("tuning").to_pylist() for tuning in of_unit]
    return tuple(dict.fromkeys(name_of(tuning) for tuning in tunings if is_meant(tuning, values)))


def _check(explained: Explained, expectation: Expectation, labels: tuple[str, ...]) -> Check:
    units = _matching(explained, expectation)
    tested = sum(unit.reliable != "untested" for unit in units)
    if not tested:
        raise InputError(
            f"line {expectation.line}: no label of {expectation.units!r} could be tested (too few held-out clips, or "
            "units without a label), so nothing can be said"
        )
    having = tuple(
        f"{u.layer}:{u.unit}" for u in units if any(label.concept in labels for label in _trusted(u))
    )
    return Check(expectation, labels, len(units), tested, having)


def _matching(explained: Explained, expectation: Expectation) -> list[Explanation]:
    """The units of a pattern; a pattern that is a layer's glob means all of its units."""
    recording = explained.recording
    pattern, colon, wanted = expectation.units.rpartition(":")
    try:
        layers = recording.matching_layers([pattern if colon else expectation.units])
    except InputError as error:
        raise InputError(f"line {expectation.line}: {error}") from None
    units = [
        unit
        for layer in layers
        for unit in explained[recording.unit_index.rows_of(layer)]
        if not colon or fnmatchcase(str(unit.unit), wanted)
    ]
    if not units:
        raise InputError(
            f"line {expectation.line}: {expectation.units!r} matches no unit of {recording.name}"
        )
    return units


def _trusted(unit: Explanation) -> Iterator[Label]:
    """Labels of a unit that passed their tests."""
    if unit.labels and unit.reliable == "holds":
        yield unit.labels[0]
    yield from (
        meaning.labels[0] for meaning in unit.meanings if meaning.labels and meaning.reliable == "holds"
    )
