"""How well an embedder finds sounds by text and texts by sound, and names sounds, as papers report it.

    text_to_audio    every caption of every clip searches the clips; right are the clips with that very caption
    audio_to_text    every clip searches the different captions; right are its own, however many
    class_to_audio   every class name searches the clips; right are the clips with that label
    zero_shot        every clip is given the nearest class name (top-1, top-5); with several labels a clip: mean
                     average precision over classes, as FSD50K and AudioSet report it

A clip is a file, or an event of a table, as long as it is no longer than a window. Cosines are those of the embedder's
own vectors; a class is the mean of its name in every prompt, brought back to unit length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from .. import faiss_index
from ..clips.index import ClipIndex
from ..clips.source import load_clips
from ..config import ClipConfig, fingerprint
from ..embed.prompts import BARE, concept_vectors
from ..neighbours import temporary_store
from ..numerics import Doubles, Places
from ..progress import Progress, silent
from ..store import Home
from ..types import Clip, Embedder, Floats
from . import measures as m
from .intervals import Figure, Files
from .names import Names

RANKS = (1, 5, 10)
TOP = (1, 5)
PRECISION_AT = 10
NEIGHBOURS = 10
"""Nearest vectors by which an approximate index is compared with an exact search."""
WINDOW = 600.0
"""Seconds up to which a file is one clip: embedders cut it themselves, in their own way."""
CHUNK_BYTES = 2**26

Group = dict[str, Figure]


@dataclass(frozen=True)
class Question:
    """Queries and items: which items are right for which queries.

    Attributes:
        queries: float32 [queries, dim], unit length.
        items: float32 [items, dim], unit length.
        query_says, item_says: Sparse [queries or items, texts], 1 where it says that text; an item is right for a query
            that says one of the same texts.
        clips: int [queries], the clip whose file a query counts for.
    """

    queries: Floats
    items: Floats
    query_says: sparse.csr_matrix
    item_says: sparse.csr_matrix
    clips: Places

    def ranked(self) -> Iterator[m.Truth]:
        """Which items are right, best first, for some queries at a time: bool [some queries, items]."""
        step = max(1, CHUNK_BYTES // (16 * len(self.items)))
        for start in range(0, len(self.queries), step):
            part = slice(start, start + step)
            truth = (self.query_says[part] @ self.item_says.T).toarray() > 0
            yield m.best_first(self.queries[part] @ self.items.T, truth)

    def figures(self, files: Files, depth: int | None = PRECISION_AT) -> Group:
        """R@k, mean average precision and the median rank of the first right item, with chance and intervals.

        Args:
            files: The files of the clips, for the intervals.
            depth: Items that the average precision looks at, see `measures.precision_up_to`; None for all.
        """
        items = len(self.items)
        parts = [
            (m.first_ranks(part), m.precision_up_to(part, depth or items), part.sum(axis=1))
            for part in self.ranked()
        ]
        ranks, precisions, right = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
        chance = float(m.chance_precision_up_to(right, items, depth or items).mean())

        def recall_at(k: int) -> Figure:
            by_chance = float(m.chance_within(right, items, k).mean())
            return files.mean((ranks <= k).astype(float), self.clips, by_chance)

        return {
            **{f"R@{k}": recall_at(k) for k in RANKS},
            f"mAP@{depth}" if depth else "mAP": files.mean(precisions, self.clips, chance),
            "median_rank": files.median(ranks.astype(float), self.clips, m.chance_median_rank(right, items)),
        }

    def approximate(self, files: Files) -> Figure:
        """Share of the ten nearest items that an approximate index finds too; others just as near count."""
        k = min(NEIGHBOURS, len(self.items))
        index = faiss_index.build(self.items)
        exact, _ = faiss_index.search(index, self.queries, k)
        with temporary_store("faiss", self.items) as finder:
            near, _ = faiss_index.search(index, self.queries, k, finder=finder)
        kept = (near >= exact[:, -1:] - 1e-6).mean(axis=1)
        return files.mean(kept, self.clips, k / len(self.items))


@dataclass(frozen=True)
class Labelled:
    """Clips with vectors, and what is said of them.

    Attributes:
        clips: The clips, each with captions, labels, both or neither.
        vectors: float32 [clips, dim], unit length.
        embedder: Of the vectors.
    """

    clips: Sequence[Clip]
    vectors: Floats
    embedder: Embedder

    @cached_property
    def files(self) -> Files:
        """The file of every clip; copies are one file."""
        return Files([clip.sha256 or clip.file for clip in self.clips])

    def captions(self) -> tuple[Question, Question] | None:
        """Text to audio and audio to text; None where no clip has a caption."""
        pairs = [(row, caption) for row, clip in enumerate(self.clips) for caption in clip.captions]
        if not pairs:
            return None
        texts = list(dict.fromkeys(caption for _, caption in pairs))
        number = {text: place for place, text in enumerate(texts)}
        clips = np.array([row for row, _ in pairs])
        keys = np.array([number[caption] for _, caption in pairs])
        vectors = self.embedder.embed_text(texts)
        captioned, place = np.unique(clips, return_inverse=True)
        heard = self.vectors[captioned]
        says = incidence(place, keys, len(captioned), len(texts))
        query_says = incidence(np.arange(len(pairs)), keys, len(pairs), len(texts))
        itself = incidence(np.arange(len(texts)), np.arange(len(texts)), len(texts), len(texts))
        return (
            Question(vectors[keys], heard, query_says, says, clips),
            Question(heard, vectors, says, itself, captioned),
        )

    def figures(self, names: Names | None, prompts: Sequence[str] = BARE) -> dict[str, Group]:
        """All groups of figures that the clips allow.

        Args:
            names: The classes' names, and others to choose from; None where no clip has a label.
            prompts: Texts with `{}` where the name stands.
        """
        groups: dict[str, Group] = {}
        if (questions := self.captions()) is not None:
            for title, question in zip(("text_to_audio", "audio_to_text"), questions, strict=True):
                groups[title] = question.figures(self.files)
            groups["approximate_index"] = {
                f"{title} recall@{NEIGHBOURS}": question.approximate(self.files)
                for title, question in zip(("text_to_audio", "audio_to_text"), questions, strict=True)
            }
        if names is not None:
            groups |= self._named(names, concept_vectors(self.embedder.embed_text, names.names, prompts))
        return groups

    def _named(self, names: Names, vectors: Floats) -> dict[str, Group]:
        rows = np.array([row for row, clip in enumerate(self.clips) if clip.labels])
        truth = np.zeros((len(rows), len(names.names)), bool)
        for place, row in enumerate(rows):
            truth[place, [names.place_of[label] for label in self.clips[row].labels]] = True
        files = Files([self.files.names[row] for row in rows])
        scores = self.vectors[rows] @ vectors.T
        places = list(names.classes)
        right = truth.T[places]
        ordering = m.Ordering(scores.T[places], right)
        count = right.sum(axis=1)

        def statistics(weights: Doubles | None) -> dict[str, float]:
            ranks = ordering.first_ranks(weights)
            recall = {f"R@{k}": float((ranks <= k).sum() / np.isfinite(ranks).sum()) for k in RANKS}
            return {"mAP": float(np.nanmean(ordering.average_precision(weights))), **recall}

        chance = {f"R@{k}": float(m.chance_within(count, len(rows), k).mean()) for k in RANKS}
        of_classes = files.of_items(statistics, {"mAP": m.chance_average_precision(right), **chance})
        if (truth.sum(axis=1) > 1).any():
            return {"class_to_audio": of_classes, "zero_shot": {"mAP": of_classes["mAP"]}}
        first, clips = m.first_ranks(m.best_first(scores, truth)), np.arange(len(rows))
        zero_shot = {
            f"top-{k}": files.mean((first <= k).astype(float), clips, k / len(names.names))
            for k in TOP
            if k < len(names.names)
        }
        return {"class_to_audio": of_classes, "zero_shot": zero_shot}


def incidence(rows: Places, texts: Places, count: int, width: int) -> sparse.csr_matrix:
    """Sparse [count, width] with 1 where a row says a text, see `Question`."""
    return sparse.csr_matrix((np.ones(len(rows), np.int32), (rows, texts)), shape=(count, width))


def embedded(
    source: str, embedder: Embedder, home: Home, window: float = WINDOW, progress: Progress = silent
) -> ClipIndex:
    """The source's clips under an embedder, kept as an index in the home; one that is there is used again.

    The window is part of the name: an index is of one window, also where no clip is longer than either.

    Raises:
        InputError: The source holds no usable audio.
    """
    config = ClipConfig(window=window)
    digest = clips_digest(load_clips(source, config).clips)
    folder = home.index(f"bench-{window:g}s-{fingerprint(digest, embedder.fingerprint)}")
    return ClipIndex.build(source, embedder, folder.path, config, progress)


def clips_digest(clips: Sequence[Clip]) -> str:
    """Changes with the sounds and with what is said about them, not with where they lie."""
    return fingerprint([[clip.id, clip.label, clip.captions, clip.fold] for clip in clips])
