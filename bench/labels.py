"""Whether units that are known to stand for a class are called that, and found by its name.

The small CNN of `bench.small_cnn` is trained on the source's classes, so unit i of its last layer stands for
class i. Its units are labelled by every score from every source of evidence, and the labels are held against
the class names: `top_1` is the share of units whose first label is their class, `top_5` that of units with
their class among the first five. Captions may name the class, so only evidence `audio` says what the embedder
hears. Then every class name is searched among the neuron vectors, of the last layer alone and of the last two
layers: R@k is the share of classes whose unit is among the k nearest. In the hidden layer other units may
answer to a class just as well, so the second is a lower bound.

The neuron vectors are made in four ways: clips weighted by how far the activation exceeds the unit's mean
or all the same, and with the mean of all clip vectors taken off or not. `excess, centred` is the package's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from and_retrieval.benchmark import measures as m
from and_retrieval.benchmark.names import Names, bank_names, own_names, read_aliases
from and_retrieval.concepts import ConceptBank, load_bank
from and_retrieval.config import LabelConfig, fingerprint
from and_retrieval.explanation.labels import EVIDENCE, describe_clips, layer_labels
from and_retrieval.explanation.scores import SCORES
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Floats, Label, LayerEvidence
from bench import Announce, Figures, markdown
from bench.class_units import add_home_arguments, class_units, network_sentence, settings
from bench.source import add_source_arguments

LAYERS = ("hidden_relu", "classes")
TOP = (5, 10, 20)
RANKS = (1, 5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, the names to choose from, where the network and the index are kept."""
    add_source_arguments(parser)
    add_home_arguments(parser)


def run(
    source: str,
    embedder: str,
    concepts: str,
    aliases: Path,
    home: str | None,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures of labels and neuron search on a network trained on the source.

    Raises:
        InputError: Clips without labels, an unknown embedder or bank, an alias file that cannot be read.
    """
    bank, named = load_bank(concepts), read_aliases(aliases)
    units = class_units(source, embedder, home, seed, announce, LAYERS, max(TOP))
    classes, recorded = units.classes, units.run
    layers = {layer.name: layer for layer in recorded.layers}
    vectors = units.index.vectors()
    class_names, wide = own_names(classes), bank_names(classes, bank.concepts, named)
    return {
        "settings": {**settings(units), "concepts": bank.name, "names": fingerprint(wide.names)},
        "data": units.data,
        "network": {
            **units.network(),
            "own_clips": {
                f"top_{k}": own_clips(
                    layers["classes"], [classes.index(c.label or "") for c in units.index.clips], k
                )
                for k in TOP
            },
        },
        "labels": {
            f"{len(names.names)} names ({title})": label_figures(recorded, layers["classes"], names)
            for title, names in (("own", class_names), (bank.name, wide))
        },
        "search": {
            way: search_figures(
                [weighted(layers[name], vectors, excess, centred) for name in LAYERS], queries
            )
            for queries in [units.index.text_vectors(class_names.names)]
            for way, excess, centred in ways()
        },
    }


def own_clips(layer: LayerEvidence, class_of: Sequence[int], k: int) -> dict[str, float]:
    """Share of a class unit's top k clips that are of its class: mean over units, and of the worst unit.

    A unit whose top clips are of another class is rightly called something else: this bounds the labels.
    """
    of_class = np.array(class_of)[layer.top.rows[:, :k]] == np.arange(layer.units)[:, None]
    seen = layer.top.rows[:, :k] >= 0
    share = (of_class & seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return {"mean": round(float(share.mean()), 4), "worst": round(float(share.min()), 4)}


def label_figures(run: Recording, layer: LayerEvidence, names: Names) -> dict[str, Any]:
    """Top-1 and top-5 accuracy of the labels of class units, per evidence, score and number of top clips.

    `k by the unit` is what `explain` does: as many clips as the unit mainly responds to.
    """
    bank = ConceptBank("names", tuple(names.names))
    clips = describe_clips(run.index, bank)
    right = m.one_right(np.array(names.classes), len(names.names))
    figures: dict[str, Any] = {}
    for evidence, (score, scorer) in product(EVIDENCE, SCORES.items()):
        for k in (*TOP, None) if scorer.from_top else (None,):
            config = LabelConfig(score=score, evidence=evidence, k=k, count=5)
            labels = layer_labels(run, layer, clips, bank, config)
            rank = [
                _place(names.names[number], unit) for number, unit in zip(names.classes, labels, strict=True)
            ]
            shown = f"k {k}" if k else "k by the unit" if scorer.from_top else "all clips"
            figures[f"{evidence}, {score}, {shown}"] = {
                f"top_{count}": m.beside(
                    sum(place < count for place in rank) / len(rank), m.chance_recall_at(right, count)
                )
                for count in (1, 5)
            }
    return figures


def _place(name: str, labels: Sequence[Label]) -> float:
    """Place of a name among a unit's labels, from 0; infinite when it is none of them."""
    return next((place for place, label in enumerate(labels) if label.concept == name), math.inf)


def ways() -> list[tuple[str, bool, bool]]:
    """(name, weights by excess, centred) of the ways to make neuron vectors."""
    return [
        (f"{'excess' if excess else 'plain'}, {'centred' if centred else 'not centred'}", excess, centred)
        for excess, centred in product((True, False), repeat=2)
    ]


def weighted(layer: LayerEvidence, vectors: Floats, excess: bool, centred: bool) -> Floats:
    """Neuron vectors [units, dim] of unit length, zero for a unit without top clips (see `recording.unit_index`)."""
    rows, values = layer.top.rows, layer.top.values
    over = np.maximum(np.nan_to_num(values - layer.statistics.mean[:, None]), 0)
    weights = np.where(rows >= 0, over if excess else over > 0, 0).astype(np.float32)
    shifted = vectors - vectors.mean(axis=0) if centred else vectors
    result = np.einsum("uk,ukd->ud", weights, shifted[rows])
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    return np.where(norms > 0, result / np.maximum(norms, 1e-12), 0).astype(np.float32)


def search_figures(parts: Sequence[Floats], queries: Floats) -> dict[str, Any]:
    """R@1 and R@5 of query i finding unit i of the last part, among that part and among all parts."""
    figures: dict[str, Any] = {}
    for title, shown in (("last layer", parts[-1:]), ("last two layers", parts)):
        units = np.concatenate(shown)
        right = m.one_right(np.arange(len(queries)) + len(units) - len(parts[-1]), len(units))
        scores = queries @ units.T
        figures[f"{len(units)} units ({title})"] = {
            f"R@{k}": m.beside(m.recall_at(scores, right, k), m.chance_recall_at(right, k)) for k in RANKS
        }
    return figures


def table(figures: Figures) -> str:
    """One row per way to label, one per way to search, with chance beside each figure."""
    labels = [
        {"labels": title, "score": way, **_beside(pairs)}
        for title, group in figures["labels"].items()
        for way, pairs in group.items()
    ]
    search = [
        {"class name to unit": way, "among": title, **_beside(pairs)}
        for way, group in figures["search"].items()
        for title, pairs in group.items()
    ]
    network = figures["network"]
    trained = f"{network_sentence(network)} Of its class units' top clips are of their class: " + ", ".join(
        f"{share['mean']:.3f} of {name.replace('_', ' ')} (worst unit {share['worst']:.2f})"
        for name, share in network["own_clips"].items()
    )
    return f"{trained}\n\n{markdown(labels)}\n\n{markdown(search)}"


def _beside(pairs: dict[str, Any]) -> dict[str, float]:
    return {
        title: value
        for name, pair in pairs.items()
        for title, value in ((name, pair["measured"]), (f"{name} by chance", pair["chance"]))
    }
