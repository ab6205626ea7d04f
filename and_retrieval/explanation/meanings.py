"""Meanings of units: groups of top clips, each with labels of its own, tested on held-out clips."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..concepts import ConceptBank
from ..config import LabelConfig
from ..recording.recording import Recording
from ..recording.unit_index import clip_weights
from ..types import Ints, Kept, Label, LayerEvidence, Meaning, UnitStatistics
from .groups import Groups, Space, find_groups, probe_space
from .label_tests import meaning_tests
from .labels import DescribedClips, from_evidence
from .moments import fired_moments, random_moments
from .scores import find_scorer

GROUP_SCORE = "soft-wpmi"
"""Labels a group where the run's score needs the activations of all clips: a group has its own clips only."""


@dataclass(frozen=True)
class MeaningFinder:
    """Finds the several meanings of units, see `explanation.groups`; made by `meaning_finder`.

    Attributes:
        recording: Of which the units are.
        clips: Every clip in words and its similarity to the concepts.
        bank: The concepts.
        config: How groups are labelled.
        spaces: Where the clips and their moments lie.
    """

    recording: Recording
    clips: DescribedClips
    bank: ConceptBank
    config: LabelConfig
    spaces: SeenSpaces

    @property
    def random_polysemanticity(self) -> float:
        """Polysemanticity of clips drawn at random, or of moments where the index holds any."""
        space = self.spaces.moments or self.spaces.clips
        return round(space.random_polysemanticity, 4)

    def find(self, layer: LayerEvidence) -> tuple[list[tuple[Meaning, ...]], list[float | None]]:
        """The meanings of every unit of a layer, and its polysemanticity.

        All top clips that were recorded are grouped, however many of them a unit is labelled by. Groups are labelled
        by the run's score over their own clips, or by `GROUP_SCORE`, never ranked by a language model. Meanings have
        no sentences yet; there are none where a unit does not have several.
        """
        groups = self.spaces.groups(layer)
        spread = [round(float(value), 4) if np.isfinite(value) else None for value in groups.polysemanticity]
        return _layer_meanings(self.recording, layer, groups, self.clips, self.bank, self.config), spread


def meaning_finder(
    recording: Recording, clips: DescribedClips, bank: ConceptBank, config: LabelConfig
) -> MeaningFinder:
    """What the meanings of a recording's units are found with."""
    return MeaningFinder(recording, clips, bank, config, seen_spaces(recording))


@dataclass(frozen=True)
class SeenSpaces:
    """Where the clips that may serve as evidence lie, and where their moments do.

    Attributes:
        recording: Of these clips.
        clips: The space of the clips.
        place: int [clips], row of every clip of the recording in `clips`, or -1.
        moments: The space of one moment of every clip, drawn at random; None where the index holds no moments.
    """

    recording: Recording
    clips: Space
    place: Ints
    moments: Space | None

    def groups(self, layer: LayerEvidence) -> Groups:
        """The groups of the units of a layer: of the moments at which each was strongest, or of clips.

        Top clips at which a unit is no stronger than at its weakest are left out. When clips are grouped, says
        `recording.peaks`.
        """
        weights = np.where(layer.fired, clip_weights(layer), np.float32(0))
        moments = self.recording.index.moments
        fired = None if moments is None else fired_moments(layer, moments)
        if moments is None or self.moments is None or fired is None:
            return find_groups(self.clips, self.place[layer.top.rows], weights)
        rows, places = fired
        space = self.moments.holding(moments.take(rows), self.recording.files_of(moments.clips[rows]))
        return find_groups(space, places, weights)


def seen_spaces(recording: Recording) -> SeenSpaces:
    """The spaces of a recording's clips and moments."""
    seen, moments = recording.seen_rows, recording.index.moments
    files = recording.files_of(seen)
    most = max((layer.top.rows.shape[1] for layer in recording.layers), default=0)
    place = np.full(recording.manifest.index_clips, -1, np.int32)
    place[seen] = np.arange(len(seen))
    of_clips = probe_space(recording.index.vectors()[seen], files, most)
    of_moments = None
    if moments is not None:
        of_moments = probe_space(moments.take(random_moments(moments)[seen]), files, most)
    return SeenSpaces(recording, of_clips, place, of_moments)


def _layer_meanings(
    recording: Recording,
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
    group_config = replace(config, score=score, k=max(members.shape[1], 1))
    evidence = _group_evidence(layer, units, members)

    def label(source: str) -> list[tuple[Label, ...]]:
        return clips.located(evidence, source).labels(bank.concepts, group_config)

    labels = from_evidence(config.evidence, label)
    similarity = clips.similarity(config.evidence)
    against = clips.against(config.evidence)
    tests = meaning_tests(recording, layer.name, similarity, bank.concepts, labels, units, against)
    of_unit: list[list[Meaning]] = [[] for _ in range(layer.units)]
    for unit, member, names, test in zip(units.tolist(), members, labels, tests, strict=True):
        of_unit[unit].append(Meaning(names, tuple(np.flatnonzero(member).tolist()), faithfulness=test))
    return [tuple(meanings) for meanings in of_unit]


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
    whole = layer.statistics
    statistics = UnitStatistics(
        whole.count, *(field[units] for field in (whole.mean, whole.std, whole.low, whole.high))
    )
    return LayerEvidence(layer.name, layer.pooling, top, low, statistics)
