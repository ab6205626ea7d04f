"""Cross-fitting: tests of labels on probe sets too small to hold clips out.

Every clip is tested by labels that were made without it: the files are dealt into folds, the units are labelled from
all folds but one and their labels predict the clips of that one, until every clip has a prediction. The predictions are
pooled and tested like those of held-out clips. The labels that are shown stay those of the seen clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..concepts import ConceptBank
from ..config import LabelConfig
from ..numerics import Array
from ..recording.activations import HELD_OUT, SEEN
from ..recording.recording import Recording
from ..types import Floats, Ints, Kept, Kind, Label, LayerEvidence, UnitFaithfulness, UnitStatistics
from .acoustics import filled_ranks
from .kinds import cross_fitted_rivals, kinds
from .label_tests import (
    OWN_BANK,
    Against,
    first_columns,
    label_faithfulness,
    labelled_columns,
    name_qualities,
    unit_tests,
)
from .labels import DescribedClips, labels_of

FOLDS = 5
LEAST_CLIPS = 20  # with fewer no test could tell a label from chance

Rows = npt.NDArray[np.intp]


def all_activations(recording: Recording, layer: str) -> tuple[Rows, Floats]:
    """Activations of a layer on all clips that could be read, and the rows of these clips, ascending.

    Returns:
        int [clips], and float32 [clips, units], NaN where a unit gave no finite number for the clip.
    """
    rows = np.concatenate([recording.seen_rows, recording.held_out_rows])
    parts = [recording.activations(layer, part) for part in (SEEN, HELD_OUT)]
    activations = np.concatenate(parts).astype(np.float32)
    order = np.argsort(rows)
    rows, activations = rows[order], activations[order]
    read = np.isfinite(activations).any(axis=1)
    return rows[read], activations[read]


def folds_of(recording: Recording, rows: Rows) -> Ints:
    """The fold of every clip, int32 [rows]: files of a label take turns, so that folds hold the same mixture."""
    clips = [recording.index.clips[row] for row in rows]
    by_label: dict[str | None, dict[str, None]] = {}
    for clip in clips:
        by_label.setdefault(clip.label, {})[clip.sha256] = None
    turns = [digest for files in by_label.values() for digest in sorted(files)]
    fold = {digest: turn % FOLDS for turn, digest in enumerate(dict.fromkeys(turns))}
    return np.array([fold[clip.sha256] for clip in clips], np.int32)


def cross_fitted_predictions(
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
) -> tuple[Rows, Ints, Floats, Floats] | None:
    """What labels made without a clip say of it, for every clip and every unit of a layer.

    Returns:
        Rows of the clips, int [clips]; their folds, int32 [clips]; the activations, float32 [clips, units]; the
        predictions, float32 [units, clips], the standardised similarity of each clip to the label. None with fewer than
        `LEAST_CLIPS` clips or fewer than `FOLDS` files.
    """
    folded = _folded(recording, layer.name)
    if folded is None:
        return None
    rows, fold, activations = folded
    similarity = clips.similarity(config.evidence)[rows]
    spread = similarity.std(axis=0)
    standard = (similarity - similarity.mean(axis=0)) / np.where(spread > 0, spread, 1)
    column = {concept: number for number, concept in enumerate(bank.concepts)}
    predictions = np.zeros((layer.units, len(rows)), np.float32)
    for number in range(FOLDS):
        out = fold == number
        evidence = _evidence(layer, rows[~out], activations[~out])
        labels = labels_of(evidence, rows[~out], activations[~out], clips, bank, config)
        chosen = np.array([column[unit[0].concept] if unit else -1 for unit in labels])
        predictions[:, out] = np.where(chosen[:, None] >= 0, standard[out][:, chosen].T, 0)
    return rows, fold, activations, predictions


def cross_fitted_tests(
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
    labels: Sequence[Sequence[Label]],
    against: Against = OWN_BANK,
) -> tuple[list[UnitFaithfulness | None], list[Kind | None]]:
    """As `label_tests.sound_tests` and `label_tests.unit_kinds`, by cross-fitting over all clips."""
    fitted = cross_fitted_predictions(recording, layer, clips, bank, config)
    if fitted is None:
        return [None] * len(labels), [None] * len(labels)
    rows, fold, activations, predictions = fitted
    groups = recording.files_of(rows)
    chosen, similarity = first_columns(bank.concepts, labels), clips.similarity(config.evidence)
    tests = unit_tests(
        label_faithfulness(activations, similarity, chosen, rows, groups, against, predictions), activations
    )
    figures = cross_fitted_rivals(activations, recording.qualities[rows], fold, predictions, groups)
    holds = np.array([test is not None and test.reliable for test in tests], bool)
    return tests, kinds(holds, figures, name_qualities(labels))


def cross_fitted_measured_tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    measured: Sequence[str | None],
    against: Against = OWN_BANK,
) -> list[UnitFaithfulness | None]:
    """As `label_tests.measured_tests`, by cross-fitting: what a unit follows most is found without the clip."""
    folded = _folded(recording, layer)
    if folded is None:
        return [None] * len(measured)
    rows, fold, activations = folded
    ranks = filled_ranks(recording.qualities[rows])
    predictions = np.zeros(activations.T.shape)
    for number in range(FOLDS):
        out = fold == number
        rho = filled_ranks(activations[~out]).T @ ranks[~out]
        followed = np.abs(rho).argmax(axis=1)
        sign = np.sign(np.take_along_axis(rho, followed[:, None], axis=1))
        predictions[:, out] = sign * ranks[out].T[followed]
    labelled, groups = labelled_columns(measured), recording.files_of(rows)
    figures = label_faithfulness(activations, similarity, labelled, rows, groups, against, predictions)
    return unit_tests(figures, activations)


def _folded(recording: Recording, layer: str) -> tuple[Rows, Ints, Floats] | None:
    """Rows, folds and activations of the clips; None with fewer than `LEAST_CLIPS` clips or `FOLDS` files."""
    rows, activations = all_activations(recording, layer)
    fold = folds_of(recording, rows)
    if len(rows) < LEAST_CLIPS or len(set(fold.tolist())) < FOLDS:
        return None
    return rows, fold, activations


def _evidence(layer: LayerEvidence, rows: Rows, activations: Array) -> LayerEvidence:
    """The evidence of some clips alone, as many top clips as were recorded; NaN clips of a unit are left out."""
    k = min(layer.top.rows.shape[1], len(rows))
    finite = np.isfinite(activations)
    there = finite.sum(axis=0)
    order = np.argsort(np.where(finite, -activations, np.inf), axis=0, kind="stable")
    rank = np.arange(k)[:, None]
    low = np.take_along_axis(order, np.maximum(there - 1 - rank, 0), axis=0)
    return LayerEvidence(
        layer.name,
        layer.pooling,
        _kept(rows, activations, order[:k], rank < there),
        _kept(rows, activations, low, rank < there),
        _statistics(activations, finite),
    )


def _statistics(activations: Array, finite: npt.NDArray[np.bool_]) -> UnitStatistics:
    known = finite.any(axis=0)
    count = np.maximum(finite.sum(axis=0), 1)
    mean = np.where(finite, activations, 0).sum(axis=0, dtype=np.float64) / count
    square = np.where(finite, (activations - mean) ** 2, 0).sum(axis=0) / count
    columns = (
        mean,
        np.sqrt(square),
        np.where(finite, activations, np.inf).min(axis=0),
        np.where(finite, activations, -np.inf).max(axis=0),
    )
    return UnitStatistics(len(activations), *(np.where(known, x, np.nan).astype(np.float32) for x in columns))


def _kept(rows: Rows, activations: Array, places: Rows, there: npt.NDArray[np.bool_]) -> Kept:
    values = np.where(there, np.take_along_axis(activations, places, axis=0), np.float32(np.nan)).T
    kept = np.where(there, rows[places], -1).T.astype(np.int32)
    return Kept(kept, values, np.full(values.shape, np.nan, np.float32))
