"""Whether a network loses a class when the units that a selector names are masked, and what else it loses.

Two networks, with the classes of a labelled source as concepts: the small CNN trained on them (the last two hidden
layers) and YAMNet (its last two pointwise layers; a class is the AudioSet classes near to its name). Units are
chosen on seen clips, masked at four budgets, and measured on the held-out fold. `gap` is the change of the other
classes' mean probability less that of the class itself, so 0 is what chance does and 1 the most there is; `gap_logit`
is the same in logits, `gap_centred` in logits less their mean over all classes. Beside every selector stand random
units, as many of each layer as `selective` takes, and the oracle, which reads labels. `--ablate mean` masks units with
their mean over the seen clips in place of zero.

Nothing is fitted to these classes; that scores compare between layers as they are, and not standardised per layer, was
decided by a look at them (the two differ by 0.01 in the mean gap). Captions that name the class make `captions` the
same as the oracle.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from and_retrieval.benchmark.names import classes_of
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.choices import ABLATIONS
from and_retrieval.concepts import load_bank
from and_retrieval.config import DEFAULT_ABLATION, RecordConfig, SummaryConfig
from and_retrieval.explanation.explain import explain
from and_retrieval.pruning.ablation import constants_of
from and_retrieval.pruning.concept_clips import matched_clips, run_logits
from and_retrieval.pruning.effect import Choice, Effect, best_units, effect, random_units, units_for
from and_retrieval.pruning.matching import Vocabulary
from and_retrieval.pruning.prune import BACKGROUND
from and_retrieval.pruning.selection import layer_vectors, unit_scores, wanted_concepts
from and_retrieval.pruning.selectors import SELECTORS
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.target import recorded_plans
from and_retrieval.run import record
from and_retrieval.targets import load_target
from and_retrieval.types import Target
from bench import Announce, Figures, markdown, small_cnn
from bench.class_units import trained_cnn
from bench.source import embedder_of, labelled_index

BUDGETS = (0.03, 0.06, 0.12, 0.25)
NETWORKS = {
    "small_cnn": ("block4", "hidden_relu"),
    "yamnet": ("layer13.pointwise_conv.relu", "layer14.pointwise_conv.relu"),
}
DRAWS = 5
MARK = 0.85  # of the oracle's gap
FIGURES = (
    "gap", "gap_logit", "gap_centred", "delta_target", "delta_rest", "delta_target_logit", "delta_rest_logit",
    "accuracy_target", "accuracy_rest",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the networks, where they and the index are kept."""
    parser.add_argument("source", metavar="SOURCE", help="labelled folder of folders, glob or CSV")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: both"
    )
    parser.add_argument(
        "--selectors", nargs="+", choices=SELECTORS, default=list(SELECTORS), help="default: all"
    )
    parser.add_argument(
        "--ablate", choices=ABLATIONS, default=DEFAULT_ABLATION, help=f"default: {DEFAULT_ABLATION}"
    )
    parser.add_argument("--embedder", default="embedded", metavar="NAME", help="default: embedded")
    parser.add_argument(
        "--home", metavar="DIR", help="folder of the index and the network (default: ./index)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of training and of the random units (default: 0)"
    )


def run(
    source: str,
    networks: Sequence[str],
    selectors: Sequence[str],
    ablate: str,
    embedder: str,
    home: str | None,
    seed: int,
    announce: Announce,
) -> Figures:
    """Gaps per network, selector and budget.

    Raises:
        InputError: Clips without labels, or an unknown embedder.
    """
    index = labelled_index(source, embedder, home, announce)
    classes = classes_of(index.clips, source)
    training = small_cnn.TrainConfig(seed=seed)
    figures: Figures = {}
    for name in networks:
        if name == "small_cnn":
            target, _ = trained_cnn(source, home, training, announce)
        else:
            target = load_target(name)
        recorded = record(
            target, index, NETWORKS[name], RecordConfig(device="cpu"), f"prune-{name}", announce
        )
        explain(recorded, summaries=SummaryConfig(llm="none"), announce=announce)  # for open concepts
        figures[name] = network_figures(recorded, target, classes, selectors, ablate, seed, announce)
    return {
        "settings": {
            **embedder_of(index),
            "networks": list(networks),
            "selectors": list(selectors),
            "ablate": ablate,
            "budgets": list(BUDGETS),
            "draws": DRAWS,
            "seed": seed,
            "training": asdict(training),
        },
        "data": clips_digest(index.clips),
        **figures,
    }


def network_figures(
    run: Recording,
    target: Target,
    classes: Sequence[str],
    selectors: Sequence[str],
    ablate: str,
    seed: int,
    announce: Announce,
    budgets: Sequence[float] = BUDGETS,
    layers: Sequence[str] = (),
) -> Figures:
    """Per selector and budget the figures of every class, and their means."""
    sizes = {layer.name: layer.units for layer in run.layers if not layers or layer.name in layers}
    counts = [units_for(budget, sum(sizes.values())) for budget in budgets]
    bank, rng = load_bank(BACKGROUND), np.random.default_rng(seed)
    concepts = [label.replace("_", " ") for label in classes]
    vocabulary = Vocabulary.of(
        [*bank.concepts, *classes, *(target.class_names or ())], run.index.text_vectors
    )
    matched = {concept: matched_clips(run, target, [concept], vocabulary) for concept in concepts}
    vectors = layer_vectors(run)
    masks: dict[tuple[str, str, int, int], Choice] = {}
    progress = announce("selecting", "classes")
    for done, concept in enumerate(concepts):
        wanted = wanted_concepts(run, [concept], bank, matched[concept].labelled)
        for name in {"selective": None, **dict.fromkeys(selectors)}:
            scores = unit_scores(run, vectors, wanted, SELECTORS[name], list(sizes))
            for place, count in enumerate(counts):
                masks[concept, name, place, 0] = best_units(scores, count)
        for place in range(len(counts)):
            for draw in range(DRAWS):
                like = masks[concept, "selective", place, 0]
                masks[concept, "random", place, draw] = random_units(like, sizes, rng)
        progress(done + 1, len(concepts))
    every = next(iter(matched.values()))
    rows = every.of(run.held_out_rows)
    units = [{layer: numbers.tolist() for layer, numbers in mask.items()} for mask in masks.values()]
    plans = recorded_plans(run.manifest.layers, target, sizes)
    logits, order = run_logits(
        run, target, plans, rows, units, progress=announce("masking", "clips"),
        constants=constants_of(ablate, run, target, plans),
    )  # fmt: skip
    concept_figures: dict[tuple[str, int], dict[str, list[dict[str, float]]]] = {}
    for (concept, name, place, _), after in zip(masks, logits[1:], strict=True):
        clips = matched[concept]
        change = effect(logits[0], after, clips.truth[order], clips.is_target[order], clips.known)
        figures = {figure: float(getattr(change, figure)) for figure in FIGURES}
        concept_figures.setdefault((name, place), {}).setdefault(concept, []).append(figures)
    return {
        "units": sizes,
        "clips": len(order),
        "classes": {concept: one.name for concept in concepts if (one := matched[concept].classes[0])},
        "before": _before(
            effect(logits[0], logits[0], every.truth[order], every.is_target[order], every.known)
        ),
        "selectors": {
            name: [_means(concept_figures[name, place], concepts) for place in range(len(counts))]
            for name in (*selectors, "random")
        },
    }


def _before(nothing: Effect) -> dict[str, float]:
    """Mean over classes of the effect of masking nothing: how things were."""
    return {
        "probability": float(np.mean([one.probability_before for one in nothing.classes])),
        "accuracy": float(np.mean([one.accuracy_before for one in nothing.classes])),
    }


def _means(of_classes: Mapping[str, list[dict[str, float]]], concepts: Sequence[str]) -> dict[str, Any]:
    """Means over the classes, and the gap of each."""
    per_class = {
        concept: {figure: float(np.mean([one[figure] for one in of_classes[concept]])) for figure in FIGURES}
        for concept in concepts
    }
    return {
        **{figure: float(np.mean([one[figure] for one in per_class.values()])) for figure in FIGURES},
        "per_class": {concept: one["gap"] for concept, one in per_class.items()},
    }


def table(figures: Figures) -> str:
    """Per network one row a selector: the gap at every budget, its mean, and its share of the oracle's."""
    parts = []
    for name, network in figures.items():
        if name not in NETWORKS:
            continue
        oracle = network["selectors"].get("oracle")
        rows = [
            {"selector": selector}
            | {f"gap at {budget:.0%}": one["gap"] for budget, one in zip(BUDGETS, by_budget, strict=True)}
            | {"mean": _mean(by_budget, "gap")}
            | ({"of the oracle's": _mean(by_budget, "gap") / _mean(oracle, "gap")} if oracle else {})
            | {"mean, logits": _mean(by_budget, "gap_logit")}
            | {"mean, centred logits": _mean(by_budget, "gap_centred")}
            | {"accuracy of the rest at 12%": by_budget[2]["accuracy_rest"]}
            for selector, by_budget in network["selectors"].items()
        ]
        before = network["before"]
        heading = (
            f"{name}: {', '.join(f'{units} units of {layer}' for layer, units in network['units'].items())}; "
            f"{network['clips']} held-out clips, before: mean probability of the own class "
            f"{before['probability']:.3f}, accuracy {before['accuracy']:.3f}"
        )
        parts.append(f"{heading}\n\n{markdown(rows)}")
    return "\n\n".join(parts) + f"\n\nMark: selective reaches {MARK:.0%} of the oracle's gap."


def _mean(by_budget: Sequence[Mapping[str, Any]], figure: str) -> float:
    return float(np.mean([one[figure] for one in by_budget]))
