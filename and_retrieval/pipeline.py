"""The stages in order: record a network on an index, explain its units, search them, report.

The only place where stages meet. Every function takes what the stage before made and returns or stores a
frozen result; nothing is printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from . import vectors as faiss_vectors
from .clip_index import ClipIndex
from .clips import held_out
from .concepts import ConceptBank
from .config import LabelConfig, OpenConceptConfig, RecordConfig, SummaryConfig
from .errors import InputError
from .evidence import evidence_files, gather, layer_facts
from .explanation.labels import choose_bank, describe_clips, ranked_run
from .explanation.meanings import found_meanings
from .explanation.open_concepts import open_concept_finder
from .explanation.summaries import load_language_model, unit_summaries
from .explanation.trust import caption_tests, measured_acoustics, tested_labels
from .language.rank import check_rank
from .network.dictionary import attached
from .network.layers import TRIAL_SECONDS, match_layers, plan_layers
from .network.probe import probe, read_batches
from .neurons import FILE as NEURONS
from .neurons import build_neuron_index
from .progress import Progress, silent
from .qualities import QUALITIES, measure
from .query import Query
from .report.run import write_report as write_run_report
from .run_target import load_run_target
from .runs import QUALITIES_FILE, RecordedRun, unit_rows
from .search import Filters, search_neurons
from .targets import resolve_device, weights_hash
from .types import Explanation, Floats, Ints, Kept, Shown, Skipped, Target
from .unlearning.pruned import Pruned
from .unlearning.run import prune as prune_run

DEFAULT_BANK = "audioset"

Announce = Callable[[str, str], Progress]
"""(what is done, unit of counting) -> the progress to call; lets one verb show several bars."""


def no_progress(what: str, unit: str) -> Progress:  # noqa: ARG001
    """Announces nothing."""
    return silent


@dataclass(frozen=True)
class Run(RecordedRun):
    """A recorded run with the stages that follow as methods."""

    def explain(self, *banks: str | ConceptBank, **settings: Any) -> tuple[Explanation, ...]:
        """`pipeline.explain` of this run, by default over the bank `audioset`."""
        return explain(self, banks or (DEFAULT_BANK,), **settings)

    def search(self, query: Query | str | Sequence[str], k: int = 10, **filters: Any) -> list[dict[str, Any]]:
        """The units that match a query best, see `search.search_neurons`; keywords are those of `Filters`."""
        return search_neurons(self, query, k, Filters(**filters))

    def prune(
        self, *concepts: str, device: str = "cpu", trust_remote_code: bool = False, **settings: Any
    ) -> Pruned:
        """`unlearning.run.prune` of this run's network, which is loaded again; several concepts go together."""
        target = load_run_target(self, device, trust_remote_code)
        return prune_run(self, target, concepts, device=device, **settings)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report, see `report.run.write_report`."""
        return write_run_report(self, Path(out) if out else None)


def record(
    target: Target,
    index: ClipIndex,
    layers: Sequence[str] = (),
    config: RecordConfig | None = None,
    run: str | None = None,
    announce: Announce = no_progress,
) -> Run:
    """Show the network every clip of the index once and keep what its units responded to.

    Args:
        target: The network.
        index: The probe set.
        layers: Globs over the network's named modules; empty takes those of `config`, else the target's own.
        config: Layers, k, pooling, held-out share, batch, device.
        run: Name of the run; by default the target's. A run of that name is replaced.
        announce: See `Announce`.

    Raises:
        InputError: No layer matches, the network fails on the clips, or nothing is left to explain with.
    """
    config = config or RecordConfig()
    if config.top_k < 1:
        raise InputError(f"--top-k {config.top_k}: keep at least one clip per unit")
    folder = index.folder.run(run or run_name(target.name))
    device = resolve_device(config.device)
    names = match_layers(target.module, tuple(layers) or config.layers or target.layers, target.aliases)
    lengths = (*TRIAL_SECONDS, index.clips[0].duration)
    plans = plan_layers(target, names, config.pooling, device, lengths)
    held = held_out(index.clips, config.hold_out)
    skipped: list[Skipped] = []
    qualities = np.full((len(index.clips), len(QUALITIES)), np.nan, np.float32)
    batches = _batches(index, target, config.batch, qualities, skipped, announce("recording", "clips"))
    gathered = gather(probe(target, plans, batches, device), plans, held, config.top_k, folder)
    neurons = build_neuron_index(gathered.layers, index.vectors())
    facts = {
        "target": target.name,
        "weights": weights_hash(target.module),
        "dictionaries": [asdict(dictionary) for dictionary in attached(target)],
        "index_clips": len(index.clips),
        "index_digest": index.digest(),
        "held_out": int(held.sum()),
        "held_out_rows": np.flatnonzero(held).tolist(),
        "settings": {**asdict(config), "layers": list(names), "device": device.type},
        "skipped": [asdict(miss) for miss in skipped],
        "layers": [
            {**known, "output": list(plan.shape), "time_axis": plan.time_axis}
            for known, plan in zip(layer_facts(gathered.layers), plans, strict=True)
        ],
    }
    files = {
        NEURONS: lambda path: faiss_vectors.save(neurons.faiss, path),
        QUALITIES_FILE: lambda path: save_file({"qualities": qualities}, path),
        **evidence_files(gathered),
    }
    folder.commit(files, facts)
    return Run.open(folder, index)


def explain(
    run: RecordedRun,
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


def run_name(target: str) -> str:
    """A run's default name: the target's, without what a folder name cannot hold."""
    path, _, function = target.partition(":")
    if path in ("hf", "torch"):
        place = Path(function.partition("@")[0])
        parts = [place.name if path == "hf" else place.stem]
    else:
        parts = [Path(path).stem, function] if function else [path]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-.") or "run"


def _batches(
    index: ClipIndex,
    target: Target,
    batch: int,
    qualities: Floats,
    skipped: list[Skipped],
    progress: Progress,
) -> Iterator[tuple[Ints, list[Floats]]]:
    """Clips of the index in batches of equal length.

    Each clip's sound is measured on the way, as the network gets it; `qualities` and `skipped` are filled.
    """
    for rows, sounds in read_batches(index.clips, target.sample_rate, batch, skipped, progress):
        for row, sound in zip(rows, sounds, strict=True):
            qualities[row] = measure(sound, target.sample_rate)
        yield np.array(rows, np.int32), sounds


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
