"""Makes a recording of its shards, in their order, so that the result does not depend on who did which when.

A recording that grows stands for the shards of its clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path

import numpy as np

from ..clips.index import ClipIndex
from ..config import fingerprint
from ..errors import InputError
from ..shards.folder import Receipt, Shards
from ..shards.tensors import new_tensors, open_tensors
from ..store import Folder, Stored, Writer
from .activations import FILE as ACTIVATIONS
from .activations import HELD_OUT, PARTS, PEAKS, SEEN, activation_shapes
from .evidence import LayerTape, read_tape, save_evidence
from .manifest import (
    EVIDENCE,
    QUALITIES_FILE,
    RecordedLayer,
    RecordingManifest,
    RecordPlan,
    identity_in,
    undamaged_in,
)
from .recording import Recording, seen_rows
from .shard import measured_shapes
from .unit_index import unit_index_files


class State(Enum):
    """What the folder of a run holds when shards are to be merged into it.

    Attributes:
        FREE: What it held when they were begun, or nothing that would be lost.
        MADE: What they make.
        OTHER: Another recording, or not the one that is to grow.
    """

    FREE = auto()
    MADE = auto()
    OTHER = auto()


def merge_recording(
    folder: Folder, index: ClipIndex, shards: Shards[RecordPlan], finished: Mapping[int, Stored[Receipt]]
) -> None:
    """Commit the recording that finished shards make, and remove them.

    Args:
        folder: Of the run.
        index: The clips.
        shards: With the plan.
        finished: All of them.

    Raises:
        InputError: No clip could be heard, or the recording in the folder is another than when the shards were begun.
    """
    plan = shards.plan
    there = _state(folder, plan)
    if there is State.OTHER:
        raise InputError(
            f"the recording in {folder.path} is not the one that the shards were begun with; merge them into "
            f"{'a copy of that one' if plan.kept else 'another --home'}, or remove {shards.path} and run the calls "
            "with --shard again"
        )
    if there is State.MADE:  # merged before, and fetched again
        shards.remove()
        return
    before = _there(folder, index) if plan.kept else None
    receipts = [finished[number] for number in range(len(plan.sizes))]
    skipped = before.manifest.skipped if before else ()
    skipped += tuple(miss for receipt in receipts for miss in receipt.manifest.skipped)
    if len(skipped) >= plan.manifest.index_clips:
        shards.remove()
        raise InputError(f"no clip can be recorded, the first is {skipped[0].path}: {skipped[0].reason}")
    files = [shards.file(receipt) for receipt in receipts]
    layers = plan.manifest.layers
    evidence_files = [before.stored.file(EVIDENCE), *files] if before else files
    tapes = _merged_tapes(evidence_files, len(layers))
    evidence = tuple(
        tape.evidence(layer.name, layer.pooling) for tape, layer in zip(tapes, layers, strict=True)
    )
    manifest = replace(
        plan.manifest,
        skipped=skipped,
        layers=tuple(map(_with_counts, layers, tapes)),
        plan=fingerprint(plan.decides),
        shards=len(plan.sizes) + (before.manifest.shards if before else 0),
    )
    contents: dict[str, Writer | str | Path] = {
        QUALITIES_FILE: lambda path: _join_measured(before, files, plan, path),
        EVIDENCE: lambda path: save_evidence(tapes, path),
        ACTIVATIONS: lambda path: _join_activations(before, files, plan, path),
    }
    store = plan.manifest.settings.store
    with unit_index_files(folder, evidence, index.vectors(), index.moments, store) as units:
        folder.commit({**units, **contents}, manifest)
    shards.remove()


def _there(folder: Folder, index: ClipIndex) -> Recording:
    """The recording in a folder; nothing keeps its files from being removed when it is replaced."""
    recording = Recording.open(folder, index)
    return replace(recording, stored=recording.stored.released())


def _state(folder: Folder, plan: RecordPlan) -> State:
    """Whether the shards of a plan may be merged into a folder."""
    there = identity_in(folder)
    if there == plan.before or not (there or plan.kept):
        return State.FREE
    if not there or not _is_made_of(folder.open(RecordingManifest).manifest, plan):
        return State.OTHER
    return State.MADE if plan.kept or undamaged_in(folder) else State.FREE


def _is_made_of(recorded: RecordingManifest, plan: RecordPlan) -> bool:
    """Whether a recording is what the shards of a plan make."""
    clips = recorded.index_digest, recorded.held_out_digest, recorded.grown
    planned = plan.manifest.index_digest, plan.manifest.held_out_digest, plan.manifest.grown
    return recorded.plan == fingerprint(plan.decides) and clips == planned


def _merged_tapes(files: Sequence[Path], layers: int) -> list[LayerTape]:
    tapes: list[LayerTape] = []
    for file in files:
        tensors = open_tensors(file)
        for number in range(layers):
            tape = read_tape(tensors, number)
            if number < len(tapes):
                tapes[number].merge(tape)
            else:
                tapes.append(tape)
    return tapes


def _with_counts(layer: RecordedLayer, tape: LayerTape) -> RecordedLayer:
    return replace(
        layer,
        clips=tape.statistics.clips,
        missing_units=int(tape.missing.sum()),
        missing_clips=tape.missing_clips,
    )


def _join_measured(before: Recording | None, files: Sequence[Path], plan: RecordPlan, path: Path) -> None:
    whole = new_tensors(path, measured_shapes(plan.manifest.index_clips))
    if before is not None:
        whole["qualities"][: plan.kept], whole["bands"][: plan.kept] = before.qualities, before.bands
    for file, rows in zip(files, plan.rows, strict=True):
        part = open_tensors(file)
        for name, array in whole.items():
            array[rows.start : rows.stop] = part[name]


def _join_activations(before: Recording | None, files: Sequence[Path], plan: RecordPlan, path: Path) -> None:
    manifest = plan.manifest
    kept_rows = {SEEN: seen_rows(manifest), HELD_OUT: np.array(manifest.held_out_rows, np.intp)}
    units = [layer.units for layer in manifest.layers]
    counts = len(kept_rows[SEEN]), len(kept_rows[HELD_OUT])
    whole = new_tensors(path, activation_shapes(units, *counts, manifest.cross_fitted))
    begin = dict.fromkeys((*PARTS, *PEAKS), 0)
    if before is not None:  # of clips that were kept, some may not be among the sample any more
        for side, peaks, rows in zip(PARTS, PEAKS, (before.seen_rows, before.held_out_rows), strict=True):
            still = np.isin(rows, kept_rows[side])
            begin[side] = int(still.sum())
            begin[peaks] = begin[side] if len(whole[f"{peaks}/0"]) else 0
            for number, layer in enumerate(manifest.layers):
                whole_part = whole[f"{side}/{number}"][: begin[side]]
                np.compress(still, before.activations(layer.name, side), axis=0, out=whole_part)
                times = before.peaks(layer.name, side)
                if begin[peaks] and len(times):
                    np.compress(still, times, axis=0, out=whole[f"{peaks}/{number}"][: begin[peaks]])
    for file in files:
        part = open_tensors(file)
        for name in begin:
            if not len(
                whole[f"{name}/0"]
            ):  # peaks that no test needs, though shards of fewer clips keep them
                continue
            count = 0
            for number in range(len(manifest.layers)):
                rows = part[f"{name}/{number}"]
                count = len(rows)
                whole[f"{name}/{number}"][begin[name] : begin[name] + count] = rows
            begin[name] += count
