"""What can be said for a run's labels: tests on held-out clips, and the measured sound its units go with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..acoustics import Explained, describe, explained_by_acoustics, preferences
from ..evidence import HELD_OUT, SEEN, load_activations
from ..faithful import Faithfulness, faithfulness, left_over
from ..runs import RecordedRun
from ..types import Floats, Label, UnitFaithfulness

Array = npt.NDArray[Any]

LEAST_HELD_OUT = 20  # clips; with fewer no test could tell a label from chance
LEAST_GROUPS = 5  # of clips; with fewer nothing is cross-validated


def tested_labels(
    run: RecordedRun, similarity: Floats, concepts: Sequence[str], labels: Sequence[Sequence[Label]]
) -> list[UnitFaithfulness | None]:
    """Test every unit's first label on the held-out clips; None where there is nothing to test.

    Held against the similarity that the labels were made from, of clips they were not made from, this is the test
    whose verdict counts: a unit that fails it is said nothing about.

    Args:
        run: Its held-out activations are read.
        similarity: float32 [clips, concepts], all clips of the index.
        concepts: The columns' names.
        labels: Per unit, best first.
    """
    return _tests(run, similarity, concepts, labels, None)


def caption_tests(
    run: RecordedRun, similarity: Floats, concepts: Sequence[str], labels: Sequence[Sequence[Label]]
) -> list[UnitFaithfulness | None]:
    """As `tested_labels`, by the captions of the held-out clips that carry one; None where too few do.

    What stands for the caption of a clip without one comes from its sound, so such clips are left out. Where labels
    come from sound, this is a second opinion that no embedder's ears had a part in. It is shown, and decides nothing.
    `similarity` is that of the clips' captions and the concepts.
    """
    rows = run.facts["held_out_rows"]
    captioned = np.flatnonzero([run.index.clips[row].caption is not None for row in rows])
    return _tests(run, similarity, concepts, labels, captioned)


def _tests(
    run: RecordedRun,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    among: npt.NDArray[np.intp] | None,
) -> list[UnitFaithfulness | None]:
    tested: list[UnitFaithfulness | None] = []
    for layer in run.layers:
        part = labels[len(tested) : len(tested) + layer.units]
        tested += _layer_tests(run, layer.name, similarity, _columns(concepts, part), among)
    return tested


def _layer_tests(
    run: RecordedRun,
    layer: str,
    similarity: Floats,
    chosen: npt.NDArray[np.intp],
    among: npt.NDArray[np.intp] | None,
) -> list[UnitFaithfulness | None]:
    """Tests of a layer's units, on the held-out clips whose places are `among`, by default on all."""
    rows = np.array(run.facts["held_out_rows"], np.intp)
    among = np.arange(len(rows)) if among is None else among
    if len(among) < LEAST_HELD_OUT:
        return [None] * len(chosen)
    activations = load_activations(run.folder, layer, HELD_OUT)
    of = activations if len(among) == len(rows) else activations[among]
    return _per_unit(faithfulness(of, similarity[rows[among]], chosen, groups=held_out_files(run)[among]))


def meaning_tests(
    run: RecordedRun,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    units: npt.NDArray[np.intp],
) -> list[UnitFaithfulness | None]:
    """As `tested_labels`, for the meanings of a layer's units: what each predicts of what the others leave.

    Labels of the others are taken out of the activation first (`faithful.left_over`): a unit that answers to dogs
    and to alarms is not to fail as one of dogs because of the alarms.

    Args:
        run: Its held-out activations are read.
        layer: Of which the units are.
        similarity: float32 [clips, concepts], all clips of the index.
        concepts: The columns' names.
        labels: Per meaning, best first.
        units: int [meanings], of which unit each is, those of one unit next to each other.
    """
    rows = run.facts["held_out_rows"]
    if len(rows) < LEAST_HELD_OUT or not len(units):
        return [None] * len(units)
    chosen = _columns(concepts, labels)
    activations = load_activations(run.folder, layer, HELD_OUT)[:, units]
    rest = left_over(activations, similarity[rows], _others(chosen, units))
    return _per_unit(faithfulness(rest, similarity[rows], chosen, groups=held_out_files(run)))


def _columns(concepts: Sequence[str], labels: Sequence[Sequence[Label]]) -> npt.NDArray[np.intp]:
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


def held_out_files(run: RecordedRun) -> npt.NDArray[np.intp]:
    """Which file each held-out clip was cut from, numbered; int [held-out clips]: windows of a file are dependent."""
    files = [run.index.clips[row].sha256 for row in run.facts["held_out_rows"]]
    return np.unique(files, return_inverse=True)[1]


def _per_unit(found: Faithfulness) -> list[UnitFaithfulness | None]:
    columns = {
        "correlation": found.top_correlation,
        "random_correlation": found.random_top_correlation,
        "best_correlation": found.best_of_n_top_correlation,
        "auprc": found.auprc,
        "base_rate": found.base_rate,
        "q_value": found.q_value,
    }
    tested: npt.NDArray[np.bool_] = np.all(np.isfinite(list(columns.values())), axis=0)
    return [
        UnitFaithfulness(
            clips=found.clips,
            reliable=bool(found.reliable[unit]),
            **{name: round(float(column[unit]), 6) for name, column in columns.items()},
        )
        if tested[unit]
        else None
        for unit in range(len(tested))
    ]


def measured_acoustics(run: RecordedRun) -> tuple[list[str | None], dict[str, dict[str, float]]]:
    """What measured sound has to do with the units of a run, over its seen clips.

    Returns:
        Per unit which qualities go with its activation, in words, or None. Per layer `r2`, the median over units
        of how much of a unit the qualities account for on clips not fitted to, and `shuffled`, the same with the
        qualities dealt out at random; no entry where there are too few clips.
    """
    seen = run.seen_rows()
    qualities = run.qualities()[seen]
    words: list[str | None] = []
    layers: dict[str, dict[str, float]] = {}
    for layer in run.layers:
        activations = load_activations(run.folder, layer.name, SEEN)
        found = preferences(activations, qualities)
        words += [describe(rho, q) for rho, q in zip(found.rho, found.q_value, strict=True)]
        if (share := accounted_for(run, activations, qualities)) is not None:
            layers[layer.name] = {"r2": finite_median(share.r2), "shuffled": finite_median(share.shuffled)}
    return words, layers


def accounted_for(run: RecordedRun, activations: Array, predictors: Array) -> Explained | None:
    """How much of a layer's units predictors account for, folds apart; None with too few clips to cross-validate.

    Args:
        run: Of which the clips are.
        activations: float [seen clips, units], see `evidence.load_activations`.
        predictors: float [seen clips, predictors].
    """
    clips = [run.index.clips[row] for row in run.seen_rows()]
    groups = [clip.fold or clip.sha256 for clip in clips]
    different = len(set(groups))
    if different < LEAST_GROUPS and len(clips) < LEAST_HELD_OUT:
        return None
    return explained_by_acoustics(activations, predictors, groups if different > 1 else None)


def finite_median(values: Floats) -> float:
    """Median of the finite values to 4 decimals, 0 without any."""
    finite = values[np.isfinite(values)]
    return round(float(np.median(finite)), 4) if finite.size else 0.0
