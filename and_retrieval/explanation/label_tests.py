"""Tests of labels on held-out clips: of units by sound and by captions, and of a unit's several meanings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..recording.evidence import HELD_OUT, load_activations
from ..recording.recording import Recording
from ..types import Floats, Label, UnitFaithfulness
from .faithfulness import Faithfulness, faithfulness, left_over

Array = npt.NDArray[Any]

LEAST_HELD_OUT = 20  # clips; with fewer no test could tell a label from chance


def tested_labels(
    run: Recording, similarity: Floats, concepts: Sequence[str], labels: Sequence[Sequence[Label]]
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
    run: Recording, similarity: Floats, concepts: Sequence[str], labels: Sequence[Sequence[Label]]
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
    run: Recording,
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
    run: Recording,
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
    run: Recording,
    layer: str,
    similarity: Floats,
    concepts: Sequence[str],
    labels: Sequence[Sequence[Label]],
    units: npt.NDArray[np.intp],
) -> list[UnitFaithfulness | None]:
    """As `tested_labels`, for the meanings of a layer's units: what each predicts of what the others leave.

    Labels of the others are taken out of the activation first (`left_over`): a unit that answers to dogs
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


def held_out_files(run: Recording) -> npt.NDArray[np.intp]:
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
