"""The report of a run: gathers what the page shows from the run's files, and writes the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.compute as pc

from ..choices import MEGABYTES
from ..clips.index import ClipIndex
from ..config import REPORT_MEGABYTES
from ..embed import shared_networks
from ..explanation.measured_concepts import NAMES, measured_units
from ..explanation.space import concept_directions
from ..explanation.stored import Explained, load_explained
from ..files import output_path, writing
from ..progress import Progress, silent
from ..recording.recording import Recording
from ..store import REPORT
from ..types import Clip, Floats
from ..vocabulary import plain
from .data import ClipFacts, ReportData
from .media import SAMPLE_RATE
from .page import build_report
from .pruning import pruning_sections

HITS = 24  # units listed for every concept
SUFFIXES = (".html",)
RANKED = {
    "score": "",
    "llm": ", in the language model's order",
    "both": ", in the order of score and language model",
}
"""`LabelConfig.rank` in words."""


def write_report(
    recording: Recording,
    out: Path | None = None,
    max_megabytes: float = REPORT_MEGABYTES,
    progress: Progress = silent,
) -> Path:
    """Write the explanations of a recording as one HTML file; returns its path.

    Raises:
        InputError: The recording is not explained yet, `out` is not an .html file in a folder that exists, the file
            cannot be written, or `max_megabytes` is too small for the text alone.
    """
    path = recording.folder.path / REPORT if out is None else output_path("--out", out, SUFFIXES)
    MEGABYTES.check("max_megabytes", max_megabytes)
    text = build_report(report_data(recording), _clip_reader(recording.index), max_megabytes, progress)
    with writing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="")
    return path


def report_data(recording: Recording) -> ReportData:
    """The content of the report of an explained recording."""
    explained, recorded = load_explained(recording), recording.manifest
    explanation = explained.manifest
    labelling = explanation.labelling
    return ReportData(
        title=f"What {recorded.target} listens for",
        facts={
            "network": f"{recorded.target} (weights {recorded.weights})",
            "sounds": f"{recording.index.name}: {recorded.index_clips} clips, "
            f"{len(recorded.held_out_rows)} of them held out",
            "units": _unit_counts(explained, len(recorded.layers)),
            "embedder": f"{recording.index.embedder_name} ({recording.index.embedder_fingerprint})",
            "concepts": f"{explanation.bank}, {len(explanation.concepts)} concepts, scored by "
            f"{labelling.score} over {_scored_clips(labelling.k)}, by {labelling.evidence}{RANKED[labelling.rank]}",
            "language model": explanation.summaries.llm,
        },
        notes=_notes(recording, explained),
        layers=tuple(layer.name for layer in recorded.layers),
        explanations=explained,
        clips=_clip_facts(recording.index, explained.phrases),
        concept_hits=_concept_hits(recording, explained),
        layer_facts={
            layer: [("R² by measured sound", f"{share.r2:.2f}, shuffled {share.shuffled:.2f}")]
            for layer, share in explanation.acoustics.items()
        },
        random_polysemanticity=explanation.random_polysemanticity,
        sections=pruning_sections(recording),
    )


def _unit_counts(explained: Explained, layers: int) -> str:
    verdicts = _verdicts(explained)
    tested = pc.struct_field(explained.column("caption_faithfulness"), "reliable")
    text = f"{len(explained)} in {layers} layers"
    if set(verdicts) != {"untested"}:
        text += f", {verdicts['holds']} with a label that holds on held-out clips"
    if tested.null_count == len(tested):
        return text
    return f"{text}, {pc.sum(tested).as_py()} by their captions"


def _verdicts(explained: Explained) -> Counter[str]:
    return Counter(explained.column("reliable").to_pylist())


def _scored_clips(k: int | None) -> str:
    return "the clips each unit mainly responds to" if k is None else f"{k} clips"


def _clip_facts(index: ClipIndex, phrases: Mapping[int, str]) -> dict[int, ClipFacts]:
    clips = {row: index.clips[row] for row in phrases}
    return {
        row: ClipFacts(clip.file, clip.start, _captions(clip, phrases[row])) for row, clip in clips.items()
    }


def _captions(clip: Clip, phrase: str) -> tuple[str, ...]:
    """The clip in words, which is its typical caption or what it is near to, and its other captions."""
    captions = [" ".join(caption.split()) for caption in clip.captions]
    same = [caption for caption in captions if caption.lower() == phrase.lower()]
    longer = [caption for caption in captions if phrase and phrase.lower() in caption.lower()]
    typical = (same or longer)[:1]  # a phrase lacks the words that all captions of a set begin with
    others = [caption for caption in captions if caption not in typical]
    return tuple(dict.fromkeys(text for text in (phrase, *others) if text))


def _concept_hits(recording: Recording, explained: Explained) -> dict[str, list[tuple[int, float | None]]]:
    """The units listed for every concept of the bank and every measured one, best first, as `search` gives them.

    Units that measured sound explains by the concept come first and have no score.
    """
    bank = explained.manifest.concepts
    measured = {
        name: units for name in (*bank, *NAMES.values()) if (units := measured_units(explained, name))
    }
    concepts = list({plain(name): name for name in (*measured, *bank)}.values())
    scores, rows = recording.unit_index.nearest_to_all(concept_directions(recording.index, concepts), HITS)
    hits: dict[str, list[tuple[int, float | None]]] = {}
    for concept, near, values in zip(concepts, rows, scores, strict=True):
        first = measured.get(concept, {})
        rest = zip(near.tolist(), values.tolist(), strict=True)
        matching = [
            *((row, None) for row in first),
            *((row, round(x, 4)) for row, x in rest if row not in first),
        ]
        hits[concept] = matching[:HITS]
    return hits


def _notes(recording: Recording, explained: Explained) -> tuple[str, ...]:
    notes = [
        "Labels and sentences are made automatically from the clips that each unit responded to most. "
        "They describe what these sounds have in common, not what the unit is for."
    ]
    if recording.manifest.target in shared_networks(recording.index.embedder):
        notes.append(
            f"The network and the embedder share the weights of {recording.manifest.target}, so labels agree "
            "with the network more than those of an independent embedder would."
        )
    if set(_verdicts(explained)) <= {"untested"}:
        notes.append("Too few clips were held out to test any label on sounds that it was not made from.")
    if skipped := len(recording.index.skipped) + len(recording.manifest.skipped):
        notes.append(f"{skipped} files or clips could not be used; they are listed in the index and the run.")
    return tuple(notes)


def _clip_reader(index: ClipIndex) -> Callable[[int], tuple[Floats, int]]:
    return lambda row: (index.read(row, SAMPLE_RATE), SAMPLE_RATE)
