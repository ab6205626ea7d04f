"""Labels: what the clips are said to be, by sound or by caption, and which concepts the units of a layer get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..choices import EVIDENCE, known_name
from ..clips.index import ClipIndex
from ..concepts import OWN_LABELS, ConceptBank, load_bank, merge_banks
from ..config import LabelConfig
from ..errors import InputError
from ..language.rank import CANDIDATES, ScoringModel, rank_labels
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..types import Evidence, Floats, Label, LayerEvidence
from .scores import find_scorer, label_units

DESCRIBED_BY = 3  # concepts that stand for the caption of a clip that has none


@dataclass(frozen=True)
class DescribedClips:
    """Every clip in words, and how near each is to every concept of a bank.

    Attributes:
        captions: One phrase a clip: its caption, else the concepts nearest to its sound.
        audio: float32 [clips, concepts], cosine of the clip's sound and the concept (text-audio based in the paper).
        text: float32 [clips, concepts], cosine of the clip's phrase and the concept (description based).
    """

    captions: tuple[str, ...]
    audio: Floats
    text: Floats

    def similarity(self, evidence: str) -> Floats:
        """The nearness that labels are made from: `audio`, `captions`, or the mean of `both` on audio's scale.

        Raises:
            InputError: Another name.
        """
        known_name("evidence", evidence, EVIDENCE)
        if evidence == "both":
            mean: Floats = (self.audio + self.text * (self.audio.std() / self.text.std())) / 2
            return mean
        return self.audio if evidence == "audio" else self.text


def describe_clips(index: ClipIndex, bank: ConceptBank) -> DescribedClips:
    """Put every clip of an index into words, and hold sound and words against the concepts of a bank."""
    concepts = index.text_vectors(bank.concepts)
    audio = index.vectors() @ concepts.T
    nearest = np.argsort(-audio, axis=1, kind="stable")[:, :DESCRIBED_BY]
    captions = tuple(
        clip.caption or ", ".join(bank.concepts[concept] for concept in nearest[row])
        for row, clip in enumerate(index.clips)
    )
    distinct, place = np.unique(captions, return_inverse=True)
    text = index.text_vectors(distinct.tolist()) @ concepts.T
    return DescribedClips(captions, audio, text[place])


def layer_labels(
    recording: Recording, layer: LayerEvidence, clips: DescribedClips, bank: ConceptBank, config: LabelConfig
) -> list[tuple[Label, ...]]:
    """The labels of every unit of a layer, best first, by the evidence and the score that `config` names."""
    seen = None if find_scorer(config.score).from_top else recording.seen_activations(layer.name)

    def label(similarity: Floats) -> list[tuple[Label, ...]]:
        read = None if seen is None else (similarity[seen[0]], seen[1])
        return label_units(similarity, layer, bank.concepts, config, read)

    return from_evidence(clips, config.evidence, label)


def ranked_labels(
    recording: Recording,
    layer: LayerEvidence,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
    model: ScoringModel | None,
    shown: int,
    progress: Progress = silent,
) -> list[tuple[Label, ...]]:
    """As `layer_labels`, in the order that `config.rank` asks for.

    A language model is shown the descriptions of the `shown` strongest clips of a unit, and ranks more labels than are
    kept.
    """
    if config.rank == "score" or model is None:
        return layer_labels(recording, layer, clips, bank, config)
    wide = replace(config, count=max(config.count, CANDIDATES))
    labels = layer_labels(recording, layer, clips, bank, wide)
    described = [[clips.captions[row] for row in rows[:shown] if row >= 0] for rows in layer.top.rows]
    ranked = rank_labels(labels, described, model, config.rank, progress)
    return [unit[: config.count] for unit in ranked]


def from_evidence(
    clips: DescribedClips, evidence: str, label: Callable[[Floats], list[tuple[Label, ...]]]
) -> list[tuple[Label, ...]]:
    """What `label` makes of the clips' similarity to the concepts, with the source that each label comes from.

    With evidence `both`, units are labelled by sound alone and by captions alone as well, to see which of the two
    has the concept among its best, too. Where neither has, it is the two together.

    Args:
        clips: How near every clip is to every concept.
        evidence: One of `choices.EVIDENCE`.
        label: Similarity, float32 [clips, concepts] -> labels per unit.

    Raises:
        InputError: Another evidence.
    """
    labels = label(clips.similarity(evidence))
    if evidence != "both":
        source: Evidence = "captions" if evidence == "captions" else "audio"
        return [tuple(replace(one, evidence=source) for one in unit) for unit in labels]
    alone = (
        [{one.concept for one in unit} for unit in label(similar)] for similar in (clips.audio, clips.text)
    )
    return [
        tuple(replace(one, evidence=_source(one.concept in audio, one.concept in text)) for one in unit)
        for unit, audio, text in zip(labels, *alone, strict=True)
    ]


def _source(by_audio: bool, by_captions: bool) -> Evidence:
    if by_audio == by_captions:
        return "both"
    return "audio" if by_audio else "captions"


def choose_bank(index: ClipIndex, banks: Sequence[str | ConceptBank]) -> ConceptBank:
    """One bank of all that are named; `labels` stands for the labels of the index's own clips.

    Raises:
        InputError: A bank does not exist, or the clips carry no labels.
    """

    def load(bank: str | ConceptBank) -> ConceptBank:
        if isinstance(bank, ConceptBank):
            return bank
        if bank != OWN_LABELS:
            return load_bank(bank)
        labels = sorted({clip.label.replace("_", " ") for clip in index.clips if clip.label})
        if not labels:
            raise InputError(f"index {index.name!r} carries no labels; name a concept bank instead")
        return ConceptBank(OWN_LABELS, tuple(labels))

    return merge_banks([load(bank) for bank in banks])
