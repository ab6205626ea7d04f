"""Whether "nothing listens" holds in any embedder's space: one rule, for embedders of every kind.

A target is recorded on the source once with every embedder. Of queries for its classes some unit should listen, for
sounds that the source does not hold (`absent.csv`) none should. Besides the embedders as they are, each is reduced to
the principal dimensions of the source's sounds: the same ears in a cruder space, where every cosine is another. Beside
the rule that `search` has, whose threshold is read off the run (`search.thresholds`), stands the fixed one it replaced
(z of at least 6). `auc` is the area under the ROC curve of the best unit's z, classes against absent sounds, 0.5 by
chance; `zero-shot` the share of the source's clips whose nearest class name is their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from and_retrieval import faiss_index
from and_retrieval.benchmark.names import classes_of, own_names
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import RecordConfig, fingerprint
from and_retrieval.embed.prompts import templates_of
from and_retrieval.explanation.space import (
    centred_background,
    clip_centre,
    clip_directions,
    concept_directions,
)
from and_retrieval.numerics import centred
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import neuron_vectors
from and_retrieval.run import record
from and_retrieval.search.thresholds import Thresholds, best_z, made_up_words, thresholds
from and_retrieval.targets import load_target
from and_retrieval.types import Embedder, Floats
from bench import Announce, Figures, markdown, nameless
from bench.queries import ABSENT, listed_absent, roc_areas, vectors_of
from bench.source import add_absent_arguments, labelled_index

FIXED = 6.0
DIMS = (64, 24, 12)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, what it does not hold, the targets, the embedders, how far they are reduced."""
    add_absent_arguments(parser)
    parser.add_argument("--target", action="append", metavar="SPEC", help="default: yamnet")
    parser.add_argument("--embedder", action="append", metavar="NAME", help="default: embedded")
    parser.add_argument(
        "--dims", type=int, nargs="*", default=DIMS, metavar="N", help="dimensions left (default: 64 24 12)"
    )


def run(
    source: str,
    set: str,
    others: str | None,
    target: list[str] | None,
    embedder: list[str] | None,
    dims: Sequence[int],
    home: str | None,
    announce: Announce,
) -> Figures:
    """One row per target and space.

    Raises:
        InputError: Clips without labels, an unknown target or embedder, or others of which none is absent.
    """
    rows: list[dict[str, Any]] = []
    networks = target or ["yamnet"]
    settings: dict[str, Any] = {
        "set": set,
        "targets": list(map(nameless, networks)),
        "absent": fingerprint(ABSENT.read_text()),
        "dims": list(dims),
    }
    for spec in embedder or ["embedded"]:
        index = labelled_index(source, spec, home, announce)
        settings[spec.partition(":")[0]] = index.embedder_fingerprint
        foreign = labelled_index(others, spec, home, announce) if others else None
        absent = vectors_of(foreign, listed_absent(set, "sound")) if foreign else None
        for network in networks:
            name = f"ears-{fingerprint(network)}"
            recorded = record(load_target(network), index, (), RecordConfig(device="cpu"), name, announce)
            for space in spaces(index, absent, dims):
                row = heard_row(recorded, space, set)
                rows.append({"target": nameless(network), "embedder": spec.partition(":")[0], **row})
    return {"settings": settings, "data": clips_digest(index.clips), "rows": rows}


@dataclass(frozen=True)
class Reduced:
    """An embedder (a `types.Embedder`) whose vectors are projected on a few directions and scaled to unit length.

    Attributes:
        embedder: The whole one.
        directions: float32 [its dim, dim], orthonormal columns.
    """

    embedder: Embedder
    directions: Floats

    @property
    def name(self) -> str:
        """That of the whole one, with the dimensions left."""
        return f"{self.embedder.name}/{self.dim}"

    @property
    def dim(self) -> int:
        """Dimensions left."""
        return int(self.directions.shape[1])

    @property
    def sample_rate(self) -> int:
        """That of the whole one."""
        return self.embedder.sample_rate

    @property
    def fingerprint(self) -> str:
        """Changes with the whole one and the directions."""
        return fingerprint(self.embedder.fingerprint, self.directions.tobytes().hex())

    @property
    def templates(self) -> tuple[str, ...]:
        """Those of the whole one."""
        return templates_of(self.embedder)

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        """Waveforms -> float32 [n, dim], rows of unit length."""
        return self.projected(self.embedder.embed_audio(waveforms))

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """Texts -> float32 [n, dim], rows of unit length."""
        return self.projected(self.embedder.embed_text(texts))

    def projected(self, vectors: Floats) -> Floats:
        """Vectors of the whole embedder -> those of this one."""
        return centred(vectors @ self.directions, np.zeros(self.dim, np.float32))


@dataclass(frozen=True)
class Space:
    """An embedder's space: the index in it, and the vectors of sounds that the index does not hold."""

    index: ClipIndex
    absent: Floats | None


def spaces(index: ClipIndex, absent: Floats | None, dims: Sequence[int]) -> list[Space]:
    """The space of an index, and those it is reduced to."""
    vectors = index.vectors()
    _, _, principal = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    made = [Space(index, absent)]
    for dim in dims:
        if dim >= min(index.dim, len(principal)):
            continue
        embedder = Reduced(index.embedder, np.ascontiguousarray(principal[:dim].T))
        cut = replace(
            index,
            faiss=faiss_index.build(embedder.projected(vectors)),
            moments=None,
            embedder_name=embedder.name,
            embedder_fingerprint=embedder.fingerprint,
            _embedded={},
        )
        beyond = None if absent is None else embedder.projected(absent)
        made.append(Space(cut.with_embedder(embedder), beyond))
    return made


def heard_row(recorded: Recording, space: Space, chosen: str) -> dict[str, Any]:
    """What is heard of what is there and of what is not, in one space."""
    index = space.index
    classes = classes_of(index.clips, recorded.name)
    units = np.concatenate([neuron_vectors(layer, index.vectors()) for layer in recorded.layers])
    texts, clips = centred_background(index), clip_directions(index)
    needs = thresholds(units, texts, clips[recorded.seen_rows], made_up_words(index))
    names = own_names(classes).names
    class_directions = concept_directions(index, names)
    truth = np.array([classes.index(clip.label or "") for clip in index.clips])
    there, none, nonsense = (
        best_z(units, queries, texts)
        for queries in (
            class_directions,
            concept_directions(index, listed_absent(chosen, "text")),
            concept_directions(index, listed_absent(chosen, "nonsense")),
        )
    )
    right = np.arange(len(there) + len(none)) < len(there)
    return {
        "dim": index.dim,
        "zero-shot": float(((clips @ class_directions.T).argmax(axis=1) == truth).mean()),
        "chance": 1 / len(classes),
        "z needed": needs.text,
        "made-up": needs.made_up,
        "tells": needs.tells,
        "found": float((there >= needs.text).mean()),
        "absent": float((none >= needs.text).mean()),
        "nonsense": float((nonsense >= needs.text).mean()),
        "auc": float(roc_areas(np.concatenate([there, none])[:, None], right)[0]),
        **_sounds(recorded, space, units, texts, clips, needs),
        "found, z 6": float((there >= FIXED).mean()),
        "absent, z 6": float((none >= FIXED).mean()),
    }


def _sounds(
    recorded: Recording, space: Space, units: Floats, texts: Floats, clips: Floats, needs: Thresholds
) -> dict[str, float | None]:
    """Share of held-out clips, and of sounds that the source does not hold, for which a unit listens."""
    held = best_z(units, clips[recorded.held_out_rows], texts) >= needs.sound
    figures: dict[str, float | None] = {"held-out clips": float(held.mean()) if len(held) else None}
    if space.absent is not None:
        directions = centred(space.absent, clip_centre(space.index))
        absent = best_z(units, directions, texts) >= needs.sound
        figures["absent clips"] = float(absent.mean())
    return figures


def table(figures: Figures) -> str:
    """One row per target and space."""
    return markdown(figures["rows"])
