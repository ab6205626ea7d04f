"""Cross-fitting: tests of labels on probe sets too small to hold clips out.

Every clip is tested by labels that were made without it: the files are dealt into folds, the units are labelled from
all folds but one and their labels predict the clips of that one, until every clip has a prediction. The predictions are
pooled and tested like those of held-out clips. The labels that are shown stay those of the seen clips. What units
follow of measured sound is chosen by the clips outside the fold as well, but ranked among all clips, see `followed`.
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
    UnitFaithfulness,
    UnitStatistics,
)
from .followed import Followed, followed
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

FOLDS = 5

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Folded:
    """A layer in a set too small to hold clips out.

    Attributes:
        fired: What its units did, on all clips that could be read.
        fold: int32 [clips], the fold of each.
        qualities: float32 [clips, qualities].
        followed: What its units follow most of measured sound by the clips outside each fold.
    """

    fired: Fired
    fold: Ints
    qualities: Floats
    followed: Followed


@dataclass(frozen=True)
class CrossFitted:
    """What labels made without a clip say of it, for every clip and every unit of a layer.

    Attributes:
        labels: int [folds, units], column of the label that tested a fold; -1 for none.
        predictions: float32 [units, clips], the standardised similarity of each clip to the label.
    """

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


def folded_layer(recording: Recording, layer: str) -> Folded | None:
    """A layer read for cross-fitting; None with too few clips (`LEAST_HELD_OUT`) or files."""
    fired = all_fired(recording, layer)
    fold = folds_of(recording, fired.rows)
    if len(fold) < LEAST_HELD_OUT or len(set(fold.tolist())) < FOLDS:
        return None
    qualities = recording.qualities[fired.rows]
    return Folded(fired, fold, qualities, followed(fired.activations, qualities, fold, fired.files))


def cross_fitted(
    folded: Folded, layer: LayerEvidence, clips: DescribedClips, bank: ConceptBank, config: LabelConfig
) -> CrossFitted:
    """Label the units of a layer once without every fold."""
    fired, fold = folded.fired, folded.fold
    standard = standardised(clips.similarity(config.evidence)[fired.rows])
    chosen = np.full((FOLDS, layer.units), -1, np.intp)
    predictions = np.zeros((layer.units, len(fold)), np.float32)
    for number in range(FOLDS):
        out = fold == number
        evidence = _evidence(layer, fired, ~out)
        labels = labels_of(evidence, fired.rows[~out], fired.activations[~out], clips, bank, config)
        chosen[number] = first_columns(bank.concepts, labels)
        predictions[:, out] = np.where(chosen[number][:, None] >= 0, standard[out][:, chosen[number]].T, 0)
    return CrossFitted(chosen, predictions)


def cross_fitted_tests(
    folded: Folded,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
    labels: Sequence[Sequence[Label]],
) -> tuple[list[UnitFaithfulness | None], list[Kind | None], list[OverTime | None]]:
    """As `label_tests.sound_tests`, `label_tests.unit_kinds` and `over_time.held_out_over_time`, over all clips."""
    fitted = cross_fitted(folded, layer, clips, bank, config)
    fired, predictions = folded.fired, fitted.predictions
    chosen, similarity = first_columns(bank.concepts, labels), clips.similarity(config.evidence)
    against = clips.against(config.evidence)
    tests = faithfulness_tests(
        fired.activations, similarity, chosen, fired.rows, fired.files, against, predictions
    )
    figures = rivals(
        [fired.activations],
        folded.qualities,
        folded.fold,
        predictions,
        fired.files,
        folded.followed.bells,
    )
    holds = np.array([test is not None and test.reliable for test in tests], bool)
    return (
        tests,
        kinds(holds, figures, name_qualities(labels)),
        labels_over_time(layer, clips.moments, fired, fitted.labels, folded.fold),
    )


def cross_fitted_measured_tests(
    folded: Folded, similarity: Floats, measured: Sequence[Measured], against: Against = OWN_BANK
) -> list[UnitFaithfulness | None]:
    """As `label_tests.measured_tests`, by cross-fitting: what a unit follows most is chosen by clips of other folds.

    So is whether that is a quality or the middle of one. Clips are ranked among all, those of the fold included, and
    every permutation of the test ranks and chooses anew, see `followed`.

    Args:
        folded: The layer.
        similarity: float32 [clips, concepts], all clips of the index.
        measured: Per unit its measured concept, which only says who has one.
        against: What they have to beat besides.
    """
    fired, labelled = folded.fired, labelled_columns(measured)
    return faithfulness_tests(
        fired.activations,
        similarity,
        labelled,
        fired.rows,
        fired.files,
        against,
        folded.followed.predictions,
        folded.followed.p_values(labelled >= 0),
    )


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
