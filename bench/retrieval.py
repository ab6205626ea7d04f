"""How well an embedder names clips and finds them by text.

Zero-shot: every clip's label is guessed as the nearest of some names, the classes' own and those of a
concept bank. Retrieval: the clips are ranked for every class name, and for every caption where captions
say more than labels; right are the clips of that class or with that very caption. `chance` is what a
random order scores, as an exact expectation. `clips_per_second` is the time to hash, read, resample and
embed the whole source on this machine, with the embedder loaded before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import load_bank
from and_retrieval.config import fingerprint
from and_retrieval.embed import load_embedder
from and_retrieval.types import Floats
from bench import Announce, Figures, markdown
from bench import metrics as m
from bench.source import (
    Names,
    add_source_arguments,
    bank_names,
    classes_of,
    digest,
    own_names,
    read_aliases,
)

RANKS = (1, 5, 10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, the names to choose from, and the prompts they are put into."""
    add_source_arguments(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="sentence with {} for names (default: the embedder's own)",
    )


def run(
    source: str, embedder: str, concepts: str, aliases: Path, prompt: list[str] | None, announce: Announce
) -> Figures:
    """Figures of one embedder on one source.

    Raises:
        InputError: Clips without labels, an unknown embedder or bank, an alias file that cannot be read.
    """
    bank, named = load_bank(concepts), read_aliases(aliases)
    loaded = load_embedder(embedder)
    loaded.embed_text(["warm"])
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        progress = announce("embedding", "clips")
        index = ClipIndex.build(source, loaded, Path(scratch) / "clips", progress=progress, prompts=prompt)
        seconds = time.perf_counter() - begin
    classes = classes_of(index.clips, source)
    truth = np.array([classes.index(clip.label or "") for clip in index.clips])
    vectors = index.vectors()
    captions = [clip.caption for clip in index.clips]
    own, wide = own_names(classes), bank_names(classes, bank.concepts, named)
    figures: Figures = {
        "settings": {
            "embedder": embedder,
            "fingerprint": loaded.fingerprint,
            "prompts": list(index.prompts),
            "concepts": bank.name,
            "names": fingerprint(wide.names),
        },
        "data": digest(index.clips),
        "clips": len(index.clips),
        "classes": len(classes),
        "skipped": len(index.skipped),
        "clips_per_second": round(len(index.clips) / seconds, 1),
        "sound_seconds_per_second": round(sum(clip.duration for clip in index.clips) / seconds, 1),
        "zero_shot": {
            f"{len(names.names)} names ({title})": zero_shot(
                vectors, index.concept_vectors(names.names), truth, names
            )
            for title, names in (("own", own), (bank.name, wide))
        },
        "class_name_to_clip": text_to_clip(
            vectors, index.concept_vectors(own.names), truth[None] == np.arange(len(classes))[:, None]
        ),
    }
    told = sorted({caption for caption in captions if caption})
    if told and set(told) != set(own.names) | set(classes):
        right = np.array([[caption == query for caption in captions] for query in told])
        figures["caption_to_clip"] = text_to_clip(vectors, index.text_vectors(told), right)
    return figures


def zero_shot(vectors: Floats, texts: Floats, truth: Any, names: Names) -> dict[str, Any]:
    """Top-1 and top-5 accuracy of the nearest name, with chance."""
    scores = vectors @ texts.T
    right = m.one_right(np.array(names.classes)[truth], len(names.names))
    return {f"top_{k}": m.beside(m.found(scores, right, k), m.chance_found(right, k)) for k in (1, 5)}


def text_to_clip(vectors: Floats, texts: Floats, right: m.Truth) -> dict[str, Any]:
    """mAP, R@k and precision@k of texts searching clips, with chance."""
    scores = texts @ vectors.T
    return {
        "queries": len(texts),
        "mAP": m.beside(m.mean_average_precision(scores, right), m.chance_average_precision(right)),
        **{f"R@{k}": m.beside(m.found(scores, right, k), m.chance_found(right, k)) for k in RANKS},
        **{
            f"precision@{k}": m.beside(m.precision(scores, right, k), m.chance_precision(right, k))
            for k in RANKS
        },
    }


def table(figures: Figures) -> str:
    """One row per figure, with chance beside it."""
    groups = {f"zero-shot, {title}": group for title, group in figures["zero_shot"].items()}
    for key in ("class_name_to_clip", "caption_to_clip"):
        if key in figures:
            groups[f"{key.replace('_', ' ')}, {figures[key]['queries']} queries"] = figures[key]
    rows = [
        {"what": what, "figure": name, **pair}
        for what, group in groups.items()
        for name, pair in group.items()
        if isinstance(pair, dict)
    ]
    speed = (
        f"{figures['clips_per_second']} clips/s ({figures['sound_seconds_per_second']} s of sound a second)"
    )
    return f"{markdown(rows)}\n\n{figures['clips']} clips of {figures['classes']} classes; {speed}"
