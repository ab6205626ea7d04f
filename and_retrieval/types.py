"""The nouns of the project: frozen records and the protocols that join its stages.

Nothing here imports more than NumPy, so every module may import this one.
Times are seconds, audio is float32 in [-1, 1], vectors have unit length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

Pooling = Literal["mean", "max", "first", "last"]
Evidence = Literal["audio", "captions", "both"]
Reliability = Literal["holds", "fails", "untested"]

StepSeconds = Callable[[float, int], npt.NDArray[np.float64]]
"""(duration of a clip in seconds, steps on a layer's time axis) -> when each step is, see `Target.step_seconds`."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One piece of audio of a probe set.

    Attributes:
        id: 16 hex digits from relative path, file content and start: the same on every machine.
        root: Absolute folder that `path` starts from.
        path: Audio file, POSIX style, relative to `root`.
        start: Where the clip begins in the file, seconds.
        duration: Length in seconds.
        label: Class name, or None.
        caption: One sentence that describes the sound, or None.
        fold: Name of the fold the file belongs to, or None.
        sha256: Of the whole file, hex.
    """

    id: str
    root: str
    path: str
    start: float
    duration: float
    label: str | None = None
    caption: str | None = None
    fold: str | None = None
    sha256: str = ""

    @property
    def file(self) -> str:
        """Absolute path of the audio file, POSIX style."""
        return f"{self.root}/{self.path}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a window of one, that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """The clips a network is shown, and the files that could not be used."""

    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...] = ()


class Embedder(Protocol):
    """Maps audio and text into one vector space.

    Attributes:
        name: What the user typed to get it.
        dim: Length of the vectors.
        sample_rate: Rate in Hz at which `embed_audio` expects waveforms.
        fingerprint: Hash of weights and settings; vectors are comparable only when it is equal.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        """Waveforms, each 1-D float32 at `sample_rate` -> [n, dim], rows of unit length."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """Texts -> [n, dim], rows of unit length."""
        ...


@dataclass(frozen=True)
class Target:
    """The network being explained.

    Attributes:
        module: The network, in eval mode; its `named_modules()` are the layers.
        sample_rate: Rate in Hz of the waveforms that `preprocess` takes.
        preprocess: List of equally long 1-D float32 waveforms -> what `module` is called with:
            a tensor (batch first), or a dict of keyword arguments.
        class_names: Names of the output classes, or None.
        logits: Output of `module` -> [n, classes], or None when there are no classes.
        pooling: Layer glob -> how its activations over time become one number; first match wins.
            Layers that no glob matches are pooled by their type.
        time_axis: Layer glob -> axis of that layer's output that runs over time, for layers
            where it cannot be found by showing the network a longer sound; None where no axis does.
        unit_axis: Layer glob -> axis of that layer's output that the units lie on, for layers where neither
            the module's type nor its neighbours tell.
        step_seconds: Layer glob -> function that says when the steps of the layer's time axis are, for networks
            that pad their input or mix special tokens with time: centre of every step in seconds from the clip's
            start, float64 [steps], NaN for padding and special tokens, which then count in no mean, no maximum
            and no peak. Without it the steps divide the clip evenly.
        aliases: Short name -> layer; globs match either.
        layers: Globs recorded when the user names none; empty means all layers with weights.
        name: What the user typed to get it.
        stored_as: Type in which its checkpoint stores the weights, where the network runs in another; exports keep it.
    """

    module: torch.nn.Module
    sample_rate: int
    preprocess: Callable[[list[Floats]], Any]
    class_names: tuple[str, ...] | None = None
    logits: Callable[[Any], torch.Tensor] | None = None
    pooling: Mapping[str, Pooling] = field(default_factory=dict)
    time_axis: Mapping[str, int | None] = field(default_factory=dict)
    unit_axis: Mapping[str, int] = field(default_factory=dict)
    step_seconds: Mapping[str, StepSeconds] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    name: str = "target"
    stored_as: torch.dtype | None = None


@dataclass(frozen=True, slots=True)
class AttachedDictionary:
    """A learned dictionary of a target as a recording names it, see `network.dictionary`.

    Attributes:
        layer: Dotted name of the layer that it reads.
        path: Absolute path of its file, or None when it was made in Python.
        sha256: Of the file.
        unit_axis, time_axis: Of the layer's output.
    """

    layer: str
    path: str | None
    sha256: str | None
    unit_axis: int
    time_axis: int | None


@dataclass(frozen=True, slots=True)
class Kept:
    """The k strongest (or weakest) clips of every unit of a layer, strongest (weakest) first.

    Attributes:
        rows: int32 [units, k], row of the clip in the clip index; -1 where fewer than k were seen.
        values: float32 [units, k], the activation; NaN where `rows` is -1.
        peaks: float32 [units, k], seconds from the clip's start at which the unit was strongest.
    """

    rows: Ints
    values: Floats
    peaks: Floats


@dataclass(frozen=True, slots=True)
class Moments:
    """Statistics of every unit over all clips that may serve as evidence.

    Attributes:
        count: Number of clips seen.
        mean, std, low, high: float32 [units].
    """

    count: int
    mean: Floats
    std: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class LayerEvidence:
    """What a layer responded to: per unit the top-k and bottom-k clips, and moments.

    Attributes:
        name: Of the layer.
        pooling: How time became one number.
        top, low: The strongest and the weakest clips.
        moments: Over all clips that may serve as evidence.
        missing_units: Units that gave NaN or infinity on some clip; such clips do not count for them.
        missing_clips: Clips on which some unit did.
    """

    name: str
    pooling: Pooling
    top: Kept
    low: Kept
    moments: Moments
    missing_units: int = 0
    missing_clips: int = 0

    @property
    def units(self) -> int:
        """Number of units of the layer."""
        return int(self.top.rows.shape[0])

    @property
    def fired(self) -> npt.NDArray[np.bool_]:
        """bool [units, k], at which top clips the unit is stronger than at its weakest; others say nothing about it."""
        return np.asarray(self.top.values > self.low.values[:, :1])


@dataclass(frozen=True, slots=True)
class Label:
    """A concept with its score for a unit; scores compare within one run and score name only.

    Attributes:
        concept: A short text.
        score: Higher is better.
        evidence: Which source puts the concept among the unit's best: the clips' sound, their captions, or both
            (each alone, or only the two together).
    """

    concept: str
    score: float
    evidence: Evidence = "audio"


@dataclass(frozen=True, slots=True)
class Shown:
    """A clip among the evidence of a unit.

    Attributes:
        row: Of the clip in the clip index; its path, start and caption are there.
        peak: Seconds from the clip's start at which the unit was strongest.
        activation: How strongly the unit responded.
    """

    row: int
    peak: float
    activation: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One sentence about a unit, or the reason why there is none.

    Attributes:
        text: The sentence, or None when abstained.
        abstained: True when no usable sentence was made.
        reason: Why it abstained, or None.
        raw: The model's unedited answers that could not be used, one a line, or None.
        origin: Whether the model wrote the text at once or when asked again, or the text was composed of
            the evidence's own words because neither answer could be used; None when abstained.
    """

    text: str | None
    abstained: bool
    reason: str | None = None
    raw: str | None = None
    origin: Literal["written", "repaired", "composed"] | None = None


NOT_ASKED = Summary(None, True, "no sentence was asked for")


@dataclass(frozen=True, slots=True)
class UnitFaithfulness:
    """How well a unit's first label predicts it on clips it was not made from, see `faithfulness`.

    Attributes:
        clips: Held-out clips it was tested on.
        correlation: Pearson's, of the label's clip similarity and the activation's exponential scores, that is,
            ranks that weigh the strongest responses most; -1..1.
        random_correlation: The same for a random label of the bank, on average.
        best_correlation: The same for the best of ten random labels, expected.
        auprc: Average precision at which the label finds the unit's strongest fifth of the clips, 0..1.
        base_rate: That share: the precision without any order.
        q_value: Of the permutation test, false discovery rate over the layer's units, 0..1.
        reliable: Whether the label beat both chance over clips and chance over labels.
    """

    clips: int
    correlation: float
    random_correlation: float
    best_correlation: float
    auprc: float
    base_rate: float
    q_value: float
    reliable: bool


def reliability(test: UnitFaithfulness | None) -> Reliability:
    """What a test says of a label: it `holds` or `fails` on clips it was not made from, or was left `untested`."""
    if test is None:
        return "untested"
    return "holds" if test.reliable else "fails"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One of several things a unit answers to: a group of its top clips that lie together in embedding space.

    Attributes:
        labels: Concepts of this group, best first.
        clips: Places in `Explanation.top` of the group's clips, strongest first.
        summary: One sentence about this group, or why there is none.
        faithfulness: Of its own first label, tested on what the unit's other meanings leave of its activation; None
            where that could not be tested.
    """

    labels: tuple[Label, ...]
    clips: tuple[int, ...]
    summary: Summary = NOT_ASKED
    faithfulness: UnitFaithfulness | None = None

    @property
    def reliable(self) -> Reliability:
        """Whether its first label passed its test."""
        return reliability(self.faithfulness)


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is said about one unit. A new field is stored and exported without further code.

    Attributes:
        layer, unit: The unit.
        top, low: The clips it responded to most and least, strongest and weakest first.
        labels: Concepts, best first; empty when the unit never responded.
        faithfulness: Test of the first label on held-out clips, by the evidence that labels were made from (sound
            unless asked otherwise). None where there is no label, or were too few clips to test it on.
        reliable: Whether the first label passed this test.
        caption_faithfulness: The same label, tested by the held-out clips' own captions: a second opinion where the
            label came from sound. None where the clips carry none.
        acoustics: Which measured qualities go with its activation, in words, or None.
        meanings: Two or more where the top clips fall into distinct groups, the one with the strongest clip
            first; otherwise empty.
        polysemanticity: 0..1, how far apart the top clips lie: 0 identical, 1 as clips drawn at random, see
            `explanation.groups.Groups`; None where there are too few.
        summary: One sentence, or why there is none.
        open_concepts: Words of the captions and the summary that describe the unit, most frequent first.
    """

    layer: str
    unit: int
    top: tuple[Shown, ...] = ()
    low: tuple[Shown, ...] = ()
    labels: tuple[Label, ...] = ()
    faithfulness: UnitFaithfulness | None = None
    reliable: Reliability = "untested"
    caption_faithfulness: UnitFaithfulness | None = None
    acoustics: str | None = None
    meanings: tuple[Meaning, ...] = ()
    polysemanticity: float | None = None
    summary: Summary = NOT_ASKED
    open_concepts: tuple[str, ...] = ()


class LanguageModel(Protocol):
    """A local text model: the same prompts give the same answers."""

    @property
    def name(self) -> str: ...

    def complete(self, prompts: Sequence[str], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Prompts -> continuations, greedy, cut before the first `stop` string."""
        ...
