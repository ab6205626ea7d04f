"""What says nothing changes nothing: an embedder whose sounds all carry one constant and whose texts another.

Every contrastive embedder has such an offset. It is put on the embedded embedder here, by an embedder of the user's
that wraps it, and the whole pipeline is run with both: index, record, explain, search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from and_retrieval import ClipIndex, load_target, record, soundbank
from and_retrieval.config import RecordConfig, SummaryConfig
from and_retrieval.embed.embedded import EmbeddedEmbedder
from and_retrieval.explanation.explain import explain
from and_retrieval.explanation.stored import Explained
from and_retrieval.run import Run
from and_retrieval.search.search import search_clips, search_neurons
from and_retrieval.types import Embedder, Floats, Spans

CONCEPTS = ("alarm clock", "church bell", "crickets", "dog bark", "engine idling", "frog", "rain", "siren")
ABSENT = ("sewing machine", "laughter", "theremin", "glass breaking")
LAYER = "layer6.pointwise_conv.relu"
SIZES = {"apart": 1.5, "among": 0.7}
"""Length of the offsets beside vectors of length 1, as dimensions of their own, or in directions of the space."""


@dataclass
class Offset:
    """The embedded embedder with one constant added to all sounds and another to all texts, of unit length again."""

    embedder: EmbeddedEmbedder
    sounds: Floats
    texts: Floats
    fingerprint: str
    sample_rate: int = 16_000

    @property
    def dim(self) -> int:
        return self.sounds.shape[1]

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        return self._moved(self.embedder.embed_audio(waveforms), self.sounds)

    def embed_with_moments(
        self, waveforms: Sequence[Floats], spans: Sequence[Spans]
    ) -> tuple[Floats, list[Floats]]:
        vectors, moments = self.embedder.embed_with_moments(waveforms, spans)
        return self._moved(vectors, self.sounds), [self._moved(of, self.sounds) for of in moments]

    def embed_text(self, texts: Sequence[str]) -> Floats:
        return self._moved(self.embedder.embed_text(texts), self.texts)

    def _moved(self, vectors: Floats, constant: Floats) -> Floats:
        wide = np.pad(vectors, ((0, 0), (0, self.dim - vectors.shape[1]))) + constant
        return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def offset(embedder: EmbeddedEmbedder, where: str) -> Offset:
    """Constants in two dimensions of their own (`apart`), or in random directions of the space (`among`)."""
    if where == "apart":
        constants = np.eye(2, embedder.dim + 2, embedder.dim, dtype=np.float32)
    else:
        drawn = np.random.default_rng(0).standard_normal((2, embedder.dim)).astype(np.float32)
        constants = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    sounds, texts = SIZES[where] * constants[:1], SIZES[where] * constants[1:]
    return Offset(embedder, sounds, texts, f"offset-{where}")


@dataclass
class Outcome:
    """What the pipeline says of the sounds."""

    run: Run
    explained: Explained

    @property
    def first(self) -> list[str | None]:
        return [unit.labels[0].concept if unit.labels else None for unit in self.explained]

    def best(self, query: str) -> set[int]:
        return {unit["unit"] for unit in search_neurons(self.run, query, 10)}

    def verdicts(self, query: str) -> tuple[bool, bool]:
        units, clips = search_neurons(self.run, query, 10), search_clips(self.run.index, query, 10)
        return any(unit["listens"] for unit in units), any(clip["matches"] for clip in clips)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("sounds"), clips_per_concept=12, concepts=CONCEPTS)


def outcome(source: Path, embedder: Embedder, place: Path) -> Outcome:
    index = ClipIndex.build(source, embedder, place)
    run = record(load_target("yamnet"), index, [LAYER], RecordConfig(device="cpu"), "yamnet")
    return Outcome(run, explain(run, ["audioset"], summaries=SummaryConfig(llm="none")))


@pytest.fixture(scope="module")
def plain(source: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome(source, embedder, tmp_path_factory.mktemp("plain") / "index")


def same(a: Sequence[object], b: Sequence[object]) -> float:
    return float(np.mean([one == other for one, other in zip(a, b, strict=True)]))


@pytest.mark.parametrize("where", ["apart", "among"])
def test_an_offset_changes_nothing(
    source: Path, embedder: EmbeddedEmbedder, plain: Outcome, where: str, tmp_path: Path
) -> None:
    moved = outcome(source, offset(embedder, where), tmp_path / "index")
    # It is an offset as contrastive models have one: plain cosines are moved far.
    vectors = moved.run.index.vectors()
    assert (
        np.median(vectors @ vectors.T)
        > np.median(plain.run.index.vectors() @ plain.run.index.vectors().T) + 0.2
    )
    least = 0.99 if where == "apart" else 0.96
    assert same(plain.first, moved.first) >= least
    for field in ("reliable", "kind"):
        a, b = ([getattr(unit, field) for unit in one.explained] for one in (plain, moved))
        assert len(set(a)) > 1
        assert same(a, b) >= least
    assert plain.explained.manifest.unknown_concepts == moved.explained.manifest.unknown_concepts
    queries = [*CONCEPTS, *ABSENT, "blorft zwick"]
    verdicts = [plain.verdicts(query) for query in queries]
    assert verdicts == [moved.verdicts(query) for query in queries]
    assert {units for units, _ in verdicts} == {True, False}
    common = [len(plain.best(query) & moved.best(query)) / 10 for query in CONCEPTS]
    assert np.mean(common) >= 0.96  # of lists of ten, in which a tie may be settled otherwise
