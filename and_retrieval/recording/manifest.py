"""The manifest of a recording."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ClipConfig, RecordConfig
from ..network.plan import Calls
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
        calls: What its calls in one forward pass stand for, see `network.plan.LayerPlan`.
        step, side: Where the network pads or cuts clips inside: see `network.plan.SteadySteps`; else None and 0.
        missing_units: Units that gave NaN or infinity on some clip; such clips do not count for them.
        missing_clips: Clips on which some unit did.
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
    calls: Calls = "once"
    step: float | None = None
    side: float = 0.0
    missing_units: int = 0
    missing_clips: int = 0

    @property
    def missing(self) -> str | None:
        """What was no finite number, in words, or None."""
        if not self.missing_units:
            return None
        units = f"{self.missing_units} unit{'s' * (self.missing_units > 1)}"
        clips = f"{self.missing_clips} clip{'s' * (self.missing_clips > 1)}"
        return f"{units} gave NaN or infinity on {clips}, which do not count for them"


@dataclass(frozen=True, slots=True)
class RecordingManifest:
    """What a recording says of itself.

    Attributes:
        target: What the user typed to get the network.
        weights: `targets.weights_hash` of the network.
        changing: Entries of its state dict that change when it runs; they are left out of the hash.
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
    changing: tuple[str, ...] = ()

    @property
    def read_clips(self) -> int:
        """Number of clips the network was shown."""
        return self.index_clips - len(self.skipped)


def identity(recording: Stored[RecordingManifest]) -> str:
    """Identifies a recording; changes when the network is recorded again."""
    return recording.files[EVIDENCE].sha256
