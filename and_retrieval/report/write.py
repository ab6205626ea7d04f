"""The report of a run: what the page shows, gathered from the run's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import faiss_index
from ..clips.index import ClipIndex
from ..clips.source import read_clip
from ..errors import InputError
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..store import REPORT
from ..types import Explanation, Floats
from .data import ReportData
from .media import SAMPLE_RATE
from .page import build_report
from .pruning import pruning_sections

HITS = 24  # units listed per concept


def write_report(
    run: Recording, out: Path | None = None, max_megabytes: float = 25.0, progress: Progress = silent
) -> Path:
    """Write the run's explanations as one HTML file; returns its path.

    Raises:
        InputError: The run is not explained yet, or the folder of `out` does not exist.
    """
    text = build_report(report_data(run), _clip_reader(run.index), max_megabytes, progress)
    if out is None:
        return run.folder.write_text(REPORT, text)
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} does not exist; make it first")
    out.write_text(text, encoding="utf-8")
    return out


def report_data(run: Recording) -> ReportData:
    """What the report of a run shows."""
    settings, facts = run.settings(), run.facts
    explanations = run.explanations()
    summaries, labelling = settings["summaries"], settings["labelling"]
    return ReportData(
        title=f"What {facts['target']} listens for",
        facts={
            "network": f"{facts['target']} (weights {facts['weights']})",
            "sounds": f"{run.index.name}: {facts['index_clips']} clips, {facts['held_out']} of them held out",
            "units": _unit_counts(explanations, len(facts["layers"])),
            "embedder": f"{run.index.embedder_name} ({run.index.embedder_fingerprint})",
            "concepts": f"{settings['bank']}, {len(settings['concepts'])} concepts, scored by "
            f"{labelling['score']} over {labelling['k']} clips, by {labelling['evidence']}{_ranked(labelling)}",
            "language model": summaries["llm"],
        },
        notes=_notes(run),
        layers=tuple(layer["name"] for layer in facts["layers"]),
        explanations=explanations,
        concept_hits=_concept_hits(run, settings["concepts"]),
        layer_facts={
            layer: [("R² by measured sound", f"{share['r2']:.2f}, shuffled {share['shuffled']:.2f}")]
            for layer, share in settings["acoustics"].items()
        },
        random_polysemanticity=settings.get("random_polysemanticity"),
        sections=pruning_sections(run),
    )


def _unit_counts(explanations: Sequence[Explanation], layers: int) -> str:
    tested = [e.faithfulness.reliable for e in explanations if e.faithfulness]
    by_captions = [e.caption_faithfulness.reliable for e in explanations if e.caption_faithfulness]
    text = f"{len(explanations)} in {layers} layers"
    text += f", {sum(tested)} with a label that holds on held-out clips" if tested else ""
    return f"{text}, {sum(by_captions)} by their captions" if by_captions else text


def _ranked(labelling: Mapping[str, Any]) -> str:
    ways = {"llm": ", in the language model's order", "both": ", in the order of score and language model"}
    return ways.get(labelling.get("rank", "score"), "")


def _concept_hits(run: Recording, concepts: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    queries = run.index.embedder().embed_text(concepts)
    scores, rows = faiss_index.search(run.neurons.faiss, queries, HITS)
    return {
        concept: [(int(row), round(float(score), 4)) for row, score in zip(rows[i], scores[i], strict=True)]
        for i, concept in enumerate(concepts)
    }


def _notes(run: Recording) -> tuple[str, ...]:
    notes = [
        "Labels and sentences are made automatically from the clips each unit responded to most. "
        "They say what these sounds have in common, not what the unit is for."
    ]
    if run.facts["target"] == "yamnet" and run.index.embedder_name == "embedded":
        notes.append(
            "The network and the embedder share YAMNet's weights, so labels agree with the network more than "
            "an independent embedder's would."
        )
    if not any(e.faithfulness for e in run.explanations()):
        notes.append("Too few clips were held out to test any label on sounds it was not made from.")
    if skipped := len(run.index.skipped) + len(run.facts["skipped"]):
        notes.append(f"{skipped} files or clips could not be used; they are listed in the index and the run.")
    return tuple(notes)


def _clip_reader(index: ClipIndex) -> Callable[[int], tuple[Floats, int]]:
    return lambda row: (read_clip(index.clips[row], SAMPLE_RATE), SAMPLE_RATE)
