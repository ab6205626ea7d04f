"""Faithfulness: how well a unit's labels predict it on clips that they were not made from.

A unit's prediction for a clip is the similarity of the clip to its label, standardised over the clips; with
several labels, the largest. It is held against the unit's activation by three measures, each beside what
labels drawn at random from the bank score for the same unit.

Two things can make a label look good, and a reliable one has to beat both:

1. Chance over clips. The p-value is that of a permutation test: activations are dealt out to the clips anew.
   It assumes nothing about their distribution, and the label was chosen on other clips, so the choice needs
   no correction. What is compared is `correlation`, Pearson's with the exponential scores of the
   activation: ranks, so that no outlier decides, but ranks that grow towards the top, where a detector
   shows. Share of units that pass, of YAMNet's on ESC-10 (80 clips held out) and of detectors of an ESC-10
   class in noise of half the class's size, by Pearson's, Spearman's and this correlation:

       last hidden layer 96, 85, 97 %; normal noise 96, 52, 95 %; Student's t with 2 degrees 37, 6, 53 %

2. Chance over labels. Units that mostly tell sound from silence go with half of any bank: in YAMNet's
   classifier, averaged over clips that end in silence, 52 % of labels drawn at random pass test 1. So the
   correlation must also reach what is expected of the best of ten random labels. A random label does that
   about one time in eleven; both tests let 6 % of them pass there and 0.4 % in the hidden layer, and leave
   58 and 96 % of the units their labels. (By plain correlation it would be 4 % of the classifier's units,
   for silence makes outliers of their logits.)

With more than `BANK` concepts to choose from, more random labels than ten have to be beaten, and the more, the more of
a bank the embedder does not know (`best_of`). What is left of such a bank is held against random labels of the default
bank as well (`rivals`): random labels of three are no measure, and words nobody knows are easily beaten.

The second is a threshold, no p-value. The share of the bank that predicts a unit at least as well would be
one, but it cannot fall below 1 / concepts: in a bank of ten nothing would ever be significant, and where few
units have good labels the correction over units would reject them all. Leaving near synonyms of the label
out of the comparison, by text or by what they say of the clips, decided less than 1 % of the units.

q-values are Benjamini and Hochberg's: units of a layer are positively dependent, for which their bound
holds, and in 100 shuffles of either layer at most 3 % of the units were reliable. Benjamini and Yekutieli's
bound would cost 4 % of the hidden layer's units; Storey's estimates the share of null units, which cannot
be told from units that move together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..numerics import Array, Bools, Doubles, by_presence, chunks, standardised
from .agreement import BEST_OF, Indices, auprc, expected_best, exponential_scores, pool_auprc, strongest
from .permutations import (
    CLEAR,
    EXCEEDED,
    FIRST_PERMUTATIONS,
    PERMUTATIONS,
    ROUNDING,
    GroupPermutations,
    q_values,
    sequential_p_values,
)

BANK = 521  # concepts up to which `BEST_OF` labels have to be beaten; with a larger bank more, in proportion
LEVEL = 0.05  # expected share of wrong ones among the labels that pass the permutation test
LABEL_SETS = 500  # random sets of labels that units with several labels are compared with
AUPRC_WORK = 1_000_000_000  # clips x units x concepts up to which every concept is a random label
LEAST_AUPRC_LABELS = 64  # random labels otherwise
CHUNK_BYTES = 8 * 2**20  # of one working array; a dozen are held at most


@dataclass(frozen=True)
class Faithfulness:
    """How well each unit's labels predict it; NaN where there is no label or the unit never changes.

    Beside each measure stands what labels drawn at random from the bank score: `random_`, the mean over them,
    and `best_`, the expected maximum over `best_of(bank)` of them drawn without replacement.

    Attributes:
        clips: Number of clips it was measured on; fewer for a unit that gave no finite number for some.
        pearson: float64 [units], Pearson's, of prediction and activation, -1..1.
        correlation: float64 [units], Pearson's, of prediction and `exponential_scores` of the activation,
            -1..1: what is tested.
        auprc: float64 [units], average precision at which the prediction finds the unit's `strongest` clips,
            0..1.
        base_rate: float64 [units], share of these clips: what a prediction without any order scores.
        p_value: float64 [units], of the permutation test; 1 where there is nothing to test.
        q_value: float64 [units], Benjamini and Hochberg's (1995) of it over the units tested; else 1. Up to
            `permutations.CLEAR` it is an upper bound: such a unit has passed, and gets no more permutations.
        reliable: bool [units], q_value <= `LEVEL` and correlation reaches best_correlation.
    """

    clips: int
    pearson: Doubles
    random_pearson: Doubles
    best_pearson: Doubles
    correlation: Doubles
    random_correlation: Doubles
    best_correlation: Doubles
    auprc: Doubles
    random_auprc: Doubles
    best_auprc: Doubles
    base_rate: Doubles
    p_value: Doubles
    q_value: Doubles
    reliable: Bools


def faithfulness(
    activations: Array,
    similarity: Array,
    labels: Array,
    *,
    rivals: Array | None = None,
    bank: int | None = None,
    groups: Array | None = None,
    predictions: Array | None = None,
    p_value: Doubles | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    all_random: bool = True,
) -> Faithfulness:
    """Measure labels on clips they were not made from.

    A unit with m > 1 labels is compared with random sets of m labels, `LABEL_SETS` of them, since a maximum
    over more labels is another kind of prediction. Beyond the inputs and a float64 copy of `similarity`, memory does
    not grow with the number of units, but for a copy of `predictions` where units lack clips. The same seed gives the
    same result. A unit that gave no finite number for some clips is measured on the others.

    Args:
        activations: float [clips, units]; clips that are NaN for all units are left out.
        similarity: float [clips, concepts], of one source of evidence.
        labels: int [units, labels] or [units], columns of `similarity`; -1 for none.
        rivals: float [clips, concepts], of other concepts, the best of which labels have to beat as well.
        bank: Number of concepts that labels were chosen from, where it is not that of `similarity`, see `best_of`.
        groups: int [clips], for example the file or the place that a clip comes from. Clips of one group are
            dealt out together and in order, to groups of as many clips, since only these are
            interchangeable. A group whose size no other has stays where it is, which costs power only.
        predictions: float [units, clips], what the labels say of each clip where that is not one column of
            `similarity`: labels of cross-fitting differ between the folds. `labels` then only says who has one.
        p_value: float64 [units], of tests of the predictions by whoever made them, instead of the permutation test of
            fixed predictions.
        permutations: Number of permutations, about; the smallest p-value is its inverse.
        seed: Of permutations and random labels.
        all_random: Whether random labels are measured by `pearson` and `auprc`, too, which takes half of the time; else
            `random_` and `best_` of these are NaN.

    Raises:
        ValueError: The shapes do not belong together.
    """
    labels = labels.reshape(len(labels), -1)
    _check(activations, similarity, labels, groups)
    groups = np.arange(len(activations)) if groups is None else groups
    every = _Clips(similarity, groups, rivals, predictions)
    draws = best_of(bank or similarity.shape[1], similarity.shape[1])
    table = np.full((len(_COLUMNS), len(labels)), np.nan)
    table[_P_VALUE] = 1

    def p_values(wanted: Bools, permutations: int) -> Doubles:
        settings = _Settings(draws, permutations, seed, all_random)
        for clips, units in by_presence(activations):
            shown, units = np.flatnonzero(clips), units[wanted[units]]
            if len(shown) > 1 and len(units):
                table[:, units] = _measured(activations, labels, units, shown, every.at(shown), settings)
        if p_value is not None:
            table[_P_VALUE] = np.where(np.isfinite(table[0]), p_value, 1)
        return np.where(np.isfinite(table[0]), table[_P_VALUE], np.nan)

    first = min(permutations, FIRST_PERMUTATIONS) if p_value is None else 0
    later = [(permutations, EXCEEDED, CLEAR)] if 0 < first < permutations else []
    q_value = q_values(sequential_p_values(p_values, (len(labels),), first, later))
    read = _readable(activations)
    return _conclusion(len(read), dict(zip(_COLUMNS, table, strict=True)), q_value)


def best_of(bank: int, known: int | None = None) -> int:
    """Number of random labels, the best of which a label from a bank has to beat.

    Of more concepts the best on the clips seen is better by chance alone, so a large bank is held against more random
    labels. And where the embedder knows few of a bank's concepts, these are words that happen to be spelt alike, in
    another language or none; the smaller their share, the more it takes.

    Args:
        bank: Number of concepts.
        known: How many of them the embedder knows; by default all.
    """
    return round(BEST_OF * max(1.0, bank / BANK, bank / (known or bank)))


def left_over(activations: Array, similarity: Array, other_labels: Array) -> Doubles:
    """What other labels leave of a unit's activation, for the test of one label among several; float64 [clips, units].

    The exponential scores of the activation, less the part that goes with the prediction by the others (their greatest
    standardised similarity) by least squares, as in a partial correlation; nothing is taken off where that would
    be negative. What is NaN stays NaN: each unit counts over the clips on which it is finite. Tested by `faithfulness`,
    labels that had nothing to do with permuted activations of YAMNet on ESC-10, or with made-up ones driven by the
    other label alone, got p <= 0.05 in 4 to 5 of 100 cases.

    Args:
        activations: float [clips, units].
        similarity: float [clips, concepts].
        other_labels: int [units, labels], columns of `similarity`; -1 for none.
    """
    rest = np.full(activations.shape, np.nan)
    if not len(other_labels):
        return rest
    for clips, units in by_presence(activations):
        concepts = standardised(similarity[clips].T, 1)
        width = concepts.shape[1] * max(other_labels.shape[1], 1)
        for part in (units[span] for span in chunks(len(units), width, CHUNK_BYTES)):
            scores = exponential_scores(activations[clips][:, part].T.astype(np.float64))
            of_unit = other_labels[part]
            beside = np.where((of_unit >= 0)[:, :, None], concepts[of_unit], -np.inf)
            best = beside.max(axis=1, initial=-np.inf)
            predicted = standardised(np.where(np.isfinite(best), best, 0), 1)
            slope = np.maximum(np.einsum("uc,uc->u", scores, predicted) / scores.shape[1], 0)
            rest[np.ix_(clips, part)] = (scores - slope[:, None] * predicted).T
    return rest


_COLUMNS = tuple(Faithfulness.__dataclass_fields__)[1:-2]
_P_VALUE = _COLUMNS.index("p_value")


@dataclass(frozen=True)
class _Clips:
    """What is known of the clips that units are measured on, see `faithfulness`.

    Attributes:
        similarity: float [clips, concepts].
        groups: int [clips].
        rivals: float [clips, other concepts], or None.
        predictions: float [units, clips], or None.
    """

    similarity: Array
    groups: Array
    rivals: Array | None
    predictions: Array | None

    def at(self, rows: Indices) -> _Clips:
        """Some of the clips, in order."""
        predictions = self.predictions
        if predictions is not None and len(rows) < len(self.groups):
            predictions = predictions[:, rows]
        return _Clips(
            self.similarity[rows],
            self.groups[rows],
            None if self.rivals is None else self.rivals[rows],
            predictions,
        )


@dataclass(frozen=True)
class _Settings:
    """The number of random labels whose best has to be beaten, and what a look of `faithfulness` is made with.

    Without permutations every p-value is 1.
    """

    draws: int
    permutations: int
    seed: int
    all_random: bool


@dataclass(frozen=True)
class _Chance:
    """What labels are held against: predictions of random labels, float64 [labels, clips].

    Attributes:
        pool: Of the bank.
        few: Some of them, as many as the work allows.
        beside: Of other concepts, or None.
        draws: Number of random labels whose best has to be beaten.
    """

    pool: Doubles
    few: Doubles
    beside: Doubles | None
    draws: int

    def best(self, by_label: Doubles, by_other: Doubles | None) -> Doubles:
        """Expected best of random labels by their scores, float64 [units, labels]; of either kind the better."""
        best = expected_best(by_label, self.draws)
        return best if by_other is None else np.maximum(best, expected_best(by_other, self.draws))


def _measured(
    activations: Array, labels: Array, units: Array, rows: Indices, clips: _Clips, settings: _Settings
) -> Doubles:
    """The columns of `_COLUMNS` for units that are finite on all of the clips `rows`, float64 [columns, units].

    Args:
        activations: float [all clips, all units].
        labels: int [all units, labels].
        units: int, the units.
        rows: int, the clips.
        clips: Of these clips alone.
        settings: See there.
    """
    table = np.full((len(_COLUMNS), len(units)), np.nan)
    table[_P_VALUE] = 1
    concepts = standardised(clips.similarity.T, 1)
    rivals = None if clips.rivals is None else standardised(clips.rivals.T, 1)
    shuffles = GroupPermutations(clips.groups, settings.permutations, settings.seed)
    counts = (labels[units] >= 0).sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        pool = _random_predictions(concepts, int(count), settings.seed)
        few = _some(pool, activations.size, settings.seed)
        beside = None if rivals is None else _random_predictions(rivals, int(count), settings.seed)
        chance = _Chance(pool, few, beside, settings.draws)
        alike = np.flatnonzero(counts == count)
        width = max(len(rows), len(pool), 0 if beside is None else len(beside))
        for part in (alike[span] for span in chunks(len(alike), width, CHUNK_BYTES)):
            part_units = units[part]
            values = np.ascontiguousarray(activations[rows[:, None], part_units].T, dtype=np.float64)
            if clips.predictions is None:
                prediction = _prediction(concepts, np.sort(labels[part_units], axis=1)[:, -count:])
            else:
                prediction = standardised(clips.predictions[part_units], 1)
            table[:, part] = _measure(values, prediction, chance, shuffles, settings)
    return table


def _measure(
    values: Doubles, prediction: Doubles, chance: _Chance, shuffles: GroupPermutations, settings: _Settings
) -> Doubles:
    """The columns of `_COLUMNS` for some units, float64 [columns, units]."""
    clips, unknown = values.shape[1], [np.full(len(values), np.nan)] * 2

    def of_random(activation: Doubles) -> list[Doubles]:
        by_label = activation @ chance.pool.T / clips
        by_other = None if chance.beside is None else activation @ chance.beside.T / clips
        return [by_label.mean(axis=1), chance.best(by_label, by_other)]

    raw, scores = standardised(values, 1), standardised(exponential_scores(values), 1)
    pearson, correlation = (
        np.einsum("uc,uc->u", activation, prediction) / clips for activation in (raw, scores)
    )
    positives = strongest(values)
    p_value = np.ones(len(values))
    if settings.permutations:
        p_value = shuffles.p_values(scores, prediction, correlation)
    columns = [
        pearson,
        *(of_random(raw) if settings.all_random else unknown),
        correlation,
        *of_random(scores),
        auprc(prediction, positives),
        *(_random_auprc(chance, positives) if settings.all_random else unknown),
        positives.mean(axis=1),
        p_value,
    ]
    tested = raw.any(axis=1) & prediction.any(axis=1)
    untested = np.array([np.nan] * (len(columns) - 1) + [1.0])
    return np.where(tested, np.stack(columns), untested[:, None])


def _random_auprc(chance: _Chance, positives: Bools) -> list[Doubles]:
    """Mean and expected best of the random labels' average precision, both float64 [units]."""
    by_label = pool_auprc(chance.few, positives)
    return [by_label.mean(axis=1), chance.best(by_label, None)]


def _conclusion(clips: int, columns: dict[str, Doubles], q_value: Doubles) -> Faithfulness:
    """What follows from the q-values over the units that were tested."""
    # In a bank of one concept there is no other label to beat, and the two are equal but for rounding.
    better = columns["correlation"] >= columns["best_correlation"] - ROUNDING
    return Faithfulness(clips, **columns, q_value=q_value, reliable=(q_value <= LEVEL) & better)


def _check(activations: Array, similarity: Array, labels: Array, groups: Array | None) -> None:
    if len(activations) != len(similarity) or activations.shape[1] != len(labels):
        raise ValueError(
            f"activations {activations.shape}, similarity {similarity.shape} and labels {labels.shape} differ"
        )
    if labels.size and labels.max() >= similarity.shape[1]:
        raise ValueError(f"label {labels.max()} of {similarity.shape[1]} concepts")
    if groups is not None and len(groups) != len(activations):
        raise ValueError(f"{len(groups)} groups for {len(activations)} clips")


def _random_predictions(concepts: Doubles, count: int, seed: int) -> Doubles:
    """What random labels predict: every concept, or `LABEL_SETS` sets of `count`; float64 [labels, clips]."""
    if count == 1:
        return concepts
    rng = np.random.default_rng([seed, count])
    return _prediction(
        concepts, np.stack([rng.permutation(len(concepts))[:count] for _ in range(LABEL_SETS)])
    )


def _prediction(concepts: Doubles, labels: Array) -> Doubles:
    """Maximum over labels [n, labels] of the standardised similarity, standardised; float64 [n, clips]."""
    best = concepts[labels[:, 0]]
    for column in labels.T[1:]:
        np.maximum(best, concepts[column], out=best)
    return best if labels.shape[1] == 1 else standardised(best, 1)


def _some(pool: Doubles, work: int, seed: int) -> Doubles:
    """As many random labels as the work allows, all if possible."""
    most = max(AUPRC_WORK // max(work, 1), LEAST_AUPRC_LABELS)
    return pool if most >= len(pool) else pool[np.random.default_rng(seed).permutation(len(pool))[:most]]


def _readable(activations: Array) -> Indices:
    """Clips on which some unit gave a finite number, int64."""
    return np.flatnonzero([np.isfinite(row).any() for row in activations])
