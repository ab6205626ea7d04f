"""What masking units of a run does to its clips: which clips are the concept's, and the network's logits for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..clips.index import place_of
from ..errors import InputError
from ..network.hooks import forward
from ..network.mask import Units
from ..network.plan import LayerPlan
from ..network.probe import read_batches
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..types import Floats, Target
from .effect import OutputClass, Truth, masked_logits
from .matching import Vocabulary

BATCH = 16  # or fewer, where fewer were recorded at a time
PLAIN_CLIPS = 16
KNEE_CLIPS = 128  # at most, of those that were seen
EFFECT_CLIPS = 2000  # at most, of those that were held out


@dataclass(frozen=True)
class MatchedClips:
    """The run's clips as a concept's removal sees them.

    Attributes:
        classes: Per concept the class of the target that it means, or None.
        labels: Labels of clips that mean a concept.
        known: The classes that `truth` numbers.
        truth: int64 [clips], the class a clip counts for: that of the concept its label means, else the one its label
            means; -1 without either.
        is_target: bool [clips], whether the label means a concept.
        labelled: bool [clips, concepts], whose label means which concept; None without labels.
        unmeasured: Why no effect can be measured on the held-out clips, or None.
    """

    classes: tuple[OutputClass | None, ...]
    labels: tuple[str, ...]
    known: tuple[OutputClass, ...]
    truth: Truth
    is_target: npt.NDArray[np.bool_]
    labelled: npt.NDArray[np.bool_] | None
    unmeasured: str | None

    def of(self, rows: npt.NDArray[np.intp]) -> list[int]:
        """Those of some rows that count for a class."""
        known: list[int] = rows[self.truth[rows] >= 0].tolist()
        return known

    def sample(self, rows: npt.NDArray[np.intp], count: int) -> list[int]:
        """At most `count` of `of(rows)`, half of them the concept's, evenly spread over the rows."""
        own = [row for row in self.of(rows) if self.is_target[row]]
        rest = [row for row in self.of(rows) if not self.is_target[row]]
        return sorted([*_spread(own, count // 2), *_spread(rest, count // 2)])


def matched_clips(
    run: Recording, target: Target, concepts: Sequence[str], vocabulary: Vocabulary
) -> MatchedClips:
    """Match concepts to the target's classes and to the clips' labels, by name first, then by nearness of the texts.

    Args:
        run: Its clips.
        target: Its class names.
        concepts: Texts.
        vocabulary: Holds the class names and the labels among others.
    """
    names = target.class_names or ()

    def output_class(text: str) -> OutputClass | None:
        columns = vocabulary.all_meant(text, names)
        return OutputClass(" + ".join(names[column] for column in columns), columns) if columns else None

    of_clips = [clip.label for clip in run.index.clips[: run.manifest.index_clips]]
    labels = sorted({label for label in of_clips if label})
    classes = tuple(output_class(concept) for concept in concepts)
    class_of = {label: output_class(label) for label in labels}
    named = [vocabulary.meant(concept, labels) for concept in concepts]
    means = {
        label: [
            _share_a_column(one, class_of[label]) or own == place
            for one, own in zip(classes, named, strict=True)
        ]
        for place, label in enumerate(labels)
    }
    counts_for = {
        label: next(
            (one for one, meant in zip(classes, means[label], strict=True) if meant and one), class_of[label]
        )
        for label in labels
    }
    known = tuple(dict.fromkeys(one for one in counts_for.values() if one))
    number = {label: known.index(one) for label, one in counts_for.items() if one}
    nothing = [False] * len(concepts)
    labelled = np.array([means[label] if label else nothing for label in of_clips], bool).reshape(
        -1, len(concepts)
    )
    truth = np.array([number.get(label or "", -1) for label in of_clips], np.int64)
    is_target = np.asarray(labelled.any(axis=1))
    return MatchedClips(
        classes,
        tuple(label for label in labels if any(means[label])),
        known,
        truth,
        is_target,
        labelled if labels else None,
        _unmeasured(run, target, concepts, classes, truth, is_target, bool(labels)),
    )


def _share_a_column(one: OutputClass | None, other: OutputClass | None) -> bool:
    return one is not None and other is not None and bool(set(one.columns) & set(other.columns))


def _unmeasured(
    run: Recording,
    target: Target,
    concepts: Sequence[str],
    classes: Sequence[OutputClass | None],
    truth: Truth,
    is_target: npt.NDArray[np.bool_],
    labels: bool,
) -> str | None:
    held = run.held_out_rows
    known = held[truth[held] >= 0]
    if not target.class_names or target.logits is None:
        return f"target {target.name!r} has no classes"
    if not labels:
        return "the clips carry no labels"
    if None in classes:
        return f"no class of {target.name!r} means {concepts[classes.index(None)]!r}"
    if not is_target[known].any():
        return f"no clip that was held out is labelled as {' or '.join(map(repr, concepts))}"
    if is_target[known].all():
        return "no clip that was held out is of another class of the target"
    return None


def run_logits(
    run: Recording,
    target: Target,
    plans: Sequence[LayerPlan],
    rows: Sequence[int],
    masks: Sequence[Units],
    device: str = "cpu",
    progress: Progress = silent,
) -> tuple[Floats, list[int]]:
    """Logits of the run's clips without and with every mask, see `effect.masked_logits`.

    Returns:
        float32 [1 + masks, clips, classes], and the rows of the clips in that order: those that could be read.

    Raises:
        InputError: None could be read, or what `masked_logits` raises.
    """
    order: list[int] = []
    sounds = _sounds(run, target, rows, order, progress)
    first = next(sounds, None)
    if first is None:
        raise InputError(f"none of the {len(rows)} clips of {run.name} can be read any more")

    def batches() -> Iterator[Sequence[Floats]]:
        yield first
        yield from sounds

    return masked_logits(target, plans, batches(), masks, device), order


def one_batch(run: Recording, target: Target, count: int = 4) -> list[Floats]:
    """A few equally long clips of the run, held-out ones where there are any.

    Raises:
        InputError: No clip can be read.
    """
    rows = run.held_out_rows if len(run.held_out_rows) else run.seen_rows
    batch = next(_sounds(run, target, rows.tolist(), [], silent), None)
    if batch is None:
        raise InputError(f"no clip of {run.name} can be read any more")
    return batch[:count]


def plain_output(run: Recording, target: Target, device: str = "cpu") -> Floats:
    """What the target gives as logits for a few clips of the run, as it gives them: float32 [clips, classes].

    Raises:
        InputError: No clip can be read, or the target has no classes.
    """
    if target.logits is None:
        raise InputError(f"target {target.name!r} has no classes")
    with torch.inference_mode():
        output = target.logits(forward(target, one_batch(run, target, PLAIN_CLIPS), device))
    rows: Floats = output.float().cpu().numpy()
    return rows


def _sounds(
    run: Recording, target: Target, rows: Sequence[int], order: list[int], progress: Progress
) -> Iterator[list[Floats]]:
    """Waveforms in batches of equal length; `order` is filled with their rows."""
    # What was skipped when it was recorded, the network does not take.
    skipped = {miss.path for miss in run.manifest.skipped}
    rows = [row for row in rows if place_of(run.index.clips[row]) not in skipped]
    clips = [run.index.clips[row] for row in rows]
    batch = min(BATCH, run.manifest.settings.batch)
    for places, sounds in read_batches(clips, target.sample_rate, batch, run.manifest.cut, [], progress):
        order += [rows[place] for place in places]
        yield sounds


def _spread(rows: Sequence[int], count: int) -> list[int]:
    if len(rows) <= count:
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, count).astype(int)]
