"""Explain: label every unit of a recording, test the labels, write sentences, and store it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..checkpoints.devices import resolve_device
from ..clips.index import ClipIndex
from ..concepts import DEFAULT_BANK, ConceptBank, load_bank
from ..config import LabelConfig, OpenConceptConfig, SummaryConfig, fingerprint
from ..errors import InputError
from ..files import check_writable
from ..language.answers import KeptAnswers
from ..language.rank import check_rank
from ..progress import Announce, Tally, no_progress, silent
from ..recording.recording import Recording
from ..shards.folder import Receipt, ShardCount, Shards
from ..shards.lock import locked
from ..shards.plan import made_by
from ..shards.workers import work
from ..store import Folder, Stored
from ..types import Explanation, Kept, LayerEvidence, Shown
from .acoustics import in_words
from .labels import (
    DescribedClips,
    check_evidence,
    choose_bank,
    describe_clips,
    known_concepts,
    plain_captions,
    ranked_labels,
)
from .manifest import ExplainPlan, ExplanationManifest, LayerAcoustics
from .meanings import MeaningFinder, meaning_finder
from .open_concepts import OpenConceptFinder, open_concept_finder
from .profiles import measured_profiles
from .shard import FOLDER, read_layer, store_layer
from .space import text_directions
from .stored import Explained, ExplanationWriter
from .strongest_clips import measured_acoustics
from .summaries import load_language_model, with_summaries
from .tuned_concepts import measured_tunings
from .verdicts import with_verdicts


def explain(
    recording: Recording,
    banks: Sequence[str | ConceptBank] = (DEFAULT_BANK,),
    labelling: LabelConfig | None = None,
    summaries: SummaryConfig | None = None,
    announce: Announce = no_progress,
    opened: OpenConceptConfig | None = None,
    workers: int | str = 1,
) -> Explained:
    """Label every unit, test the label on held-out clips, write a sentence, and store all of it.

    A unit whose label does not predict it on clips the label was not made from gets no sentence. Work goes layer by
    layer; what is held in memory is one layer. If it was stopped, the same call goes on with the layers, and with the
    batches of sentences, that are missing.

    Args:
        recording: What was recorded.
        banks: Names, files, or banks; `labels` means the labels of the index's own clips.
        labelling: Score, k, number and order of labels.
        summaries: Language model and how it is asked.
        announce: Makes the progress bars, see `Announce`.
        opened: Which open concepts are kept.
        workers: Number of processes, `ray`, or `ray:ADDRESS`, see `shards.workers.work`; several load the embedder by
            its name, and take layers as they become free.

    Raises:
        InputError: An unknown bank, score or model, a bank of which the embedder knows no concept, captions as
            evidence where no clip has one, or an embedder that other processes cannot load.
        StaleError: The index was made with other embedder weights.
    """
    check_writable(recording.folder.path)
    index = recording.index
    job = ExplainJob(
        index.folder.path,
        recording.folder,
        index.embedder_spec,
        str(resolve_device(index.device)),
        tuple(banks),
        labelling or LabelConfig(),
        summaries or SummaryConfig(),
        opened or OpenConceptConfig(),
    )
    with locked(recording.folder.path, "explain"):
        explainer, shards = job.prepared(recording, announce)
        try:
            shards.begin()
            finished = shards.finished()
            missing = shards.missing(finished)
            several = workers != 1 and len(missing) > 1
            tally = Tally(announce("explaining", "layers") if several else silent, len(missing))
            work(job, missing, workers, lambda _: tally.add(1), partial(_store, shards, explainer))
            explained = _merged(recording, shards, shards.finished(known=finished), explainer.clips.captions)
            shards.remove()
        finally:
            shards.tidy()
        return replace(explained, shards=ShardCount(len(shards.plan.sizes), len(finished)))


@dataclass(frozen=True)
class ExplainJob:
    """What is to be explained and how, also for other processes, which load the embedder by its name.

    Attributes:
        index: Folder of the index.
        run: Folder of the recording.
        embedder: See `ClipIndex.embedder_spec`.
        device: Where the embedder runs.
        banks, labelling, summaries, opened: See `explain`.
    """

    index: Path
    run: Folder
    embedder: str | None
    device: str
    banks: tuple[str | ConceptBank, ...]
    labelling: LabelConfig
    summaries: SummaryConfig
    opened: OpenConceptConfig

    def prepared(self, recording: Recording, announce: Announce) -> tuple[_Explainer, Shards[ExplainPlan]]:
        """What explains the layers, and the plan."""
        labelling, index = self.labelling, recording.index
        bank, unknown = known_concepts(index, choose_bank(index, self.banks))
        captions = plain_captions(index)
        check_evidence(labelling.evidence, index, captions)
        model = load_language_model(self.summaries)
        check_rank(labelling.rank, model)
        finder = open_concept_finder(self.opened, model)
        clips = _described(recording, bank, captions, unknown)
        meanings = meaning_finder(recording, clips, bank, labelling)
        manifest = ExplanationManifest(
            recorded=recording.identity,
            bank=bank.name,
            concepts=bank.concepts,
            unknown_concepts=unknown,
            moments=index.moment_config,
            labelling=labelling,
            summaries=self.summaries,
            acoustics={},
            random_polysemanticity=meanings.random_polysemanticity,
            open_concepts=finder.settings,
        )
        explainer = _Explainer(
            recording, clips, bank, labelling, self.summaries, model, meanings, finder, announce
        )
        return explainer, _planned(recording, manifest, clips, model)

    def start(self) -> Callable[[int], None]:
        """Load index and recording; returns the function that explains a layer.

        Raises:
            InputError: The embedder cannot be loaded by its name, or what is found here is another than was planned.
        """
        index = ClipIndex.open(self.index, self.embedder, self.device)
        explainer, shards = self.prepared(Recording.open(self.run, index), no_progress)
        if shards.keys != Shards.open(shards.path, ExplainPlan).keys:
            raise InputError(
                f"{self.run.path}: a worker sees other clips or another model than the process that planned the work; "
                "use --workers 1"
            )
        return partial(_store, shards, explainer)


def _store(shards: Shards[ExplainPlan], explainer: _Explainer, number: int) -> None:
    store_layer(shards, number, partial(explainer.explain, explainer.recording.layers[number]))


def _planned(
    recording: Recording, manifest: ExplanationManifest, clips: DescribedClips, model: KeptAnswers | None
) -> Shards[ExplainPlan]:
    """The plan of explanations, by layers."""
    described = [(clip.label, clip.captions, clip.fold, clip.sha256) for clip in recording.index.clips]
    texts = fingerprint(described, clips.captions, clips.texts, recording.index.concept_key)
    sizes = tuple(layer.units for layer in recording.manifest.layers)
    plan = ExplainPlan(manifest, texts, model.weights if model else "", sizes, made_by())
    return Shards(recording.folder.path / FOLDER, plan)


def _merged(
    recording: Recording,
    shards: Shards[ExplainPlan],
    finished: Mapping[int, Stored[Receipt]],
    captions: Sequence[str],
) -> Explained:
    """Commit the explanations of all layers; one layer at a time is held in memory."""
    acoustics: dict[str, LayerAcoustics] = {}
    with ExplanationWriter(recording) as writer:
        for number, layer in enumerate(recording.manifest.layers):
            units, measured = read_layer(shards.file(finished[number]))
            writer.add_table(units)
            if measured is not None:
                acoustics[layer.name] = measured
        return writer.commit(captions, replace(shards.plan.manifest, acoustics=acoustics))


def _described(
    recording: Recording, bank: ConceptBank, captions: Sequence[tuple[str, ...]], unknown: Sequence[str]
) -> DescribedClips:
    """The clips in words; where concepts are unknown, labels have to beat those of the default bank as well."""
    clips = describe_clips(recording.index, bank, captions)
    if not unknown:
        return clips
    rivals = describe_clips(recording.index, load_bank(DEFAULT_BANK), captions)
    return replace(clips, rivals=rivals, bank=len(bank.concepts) + len(unknown))


@dataclass(frozen=True)
class _Explainer:
    """What the units of every layer are explained with."""

    recording: Recording
    clips: DescribedClips
    bank: ConceptBank
    labelling: LabelConfig
    summaries: SummaryConfig
    model: KeptAnswers | None
    meanings: MeaningFinder
    finder: OpenConceptFinder
    announce: Announce

    def explain(self, layer: LayerEvidence) -> tuple[list[Explanation], LayerAcoustics | None]:
        """One record per unit of a layer, each stage adding its fields, and the acoustics of the whole layer."""
        preferences, acoustics = measured_acoustics(self.recording, layer.name)
        tuned = measured_tunings(self.recording, layer.name, list(map(in_words, preferences)))
        units = _with(
            self._labelled(layer),
            acoustics=tuned.words,
            preferences=preferences,
            tuning=tuned.tunings,
            profile=measured_profiles(self.recording, layer.name),
        )
        units = with_verdicts(
            units, self.recording, layer, self.clips, self.bank, self.labelling, tuned.foremost
        )
        meanings, spread = self.meanings.find(layer)
        units = _with(units, meanings=meanings, polysemanticity=spread)
        progress = self.announce(f"writing {layer.name}", "sentences")
        directions = partial(text_directions, self.recording.index)
        units = with_summaries(units, self.clips.captions, self.model, self.summaries, directions, progress)
        return _with(units, open_concepts=self.finder.find(units, self.clips.texts)), acoustics

    def _labelled(self, layer: LayerEvidence) -> list[Explanation]:
        units = [
            Explanation(layer.name, unit, _shown(layer.top, unit), _shown(layer.low, unit))
            for unit in range(layer.units)
        ]
        asks = self.labelling.rank != "score"
        progress = self.announce(f"ranking {layer.name}", "units") if asks else silent
        labels = ranked_labels(
            self.recording,
            layer,
            self.clips,
            self.bank,
            self.labelling,
            self.model,
            self.summaries.clips,
            progress,
        )
        return _with(units, labels=labels)


def _with(units: Sequence[Explanation], **columns: Sequence[Any]) -> list[Explanation]:
    """The units with some of their fields filled, each from a column with one value per unit."""
    rows = zip(*columns.values(), strict=True)
    return [
        replace(unit, **dict(zip(columns, row, strict=True))) for unit, row in zip(units, rows, strict=True)
    ]


def _shown(kept: Kept, unit: int) -> tuple[Shown, ...]:
    clips = zip(kept.rows[unit].tolist(), kept.peaks[unit].tolist(), kept.values[unit].tolist(), strict=True)
    return tuple(Shown(row, round(peak, 3), activation) for row, peak, activation in clips if row >= 0)
