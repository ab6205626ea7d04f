"""How far labels predict units on the clips held out of their evidence, and what nonsense would get.

The clips of a labelled source are shown to networks: the small CNN trained on it, whose held-out clips are those
kept out of the evidence, and YAMNet, or others that are named. Labels are made from sound and measured by
`explanation.faithfulness` on the held-out clips, clips of one file dealt out together: by their sound, and by their own
captions where they carry any. Beside every figure stands what labels drawn at random score, on average and at best
among ten. Beside the share of units with a reliable label stands the same share

- for labels drawn at random,
- with the activations shuffled over clips, seen and held-out ones, and labels made anew: the mean over some
  shuffles, and the most of any. All units are shuffled alike, so they go with each other as before. There are as
  many shuffles as make 200 units, ten at least;
- for 200 units of normal noise, labelled in the same way.

Measures of others stand beside these, see `bench.judges`: F1 and IoU, two sanity tests of the measures themselves,
tests in which the embedder is the judge, and whether units answer when the demo set plays their label.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from and_retrieval import soundbank
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import ConceptBank, load_bank, merge_banks
from and_retrieval.config import LabelConfig, RecordConfig
from and_retrieval.explanation.agreement import BEST_OF
from and_retrieval.explanation.faithfulness import LEVEL, Faithfulness, faithfulness
from and_retrieval.explanation.labels import DescribedClips, describe_clips, labels_of
from and_retrieval.explanation.space import clip_centre
from and_retrieval.numerics import centred
from and_retrieval.pruning.matching import Vocabulary
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.record import run_name
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.topk import RunningStatistics, RunningTopK
from and_retrieval.run import record
from and_retrieval.store import Home
from and_retrieval.targets import load_target
from and_retrieval.types import Floats, Ints, LayerEvidence, Target
from bench import Announce, Figures, judges, markdown, nameless, small_cnn
from bench.class_units import add_home_arguments, trained_cnn
from bench.source import add_clip_arguments, embedder_of, labelled_index

MEASURES = ("correlation", "pearson", "auprc")
CNN = "small_cnn"
LEAST_UNITS = 200  # of noise, and over all shuffles
SHUFFLES = 10
RENDERED = 4
JUDGED = ("f1", "iou", "intruder", "detection")
Array = npt.NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the networks, the names to choose from, how labels are made, where all is kept."""
    labelling = LabelConfig()
    add_clip_arguments(parser)
    parser.add_argument(
        "--targets", nargs="+", default=[CNN, "yamnet"], metavar="TARGET",
        help=f"{CNN} is trained on the source; others as `record` takes them (default: {CNN} yamnet)",
    )  # fmt: skip
    parser.add_argument(
        "--concepts", nargs="+", default=["audioset"], metavar="BANK|FILE", help="default: audioset"
    )
    parser.add_argument("--score", default=labelling.score, help=f"default: {labelling.score}")
    parser.add_argument("--k", type=int, default=labelling.k, help="top clips (default: by the unit)")
    parser.add_argument("--labels", type=int, default=1, help="labels a unit is predicted by (default: 1)")
    parser.add_argument(
        "--rendered", type=int, default=RENDERED, metavar="N",
        help=f"clips of every concept of the demo set that are played to the units, or 0 (default: {RENDERED})",
    )  # fmt: skip
    add_home_arguments(parser)


def run(
    source: str,
    embedder: str,
    targets: list[str],
    concepts: list[str],
    score: str,
    k: int | None,
    labels: int,
    rendered: int,
    home: str | None,
    seed: int,
    announce: Announce,
) -> Figures:
    """Figures of every layer of every network.

    Raises:
        InputError: Clips without labels, or no such embedder, network, bank or score.
    """
    index = labelled_index(source, embedder, home, announce)
    bank = merge_banks([load_bank(concept) for concept in concepts])
    labelling = LabelConfig(score=score, k=k, count=labels)
    described = describe_clips(index, bank)
    config = RecordConfig(top_k=k or RecordConfig().top_k, device="cpu")
    played = _played(rendered, embedder, home, announce)
    networks: Figures = {}
    weights: dict[str, str] = {}
    for name in targets:
        target, accuracy = _network(name, source, home, seed, announce)
        recorded = record(target, index, (), config, f"faithfulness-{run_name(name)}", announce)
        clips = _clips(recorded, described)
        names = [layer.name for layer in recorded.layers]
        answered = None
        if played is not None:
            all_seen = replace(config, hold_out="0")
            answered = record(target, played, names, all_seen, f"rendered-{run_name(name)}", announce)
        progress = announce(f"measuring {name}", "layers")
        layers = {}
        for number, layer in enumerate(recorded.layers):
            layers[layer.name], columns = _layer_figures(recorded, layer, clips, bank, labelling, seed)
            if answered is not None:
                first = [bank.concepts[column] if column >= 0 else None for column in columns[:, 0]]
                layers[layer.name]["rendered"] = _rendered(answered, layer.name, first, bank, seed)
            progress(number + 1, len(recorded.layers))
        networks[nameless(name)] = {
            "accuracy": accuracy,
            "clips": {
                SEEN: len(clips.seen),
                HELD_OUT: len(clips.held_out),
                "captioned": len(clips.captioned),
            },
            "layers": layers,
        }
        weights[nameless(name)] = recorded.manifest.weights
    return {
        "settings": {
            "weights": weights,
            **embedder_of(index),
            "concepts": bank.name,
            "labelling": asdict(labelling),
            "rendered": rendered,
            "seed": seed,
        },
        "data": clips_digest(index.clips),
        "networks": networks,
    }


def _network(
    name: str, source: str, home: str | None, seed: int, announce: Announce
) -> tuple[Target, float | None]:
    """A network by name, and its accuracy on held-out clips where it was trained here."""
    if name != CNN:
        return load_target(name), None
    target, facts = trained_cnn(source, home, small_cnn.TrainConfig(seed=seed), announce)
    return target, facts.accuracy


@dataclass(frozen=True)
class _Clips:
    """What labels are made from and measured on.

    Attributes:
        described: All clips in words, with their similarity to the concepts.
        seen, held_out: Rows of either part.
        groups: Which file each held-out clip is of.
        captioned: Places among the held-out clips of those with a caption.
    """

    described: DescribedClips
    seen: Ints
    held_out: Ints
    groups: Ints
    captioned: Ints


def _clips(recorded: Recording, described: DescribedClips) -> _Clips:
    seen, held = (rows.astype(np.int32) for rows in (recorded.seen_rows, recorded.held_out_rows))
    captioned = np.flatnonzero([bool(recorded.index.clips[row].captions) for row in held])
    groups = recorded.files_of(recorded.held_out_rows).astype(np.int32)
    return _Clips(described, seen, held, groups, captioned.astype(np.int32))


def _layer_figures(
    recorded: Recording,
    layer: LayerEvidence,
    clips: _Clips,
    bank: ConceptBank,
    labelling: LabelConfig,
    seed: int,
) -> tuple[dict[str, Any], Array]:
    """The figures of a layer, and its labels as columns of the similarity."""
    seen, held_out = (recorded.activations(layer.name, part).astype(np.float32) for part in (SEEN, HELD_OUT))

    def labelled(activations: Floats) -> Array:
        evidence = _evidence(clips.seen, activations, labelling.k or RecordConfig().top_k)
        return _columns(clips, evidence, activations, bank, labelling)

    def measured(columns: Array, activations: Floats) -> Faithfulness:
        similarity = clips.described.audio[clips.held_out]
        return faithfulness(activations, similarity, columns, groups=clips.groups, seed=seed)

    def measured_by_captions(columns: Array) -> Faithfulness:
        rows = clips.captioned
        similarity = clips.described.text[clips.held_out[rows]]
        return faithfulness(held_out[rows], similarity, columns, groups=clips.groups[rows], seed=seed)

    columns = _columns(clips, layer, seen, bank, labelling)
    at_random = np.random.default_rng(seed).integers(0, len(bank.concepts), columns.shape)
    at_random = np.where(columns >= 0, at_random, -1)
    by_sound = measured(columns, held_out)
    shuffled = [
        float(measured(labelled(part), rest).reliable.mean())
        for part, rest in _shuffled(seen, held_out, seed)
    ]
    noise, noise_held_out = _noise(len(seen), seed), _noise(len(held_out), seed + 1)
    figures = {
        "units": layer.units,
        "labelled": int((columns >= 0).any(axis=1).sum()),
        "controls": {
            "shuffled": float(np.mean(shuffled)),
            "shuffled_most": max(shuffled),
            "shuffles": len(shuffled),
            "noise": float(measured(labelled(noise), noise_held_out).reliable.mean()),
        },
        "sound": _figures(by_sound, measured(at_random, held_out)),
        **_judged(recorded, clips, columns[:, 0], at_random[:, 0], (seen, held_out), seed),
    }
    if len(clips.captioned):
        by_captions = measured_by_captions(columns)
        figures["captions"] = _figures(by_captions, measured_by_captions(at_random))
        figures["captions"]["reliable"]["by_both"] = float(np.mean(by_sound.reliable & by_captions.reliable))
    return figures, columns


def _judged(
    recorded: Recording,
    clips: _Clips,
    columns: Array,
    at_random: Array,
    activations: Sequence[Floats],
    seed: int,
) -> dict[str, Any]:
    """The figures of `bench.judges` for the first labels of units that have one and are finite on all clips."""
    seen, held_out = activations
    units = np.flatnonzero((columns >= 0) & np.isfinite(np.concatenate([seen, held_out])).all(axis=0))
    parts = [
        judges.Judged(
            *(
                clips.described.audio[rows][:, chosen[units]].T.astype(np.float64)
                for chosen in (columns, at_random)
            ),
            part[:, units].T.astype(np.float64),
        )
        for rows, part in ((clips.seen, seen), (clips.held_out, held_out))
    ]
    vectors = recorded.index.vectors()
    vectors = centred(vectors[clips.held_out], clip_centre(recorded.index))
    return judges.judged_figures(*parts, vectors, seed)


def _played(count: int, embedder: str, home: str | None, announce: Announce) -> ClipIndex | None:
    """An index of the demo set with `count` clips of every concept, in the home; None for 0."""
    if not count:
        return None
    folder = Home.find(home).path / f"rendered-{count}"
    source = soundbank.render(folder, count, progress=announce("rendering", "clips"))
    return labelled_index(str(source), embedder, home, announce)


def _rendered(
    answered: Recording, layer: str, labels: Sequence[str | None], bank: ConceptBank, seed: int
) -> dict[str, Any]:
    """How units answer to rendered clips of what their first labels mean, see `judges.rendered_figures`."""
    rows, activations = answered.seen_activations(layer)
    names = sorted({label.replace("_", " ") for clip in answered.index.clips if (label := clip.label)})
    vocabulary = Vocabulary.of([*bank.concepts, *names], answered.index.text_vectors)
    means = {label: vocabulary.meant(label, names) for label in {*labels} if label}
    wanted = [means.get(label or "") for label in labels]
    place = {name: number for number, name in enumerate(names)}
    concept = np.array([place[(answered.index.clips[row].label or "").replace("_", " ")] for row in rows])
    return judges.rendered_figures(
        np.asarray(activations), concept, np.array([-1 if w is None else w for w in wanted]), seed
    )


def _figures(result: Faithfulness, at_random: Faithfulness) -> dict[str, Any]:
    """Shares of reliable units and means of the measures, each beside its baselines."""
    return {
        "reliable": {
            "measured": float(result.reliable.mean()),
            "random_labels": float(at_random.reliable.mean()),
        },
        "passes_permutation_test": {"measured": float(np.mean(result.q_value <= LEVEL))},
        **{measure: _beside(result, measure) for measure in MEASURES},
        "base_rate": float(np.nanmean(result.base_rate)),
    }


def _beside(result: Faithfulness, measure: str) -> dict[str, float]:
    """Means over the units that have the figure."""
    ways = {
        "measured": measure,
        "random": f"random_{measure}",
        f"best_of_{BEST_OF}": f"best_{measure}",
    }
    return {way: float(np.nanmean(getattr(result, field))) for way, field in ways.items()}


def _shuffled(seen: Floats, held_out: Floats, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Activations dealt out to the clips anew, seen and held-out ones apart."""
    for number in range(max(SHUFFLES, -(-LEAST_UNITS // seen.shape[1]))):
        rng = np.random.default_rng([seed, number])
        yield rng.permutation(seen, axis=0), rng.permutation(held_out, axis=0)


def _noise(clips: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((clips, LEAST_UNITS), dtype=np.float32)


def _columns(
    clips: _Clips, layer: LayerEvidence, activations: Floats, bank: ConceptBank, labelling: LabelConfig
) -> Array:
    """Labels from sound, as `explain` makes them, as columns of the similarity: int64 [units, labels], -1 for none."""
    place = {concept: column for column, concept in enumerate(bank.concepts)}
    columns = np.full((layer.units, labelling.count), -1)
    for unit, labels in enumerate(
        labels_of(layer, clips.seen, activations, clips.described, bank, labelling)
    ):
        columns[unit, : len(labels)] = [place[label.concept] for label in labels]
    return columns


def _evidence(rows: Ints, activations: Floats, top_k: int) -> LayerEvidence:
    """Evidence of activations [clips, units] of clips of an index: whole clips, for it has no moments of its own."""
    read = ~np.isnan(activations).all(axis=1)
    values, nowhere = activations[read], np.full_like(activations[read], np.nan)
    units = activations.shape[1]
    ends = [RunningTopK(units, top_k, largest=largest) for largest in (True, False)]
    for end in ends:
        end.update(rows[read], values, nowhere)
    moments = RunningStatistics(units)
    moments.update(values)
    top, low = (end.kept() for end in ends)
    return LayerEvidence("", "mean", top, low, moments.statistics())


def table(figures: Figures) -> str:
    """Per layer and source the share of reliable labels with its controls, then every measure with its baselines."""
    networks = figures["networks"].items()
    layers = [
        (f"{network} {name}", layer) for network, part in networks for name, layer in part["layers"].items()
    ]
    sources = [
        (name, source, layer) for name, layer in layers for source in ("sound", "captions") if source in layer
    ]
    reliable = [
        {"layer": name, "units": layer["units"], "tested by": source}
        | {way.replace("_", " "): share for way, share in layer[source]["reliable"].items()}
        | (
            {
                "shuffled": layer["controls"]["shuffled"],
                "shuffled most": layer["controls"]["shuffled_most"],
                f"{LEAST_UNITS} noise units": layer["controls"]["noise"],
            }
            if source == "sound"
            else {}
        )
        for name, source, layer in sources
    ]
    measures = [
        {"layer": name, "tested by": source, "measure": measure.replace("_", " "), **layer[source][measure]}
        | ({"base rate": layer[source]["base_rate"]} if measure == "auprc" else {})
        for name, source, layer in sources
        for measure in MEASURES
    ]
    lines = [
        f"{network}: labels from {part['clips'][SEEN]} clips, measured on {part['clips'][HELD_OUT]} others"
        + (f"; accuracy {part['accuracy']:.3f} on these." if part["accuracy"] is not None else ".")
        for network, part in networks
    ]
    judged = [
        {"layer": name, "measure": measure, **layer[measure]} for name, layer in layers for measure in JUDGED
    ] + [
        {"layer": name, "measure": f"rendered, {measure}", **layer["rendered"][measure]}
        for name, layer in layers
        for measure in ("auc", "difference")
        if measure in layer.get("rendered", {})
    ]
    sanity = [
        {"layer": name, "measure": measure, **layer["sanity"][measure], "chance": 0.5}
        for name, layer in layers
        for measure in layer["sanity"]
        if measure != "units"
    ]
    tables = [markdown(rows) for rows in (reliable, measures, judged, sanity)]
    return "\n\n".join(["\n".join(lines), *tables])
