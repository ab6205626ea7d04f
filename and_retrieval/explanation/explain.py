"""Explain: label every unit of a recording, test the labels, write sentences, and store it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from ..clips.index import ClipIndex
from ..concepts import ConceptBank
from ..config import LabelConfig, OpenConceptConfig, SummaryConfig
from ..language.rank import check_rank
from ..progress import Announce, no_progress, silent
from ..recording.recording import Recording, unit_rows
from ..types import Explanation, Kept, Shown
from .acoustics import measured_acoustics
from .label_tests import caption_tests, tested_labels
from .labels import choose_bank, describe_clips, ranked_run
from .meanings import found_meanings
from .open_concepts import open_concept_finder
from .summaries import load_language_model, unit_summaries

DEFAULT_BANK = "audioset"


def explain(
    run: Recording,
    banks: Sequence[str | ConceptBank] = (DEFAULT_BANK,),
    labelling: LabelConfig | None = None,
    summaries: SummaryConfig | None = None,
    announce: Announce = no_progress,
    device: str = "cpu",
    opened: OpenConceptConfig | None = None,
) -> tuple[Explanation, ...]:
    """Label every unit, test the label on held-out clips, write a sentence, and keep all in the run's folder.

    A unit whose label does not predict it on clips the label was not made from gets no sentence.

    Args:
        run: What was recorded.
        banks: Names, files, or banks; `labels` stands for the labels of the index's own clips.
        labelling: Score, k, number and order of labels.
        summaries: Language model and how it is asked.
        announce: See `Announce`.
        device: Where the embedder runs.
        opened: Which open concepts are kept.

    Raises:
        InputError: An unknown bank, score or model.
        StaleError: The index was made with other embedder weights.
    """
    labelling, summaries = labelling or LabelConfig(), summaries or SummaryConfig()
    bank = choose_bank(run.index, banks)
    model = load_language_model(summaries)
    check_rank(labelling.rank, model)
    finder = open_concept_finder(opened or OpenConceptConfig(), model)
    embedder = run.index.embedder(device)
    clips = describe_clips(run.index, embedder, bank)
    similarity = clips.similarity(labelling.evidence)
    ranking = announce("ranking", "units") if labelling.rank != "score" else silent
    labels = ranked_run(run, clips, bank, labelling, model, summaries.clips, ranking)
    tested = tested_labels(run, similarity, bank.concepts, labels)
    by_captions = caption_tests(run, clips.text, bank.concepts, labels)
    sound, sound_by_layer = measured_acoustics(run)
    found = found_meanings(run, clips, bank, labelling)
    shown = [
        (
            _shown(run.index, layer.top, unit, clips.captions),
            _shown(run.index, layer.low, unit, clips.captions),
        )
        for layer, unit in unit_rows(run.layers)
    ]
    progress = announce("writing", "summaries")
    sentences, meanings = unit_summaries(
        run, labels, tested, shown, model, summaries, progress, sound, embedder.embed_text, found.units
    )
    words = finder.find(shown, sentences)
    explanations = tuple(
        Explanation(
            layer.name,
            unit,
            labels[row],
            sentences[row],
            *shown[row],
            faithfulness=tested[row],
            caption_faithfulness=by_captions[row],
            acoustics=sound[row],
            meanings=meanings[row],
            polysemanticity=found.polysemanticity[row],
            open_concepts=words[row],
        )
        for row, (layer, unit) in enumerate(unit_rows(run.layers))
    )
    settings = {
        "concepts": list(bank.concepts),
        "bank": bank.name,
        "labelling": asdict(labelling),
        "summaries": asdict(summaries),
        "acoustics": sound_by_layer,
        "random_polysemanticity": found.random,
        "open_concepts": finder.settings,
    }
    run.write_explanations(explanations, settings)
    return explanations


def _shown(index: ClipIndex, kept: Kept, unit: int, captions: Sequence[str]) -> tuple[Shown, ...]:
    return tuple(
        Shown(
            path=index.clips[row].file,
            start=index.clips[row].start,
            peak=round(float(kept.peaks[unit, rank]), 3),
            activation=float(kept.values[unit, rank]),
            row=int(row),
            caption=captions[row],
        )
        for rank, row in enumerate(kept.rows[unit])
        if row >= 0
    )
