"""Whether a label follows a unit over time: is its concept there when the unit fires?

The tests of `faithfulness` compare clips. A unit that answers to a cat is predicted by "dog" wherever both are in the
same clips; that the dog barks at another time, they cannot see. Where the index holds moments, they are compared
within clips: how near is the concept at the moment at which the unit is strongest, and how near is it at other times
of the same clip?

The clips are those in which the unit fires: of every file the clip in which it is strongest, since clips of one file
are not independent, and of these the strongest fifth, `MOST_CLIPS` at most. In each, the time of the peak is moved
around the clip in `SHIFTS` equal steps, what runs over the end beginning anew. If the label had nothing to do with when
the unit fires, every step would be as likely as the peak itself. So the test deals out steps at random, for each clip
its own, and compares the sum of the similarities over the clips with that at the peaks (permutation test, two-sided).

    score = sum of (similarity at the peak - mean over the steps) / sum of (largest over the steps - the same mean)

is 1 if the concept is nearest at every peak, 0 by chance, and below 0 if it is nearer at other times.

A label that is significantly nearer at other times fails: the unit answers to something else in the same clips. One
that is not significantly nearer at the peaks does not: sounds that last as long as the clip, as rain does, are as near
at any time, and 61 % of the labels of YAMNet's classifier that hold on ESC-10 are not shown to follow, on 16 clips.
`bench over_time`, on clips glued together of 2, 3 and 4 sounds of ESC-10: of 300 made-up units that fire at their own
sound, 95 % follow, and none is contradicted, not even if its peaks come 2 s late. Of 300 that answer to the same clips
at the time of another sound, which is in all of them, none follows; in clips of two sounds 80 % are contradicted, in
clips of more hardly any, on 8 clips. No label of YAMNet's that holds on ESC-10 is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..clips.moments import ClipMoments
from ..numerics import Array, Bools, Doubles, Places, chunks
from ..recording.activations import HELD_OUT
from ..recording.peaks import MIDDLE, peak_moments
from ..recording.recording import Recording
from ..types import Floats, Ints, Label, LayerEvidence, OverTime
from .agreement import POSITIVE_SHARE
from .label_tests import first_columns
from .moments import NearMoments
from .permutations import FIRST_PERMUTATIONS, PERMUTATIONS, Indices, q_values, sequential_counts

SHIFTS = 8
"""Steps around a clip. A moment lasts 2 s, so that more steps would tell nothing new of clips of 5 to 10 s."""
MOST_CLIPS = 100
LEAST_CLIPS = 5
"""Clips of different files in which the concept has to change over time; fewer could not reach a q-value of 0.05."""
LEVEL = 0.05
BATCH = 500  # permutations at a time
CHUNK_BYTES = 32 * 2**20
ROUNDING = 1e-5  # as a share of the largest sum possible

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Fired:
    """What units did on the clips that their labels are tested on.

    Attributes:
        activations: float [clips, units]; NaN where a unit gave no finite number.
        peaks: float [clips, units], seconds from the start of each clip.
        rows: int [clips], of the index.
        files: int [clips], the file of each clip.
    """

    activations: Array
    peaks: Array
    rows: Rows
    files: Array


def held_out_over_time(
    recording: Recording,
    layer: LayerEvidence,
    near: NearMoments | None,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
) -> list[OverTime | None]:
    """Test over time of the first label of every unit of a layer, on the held-out clips.

    None where the layer has no time axis, the index no moments, a unit no label, or too few clips change over time.

    Args:
        recording: Its held-out activations and peaks are read.
        layer: The layer's evidence.
        near: How near moments are to the concepts.
        concepts: The columns' names.
        labels: Per unit, best first.
    """
    rows = recording.held_out_rows
    fired = Fired(
        recording.activations(layer.name, HELD_OUT),
        recording.peaks(layer.name, HELD_OUT),
        rows,
        recording.files_of(rows),
    )
    return labels_over_time(layer, near, fired, first_columns(concepts, labels)[None])


def labels_over_time(
    layer: LayerEvidence, near: NearMoments | None, fired: Fired, labels: Rows, fold: Ints | None = None
) -> list[OverTime | None]:
    """As `held_out_over_time`, with what the units did.

    Args:
        layer: The layer's evidence.
        near: How near moments are to the concepts.
        fired: Of the layer's units.
        labels: int [folds, units], column of each unit's label in each fold; -1 for none.
        fold: int [clips], which row of `labels` holds for a clip; by default there is one.
    """
    if near is None or peak_moments(layer, near.moments) is None or not len(fired.rows):
        return [None] * layer.units
    used, column = np.unique(labels, return_inverse=True)
    moments = near.moments.of(fired.rows)
    similarity = NearMoments(moments, near.centre, near.concepts[used]).similarity(
        np.arange(len(moments.vectors))
    )
    spread = similarity.std(axis=0)
    similarity /= np.where(spread > 0, spread, 1)
    column = np.where(labels >= 0, column.reshape(labels.shape), -1)
    fold = np.zeros(len(fired.rows), np.int32) if fold is None else fold
    around = _Around(fired, moments, similarity, column, fold)
    figures = np.full((3, layer.units), np.nan)
    for part in chunks(layer.units, SHIFTS * MOST_CLIPS, CHUNK_BYTES, 4):
        figures[:, part] = _measured(around.steps(part))
    return _records(*figures)


@dataclass(frozen=True)
class _Around:
    """How near labels are to clips, all around each clip.

    Attributes:
        fired: What units did on the clips.
        moments: Of these clips.
        similarity: float32 [moments, labels].
        column: int [folds, units], column of each unit's label; -1 for none.
        fold: int [clips].
    """

    fired: Fired
    moments: ClipMoments
    similarity: Floats
    column: Rows
    fold: Ints

    def steps(self, units: slice) -> Floats:
        """Similarity to the label of each unit at every step around the clips in which it fires.

        Returns:
            float32 [SHIFTS, n, units], the first step being that of the peak; 0 throughout where a unit has fewer
            clips, or no label.
        """
        width = (SHIFTS + 4) * len(self.fired.rows)
        parts = [
            slice(units.start + part.start, units.start + part.stop)
            for part in chunks(units.stop - units.start, width, CHUNK_BYTES)
        ]
        return np.concatenate([self._steps(part) for part in parts], axis=2)

    def _steps(self, units: slice) -> Floats:
        clips, there = firing_clips(self.fired.activations[:, units], self.fired.files)
        durations = self.moments.durations[clips]
        peaks = np.take_along_axis(self.fired.peaks[:, units], clips, axis=0).astype(np.float64)
        times = peaks + np.arange(SHIFTS)[:, None, None] / SHIFTS * durations
        times %= np.maximum(durations, MIDDLE)
        column = self.column[self.fold[clips], np.arange(units.start, units.stop)]
        steps = self.similarity[self.moments.at(np.broadcast_to(clips, times.shape), times), column]
        steps[:, ~there | (column < 0)] = 0
        return steps


def firing_clips(activations: Array, files: Array) -> tuple[Rows, Bools]:
    """The clips in which each unit fires, see the module.

    Args:
        activations: float [clips, units].
        files: int [clips].

    Returns:
        Places of clips, int [n, units], strongest first, and bool [n, units], false where a unit has fewer: a clip in
        which a unit is at its weakest never counts.
    """
    values = np.where(np.isfinite(activations), activations, -np.inf)
    order = np.argsort(files, kind="stable")
    starts = np.flatnonzero(np.diff(files[order], prepend=-1))
    best = np.maximum.reduceat(values[order], starts, axis=0)  # [files, units]
    is_best = values[order] == np.repeat(best, np.diff(starts, append=len(files)), axis=0)
    place = np.where(is_best, np.arange(len(files))[:, None], len(files))
    clip_of = order[np.minimum.reduceat(place, starts, axis=0)]
    count = min(MOST_CLIPS, max(LEAST_CLIPS, round(POSITIVE_SHARE * len(best))), len(best))
    ranked = np.argsort(-best, axis=0, kind="stable")[:count]
    lowest = np.where(np.isfinite(activations), activations, np.inf).min(axis=0)
    return np.take_along_axis(clip_of, ranked, axis=0), np.take_along_axis(best, ranked, axis=0) > lowest


def _measured(steps: Floats) -> Doubles:
    """Number of clips that change over time, score and p-value, float64 [3, units].

    Args:
        steps: float32 [SHIFTS, n, units], similarity at every step of the clips in which a unit fires; 0 throughout for
            a clip that does not count.
    """
    steps = steps - steps.mean(axis=0)
    clips = (np.abs(steps).max(axis=0) > ROUNDING).sum(axis=0)
    most = steps.max(axis=0).sum(axis=0)
    tested = clips >= LEAST_CLIPS
    figures = np.full((3, steps.shape[2]), np.nan)
    if tested.any():
        score = steps[0].sum(axis=0)[tested] / most[tested]
        figures[:, tested] = clips[tested], score, _p_values(steps[:, :, tested])
    return figures


def _p_values(steps: Floats) -> Doubles:
    """Two-sided p-values of the sums at the peaks, float64 [units]; the same permutations for every unit.

    Units that are exceeded often in the first permutations stop there.
    """
    count, units = steps.shape[1:]
    table = steps.transpose(1, 0, 2).reshape(count * SHIFTS, units)
    observed = steps[0].sum(axis=0)
    margin = ROUNDING * np.abs(steps).max(axis=0).sum(axis=0)
    rng = np.random.default_rng(0)

    def exceeding(batches: range, left: Places) -> Indices:
        """How often the sums are at least and at most as large as at the peaks, int64 [2, left]."""
        beyond = np.zeros((2, len(left)), np.int64)
        for _ in batches:
            drawn = rng.integers(SHIFTS, size=(BATCH, count))
            chosen = (drawn[:, :, None] == np.arange(SHIFTS)).reshape(BATCH, -1).astype(np.float32)
            sums = chosen @ table[:, left]
            beyond[0] += (sums >= observed[left] - margin[left]).sum(axis=0)
            beyond[1] += (sums <= observed[left] + margin[left]).sum(axis=0)
        return beyond

    beyond, batches = sequential_counts(units, FIRST_PERMUTATIONS // BATCH, PERMUTATIONS // BATCH, exceeding)
    return np.asarray(np.minimum(1, 2 * (1 + beyond.min(axis=0)) / (1 + batches * BATCH)))


def _records(clips: Doubles, score: Doubles, p_value: Doubles) -> list[OverTime | None]:
    """One record per unit, with q-values over the units tested (Benjamini and Hochberg, 1995)."""
    records: list[OverTime | None] = [None] * len(clips)
    q_value = q_values(p_value)
    for unit in np.flatnonzero(np.isfinite(p_value)):
        follows = bool(score[unit] > 0) if q_value[unit] <= LEVEL else None
        figures = round(float(score[unit]), 6), round(float(q_value[unit]), 6)
        records[unit] = OverTime(int(clips[unit]), *figures, follows)
    return records
