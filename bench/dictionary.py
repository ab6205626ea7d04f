"""What a learned dictionary's features say beside the units they are made of, and beside random directions.

A sparse autoencoder is trained on a layer's outputs at single positions (`bench.small_dictionary`), on the clips that
are not held out. Layer, features, and as many random directions, as sparse, are recorded and explained alike:

- variance of held-out clips' outputs that the dictionary explains, beside the best linear one of as many numbers;
- share of features that respond to the seen clips differently at all;
- share with a reliable label, faithfulness and polysemanticity as in `compare`, with 95 % intervals over units.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np

from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.comparison.profile import LayerProfile, profile
from and_retrieval.comparison.statistics import Interval
from and_retrieval.concepts import load_bank
from and_retrieval.config import LabelConfig, RecordConfig, SummaryConfig
from and_retrieval.explanation.explain import explain
from and_retrieval.network.dictionary import FEATURES, NAME, Dictionary, attach
from and_retrieval.network.layers import plan_layers
from and_retrieval.run import Run, record
from and_retrieval.targets import load_target
from bench import Announce, Figures, markdown
from bench.class_units import add_home_arguments
from bench.small_dictionary import (
    LAYER,
    TrainConfig,
    layer_vectors,
    linear_variance_explained,
    parted,
    random_dictionary,
    train,
    variance_explained,
)
from bench.source import add_clip_arguments, embedder_of, labelled_index

UNITS, LEARNED, RANDOM = "units", "learned features", "random directions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the layer, the dictionary's size, how labels are made, where all is kept."""
    training = TrainConfig()
    add_clip_arguments(parser)
    parser.add_argument("--target", default="yamnet", metavar="TARGET", help="default: yamnet")
    parser.add_argument("--layer", default=LAYER, help=f"default: {LAYER}")
    parser.add_argument(
        "--features", type=int, default=training.features, help=f"default: {training.features}"
    )
    parser.add_argument(
        "--k", type=int, default=training.k, help=f"features a position (default: {training.k})"
    )
    parser.add_argument("--concepts", default="audioset", metavar="BANK|FILE", help="default: audioset")
    parser.add_argument("--top", type=int, help="top clips (default: as many as the unit mainly responds to)")
    add_home_arguments(parser)


def run(
    source: str,
    embedder: str,
    target: str,
    layer: str,
    features: int,
    k: int,
    concepts: str,
    top: int | None,
    home: str | None,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures of the layer, of the dictionary trained on it and of a random one.

    Raises:
        InputError: Clips without labels, or no such embedder, network, layer or bank.
    """
    index = labelled_index(source, embedder, home, announce)
    training = TrainConfig(seed=seed, features=features, k=k)
    bare = load_target(target)
    plan = plan_layers(bare, (layer,))[0]
    recording = _recording_config(top)
    plain = record(bare, index, (layer,), recording, "dictionary-units", announce)
    out = np.isin(np.arange(len(index.clips)), plain.held_out_rows)
    seen, unseen = (
        layer_vectors(bare, plan, part, announce("listening", "clips")) for part in parted(index.clips, out)
    )
    learned = train(seen, training, announce("training", "steps"))
    dictionaries = {LEARNED: learned, RANDOM: random_dictionary(seen, training)}
    bank = load_bank(concepts)
    texts = index.text_vectors(bank.concepts)
    rows: Figures = {}
    for name in (UNITS, LEARNED, RANDOM):
        recorded, variance = plain, None
        if name != UNITS:
            recorded = _recorded(index, target, layer, dictionaries[name], name, recording, announce)
            variance = round(variance_explained(dictionaries[name], unseen), 4)
        explained = explain(recorded, [bank], LabelConfig(k=top), SummaryConfig(llm="none"), announce)
        moments = recorded.layers[0].statistics
        alive = round(float((moments.high > moments.low).mean()), 4)
        layer_profile = profile(explained, index.vectors() @ texts.T)[0]
        rows[name] = {"variance_explained": variance, "alive": alive, **_plain(layer_profile)}
    return {
        "settings": {
            "target": plain.manifest.weights,
            "layer": layer,
            **embedder_of(index),
            "concepts": bank.name,
            "training": asdict(training),
            "top": top,
        },
        "data": clips_digest(index.clips),
        "vectors": len(seen),
        "linear_variance_explained": round(linear_variance_explained(seen, unseen, k), 4),
        "layers": rows,
    }


def _recording_config(top: int | None) -> RecordConfig:
    return RecordConfig(device="cpu") if top is None else RecordConfig(top_k=top, device="cpu")


def _recorded(
    index: Any,
    target: str,
    layer: str,
    dictionary: Dictionary,
    name: str,
    config: RecordConfig,
    announce: Announce,
) -> Run:
    with_it = attach(load_target(target), layer, dictionary)
    return record(
        with_it, index, (f"{layer}.{NAME}.{FEATURES}",), config, f"dictionary-{name.split()[0]}", announce
    )


def _plain(layer_profile: LayerProfile) -> dict[str, Any]:
    figures = asdict(layer_profile)
    del figures["counted"], figures["name"]
    return figures


def table(figures: Figures) -> str:
    """A row for the units, one for the learned features, one for random directions."""
    rows = []
    for name, row in figures["layers"].items():
        rows.append(
            {
                "": f"{row['units']} {name}",
                "variance explained": row["variance_explained"],
                "alive": row["alive"],
                "reliable": _told(row["reliable"]),
                "correlation": _told(row["correlation"]),
                "best of ten random labels": row["best_correlation"],
                "polysemanticity": _told(row["polysemanticity"]),
                "of random clips": row["random_polysemanticity"],
                "concepts": f"{row['concepts']} ({row['effective_concepts']:.1f})",
            }
        )
    linear = figures["linear_variance_explained"]
    k = figures["settings"]["training"]["k"]
    return (
        f"{markdown(rows)}\n\nVariance of held-out clips; the best {k} directions of the seen ones explain "
        f"{linear:.3f}. Brackets: 95 % over units; of concepts: effective number."
    )


def _told(interval: dict[str, float] | None) -> str:
    known = Interval(**interval) if interval else None  # type: ignore[arg-type]
    return f"{known.value:.2f} [{known.low:.2f}, {known.high:.2f}]" if known else ""
