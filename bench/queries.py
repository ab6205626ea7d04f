"""Whether a query finds what is there and is told when nothing listens for it; and how several terms are best joined.

YAMNet is recorded on the source. Of queries for its classes, by name and by held-out clips, some unit should listen;
for sounds that the source does not hold, and for words that are no sound, none should. `heard` is the share of
queries for which any of the ten units found listens, at the package's thresholds and around them; `auc` the area
under the ROC curve of the largest z, 0.5 by chance. The same is asked of the clips in place of units. Beside it stands
the share of the background's own texts (the names of AudioSet) that are heard: of names drawn without regard to what
the source holds. Absent sounds and words are listed in `absent.csv`; a class that the embedder cannot hear counts as a
miss, too.

How terms are joined is judged by the ten units found first: the mean area under the ROC curve of their activations on
held-out clips. For `A and B` it is the lesser of A's and B's, both against the clips of neither; for `A without B`
clips of A stand against those of B, and against all others. Only classes that some unit listens for take part.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from and_retrieval.benchmark.names import classes_of, own_names
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.config import RecordConfig, fingerprint
from and_retrieval.errors import InputError
from and_retrieval.explanation.space import centred_background, clip_centre, concept_directions
from and_retrieval.numerics import centred
from and_retrieval.recording.activations import HELD_OUT
from and_retrieval.recording.recording import Recording
from and_retrieval.run import record
from and_retrieval.search.thresholds import (
    clip_deviations,
    index_thresholds,
    run_thresholds,
    unit_deviations,
)
from and_retrieval.targets import load_target
from and_retrieval.types import Floats
from bench import Announce, Figures, markdown
from bench.source import add_absent_arguments, embedder_of, labelled_index

ABSENT = Path(__file__).parent / "absent.csv"
K = 10
PAIRS = 600
AROUND = (0.5, 0.67, 0.83, 1.0, 1.17, 1.33)  # times the thresholds
Array = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, what it does not hold, sounds that are not of it, the embedder, where the index is kept."""
    add_absent_arguments(parser)
    parser.add_argument("--embedder", default="embedded", metavar="NAME", help="default: embedded")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs drawn (default: 0)")


def run(
    source: str, set: str, others: str | None, embedder: str, home: str | None, seed: int, announce: Announce
) -> Figures:
    """Figures of queries that should and should not be heard, and of the ways to join terms.

    Raises:
        InputError: Clips without labels.
    """
    foreign = labelled_index(others, embedder, home, announce) if others else None
    absent = vectors_of(foreign, listed_absent(set, "sound")) if foreign else None
    index = labelled_index(source, embedder, home, announce)
    recorded = record(load_target("yamnet"), index, (), RecordConfig(device="cpu"), "queries", announce)
    texts = {kind: listed_absent(set, kind) for kind in ("text", "nonsense")}
    names = own_names(classes_of(index.clips, source)).names
    held = index.vectors()[recorded.held_out_rows]
    needs, of_clips = run_thresholds(recorded), clip_centre(index)
    asked = {
        "classes": concept_directions(index, names),
        "absent": concept_directions(index, texts["text"]),
        "nonsense": concept_directions(index, texts["nonsense"]),
        "background": centred_background(index),
    }
    sounds = {"held-out clips": centred(held, of_clips)}
    if absent is not None:
        sounds["absent"] = centred(absent, of_clips)
    best = {
        **{f"texts: {name}": best_share(recorded, of, needs.text) for name, of in asked.items()},
        **{f"sounds: {name}": best_share(recorded, of, needs.sound) for name, of in sounds.items()},
        **{f"clips by texts: {name}": best_clip_share(index, of) for name, of in asked.items()},
    }
    return {
        "settings": {
            **embedder_of(index), "set": set, "seed": seed,
            "absent": fingerprint(ABSENT.read_text()), "needs": [round(needs.text, 3), round(needs.sound, 3)],
            "others": clips_digest(foreign.clips) if foreign else None,
        },
        "data": clips_digest(index.clips),
        "heard": {name: heard_figures(shares, name, best) for name, shares in best.items()},
        "joined": joined_figures(recorded, concept_directions(index, names), seed),
    }  # fmt: skip


def best_share(run: Recording, vectors: Floats, needs: float) -> Floats:
    """Per query, the largest z among the ten units found, over what it needs: from 1 on, a unit listens."""
    texts = centred_background(run.index)
    shares = []
    for vector in vectors:
        _, rows = run.unit_index.nearest(vector, K)
        z = unit_deviations(run.unit_index.vectors(rows), vector[None], texts)
        shares.append(float(z.max()) / needs)
    return np.array(shares, np.float32)


def best_clip_share(index: ClipIndex, vectors: Floats) -> Floats:
    """The same of the clips of an index in place of units, all of which are looked at."""
    z = clip_deviations(index, vectors, np.arange(len(index.clips)))
    shares: Floats = z.max(axis=0) / np.float32(index_thresholds(index).text)
    return shares


def heard_figures(shares: Floats, name: str, best: dict[str, Floats]) -> dict[str, Any]:
    """Share of the queries heard, at the thresholds and around them, and their distance from those that should be."""
    kind = name.partition(":")[0]
    right = next(other for other in best if other.startswith(kind))
    figures: dict[str, Any] = {
        "queries": len(shares),
        "heard": round(float((shares >= 1).mean()), 4),
        "around": {f"{times:g}": round(float((shares >= times).mean()), 4) for times in AROUND},
    }
    if name != right:
        figures["auc"] = round(float((best[right][:, None] > shares[None]).mean()), 4)
    return figures


def joined_figures(run: Recording, texts: Floats, seed: int) -> dict[str, Any]:
    """Mean area under the ROC curve of the units found first, per way to join two terms; chance is 0.5."""
    vectors = run.unit_index.vectors(np.arange(run.unit_index.faiss.ntotal))
    held = [run.index.clips[row].label for row in run.held_out_rows]
    classes = classes_of(run.index.clips, run.name)
    of = np.array([classes.index(label or "") for label in held])
    activations = np.concatenate(
        [run.activations(layer.name, HELD_OUT).astype(np.float32) for layer in run.layers], axis=1
    )
    cosines = texts @ vectors.T
    present = np.flatnonzero(
        (best_share(run, texts, run_thresholds(run).text) >= 1) & np.isin(np.arange(len(classes)), of)
    )
    pairs = list(permutations(present.tolist(), 2))
    if len(pairs) > PAIRS:
        drawn = np.random.default_rng(seed).choice(len(pairs), PAIRS, replace=False)
        pairs = [pairs[number] for number in drawn]

    def first(scores: Floats) -> Array:
        return np.argsort(-scores, kind="stable")[:K]

    def area(units: Array, right: int, *wrong: int) -> Array:
        chosen = np.isin(of, [right, *wrong])
        return roc_areas(activations[chosen][:, units], of[chosen] == right)

    every = range(len(classes))
    joins: dict[str, Callable[[int, int], Floats]] = {
        "A alone": lambda a, _: cosines[a],
        "A and B: least": lambda a, b: np.minimum(cosines[a], cosines[b]),
        "A and B: sum": lambda a, b: cosines[a] + cosines[b],
        "A without B: less where above 0": lambda a, b: cosines[a] - np.maximum(cosines[b], 0),
        "A without B: difference": lambda a, b: cosines[a] - cosines[b],
        "A without B: projection": lambda a, b: cosines[a] - (texts[a] @ texts[b]) * cosines[b],
    }
    figures: dict[str, Any] = {"pairs": len(pairs), "classes": len(present)}
    for way, join in joins.items():
        sums = np.zeros(3)
        for a, b in pairs:
            units = first(join(a, b))
            rest = [c for c in every if c not in (a, b)]
            both = np.minimum(area(units, a, *rest), area(units, b, *rest))
            against = area(units, a, *(c for c in every if c != a))
            sums += both.mean(), area(units, a, b).mean(), against.mean()
        both, versus, against = (sums / max(1, len(pairs))).round(4).tolist()
        figures[way] = {
            "A and B against the rest": both,
            "A against B": versus,
            "A against all others": against,
        }
    return figures


def roc_areas(values: Floats, right: npt.NDArray[np.bool_]) -> Array:
    """Area under the ROC curve of every column, float64 [units]."""
    ranks = rankdata(values, axis=0)
    hits, misses = int(right.sum()), int((~right).sum())
    areas: Array = (ranks[right].sum(axis=0) - hits * (hits + 1) / 2) / (hits * misses)
    return areas


def listed_absent(chosen: str, kind: str) -> list[str]:
    """The rows of `absent.csv` of a set and a kind: labels of absent sounds (sound), names (text), or nonsense."""
    with ABSENT.open(newline="", encoding="utf-8") as stream:
        return [
            row["text"]
            for row in csv.DictReader(stream)
            if row["set"] in (chosen, "any") and row["kind"] == kind
        ]


def vectors_of(index: ClipIndex, classes: Sequence[str]) -> Floats:
    """Vectors of the clips of some classes, float32 [clips, dim].

    Raises:
        InputError: The index holds none of them.
    """
    chosen = [row for row, clip in enumerate(index.clips) if clip.label in classes]
    if not chosen:
        raise InputError(f"--others holds none of the classes {', '.join(classes)}; give another source")
    return index.vectors()[chosen]


def table(figures: Figures) -> str:
    """What is heard, and the ways to join."""
    heard = [
        {
            "queries": name,
            "number": row["queries"],
            "heard": row["heard"],
            "auc": row.get("auc"),
            **{f"at x{times}": share for times, share in row["around"].items()},
        }
        for name, row in figures["heard"].items()
    ]
    joined = [{"": way, **row} for way, row in figures["joined"].items() if isinstance(row, dict)]
    return f"{markdown(heard)}\n\n{markdown(joined)}"
