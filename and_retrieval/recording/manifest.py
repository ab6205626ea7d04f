"""The manifest of a recording."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ClipConfig, RecordConfig
from ..store import Stored
from ..types import AttachedDictionary, Pooling, Skipped

EVIDENCE = "evidence.safetensors"
"""The file of every unit's top and bottom clips."""


@dataclass(frozen=True, slots=True)
class RecordedLayer:
    """A recorded layer and how its output was read; axes count as in the output, from 0.

    Attributes:
        name: Dotted name of the module.
        units: Number of units.
        pooling: How time became one number.
        output: Shape of what the layer put out for one short clip.
        unit_axis, time_axis, batch_axis, overlap: See `network.layers.LayerPlan`.
        clips: Number of seen clips that its statistics are made of.
    """

    name: str
    units: int
    pooling: Pooling
    output: tuple[int, ...]
    unit_axis: int
    time_axis: int | None
    batch_axis: int
    overlap: float
    clips: int


@dataclass(frozen=True, slots=True)
class RecordingManifest:
    """What a recording says of itself.

    Attributes:
        target: What the user typed to get the network.
        weights: `targets.weights_hash` of the network.
        aliases: Short name -> layer, see `Target.aliases`.
        dictionaries: Learned dictionaries that were attached to the network.
        index_clips: Number of clips of the index when it was recorded; later clips are not part of it.
        index_digest: `ClipIndex.digest` of these clips.
        held_out_rows: Rows of the clips kept out of the evidence, ascending.
        cut: How the clips were cut and read.
        settings: What was asked for: layers by full name, k, pooling, held-out share, batch, device.
        skipped: Clips that could not be read, with the reason.
        layers: In the order in which they are recorded.
    """

    target: str
    weights: str
    aliases: dict[str, str]
    dictionaries: tuple[AttachedDictionary, ...]
    index_clips: int
    index_digest: str
    held_out_rows: tuple[int, ...]
    cut: ClipConfig
    settings: RecordConfig
    skipped: tuple[Skipped, ...]
    layers: tuple[RecordedLayer, ...]

    @property
    def read_clips(self) -> int:
        """Number of clips the network was shown."""
        return self.index_clips - len(self.skipped)


def identity(recording: Stored[RecordingManifest]) -> str:
    """Identifies a recording; changes when the network is recorded again."""
    return recording.files[EVIDENCE].sha256
