"""The protocol of the paper (AND, ICML 2024, arXiv 2406.16990) on networks of any kind, so that rows can be compared.

The networks know the classes of a labelled source; the small CNN and the small AST are trained on it, others are named
as `record` takes them. Unit i of the layer of class units stands for class i. Three ways to name it:

    DB     by the clips' descriptions: concepts are compared with what is said of the clips (captions, or where a clip
           has none the concepts of AudioSet nearest to its sound), and the unit's activations with either
    TAB    by text and audio: the same with the clips' sound in place of their descriptions
    ICL    a language model is shown what is said of the unit's strongest clips, after worked examples; the paper's
           model writes a name, a model as small as here is asked how likely it finds every name, see `language.rank`

DB and TAB with the five scores of the paper. `top_1` and `top_5` are shares of class units; `cosine` is the mean cosine
in MiniLM's space of the first name and the class (the paper: mpnet); beside each stands what names in random order get.

Then every class of the source is pruned: the units of all other recorded layers that a selector puts first, as many
as `--share` says, are masked, and on held-out clips the change of the class's own mean logit is held against that of
the other classes' (gap: others less own), as in the paper; beside it the same in logits less their mean over all
classes and in probabilities, for units set to zero, as in the paper, and to their mean. The selectors stand for the
paper's: `captions` for DB, `soft-wpmi` for TAB, `open` for its open concepts (OCP); `selective` is the default of
`prune`, `oracle` reads the labels, `random` are as many units of every layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from and_retrieval.benchmark import measures as m
from and_retrieval.benchmark.names import Names, bank_names, classes_of, own_names, read_aliases
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.checkpoints.bundled import locate
from and_retrieval.choices import ABLATIONS
from and_retrieval.concepts import ConceptBank, load_bank
from and_retrieval.config import LabelConfig, RecordConfig, SummaryConfig, fingerprint
from and_retrieval.embed.minilm import sentence_vectors
from and_retrieval.errors import InputError
from and_retrieval.explanation.explain import explain
from and_retrieval.explanation.labels import describe_clips, layer_labels
from and_retrieval.language.llm import load_llm
from and_retrieval.language.rank import ScoringModel, calibrated_scores
from and_retrieval.recording.record import run_name
from and_retrieval.recording.recording import Recording
from and_retrieval.run import record
from and_retrieval.targets import load_target
from and_retrieval.types import LayerEvidence, Target
from bench import Announce, Figures, markdown, nameless, small_ast, small_cnn
from bench.class_units import add_home_arguments, trained_cnn
from bench.prune import network_figures
from bench.ranking import descriptions
from bench.source import add_source_arguments, embedder_of, labelled_index

CNN, AST = "small_cnn", "small_ast"
SCORES = ("cos", "cos-cubed", "rank-reorder", "wpmi", "soft-wpmi")
METHODS = {"DB": "captions", "TAB": "audio"}
SELECTORS = ("captions", "soft-wpmi", "open", "selective", "oracle")
CALLED = {"captions": "captions (DB)", "soft-wpmi": "soft-wpmi (TAB)", "open": "open (OCP)"}
MODEL = "gemma3"
SHARE = 0.05
FIRST = 5
CHANGES = ("delta_target_logit", "delta_rest_logit", "gap_logit", "gap_centred", "gap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the networks, the names to choose from, how many units are pruned, where all is kept."""
    add_source_arguments(parser)
    parser.add_argument(
        "--targets", nargs="+", default=[CNN, AST], metavar="TARGET",
        help=f"{CNN} and {AST} are trained on the source; others as `record` takes them (default: both)",
    )  # fmt: skip
    parser.add_argument(
        "--layers", nargs="+", default=[], metavar="GLOB", help="layers (default: the target's own)"
    )
    parser.add_argument("--llm", default=MODEL, metavar="NAME", help=f"for ICL, or none (default: {MODEL})")
    parser.add_argument(
        "--share", type=float, default=SHARE, help=f"of the units to prune (default: {SHARE:g})"
    )
    add_home_arguments(parser)


def run(
    source: str,
    embedder: str,
    concepts: str,
    aliases: Path,
    targets: Sequence[str],
    layers: Sequence[str],
    llm: str,
    share: float,
    home: str | None,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures of labels and of pruning for every network.

    Raises:
        InputError: Clips without labels, no such embedder, bank, network or layer, or a network without class units.
    """
    index = labelled_index(source, embedder, home, announce)
    classes, bank, named = classes_of(index.clips, source), load_bank(concepts), read_aliases(aliases)
    model = None if llm == "none" else load_llm(locate(llm), llm)
    networks: Figures = {}
    weights = {}
    for name in targets:
        target, accuracy = network(name, source, home, seed, announce)
        config = RecordConfig(device="cpu")
        recorded = record(target, index, layers, config, f"and-{run_name(name)}", announce)
        units = class_layer(recorded, target)
        known = target.class_names or ()
        candidates = {"own": own_names(known), bank.name: bank_names(known, bank.concepts, named)}
        explain(recorded, summaries=SummaryConfig(llm="none"), announce=announce)  # for open concepts
        hidden = [layer.name for layer in recorded.layers if layer.name != units.name]
        pruned = {
            ablate: network_figures(
                recorded, target, classes, SELECTORS, ablate, seed, announce, (share,), hidden
            )
            for ablate in ABLATIONS
        }
        networks[nameless(name)] = {
            "accuracy": accuracy,
            "class_units": units.units,
            "labels": {
                f"{len(names.names)} names ({title})": label_figures(recorded, units, names, model)
                for title, names in candidates.items()
            },
            "pruned": {ablate: _first_budget(figures) for ablate, figures in pruned.items()},
        }
        weights[nameless(name)] = recorded.manifest.weights
    return {
        "settings": {
            **embedder_of(index),
            "weights": weights,
            "names": fingerprint([bank.concepts, named]),
            "labelling": asdict(LabelConfig()),
            "llm": llm,
            "layers": list(layers),
            "share": share,
            "seed": seed,
        },
        "data": clips_digest(index.clips),
        "networks": networks,
    }


def network(
    name: str, source: str, home: str | None, seed: int, announce: Announce
) -> tuple[Target, float | None]:
    """A network by name, and its accuracy on held-out clips where it was trained here; trained ones are used again."""
    if name == CNN:
        target, facts = trained_cnn(source, home, small_cnn.TrainConfig(seed=seed), announce)
        return target, facts.accuracy
    if name == AST:
        place = small_ast.folder(home)
        progress = announce("training", "epochs")
        facts = small_ast.train(source, place, small_ast.TrainConfig(seed=seed), progress)
        return load_target(f"hf:{place.absolute()}"), facts.accuracy
    return load_target(name), None


def class_layer(recorded: Recording, target: Target) -> LayerEvidence:
    """The last recorded layer that has a unit for every class.

    Raises:
        InputError: There is none, or the target has no class names.
    """
    if not target.class_names:
        raise InputError(f"target {target.name!r} has no class names, so nothing is known of its units")
    fitting = [layer for layer in recorded.layers if layer.units == len(target.class_names)]
    if not fitting:
        raise InputError(
            f"no recorded layer of {target.name!r} has a unit for each of its {len(target.class_names)} classes; "
            "name it with --layers, beside the hidden ones"
        )
    return fitting[-1]


@dataclass(frozen=True)
class _Judge:
    """Holds ordered names against the classes."""

    names: Names

    def figures(self, order: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Top-1, top-5 and cosine, each beside chance, of places in `names`, best first, for every class unit."""
        right = m.one_right(np.array(self.names.classes), len(self.names.names))
        vectors = sentence_vectors(self.names.names)
        of_class = vectors[list(self.names.classes)]
        first = [
            float(one @ vectors[unit[0]]) if unit else 0.0 for one, unit in zip(of_class, order, strict=True)
        ]
        top_figures = {
            f"top_{count}": m.beside(
                float(
                    np.mean(
                        [one in unit[:count] for one, unit in zip(self.names.classes, order, strict=True)]
                    )
                ),
                m.chance_recall_at(right, count),
            )
            for count in (1, FIRST)
        }
        return {
            **top_figures,
            "cosine": m.beside(float(np.mean(first)), float((of_class @ vectors.T).mean())),
        }


def label_figures(
    recorded: Recording, layer: LayerEvidence, names: Names, model: ScoringModel | None
) -> dict[str, Any]:
    """Method -> score -> figures of the class units' names; ICL only with a model."""
    bank, judge = ConceptBank("names", names.names), _Judge(names)
    clips = describe_clips(recorded.index, bank)
    place = {name: number for number, name in enumerate(names.names)}
    figures: dict[str, Any] = {}
    for method, evidence in METHODS.items():
        figures[method] = {}
        for score in SCORES:
            config = LabelConfig(score=score, evidence=evidence, count=FIRST)
            labels = layer_labels(recorded, layer, clips, bank, config)
            order = [[place[label.concept] for label in unit] for unit in labels]
            figures[method][score] = judge.figures(order)
    if model is not None:
        figures["ICL"] = {
            described: judge.figures(chosen_by_model(layer, phrases, names, model))
            for described, phrases in descriptions(recorded.index).items()
        }
    return figures


def chosen_by_model(
    layer: LayerEvidence, phrases: Sequence[str], names: Names, model: ScoringModel
) -> list[list[int]]:
    """Places of all names in the order in which the model finds them likely for each unit's strongest clips."""
    top = layer.top.rows[:, : SummaryConfig().clips]
    shown = [[phrases[row] for row in rows if row >= 0] for rows in top]
    scores = calibrated_scores(shown, [names.names] * len(shown), model)
    return [np.argsort(-values, kind="stable").tolist() for values in scores]


def _first_budget(figures: Figures) -> dict[str, Any]:
    """What `prune.network_figures` gives for its only budget."""
    selectors = {name: by_budget[0] for name, by_budget in figures["selectors"].items()}
    return {**figures, "selectors": selectors}


def table(figures: Figures) -> str:
    """One row per way to name class units, one per selector and ablation, chance beside each."""
    labels, pruned, sentences = [], [], []
    for name, part in figures["networks"].items():
        accuracy = "" if part["accuracy"] is None else f", accuracy {part['accuracy']:.3f} on held-out clips"
        sentences.append(f"{name}: {part['class_units']} class units{accuracy}.")
        labels += [
            {"network": name, "among": among, "method": method, "by": way}
            | {
                title: value
                for figure, pair in row.items()
                for title, value in (
                    (figure.replace("_", "-"), pair["measured"]),
                    (f"{figure.replace('_', '-')} by chance", pair["chance"]),
                )
            }
            for among, methods in part["labels"].items()
            for method, ways in methods.items()
            for way, row in ways.items()
        ]
        pruned += [
            {"network": name, "set to": ablate, "units": CALLED.get(selector, selector)}
            | {change.replace("_", " "): row[change] for change in CHANGES}
            for ablate, rows in part["pruned"].items()
            for selector, row in rows["selectors"].items()
        ]
    return "\n\n".join([" ".join(sentences), markdown(labels), markdown(pruned)])
