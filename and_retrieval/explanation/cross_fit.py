"""Cross-fitting: tests of labels on probe sets too small to hold clips out.

Every clip is tested by labels that were made without it: the files are dealt into folds, the units are labelled from
all folds but one and their labels predict the clips of that one, until every clip has a prediction. The predictions are
pooled and tested like those of held-out clips. The labels that are shown stay those of the seen clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..concepts import ConceptBank
from ..config import LabelConfig
from ..numerics import Array, standardised
from ..recording.activations import LEAST_HELD_OUT, PARTS
from ..recording.recording import Recording
from ..types import (
    Floats,
    Ints,
    Kept,
    Kind,
    Label,
    LayerEvidence,
    OverTime,
    Tuning,
    UnitFaithfulness,
    UnitStatistics,
)
from .acoustics import filled_ranks
from .bells import Bells
from .kinds import kinds, rivals
from .label_tests import (
    OWN_BANK,
    Against,
    faithfulness_tests,
    first_columns,
    labelled_columns,
    name_qualities,
)
from .labels import DescribedClips, labels_of
from .measured_concepts import Measured
from .over_time import Fired, labels_over_time
from .strongest_clips import borne_out
from .tuning import fitted_bells

FOLDS = 5

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class CrossFitted:
    """What labels made without a clip say of it, for every clip and every unit of a layer.

    Attributes:
        fired: What the units did, on all clips that could be read.
        fold: int32 [clips], in which fold each clip was tested.
        labels: int [folds, units], column of the label that tested a fold; -1 for none.
        predictions: float32 [units, clips], the standardised similarity of each clip to the label.
    """

    fired: Fired
    fold: Ints
    labels: Rows
    predictions: Floats


def all_fired(recording: Recording, layer: str) -> Fired:
    """What the units of a layer did on all clips that could be read, in the order of the index."""
    rows = np.concatenate([recording.seen_rows, recording.held_out_rows])
    activations = np.concatenate([recording.activations(layer, part) for part in PARTS])
    peaks = np.concatenate([recording.peaks(layer, part) for part in PARTS])
    order = np.argsort(rows)
    order = order[np.isfinite(activations[order]).any(axis=1)]
    return Fired(
        activations[order].astype(np.float32),
        peaks[order].astype(np.float32),
        rows[order],
        recording.files_of(rows[order]),
    )


def folds_of(recording: Recording, rows: Rows) -> Ints:
    """The fold of every clip, int32 [rows]: files of a label take turns, so that folds hold the same mixture."""
    clips = [recording.index.clips[row] for row in rows]
    by_label: dict[str | None, dict[str, None]] = {}
    for clip in clips:
        by_label.setdefault(clip.label, {})[clip.sha256] = None
    turns = [digest for files in by_label.values() for digest in sorted(files)]
    fold = {digest: turn % FOLDS for turn, digest in enumerate(dict.fromkeys(turns))}
    return np.array([fold[clip.sha256] for clip in clips], np.int32)


def cross_fitted(
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
) -> CrossFitted | None:
    """Label the units of a layer once without every fold; None as `_folded`."""
    folded = _folded(recording, layer.name)
    if folded is None:
        return None
    fired, fold = folded
    standard = standardised(clips.similarity(config.evidence)[fired.rows])
    chosen = np.full((FOLDS, layer.units), -1, np.intp)
    predictions = np.zeros((layer.units, len(fold)), np.float32)
    for number in range(FOLDS):
        out = fold == number
        evidence = _evidence(layer, fired, ~out)
        labels = labels_of(evidence, fired.rows[~out], fired.activations[~out], clips, bank, config)
        chosen[number] = first_columns(bank.concepts, labels)
        predictions[:, out] = np.where(chosen[number][:, None] >= 0, standard[out][:, chosen[number]].T, 0)
    return CrossFitted(fired, fold, chosen, predictions)


def cross_fitted_tests(
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
    labels: Sequence[Sequence[Label]],
    against: Against,
    tuned: Sequence[Tuning | None],
) -> tuple[list[UnitFaithfulness | None], list[Kind | None], list[OverTime | None]]:
    """As `label_tests.sound_tests`, `label_tests.unit_kinds` and `over_time.held_out_over_time`, over all clips."""
    fitted = cross_fitted(recording, layer, clips, bank, config)
    if fitted is None:
        return [None] * len(labels), [None] * len(labels), [None] * len(labels)
    fired, fold, predictions = fitted.fired, fitted.fold, fitted.predictions
    chosen, similarity = first_columns(bank.concepts, labels), clips.similarity(config.evidence)
    tests = faithfulness_tests(
        fired.activations, similarity, chosen, fired.rows, fired.files, against, predictions
    )
    qualities = recording.qualities[fired.rows]
    bells = [_bells_without(recording, fired, fold == number, tuned) for number in range(FOLDS)]
    figures = rivals([fired.activations], qualities, fold, predictions, fired.files, bells)
    holds = np.array([test is not None and test.reliable for test in tests], bool)
    return (
        tests,
        kinds(holds, figures, name_qualities(labels)),
        labels_over_time(layer, clips.moments, fired, fitted.labels, fold),
    )


def cross_fitted_measured_tests(
    recording: Recording,
    layer: str,
    similarity: Floats,
    measured: Sequence[Measured],
    against: Against = OWN_BANK,
) -> list[UnitFaithfulness | None]:
    """As `label_tests.measured_tests`, by cross-fitting: what a unit follows most is found without the clip.

    For a unit with a tuned concept that is the peak that it follows best. Which units have one, and which a measured
    concept at all, was decided on all seen clips, these among them: of units of noise that were given a peak in this
    way, 15 % reach p <= 0.05 here, where 5 % of all do. Clips that are held out do not have this flaw.
    """
    folded = _folded(recording, layer)
    if folded is None:
        return [None] * len(measured)
    fired, fold = folded
    qualities = recording.qualities[fired.rows]
    ranks = filled_ranks(qualities)
    tuned = [concept if isinstance(concept, Tuning) else None for concept in measured]
    in_middle = np.array([concept is not None for concept in tuned], bool)
    predictions = np.zeros(fired.activations.T.shape)
    for number in range(FOLDS):
        out = fold == number
        rho = filled_ranks(fired.activations[~out]).T @ ranks[~out]
        rho = borne_out(rho, fired.activations[~out], qualities[~out])
        followed = np.abs(rho).argmax(axis=1)
        sign = np.sign(np.take_along_axis(rho, followed[:, None], axis=1))
        bells = _bells_without(recording, fired, out, tuned)
        of_bells = bells.at(np.flatnonzero(in_middle)).responses(qualities[out])
        predictions[:, out] = sign * ranks[out].T[followed]
        predictions[np.ix_(in_middle, out)] = of_bells
    labelled = labelled_columns(measured)
    return faithfulness_tests(
        fired.activations, similarity, labelled, fired.rows, fired.files, against, predictions
    )


def _bells_without(
    recording: Recording, fired: Fired, out: npt.NDArray[np.bool_], tuned: Sequence[Tuning | None]
) -> Bells:
    """What the units that are tuned to something are tuned to on all clips but some; none for the others."""
    units = np.flatnonzero([tuning is not None for tuning in tuned])
    rest, bells = ~out, Bells.none(len(tuned))
    fitted = fitted_bells(
        fired.activations[rest][:, units], recording.qualities[fired.rows[rest]], fired.files[rest]
    )
    bells.axis[units], bells.centre[units], bells.half[units] = fitted.axis, fitted.centre, fitted.half
    return bells


def _folded(recording: Recording, layer: str) -> tuple[Fired, Ints] | None:
    """What the units did on the clips, and the clips' folds; None with too few clips (`LEAST_HELD_OUT`) or files."""
    fired = all_fired(recording, layer)
    fold = folds_of(recording, fired.rows)
    if len(fold) < LEAST_HELD_OUT or len(set(fold.tolist())) < FOLDS:
        return None
    return fired, fold


def _evidence(layer: LayerEvidence, fired: Fired, chosen: npt.NDArray[np.bool_]) -> LayerEvidence:
    """The evidence of some clips alone, as many top clips as were recorded; NaN clips of a unit are left out.

    Args:
        layer: The layer.
        fired: What its units did.
        chosen: bool [clips].
    """
    rows, activations, peaks = fired.rows[chosen], fired.activations[chosen], fired.peaks[chosen]
    k = min(layer.top.rows.shape[1], len(rows))
    finite = np.isfinite(activations)
    there = finite.sum(axis=0)
    order = np.argsort(np.where(finite, -activations, np.inf), axis=0, kind="stable")
    rank = np.arange(k)[:, None]
    low = np.take_along_axis(order, np.maximum(there - 1 - rank, 0), axis=0)
    return LayerEvidence(
        layer.name,
        layer.pooling,
        _kept(rows, activations, peaks, order[:k], rank < there),
        _kept(rows, activations, peaks, low, rank < there),
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


def _kept(rows: Rows, activations: Array, peaks: Array, places: Rows, there: npt.NDArray[np.bool_]) -> Kept:
    values, times = (
        np.where(there, np.take_along_axis(of, places, axis=0), np.float32(np.nan)).T
        for of in (activations, peaks)
    )
    return Kept(np.where(there, rows[places], -1).T.astype(np.int32), values, times)
