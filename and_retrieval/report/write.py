"""The report of a run: what the page shows, gathered from the run's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .. import faiss_index
from ..choices import MEGABYTES
from ..clips.index import ClipIndex
from ..config import REPORT_MEGABYTES
from ..embed import shared_networks
from ..explanation.stored import Explained, load_explained
from ..files import output_path, writing
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..store import REPORT
from ..types import Floats
from .data import ClipFacts, ReportData
from .media import SAMPLE_RATE
from .page import build_report
from .pruning import pruning_sections

HITS = 24  # units listed per concept
SUFFIXES = (".html",)
RANKED = {
    "score": "",
    "llm": ", in the language model's order",
    "both": ", in the order of score and language model",
}
"""`LabelConfig.rank` in words."""


def write_report(
    run: Recording,
    out: Path | None = None,
    max_megabytes: float = REPORT_MEGABYTES,
    progress: Progress = silent,
) -> Path:
    """Write the run's explanations as one HTML file; returns its path.

    Raises:
        InputError: The run is not explained yet, `out` is no .html file in a folder that exists or cannot be
            written, or `max_megabytes` is too small for the text alone.
    """
    path = run.folder.path / REPORT if out is None else output_path("--out", out, SUFFIXES)
    MEGABYTES.check("max_megabytes", max_megabytes)
    text = build_report(report_data(run), _clip_reader(run.index), max_megabytes, progress)
    with writing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="")
    return path


def report_data(run: Recording) -> ReportData:
    """What the report of a run shows."""
    explained, recorded = load_explained(run), run.manifest
    made = explained.manifest
    labelling = made.labelling
    return ReportData(
        title=f"What {recorded.target} listens for",
        facts={
            "network": f"{recorded.target} (weights {recorded.weights})",
            "sounds": f"{run.index.name}: {recorded.index_clips} clips, {len(recorded.held_out_rows)} of them held out",
            "units": _unit_counts(explained, len(recorded.layers)),
            "embedder": f"{run.index.embedder_name} ({run.index.embedder_fingerprint})",
            "concepts": f"{made.bank}, {len(made.concepts)} concepts, scored by "
            f"{labelling.score} over {_looked_at(labelling.k)}, by {labelling.evidence}{RANKED[labelling.rank]}",
            "language model": made.summaries.llm,
        },
        notes=_notes(run, explained),
        layers=tuple(layer.name for layer in recorded.layers),
        explanations=explained,
        clips=_clip_facts(run.index, explained.phrases),
        concept_hits=_concept_hits(run, made.concepts),
        layer_facts={
            layer: [("R² by measured sound", f"{share.r2:.2f}, shuffled {share.shuffled:.2f}")]
            for layer, share in made.acoustics.items()
        },
        random_polysemanticity=made.random_polysemanticity,
        sections=pruning_sections(run),
    )


def _unit_counts(explained: Explained, layers: int) -> str:
    reliable = [unit.reliable for unit in explained]
    by_captions = [unit.caption_faithfulness.reliable for unit in explained if unit.caption_faithfulness]
    text = f"{len(explained)} in {layers} layers"
    if set(reliable) != {"untested"}:
        text += f", {reliable.count('holds')} with a label that holds on held-out clips"
    return f"{text}, {sum(by_captions)} by their captions" if by_captions else text


def _looked_at(k: int | None) -> str:
    return "the clips each unit mainly responds to" if k is None else f"{k} clips"


def _clip_facts(index: ClipIndex, phrases: Mapping[int, str]) -> dict[int, ClipFacts]:
    clips = {row: index.clips[row] for row in phrases}
    return {row: ClipFacts(clip.file, clip.start, phrases[row]) for row, clip in clips.items()}


def _concept_hits(run: Recording, concepts: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    scores, rows = faiss_index.search(run.unit_index.faiss, run.index.text_vectors(concepts), HITS)
    return {
        concept: [(int(row), round(float(score), 4)) for row, score in zip(rows[i], scores[i], strict=True)]
        for i, concept in enumerate(concepts)
    }


def _notes(run: Recording, explained: Explained) -> tuple[str, ...]:
    notes = [
        "Labels and sentences are made automatically from the clips each unit responded to most. "
        "They say what these sounds have in common, not what the unit is for."
    ]
    if run.manifest.target in shared_networks(run.index.embedder):
        notes.append(
            f"The network and the embedder share the weights of {run.manifest.target}, so labels agree with the "
            "network more than an independent embedder's would."
        )
    if all(unit.reliable == "untested" for unit in explained):
        notes.append("Too few clips were held out to test any label on sounds it was not made from.")
    if skipped := len(run.index.skipped) + len(run.manifest.skipped):
        notes.append(f"{skipped} files or clips could not be used; they are listed in the index and the run.")
    return tuple(notes)


def _clip_reader(index: ClipIndex) -> Callable[[int], tuple[Floats, int]]:
    return lambda row: (index.read(row, SAMPLE_RATE), SAMPLE_RATE)
