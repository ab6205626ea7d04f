"""How far labels predict the units of a run on the clips held out of its evidence, and what nonsense would get.

Labels are made from the run's evidence and measured by `and_retrieval.faithful` on the held-out clips, clips of
one file dealt out together. Beside every figure stands what labels drawn at random score, on average and at best
among ten. Beside the share of units with a reliable label stands the same share

- for labels drawn at random,
- with the activations shuffled over clips, seen and held-out ones, and labels made anew: the mean over
  some shuffles, and the most of any. All units are shuffled alike, so they go with each other as before;
- for as many units of normal noise, labelled in the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from and_retrieval import faithful
from and_retrieval.clip_index import ClipIndex
from and_retrieval.concepts import ConceptBank, load_bank, merge_banks
from and_retrieval.config import LabelConfig
from and_retrieval.errors import InputError
from and_retrieval.evidence import HELD_OUT, SEEN, load_activations
from and_retrieval.faithful import Faithfulness, faithfulness
from and_retrieval.label import label_units
from and_retrieval.run_trust import held_out_files
from and_retrieval.runs import RecordedRun
from and_retrieval.store import Home
from and_retrieval.topk import RunningMoments, RunningTopK
from and_retrieval.types import Floats, Ints, LayerEvidence
from bench import Announce, Figures, markdown
from bench.source import digest

MEASURES = ("top_correlation", "correlation", "auprc")
Array = npt.NDArray[Any]
Shuffle = Callable[[Floats], Floats]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, the names to choose from, how labels are made, how often is shuffled."""
    labelling = LabelConfig()
    parser.add_argument("run", metavar="NAME/RUN", help="a recorded run")
    parser.add_argument("--home", metavar="DIR", help="folder of all indexes (default: ./index)")
    parser.add_argument(
        "--concepts", nargs="+", default=["audioset"], metavar="BANK|FILE", help="default: audioset"
    )
    parser.add_argument("--score", default=labelling.score, help=f"default: {labelling.score}")
    parser.add_argument("--k", type=int, default=labelling.k, help=f"top clips (default: {labelling.k})")
    parser.add_argument("--labels", type=int, default=1, help="labels a unit is predicted by (default: 1)")
    parser.add_argument("--shuffles", type=int, default=10, help="default: 10")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def run(
    run: str,
    home: str | None,
    concepts: list[str],
    score: str,
    k: int,
    labels: int,
    shuffles: int,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures of every layer of a run.

    Raises:
        InputError: No such run, bank or score, or the run holds no clips out.
        StaleError: The run does not belong to its index any more.
    """
    name, _, run_name = run.partition("/")
    folders = Home.find(home)
    index = ClipIndex.open(folders.require_index(name).path)
    recorded = RecordedRun.open(folders.require_run(name, run_name), index)
    if not recorded.facts["held_out"]:
        raise InputError(f"{run} holds no clips out; record it with --hold-out 0.2")
    bank = merge_banks([load_bank(concept) for concept in concepts])
    labelling = LabelConfig(score=score, k=k, count=labels)
    clips = _clips(recorded, index.vectors() @ index.embedder().embed_text(bank.concepts).T)
    layers: Figures = {}
    progress = announce("measuring", "layers")
    for number, layer in enumerate(recorded.layers):
        layers[layer.name] = _layer_figures(recorded, layer, clips, bank, labelling, shuffles, seed)
        progress(number + 1, len(recorded.layers))
    return {
        "settings": {
            "target": recorded.facts["target"],
            "weights": recorded.facts["weights"],
            "embedder": index.embedder_name,
            "fingerprint": index.embedder_fingerprint,
            "concepts": bank.name,
            "labelling": asdict(labelling),
            "shuffles": shuffles,
            "seed": seed,
        },
        "data": digest(index.clips),
        "clips": {SEEN: len(clips.seen), HELD_OUT: len(clips.held_out)},
        "layers": layers,
    }


@dataclass(frozen=True)
class _Clips:
    """Similarity float32 [clips, concepts] of all clips, rows of either part, groups of the held-out ones."""

    similarity: Floats
    seen: Ints
    held_out: Ints
    groups: Ints


def _clips(recorded: RecordedRun, similarity: Floats) -> _Clips:
    rows = (np.array(rows, np.int32) for rows in (recorded.seen_rows(), recorded.facts["held_out_rows"]))
    return _Clips(similarity, *rows, held_out_files(recorded).astype(np.int32))


def _layer_figures(
    recorded: RecordedRun,
    layer: LayerEvidence,
    clips: _Clips,
    bank: ConceptBank,
    labelling: LabelConfig,
    shuffles: int,
    seed: int,
) -> dict[str, Any]:
    seen, held_out = (
        np.asarray(load_activations(recorded.folder, layer.name, part), dtype=np.float32)
        for part in (SEEN, HELD_OUT)
    )
    top_k = layer.top.rows.shape[1]

    def measured(columns: Array, activations: Floats) -> Faithfulness:
        return faithfulness(
            activations, clips.similarity[clips.held_out], columns, groups=clips.groups, seed=seed
        )

    def control(change: Shuffle) -> float:
        evidence = _evidence(layer, clips.seen, change(seen), top_k)
        columns = _columns(clips.similarity, evidence, bank, labelling)
        return float(measured(columns, change(held_out)).reliable.mean())

    columns = _columns(clips.similarity, layer, bank, labelling)
    result = measured(columns, held_out)
    rng = np.random.default_rng(seed)
    at_random = np.where(columns >= 0, rng.integers(0, len(bank.concepts), columns.shape), -1)
    shuffled = [control(_shuffle(seed + 1 + number)) for number in range(shuffles)]
    return {
        "units": layer.units,
        "labelled": int((columns >= 0).any(axis=1).sum()),
        "reliable": {
            "measured": float(result.reliable.mean()),
            "random_labels": float(measured(at_random, held_out).reliable.mean()),
            "shuffled": float(np.mean(shuffled)) if shuffled else None,
            "shuffled_most": max(shuffled, default=None),
            "noise": control(_noise(seed)),
        },
        "passes_permutation_test": {"measured": float(np.mean(result.q_value <= faithful.LEVEL))},
        **{measure: _beside(result, measure) for measure in MEASURES},
        "base_rate": float(np.nanmean(result.base_rate)),
    }


def _beside(result: Faithfulness, measure: str) -> dict[str, float]:
    """Means over the units that have the figure."""
    ways = {
        "measured": measure,
        "random": f"random_{measure}",
        f"best_of_{faithful.BEST_OF}": f"best_of_n_{measure}",
    }
    return {way: float(np.nanmean(getattr(result, field))) for way, field in ways.items()}


def _columns(similarity: Floats, layer: LayerEvidence, bank: ConceptBank, labelling: LabelConfig) -> Array:
    """Labels as columns of `similarity`, int64 [units, labels], -1 for none."""
    place = {concept: column for column, concept in enumerate(bank.concepts)}
    columns = np.full((layer.units, labelling.count), -1)
    for unit, labels in enumerate(label_units(similarity, layer, bank.concepts, labelling)):
        columns[unit, : len(labels)] = [place[label.concept] for label in labels]
    return columns


def _evidence(layer: LayerEvidence, rows: Ints, activations: Floats, top_k: int) -> LayerEvidence:
    """Evidence of other activations [clips, units] of the same clips."""
    read = ~np.isnan(activations).all(axis=1)
    values, nowhere = activations[read], np.zeros_like(activations[read])
    ends = [RunningTopK(layer.units, top_k, largest=largest) for largest in (True, False)]
    for end in ends:
        end.update(rows[read], values, nowhere)
    moments = RunningMoments(layer.units)
    moments.update(values)
    top, low = (end.kept() for end in ends)
    return LayerEvidence(layer.name, layer.pooling, top, low, moments.moments())


def _shuffle(seed: int) -> Shuffle:
    rng = np.random.default_rng(seed)
    return lambda activations: rng.permutation(activations, axis=0)


def _noise(seed: int) -> Shuffle:
    rng = np.random.default_rng(seed)
    return lambda activations: rng.standard_normal(activations.shape, dtype=np.float32)


def table(figures: Figures) -> str:
    """Per layer the share of reliable labels with its controls, then every measure with its baselines."""
    layers = figures["layers"].items()
    reliable = [
        {
            "layer": name,
            "units": layer["units"],
            "permutation test passed": layer["passes_permutation_test"]["measured"],
        }
        | {f"reliable: {way.replace('_', ' ')}": share for way, share in layer["reliable"].items()}
        for name, layer in layers
    ]
    measures = [
        {"layer": name, "measure": measure.replace("_", " "), **layer[measure]}
        | ({"base rate": layer["base_rate"]} if measure == "auprc" else {})
        for name, layer in layers
        for measure in MEASURES
    ]
    clips = figures["clips"]
    told = f"Labels from {clips[SEEN]} clips, measured on {clips[HELD_OUT]} others."
    return f"{told}\n\n{markdown(reliable)}\n\n{markdown(measures)}"
