"""The clips of a concept: finds them among a recording's clips, and computes the network's logits under masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..clips.records import clip_place
from ..errors import InputError
from ..network.hooks import forward
from ..network.mask import ZERO, Constants, Units
from ..network.plan import LayerPlan
from ..network.probe import read_batches
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..types import Floats, Skipped, Target
from .effect import OutputClass, Truth, masked_logits
from .matching import Vocabulary

BATCH = 16  # or fewer, where fewer were recorded at a time
PLAIN_CLIPS = 16
KNEE_CLIPS = 128  # at most, of the seen clips
EFFECT_CLIPS = 2000  # at most, of the held-out clips


@dataclass(frozen=True)
class MatchedClips:
    """A recording's clips, matched to the concepts and to the target's classes.

    Attributes:
        classes: For every concept the class of the target that it means, or None.
        labels: Labels of clips that mean a concept.
        known: All classes that clips belong to.
        truth: int64 [clips], place in `known` of the clip's class: the class of the concept that one of its labels
            means, else the class that its first label with one means, else -1.
        is_target: bool [clips], whether a label means a concept.
        labelled: bool [clips, concepts], whether the clip's label means the concept; None without labels.
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
        """The given rows whose clips belong to a class."""
        known: list[int] = rows[self.truth[rows] >= 0].tolist()
        return known

    def sample(self, rows: npt.NDArray[np.intp], count: int) -> list[int]:
        """At most `count` of `of(rows)`, up to half of them of the concept, evenly spread over the rows."""
        of_concept = [row for row in self.of(rows) if self.is_target[row]]
        rest = [row for row in self.of(rows) if not self.is_target[row]]
        return sorted([*spread(of_concept, count // 2), *spread(rest, count // 2)])


def matched_clips(
    recording: Recording, target: Target, concepts: Sequence[str], vocabulary: Vocabulary
) -> MatchedClips:
    """Match concepts to the target's classes and to the clips' labels, by name first, then by nearness of the texts.

    Args:
        recording: The recording whose clips are matched.
        target: The network whose class names are matched.
        concepts: Texts of the concepts.
        vocabulary: Must include the class names and the labels.
    """
    names = target.class_names or ()

    def output_class(text: str) -> OutputClass | None:
        columns = vocabulary.all_meant(text, names)
        return OutputClass(" + ".join(names[column] for column in columns), columns) if columns else None

    of_clips = [clip.labels for clip in recording.index.clips[: recording.manifest.index_clips]]
    labels = sorted({label for names in of_clips for label in names})
    classes = tuple(output_class(concept) for concept in concepts)
    class_of = {label: output_class(label) for label in labels}
    named = [vocabulary.meant(concept, labels) for concept in concepts]
    means = {
        label: [
            _share_a_column(meant, class_of[label]) or nearest == place
            for meant, nearest in zip(classes, named, strict=True)
        ]
        for place, label in enumerate(labels)
    }
    counts_for = {
        label: next(
            (meant for meant, means_it in zip(classes, means[label], strict=True) if means_it and meant),
            class_of[label],
        )
        for label in labels
    }
    known = tuple(dict.fromkeys(meant for meant in counts_for.values() if meant))
    number = {label: known.index(meant) for label, meant in counts_for.items() if meant}
    nothing = [False] * len(concepts)
    labelled = np.array(
        [np.any([nothing, *(means[label] for label in names)], axis=0) for names in of_clips], bool
    ).reshape(-1, len(concepts))
    wanted_first = [sorted(names, key=lambda label: not any(means[label])) for names in of_clips]
    truth = np.array(
        [next((number[label] for label in names if label in number), -1) for names in wanted_first], np.int64
    )
    is_target = np.asarray(labelled.any(axis=1))
    return MatchedClips(
        classes,
        tuple(label for label in labels if any(means[label])),
        known,
        truth,
        is_target,
        labelled if labels else None,
        _unmeasured(recording, target, concepts, classes, truth, is_target, bool(labels)),
    )


def _share_a_column(a: OutputClass | None, b: OutputClass | None) -> bool:
    return a is not None and b is not None and bool(set(a.columns) & set(b.columns))


def _unmeasured(
    recording: Recording,
    target: Target,
    concepts: Sequence[str],
    classes: Sequence[OutputClass | None],
    truth: Truth,
    is_target: npt.NDArray[np.bool_],
    labels: bool,
) -> str | None:
    held_out = recording.held_out_rows
    known = held_out[truth[held_out] >= 0]
    if not target.class_names or target.logits is None:
        return f"target {target.name!r} has no classes"
    if not labels:
        return "the clips carry no labels"
    if None in classes:
        return f"no class of {target.name!r} means {concepts[classes.index(None)]!r}"
    if not is_target[known].any():
        return f"no held-out clip has a label that means {' or '.join(map(repr, concepts))}"
    if is_target[known].all():
        return "no held-out clip belongs to another class of the target"
    return None


def run_logits(
    recording: Recording,
    target: Target,
    plans: Sequence[LayerPlan],
    rows: Sequence[int],
    masks: Sequence[Units],
    progress: Progress = silent,
    skipped: list[Skipped] | None = None,
    constants: Constants = ZERO,
) -> tuple[Floats, list[int]]:
    """Logits of the recording's clips without a mask and with each mask, see `effect.masked_logits`.

    Clips that cannot be read are added to `skipped`, if it is given.

    Returns:
        float32 [1 + masks, clips, classes], and the rows of the clips that could be read, in the order of the logits.

    Raises:
        InputError: No clip can be read, or `masked_logits` raises it.
    """
    order: list[int] = []
    skipped = [] if skipped is None else skipped
    sounds = waveform_batches(recording, target, rows, order, skipped, progress)
    first = next(sounds, None)
    if first is None:
        why = f": {skipped[-1].reason}" if skipped else ""
        raise InputError(f"none of the {len(rows)} clips of {recording.name} can be read any more{why}")

    def batches() -> Iterator[Sequence[Floats]]:
        yield first
        yield from sounds

    return masked_logits(target, plans, batches(), masks, constants), order


def one_batch(recording: Recording, target: Target, count: int = 4) -> list[Floats]:
    """A few equally long clips of the recording, held-out ones if there are any.

    Raises:
        InputError: No clip can be read.
    """
    rows = recording.held_out_rows if len(recording.held_out_rows) else recording.seen_rows
    batch = next(waveform_batches(recording, target, rows.tolist(), [], []), None)
    if batch is None:
        raise InputError(f"no clip of {recording.name} can be read any more")
    return batch[:count]


def plain_output(run: Recording, target: Target) -> Floats:
    """What the target gives as logits for a few clips of the run, as it gives them: float32 [clips, classes].

    Raises:
        InputError: No clip can be read, or the target has no classes.
    """
    if target.logits is None:
        raise InputError(f"target {target.name!r} has no classes")
    with torch.inference_mode():
        output = target.logits(forward(target, one_batch(run, target, PLAIN_CLIPS), target.device))
    rows: Floats = output.float().cpu().numpy()
    return rows


def waveform_batches(
    recording: Recording,
    target: Target,
    rows: Sequence[int],
    order: list[int],
    skipped: list[Skipped],
    progress: Progress = silent,
) -> Iterator[list[Floats]]:
    """Waveforms in batches of equal length; adds their rows to `order`, and clips that cannot be read to `skipped`.

    Clips that were skipped when the network was recorded are left out: it cannot hear them.
    """
    unheard = {miss.path for miss in recording.manifest.skipped}
    rows = [row for row in rows if clip_place(recording.index.clips[row]) not in unheard]
    clips = [recording.index.clips[row] for row in rows]
    batch = min(BATCH, recording.manifest.settings.batch)
    for places, sounds in read_batches(
        clips, target.sample_rate, batch, recording.manifest.cut, skipped, progress
    ):
        order += [rows[place] for place in places]
        yield sounds


def spread(rows: Sequence[int], count: int) -> list[int]:
    """At most `count` of the rows, evenly spread over them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, count).astype(int)]
