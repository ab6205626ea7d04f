"""How a recording grows: what was recorded of an index's first clips stays when others were added behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..clips.index import ClipIndex
from ..clips.records import clip_place
from ..config import fingerprint
from ..shards.folder import FOLDER, Shards
from ..shards.plan import shard_sizes
from ..store import Folder, Stored
from ..types import Clip
from .manifest import RecordingManifest, RecordPlan, identity_in, undamaged_in
from .shard import KeptRows, kept_rows


def planned(
    draft: RecordPlan, index: ClipIndex, folder: Folder, can_hear: Callable[[Sequence[Clip]], bool]
) -> tuple[RecordPlan, KeptRows]:
    """The plan of a recording of all clips of an index, and which of the clips are kept.

    A recording of the first clips that was made alike stays, and so do the shards that were begun behind it; the other
    clips are new shards. Nothing is left to do where the plan has no shards.

    Args:
        draft: The plan without clips and shards.
        index: The clips.
        folder: Of the run.
        can_hear: Whether the network can hear any of these clips. If it can hear one that the recording skipped, the
            recording is made anew.

    Raises:
        InputError: No clip is left to explain with.
    """
    finished = _finished(draft, index, folder, can_hear)
    earlier = finished.manifest if finished else None
    sizes: tuple[int, ...] = ()
    kept = earlier.index_clips if earlier else 0
    begun = Shards.begun(folder.path / FOLDER, RecordPlan)
    if begun is not None and begun.plan.kept == kept and _goes_on(begun.plan, draft, index):
        earlier, sizes = begun.plan.manifest, begun.plan.sizes
    grown = _stages(earlier, index) if earlier else ()
    rows = kept_rows(index, draft.manifest.settings, grown)
    seconds = [clip.duration for clip in index.clips[kept:]]
    sizes = shard_sizes(seconds, draft.manifest.settings.shard_seconds, sizes)
    plan = replace(draft, kept=kept, sizes=sizes, before=identity_in(folder))
    manifest = replace(
        draft.manifest,
        index_clips=len(index.clips),
        index_digest=index.digest(),
        held_out_rows=tuple(np.flatnonzero(rows.held_out & (rows.place >= 0)).tolist()),
        seen_rows=None if (rows.place >= 0).all() else _kept_seen(rows),
        grown=grown,
        held_out_digest=_digest(rows.held_out),
    )
    contents = tuple(_content(part, index, rows) for part in plan.rows)
    return replace(plan, manifest=manifest, contents=contents), rows


def _kept_seen(rows: KeptRows) -> tuple[int, ...]:
    return tuple(np.flatnonzero(~rows.held_out & (rows.place >= 0)).tolist())


def _finished(
    draft: RecordPlan, index: ClipIndex, folder: Folder, can_hear: Callable[[Sequence[Clip]], bool]
) -> Stored[RecordingManifest] | None:
    """The recording in the folder, if it was made alike, of all the first clips that can be heard, and is undamaged."""
    stored = undamaged_in(folder)
    if stored is None:
        return None
    manifest = stored.manifest
    alike = (manifest.plan, manifest.response) == (fingerprint(draft.decides), draft.manifest.response)
    if not alike or not _stays(manifest, index):
        return None
    places = {miss.path for miss in manifest.skipped}
    missed = [clip for clip in index.clips[: manifest.index_clips] if clip_place(clip) in places]
    return None if missed and can_hear(missed) else stored.released()


def _goes_on(begun: RecordPlan, draft: RecordPlan, index: ClipIndex) -> bool:
    """Whether shards that were begun under a plan can be used."""
    alike = begun.decides == draft.decides and begun.manifest.response == draft.manifest.response
    return alike and _stays(begun.manifest, index)


def _stays(earlier: RecordingManifest, index: ClipIndex) -> bool:
    """Whether a recording was of the first clips of an index, and held out those that are held out now."""
    count = earlier.index_clips
    if count > len(index.clips) or earlier.index_digest != index.digest(count):
        return False
    held = kept_rows(index, earlier.settings, _stages(earlier, index)).held_out
    return _digest(held[:count]) == earlier.held_out_digest


def _stages(earlier: RecordingManifest, index: ClipIndex) -> tuple[int, ...]:
    """See `RecordingManifest.grown`, of a recording of all clips that goes on from an earlier one."""
    grows = len(index.clips) > earlier.index_clips
    return (*earlier.grown, earlier.index_clips) if grows else earlier.grown


def _digest(held_out: npt.NDArray[np.bool_]) -> str:
    return fingerprint(np.flatnonzero(held_out).tolist())


def _content(part: range, index: ClipIndex, rows: KeptRows) -> str:
    """What a shard is about: its clips, which of them are held out and which are kept, and where they begin."""
    places = slice(part.start, part.stop)
    ids = [clip.id for clip in index.clips[places]]
    return fingerprint(part.start, ids, rows.held_out[places].tolist(), (rows.place[places] >= 0).tolist())
