"""Labels: what the clips are said to be, by sound or by caption, and which concepts the units of a layer get."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..choices import EVIDENCE, known_name
from ..clips.index import ClipIndex
from ..concepts import OWN_LABELS, ConceptBank, load_bank, merge_banks
from ..config import LabelConfig
from ..errors import InputError
from ..faiss_index import Rows
from ..language.rank import CANDIDATES, ScoringModel, rank_labels
from ..language.templates import without_templates
from ..numerics import Array, centred, chunks
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..types import Evidence, Floats, Label, LayerEvidence
from ..vocabulary import known_words
from .label_tests import Against
from .moments import Located, NearMoments, at_places, fired_moments, near_moments, random_moments
from .scores import effective_clips, find_scorer, label_units, spread
from .space import (
    CHUNK_BYTES,
    clip_directions,
    clip_similarity,
    concept_directions,
    filled,
    text_centre,
    text_directions,
)

_log = logging.getLogger(__name__)

DESCRIBED_BY = 3  # concepts that stand for the caption of a clip that has none
NAMES = 0.85
"""Area under the ROC curve from which words that many captions share name a sound: so well do they tell the clips that
have them from the others by sound alone. Else they are a template, see `language.templates`."""
SHOWN_UNKNOWN = 5  # concepts named in a message


@dataclass(frozen=True)
class DescribedClips:
    """Every clip in words, and how near each is to every concept of a bank.

    Of many clips and concepts the similarities take more room than all else, so they are mapped from disk.

    Attributes:
        captions: One phrase a clip: its caption without templates (of several the one that is nearest to all of
            them), else the concepts nearest to its sound.
        texts: All that is said of a clip: its captions without templates, else the same concepts.
        audio: float32 [clips, concepts], how near the clip's sound is to the concept (text-audio based in the paper),
            each without what all clips or all texts share, see `space.clip_similarity`.
        text: float32 [clips, concepts], cosine of the clip's captions (their mean) or else of its phrase and the
            concept (description based), likewise.
        captioned: bool [clips], whether the phrase is the clip's own caption.
        moments: How near their moments are to the concepts, or None where the index holds none.
        rivals: The same clips and other concepts, which labels have to beat as well, or None.
        bank: Number of concepts that the bank had before unknown ones were left out; None where none were.
        folder: On whose disk the similarities are; None for memory.
    """

    captions: tuple[str, ...]
    texts: tuple[str, ...]
    audio: Floats
    text: Floats
    captioned: npt.NDArray[np.bool_]
    moments: NearMoments | None = None
    rivals: DescribedClips | None = None
    bank: int | None = None
    folder: Path | None = None
    _usual: dict[str, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    def against(self, evidence: str) -> Against:
        """What the test of labels from that evidence holds them against besides the bank's own concepts."""
        rivals = None if self.rivals is None else self.rivals.similarity(evidence)
        return Against(rivals, self.bank)

    def similarity(self, evidence: str) -> Floats:
        """The nearness that labels are made from: `audio`, `captions`, or the mean of `both` on audio's scale.

        Raises:
            InputError: Another name.
        """
        known_name("evidence", evidence, EVIDENCE)
        if evidence == "both":
            return self._both
        return self.audio if evidence == "audio" else self.text

    def located(self, layer: LayerEvidence, evidence: str) -> Located:
        """What the labels of a layer are made from: the moments at which its units were strongest, or whole clips.

        Raises:
            InputError: Another name.
        """
        fired = None if self.moments is None else fired_moments(layer, self.moments.moments)
        if self.moments is None or fired is None:
            similarity = self.similarity(evidence)
            return Located(layer, similarity, similarity)
        if evidence not in self._usual:
            random = random_moments(self.moments.moments)
            self._usual[evidence] = self._of_moments(self.moments, random, evidence)
        near = self._of_moments(self.moments, fired[0], evidence)
        return Located(at_places(layer, fired[1]), near, self._usual[evidence])

    def _of_moments(self, near: NearMoments, moments: Rows, evidence: str) -> Floats:
        """As `similarity`, of moments: how near each is by its sound, by the captions of its clip, or by both."""
        known_name("evidence", evidence, EVIDENCE)

        def similarity(part: slice) -> Floats:
            captions = self.text[near.moments.clips[moments[part]]] if evidence != "audio" else None
            if evidence == "captions" and captions is not None:
                return captions
            audio = near.similarity(moments[part])
            return audio if captions is None else self._mean(audio, captions)

        return self._filled(len(moments), similarity)

    @cached_property
    def _both(self) -> Floats:
        return self._filled(len(self.audio), lambda part: self._mean(self.audio[part], self.text[part]))

    def _mean(self, audio: Floats, text: Floats) -> Floats:
        """The mean of both similarities, on the scale of those of sound."""
        return np.asarray((audio + text * self._scale) / 2, np.float32)

    @cached_property
    def _scale(self) -> float:
        return spread(self.audio) / spread(self.text)

    def _filled(self, count: int, rows: Callable[[slice], Floats]) -> Floats:
        """An array of `count` rows, one column per concept, written block after block."""
        return filled((count, self.audio.shape[1]), rows, self.folder)


def describe_clips(
    index: ClipIndex,
    bank: ConceptBank,
    captions: Sequence[tuple[str, ...]] | None = None,
    folder: Path | None = None,
) -> DescribedClips:
    """Put every clip of an index into words, and hold sound and words against the concepts of a bank.

    Args:
        index: The clips.
        bank: The concepts.
        captions: Per clip what `plain_captions` gives, where it is at hand.
        folder: On whose disk the similarities are, see `scratch_array`; by default that of the index.

    Raises:
        InputError: The disk has no room for the similarities.
    """
    concepts, folder = concept_directions(index, bank.concepts), folder or index.folder.path
    audio = clip_similarity(index, concepts, folder=folder)
    plain = plain_captions(index) if captions is None else captions
    nearest = np.empty((len(audio), min(DESCRIBED_BY, len(concepts))), np.intp)
    for part in chunks(len(audio), len(concepts), CHUNK_BYTES):
        nearest[part] = np.argsort(-audio[part], axis=1, kind="stable")[:, :DESCRIBED_BY]
    clip_texts = [
        captions or (", ".join(bank.concepts[concept] for concept in nearest[row]),)
        for row, captions in enumerate(plain)
    ]
    distinct, place = np.unique([text for texts in clip_texts for text in texts], return_inverse=True)
    typical, means = _per_clip(
        index.text_vectors(distinct.tolist())[place], [len(texts) for texts in clip_texts]
    )
    centre = text_centre(index)
    return DescribedClips(
        tuple(distinct[place[typical]].tolist()),
        tuple(
            ". ".join(text.rstrip(". ") for text in texts) if len(texts) > 1 else texts[0]
            for texts in clip_texts
        ),
        audio,
        filled(audio.shape, lambda part: centred(means[part], centre) @ concepts.T, folder),
        np.array([bool(captions) for captions in plain], bool),
        near_moments(index, concepts),
        folder=folder,
    )


def _per_clip(vectors: Floats, counts: Sequence[int]) -> tuple[npt.NDArray[np.intp], Floats]:
    """Of texts that belong to clips: the place of each clip's text nearest to their mean, and the mean.

    Args:
        vectors: float32 [texts, dim], the texts of one clip after the other.
        counts: Number of texts of every clip, 1 or more.
    """
    owner, first = np.repeat(np.arange(len(counts)), counts), np.cumsum([0, *counts[:-1]], dtype=np.intp)
    sums: Floats = np.add.reduceat(vectors, first)
    means: Floats = sums / np.array(counts, np.float32)[:, None]
    nearness = np.einsum("td,td->t", vectors, means[owner])
    return np.lexsort((-nearness, owner))[first], means


def plain_captions(index: ClipIndex) -> list[tuple[str, ...]]:
    """The clips' captions on one line each, without the templates they share; none for a clip that has none left."""
    per_clip = [clip.captions for clip in index.clips]
    owner = np.repeat(np.arange(len(per_clip)), [len(captions) for captions in per_clip])
    clips = clip_directions(index)

    def names_sound(words: str, holds: npt.NDArray[np.bool_]) -> bool:
        if not words or holds.all():
            return False
        near = (clips @ text_directions(index, [words])[0])[owner]
        rank = np.empty(len(near))
        rank[np.argsort(near, kind="stable")] = np.arange(len(near))
        ahead = rank[holds].sum() - holds.sum() * (holds.sum() - 1) / 2
        return bool(ahead / (holds.sum() * (~holds).sum()) >= NAMES)

    plain: list[list[str]] = [[] for _ in per_clip]
    texts = without_templates([caption for captions in per_clip for caption in captions], names_sound)
    for clip, text in zip(owner, texts, strict=True):
        if text:
            plain[clip].append(text)
    return [tuple(dict.fromkeys(captions)) for captions in plain]


def check_evidence(evidence: str, index: ClipIndex, captions: Sequence[tuple[str, ...]]) -> None:
    """Whether the clips carry what labels are to be made from.

    Raises:
        InputError: Another evidence, or captions are asked for and no clip has one that says anything.
    """
    known_name("evidence", evidence, EVIDENCE)
    count = sum(bool(caption) for caption in captions)
    if evidence == "audio" or count == len(captions):
        return
    if count:
        _log.warning(
            "%d of %d clips have no caption; their sound speaks for them",
            len(captions) - count,
            len(captions),
        )
        return
    same = any(clip.caption for clip in index.clips)
    raise InputError(
        f"--evidence {evidence} needs captions, and no clip of index {index.name!r} has one"
        f"{' that says more than all others' if same else ''}; use --evidence audio"
    )


def layer_labels(
    recording: Recording, layer: LayerEvidence, clips: DescribedClips, bank: ConceptBank, config: LabelConfig
) -> list[tuple[Label, ...]]:
    """The labels of every unit of a layer, best first, by the evidence and the score that `config` names."""
    return labels_of(layer, *recording.seen_activations(layer.name), clips, bank, config)


def labels_of(
    layer: LayerEvidence,
    rows: npt.NDArray[np.intp],
    activations: Array,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
) -> list[tuple[Label, ...]]:
    """The labels of every unit, best first, from its evidence and its activations on the clips it was found among.

    Args:
        layer: Top and bottom clips of the units.
        rows: int [n], rows of the index that `activations` belong to.
        activations: float [n, units], NaN where a unit gave no finite number.
        clips: Similarity of every clip of the index to the concepts.
        bank: The concepts.
        config: Evidence, score, k and number of labels.
    """
    from_top = find_scorer(config.score).from_top
    k = effective_clips(activations) if from_top and config.k is None else None

    def label(evidence: str) -> list[tuple[Label, ...]]:
        if from_top:
            return clips.located(layer, evidence).labels(bank.concepts, config, k)
        similarity = clips.similarity(evidence)
        return label_units(similarity, layer, bank.concepts, config, (similarity[rows], activations))

    return from_evidence(config.evidence, label)


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


def from_evidence(evidence: str, label: Callable[[str], list[tuple[Label, ...]]]) -> list[tuple[Label, ...]]:
    """What `label` makes of an evidence, with the source that each label comes from.

    With evidence `both`, units are labelled by sound alone and by captions alone as well, to see which of the two
    has the concept among its best, too. Where neither has, it is the two together.

    Args:
        evidence: One of `choices.EVIDENCE`.
        label: An evidence -> labels per unit.

    Raises:
        InputError: Another evidence.
    """
    labels = label(evidence)
    if evidence != "both":
        source: Evidence = "captions" if evidence == "captions" else "audio"
        return [tuple(_from(one, source) for one in unit) for unit in labels]
    alone = ([{one.concept for one in unit} for unit in label(source)] for source in ("audio", "captions"))
    return [
        tuple(replace(one, evidence=_source(one.concept in audio, one.concept in text)) for one in unit)
        for unit, audio, text in zip(labels, *alone, strict=True)
    ]


def _from(label: Label, source: Evidence) -> Label:
    return label if label.evidence == source else replace(label, evidence=source)


def _source(by_audio: bool, by_captions: bool) -> Evidence:
    if by_audio == by_captions:
        return "both"
    return "audio" if by_audio else "captions"


def known_concepts(index: ClipIndex, bank: ConceptBank) -> tuple[ConceptBank, tuple[str, ...]]:
    """A bank without the concepts that the embedder does not know, and these, see `vocabulary`.

    Raises:
        InputError: It knows none of them.
    """
    words = known_words(index.embedder, index.prompts)
    unknown = words.unknown_of_bank(bank.concepts, index.concept_vectors(bank.concepts))
    left = ConceptBank(bank.name, tuple(concept for concept in bank.concepts if concept not in set(unknown)))
    if not left.concepts:
        shown = ", ".join(unknown[:SHOWN_UNKNOWN])
        raise InputError(
            f"embedder {index.embedder_name!r} knows none of the {len(unknown)} concepts of {bank.name!r} "
            f"({shown}{' ...' if len(unknown) > SHOWN_UNKNOWN else ''}); give words of a language it was trained on"
        )
    return left, unknown


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
        labels = sorted({label.replace("_", " ") for clip in index.clips for label in clip.labels})
        if not labels:
            raise InputError(f"index {index.name!r} carries no labels; name a concept bank instead")
        return ConceptBank(OWN_LABELS, tuple(labels))

    return merge_banks([load(bank) for bank in banks])
