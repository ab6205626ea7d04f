"""The manifest of a recording."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..config import ClipConfig, MomentConfig, RecordConfig, fingerprint
from ..errors import AndRetrievalError
from ..network.plan import Calls
from ..shards.plan import spans
from ..store import Folder, Stored
from ..types import AttachedDictionary, Pooling, Skipped
from .activations import FILE as ACTIVATIONS
from .activations import LEAST_HELD_OUT

EVIDENCE = "evidence.safetensors"
"""The file of every unit's top and bottom clips."""
QUALITIES_FILE = "qualities.safetensors"
"""The file of what was measured of every clip."""


@dataclass(frozen=True, slots=True)
class RecordedLayer:
    """A recorded layer, and how its output was read; axes are those of the output, from 0.

    Attributes:
        name: Dotted name of the module.
        units: Number of units.
        pooling: How the values over time became one number.
        output: Shape of the layer's output for one short clip.
        unit_axis, time_axis, batch_axis, overlap: See `network.layers.LayerPlan`.
        clips: Number of seen clips in the layer's statistics.
        calls: What its calls in one forward pass stand for, see `network.plan.LayerPlan`.
        step, side: If the network pads or cuts clips inside, see `network.plan.SteadySteps`; else None and 0.
        missing_units: Number of units that gave NaN or infinity on some clip; such clips do not count for them.
        missing_clips: Number of clips on which some unit did.
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
    """The manifest of a recording.

    Attributes:
        target: The text by which the user named the network.
        weights: `targets.weights_hash` of the network.
        changing: Entries of its state dict that change when it runs; they are left out of the hash.
        aliases: Short name -> layer, see `Target.aliases`.
        dictionaries: Learned dictionaries that were attached to the network.
        index_clips: Number of clips in the index at the time; clips added later are not part of the recording.
        index_digest: `ClipIndex.digest` of these clips.
        held_out_rows: Rows of the held-out clips whose activations are kept, ascending.
        cut: How the clips were cut and read.
        moments: Length and hop of the moments that neuron vectors come from, or None where they come from clips.
        settings: The settings: layers by full name, k, pooling, held-out share, batch, device.
        skipped: Clips that could not be read, with the reason.
        layers: Recorded layers, in recorded order.
        seen_rows: Rows of the seen clips whose activations are kept, ascending; None if those of all clips are.
        plan: Fingerprint of all but the clips that decided it, see `RecordPlan.decides`.
        response: Hash of the network's response to noise, to the last bit; so code that changed is noticed.
        shards: In how many shards it was recorded.
        grown: If clips were added to the index after it had been begun: how many clips there were each time before.
        held_out_digest: Hash of the rows of all held-out clips, kept or not.
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
    moments: MomentConfig | None = None
    seen_rows: tuple[int, ...] | None = None
    plan: str = ""
    response: str = ""
    shards: int = 0
    grown: tuple[int, ...] = ()
    held_out_digest: str = ""

    @property
    def read_clips(self) -> int:
        """Number of clips that the network heard."""
        return self.index_clips - len(self.skipped)

    @property
    def cross_fitted(self) -> bool:
        """Whether too few clips are held out to test labels on, so that all clips are, by cross-fitting."""
        return len(self.held_out_rows) < LEAST_HELD_OUT


def identity(recording: Stored[RecordingManifest]) -> str:
    """Identifies all that was recorded: another one where anything of it is another.

    The evidence alone would not do: that of fewer kept activations is the same.
    """
    files = (EVIDENCE, ACTIVATIONS, QUALITIES_FILE)
    return fingerprint([recording.files[name].sha256 for name in files if name in recording.files])


def undamaged_in(folder: Folder) -> Stored[RecordingManifest] | None:
    """The recording in a folder, if there is one and all its files are as they were written."""
    try:
        stored = folder.open(RecordingManifest)
        for name in stored.files:
            stored.file(name)
    except AndRetrievalError:
        return None
    return stored


def identity_in(folder: Folder) -> str:
    """`identity` of the recording in a folder; "" if there is none that can be read."""
    try:
        return identity(folder.open(RecordingManifest))
    except AndRetrievalError:
        return ""


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """Everything that decides a recording, known before the first clip is heard.

    Attributes:
        manifest: Of the recording to be, without what only hearing the clips can tell.
        made_by: See `shards.plan.made_by`.
        kept: Number of clips, the first of the index, of the recording that is there already and grows.
        before: `identity_in` the folder of the run when the shards were begun.
        sizes: Number of clips of every shard, in the order of the index, behind these.
        contents: Of every shard, a hash of its clips and of what becomes of each.
    """

    kind: ClassVar[str] = "recording plan"

    manifest: RecordingManifest
    made_by: str
    kept: int = 0
    sizes: tuple[int, ...] = ()
    contents: tuple[str, ...] = ()
    before: str = ""

    @property
    def rows(self) -> tuple[range, ...]:
        """Rows in the index of the clips of every shard."""
        return tuple(range(self.kept + part.start, self.kept + part.stop) for part in spans(self.sizes))

    @property
    def decides(self) -> tuple[RecordingManifest, str]:
        """See `shards.plan.Plan`: not the response, whose last bits are others on other machines, nor the store."""
        manifest = replace(
            self.manifest,
            settings=replace(self.manifest.settings, store=RecordConfig.store),
            response="",
            index_clips=0,
            index_digest="",
            held_out_rows=(),
            seen_rows=None,
            grown=(),
            held_out_digest="",
        )
        return manifest, self.made_by

    @property
    def shared(self) -> tuple[RecordingManifest, int, str]:
        """See `shards.plan.Plan`: not the response, whose last bits are others on other machines.

        What is replaced may differ from machine to machine, what grows may not.
        """
        return replace(self.manifest, response=""), self.kept, self.before if self.kept else ""
