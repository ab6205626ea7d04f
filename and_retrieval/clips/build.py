"""Builds a clip index: plans which clips join it, embeds them in shards, and merges these in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..checkpoints.devices import resolve_device
from ..choices import DEFAULT_STORE
from ..config import ClipConfig, MomentConfig, fingerprint
from ..embed.prompts import check_prompts, templates_of
from ..embed.user import CheckedEmbedder
from ..errors import AndRetrievalError, InputError
from ..faiss_index import Rows
from ..files import check_writable
from ..neighbours import check_store
from ..progress import Progress, Tally, silent
from ..shards.address import Address, Leave, begun_share, stays
from ..shards.folder import FOLDER, Receipt, ShardCount, Shards, remove_idle
from ..shards.lock import locked
from ..shards.plan import made_by, shard_sizes, spans
from ..shards.remote import RemoteFolder
from ..shards.remote_job import fetch_finished, fetching, job_at
from ..shards.tensors import open_tensors
from ..shards.workers import work
from ..store import INDEX, Folder, Stored, Writer
from ..types import Clip, Floats, Skipped
from .again import still_missed, still_valid
from .index import CLIPS, SKIPPED, ClipIndex
from .manifest import IndexManifest, IndexPlan, state_of
from .moments import Halves
from .records import digest_of, durations_of, read_records, record_lines
from .shard import EmbedJob, ShardEmbedder, clip_moment_counts
from .source import load_clips
from .vector_files import check_finder, vector_files

KEPT = "kept.npy"
"""File of a plan: int64, rows of the clips of the index that stay."""
CHUNK = 4096  # clips whose vectors are copied at a time


@dataclass(frozen=True)
class Request:
    """What an index is to be made of, see `ClipIndex.build`."""

    source: str | Path
    embedder: CheckedEmbedder
    path: Path
    config: ClipConfig | None = None
    moments: MomentConfig | bool | None = None
    prompts: Sequence[str] | None = None
    shard_seconds: float | None = None
    store: str | None = None


def build_index(
    request: Request,
    progress: Progress = silent,
    workers: int | str = 1,
    device: str = "cpu",
    to: str | None = None,
) -> ClipIndex:
    """Make the index that is asked for, or add to it, see `ClipIndex.build`.

    Args:
        request: What it is made of.
        progress: Called with the number of clips done and the total.
        workers: See `shards.workers.work`.
        device: Where the embedder is, also the one that workers load.
        to: Address at which workers leave their shards, where they share no folder with this process, see
            `shards.remote_job`; what lies there stays there.
    """
    check_writable(request.path)
    with locked(request.path, "index"):
        shards, files, clips = _planned(request, merges=True)
        try:
            shards.begin(files=files)
            finished = shards.finished() if to is None else fetch_finished(shards, to)
            missing = shards.missing(finished)
            leave = stays if to is None else fetching(shards, to)
            _embed(shards, missing, clips, request.embedder, progress, workers, device, leave, to)
            _merge(request.path, shards, shards.finished(known=finished))
        finally:
            shards.tidy()
        resumed = len(finished) + shards.plan.manifest.shards - len(shards.plan.sizes)
        return _opened(request.path, shards.plan, resumed).with_embedder(request.embedder)


def build_share(
    request: Request,
    share: tuple[int, int],
    progress: Progress = silent,
    to: str | None = None,
    device: str = "cpu",
) -> ShardCount:
    """Embed a share of the shards, while others embed the rest, perhaps on other machines; `merge_index` joins them.

    Args:
        request: What the index is made of; the same for all shares.
        share: (i, n): every n-th shard, from the i-th on, counted from 1.
        progress: Called with the number of clips done and the total.
        to: Address at which the shards are left, see `shards.address`; by default they stay in the folder of the index.
        device: Where the embedder is.

    Raises:
        InputError: As in `ClipIndex.build`, or others embed other clips, or under other settings.
    """
    check_writable(request.path)
    remove_idle(request.path)
    with locked(request.path, "index --shard", shared=True):
        shards, files, clips = _planned(request, merges=False)
        missing, count, leave = begun_share(shards, share, to, files)
        _embed(shards, missing, clips, request.embedder, progress, device=device, leave=leave)
        return count


def merge_index(path: Path, source: str | None = None, progress: Progress = silent) -> ClipIndex:
    """Make an index of the shards that several calls of `build_share` left.

    Args:
        path: Folder of the index.
        source: Address at which the shards were left, if so.
        progress: Called with the number of shards that are there, and of all, while they are fetched.

    Raises:
        InputError: Nothing was embedded, shards are missing, or another program writes to the index.
    """
    if source is not None:
        remove_idle(path)
    with locked(path, "merge"):
        if source is not None:
            Address(RemoteFolder(source)).fetch(path / FOLDER, IndexPlan, progress)
        shards = Shards.open(path / FOLDER, IndexPlan)
        check_store(shards.plan.manifest.store)
        finished = shards.finished()
        shards.check_complete(finished)
        _merge(path, shards, finished)
        return _opened(path, shards.plan, shards.plan.manifest.shards)


def _planned(
    request: Request, merges: bool
) -> tuple[Shards[IndexPlan], Mapping[str, Writer | str | Path], Sequence[Clip]]:
    """The plan, the files that go with it, and the clips that join the index.

    Args:
        request: What the index is made of.
        merges: Whether the caller merges the shards, which takes the package of the store.
    """
    embedder, folder = request.embedder, Folder(request.path, INDEX)
    if merges and request.store is not None:
        check_store(request.store)
    old = ClipIndex.usable(request.path, embedder) if folder.exists() else None
    asked = None if request.prompts is None else check_prompts(request.prompts, "prompt")
    if old is not None:
        old.check_settings(request.config, request.moments)
        if asked is not None:
            old.check_prompts(asked)
        if merges and request.store is None:
            check_finder(old.stored)
    config = old.cut if old else request.config or ClipConfig()
    probe = load_clips(request.source, config)
    rows, kept, changed = still_valid(old.clips if old else (), probe)
    known = {clip.id for clip in kept}
    misses = (*still_missed(old.skipped if old else (), probe, request.source), *probe.skipped)
    manifest = IndexManifest(
        name=request.path.name,
        clips=0,
        skipped=0,
        embedder=embedder.name,
        embedder_fingerprint=embedder.fingerprint,
        dim=embedder.dim,
        cut=config,
        prompts=old.prompts if old else asked or templates_of(embedder),
        digest="",
        moments=old.moment_config if old else _moment_config(request.moments, embedder),
        shards=old.shards.shards if old else 0,
        store=request.store or (old.store if old else DEFAULT_STORE),
    )
    empty = IndexPlan(manifest, (), len(kept), (), made_by(), changed, probe.notes, _state_in(folder))
    joining = [clip for clip in probe.clips if clip.id not in known]
    plan, new = _cut(empty, joining, request.path / FOLDER, request.shard_seconds)
    files: dict[str, Writer | str | Path] = {
        CLIPS: record_lines((*kept, *new)),
        SKIPPED: record_lines(dict.fromkeys(misses)),
        KEPT: _array(np.array(rows, np.int64)),
    }
    return Shards(request.path / FOLDER, plan), files, new


def _cut(
    plan: IndexPlan, joining: Sequence[Clip], folder: Path, seconds: float | None
) -> tuple[IndexPlan, list[Clip]]:
    """The plan with its shards, and the clips that join in its order.

    Where shards were begun, their clips come first, in the order in which they were begun, so that they can be used:
    clips that were added to the source since are shards of their own.
    """
    begun = Shards.begun(folder, IndexPlan)
    order: dict[str, Clip] = {clip.id: clip for clip in joining}
    sizes: tuple[int, ...] = ()
    if begun is not None and (begun.plan.decides, begun.plan.kept) == (plan.decides, plan.kept):
        earlier = [clip.id for clip in _planned_clips(begun)[plan.kept :]]
        if len(earlier) == sum(begun.plan.sizes) and order.keys() >= set(earlier):
            order = {clip: order[clip] for clip in dict.fromkeys((*earlier, *order))}
            sizes = begun.plan.sizes
    new = list(order.values())
    sizes = shard_sizes([clip.duration for clip in new], seconds, sizes)
    contents = tuple(fingerprint([clip.id for clip in new[rows.start : rows.stop]]) for rows in spans(sizes))
    manifest = replace(plan.manifest, shards=plan.manifest.shards + len(sizes))
    return replace(plan, manifest=manifest, contents=contents, sizes=sizes), new


def _planned_clips(shards: Shards[IndexPlan]) -> tuple[Clip, ...]:
    """The clips of the index that is planned; none if their file is damaged."""
    try:
        return read_records(shards.planned_file(CLIPS), Clip)
    except AndRetrievalError:
        return ()


def _moment_config(moments: MomentConfig | bool | None, embedder: CheckedEmbedder) -> MomentConfig | None:
    """Length and hop of the moments of a new index, or None for none, see `ClipIndex.build`."""
    if isinstance(moments, MomentConfig):
        return moments
    return MomentConfig() if (embedder.hears_moments if moments is None else moments) else None


def _embed(
    shards: Shards[IndexPlan],
    missing: Sequence[int],
    clips: Sequence[Clip],
    embedder: CheckedEmbedder,
    progress: Progress,
    workers: int | str = 1,
    device: str = "cpu",
    leave: Leave = stays,
    at: str | None = None,
) -> None:
    """Embed these shards, and leave each where it is to be.

    Args:
        shards: With the plan.
        missing: Numbers of the shards.
        clips: Those that join the index.
        embedder: Used in this process.
        progress, workers, device: See `build_index`.
        leave: Called with the number of each when it is done.
        at: Address at which workers leave them, where they share no folder; `leave` then fetches them.
    """
    sizes = shards.plan.sizes
    tally = Tally(progress, sum(sizes[number] for number in missing))
    place = resolve_device(device)
    here = ShardEmbedder(embedder, clips, shards, place, tally.within)
    job_in = partial(EmbedJob, device=str(place))

    def done(number: int) -> None:
        leave(number)
        tally.add(sizes[number])

    work(job_at(at, job_in, shards), missing, workers, done, here.embed if at is None else None)


def _merge(path: Path, shards: Shards[IndexPlan], finished: Mapping[int, Stored[Receipt]]) -> None:
    """Commit the index that the finished shards, all of them, make, and remove them.

    Raises:
        InputError: No clip could be read, or the index is another than when the shards were begun.
    """
    plan = shards.plan
    receipts = [finished[number] for number in range(len(plan.sizes))]
    files = [shards.file(receipt) for receipt in receipts]
    planned = read_records(shards.planned_file(CLIPS), Clip)
    parts = [np.array(open_tensors(file, kind=INDEX)["read"]) for file in files]
    read = np.concatenate([np.ones(plan.kept, bool), *parts])
    clips = [clip for clip, there in zip(planned, read, strict=True) if there]
    skipped = _skipped(shards, receipts)
    if not clips:
        shards.remove()
        raise InputError(f"no usable audio: all {len(planned)} clips were skipped ({skipped[-1].reason})")
    folder = Folder(path, INDEX)
    digest, found = digest_of(clips, plan.manifest.embedder_fingerprint), _state_in(folder)
    if found != plan.before:
        if found == state_of(replace(plan.manifest, digest=digest)):  # merged before, and fetched again
            shards.remove()
            return
        raise InputError(
            f"the index in {path} is not the one that the shards were begun with; merge them into a copy of that "
            f"one, or remove {shards.path} and run the calls with --shard again"
        )
    old = ClipIndex.open(path).released() if plan.kept else None
    kept = np.load(shards.planned_file(KEPT), allow_pickle=False)
    made = replace(
        plan.manifest,
        clips=len(clips),
        skipped=len(skipped),
        digest=digest,
        shards=plan.manifest.shards - sum(not part.any() for part in parts),  # those that gave clips
    )
    vectors = _vectors(old, kept, files)
    moments = _moments(old, kept, files, planned[plan.kept :], plan)
    same = old is not None and len(kept) == len(old.clips) == len(clips)
    before = folder.open(IndexManifest).released() if same else None  # its files may be removed
    with vector_files(folder, made, vectors, moments, durations_of(clips), before) as contents:
        lists = {CLIPS: record_lines(clips), SKIPPED: record_lines(skipped)}
        folder.commit({**lists, **contents}, made)
    shards.remove()


def _state_in(folder: Folder) -> str:
    """`state_of` the index in a folder; "" if there is none that can be read."""
    try:
        return state_of(folder.open(IndexManifest).manifest)
    except AndRetrievalError:
        return ""


def _skipped(shards: Shards[IndexPlan], receipts: Sequence[Stored[Receipt]]) -> list[Skipped]:
    """What could not be used: of the source, and of the clips that joined."""
    of_source = read_records(shards.planned_file(SKIPPED), Skipped)
    return [
        *dict.fromkeys((*of_source, *(miss for receipt in receipts for miss in receipt.manifest.skipped)))
    ]


def _vectors(old: ClipIndex | None, kept: Rows, files: Sequence[Path]) -> Iterator[Floats]:
    """Vectors of the clips that stay and of those that were read, block after block."""
    for begin in range(0, len(kept) if old else 0, CHUNK):
        assert old is not None
        yield old.vectors()[kept[begin : begin + CHUNK]]
    for file in files:
        shard = open_tensors(file, kind=INDEX)
        yield shard["vectors"][shard["read"]]


def _moments(
    old: ClipIndex | None, kept: Rows, files: Sequence[Path], clips: Sequence[Clip], plan: IndexPlan
) -> Iterator[Halves]:
    """Vectors of the moments of the same clips; `clips` are those that join."""
    for begin in range(0, len(kept) if old else 0, CHUNK):
        assert old is not None
        yield old.moment_vectors(kept[begin : begin + CHUNK].tolist())
    for file, rows in zip(files, spans(plan.sizes), strict=True):
        shard = open_tensors(file, kind=INDEX)
        counts = clip_moment_counts(clips[rows.start : rows.stop], plan.manifest)
        yield shard["moments"][np.repeat(shard["read"], counts)]


def _array(values: Rows) -> Writer:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)

    return write


def _opened(path: Path, plan: IndexPlan, resumed: int) -> ClipIndex:
    """The index that was just committed."""
    count = ShardCount(plan.manifest.shards, resumed)
    return replace(ClipIndex.open(path), changed=plan.changed, notes=plan.notes, shards=count)
