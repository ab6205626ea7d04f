"""Whether units of several meanings are told from units of one, on sets of clips whose meanings are known.

A made-up unit has `k` top clips, drawn without replacement from the source's classes, with activations that fall
linearly to a tenth in random order. `single` units have clips of one class: those that are split are wrong. `50/50`
and `70/30` units have clips of two classes in these shares, `40/30/30` of three, `40/40/20` of two and a fifth of any
kind; they are found where the classes most frequent in the groups are the planted ones. `random` units have clips
of any kind, and what is split there is what chance gives.

Beside `purity`, the share of grouped clips that are of their group's most frequent class, stands the same for the
clips dealt out to groups of these sizes at random; beside `labelled`, the share of groups of which the first label
(soft-WPMI, the source's own class names) is their most frequent class, one over the number of names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from and_retrieval.benchmark import measures as m
from and_retrieval.benchmark.names import classes_of, own_names
from and_retrieval.benchmark.retrieval import clips_digest
from and_retrieval.explanation.groups import NEARNESS, Space, find_groups, probe_space
from and_retrieval.explanation.scores import soft_wpmi
from and_retrieval.types import Floats, Ints
from bench import Announce, Figures, markdown
from bench.source import embedder_of, labelled_index

KINDS: dict[str, tuple[float, ...]] = {
    "single": (1.0,),
    "50/50": (0.5, 0.5),
    "70/30": (0.7, 0.3),
    "40/30/30": (0.4, 0.3, 0.3),
    "40/40/20": (0.4, 0.4),
    "random": (),
}
"""Shares of the planted classes; what is missing to 1 are clips of any kind."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, where the index is kept, how many units of which size."""
    parser.add_argument("source", metavar="SOURCE", help="labelled folder of folders, glob or CSV")
    parser.add_argument("--embedder", default="embedded", metavar="NAME", help="default: embedded")
    parser.add_argument("--home", metavar="DIR", help="folder of the index (default: ./index)")
    parser.add_argument("--k", type=int, default=20, help="top clips of a unit (default: 20)")
    parser.add_argument("--units", type=int, default=1_000, help="of each kind (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def run(
    source: str, embedder: str, home: str | None, k: int, units: int, seed: int, announce: Announce
) -> Figures:
    """Figures of each kind of unit. With classes of fewer than k clips, units are as large as the smallest class.

    Raises:
        InputError: Clips without labels, or an unknown embedder.
    """
    index = labelled_index(source, embedder, home, announce)
    classes = classes_of(index.clips, source)
    class_of = np.array([classes.index(clip.label or "") for clip in index.clips])
    k = min(k, int(np.bincount(class_of).min()))
    files = np.unique([clip.sha256 for clip in index.clips], return_inverse=True)[1]
    space = probe_space(index.vectors(), files, k)
    similarity = index.vectors() @ index.embedder.embed_text(own_names(classes).names).T
    random = np.random.default_rng(seed)
    return {
        "settings": {
            **embedder_of(index),
            "k": k,
            "units": units,
            "nearness": NEARNESS,
            "seed": seed,
        },
        "data": clips_digest(index.clips),
        "space": {"apart": round(space.apart, 4), "random_polysemanticity": space.random_polysemanticity},
        "units": {
            kind: _measured(space, similarity, class_of, planted(class_of, shares, k, units, random), random)
            for kind, shares in KINDS.items()
        },
    }


@dataclass(frozen=True)
class Planted:
    """Units made up: rows int [units, k], activations float32 [units, k], planted classes int [units, classes]."""

    rows: Ints
    weights: Floats
    classes: Ints


def planted(
    class_of: npt.NDArray[np.intp],
    shares: Sequence[float],
    k: int,
    units: int,
    random: np.random.Generator,
) -> Planted:
    """Units of k clips, shares of them of classes drawn at random and the rest of any clips."""
    members = [np.flatnonzero(class_of == number) for number in range(class_of.max() + 1)]
    counts = [round(share * k) for share in shares]
    rows, chosen = np.empty((units, k), np.int32), np.empty((units, len(shares)), np.int32)
    for unit in range(units):
        chosen[unit] = random.choice(len(members), len(shares), replace=False)
        by_class = [
            random.choice(members[c], n, replace=False) for c, n in zip(chosen[unit], counts, strict=True)
        ]
        drawn = np.concatenate([*by_class, np.empty(0, np.intp)]).astype(np.intp)
        rest = np.setdiff1d(np.arange(len(class_of)), drawn)
        rows[unit] = random.permutation(
            np.concatenate([drawn, random.choice(rest, k - len(drawn), replace=False)])
        )
    weights = np.tile(np.linspace(1, 0.1, k, dtype=np.float32), (units, 1))
    return Planted(rows, weights, chosen)


def _measured(
    space: Space,
    similarity: Floats,
    class_of: npt.NDArray[np.intp],
    made: Planted,
    random: np.random.Generator,
) -> dict[str, Any]:
    groups = find_groups(space, made.rows, made.weights)
    figures: dict[str, Any] = {
        "split": round(float(groups.several.mean()), 4),
        "polysemanticity": round(float(np.nanmedian(groups.polysemanticity)), 4),
    }
    if made.classes.shape[1] < 2:
        return figures
    classes = class_of[made.rows]
    units, members = _members(groups.group)
    held = _class_counts(classes[units], members)
    dealt = _class_counts(classes[units], _members(random.permuted(groups.group, axis=1))[1])
    order = np.argsort(~members, axis=1, kind="stable")
    rows = np.where(np.take_along_axis(members, order, 1), np.take_along_axis(made.rows[units], order, 1), -1)
    named = soft_wpmi(similarity, rows.astype(np.int32)).argmax(axis=1)
    most = held.argmax(axis=1)
    heard: list[set[int]] = [set() for _ in made.rows]
    for unit, one in zip(units.tolist(), most.tolist(), strict=True):
        heard[unit].add(one)
    all_heard = [
        got == set(planted_classes) for got, planted_classes in zip(heard, made.classes.tolist(), strict=True)
    ]
    return {
        **figures,
        "found": round(float(np.mean(all_heard)), 4),
        "purity": m.beside(_purity(held), _purity(dealt)),
        "labelled": m.beside(float(np.mean(named == most)), 1 / similarity.shape[1]),
    }


def _members(group: Ints) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Every group of every unit: int [groups], the unit; bool [groups, k], its clips."""
    units, numbers = np.nonzero((group[:, None, :] == np.arange(group.shape[1])[:, None]).any(axis=2))
    return units, group[units] == numbers[:, None]


def _class_counts(classes: npt.NDArray[np.intp], members: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Clips of each class in each group, int [groups, classes]."""
    counts = np.zeros((len(members), int(classes.max(initial=0)) + 1), np.intp)
    groups, places = np.nonzero(members)
    np.add.at(counts, (groups, classes[groups, places]), 1)
    return counts


def _purity(counts: npt.NDArray[np.intp]) -> float:
    return float(counts.max(axis=1).sum() / max(counts.sum(), 1))


def table(figures: Figures) -> str:
    """One row per kind of unit, chance beside the figures."""
    rows = []
    for kind, measured in figures["units"].items():
        row: dict[str, Any] = {"units": kind}
        for name, value in measured.items():
            pair = value if isinstance(value, dict) else {"measured": value}
            row[name] = pair["measured"]
            if "chance" in pair:
                row[f"{name} by chance"] = pair["chance"]
        rows.append(row)
    return markdown(rows)
