"""Record: play every clip of an index to a network once, and keep how its units respond."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from .. import faiss_index
from ..checkpoints.devices import resolve_device
from ..clips.bands import BANDS, band_levels
from ..clips.index import ClipIndex, clip_place
from ..clips.qualities import QUALITIES, measure
from ..clips.source import held_out
from ..config import RecordConfig
from ..errors import InputError
from ..files import check_writable
from ..network.dictionary import attached
from ..network.layers import TRIAL_SECONDS, match_layers, plan_layers
from ..network.plan import LayerPlan, SteadySteps
from ..network.probe import probe, read_batches
from ..network.trial import check_independent, check_repeatable
from ..progress import Announce, Progress, no_progress
from ..store import Writer
from ..targets import changed_entries, entry_hashes, weights_hash
from ..types import Floats, Ints, Skipped, Target
from .activations import FILE as ACTIVATIONS
from .activations import new_activations
from .evidence import Batch, GatheredLayer, gather, save_evidence
from .manifest import EVIDENCE, RecordedLayer, RecordingManifest
from .recording import QUALITIES_FILE, Recording
from .unit_index import FILE as UNIT_INDEX
from .unit_index import build_unit_index

_log = logging.getLogger(__name__)


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
        InputError: No layer matches, the network fails on every clip, its response to a clip depends on chance or on
            the other clips of the batch, or no clip is left to explain with.
    """
    config = config or RecordConfig()
    folder = index.folder.run(run or run_name(target.name))
    check_writable(folder.path)
    device = resolve_device(config.device)
    before = entry_hashes(target.module)
    names = match_layers(target.module, tuple(layers) or config.layers or target.layers, target.aliases)
    plans = _plans(target, names, index, config, device)
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
        recorded = _recorded_clips(target, plans, batches, device, index, skipped, measured)
        gathered = gather(recorded, plans, held, config.top_k, activations)
        del activations  # flushes and closes the map
        evidence = tuple(layer.evidence for layer in gathered)
        changing = changed_entries(before, entry_hashes(target.module))
        if changing:
            _log.warning(
                "target %r: %s changed while it ran and cannot tell these weights from others: left out of their hash",
                target.name, ", ".join(changing),
            )  # fmt: skip
        manifest = RecordingManifest(
            target=target.name,
            weights=weights_hash(target.module, changing),
            aliases={alias: layer for alias, layer in target.aliases.items() if layer in names},
            dictionaries=attached(target),
            index_clips=len(index.clips),
            index_digest=index.digest(),
            held_out_rows=tuple(np.flatnonzero(held).tolist()),
            cut=index.cut,
            moments=index.moment_config,
            settings=replace(config, layers=names, device=device.type),
            skipped=tuple(skipped),
            layers=tuple(_recorded(*pair) for pair in zip(plans, gathered, strict=True)),
            changing=changing,
        )
        unit_index = build_unit_index(evidence, index.vectors(), index.moments)
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


def _plans(
    target: Target, names: Sequence[str], index: ClipIndex, config: RecordConfig, device: torch.device
) -> tuple[LayerPlan, ...]:
    """How to read the layers, after trials that the network's response to a clip depends on that clip alone."""
    [(usual, _)] = Counter(clip.duration for clip in index.clips).most_common(1)
    lengths = (*TRIAL_SECONDS, usual)
    tried = (usual, *TRIAL_SECONDS)
    check_repeatable(target, names, device, tried)
    plans = plan_layers(target, names, config.pooling, device, lengths)
    check_independent(target, plans, device, config.batch, tried)
    return plans


def _recorded_clips(
    target: Target,
    plans: Sequence[LayerPlan],
    batches: Iterable[tuple[Ints, Sequence[Floats]]],
    device: torch.device,
    index: ClipIndex,
    skipped: list[Skipped],
    measured: Mapping[str, Floats],
) -> Iterator[Batch]:
    """The network's response to the clips that it can hear.

    The others are added to `skipped`, and what was `measured` of them is taken back.

    Raises:
        InputError: No clip can be read, the network can hear none, or an error is not of one clip alone.
    """
    refused: list[tuple[int, InputError]] = []
    heard = 0
    for rows, layers in probe(target, plans, batches, device, refused):
        heard += len(rows)
        yield rows, layers
    if not heard and not refused and skipped:
        raise InputError(f"no clip can be read, the first is {skipped[0].path}: {skipped[0].reason}")
    if refused and not heard:
        row, error = refused[0]
        raise InputError(
            f"no clip can be recorded, the first is {clip_place(index.clips[row])}: {error}"
        ) from error
    for row, error in refused:
        for values in measured.values():
            values[row] = np.nan
        skipped.append(Skipped(clip_place(index.clips[row]), str(error)))


def _recorded(plan: LayerPlan, layer: GatheredLayer) -> RecordedLayer:
    steady = plan.step_seconds if isinstance(plan.step_seconds, SteadySteps) else None
    return RecordedLayer(
        name=plan.name,
        units=plan.units,
        pooling=plan.pooling,
        output=plan.shape,
        unit_axis=plan.unit_axis,
        time_axis=plan.time_axis,
        batch_axis=plan.batch_axis,
        overlap=plan.overlap,
        clips=layer.evidence.moments.count,
        calls=plan.calls,
        step=steady.step if steady else None,
        side=steady.side if steady else 0.0,
        missing_units=layer.missing_units,
        missing_clips=layer.missing_clips,
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
