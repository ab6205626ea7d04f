"""How fast a unit is found among a million, and how many of those that brute force finds.

A million neuron vectors are made from a real run: YAMNet is recorded on the source, and each made-up unit adds to
one of YAMNet's units, drawn at random, `OTHERS` others with normal weights times `WEIGHT` and a tenth of noise, all
standardised, as a next layer would. Its vector is then that of `unit_index.neuron_vectors`: the mean of its strongest
`TOP` clips. `alike` holds made-up vectors against the real ones: the cosine of each unit's nearest neighbour among as
many as the run has, and the share of the variance in the first principal directions; `WEIGHT` was chosen so that
they agree on the demo set.

Queries are texts (the names of ESC-50 and of the demo set's sounds, some of them of sounds the source does not
hold), units among the million, and pairs of texts that are both wanted. `milliseconds` are of one query on one
thread, from its vector to the rows and scores; `calibrated` adds what a search of a run adds, z-values against the
background. Recall is the share of the ten best of brute force that are found, ties within 1e-6 counted as found;
`within 0.001` counts all that score as high as the tenth less 0.001. Brute force is one matrix product and a partial
sort, in the same process on the same thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from and_retrieval import faiss_index, soundbank
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.concepts import load_bank
from and_retrieval.config import RecordConfig
from and_retrieval.embed import load_embedder
from and_retrieval.explanation.space import BACKGROUND
from and_retrieval.faiss_index import Mask
from and_retrieval.files import size_of
from and_retrieval.neighbours import STORES, reduced
from and_retrieval.recording.activations import SEEN
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import UnitIndex
from and_retrieval.run import record
from and_retrieval.search.query import CANDIDATES, Terms, calibrated, cosines, ranked
from and_retrieval.search.thresholds import unit_deviations
from and_retrieval.targets import load_target
from and_retrieval.types import Embedder, Floats
from bench import Announce, Figures, markdown
from bench.source import add_search_arguments, embedder_of, source_index

K = 10
OTHERS = 2
WEIGHT = 0.4
NOISE = 0.1
TOP = 20
CHUNK = 5_000
LAYERS = 10  # that the made-up units are dealt out to, one of which is searched alone
TEXT_QUERIES = 80
UNIT_QUERIES = 60
PAIRS = 30
TIE = 1e-6
NEAR = 1e-3
INDEX_SETTINGS = ("REDUCED", "LISTS_PER_ROOT", "MOST_LISTS", "COMPARED", "PROBED", "CANDIDATES", "TRAINED_ON")

Answer = Callable[[Any], tuple[Floats, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, how many units, where the index is kept."""
    add_search_arguments(parser)
    parser.add_argument("--units", type=int, default=1_000_000, help="default: 1,000,000")


def run(
    source: str,
    embedder: str,
    units: int,
    home: str | None,
    seed: int,
    announce: Announce,
    stores: Sequence[str] | None = None,
) -> Figures:
    """Figures of stores, and of the vectors without one, beside brute force."""
    stores = stores or ["faiss"]
    loaded = load_embedder(embedder)
    index = source_index(source, loaded, home, announce)
    recorded = record(load_target("yamnet"), index, (), RecordConfig(device="cpu"), "search", announce)
    rng = np.random.default_rng(seed)
    with threadpool_limits(1):
        vectors = made_up(recorded, units, rng, announce)
        real = faiss_index.stored(recorded.unit_index.faiss)
        real = real[real.any(axis=1)]
        queries = drawn_queries(loaded, vectors, rng)
        truth = {name: Timed([_brute(vectors, query) for query in asked]) for name, asked in queries.items()}
        texts = loaded.embed_text(load_bank(BACKGROUND).concepts)
        figures = {
            "brute force": {name: {"milliseconds": timed.milliseconds()} for name, timed in truth.items()},
            **{
                name: index_figures(store, vectors, queries, truth, texts)
                for name, store in (("faiss", "faiss"), ("exact", None))
            },
        }
    return {
        "settings": {
            **embedder_of(index),
            "units": units,
            "seed": seed,
            "index": {name.lower(): getattr(reduced, name) for name in INDEX_SETTINGS},
            "stores": list(stores),
            "candidates of pairs": CANDIDATES,
        },
        "data": clips_digest(index.clips),
        "dim": index.dim,
        "clips": len(index.clips),
        "alike": {"made up": alike(vectors[: len(real)]), "real": alike(real)},
        **figures,
    }


def made_up(run: Recording, units: int, rng: np.random.Generator, announce: Announce) -> Floats:
    """Neuron vectors of units that mix the run's own, float32 [units, dim] of unit length, see the module."""
    activations = np.concatenate(
        [run.activations(layer.name, SEEN).astype(np.float32) for layer in run.layers], axis=1
    )
    read = np.isfinite(activations).all(axis=1)
    rows, activations = run.seen_rows[read], activations[read]
    activations = (activations - activations.mean(axis=0)) / np.maximum(activations.std(axis=0), 1e-6)
    clips = run.index.vectors()
    clips = (clips - clips.mean(axis=0))[rows]
    progress = announce("mixing", "units")
    vectors = np.empty((units, clips.shape[1]), np.float32)
    for first in range(0, units, CHUNK):
        count = min(CHUNK, units - first)
        mixed = NOISE * rng.standard_normal((len(rows), count), dtype=np.float32)
        mixed += activations[:, rng.integers(activations.shape[1], size=count)]
        for _ in range(OTHERS):
            weights = WEIGHT * rng.standard_normal(count, dtype=np.float32)
            mixed += activations[:, rng.integers(activations.shape[1], size=count)] * weights
        vectors[first : first + count] = _from_top_clips(mixed, clips)
        progress(first + count, units)
    return vectors


def _from_top_clips(activations: Floats, clips: Floats) -> Floats:
    top = np.argpartition(-activations, min(TOP, len(activations)) - 1, axis=0)[:TOP]
    excess = np.maximum(np.take_along_axis(activations, top, axis=0) - activations.mean(axis=0), 0)
    weights = np.zeros_like(activations)
    np.put_along_axis(weights, top, excess, axis=0)
    means = weights.T @ clips
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    vectors: Floats = means / np.maximum(lengths, 1e-12)
    return vectors


def alike(vectors: Floats) -> dict[str, Any]:
    """Quantiles of the nearest neighbour's cosine, and share of the variance in the first principal directions."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    return {
        "nearest": {
            f"{q:.0%}": round(float(np.quantile(cosines.max(axis=1), q)), 3) for q in (0.1, 0.25, 0.5, 0.75)
        },
        "variance": {f"first {n}": round(float(values[:n].sum() / values.sum()), 4) for n in (32, 64, 128)},
    }


def drawn_queries(embedder: Embedder, vectors: Floats, rng: np.random.Generator) -> dict[str, list[Terms]]:
    """Queries by kind."""
    names = sorted({*load_bank("esc50").concepts, *soundbank.CONCEPTS})
    texts = embedder.embed_text(names)[rng.permutation(len(names))[:TEXT_QUERIES]]
    units = vectors[rng.choice(len(vectors), min(UNIT_QUERIES, len(vectors)), replace=False)]
    pairs = [texts[rng.choice(len(texts), 2, replace=False)] for _ in range(PAIRS)]
    return {
        "texts": [_terms(text[None]) for text in texts],
        "units": [_terms(unit[None]) for unit in units],
        "pairs of texts": [_terms(pair) for pair in pairs],
    }


class Timed:
    """Answers with the seconds each took."""

    def __init__(self, answers: Sequence[tuple[float, Floats, Any]]) -> None:
        self.seconds = [seconds for seconds, _, _ in answers]
        self.scores = [scores for _, scores, _ in answers]
        self.rows = [rows for _, _, rows in answers]

    def milliseconds(self) -> dict[str, float]:
        """p50 and p95."""
        p50, p95 = np.quantile(self.seconds, (0.5, 0.95)) * 1_000
        return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}

    def recall(self, truth: Timed, tolerance: float = TIE) -> float:
        """Share of the truth's rows that were found; others that score as high as the last of them count."""
        shares = [
            np.mean(scores[: len(best)] >= best[-1] - tolerance) if len(scores) else 0.0
            for scores, best in zip(self.scores, truth.scores, strict=True)
        ]
        return round(float(np.mean(shares)), 4)


def index_figures(
    store: str | None,
    vectors: Floats,
    queries: dict[str, list[Terms]],
    truth: dict[str, Timed],
    texts: Floats,
) -> dict[str, Any]:
    """Build time, size, and time and recall of every kind of query, unfiltered and among one layer."""
    sizes = [len(part) for part in np.array_split(np.arange(len(vectors)), LAYERS)]
    layers = tuple((f"layer{n}", size) for n, size in enumerate(sizes))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        path, lists = Path(folder) / "vectors", Path(folder) / "lists"
        faiss_index.save_blocks([vectors], *vectors.shape, path)
        if store is not None:
            STORES[store].write(vectors, lists)
        built = {"seconds": round(time.perf_counter() - begin, 1), "bytes": size_of(Path(folder))}
        finder = None if store is None else STORES[store].open(lists)
        unit_index = UnitIndex(faiss_index.load(path), layers, finder)
        return {"build": built, **_measured(unit_index, vectors, queries, truth, texts)}


def _measured(
    unit_index: UnitIndex,
    vectors: Floats,
    queries: dict[str, list[Terms]],
    truth: dict[str, Timed],
    texts: Floats,
) -> dict[str, Any]:
    """Time and recall of every kind of query."""
    figures: dict[str, Any] = {}
    one_layer, half = unit_index.in_layers(["layer3"]), np.arange(len(vectors)) % 2 == 0
    for name, asked in queries.items():
        timed = Timed([_searched(unit_index, query) for query in asked])
        figures[name] = {
            "milliseconds": timed.milliseconds(),
            "recall": timed.recall(truth[name]),
            "recall within 0.001": timed.recall(truth[name], NEAR),
            "calibrated": Timed(
                [_searched(unit_index, query, texts=texts) for query in asked]
            ).milliseconds(),
        }
    for name, among in (("texts among a tenth (a layer)", one_layer), ("texts among half", half)):
        quarter = queries["texts"][::4]
        exact = Timed([_brute(vectors, query, among) for query in quarter])
        timed = Timed([_searched(unit_index, query, among) for query in quarter])
        figures[name] = {"milliseconds": timed.milliseconds(), "recall": timed.recall(exact)}
    return figures


def _terms(plus: Floats) -> Terms:
    return Terms(plus, np.zeros((0, plus.shape[1]), np.float32), np.full(len(plus), np.inf, np.float32))


def _searched(
    unit_index: UnitIndex, query: Terms, among: Mask | None = None, texts: Floats | None = None
) -> tuple[float, Floats, Any]:
    begin = time.perf_counter()
    scores, rows = ranked(query, lambda v, n: unit_index.nearest(v, n, among), unit_index.vectors, K)
    if texts is not None:
        vectors = unit_index.vectors(rows)
        calibrated(query, lambda queries: unit_deviations(vectors, queries, texts))
    return time.perf_counter() - begin, scores, rows


def _brute(vectors: Floats, query: Terms, among: Mask | None = None) -> tuple[float, Floats, Any]:
    begin = time.perf_counter()
    scores = query.scores(cosines(vectors))
    if among is not None:
        scores = np.where(among, scores, -np.inf)
    k = min(K, len(scores))
    best = np.argpartition(-scores, k - 1)[:k]
    best = best[np.argsort(-scores[best], kind="stable")]
    return time.perf_counter() - begin, scores[best], best


def table(figures: Figures) -> str:
    """One row per index and kind of query."""
    rows = []
    for name in ("brute force", *figures["settings"]["stores"], "exact"):
        built = figures[name].get("build", {})
        for kind, measured in figures[name].items():
            if kind != "build":
                rows.append(
                    {
                        "index": name,
                        "queries": kind,
                        "p50 ms": measured["milliseconds"]["p50"],
                        "p95 ms": measured["milliseconds"]["p95"],
                        f"recall@{K}": measured.get("recall"),
                        "within 0.001": measured.get("recall within 0.001"),
                        "p50 ms calibrated": measured.get("calibrated", {}).get("p50"),
                        "build s": built.get("seconds"),
                        "bytes": built.get("bytes"),
                    }
                )
    count = figures["settings"]["units"]
    chance = f"{min(1.0, K / count):.1e}, of pairs among {CANDIDATES} candidates {min(1.0, CANDIDATES / count):.1e}"
    return f"{markdown(rows)}\n\n{count} units of {figures['dim']} dimensions; recall by chance {chance}"
