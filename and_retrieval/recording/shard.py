"""One shard of a recording: the network's response to a run of successive clips, in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoints.devices import decoding_threads, resolve_device
from ..clips.bands import BANDS
from ..clips.index import ClipIndex
from ..clips.qualities import QUALITIES
from ..clips.records import clip_place
from ..clips.source import held_out
from ..config import ClipConfig, RecordConfig
from ..errors import InputError
from ..network.memory import keep_freed_memory
from ..network.plan import LayerPlan
from ..network.probe import equal_parts, probe, read_batches
from ..progress import Progress, silent
from ..shards.folder import Shards
from ..shards.plan import check_made_by
from ..shards.tensors import Shapes, Tensors, new_tensors
from ..targets import load_target, weights_hash
from ..types import Clip, Floats, Ints, Skipped, Target
from .activations import Activations, activation_shapes
from .clip_reader import ClipReader
from .evidence import Batch, gather, tape_shapes, write_tapes
from .manifest import RecordingManifest, RecordPlan
from .target import recorded_plans, with_dictionaries


@dataclass(frozen=True)
class KeptRows:
    """Which clips of a recording are held out, and where the activations of those that are kept lie.

    Attributes:
        held_out: bool [clips].
        place: int32 [clips], place among the kept clips of the same part; -1 if a clip is not kept.
    """

    held_out: npt.NDArray[np.bool_]
    place: Ints

    def counts(self, rows: range) -> tuple[int, int]:
        """Number of seen and of held-out clips among these that are kept."""
        part = slice(rows.start, rows.stop)
        held, kept = self.held_out[part], self.place[part] >= 0
        return int((kept & ~held).sum()), int((kept & held).sum())

    def places_within(self, rows: range) -> Ints:
        """As `place`, counted from the first of these clips that is kept."""
        part = slice(rows.start, rows.stop)
        held, places = self.held_out[part], self.place[part].copy()
        for chosen in (held & (places >= 0), ~held & (places >= 0)):
            places[chosen] -= places[chosen].min(initial=2**31 - 1)
        return places


def measured_shapes(clips: int) -> Shapes:
    """The tensors of what is measured of so many clips, for `tensors.new_tensors`; NaN stands for what is not."""
    return {"qualities": (np.float32, (clips, len(QUALITIES))), "bands": (np.float32, (clips, BANDS))}


def check_index(index: ClipIndex, planned: RecordingManifest, run: str) -> None:
    """Raise InputError unless an index is the one on which a recording was begun.

    Args:
        index: The clips, how they were cut, and their moments.
        planned: Of the recording to be.
        run: Its name, for the message.
    """
    begun = planned.index_digest, planned.cut, planned.moments
    if (index.digest(), index.cut, index.moment_config) != begun:
        raise InputError(f"index {index.name!r} was changed after {run} was begun; record it again")


def can_hear(
    target: Target,
    plans: Sequence[LayerPlan],
    clips: Sequence[Clip],
    batch: int,
    cut: ClipConfig,
    device: torch.device,
) -> bool:
    """Whether any of these clips can be read and is accepted by the network; the first that is ends the search."""
    batches = (
        (np.array(places, np.int32), sounds)
        for places, sounds in read_batches(clips, target.sample_rate, batch, cut, [], silent)
    )
    return any(True for _ in probe(target, plans, batches, device, refused=[]))


@dataclass(frozen=True)
class Recorder:
    """Records shards.

    Attributes:
        target: The network, on its device.
        plans: Its layers.
        index: The clips.
        shards: The plan, and where to put the shards.
        kept: Which clips are held out and kept.
        device: Where the network is.
        clips: Reads the clips.
        progress: Called with the number of clips of a shard that are done, and of all clips of it.
    """

    target: Target
    plans: Sequence[LayerPlan]
    index: ClipIndex
    shards: Shards[RecordPlan]
    kept: KeptRows
    device: torch.device
    clips: ClipReader
    progress: Progress = silent

    def record(self, number: int) -> None:
        """Record the shard of a number."""
        self.shards.leave(number, lambda path: self._write(number, path))

    def _write(self, number: int, path: Path) -> list[Skipped]:
        """Write what the network leaves of a shard's clips; returns those that could not be read or heard."""
        rows = self.shards.plan.rows[number]
        manifest = self.shards.plan.manifest
        units, top_k = [plan.units for plan in self.plans], manifest.settings.top_k
        shapes = {
            **tape_shapes(units, top_k),
            **activation_shapes(units, *self.kept.counts(rows), manifest.cross_fitted),
            **measured_shapes(len(rows)),
        }
        tensors = new_tensors(path, shapes)
        skipped: list[Skipped] = []
        heard = self._heard(rows, self._batches(number, tensors, skipped), tensors, skipped)
        held = self.kept.held_out[rows.start : rows.stop]
        places = self.kept.places_within(rows)
        tapes = gather(heard, self.plans, held, top_k, Activations(tensors), places, rows.start)
        write_tapes(tapes, tensors)
        return skipped

    def _batches(
        self, number: int, tensors: Tensors, skipped: list[Skipped]
    ) -> Iterator[tuple[Ints, list[Floats]]]:
        """Batches of equally long clips, by their places in the shard; each is measured while the network hears it."""
        rows, batch = self.shards.plan.rows[number], self.shards.plan.manifest.settings.batch
        done = 0
        for group in self.clips.groups(number):
            for same, sounds in equal_parts(group, batch):
                yield np.array(same, np.int32) - np.int32(rows.start), sounds
            for row, (qualities, bands) in zip(group.rows, group.measured(), strict=True):
                tensors["qualities"][row - rows.start] = qualities
                tensors["bands"][row - rows.start] = bands
            skipped += group.misses
            done += len(group.rows) + len(group.misses)
            self.progress(done, len(rows))

    def _heard(
        self,
        rows: range,
        batches: Iterable[tuple[Ints, Sequence[Floats]]],
        tensors: Tensors,
        skipped: list[Skipped],
    ) -> Iterator[Batch]:
        """The network's response to the clips that it can hear, by their rows in the index.

        The others are added to `skipped`, and what was measured of them is taken back.
        """
        refused: list[tuple[int, InputError]] = []
        for places, layers in probe(self.target, self.plans, batches, self.device, refused):
            yield places + np.int32(rows.start), layers
        for place, error in refused:
            for name in measured_shapes(0):
                tensors[name][place] = np.nan
            skipped.append(Skipped(clip_place(self.index.clips[rows.start + place]), str(error)))


def kept_rows(index: ClipIndex, config: RecordConfig, grown: Sequence[int] = ()) -> KeptRows:
    """Which clips are held out, and which are kept: as many of either part as `config` says, those with the lowest ids.

    Args:
        index: The clips.
        config: What is held out, and how many clips are kept.
        grown: See `RecordingManifest.grown`.

    Raises:
        InputError: No clip is left to explain with.
    """
    held = held_out(index.clips, config.hold_out, grown)
    place = np.full(len(held), -1, np.int32)
    for part, most in ((~held, config.kept_seen), (held, config.kept_held_out)):
        rows = np.flatnonzero(part)
        if len(rows) > most:
            ids = np.array([index.clips[row].id for row in rows])
            rows = np.sort(rows[np.argsort(ids, kind="stable")[:most]])
        place[rows] = np.arange(len(rows))
    return KeptRows(held, place)


@dataclass(frozen=True)
class RecordJob:
    """Recording in another process, which loads the network by its name.

    Attributes:
        index, shards: Folders of the index and of the shards.
        device: Where the network is to run.
        trust_remote_code: See `targets.load_target`.
    """

    index: Path
    shards: Path
    device: str
    trust_remote_code: bool

    def start(self) -> Callable[[int], None]:
        """Load index and network; returns the function that records a shard.

        Raises:
            InputError: The network cannot be loaded by its name, or it, the index or this program is another than that
                of the plan.
        """
        shards = Shards.open(self.shards, RecordPlan)
        check_made_by(shards.plan.made_by)
        manifest = shards.plan.manifest
        name, remedy = self.shards.parent.name, "record it with one worker"
        index = ClipIndex.open(self.index)
        check_index(index, manifest, name)
        target = load_target(manifest.target, self.device, self.trust_remote_code)
        target = with_dictionaries(target, manifest.dictionaries, name, remedy)
        if weights_hash(target.module, manifest.changing) != manifest.weights:
            raise InputError(
                f"target {manifest.target!r} has other weights when it is loaded again, so other processes cannot "
                "record it; save its weights and load them, or use one worker"
            )
        plans = recorded_plans(manifest.layers, target, [layer.name for layer in manifest.layers])
        kept = kept_rows(index, manifest.settings, manifest.grown)
        reader = ClipReader(index, shards, target.sample_rate, threads=decoding_threads(target.device))
        keep_freed_memory()
        return Recorder(target, plans, index, shards, kept, resolve_device(self.device), reader).record
