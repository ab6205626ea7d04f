"""Whether a small language model ranks a unit's candidate concepts better than the score that proposed them.

The units are those of the last layer of the small CNN of `bench.small_cnn`, so the right name of unit i is class
i. Its candidates are the best names by the default score from sound alone; the model then says how likely it finds
each after descriptions of the unit's strongest clips: their captions, or, as where clips carry none, the concepts
of AudioSet nearest to their sound. `top_1` is the share of all units whose first candidate is their class, for

    score           the candidates as they were proposed
    similarity      the mean cosine of description and candidate over the same clips, without a language model
    log p           log p(candidate | descriptions), of the whole name
    log p / token   the same by the name's tokens
    calibrated      (log p(candidate | descriptions) - log p(candidate | "something")) / tokens
    mixed           score and calibrated, each standardised over the candidates, added

`chance` is that of candidates in random order, `among` the share of units that have their class among them: no
order can reach more. Captions may name the class; then `similarity` says how easy that makes it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from and_retrieval.benchmark.names import bank_names, own_names, read_aliases
from and_retrieval.checkpoints.bundled import locate
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import ConceptBank, load_bank
from and_retrieval.config import LabelConfig, SummaryConfig, fingerprint
from and_retrieval.explanation.labels import DESCRIBED_BY
from and_retrieval.explanation.scores import label_units
from and_retrieval.language.llm import load_llm
from and_retrieval.language.rank import (
    CANDIDATES,
    ScoringModel,
    build_rank_prompt,
    calibrated,
    content_free,
    likelihoods,
    mixed,
)
from and_retrieval.types import Floats, Ints
from bench import Announce, Figures, markdown
from bench.class_units import ClassUnits, add_home_arguments, class_units, network_sentence, settings
from bench.source import add_source_arguments

MODELS = ("gemma3", "smollm2")
STAND_INS = "audioset"
"""Bank whose concepts describe clips where no caption is used."""

Orders = dict[str, Sequence[Sequence[float]]]
"""Way to rank -> per unit the candidates' values, higher is better."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the names to choose from, how candidates are found, where the network and the index are kept."""
    add_source_arguments(parser)
    parser.add_argument("--own", action="store_true", help="choose among the source's own class names only")
    parser.add_argument("--k", type=int, help="top clips (default: as many as the unit mainly responds to)")
    parser.add_argument(
        "--candidates", type=int, default=CANDIDATES, help=f"per unit (default: {CANDIDATES})"
    )
    add_home_arguments(parser)


def run(
    source: str,
    embedder: str,
    concepts: str,
    aliases: Any,
    own: bool,
    k: int | None,
    candidates: int,
    home: str | None,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures of every way to rank, for both sources of descriptions and both models.

    Raises:
        InputError: Clips without labels, an unknown embedder or bank, an alias file that cannot be read.
    """
    bank, named = load_bank(concepts), read_aliases(aliases)
    units = class_units(source, embedder, home, seed, announce)
    names = own_names(units.classes) if own else bank_names(units.classes, bank.concepts, named)
    vectors = units.embedder.embed_text(names.names)
    labelling = LabelConfig(k=k, count=candidates)
    proposed = label_units(units.index.vectors() @ vectors.T, units.last, names.names, labelling)
    proposals = [[label.concept for label in unit] for unit in proposed]
    truth = [names.names[place] for place in names.classes]
    top = units.last.top.rows[:, : SummaryConfig().clips]
    scores = [[label.score for label in unit] for unit in proposed]
    figures: Figures = {}
    for described, phrases in descriptions(units.index).items():
        orders: Orders = {"similarity": similarities(units, phrases, top, proposals)}
        shown = [[phrases[row] for row in rows if row >= 0] for rows in top]
        seconds: dict[str, float] = {}
        for model in MODELS:
            llm = load_llm(locate(model), model)
            begin = time.perf_counter()
            orders |= by_model(shown, proposals, scores, llm, model)
            seconds[model] = round((time.perf_counter() - begin) / len(proposals), 3)
        figures[described] = {
            "top_1": {way: first(proposals, values, truth) for way, values in orders.items()},
            "seconds_per_unit": seconds,
        }
    return {
        "settings": {
            **settings(units),
            "names": fingerprint(names.names),
            "k": k,
            "candidates": candidates,
            "models": MODELS,
            "prompt": fingerprint(build_rank_prompt(("a", "b"))),
        },
        "data": units.data,
        "network": units.network(),
        "units": len(proposals),
        "names": len(names.names),
        "score": first(proposals, scores, truth),
        "chance": float(
            np.mean([(name in unit) / len(unit) for name, unit in zip(truth, proposals, strict=True)])
        ),
        "among": float(np.mean([name in unit for name, unit in zip(truth, proposals, strict=True)])),
        "described": figures,
    }


def descriptions(index: ClipIndex) -> dict[str, tuple[str, ...]]:
    """Source of the descriptions -> one per clip: its caption where all clips carry one, the nearest concepts."""
    bank: ConceptBank = load_bank(STAND_INS)
    nearest = np.argsort(-(index.vectors() @ index.text_vectors(bank.concepts).T), axis=1, kind="stable")
    stand_ins = tuple(", ".join(bank.concepts[c] for c in row[:DESCRIBED_BY]) for row in nearest)
    captions = tuple(clip.caption or "" for clip in index.clips)
    return ({"captions": captions} if all(captions) else {}) | {"nearest concepts": stand_ins}


def similarities(
    units: ClassUnits, phrases: Sequence[str], top: Ints, proposals: Sequence[Sequence[str]]
) -> list[Floats]:
    """Per unit the mean cosine of its top clips' descriptions with each candidate."""
    texts = sorted({*phrases, *(concept for unit in proposals for concept in unit)})
    vector = dict(zip(texts, units.embedder.embed_text(texts), strict=True))
    return [
        np.stack([vector[c] for c in unit])
        @ np.mean([vector[phrases[row]] for row in rows if row >= 0], axis=0)
        for unit, rows in zip(proposals, top, strict=True)
    ]


def by_model(
    shown: Sequence[Sequence[str]],
    proposals: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
    llm: ScoringModel,
    model: str,
) -> Orders:
    """The ways to rank that ask a language model."""
    log_p = likelihoods(shown, proposals, llm)
    scored = calibrated(log_p, proposals, content_free(proposals, llm))
    return {
        f"{model}: log p": [[one.log_probability for one in unit] for unit in log_p],
        f"{model}: log p / token": [[one.log_probability / one.tokens for one in unit] for unit in log_p],
        f"{model}: calibrated": scored,
        f"{model}: mixed": [mixed(*pair) for pair in zip(scores, scored, strict=True)],
    }


def first(
    proposals: Sequence[Sequence[str]], values: Sequence[Sequence[float]], truth: Sequence[str]
) -> float:
    """Share of the units whose best candidate, the first of equals, is the right one."""
    best = [unit[int(np.argmax(unit_values))] for unit, unit_values in zip(proposals, values, strict=True)]
    return float(np.mean([one == name for one, name in zip(best, truth, strict=True)]))


def table(figures: Figures) -> str:
    """One row per source of descriptions and way to rank, chance and what can be reached beside it."""
    shared = {"chance": figures["chance"], "among": figures["among"]}
    rows = [{"descriptions": "", "ranked by": "score", "top-1": figures["score"], **shared}]
    rows += [
        {"descriptions": described, "ranked by": way, "top-1": share, **shared}
        | {"s per unit": part["seconds_per_unit"].get(way.partition(":")[0])}
        for described, part in figures["described"].items()
        for way, share in part["top_1"].items()
    ]
    told_of = f"{figures['units']} units, {figures['names']} names."
    return f"{network_sentence(figures['network'])} {told_of}\n\n{markdown(rows)}"
