"""Pruning: which units go for a budget, what the network loses with them, and how much of it is chance.

Everything is measured on clips with a known class: `truth` int [clips] numbers it, -1 for clips that count for none.
Clips whose class is to be forgotten are the target, the others the rest. A clip's confidence is the softmax
probability of its own class. A class is mostly one column of the logits; where the network knows a sound by several
names (AudioSet's Dog and Bark), it is all of them: their probabilities are added.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from ..errors import InputError
from ..network.hooks import forward
from ..network.mask import Units, masked
from ..network.plan import LayerPlan
from ..network.replay import recorded_prefix, replayed
from ..types import Floats, Target

LADDER = (0.01, 0.02, 0.03, 0.06, 0.12, 0.25)
"""Shares of the units that are tried when no budget is given."""
NEAR_BEST = 0.9  # of the best gap is enough for the knee
ROUNDED = 2e-3  # how far the sum of probabilities may be from 1, in half precision
SAME = 1e-4  # largest difference of logits, relative to the largest logit, that rounding explains

Scores = Mapping[str, Floats]
"""Layer -> how much each of its units is the concept's, float32 [units], higher is more; -inf is never taken."""
Choice = Mapping[str, npt.NDArray[np.intp]]
"""Layer -> the units chosen in it, ascending."""
Truth = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OutputClass:
    """A class as the clips' labels know it: its name and its columns of the logits, at least one."""

    name: str
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClassEffect:
    """What one class lost: probability and accuracy on its own clips, before and after."""

    name: str
    clips: int
    target: bool
    probability_before: float
    probability_after: float
    accuracy_before: float
    accuracy_after: float

    @property
    def delta(self) -> float:
        """Change of the mean probability, -1..1."""
        return self.probability_after - self.probability_before


@dataclass(frozen=True, slots=True)
class Effect:
    """What masking some units does to the clips of the target and to the rest.

    Attributes:
        delta_target, delta_rest: Change of the mean softmax probability of the clips' own classes, -1..1.
        gap: delta_rest - delta_target; higher is better, 0 where both lose alike.
        delta_target_logit, delta_rest_logit, gap_logit: The same of the logits (of several, the log of the sum of their
            exponentials).
        accuracy_target, accuracy_rest: Share of clips whose class has the largest logit afterwards.
        accuracy_target_before, accuracy_rest_before: And before.
        classes: Every class that has clips.
    """

    delta_target: float
    delta_rest: float
    gap: float
    delta_target_logit: float
    delta_rest_logit: float
    gap_logit: float
    accuracy_target: float
    accuracy_rest: float
    accuracy_target_before: float
    accuracy_rest_before: float
    classes: tuple[ClassEffect, ...]


def units_for(budget: float, total: int) -> int:
    """Number of units of a budget: a share where it is below 1, otherwise a number; at least one unit.

    Raises:
        InputError: It is not above 0, is no whole number, or exceeds the units there are.
    """
    if not budget > 0:
        raise InputError(f"budget {budget:g}: give a number of units, or a share of them between 0 and 1")
    if budget < 1:
        return max(1, round(budget * total))
    if budget != int(budget):
        raise InputError(f"budget {budget:g} is no whole number of units")
    if budget > total:
        raise InputError(
            f"budget {budget:g} is more than the {total} units of the chosen layers; give at most {total}"
        )
    return int(budget)


def best_units(scores: Scores, count: int) -> dict[str, npt.NDArray[np.intp]]:
    """The `count` best units over all layers together; ties go to the earlier layer and unit."""
    every = np.concatenate([np.asarray(values, np.float64) for values in scores.values()])
    order = np.argsort(-every, kind="stable")[:count]
    best = np.zeros(len(every), bool)
    best[order[np.isfinite(every[order])]] = True
    starts = np.cumsum([0, *(len(values) for values in scores.values())])
    return {
        layer: np.flatnonzero(best[start : start + len(scores[layer])])
        for layer, start in zip(scores, starts, strict=False)
    }


def random_units(
    like: Choice, sizes: Mapping[str, int], rng: np.random.Generator
) -> dict[str, npt.NDArray[np.intp]]:
    """As many units of every layer as `like` has there, drawn at random."""
    return {
        layer: np.sort(rng.choice(sizes[layer], len(units), replace=False)).astype(np.intp)
        for layer, units in like.items()
    }


def masked_logits(
    target: Target,
    plans: Sequence[LayerPlan],
    batches: Iterable[Sequence[Floats]],
    masks: Sequence[Units],
    device: str | torch.device = "cpu",
) -> Floats:
    """Logits without and with every mask, float32 [1 + masks, clips, classes]; the first is the untouched network.

    Every batch is read and preprocessed once. Modules that are through before the first masked layer begins are
    computed once a batch and replayed for the masks; where that does not give the network's own logits (a network
    that is not the same twice), every pass is computed whole.

    Args:
        target: Its module is in eval mode and on `device`; it must have `logits`.
        plans: Of the masked layers, from `network.layers.plan_layers`.
        batches: Equally long waveforms at the target's rate.
        masks: Units to mask, one pass each.
        device: Where the network is.

    Raises:
        InputError: The target has no classes, the network fails, or a layer cannot be masked.

    Where what the target gives as logits are probabilities (`are_probabilities`), their logarithm is taken.
    """
    if target.logits is None:
        raise InputError(f"target {target.name!r} has no classes: nothing to measure an effect on")
    read = target.logits
    layers = {layer for mask in masks for layer, units in mask.items() if len(units)}
    parts: list[npt.NDArray[np.float32]] = []
    for waveforms in batches:
        prepared = dataclasses.replace(target, preprocess=_once(target.preprocess))

        def logits(waveforms: Sequence[Floats] = waveforms, prepared: Target = prepared) -> Floats:
            rows: Floats = read(forward(prepared, waveforms, device)).float().cpu().numpy()
            return rows

        with torch.inference_mode(), masked(target, {}, plans):
            before, prefix = recorded_prefix(target.module, layers, logits)
            with replayed(target.module, prefix):
                again = logits()
        if not np.allclose(before, again, rtol=0, atol=SAME * float(np.abs(before).max())):
            prefix = ()
        passes = [before]
        for mask in masks:
            with torch.inference_mode(), masked(target, mask, plans), replayed(target.module, prefix):
                passes.append(logits())
        parts.append(np.stack(passes))
    logits_of_all = np.concatenate(parts, axis=1)
    if are_probabilities(logits_of_all[0]):
        return np.asarray(np.log(np.maximum(logits_of_all, np.finfo(np.float32).tiny)), np.float32)
    return logits_of_all


def are_probabilities(logits: Floats) -> bool:
    """Whether what a network gives as logits [clips, classes] has been through softmax: 0..1, every sum 1."""
    if not logits.size or logits.shape[1] < 2:
        return False
    within = bool((logits >= -ROUNDED).all() and (logits <= 1 + ROUNDED).all())
    return within and bool((np.abs(logits.sum(axis=1, dtype=np.float64) - 1) <= ROUNDED).all())


def doubt_of(logits: Floats) -> str | None:
    """A line about logits [clips, classes] that seem to be none, or None."""
    if are_probabilities(logits):
        return "the target's logits are probabilities (each clip's sum to 1): their logarithm was taken"
    if logits.size and (logits >= 0).all() and (logits <= 1).all():
        return (
            "the target's logits all lie between 0 and 1: if they are probabilities (sigmoid), effects come out far "
            "too small; give logits=torch.logit in the target"
        )
    return None


def _once(preprocess: Callable[[list[Floats]], Any]) -> Callable[[list[Floats]], Any]:
    """`preprocess` for one batch, computed when first called; each call gets a copy, for a network may write on it."""
    kept: list[Any] = []

    def prepared(waveforms: list[Floats]) -> Any:
        kept[:] = kept or [preprocess(waveforms)]
        return copy.deepcopy(kept[0])

    return prepared


def effect(
    before: Floats,
    after: Floats,
    truth: Truth,
    is_target: npt.NDArray[np.bool_],
    classes: Sequence[OutputClass],
) -> Effect:
    """What became of the clips' own classes between two sets of logits.

    Args:
        before, after: float32 [clips, columns].
        truth: Number of every clip's class, or -1.
        is_target: bool [clips], whether it is the concept's.
        classes: The classes that `truth` numbers.

    Raises:
        InputError: No clip of the target, or none of the rest.
    """
    known = np.flatnonzero(truth >= 0)
    own, is_target = truth[known], is_target[known]
    if not is_target.any() or is_target.all():
        raise InputError(
            f"of {len(known)} labelled clips {int(is_target.sum())} are of the concept; some of it and some of "
            "other classes are needed to measure an effect"
        )
    member = np.zeros((len(classes), before.shape[1]), bool)
    for number, one in enumerate(classes):
        member[number, list(one.columns)] = True
    mine = member[own]
    probability = [
        np.where(mine, softmax(x[known].astype(np.float64), axis=-1), 0).sum(axis=1) for x in (before, after)
    ]
    logit = [
        np.logaddexp.reduce(np.where(mine, x[known].astype(np.float64), -np.inf), axis=1)
        for x in (before, after)
    ]
    right = [mine[np.arange(len(known)), x[known].argmax(axis=1)] for x in (before, after)]

    def change(pair: Sequence[npt.NDArray[np.float64]], chosen: npt.NDArray[np.bool_]) -> float:
        return float((pair[1][chosen] - pair[0][chosen]).mean())

    target, rest = change(probability, is_target), change(probability, ~is_target)
    target_logit, rest_logit = change(logit, is_target), change(logit, ~is_target)
    told = tuple(
        ClassEffect(
            name=classes[number].name,
            clips=int((own == number).sum()),
            target=bool(is_target[own == number][0]),
            probability_before=float(probability[0][own == number].mean()),
            probability_after=float(probability[1][own == number].mean()),
            accuracy_before=float(right[0][own == number].mean()),
            accuracy_after=float(right[1][own == number].mean()),
        )
        for number in np.unique(own)
    )
    return Effect(
        delta_target=target,
        delta_rest=rest,
        gap=rest - target,
        delta_target_logit=target_logit,
        delta_rest_logit=rest_logit,
        gap_logit=rest_logit - target_logit,
        accuracy_target=float(right[1][is_target].mean()),
        accuracy_rest=float(right[1][~is_target].mean()),
        accuracy_target_before=float(right[0][is_target].mean()),
        accuracy_rest_before=float(right[0][~is_target].mean()),
        classes=told,
    )


def knee(gaps: Sequence[float]) -> int:
    """Place of the budget to choose on a curve of gaps over rising budgets.

    The smallest budget that reaches `NEAR_BEST` of the best gap: beyond it the concept is nearly as forgotten as it
    gets, and further units cost the rest. Where no gap is above 0, the smallest budget.
    """
    best = max(gaps)
    return next((place for place, gap in enumerate(gaps) if best > 0 and gap >= NEAR_BEST * best), 0)
