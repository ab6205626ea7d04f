"""Whether labels hold on probe sets of any size and banks of any length: the grid that the defaults were chosen on.

Networks trained on the source are recorded on all of its clips. Then the probe set is cut down, to 3, 5, 8, 20 and 40
clips a class where there are so many, and to a set in which classes differ in size (geometrically from 3 to the size of
the smallest); every cut is drawn several times. With `--classes N` each draw is of N of the classes only, and the
names of all stay in the bank. The unit of every class is labelled from what is left, with banks of the classes' own
names and of others beside them. Two settings are compared:

    today     soft-WPMI as `explain` has it: directions, temperature from the spread, mixed prior, as many clips as the
              unit mainly responds to
    former    soft-WPMI on plain cosines at temperature 0.1, 20 clips, prior over clips at weight 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from and_retrieval import faiss_index
from and_retrieval.benchmark.measures import recall_at
from and_retrieval.benchmark.names import Names, bank_names, classes_of, own_names, read_aliases
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import load_bank
from and_retrieval.config import RecordConfig
from and_retrieval.explanation.scores import SCORES, effective_clips, soft_wpmi
from and_retrieval.explanation.space import clip_directions, concept_directions
from and_retrieval.progress import Progress
from and_retrieval.recording.activations import SEEN
from and_retrieval.run import record
from and_retrieval.targets import load_target
from and_retrieval.types import Floats, Ints, Target
from bench import Announce, Figures, markdown, small_ast, small_cnn
from bench.class_units import LAST
from bench.source import ESC10_NAMES, add_clip_arguments, labelled_index

SIZES = (3, 5, 8, 20, 40)  # clips a class
UNBALANCED = "3 and more"
BANKS = ("own", "esc50", "audioset")
TOP = 20
RANKS = (1, 5)
WAYS = ("today", "former")
Rows = npt.NDArray[np.intp]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, the networks, the banks, and how often each cut is drawn."""
    add_clip_arguments(parser)
    parser.add_argument("--network", action="append", choices=tuple(NETWORKS), help="default: cnn")
    parser.add_argument(
        "--concepts",
        action="append",
        metavar="BANK|FILE",
        help=f"own, or a bank (default: {', '.join(BANKS)})",
    )
    parser.add_argument("--draws", type=int, default=3, help="of every cut (default: 3)")
    parser.add_argument("--classes", type=int, metavar="N", help="of the source in every draw (default: all)")
    parser.add_argument(
        "--home", metavar="DIR", help="folder of the index and the networks (default: ./index)"
    )


def run(
    source: str,
    embedder: str,
    network: list[str] | None,
    concepts: list[str] | None,
    draws: int,
    classes: int | None,
    home: str | None,
    announce: Announce,
) -> Figures:
    """Top-1 and top-5 of the class units' labels per network, cut and bank, beside chance.

    Raises:
        InputError: Clips without labels, an unknown embedder or bank.
    """
    index = labelled_index(source, embedder, home, announce)
    labels = classes_of(index.clips, source)
    banks = {name: _names(labels, name) for name in concepts or BANKS}
    rows: list[dict[str, Any]] = []
    trained: dict[str, float] = {}
    for kind in network or ["cnn"]:
        target, layer, trained[kind] = NETWORKS[kind](source, home, announce("training", "epochs"))
        recorded = record(
            target, index, [layer], RecordConfig(hold_out="0", device="cpu"), f"grid-{kind}", announce
        )
        activations = np.asarray(recorded.activations(layer, SEEN), np.float32)
        rows += [{"network": kind, **row} for row in grid(index, activations, labels, banks, draws, classes)]
    return {
        "settings": {
            "embedder": index.embedder_name,
            "fingerprint": index.embedder_fingerprint,
            "networks": sorted(trained),
            "banks": list(banks),
            "draws": draws,
            **({"classes": classes} if classes else {}),
        },
        "data": clips_digest(index.clips),
        "accuracy": trained,
        "rows": rows,
    }


def grid(
    index: ClipIndex,
    activations: Floats,
    classes: tuple[str, ...],
    banks: dict[str, Names],
    draws: int,
    few: int | None = None,
) -> Iterator[dict[str, Any]]:
    """One row per cut and bank, each figure the mean over draws.

    Args:
        index: All clips, each with a label.
        activations: float32 [clips, classes], of the class units.
        classes: The labels, sorted; unit i stands for class i.
        banks: Names to choose from.
        draws: How often each cut is drawn.
        few: Number of classes in every draw; by default all.
    """
    labels = np.array([clip.label for clip in index.clips])
    for cut in cuts(labels, classes):
        drawn = []
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            units = np.arange(len(classes)) if few is None else np.sort(rng.permutation(len(classes))[:few])
            sizes = {classes[unit]: cut.sizes[classes[unit]] for unit in units}
            drawn.append((units, drawn_rows(labels, sizes, rng)))
        for bank, names in banks.items():
            right = np.eye(len(names.names), dtype=bool)[list(names.classes)]
            judged = [
                (right[units], scored(index, activations[:, units], names, rows)) for units, rows in drawn
            ]
            top = {
                f"{way} top-{k}": np.mean([recall_at(scores[way], truth, k) for truth, scores in judged])
                for k in RANKS
                for way in WAYS
            }
            yield {
                "clips a class": cut.name,
                "bank": bank,
                "names": len(names.names),
                **{name: round(float(share), 4) for name, share in top.items()},
                **{f"chance top-{k}": round(min(k / len(names.names), 1), 4) for k in RANKS},
            }


@dataclass(frozen=True)
class Cut:
    """How many clips of every class are left."""

    name: str
    sizes: dict[str, int]


def cuts(labels: npt.NDArray[np.str_], classes: tuple[str, ...]) -> Iterator[Cut]:
    """All cuts that the clips allow."""
    most = min(int((labels == label).sum()) for label in classes)
    for size in SIZES:
        if size <= most:
            yield Cut(str(size), dict.fromkeys(classes, size))
    spread = np.geomspace(min(SIZES[0], most), most, len(classes)).round().astype(int).tolist()
    order = np.random.default_rng(0).permutation(len(classes))
    yield Cut(UNBALANCED, {classes[place]: size for place, size in zip(order, spread, strict=True)})


def drawn_rows(labels: npt.NDArray[np.str_], sizes: dict[str, int], rng: np.random.Generator) -> Rows:
    """Rows of as many clips of every class as the cut leaves."""
    return np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:size] for label, size in sizes.items()]
    )


def scored(index: ClipIndex, activations: Floats, names: Names, rows: Rows) -> dict[str, Floats]:
    """Scores of the names for every class unit on some of the clips, float32 [units, names], by setting."""
    cut = replace(
        index,
        clips=tuple(index.clips[row] for row in rows),
        faiss=faiss_index.build(index.vectors()[rows]),
        moments=None,
    ).with_embedder(index.embedder)
    a = activations[rows]
    strongest = np.argsort(-a, axis=0, kind="stable")[:TOP]
    fired = np.take_along_axis(a, strongest, axis=0) > a.min(axis=0)
    top: Ints = np.where(fired, strongest, -1).T.astype(np.int32)
    counts = np.arange(top.shape[1]) < effective_clips(a)[:, None]
    similarity = clip_directions(cut) @ concept_directions(cut, names.names).T
    plain = cut.vectors() @ cut.concept_vectors(names.names).T
    return {
        "today": SCORES["soft-wpmi"].score(similarity, np.where(counts, top, np.int32(-1))),
        "former": soft_wpmi(plain, top, temperature=0.1, prior_weight=1.0, prior="clips"),
    }


def _names(classes: tuple[str, ...], bank: str) -> Names:
    if bank == "own":
        return own_names(classes)
    return bank_names(classes, load_bank(bank).concepts, read_aliases(ESC10_NAMES))


def _cnn(source: str, home: str | None, progress: Progress) -> tuple[Target, str, float]:
    place = small_cnn.folder(home)
    facts = small_cnn.train(source, place, small_cnn.TrainConfig(), progress)
    return small_cnn.as_target(place), LAST, facts.accuracy


def _ast(source: str, home: str | None, progress: Progress) -> tuple[Target, str, float]:
    place: Path = small_ast.folder(home)
    facts = small_ast.train(source, place, small_ast.TrainConfig(), progress)
    return load_target(f"hf:{place}"), "classifier.dense", facts.accuracy


NETWORKS: dict[str, Callable[[str, str | None, Progress], tuple[Target, str, float]]] = {
    "cnn": _cnn,
    "ast": _ast,
}
"""Name -> (source, home, progress) -> the trained network, the layer of its class units, its accuracy."""


def table(figures: Figures) -> str:
    """One row per network, cut and bank."""
    trained = ", ".join(f"{kind} {accuracy:.3f}" for kind, accuracy in figures["accuracy"].items())
    return f"{markdown(figures['rows'])}\n\nAccuracy of the networks on their held-out clips: {trained}"
