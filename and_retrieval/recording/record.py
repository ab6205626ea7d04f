"""Record: play every clip of an index to a network once, and keep how its units respond."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from .. import faiss_index
from ..clips.bands import BANDS, band_levels
from ..clips.index import ClipIndex
from ..clips.qualities import QUALITIES, measure
from ..clips.source import held_out
from ..config import RecordConfig
from ..network.dictionary import attached
from ..network.layers import TRIAL_SECONDS, LayerPlan, match_layers, plan_layers
from ..network.probe import probe, read_batches
from ..progress import Announce, Progress, no_progress
from ..store import Writer
from ..targets import resolve_device, weights_hash
from ..types import Floats, Ints, LayerEvidence, Skipped, Target
from .activations import FILE as ACTIVATIONS
from .activations import new_activations
from .evidence import gather, save_evidence
from .manifest import EVIDENCE, RecordedLayer, RecordingManifest
from .recording import QUALITIES_FILE, Recording
from .unit_index import FILE as UNIT_INDEX
from .unit_index import build_unit_index


def record(
    target: Target,
    index: ClipIndex,
    layers: Sequence[str] = (),
    config: RecordConfig | None = None,
    run: str | None = None,
    announce: Announce = no_progress,
) -> Recording:
    """Play every clip of the index to the network once, and keep how its units respond.

    Args:
        target: The network.
        index: The clips to record.
        layers: Globs over the network's named modules; if empty, the layers of `config`, else the target's default.
        config: Layers, k, pooling, held-out share, batch, device.
        run: Name of the run; by default made from the target's name. A run of that name is replaced.
        announce: See `Announce`.

    Raises:
        InputError: No layer matches, the network fails on the clips, or no clip is left to explain with.
    """
    config = config or RecordConfig()
    folder = index.folder.run(run or run_name(target.name))
    device = resolve_device(config.device)
    names = match_layers(target.module, tuple(layers) or config.layers or target.layers, target.aliases)
    lengths = (*TRIAL_SECONDS, index.clips[0].duration)
    plans = plan_layers(target, names, config.pooling, device, lengths)
    held = held_out(index.clips, config.hold_out)
    skipped: list[Skipped] = []
    measured = {
        "qualities": np.full((len(index.clips), len(QUALITIES)), np.nan, np.float32),
        "bands": np.full((len(index.clips), BANDS), np.nan, np.float32),
    }
    batches = _batches(index, target, config.batch, measured, skipped, announce("recording", "clips"))
    scratch = folder.scratch(ACTIVATIONS)
    try:
        sizes = [plan.units for plan in plans]
        activations = new_activations(scratch, sizes, int((~held).sum()), int(held.sum()))
        evidence = gather(probe(target, plans, batches, device), plans, held, config.top_k, activations)
        del activations  # flushes and closes the map
        manifest = RecordingManifest(
            target=target.name,
            weights=weights_hash(target.module),
            aliases={alias: layer for alias, layer in target.aliases.items() if layer in names},
            dictionaries=attached(target),
            index_clips=len(index.clips),
            index_digest=index.digest(),
            held_out_rows=tuple(np.flatnonzero(held).tolist()),
            cut=index.cut,
            settings=replace(config, layers=names, device=device.type),
            skipped=tuple(skipped),
            layers=tuple(_recorded(*pair) for pair in zip(plans, evidence, strict=True)),
        )
        unit_index = build_unit_index(evidence, index.vectors())
        files: dict[str, Writer | Path] = {
            UNIT_INDEX: lambda path: faiss_index.save(unit_index.faiss, path),
            QUALITIES_FILE: lambda path: save_file(measured, path),
            EVIDENCE: lambda path: save_evidence(evidence, path),
            ACTIVATIONS: scratch,
        }
        folder.commit(files, manifest)
    finally:
        scratch.unlink(missing_ok=True)
    return Recording.open(folder, index)


def _recorded(plan: LayerPlan, evidence: LayerEvidence) -> RecordedLayer:
    return RecordedLayer(
        name=plan.name,
        units=plan.units,
        pooling=plan.pooling,
        output=plan.shape,
        unit_axis=plan.unit_axis,
        time_axis=plan.time_axis,
        batch_axis=plan.batch_axis,
        overlap=plan.overlap,
        clips=evidence.moments.count,
    )


def run_name(target: str) -> str:
    """The default name of a run: the target's name, without characters that a folder's name cannot hold."""
    path, _, function = target.partition(":")
    if path in ("hf", "torch"):
        place = Path(function.partition("@")[0])
        parts = [place.name if path == "hf" else place.stem]
    else:
        parts = [Path(path).stem, function] if function else [path]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-.") or "run"


def _batches(
    index: ClipIndex,
    target: Target,
    batch: int,
    measured: Mapping[str, Floats],
    skipped: list[Skipped],
    progress: Progress,
) -> Iterator[tuple[Ints, list[Floats]]]:
    """Clips of the index in batches of equal length.

    The sound of every clip is measured as the network hears it, and written to `measured`; clips that cannot be read
    are added to `skipped`.
    """
    for rows, sounds in read_batches(index.clips, target.sample_rate, batch, index.cut, skipped, progress):
        for row, sound in zip(rows, sounds, strict=True):
            measured["qualities"][row] = measure(sound, target.sample_rate)
            measured["bands"][row] = band_levels(sound, target.sample_rate)
        yield np.array(rows, np.int32), sounds
