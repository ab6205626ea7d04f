"""Tests of labels on held-out clips: of units by sound and by captions, and of a unit's several meanings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..numerics import Array, Doubles
from ..recording.activations import HELD_OUT, LEAST_HELD_OUT, PARTS
from ..recording.recording import Recording
from ..types import Floats, Kind, Label, Tuning, UnitFaithfulness
from .bells import Bells
from .faithfulness import Faithfulness, faithfulness, left_over
from .kinds import FITTED, kinds, rivals
from .measured_concepts import Measured, meant_sides, measured_predictions


@dataclass(frozen=True)
class Against:
    """What labels are held against besides the concepts of their own bank, see `faithfulness.faithfulness`.

    Attributes:
        rivals: float32 [clips, concepts], all clips of the index, similarity to other concepts; None for none.
        bank: Number of concepts that labels were chosen from, unknown ones included; None for those of the bank.
    """

    rivals: Floats | None = None
    bank: int | None = None


OWN_BANK = Against()


def sound_tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    against: Against = OWN_BANK,
) -> list[UnitFaithfulness | None]:
    """Test the first label of every unit of a layer on the held-out clips; None where there is nothing to test.

    The label is held against the similarity that labels were made from, on clips it was not made from. The verdict
    of this test counts: nothing is said of a unit whose label fails it.

    Args:
        recording: Its held-out activations are read.
        layer: The layer's name.
        similarity: float32 [clips, concepts], all clips of the index.
        concepts: The columns' names.
        labels: Per unit, best first.
        against: What they have to beat besides.
    """
    among = np.arange(len(recording.held_out_rows))
    return _tests(recording, layer, similarity, concepts, labels, among, against)


def caption_tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    against: Against = OWN_BANK,
    captioned: npt.NDArray[np.bool_] | None = None,
) -> list[UnitFaithfulness | None]:
    """As `sound_tests`, by the captions of the held-out clips that carry one; None where too few do.

    The stand-in for a missing caption comes from the clip's sound, so clips without a caption are left out. Where
    labels come from sound, this is a second opinion that no embedder's ears had a part in. It is shown, and decides
    nothing. `similarity` is that of the clips' captions and the concepts; `captioned`, bool [clips of the index], says
    which clips have one that says anything, by default those that have any.
    """
    if captioned is None:
        captioned = np.array([bool(clip.captions) for clip in recording.index.clips], bool)
    among = np.flatnonzero(captioned[recording.held_out_rows])
    return _tests(recording, layer, similarity, concepts, labels, among, against)


def _tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    among: npt.NDArray[np.intp],
    against: Against,
) -> list[UnitFaithfulness | None]:
    """Tests of a layer's units on the held-out clips whose places are `among`."""
    if len(among) < LEAST_HELD_OUT:
        return [None] * len(labels)
    rows = recording.held_out_rows[among]
    activations = recording.activations(layer, HELD_OUT)
    activations = activations if len(among) == len(activations) else activations[among]
    groups = recording.files_of(rows)
    chosen = first_columns(concepts, labels)
    return faithfulness_tests(activations, similarity, chosen, rows, groups, against)


def faithfulness_tests(
    activations: Array,
    similarity: Floats,
    chosen: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
    groups: Array,
    against: Against,
    predictions: Array | None = None,
    p_value: Doubles | None = None,
) -> list[UnitFaithfulness | None]:
    """`faithfulness` of the labels `chosen` on the clips `rows`, of which activations and predictions are, per unit."""
    rivals = None if against.rivals is None else against.rivals[rows]
    figures = faithfulness(
        activations,
        similarity[rows],
        chosen,
        rivals=rivals,
        bank=against.bank,
        groups=groups,
        predictions=predictions,
        p_value=p_value,
        all_random=False,
    )
    return _records(figures, activations)


def unit_kinds(
    recording: Recording,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    holds: npt.NDArray[np.bool_],
    tuned: Sequence[Tuning | None],
) -> list[Kind | None]:
    """What explains each unit of a layer best, its first label or measured sound; None where that was not tested.

    Args:
        recording: Its activations and qualities are read.
        layer: The layer's name.
        similarity: float32 [clips, concepts], all clips of the index.
        concepts: The columns' names.
        labels: Per unit, best first.
        holds: bool [units], whether the label passed its own test.
        tuned: Per unit what it is tuned to foremost, if to anything.
    """
    rows = recording.held_out_rows
    if len(rows) < LEAST_HELD_OUT:
        return [None] * len(labels)
    activations = [recording.activations(layer, part) for part in PARTS]
    qualities = recording.qualities[np.concatenate([recording.seen_rows, rows])]
    fold = np.repeat([FITTED, 0], [len(recording.seen_rows), len(rows)])
    chosen = first_columns(concepts, labels)
    predictions = np.where(chosen[:, None] >= 0, similarity[rows][:, chosen].T, 0)
    figures = rivals(activations, qualities, fold, predictions, recording.files_of(rows), [Bells.of(tuned)])
    return kinds(holds, figures, name_qualities(labels))


def name_qualities(labels: Sequence[Sequence[Label]]) -> npt.NDArray[np.bool_]:
    """Whether the first label of each unit is a word for a measured quality, bool [units]."""
    return np.array([bool(unit) and bool(meant_sides(unit[0].concept)) for unit in labels], bool)


def measured_tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    measured: Sequence[Measured],
    against: Against = OWN_BANK,
) -> list[UnitFaithfulness | None]:
    """As `sound_tests`, for labels that are measured concepts: each is held against the bank's concepts as well.

    Args:
        recording: Its held-out activations and the qualities of its clips are read.
        layer: The layer's name.
        similarity: float32 [clips, concepts], all clips of the index.
        measured: Per unit its measured concept.
        against: What they have to beat besides.
    """
    rows = recording.held_out_rows
    if len(rows) < LEAST_HELD_OUT:
        return [None] * len(measured)
    predictions = measured_predictions(measured, recording.qualities[rows])
    activations = recording.activations(layer, HELD_OUT)
    groups, labelled = recording.files_of(rows), labelled_columns(measured)
    return faithfulness_tests(activations, similarity, labelled, rows, groups, against, predictions)


def labelled_columns(measured: Sequence[Measured]) -> npt.NDArray[np.intp]:
    """Which units have a measured label, as `faithfulness` is told where predictions are given: 0, for others -1."""
    return np.array([-1 if concept is None else 0 for concept in measured], np.intp)


def meaning_tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    units: npt.NDArray[np.intp],
    against: Against = OWN_BANK,
) -> list[UnitFaithfulness | None]:
    """As `sound_tests`, for the meanings of a layer's units: what each predicts of what the others leave.

    Labels of the others are taken out of the activation first (`left_over`): a unit that answers to dogs
    and to alarms is not to fail as one of dogs because of the alarms.

    Args:
        recording: Its held-out activations are read.
        layer: Of which the units are.
        similarity: float32 [clips, concepts], all clips of the index.
        concepts: The columns' names.
        labels: Per meaning, best first.
        units: int [meanings], of which unit each is, those of one unit next to each other.
        against: What they have to beat besides.
    """
    rows = recording.held_out_rows
    if len(rows) < LEAST_HELD_OUT or not len(units):
        return [None] * len(units)
    chosen = first_columns(concepts, labels)
    activations = recording.activations(layer, HELD_OUT)[:, units]
    rest = left_over(activations, similarity[rows], _others(chosen, units))
    return faithfulness_tests(rest, similarity, chosen, rows, recording.files_of(rows), against)


def first_columns(concepts: Sequence[str], labels: Sequence[Sequence[Label]]) -> npt.NDArray[np.intp]:
    """The column of every first label, -1 where there is none."""
    column = {concept: number for number, concept in enumerate(concepts)}
    return np.array([column[unit[0].concept] if unit else -1 for unit in labels], np.intp)


def _others(chosen: npt.NDArray[np.intp], units: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Columns of the unit's other meanings that are not its own, int [meanings, most others]; -1 for none."""
    most = int(np.bincount(units).max()) - 1
    table = np.full((len(units), 2 * most), -1, np.intp)
    for away in range(1, most + 1):
        same = units[away:] == units[:-away]
        differ = same & (chosen[away:] != chosen[:-away])
        table[away:, away - 1] = np.where(differ, chosen[:-away], -1)
        table[:-away, most + away - 1] = np.where(differ, chosen[away:], -1)
    return table


def _records(figures: Faithfulness, activations: Array) -> list[UnitFaithfulness | None]:
    """One record per unit; a clip on which a unit gave no finite number does not count for it.

    Args:
        figures: Of the units.
        activations: float [clips, units] that it was measured on.
    """
    clips = np.isfinite(activations).sum(axis=0).tolist()
    columns = {
        "correlation": figures.correlation,
        "random_correlation": figures.random_correlation,
        "best_correlation": figures.best_correlation,
        "auprc": figures.auprc,
        "base_rate": figures.base_rate,
        "q_value": figures.q_value,
    }
    tested: npt.NDArray[np.bool_] = np.all(np.isfinite(list(columns.values())), axis=0)
    return [
        UnitFaithfulness(
            clips=clips[unit],
            reliable=bool(figures.reliable[unit]),
            **{name: round(float(column[unit]), 6) for name, column in columns.items()},
        )
        if tested[unit]
        else None
        for unit in range(len(tested))
    ]
