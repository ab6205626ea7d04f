"""The meanings of a run's units: groups of top clips, each with labels of its own, tested on held-out clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ..concepts import ConceptBank
from ..config import LabelConfig
from ..recording.recording import Recording
from ..recording.unit_index import clip_weights
from ..types import Ints, Kept, LayerEvidence, Meaning, Moments, Summary
from .groups import Groups, Space, find_groups, probe_space
from .label_tests import meaning_tests
from .labels import DescribedClips, from_evidence
from .scores import find_scorer, label_units

GROUP_SCORE = "soft-wpmi"
"""Labels a group where the run's score needs the activations of all clips: a group has its own clips only."""

UNASKED = Summary(None, True, "no sentence was asked for")


@dataclass(frozen=True)
class RunMeanings:
    """What the units of a run fall into, in layer and unit order.

    Attributes:
        units: Per unit its meanings, without sentences yet; empty where there are not several.
        polysemanticity: Per unit, see `explanation.groups.Groups`.
        random: `Space.random_polysemanticity`, the same figure of random clips.
    """

    units: tuple[tuple[Meaning, ...], ...]
    polysemanticity: tuple[float | None, ...]
    random: float


def found_meanings(
    run: Recording, clips: DescribedClips, bank: ConceptBank, config: LabelConfig
) -> RunMeanings:
    """Find, label and test the meanings of every unit.

    All top clips that were recorded are grouped, however many of them `config` labels a unit by. Groups are labelled
    by the run's score over their own clips, or by `GROUP_SCORE`, never ranked by a language model.
    """
    space, place = seen_space(run)
    units: list[tuple[Meaning, ...]] = []
    polysemanticity: list[float | None] = []
    for layer in run.layers:
        groups = layer_groups(layer, space, place)
        units += _layer_meanings(run, layer, groups, clips, bank, config)
        polysemanticity += [
            round(float(one), 4) if np.isfinite(one) else None for one in groups.polysemanticity
        ]
    return RunMeanings(tuple(units), tuple(polysemanticity), round(space.random_polysemanticity, 4))


def seen_space(run: Recording) -> tuple[Space, Ints]:
    """The space of the clips that may serve as evidence, and for every clip of the run its row there, or -1."""
    seen = run.seen_rows()
    files = np.unique([run.index.clips[row].sha256 for row in seen], return_inverse=True)[1]
    most = max((layer.top.rows.shape[1] for layer in run.layers), default=0)
    place = np.full(run.facts["index_clips"], -1, np.int32)
    place[seen] = np.arange(len(seen))
    return probe_space(run.index.vectors()[seen], files, most), place


def layer_groups(layer: LayerEvidence, space: Space, place: Ints) -> Groups:
    """The groups of the units of a layer; top clips at which a unit is no stronger than at its weakest are left out.

    `place` gives the row in `space` of every clip.
    """
    return find_groups(
        space, place[layer.top.rows], np.where(layer.fired, clip_weights(layer), np.float32(0))
    )


def _layer_meanings(
    run: Recording,
    layer: LayerEvidence,
    groups: Groups,
    clips: DescribedClips,
    bank: ConceptBank,
    config: LabelConfig,
) -> list[tuple[Meaning, ...]]:
    """Meanings of every unit of a layer."""
    several = np.flatnonzero(groups.several)
    counts = groups.group[several].max(axis=1) + 1
    units = np.repeat(several, counts)
    members = groups.group[units] == _counted(counts)[:, None]
    score = config.score if find_scorer(config.score).from_top else GROUP_SCORE
    own = replace(config, score=score, k=max(members.shape[1], 1))
    evidence = _group_evidence(layer, units, members)
    labels = from_evidence(
        clips, config.evidence, partial(label_units, evidence=evidence, concepts=bank.concepts, config=own)
    )
    similarity = clips.similarity(config.evidence)
    tests = meaning_tests(run, layer.name, similarity, bank.concepts, labels, units)
    found: list[list[Meaning]] = [[] for _ in range(layer.units)]
    for unit, member, names, test in zip(units.tolist(), members, labels, tests, strict=True):
        found[unit].append(Meaning(names, UNASKED, tuple(np.flatnonzero(member).tolist()), test))
    return [tuple(meanings) for meanings in found]


def _counted(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """0 1, 0 1 2, 0 1 ... for counts 2, 3, 2 ..."""
    numbers: npt.NDArray[np.intp] = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return numbers


def _group_evidence(
    layer: LayerEvidence, units: npt.NDArray[np.intp], members: npt.NDArray[np.bool_]
) -> LayerEvidence:
    """Evidence with a group in the place of a unit: its own clips at the top, the rest as the unit has it.

    Args:
        layer: The units' evidence.
        units: Of which unit each group is.
        members: bool [groups, k], which of the unit's top clips are in the group.
    """
    order = np.argsort(~members, axis=1, kind="stable")
    present = np.take_along_axis(members, order, axis=1)

    rows, values, peaks = (
        np.take_along_axis(field[units], order, axis=1)
        for field in (layer.top.rows, layer.top.values, layer.top.peaks)
    )
    nothing = np.float32(np.nan)
    top = Kept(
        np.where(present, rows, np.int32(-1)),
        np.where(present, values, nothing),
        np.where(present, peaks, nothing),
    )
    low = Kept(layer.low.rows[units], layer.low.values[units], layer.low.peaks[units])
    whole = layer.moments
    moments = Moments(
        whole.count, *(field[units] for field in (whole.mean, whole.std, whole.low, whole.high))
    )
    return LayerEvidence(layer.name, layer.pooling, top, low, moments)
