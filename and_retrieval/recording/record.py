"""Record: play every clip of an index to a network once, and keep how its units respond."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ..checkpoints.devices import decoding_threads, resolve_device
from ..clips.index import ClipIndex
from ..config import RecordConfig
from ..errors import AndRetrievalError, InputError
from ..files import check_writable
from ..neighbours import check_store
from ..network.choice import match_layers
from ..network.dictionary import attached
from ..network.memory import freed_memory_kept
from ..network.plan import LayerPlan
from ..progress import Announce, Tally, no_progress
from ..shards.address import Address, Leave, begun_share, stays
from ..shards.folder import FOLDER, ShardCount, Shards, remove_idle
from ..shards.lock import locked
from ..shards.plan import made_by
from ..shards.remote import RemoteFolder
from ..shards.remote_job import fetch_finished, fetching, job_at
from ..shards.workers import work
from ..store import Folder
from ..types import Target
from .clip_reader import ClipReader
from .growth import planned
from .manifest import RecordingManifest, RecordPlan
from .merge import merge_recording
from .recording import Recording
from .shard import KeptRows, Recorder, RecordJob, can_hear, check_index
from .trials import tried


def record(
    target: Target,
    index: ClipIndex,
    layers: Sequence[str] = (),
    config: RecordConfig | None = None,
    run: str | None = None,
    announce: Announce = no_progress,
    workers: int | str = 1,
    trust_remote_code: bool = False,
    to: str | None = None,
) -> Recording:
    """Play every clip of the index to the network once, and keep how its units respond.

    The clips are recorded in shards. A recording that was stopped goes on with the shards that are missing; one that
    is finished is returned as it is, unless a clip that it skipped can be heard by now.

    Args:
        target: The network; it is recorded where it is.
        index: The clips to record.
        layers: Globs over the network's named modules; if empty, the layers of `config`, else the target's default.
        config: Layers, k, pooling, held-out share, batch, device, what is kept, length of a shard.
        run: Name of the run; by default made from the target's name. A run of that name is replaced.
        announce: See `Announce`.
        workers: Number of processes, `ray`, or `ray:ADDRESS`, see `shards.workers.work`; several load the network by
            its name.
        trust_remote_code: See `targets.load_target`; for workers that load the network.
        to: Address at which workers leave their shards, where they share no folder with this process, see
            `shards.remote_job`; what lies there stays there.

    Raises:
        InputError: No layer matches, the network fails on every clip, its response to a clip depends on chance or on
            the other clips of the batch, no clip is left to explain with, or another program writes to the run.
    """
    config = config or RecordConfig()
    check_store(config.store)
    folder = index.folder.run(run or run_name(target.name))
    check_writable(folder.path)
    with locked(folder.path, "record"), freed_memory_kept():
        begun = _begin(target, index, folder, layers, config)
        if not begun.shards.plan.sizes and _has_store(folder, config):
            begun.shards.remove()
            folder.tidy()
            return _counted(Recording.open(folder, index), 0)
        _forget_other_code(begun.shards)
        try:
            begun.shards.begin()
            finished = begun.shards.finished() if to is None else fetch_finished(begun.shards, to)
            missing = begun.shards.missing(finished)
            leave = stays if to is None else fetching(begun.shards, to)
            _record_shards(begun, missing, announce, workers, trust_remote_code, leave, to)
            merge_recording(folder, index, begun.shards, begun.shards.finished(known=finished))
        finally:
            begun.shards.tidy()
        return _counted(Recording.open(folder, index), len(missing))


def _has_store(folder: Folder, config: RecordConfig) -> bool:
    """Whether the units of a finished recording are in the store that is asked for."""
    return folder.open(RecordingManifest).manifest.settings.store == config.store


def _counted(recording: Recording, done: int) -> Recording:
    """The recording with the number of its shards, of which so many were done now."""
    shards = recording.manifest.shards
    return replace(recording, shards=ShardCount(shards, shards - done))


def record_share(
    target: Target,
    index: ClipIndex,
    share: tuple[int, int],
    layers: Sequence[str] = (),
    config: RecordConfig | None = None,
    run: str | None = None,
    announce: Announce = no_progress,
    to: str | None = None,
) -> ShardCount:
    """Record a share of the shards, while others record the rest, perhaps on other machines; `merge` then joins them.

    Args:
        share: (i, n): every n-th shard, from the i-th on, counted from 1.
        target, index, layers, config, run, announce: As in `record`; they have to be the same for all shares.
        to: Address at which the shards are left, see `shards.address`; by default they stay in the folder of the run.

    Raises:
        InputError: As in `record`, or others record under another plan.
    """
    folder = index.folder.run(run or run_name(target.name))
    check_writable(folder.path)
    remove_idle(folder.path)
    with locked(folder.path, "record --shard", shared=True), freed_memory_kept():
        begun = _begin(target, index, folder, layers, config or RecordConfig())
        missing, count, leave = begun_share(begun.shards, share, to)
        _record_shards(begun, missing, announce, leave=leave)
        return count


def merge(
    index: ClipIndex, run: str, source: str | None = None, announce: Announce = no_progress
) -> Recording:
    """Make a recording of the shards that several calls of `record_share` left.

    Args:
        index: The clips that were recorded.
        run: Name of the run.
        source: Address at which the shards were left, if so.
        announce: See `Announce`; of shards that are fetched.

    Raises:
        InputError: Nothing was recorded, shards are missing, or another program writes to the run.
    """
    folder = index.folder.run(run)
    if source is not None:
        remove_idle(folder.path)
    with locked(folder.path, "merge"):
        if source is not None:
            Address(RemoteFolder(source)).fetch(
                folder.path / FOLDER, RecordPlan, announce("fetching", "shards")
            )
        shards = Shards.open(folder.path / FOLDER, RecordPlan)
        check_index(index, shards.plan.manifest, run)
        check_store(shards.plan.manifest.settings.store)
        finished = shards.finished()
        shards.check_complete(finished)
        merge_recording(folder, index, shards, finished)
        return _counted(Recording.open(folder, index), 0)


@dataclass(frozen=True)
class _Begun:
    """A recording that was planned.

    Attributes:
        target, plans, kept: The network, its layers, and which clips are kept.
        index: The clips.
        shards: With the plan.
        device: Where the network is.
        workers_device: Where workers put it, see `RecordConfig`.
    """

    target: Target
    plans: Sequence[LayerPlan]
    kept: KeptRows
    index: ClipIndex
    shards: Shards[RecordPlan]
    device: torch.device
    workers_device: str


def _begin(
    target: Target, index: ClipIndex, folder: Folder, layers: Sequence[str], config: RecordConfig
) -> _Begun:
    """Plan a recording, after trials of the network."""
    device = _place(target, config.device)
    names = match_layers(target.module, tuple(layers) or config.layers or target.layers, target.aliases)
    trials = tried(target, names, _usual_duration(index), config, device)
    manifest = RecordingManifest(
        target=target.name,
        weights=trials.weights,
        aliases={alias: layer for alias, layer in target.aliases.items() if layer in names},
        dictionaries=attached(target),
        index_clips=0,
        index_digest="",
        held_out_rows=(),
        cut=index.cut,
        moments=index.moment_config,
        settings=replace(config, layers=names, device=device.type),
        skipped=(),
        layers=trials.layers,
        changing=trials.changing,
        response=trials.response,
    )
    plans = trials.plans(target)
    plan, kept = planned(
        RecordPlan(manifest, made_by()),
        index,
        folder,
        lambda clips: can_hear(target, plans, clips, config.batch, index.cut, device),
    )
    return _Begun(
        target,
        plans,
        kept,
        index,
        Shards(folder.path / FOLDER, plan),
        device,
        device_of_workers(config.device, device),
    )


def _place(target: Target, device: str) -> torch.device:
    """Where the network is; InputError if the settings name another device. Without weights it is wherever they say."""
    if device == "auto":
        return target.device
    named, place = resolve_device(device), target.device
    if not target.module.state_dict():
        return named
    if named.type != place.type or named.index not in (None, place.index):
        raise InputError(
            f"target {target.name!r} is on {place}, but the settings say {named}: load it there (load_target(..., "
            f"device={str(named)!r})), or leave the device out of the settings"
        )
    return place


def device_of_workers(device: str, place: torch.device) -> str:
    """Where workers put the network: on the device that was named, else on any of the kind of the network's own.

    A network says `cuda:0` of itself also where `cuda` was asked for.
    """
    return place.type if device == "auto" else device


def _forget_other_code(shards: Shards[RecordPlan]) -> None:
    """Remove shards of a network that responded otherwise: its weights are the same, its code is not."""
    with suppress(AndRetrievalError):
        known = Shards.open(shards.path, RecordPlan).plan.manifest.response
        if known != shards.plan.manifest.response:
            shards.remove()


def _record_shards(
    begun: _Begun,
    missing: Sequence[int],
    announce: Announce,
    workers: int | str = 1,
    trust_remote_code: bool = False,
    leave: Leave = stays,
    at: str | None = None,
) -> None:
    """Record these shards, and leave each where it is to be.

    Args:
        begun: The recording.
        missing: Numbers of the shards.
        announce, workers, trust_remote_code: See `record`.
        leave: Called with the number of each when it is done.
        at: Address at which workers leave them, where they share no folder; `leave` then fetches them.
    """
    sizes = begun.shards.plan.sizes
    tally = Tally(announce("recording", "clips"), sum(sizes[number] for number in missing))
    threads = decoding_threads(begun.device)
    clips = ClipReader(begun.index, begun.shards, begun.target.sample_rate, missing, threads)
    recorder = Recorder(
        begun.target, begun.plans, begun.index, begun.shards, begun.kept, begun.device, clips, tally.within
    )
    index, device = begun.index.folder.path.absolute(), begun.workers_device
    job_in = partial(RecordJob, index, device=device, trust_remote_code=trust_remote_code)

    def done(number: int) -> None:
        leave(number)
        tally.add(sizes[number])

    do = recorder.record if at is None else None
    work(job_at(at, job_in, begun.shards), missing, workers, done, do)


def _usual_duration(index: ClipIndex) -> float:
    """The length in seconds that most clips of an index have."""
    [(seconds, _)] = Counter(clip.duration for clip in index.clips).most_common(1)
    return seconds


def run_name(target: str) -> str:
    """The default name of a run: the target's name, without characters that a folder's name cannot hold."""
    path, _, function = target.partition(":")
    if path in ("hf", "torch"):
        place = Path(function.partition("@")[0])
        parts = [place.name if path == "hf" else place.stem]
    else:
        parts = [Path(path).stem, function] if function else [path]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-.") or "run"
