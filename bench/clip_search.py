"""How fast clips are found among very many, and how many of those that comparing all of them finds.

The index holds the source's clips over and over, each but the first of a kind with a tenth of noise (`many_clips`).
Queries are texts: names of ESC-50 and of the demo set's sounds, drawn at random. `milliseconds` are of one query on
one thread, from its vector to the rows and scores of the ten best clips; recall is the share of the ten best that are
found, ties within 1e-6 counted as found.
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
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import load_bank
from and_retrieval.embed import load_embedder
from and_retrieval.errors import InputError
from and_retrieval.explanation.space import clip_similarity
from and_retrieval.faiss_index import Rows
from and_retrieval.search.query import Query, Terms, embed_query
from and_retrieval.search.search import nearest_clips
from and_retrieval.store import Home
from and_retrieval.types import Floats
from bench import Announce, Figures, markdown
from bench.many_clips import write_many_clips
from bench.search import K, Timed
from bench.source import add_search_arguments, embedder_of, source_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, how many clips and queries, the stores."""
    add_search_arguments(parser)
    parser.add_argument("--clips", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--queries", type=int, default=40, help="number of texts (default: 40)")


def run(
    source: str,
    embedder: str,
    clips: int,
    queries: int,
    home: str | None,
    seed: int,
    announce: Announce,
    stores: Sequence[str] | None = None,
) -> Figures:
    """Figures of comparing all clips, and of every store beside it.

    Raises:
        InputError: The source holds no usable audio, or so few clips are asked for that no store is made.
    """
    stores = stores or ["faiss"]
    index = source_index(source, load_embedder(embedder), home, announce)
    names = sorted({*load_bank("esc50").concepts, *soundbank.CONCEPTS})
    drawn = np.random.default_rng(seed).permutation(len(names))[:queries]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place, threadpool_limits(1):
        for store in stores:
            begin = time.perf_counter()
            folder = Home(Path(place)).index(store)
            write_many_clips(index, folder, clips, store)
            seconds = time.perf_counter() - begin
            many = ClipIndex.open(folder.path, index.embedder)
            if many.finder is None:
                least = f"{faiss_index.APPROXIMATE_FROM:,} moments, or clips where there are no moments"
                raise InputError(f"--clips {clips}: a store is made from {least}, on; give more clips")
            terms = [
                embed_query(Query.parse(names[n]), many, np.zeros((0, many.dim), np.float32)) for n in drawn
            ]
            if not figures:
                truth = _timed(terms, lambda asked, many=many: _of_all(many, asked))
                figures["all compared"] = {"milliseconds": truth.milliseconds()}
            timed = _timed(terms, lambda asked, many=many: nearest_clips(many, asked, K))
            figures[store] = {
                "build": {"seconds": round(seconds, 1)},
                "milliseconds": timed.milliseconds(),
                "recall": timed.recall(truth),
            }
    moments = 0 if many.moments is None else len(many.moments.vectors)
    return {
        "settings": {
            **embedder_of(index), "clips": clips, "queries": queries, "seed": seed, "stores": list(stores),
        },
        "data": clips_digest(index.clips),
        "dim": index.dim,
        "moments": moments,
        **figures,
    }  # fmt: skip


def _timed(terms: Sequence[Terms], answer: Callable[[Terms], tuple[Rows, Floats]]) -> Timed:
    """Answers to all queries, with the seconds each took; the first is asked twice, for the pages it maps."""
    answers = []
    for asked in [terms[0], *terms]:
        begin = time.perf_counter()
        rows, scores = answer(asked)
        answers.append((time.perf_counter() - begin, scores, rows))
    return Timed(answers[1:])


def _of_all(index: ClipIndex, terms: Terms) -> tuple[Rows, Floats]:
    """The clips that match best, all of them compared."""
    scores = terms.scores(lambda queries: clip_similarity(index, queries))
    best = np.argsort(-scores, kind="stable")[:K]
    return best, scores[best]


def table(figures: Figures) -> str:
    """One row per store, and one for comparing all clips."""
    rows = [
        {
            "store": name,
            "p50 ms": figures[name]["milliseconds"]["p50"],
            "p95 ms": figures[name]["milliseconds"]["p95"],
            f"recall@{K}": figures[name].get("recall"),
            "build s": figures[name].get("build", {}).get("seconds"),
        }
        for name in ("all compared", *figures["settings"]["stores"])
    ]
    clips = figures["settings"]["clips"]
    about = f"{clips} clips, {figures['moments']} moments of {figures['dim']} dimensions"
    return f"{markdown(rows)}\n\n{about}; recall by chance {min(1.0, K / clips):.0e}"
