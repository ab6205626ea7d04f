"""Recordings made by hand: units that did what a test says they did, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from and_retrieval import faiss_index
from and_retrieval.clips.bands import BANDS
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.config import ClipConfig, LabelConfig, RecordConfig, SummaryConfig
from and_retrieval.explanation.manifest import ExplanationManifest
from and_retrieval.explanation.stored import Explained, ExplanationWriter
from and_retrieval.network.layers import LayerPlan
from and_retrieval.recording.activations import FILE as ACTIVATIONS
from and_retrieval.recording.activations import new_activations
from and_retrieval.recording.evidence import Batch, gather, save_evidence
from and_retrieval.recording.manifest import EVIDENCE, QUALITIES_FILE, RecordedLayer, RecordingManifest
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import FILE as UNIT_INDEX
from and_retrieval.recording.unit_index import build_unit_index
from and_retrieval.store import Folder, Writer
from and_retrieval.types import Explanation, Floats, LayerEvidence

Held = npt.NDArray[np.bool_]


def recorded_layer(name: str, units: int, clips: int = 0) -> RecordedLayer:
    """A layer of vectors: no time, units on the last axis."""
    return RecordedLayer(name, units, "mean", (1, units), 1, None, 0, 0.0, clips)


def recording_manifest(layers: Iterable[RecordedLayer], **facts: Any) -> RecordingManifest:
    """The manifest of a recording of these layers; every other field is empty unless it is given."""
    nothing: dict[str, Any] = {
        "target": "planted",
        "weights": "none",
        "aliases": {},
        "dictionaries": (),
        "index_clips": 0,
        "index_digest": "",
        "held_out_rows": (),
        "cut": ClipConfig(),
        "settings": RecordConfig(),
        "skipped": (),
    }
    return RecordingManifest(layers=tuple(layers), **(nothing | facts))


def commit_batches(
    folder: Folder,
    batches: Iterable[Batch],
    plans: Sequence[LayerPlan],
    held: Held,
    top_k: int,
    vectors: Floats | None = None,
    qualities: Floats | None = None,
    **facts: Any,
) -> tuple[LayerEvidence, ...]:
    """Store what batches of activations leave behind as a recording; gives the evidence.

    Args:
        folder: Of the recording.
        batches: Rows, and per layer activations and peaks.
        plans: The layers.
        held: bool [clips], which are held out.
        top_k: Clips kept per unit.
        vectors: Of the clips; without them there is no unit index.
        qualities: Of the clips; without them that file is left out.
        facts: Of the manifest.
    """
    scratch = folder.scratch(ACTIVATIONS)
    try:
        sizes = [plan.units for plan in plans]
        activations = new_activations(scratch, sizes, int((~held).sum()), int(held.sum()))
        tapes = gather(batches, plans, held, top_k, activations)
        evidence = tuple(
            tape.evidence(plan.name, plan.pooling) for tape, plan in zip(tapes, plans, strict=True)
        )
        layers = [
            replace(recorded_layer(layer.name, layer.units, layer.statistics.count), pooling=layer.pooling)
            for layer in evidence
        ]
        files: dict[str, Writer | Path] = {
            EVIDENCE: lambda path: save_evidence(tapes, path),
            ACTIVATIONS: scratch,
        }
        if vectors is not None:
            units = build_unit_index(evidence, vectors).faiss
            files[UNIT_INDEX] = lambda path: faiss_index.save(units, path)
        if qualities is not None:
            unmeasured = np.full((len(qualities), BANDS), np.nan, np.float32)
            files[QUALITIES_FILE] = lambda path: save_file(
                {"qualities": qualities, "bands": unmeasured}, path
            )
        counts = {"index_clips": len(held), "held_out_rows": tuple(np.flatnonzero(held).tolist())}
        folder.commit(files, recording_manifest(layers, **(counts | facts)))
    finally:
        scratch.unlink(missing_ok=True)
    return evidence


def plant(
    index: ClipIndex,
    layers: Mapping[str, npt.NDArray[Any]],
    name: str = "planted",
    held: Held | None = None,
    top_k: int = 20,
    qualities: Floats | None = None,
    **facts: Any,
) -> Folder:
    """Store a recording on an index, in which the units did what is given.

    Args:
        index: Its clips.
        layers: Layer -> activations [clips, units].
        name: Of the run.
        held: bool [clips], which are held out; by default none.
        top_k: Clips kept per unit.
        qualities: [clips, qualities]; by default drawn at random.
        facts: Of the manifest.
    """
    count = len(index.clips)
    held = np.zeros(count, bool) if held is None else held
    if qualities is None:
        qualities = np.random.default_rng(0).random((count, len(QUALITIES))).astype(np.float32)
    values = {layer: np.asarray(of, np.float32) for layer, of in layers.items()}
    plans = [LayerPlan(layer, of.shape[1], 1, None, "mean") for layer, of in values.items()]
    middle = np.array([[clip.duration / 2] for clip in index.clips], np.float32)  # there is no time
    batch = {layer: (of, np.broadcast_to(middle, of.shape)) for layer, of in values.items()}
    folder = index.folder.run(name)
    known = {"index_digest": index.digest(), **facts}
    rows = np.arange(count, dtype=np.int32)
    commit_batches(folder, [(rows, batch)], plans, held, top_k, index.vectors(), qualities, **known)
    return folder


def say(
    recording: Recording,
    units: Sequence[Explanation],
    phrases: Sequence[str] | None = None,
    **facts: Any,
) -> Explained:
    """Store explanations of all units of a recording; `facts` are those of the manifest."""
    nothing: dict[str, Any] = {
        "recorded": recording.identity,
        "bank": "bank",
        "concepts": (),
        "labelling": LabelConfig(),
        "summaries": SummaryConfig(llm="none"),
        "acoustics": {},
        "random_polysemanticity": 1.0,
        "open_concepts": None,
    }
    with ExplanationWriter(recording) as writer:
        writer.add(units)
        words = [clip.caption or clip.path for clip in recording.index.clips] if phrases is None else phrases
        return writer.commit(words, ExplanationManifest(**(nothing | facts)))
