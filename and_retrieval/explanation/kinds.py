"""Kinds: whether a concept explains a unit, or measured sound does, or either as well as the other.

A label can predict a unit on unseen clips and still be false: units that answer to silence go with "sneeze" where the
recordings of sneezes are padded with it. So beside the label stands a plainer rival, the few measured qualities that
the unit goes with most, as many as are said of it in words: a ridge regression of the unit's exponential scores
(`agreement.exponential_scores`) on the ranks and the exponential scores of up to three qualities of different kinds,
and on the bell of the middle to which it is tuned (`bells`), chosen and fitted on the seen clips; in a set too small to
hold clips out, on four fifths of the clips, five times, as the labels are (`cross_fit`). The middle is then one that
these clips choose, ranked among all (`followed`), and permutations choose nothing anew: of 4,000 units of noise on 90
clips of ESC-10 8 % reach p <= 0.05 by their qualities, with middles or without, and 12 % of those that have a middle in
most folds. (All 15 qualities at once tell the classes of a small set apart, whatever they sound like: then 10 % of the
class units of a small AST lose their class.) On the clips that the label was tested on, four things are asked, each by
a permutation test that deals out whole files, with one false discovery rate per question over the units of a layer:

    label       does the label predict the unit?                       (the verdict of the label's own test)
    rival       do the qualities predict the unit?
    adds        does the label predict what the qualities leave?       partial correlation, label given qualities
                and what the one quality leaves that the unit goes with most? (a plainer fit, with less noise in it)
    rival adds  do the qualities predict what the label leaves?        partial correlation, qualities given label

and the answers give the kind:

    concept     the label predicts and adds to the qualities (at least 0.4 of what they add to it), or the qualities do
                not predict at all
    both        the label predicts and adds nothing, and neither do the qualities add to it, or they predict hardly
                better (the label reaches 0.8 of their correlation)
    acoustic    the qualities predict, and the label fails its test or adds nothing while they add to it
    none        neither predicts

Two sorts of labels never make a unit *both*, but *acoustic*. The effect of one goes when silent and padded clips are
set aside: silence alone predicts the unit as well as the qualities do (0.8 of their correlation), and on the clips
without any the label predicts nothing. To make a *concept* all the same, as where every clip of a class is padded, it
has to add nearly as much to the qualities as they add to it (0.8). Of 580 units of YAMNet's that answer to silence and
are called sneezes, whose padding is longest, that leaves 23 sneezes. The other is itself a word for a measured quality
("Silence"): it is no concept beyond sound, and does not make a unit a *concept* either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..clips.qualities import QUALITIES
from ..numerics import Array, Bools, Doubles, Places, by_presence, chunks, standardised
from ..types import Kind
from .acoustics import RIDGE, filled_ranks
from .agreement import exponential_scores
from .bells import Bells
from .faithfulness import LEVEL
from .permutations import FIRST_PERMUTATIONS, GroupPermutations, q_values, sequential_p_values

QUALITIES_NAMED = 3
"""Qualities of different kinds that are said of a unit in words, see `acoustics.preferred`."""
LEAST_PARTIAL = 0.1
"""Partial correlation below which an effect, however sure, adds nothing that a listener would hear."""
LEAST_BESIDE = 0.4
"""Partial correlation of the label, as a share of that of the qualities, below which the qualities are the better
explanation: of units driven by silence alone, ranks that do not fit exactly leave a trace for the label."""
SILENCE = tuple(QUALITIES).index("silence")
LEAST_CLIPS = 2  # on which a unit is finite, to fit on and to test on
EVEN = 0.8
"""Correlation of the label, as a share of that of the qualities, from which either explains a unit as well: in a small
set of classes few qualities tell the classes apart, and the label is right all the same. (Of units of silence that
are called sneezes it is 0.6.)"""
CHUNK_BYTES = 32 * 2**20
SILENT = 0.01
"""Share of silence from which a clip is set aside."""
LEAST_APART = 10  # clips without silence; with fewer, none are set aside
TESTED = {
    "qualities": 0.0,
    "label_adds": LEAST_PARTIAL,
    "qualities_add": LEAST_PARTIAL,
    "label_adds_to_one": LEAST_PARTIAL,
    "label_apart": LEAST_PARTIAL,
}
"""What is tested by permutation -> how large it has to be besides."""
MEASURED = ("label", "silence", *TESTED)
FIGURES = (*MEASURED, *(f"p of {figure}" for figure in TESTED))
"""What is known of a unit before the verdicts: the numbers of `Rivals`, and a p-value for those that are tested."""
P_VALUES = slice(len(MEASURED), None)  # of `FIGURES`
FITTED = -1
"""In place of the fold of a clip that qualities are fitted on and that nothing is tested on."""
ROUNDING = (
    1e-9  # standard deviation of what is nothing but rounding, where it was 1 before something was taken off
)


@dataclass(frozen=True)
class Rivals:
    """How a label and the measured qualities predict each unit of a layer on clips that neither was fitted to.

    Attributes:
        label, qualities: float64 [units], correlation of either with the unit's exponential scores, -1..1; NaN where
            too few clips are left to test.
        silence: float64 [units], size of the correlation of the clips' share of silence with the same scores.
        label_adds, label_adds_to_one: float64 [units], partial correlation of the label given the qualities, and given
            the one quality alone that the unit goes with most.
        qualities_add: float64 [units], partial correlation of the qualities given the label.
        label_apart: float64 [units], correlation of the label on the clips without silence.
        qualities_hold, qualities_help, label_stays: bool [units], whether the permutation test of `qualities`,
            `qualities_add` and `label_apart` is passed.
        label_helps: bool [units], whether those of `label_adds` and `label_adds_to_one` are.
    """

    label: Doubles
    silence: Doubles
    qualities: Doubles
    label_adds: Doubles
    qualities_add: Doubles
    label_adds_to_one: Doubles
    label_apart: Doubles
    qualities_hold: Bools
    label_helps: Bools
    qualities_help: Bools
    label_stays: Bools


def rivals(
    activations: Sequence[Array],
    qualities: Array,
    fold: Array,
    predictions: Array,
    groups: Array,
    bells: Sequence[Bells] | None = None,
) -> Rivals:
    """Hold a label of every unit against the measured qualities, over the clips on which the unit is finite.

    The clips of every fold are tested by qualities that were chosen and fitted on all clips but these. Held-out clips
    are one fold, and the seen ones, on which nothing is tested, are in none; in cross-fitting every clip is in a fold.

    Args:
        activations: float [clips, units], in any number of arrays with the clips of one after those of the other.
        qualities: float [clips, qualities].
        fold: int [clips], `FITTED` for those of no fold; clips of one file are in one.
        predictions: float [units, tested], what each unit's label says of the clips that are in a fold.
        groups: int [tested], the file of each of these.
        bells: Per fold what the units are tuned to, chosen by all other clips; None for nothing.
    """
    units, tests = len(predictions), fold != FITTED
    bells = bells or [Bells.none(units)] * (int(fold.max(initial=0)) + 1)

    def compared(units: Places, wanted: Bools, permutations: int) -> Doubles:
        columns = np.full((len(FIGURES), len(units)), np.nan)
        for span in chunks(len(units), len(fold), CHUNK_BYTES):
            part = units[span]
            of_part = np.concatenate([some[:, part] for some in activations])
            for clips, members in by_presence(of_part):
                y, x, number = of_part[clips][:, members], qualities[clips], fold[clips]
                tested, of_tested = number != FITTED, clips[tests]
                if _enough(number, np.unique(fold[tests])):
                    columns[:, span.start + members] = _compared(
                        y[tested],
                        predictions[part[members]][:, of_tested],
                        _fitted(y, x, number, [of_fold.at(part[members]) for of_fold in bells]),
                        x[tested],
                        groups[of_tested],
                        wanted[:, span][:, members],
                        permutations,
                    )
        return columns

    return _rivals(_looked_at(units, compared))


def _enough(fold: Array, folds: Array) -> bool:
    """Whether clips of which some are missing are enough to test on, and to fit on for each of the folds."""
    counts = [int((fold != FITTED).sum()), *(int((fold != number).sum()) for number in folds)]
    return min(counts) >= LEAST_CLIPS


def _fitted(activations: Array, qualities: Array, fold: Array, bells: Sequence[Bells]) -> Doubles:
    """What several qualities say of the clips that are in a fold, and what one does, float64 [2, units, tested].

    Args:
        activations: float [clips, units], finite.
        qualities, fold: Of the clips.
        bells: Per fold, of these units.
    """
    tested = fold[fold != FITTED]
    fitted = np.zeros((2, activations.shape[1], len(tested)))
    for number in np.unique(tested):
        out = fold == number
        rest = activations[~out], qualities[~out]
        fitted[:, :, tested == number] = _predicted(rest, (activations[out], qualities[out]), bells[number])
    return fitted


def _looked_at(units: int, compared: Callable[[Places, Bools, int], Doubles]) -> Doubles:
    """The `FIGURES` of all units; tests that the first permutations leave undecided are made by all of them.

    Args:
        units: Their number.
        compared: Numbers of units, bool [`TESTED`, units], which tests are wanted, and the number of their
            permutations -> the figures of these units, in which a test that is not wanted has the p-value of the
            first permutations.
    """
    columns = np.full((len(FIGURES), units), np.nan)
    tested = [FIGURES.index(figure) for figure in TESTED]
    large_enough = np.array(list(TESTED.values()))[:, None]

    def p_values(wanted: Bools, permutations: int) -> Doubles:
        wanted = wanted & ~(columns[tested] < large_enough)  # before the first look no figure is known
        left = np.flatnonzero(wanted.any(axis=0))
        columns[:, left] = compared(left, wanted[:, left], permutations)
        return columns[P_VALUES]

    sequential_p_values(p_values, (len(TESTED), units), FIRST_PERMUTATIONS, q_values=_q_values)
    return columns


def _q_values(p_value: Doubles) -> Doubles:
    """One false discovery rate per question, float64 [`TESTED`, units]."""
    return np.stack([q_values(of_question) for of_question in p_value])


def _rivals(columns: Doubles) -> Rivals:
    """The figures of every unit with verdicts in place of p-values, one false discovery rate per question."""
    of = dict(zip(FIGURES, columns, strict=True))
    of_test = dict(zip(TESTED, _q_values(columns[P_VALUES]), strict=True))

    def passed(figure: str) -> Bools:
        """Where the permutation test of a figure is passed, and the figure is as large as is worth saying."""
        passes: Bools = (of[figure] >= TESTED[figure]) & (of_test[figure] <= LEVEL)
        return passes

    return Rivals(
        **{figure: of[figure] for figure in MEASURED},
        qualities_hold=passed("qualities"),
        label_helps=passed("label_adds") & passed("label_adds_to_one"),
        qualities_help=passed("qualities_add"),
        label_stays=passed("label_apart"),
    )


def _compared(
    activations: Array,
    predictions: Array,
    fitted: Doubles,
    qualities: Array,
    groups: Array,
    wanted: Bools,
    permutations: int,
) -> list[Doubles]:
    """The `FIGURES` of units that are finite on all clips.

    Args:
        activations: float [clips, units].
        predictions: float [units, clips], what the labels say of the clips.
        fitted: float [2, units, clips], what several qualities say, and what one does.
        qualities: float [clips, qualities].
        groups: int [clips].
        wanted: bool [`TESTED`, units], which tests get all permutations; the others get the first ones.
        permutations: Their number.
    """
    shuffles = GroupPermutations(groups, permutations)
    y = _standard(exponential_scores(activations.T.astype(np.float64)))
    label, several, one = (_standard(x) for x in (predictions, *fitted))
    share = np.nan_to_num(qualities[:, SILENCE].astype(np.float64))
    apart = share < SILENT
    if apart.sum() < LEAST_APART:
        apart[:] = True
    together = y, several, _correlation(y, several)
    left = _standard(y[:, apart]), _standard(label[:, apart])
    on_left = *left, _correlation(*left)
    partial = _partial(y, label, several), _partial(y, several, label), _partial(y, label, one)
    return [
        _correlation(y, label),
        np.abs(_correlation(y, _standard(exponential_scores(share[None])))),
        *(compared[2] for compared in (together, *partial, on_left)),
        *(
            shuffles.p_values(*compared, go_on)
            for compared, go_on in zip((together, *partial), wanted[:-1], strict=True)
        ),
        GroupPermutations(groups[apart], permutations).p_values(*on_left, wanted[-1]),
    ]


def kinds(label_holds: Bools, figures: Rivals, names_quality: Bools) -> list[Kind | None]:
    """The kind of every unit; None for a unit that was not held against its rival, or that nothing explains.

    Args:
        label_holds: bool [units], whether the label passed its own test.
        figures: Of the same units and labels.
        names_quality: bool [units], whether the label is a word for a measured quality.
    """
    label_holds = label_holds & np.isfinite(figures.label)
    beyond = label_holds & ~names_quality
    by_silence = ~figures.label_stays & (figures.silence >= EVEN * figures.qualities)
    beside = np.where(by_silence, EVEN, LEAST_BESIDE)
    helps = figures.label_helps & (figures.label_adds >= beside * figures.qualities_add)
    concept = beyond & (helps | ~figures.qualities_hold)
    even = ~figures.qualities_help | (figures.label >= EVEN * figures.qualities)
    both = beyond & ~concept & even & ~by_silence
    acoustic = (figures.qualities_hold | (label_holds & names_quality)) & ~concept & ~both
    names: list[Kind | None] = [None] * len(label_holds)
    kind_of: dict[Kind, Bools] = {"concept": concept, "both": both, "acoustic": acoustic}
    for kind, units in kind_of.items():
        for unit in np.flatnonzero(units):
            names[unit] = kind
    return names


def _predicted(seen: tuple[Array, Array], tested: tuple[Array, Array], bells: Bells) -> Doubles:
    """What the qualities say of the tested clips, chosen and fitted on the seen ones: float64 [2, units, tested].

    First what several say together, then what the one says that the unit goes with most. The bell of a unit that is
    tuned to the middle of a quality is among both.
    """
    every = np.concatenate([seen[1], tested[1]])
    ranks = filled_ranks(every).T  # [qualities, clips]
    count = len(seen[1])
    x = _standard(ranks[:, :count])
    # Of a unit that measures a quality, ranks alone would leave the label what exponential scores have beyond them: of
    # planted units that follow one quality of the clips of ESC-10, 10 of 60 were called concepts, with scores one.
    scores = {direction: exponential_scores(direction * ranks) for direction in (1, -1)}
    predicted = np.empty((2, seen[0].shape[1], len(tested[1])))
    for part in chunks(seen[0].shape[1], 2 * ranks.shape[1] * QUALITIES_NAMED, CHUNK_BYTES):
        y = _standard(exponential_scores(seen[0][:, part].T.astype(np.float64)))
        rho = y @ x.T / count
        chosen = _strongest_kinds(rho)
        rising = np.take_along_axis(rho, chosen, axis=1)[:, :, None] > 0
        exponential = np.where(rising, scores[1][chosen], scores[-1][chosen])
        tuned = _standard(bells.at(part).responses(every))[:, None]
        features = np.concatenate([ranks[chosen], exponential, tuned], axis=1)  # [units, features, clips]
        predicted[0, part] = _ridge(features, y)
        predicted[1, part] = _ridge(features[:, [0, QUALITIES_NAMED, -1]], y)
    return predicted


def _ridge(features: Doubles, y: Doubles) -> Doubles:
    """What features [units, features, clips] say of the clips beyond the first, which y [units, first] covers."""
    count = y.shape[1]
    features = features - features[:, :, :count].mean(axis=2, keepdims=True)
    fitted = features[:, :, :count]
    gram = fitted @ fitted.transpose(0, 2, 1) + RIDGE * count * np.eye(fitted.shape[1])
    weights = np.linalg.solve(gram, np.einsum("ufc,uc->uf", fitted, y)[:, :, None])[:, :, 0]
    return np.asarray(np.einsum("uf,ufc->uc", weights, features[:, :, count:]))


def _strongest_kinds(rho: Doubles) -> npt.NDArray[np.intp]:
    """The qualities with the strongest correlations, each of another kind: int [units, `QUALITIES_NAMED`]."""
    kind = np.unique([quality.kind for quality in QUALITIES.values()], return_inverse=True)[1]
    left = np.abs(rho)
    chosen = np.empty((len(rho), QUALITIES_NAMED), np.intp)
    for place in range(QUALITIES_NAMED):
        chosen[:, place] = left.argmax(axis=1)
        left = np.where(kind == kind[chosen[:, place], None], -1, left)
    return chosen


def _partial(y: Doubles, x: Doubles, given: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """What is left of y and of x without what goes with a third, standardised, and their correlation."""
    left = _standard(y - _correlation(y, given)[:, None] * given)
    right = _standard(x - _correlation(x, given)[:, None] * given)
    return left, right, _correlation(left, right)


def _correlation(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(np.einsum("uc,uc->u", x, y) / x.shape[1])


def _standard(x: Array) -> Doubles:
    """Rows of mean 0 and standard deviation 1; zero for rows that do not vary but for rounding."""
    return standardised(x, 1, least=ROUNDING)
