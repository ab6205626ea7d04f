"""Effects of pruning: which units a budget takes, what the network loses without them, and what chance would lose.

Everything is measured on clips with a known class: `truth` int [clips] holds its number, -1 for clips without a class.
Clips whose class is to be pruned are the target, the others the rest. A clip's confidence is the softmax probability
of its class. A class is usually one column of the logits; where the network knows a sound by several names
(AudioSet's Dog and Bark), the class has all their columns, and their probabilities are added.

Logits are measured twice, as they are and less their mean over all classes (centred): masking that lifts the logits of
all classes alike changes no probability and no decision, but it changes every logit.
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

from ..choices import BUDGET
from ..errors import InputError
from ..network.hooks import class_logits, forward
from ..network.mask import ZERO, Constants, Units, masked
from ..network.plan import LayerPlan
from ..network.replay import recorded_prefix, replayed
from ..types import Floats, Target

LADDER = (0.01, 0.02, 0.03, 0.06, 0.12, 0.25)
"""Shares of the units that are tried when no budget is given."""
NEAR_BEST = 0.9  # share of the best gap that is enough for the knee
ROUNDED = 2e-3  # how far the sum of probabilities may be from 1, in half precision
SAME = 1e-4  # largest difference of logits, relative to the largest logit, that rounding explains

Scores = Mapping[str, Floats]
"""Layer -> how much each of its units belongs to the concept, float32 [units]; a unit with -inf is never chosen."""
Choice = Mapping[str, npt.NDArray[np.intp]]
"""Layer -> the units chosen in it, ascending."""
Truth = npt.NDArray[np.int64]
Confidence = npt.NDArray[np.float64]
MEASURES = ("", "_logit", "_centred")
"""Endings of the fields that hold an effect as probability, as logit, and as logit less its mean over all classes."""


@dataclass(frozen=True, slots=True)
class OutputClass:
    """A class that clips are labelled with: its name and its columns of the logits, at least one."""

    name: str
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClassEffect:
    """Probability and accuracy of one class on its clips, before and after masking."""

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
    """What masking units does to the network's confidence on the target clips and on the rest.

    Attributes:
        delta_target, delta_rest: Change of the mean softmax probability of each clip's class, -1..1.
        gap: delta_rest - delta_target; higher is better, 0 if both lose equally.
        delta_target_logit, delta_rest_logit, gap_logit: The same for logits (for a class of several columns, the log of
            the sum of their exponentials).
        delta_target_centred, delta_rest_centred, gap_centred: The same for these logits less the mean of the clip's
            logits over all classes.
        accuracy_target, accuracy_rest: Share of clips whose class has the largest logit after masking.
        accuracy_target_before, accuracy_rest_before: The same before masking.
        classes: Every class that has clips.
    """

    delta_target: float
    delta_rest: float
    gap: float
    delta_target_logit: float
    delta_rest_logit: float
    gap_logit: float
    delta_target_centred: float
    delta_rest_centred: float
    gap_centred: float
    accuracy_target: float
    accuracy_rest: float
    accuracy_target_before: float
    accuracy_rest_before: float
    classes: tuple[ClassEffect, ...]


def units_for(budget: float, total: int) -> int:
    """Number of units of a budget, at least one: a budget below 1 is a share of the units, any other is a number.

    Raises:
        InputError: The budget is not above 0, is 1 or more but not whole, or exceeds the units there are.
    """
    BUDGET.check("budget", budget)
    if budget < 1:
        return max(1, round(budget * total))
    if budget > total:
        raise InputError(
            f"budget {budget:g} is more than the {total} units of the chosen layers; give at most {total}"
        )
    return int(budget)


def best_units(scores: Scores, count: int) -> dict[str, npt.NDArray[np.intp]]:
    """The `count` best units of all layers together; ties go to the earlier layer and unit."""
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
    constants: Constants = ZERO,
) -> Floats:
    """Logits without a mask and with each mask, float32 [1 + masks, clips, classes]; the first are without a mask.

    Every batch is read and preprocessed once. Modules that finish before the first masked layer starts are computed
    once per batch and replayed for the masks. If replaying does not reproduce the network's logits (a network that
    gives different outputs for the same input), every pass is computed in full.

    Args:
        target: The network, in eval mode; it must have `logits`.
        plans: Plans of the masked layers, from `network.layers.plan_layers`.
        batches: Batches of equally long waveforms at the target's sample rate.
        masks: Units to mask; every mask is one pass.
        constants: What masked units put out; zero by default.

    Raises:
        InputError: The target has no classes, the network fails, or a layer cannot be masked.

    Where what the target gives as logits are probabilities (`are_probabilities`), their logarithm is taken.
    """
    if target.logits is None:
        raise InputError(f"target {target.name!r} has no classes: nothing to measure an effect on")
    layers = {layer for mask in masks for layer, units in mask.items() if len(units)}
    parts: list[npt.NDArray[np.float32]] = []
    for waveforms in batches:
        prepared = dataclasses.replace(target, preprocess=_once(target.preprocess))

        def logits(waveforms: Sequence[Floats] = waveforms, prepared: Target = prepared) -> Floats:
            output = forward(prepared, waveforms, target.device)
            rows: Floats = class_logits(target, output).float().cpu().numpy()
            return rows

        with torch.inference_mode(), masked(target, {}, plans):
            before, prefix = recorded_prefix(target.module, layers, logits)
            with replayed(target.module, prefix):
                again = logits()
        if not np.allclose(before, again, rtol=0, atol=SAME * float(np.abs(before).max())):
            prefix = ()
        passes = [before]
        for mask in masks:
            with (
                torch.inference_mode(),
                masked(target, mask, plans, constants),
                replayed(target.module, prefix),
            ):
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
    """`preprocess` for one batch, computed at the first call; each call gets a copy, as a network may write to it."""
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
    """How confidence and accuracy on the clips' classes change between two sets of logits.

    Args:
        before, after: Logits, float32 [clips, columns].
        truth: int [clips], place of the clip's class in `classes`, or -1.
        is_target: bool [clips], whether the clip belongs to the concept.
        classes: All classes.

    Raises:
        InputError: There is no clip of the target, or none of the rest.
    """
    known = np.flatnonzero(truth >= 0)
    number, is_target = truth[known], is_target[known]
    if not is_target.any() or is_target.all():
        raise InputError(
            f"of {len(known)} labelled clips {int(is_target.sum())} are of the concept; clips of the concept and "
            "of other classes are needed to measure an effect"
        )
    member = np.zeros((len(classes), before.shape[1]), bool)
    for place, output_class in enumerate(classes):
        member[place, list(output_class.columns)] = True
    in_class = member[number]  # bool [clips, columns]
    logits = [part[known].astype(np.float64) for part in (before, after)]
    confidence = [_confidence(part, in_class) for part in logits]
    right = [in_class[np.arange(len(known)), part.argmax(axis=1)] for part in logits]
    changes: dict[str, float] = {}
    for measure, (old, new) in zip(MEASURES, zip(*confidence, strict=True), strict=True):
        target, rest = float((new - old)[is_target].mean()), float((new - old)[~is_target].mean())
        changes |= {
            f"delta_target{measure}": target,
            f"delta_rest{measure}": rest,
            f"gap{measure}": rest - target,
        }
    (probability, *_), (probability_after, *_) = confidence
    class_effects = tuple(
        ClassEffect(
            name=classes[place].name,
            clips=int((number == place).sum()),
            target=bool(is_target[number == place][0]),
            probability_before=float(probability[number == place].mean()),
            probability_after=float(probability_after[number == place].mean()),
            accuracy_before=float(right[0][number == place].mean()),
            accuracy_after=float(right[1][number == place].mean()),
        )
        for place in np.unique(number)
    )
    return Effect(
        **changes,
        accuracy_target=float(right[1][is_target].mean()),
        accuracy_rest=float(right[1][~is_target].mean()),
        accuracy_target_before=float(right[0][is_target].mean()),
        accuracy_rest_before=float(right[0][~is_target].mean()),
        classes=class_effects,
    )


def _confidence(logits: npt.NDArray[np.float64], in_class: npt.NDArray[np.bool_]) -> tuple[Confidence, ...]:
    """Probability, logit and centred logit of every clip's class, each float64 [clips], in the order of `MEASURES`."""
    probability = np.where(in_class, softmax(logits, axis=1), 0).sum(axis=1)
    logit = np.logaddexp.reduce(np.where(in_class, logits, -np.inf), axis=1)
    return probability, logit, logit - logits.mean(axis=1)


def knee(gaps: Sequence[float]) -> int:
    """Place of the budget to choose on a curve of gaps over rising budgets.

    This is the smallest budget that reaches `NEAR_BEST` of the best gap: beyond it the concept has lost nearly all it
    will lose, and further units cost the rest. If no gap is above 0, it is the smallest budget.
    """
    best = max(gaps)
    return next((place for place, gap in enumerate(gaps) if best > 0 and gap >= NEAR_BEST * best), 0)
