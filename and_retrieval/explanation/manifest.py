"""The manifest of explanations."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import LabelConfig, MomentConfig, SummaryConfig
from ..store import Folder

KIND = "explanation"
FILE = "explanation.json"


@dataclass(frozen=True, slots=True)
class LayerAcoustics:
    """How much of the units of a layer the measured qualities account for, on clips not fitted to.

    Attributes:
        r2: Median over units, at most 1.
        shuffled: The same with the clips' qualities in random order.
    """

    r2: float
    shuffled: float


@dataclass(frozen=True, slots=True)
class OpenConceptSettings:
    """How open concepts were found.

    Attributes:
        most: Words per unit.
        ask_adjectives: Whether the language model was asked about adjectives that are not listed.
        tagger: The wheel of the tagger.
    """

    most: int
    ask_adjectives: bool
    tagger: str


@dataclass(frozen=True, slots=True)
class ExplanationManifest:
    """How explanations were made.

    Attributes:
        recorded: `Recording.identity` of the recording that they explain.
        bank: Name of the concept bank.
        concepts: Of that bank.
        labelling, summaries: Settings.
        acoustics: Per layer; layers with too few clips are missing.
        random_polysemanticity: Polysemanticity of clips drawn at random.
        open_concepts: None where none were looked for.
        unknown_concepts: Concepts of the bank that the embedder does not know; they were left out.
        moments: Length and hop of the moments that labels come from, or None where they come from whole clips.
    """

    recorded: str
    bank: str
    concepts: tuple[str, ...]
    labelling: LabelConfig
    summaries: SummaryConfig
    acoustics: dict[str, LayerAcoustics]
    random_polysemanticity: float
    open_concepts: OpenConceptSettings | None
    unknown_concepts: tuple[str, ...] = ()
    moments: MomentConfig | None = None


@dataclass(frozen=True, slots=True)
class ExplainPlan:
    """Everything that decides explanations, known before the first unit is explained.

    Attributes:
        manifest: Of the explanations to be, without what only explaining tells.
        texts: Hash of what is said of the clips.
        model: Hash of the language model's file, or empty where none is asked.
        sizes: Number of units of every layer, which is a shard.
        made_by: See `shards.plan.made_by`.
    """

    manifest: ExplanationManifest
    texts: str
    model: str
    sizes: tuple[int, ...]
    made_by: str

    @property
    def decides(self) -> ExplainPlan:
        """See `shards.plan.Plan`: all of it."""
        return self

    @property
    def contents(self) -> tuple[int, ...]:
        """See `shards.plan.Plan`: a layer, which its place tells."""
        return self.sizes

    @property
    def shared(self) -> tuple[()]:
        """See `shards.plan.Plan`: nothing besides what decides."""
        return ()


def explanation_folder(recording: Folder) -> Folder:
    """Where the explanations of a recording lie: in its folder, under a manifest of their own."""
    return Folder(recording.path, KIND, FILE)
