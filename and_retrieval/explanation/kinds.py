"""Kinds: whether a concept explains a unit, or measured sound does, or either as well as the other.

A label can predict a unit on unseen clips and still be false: units that answer to silence go with "sneeze" where the
recordings of sneezes are padded with it. So beside the label stands a plainer rival, the few measured qualities that
the unit goes with most, as many as are said of it in words: a ridge regression of the unit's exponential scores
(`faithfulness.exponential_scores`) on the ranks of up to three qualities of different kinds, chosen and fitted on the
seen clips. (All 15 at once tell the classes of a small set apart, whatever they sound like: then 10 % of the class
units of a small AST lose their class.) On the clips that the label was tested on, four things are asked, each by a
permutation test that deals out whole files, with one false discovery rate per question over the units of a layer:

    label       does the label predict the unit?                       (the verdict of the label's own test)
    rival       do the qualities predict the unit?
    adds        does the label predict what the qualities leave?       partial correlation, label given qualities
    rival adds  do the qualities predict what the label leaves?        partial correlation, qualities given label

and the answers give the kind:

    concept     the label predicts and adds to the qualities (at least 0.4 of what they add to it), or the qualities do
                not predict at all
    both        the label predicts and adds nothing, and neither do the qualities add to it, or they predict hardly
                better (the label reaches 0.8 of their correlation)
    acoustic    the qualities predict, and the label fails its test or adds nothing while they add to it
    none        neither predicts
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ..clips.qualities import QUALITIES
from ..numerics import Array, Bools, Doubles, by_presence, chunks
from ..types import Kind
from .acoustics import RIDGE, filled_ranks
from .faithfulness import LEVEL, exponential_scores
from .permutations import GroupPermutations

QUALITIES_NAMED = 3
"""Qualities of different kinds that are said of a unit in words, see `acoustics.describe`."""
LEAST_PARTIAL = 0.1
"""Partial correlation below which an effect, however sure, adds nothing that a listener would hear."""
LEAST_BESIDE = 0.4
"""Partial correlation of the label, as a share of that of the qualities, below which the qualities are the better
explanation: of units driven by silence alone, ranks that do not fit exactly leave a trace for the label."""
LEAST_CLIPS = 2  # on which a unit is finite, to fit on and to test on
EVEN = 0.8
"""Correlation of the label, as a share of that of the qualities, from which either explains a unit as well: in a small
set of classes few qualities tell the classes apart, and the label is right all the same. (Of units of silence that
are called sneezes it is 0.6.)"""
CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Rivals:
    """How a label and the measured qualities predict each unit of a layer on clips that neither was fitted to.

    Attributes:
        label, qualities: float64 [units], correlation of either with the unit's exponential scores, -1..1; NaN where
            too few clips are left to test.
        label_adds: float64 [units], partial correlation of the label given the qualities.
        qualities_add: float64 [units], the reverse.
        qualities_hold, label_helps, qualities_help: bool [units], whether the permutation test of `qualities`,
            `label_adds` and `qualities_add` is passed.
    """

    label: Doubles
    qualities: Doubles
    label_adds: Doubles
    qualities_add: Doubles
    qualities_hold: Bools
    label_helps: Bools
    qualities_help: Bools


def rivals(
    seen: tuple[Array, Array], tested: tuple[Array, Array], predictions: Array, groups: Array
) -> Rivals:
    """Hold a label of every unit against the measured qualities, over the clips on which the unit is finite.

    Args:
        seen: Activations, float [seen, units], and qualities, float [seen, qualities], of the clips to fit on.
        tested: The same of the clips to test on.
        predictions: float [units, tested], what each unit's label says of the clips.
        groups: int [tested], the file of each clip.
    """
    units = len(predictions)
    columns = np.full((7, units), np.nan)  # the fields of `Rivals` in order, p-values in place of verdicts
    for part in chunks(units, len(seen[0]) + len(groups), CHUNK_BYTES):
        both = np.concatenate([seen[0][:, part], tested[0][:, part]])
        for clips, own in by_presence(both):
            fit, test = np.split(clips, [len(seen[0])])
            if min(fit.sum(), test.sum()) >= LEAST_CLIPS:
                columns[:, part.start + own] = _measured(
                    (both[clips][: fit.sum(), own], seen[1][fit]),
                    (both[clips][fit.sum() :, own], tested[1][test]),
                    predictions[part][own][:, test],
                    groups[test],
                )
    known = np.isfinite(columns[0])
    verdicts = np.zeros((3, units), np.bool_)
    if known.any():
        verdicts[:, known] = [stats.false_discovery_control(p) <= LEVEL for p in columns[4:, known]]
    holds, helps, other_helps = verdicts
    label, qualities, label_adds, qualities_add = columns[:4]
    return Rivals(
        label,
        qualities,
        label_adds,
        qualities_add,
        qualities_hold=holds & (columns[1] > 0),
        label_helps=helps & (columns[2] >= LEAST_PARTIAL),
        qualities_help=other_helps & (columns[3] >= LEAST_PARTIAL),
    )


def _measured(
    seen: tuple[Array, Array], tested: tuple[Array, Array], predictions: Array, groups: Array
) -> list[Doubles]:
    """The fields of `Rivals` in order, p-values in place of verdicts, of units that are finite on all clips."""
    fitted = _predicted(seen, tested)
    permutations = GroupPermutations(groups)
    y = _standard(exponential_scores(tested[0].T.astype(np.float64)))
    label, quality = _standard(predictions.astype(np.float64)), _standard(fitted)
    r = [_correlation(y, label), _correlation(y, quality)]
    adds = _partial(y, label, quality)
    others = _partial(y, quality, label)
    p = [
        permutations.p_values(y, quality, r[1]),
        permutations.p_values(*adds),
        permutations.p_values(*others),
    ]
    return [*r, adds[2], others[2], *p]


def kinds(label_holds: Bools, found: Rivals) -> list[Kind | None]:
    """The kind of every unit, from the verdict of its label's own test and its rivals; see the module.

    None for a unit that was not held against its rival.
    """
    label_holds = label_holds & np.isfinite(found.label)
    helps = found.label_helps & (found.label_adds >= LEAST_BESIDE * found.qualities_add)
    concept = label_holds & (helps | ~found.qualities_hold)
    even = ~found.qualities_help | (found.label >= EVEN * found.qualities)
    both = label_holds & ~concept & even
    acoustic = found.qualities_hold & ~concept & ~both
    names: list[Kind | None] = [None] * len(label_holds)
    kind_of: dict[Kind, Bools] = {"concept": concept, "both": both, "acoustic": acoustic}
    for kind, units in kind_of.items():
        for unit in np.flatnonzero(units):
            names[unit] = kind
    return names


def _predicted(seen: tuple[Array, Array], tested: tuple[Array, Array]) -> Doubles:
    """What the qualities say of the tested clips, chosen and fitted on the seen ones: float64 [units, tested]."""
    ranks = filled_ranks(np.concatenate([seen[1], tested[1]]))
    x, other = np.split(ranks, [len(seen[1])])
    mean = x.mean(axis=0)
    x, other = x - mean, other - mean
    predicted = np.empty((seen[0].shape[1], len(other)))
    for part in chunks(seen[0].shape[1], len(x) * QUALITIES_NAMED, CHUNK_BYTES):
        y = _standard(exponential_scores(seen[0][:, part].T.astype(np.float64)))
        chosen = _strongest_kinds(y @ _standard(x.T).T / len(x))
        fitted = x.T[chosen]  # [units, qualities, clips]
        gram = fitted @ fitted.transpose(0, 2, 1) + RIDGE * len(x) * np.eye(chosen.shape[1])
        weights = np.linalg.solve(gram, np.einsum("uqc,uc->uq", fitted, y)[:, :, None])[:, :, 0]
        predicted[part] = np.einsum("uq,uqc->uc", weights, other.T[chosen])
    return predicted


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


def _standard(x: Doubles) -> Doubles:
    """Rows of mean 0 and standard deviation 1; zero for rows that do not vary."""
    x = x - x.mean(axis=1, keepdims=True)
    spread = x.std(axis=1, keepdims=True)
    return np.asarray(np.where(spread > 1e-9, x / np.where(spread > 1e-9, spread, 1), 0))
