"""The nouns of the project: frozen records and the protocols that join its stages.

Nothing here needs more than NumPy, so every module may import this one.
Times are seconds, audio is float32 in [-1, 1], vectors have unit length.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from .choices import Evidence as Evidence
from .choices import Pooling as Pooling

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

Reliability = Literal["holds", "fails", "untested"]
Kind = Literal["concept", "acoustic", "both"]
LabelEvidence = Literal["audio", "captions", "both", "measured"]
TuningShape = Literal["peak", "rising", "falling", "valley"]

Spans = Sequence[tuple[float, float]]
"""(start, end) of each of several moments, in seconds from the beginning of the sound."""
StepSeconds = Callable[[float, int], npt.NDArray[np.float64]]
"""(duration of a clip in seconds, steps on a layer's time axis) -> time of each step, see `Target.step_seconds`."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One piece of audio of a probe set.

    Attributes:
        id: 16 hex digits from relative path, file content and start: the same on every machine.
        root: Absolute folder that `path` starts from.
        path: Audio file, POSIX style, relative to `root`, written as by `files.plain_name`.
        start: Start of the clip in the file, seconds.
        duration: Length in seconds.
        label: Class name, or None; several are joined by `;`, see `labels`.
        captions: Sentences that each describe the whole sound; empty without any.
        fold: Name of the fold that the file belongs to, or None.
        sha256: Hash of the whole file, hex.
    """

    id: str
    root: str
    path: str
    start: float
    duration: float
    label: str | None = None
    captions: tuple[str, ...] = ()
    fold: str | None = None
    sha256: str = ""

    @property
    def file(self) -> str:
        """Absolute path of the audio file, POSIX style."""
        return f"{self.root}/{self.path}"

    @property
    def caption(self) -> str | None:
        """The first caption, or None."""
        return self.captions[0] if self.captions else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names that the label holds, each once."""
        names = (name.strip() for name in (self.label or "").split(";"))
        return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a window of a file, that could not be used, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """The clips that a network hears, and the files that could not be used.

    Attributes:
        clips: The clips, in a fixed order.
        skipped: Files that look like sound but are missing from the clips, in whole or in part, with the reason.
        columns: The columns among label, caption and fold that a table has, even if all their cells are empty.
        notes: Further remarks on the source, in sentences.
    """

    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...] = ()
    columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class Embedder(Protocol):
    """Maps audio and text into one vector space.

    It may have an attribute `shared_networks`, a tuple of names of targets whose weights it uses to hear: its labels
    agree with such a network more than those of an independent embedder would, and the report says so. It may have an
    attribute `templates`, a tuple of sentences with one `{}`, such as "This is a sound of {}.": concepts are put into
    them before they are embedded, and the mean of several counts.

    It may have a method `embed_with_moments(waveforms, spans)`, where `spans` gives for every waveform the (start, end)
    in seconds of several moments, the same for waveforms of the same length. It returns what `embed_audio` returns, and
    a list with, for every waveform, float32 [moments, dim], rows of unit length. Without this method, moments are
    embedded one by one, and only if the user asks for them.

    Attributes:
        name: The name by which the user loaded it.
        dim: Number of dimensions of a vector.
        sample_rate: Sample rate in Hz of the waveforms that `embed_audio` takes.
        fingerprint: Hash of weights and settings; only vectors with equal fingerprints are comparable.
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
        sample_rate: Sample rate in Hz of the waveforms that `preprocess` takes.
        preprocess: List of equally long 1-D float32 waveforms -> the input of `module`:
            a tensor (batch first), or a dict of keyword arguments.
        class_names: Names of the output classes, or None.
        logits: Output of `module` -> [n, classes], or None if there are no classes.
        pooling: Layer glob -> how the layer's activations over time become one number; the first match wins.
            Layers that no glob matches are pooled by their type.
        time_axis: Layer glob -> axis of the layer's output that runs over time, or None if no axis does. Needed
            only if the axis cannot be found by playing a longer sound to the network.
        unit_axis: Layer glob -> axis of the layer's output that the units lie on. Needed only if neither
            the module's type nor its neighbours determine it.
        step_seconds: Layer glob -> function that returns the times of the steps on the layer's time axis, for
            networks that pad their input or mix special tokens with time: the centre of every step in seconds from
            the clip's start, float64 [steps], NaN for padding and special tokens, which then count in no mean, no
            maximum and no peak. Without such a function, the steps divide the clip evenly.
        aliases: Short name -> layer; globs match either.
        layers: Globs of the layers to record if the user names none; empty means all layers with weights.
        name: The name by which the user loaded it.
        stored_as: Type in which its checkpoint stores the weights, if the network runs in another; exports keep it.
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

    @property
    def device(self) -> torch.device:
        """Where the network is: where its first weight is, or the CPU if it has none."""
        import torch  # not with the module: a search needs these types, but no network

        first = next(chain(self.module.parameters(), self.module.buffers()), None)
        return torch.device("cpu") if first is None else first.device


@dataclass(frozen=True, slots=True)
class AttachedDictionary:
    """A target's learned dictionary, as stored in the manifest of a recording; see `network.dictionary`.

    Attributes:
        layer: Dotted name of the layer that the dictionary reads.
        path: Absolute path of the dictionary's file, or None if it was made in Python.
        sha256: Hash of the file.
        unit_axis, time_axis: Axes of the layer's output.
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
        rows: int32 [units, k], row of the clip in the clip index; -1 beyond the last clip if fewer than k were seen.
        values: float32 [units, k], the activation; NaN where `rows` is -1.
        peaks: float32 [units, k], seconds from the clip's start at which the unit was strongest.
    """

    rows: Ints
    values: Floats
    peaks: Floats


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """Statistics of every unit over all seen clips, that is, those not held out.

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
    """What a layer responded to: the top-k and bottom-k clips of every unit, and its statistics."""

    name: str
    pooling: Pooling
    top: Kept
    low: Kept
    statistics: UnitStatistics

    @property
    def units(self) -> int:
        """Number of units of the layer."""
        return int(self.top.rows.shape[0])

    @property
    def fired(self) -> npt.NDArray[np.bool_]:
        """bool [units, k], whether a top clip is stronger than the unit's weakest clip; otherwise it shows nothing."""
        return np.asarray(self.top.values > self.low.values[:, :1])


@dataclass(frozen=True, slots=True)
class Label:
    """A concept with its score for a unit; only scores of the same run and kind can be compared.

    Attributes:
        concept: A short text.
        score: Higher is better; of a measured concept, the size of the rank correlation of quality and activation.
        evidence: Source that puts the concept among the unit's best: the clips' sound as the embedder hears it, their
            captions, or both (each alone, or only the two together); `measured` if the concept is a measured quality,
            see `explanation.measured_concepts`.
    """

    concept: str
    score: float
    evidence: LabelEvidence = "audio"


@dataclass(frozen=True, slots=True)
class Shown:
    """A clip among the evidence of a unit.

    Attributes:
        row: Row of the clip in the clip index, which holds its path, start and caption.
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
        text: The sentence, or None if abstained.
        abstained: True if no usable sentence was made.
        reason: Why there is no sentence, or None.
        raw: The model's unedited answers that could not be used, one per line, or None.
        origin: `written` if the model's first answer was used, `repaired` if its second answer was, and `composed`
            if neither was usable and the text was put together from words of the evidence; None if abstained.
    """

    text: str | None
    abstained: bool
    reason: str | None = None
    raw: str | None = None
    origin: Literal["written", "repaired", "composed"] | None = None


NOT_ASKED = Summary(None, True, "no sentence was asked for")


@dataclass(frozen=True, slots=True)
class UnitFaithfulness:
    """How well a unit's first label predicts its activations on clips that the label was not made from.

    See `explanation.faithfulness`.

    Attributes:
        clips: Number of held-out clips in the test.
        correlation: Pearson correlation of the label's similarity to the clips with the exponential scores of the
            activations, that is, ranks that weigh the strongest responses most; -1..1.
        random_correlation: Mean correlation of a random label of the bank.
        best_correlation: Expected correlation of the best of ten random labels.
        auprc: Average precision with which the label finds the fifth of the clips with the strongest activations, 0..1.
        base_rate: Share of these clips, which is the precision of a random order.
        q_value: False discovery rate of the permutation test over the layer's units, 0..1; up to 0.01 an upper bound.
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


@dataclass(frozen=True, slots=True)
class OverTime:
    """Whether a unit's first label is there when the unit fires, see `explanation.over_time`.

    Attributes:
        clips: Number of held-out clips in which the unit fires and the concept changes over time.
        score: 1 if the concept is nearest at every peak of the unit, 0 by chance, below 0 if it is nearer at other
            times of the same clips.
        q_value: False discovery rate of the two-sided permutation test over the layer's units, 0..1.
        follows: Whether the concept is nearer when the unit fires than at other times (True) or farther (False); None
            if neither could be shown.
    """

    clips: int
    score: float
    q_value: float
    follows: bool | None


def reliability(test: UnitFaithfulness | None) -> Reliability:
    """Result of a test: the label `holds` or `fails` on clips it was not made from; without a test it is `untested`."""
    if test is None:
        return "untested"
    return "holds" if test.reliable else "fails"


@dataclass(frozen=True, slots=True)
class Meaning:
    """One of several things that a unit responds to: a group of its top clips that lie together in embedding space.

    Attributes:
        labels: Concepts of this group, best first.
        clips: Places in `Explanation.top` of the group's clips, strongest first.
        summary: One sentence about this group, or the reason why there is none.
        faithfulness: Test of the group's first label on the part of the unit's activation that its other meanings do
            not explain; None if it could not be tested.
    """

    labels: tuple[Label, ...]
    clips: tuple[int, ...]
    summary: Summary = NOT_ASKED
    faithfulness: UnitFaithfulness | None = None

    @property
    def reliable(self) -> Reliability:
        """Whether the first label of the group passed its test."""
        return reliability(self.faithfulness)


@dataclass(frozen=True, slots=True)
class Preference:
    """A measured quality that a unit's activation follows, see `explanation.acoustics`.

    Attributes:
        quality: A name of `clips.qualities.QUALITIES`.
        rho: Spearman's rank correlation of the activation and the quality, -1..1.
    """

    quality: str
    rho: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The shape of a unit's mean response over a measured quality, see `explanation.tuning`.

    Attributes:
        quality: pitch, brightness, level or modulation_rate; its values are in Hz or dB.
        shape: `peak` if a middle value beats both ends, `valley` if it loses to both, else `rising` or `falling`.
        best: Value with the strongest response (for a valley, the weakest); for rising and falling, the mean of the bin
            at the strong end.
        low, high: Range at half height of the peak or valley; for rising and falling, the range in which the mean
            response is in its upper half.
        effect: Share of the unit's variance that the quality explains beyond chance, 0..1.
        q_value: False discovery rate over the layer's units and qualities, 0..1.
        centres: Mean quality of the clips in each bin.
        means: Mean activation of the clips in each bin.
        margins: Half-width of the 95 % interval of each mean.
    """

    quality: str
    shape: TuningShape
    best: float
    low: float
    high: float
    effect: float
    q_value: float
    centres: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that the project says about one unit. A new field is stored and exported without further code.

    Attributes:
        layer, unit: Name of the layer, and number of the unit in it.
        top, low: The clips that the unit responded to most and least, strongest and weakest first.
        labels: Concepts, best first; empty if the unit never responded. Measured concepts come first where `kind` is
            `acoustic`, and the strongest of them comes second where it is `both`.
        faithfulness: Test of the first label on held-out clips, by the source that labels were made from (sound
            by default), or by the measured quality. None if there is no label, or too few clips to test it on.
        reliable: Whether the first label passed this test, and is not nearer at other times than those at which the
            unit fires.
        kind: What explains the unit best, see `explanation.kinds`: a concept (`concept`), qualities of the sound
            (`acoustic`), or each as well as the other (`both`); None if nothing does, or it was not tested.
        over_time: Test of whether the first label's concept is there when the unit fires, within held-out clips. None
            if the layer has no time axis, the index no moments, the label is measured, or too few clips change over
            time.
        caption_faithfulness: Test of the same label by the captions of the held-out clips: a second opinion if the
            label came from sound. None if the clips have no captions, or the label is measured.
        acoustics: Measured qualities that the unit's activation follows, in words, or None.
        preferences: The same qualities with their rank correlations, strongest first; of several that say much the
            same, the strongest.
        tuning: Measured qualities that the unit's mean response depends on, strongest first.
        profile: Partial correlation of the activation with the level of every mel band of `clips.bands`, the other
            bands held constant, -1..1; empty if it cannot be measured.
        meanings: If the top clips fall into distinct groups, two or more groups, that of the strongest clip first;
            otherwise empty.
        polysemanticity: How far apart the top clips lie: 0 if identical, 1 if as far as random clips, see
            `explanation.groups.Groups`; None if there are too few.
        summary: One sentence, or the reason why there is none.
        open_concepts: Words of the captions and the summary that describe the unit, most frequent first.
    """

    layer: str
    unit: int
    top: tuple[Shown, ...] = ()
    low: tuple[Shown, ...] = ()
    labels: tuple[Label, ...] = ()
    faithfulness: UnitFaithfulness | None = None
    reliable: Reliability = "untested"
    kind: Kind | None = None
    over_time: OverTime | None = None
    caption_faithfulness: UnitFaithfulness | None = None
    acoustics: str | None = None
    preferences: tuple[Preference, ...] = ()
    tuning: tuple[Tuning, ...] = ()
    profile: tuple[float, ...] = ()
    meanings: tuple[Meaning, ...] = ()
    polysemanticity: float | None = None
    summary: Summary = NOT_ASKED
    open_concepts: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """What a notebook shows; `Run.unit` adds the clips."""
        labels = ", ".join(f"{label.concept} ({label.score:.2f})" for label in self.labels[:3]) or "no label"
        lines = [labels, f"label {self.reliable}{f', explained by: {self.kind}' if self.kind else ''}"]
        lines.append(self.summary.text or self.summary.reason or "")
        return f"<p><b>{html.escape(self.layer)}:{self.unit}</b> {'<br>'.join(map(html.escape, lines))}</p>"


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that a model goes on with.

    Attributes:
        turns: (role, text), the roles being system, user and assistant.
        answer: How the model's next turn begins.
    """

    turns: tuple[tuple[str, str], ...]
    answer: str


class LanguageModel(Protocol):
    """A local text model that always gives the same answers to the same prompts."""

    @property
    def name(self) -> str: ...

    @property
    def chats(self) -> bool:
        """Whether it was trained on conversations, so that prompts may and should be a `Chat`."""
        ...

    def complete(self, prompts: Sequence[str | Chat], max_tokens: int, stop: Sequence[str]) -> list[str]:
        """Prompts -> continuations, greedy, cut before the first `stop` string."""
        ...
