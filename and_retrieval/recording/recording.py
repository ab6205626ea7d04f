"""A recording: how one network responded to the clips of one index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from ..clips.bands import BANDS
from ..clips.index import ClipIndex
from ..clips.moments import Halves
from ..clips.qualities import QUALITIES
from ..errors import StaleError, unknown_name
from ..network.names import recorded_layers
from ..shards.folder import ShardCount
from ..shards.tensors import open_tensors
from ..store import Folder, Stored
from ..types import Floats, LayerEvidence
from .activations import FILE as ACTIVATIONS
from .activations import SEEN, Activations, Part, open_activations
from .evidence import damaged_file, load_evidence
from .manifest import EVIDENCE, QUALITIES_FILE, RecordingManifest, identity
from .unit_index import UnitIndex, load_unit_index


def seen_rows(manifest: RecordingManifest) -> npt.NDArray[np.intp]:
    """See `Recording.seen_rows`."""
    if manifest.seen_rows is not None:
        return np.array(manifest.seen_rows, np.intp)
    seen = np.ones(manifest.index_clips, bool)
    seen[list(manifest.held_out_rows)] = False
    return np.flatnonzero(seen)


@dataclass(frozen=True)
class Recording:
    """What `record` left in a folder, with the index that its clip rows refer to.

    Attributes:
        stored: The folder's committed state. Each file is opened and verified once.
        index: The index of the recorded clips.
        shards: In how many shards it was recorded, and how many of them were found finished.
    """

    stored: Stored[RecordingManifest]
    index: ClipIndex
    shards: ShardCount = field(default=ShardCount(), compare=False)

    @classmethod
    def open(cls, folder: Folder, index: ClipIndex) -> Self:
        """The recording stored in `folder`.

        Raises:
            InputError: The folder holds no recording, or a damaged one.
            StaleError: The recording was made on other clips or with another embedder.
        """
        recording = cls(folder.open(RecordingManifest), index)
        manifest = recording.manifest
        held = manifest.held_out_rows
        if not all(0 <= row < manifest.index_clips for row in held):
            raise damaged_file(folder.manifest_path, "it holds out clips that it does not count")
        fewer = len(index.clips) < manifest.index_clips
        if fewer or manifest.index_digest != index.digest(manifest.index_clips):
            raise StaleError(
                f"run {folder.path.name!r} was recorded on other clips or another embedder than index "
                f"{index.name!r} has now; {recording.remedy}"
            )
        return recording

    @property
    def folder(self) -> Folder:
        """The folder that holds the recording."""
        return self.stored.folder

    @property
    def manifest(self) -> RecordingManifest:
        """The recording's target, layers, settings and counts."""
        return self.stored.manifest

    @property
    def name(self) -> str:
        """NAME/RUN, the form in which verbs take it."""
        return f"{self.index.name}/{self.folder.path.name}"

    @property
    def remedy(self) -> str:
        """The command that records again, to be given when the recording no longer fits."""
        return (
            f"record it again: and-retrieval record {self.index.name} --target {self.manifest.target} "
            f"--run {self.folder.path.name}"
        )

    @property
    def identity(self) -> str:
        """Identifies this recording; another one when the network is recorded again otherwise."""
        return identity(self.stored)

    @cached_property
    def layers(self) -> tuple[LayerEvidence, ...]:
        """The evidence of every layer."""
        return load_evidence(self.stored.file(EVIDENCE), self.manifest.layers, self.manifest.index_clips)

    def layer(self, name: str) -> LayerEvidence:
        """The evidence of the layer of that name, which was recorded."""
        return next(layer for layer in self.layers if layer.name == name)

    @cached_property
    def unit_index(self) -> UnitIndex:
        """The neuron vectors of all units."""
        return load_unit_index(self.stored)

    @cached_property
    def qualities(self) -> Floats:
        """Measured qualities of all clips, float32 [clips, qualities], in the order of `clips.qualities.QUALITIES`."""
        return self._measured["qualities"]

    @cached_property
    def bands(self) -> Floats:
        """Levels of all clips in mel bands, dB, float32 [clips, bands], see `clips.bands`; NaN if not read."""
        return self._measured["bands"]

    @cached_property
    def seen_rows(self) -> npt.NDArray[np.intp]:
        """Rows of the seen clips whose activations are kept, int [seen], in the order of the `seen` activations.

        Those are all clips that may serve as evidence, unless there are more than `RecordConfig.kept_seen`.
        """
        return seen_rows(self.manifest)

    @cached_property
    def held_out_rows(self) -> npt.NDArray[np.intp]:
        """Rows of the held-out clips whose activations are kept, int [held out], in the order of these."""
        return np.array(self.manifest.held_out_rows, np.intp)

    def files_of(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Number of the file that each clip was cut from, int [rows]. Windows of one file are not independent."""
        files = [self.index.clips[row].sha256 for row in rows]
        return np.unique(files, return_inverse=True)[1].reshape(-1)

    def activations(self, layer: str, part: Part) -> Floats:
        """Activations of a layer on the `seen` or the `held_out` clips, memory-mapped float32 [clips, units].

        Rows are those of `seen_rows` or `held_out_rows`; the row of a clip that could not be read is NaN, and so is
        every value that was no finite number.

        Raises:
            InputError: The layer was not recorded.
        """
        return self._activations.layer(self._number(layer), part)

    def peaks(self, layer: str, part: Part) -> Halves:
        """When the units of a layer were strongest in these clips, memory-mapped float16 [clips, units].

        Seconds from the start of each clip. Rows are those of `activations`; there are none of the seen clips unless
        tests are cross-fitted.

        Raises:
            InputError: The layer was not recorded.
        """
        return self._activations.peaks(self._number(layer), part)

    def _number(self, layer: str) -> int:
        names = [layer.name for layer in self.manifest.layers]
        if layer not in names:
            raise unknown_name("recorded layer", layer, names)
        return names.index(layer)

    def seen_activations(self, layer: str) -> tuple[npt.NDArray[np.intp], Floats]:
        """Activations of a layer on the seen clips that could be read, and the rows of these clips.

        Returns:
            int [clips], and float32 [clips, units], memory-mapped if all clips could be read. A value is NaN if the
            unit gave no finite number for the clip.
        """
        activations = self.activations(layer, SEEN)
        read = np.isfinite(activations).any(axis=1)
        return self.seen_rows[read], activations if read.all() else activations[read]

    def matching_layers(self, globs: Sequence[str]) -> tuple[str, ...]:
        """The recorded layers that any glob matches by name or alias, in recorded order.

        Raises:
            InputError: A glob matches no recorded layer.
        """
        names = [layer.name for layer in self.manifest.layers]
        remedy = f"{self.name} has no other layers; record it with more"
        return recorded_layers(globs, names, self.manifest.aliases, remedy)

    @cached_property
    def _measured(self) -> dict[str, Floats]:
        path = self.stored.file(QUALITIES_FILE)
        measured = open_tensors(path)
        clips = self.manifest.index_clips
        expected = {"qualities": (clips, len(QUALITIES)), "bands": (clips, BANDS)}
        if {name: array.shape for name, array in measured.items()} != expected:
            raise damaged_file(path, "it does not hold the qualities and bands of all clips")
        return measured

    @cached_property
    def _activations(self) -> Activations:
        path = self.stored.file(ACTIVATIONS)
        activations, seen, held = open_activations(path), len(self.seen_rows), len(self.held_out_rows)
        timed = seen if self.manifest.cross_fitted else 0
        for number, layer in enumerate(self.manifest.layers):
            if activations.shapes(number) != tuple((rows, layer.units) for rows in (seen, held, timed, held)):
                raise damaged_file(path, f"layer {layer.name!r} has activations of other clips or units")
        return activations
