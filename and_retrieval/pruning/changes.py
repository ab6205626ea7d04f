"""The clips to which pruning changes the network's answer most, to be listened to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from ..types import Clip, Floats
from .effect import OutputClass, Truth

CHANGED = 8  # clips of the concept, and as many others
LEAST = 0.001  # probability that moves, where an answer counts as changed


@dataclass(frozen=True, slots=True)
class ClipChange:
    """What the network answers to a held-out clip before and after pruning.

    Attributes:
        row: Of the clip in the index.
        path, start, seconds, label, caption: The clip.
        of_concept: Whether it belongs to the concept; a change of any other clip is a side effect.
        class_name: The clip's class.
        before, after: Softmax probability of that class.
        answer_before, answer_after: The class of the largest probability.
        moved: How much probability moved from some classes to others, 0..1: half the sum of absolute changes.
    """

    row: int
    path: str
    start: float
    seconds: float
    label: str | None
    caption: str | None
    of_concept: bool
    class_name: str
    before: float
    after: float
    answer_before: str
    answer_after: str
    moved: float


def changed_clips(
    clips: Sequence[Clip],
    rows: Sequence[int],
    before: Floats,
    after: Floats,
    truth: Truth,
    of_concept: npt.NDArray[np.bool_],
    classes: Sequence[OutputClass],
    names: Sequence[str],
) -> tuple[ClipChange, ...]:
    """The clips whose answer changes most: up to `CHANGED` of the concept, then as many others, most changed first.

    Args:
        clips: All clips of the index.
        rows: Rows of the clips that were measured.
        before, after: Their logits, float32 [rows, columns].
        truth: int [rows], place of the clip's class in `classes`, or -1; clips without a class are left out.
        of_concept: bool [rows], whether the clip belongs to the concept.
        classes: All classes.
        names: Of the columns.
    """
    old, new = (softmax(np.asarray(logits, np.float64), axis=1) for logits in (before, after))
    moved = np.nan_to_num(np.abs(new - old).sum(axis=1) / 2)
    order = np.argsort(-moved, kind="stable")
    order = order[(truth[order] >= 0) & (moved[order] >= LEAST)]
    chosen = [order[of_concept[order] == wanted][:CHANGED].tolist() for wanted in (True, False)]

    def change(place: int) -> ClipChange:
        clip, known = clips[rows[place]], classes[truth[place]]
        columns = list(known.columns)
        return ClipChange(
            row=rows[place],
            path=clip.path,
            start=clip.start,
            seconds=clip.duration,
            label=clip.label,
            caption=clip.caption,
            of_concept=bool(of_concept[place]),
            class_name=known.name,
            before=float(old[place, columns].sum()),
            after=float(new[place, columns].sum()),
            answer_before=names[int(old[place].argmax())],
            answer_after=names[int(new[place].argmax())],
            moved=float(moved[place]),
        )

    return tuple(change(place) for places in chosen for place in places)
