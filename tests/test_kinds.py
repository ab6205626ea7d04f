"""Kinds of units: planted ones of all four, confounds included."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.explanation.agreement import exponential_scores
from and_retrieval.explanation.bells import Bells
from and_retrieval.explanation.kinds import FITTED, kinds, rivals
from and_retrieval.explanation.permutations import FIRST_PERMUTATIONS, PERMUTATIONS, GroupPermutations
from and_retrieval.numerics import Array
from and_retrieval.types import Floats, Kind, Tuning

SEEN, TESTED, UNITS = 320, 80, 60
NAMES = tuple(QUALITIES)
CLASSES = 10


SHIFTS = {"loudness": 2.5, "duration": -2.5}
"""How the clips of the first class differ from the others in a quality, in its standard deviations."""


class World:
    """Clips of ten classes; those of the first differ from the others in a quality, as do some of every other class.

    They are padded with silence, louder or shorter.
    """

    def __init__(self, seed: int = 0, confound: str = "silence") -> None:
        self.random = np.random.default_rng(seed)
        clips = SEEN + TESTED
        self.label = self.random.integers(0, CLASSES, clips)
        self.qualities = self.random.standard_normal((clips, len(NAMES))).astype(np.float32)
        self.similarity = (self.label == 0) + 0.4 * self.random.standard_normal(clips)
        some = (self.label == 0) | (self.random.random(clips) < 0.3)
        if confound == "silence":
            padding = self.random.uniform(np.where(self.label == 0, 0.5, 0.2), 0.9)
            self.quality = np.where(some, padding, 0.0)
        else:
            self.quality = SHIFTS[confound] * some + 0.5 * self.random.standard_normal(clips)
        self.qualities[:, NAMES.index(confound)] = self.quality

    def kinds(
        self,
        units: Floats,
        holds: bool = True,
        cross_fitted: bool = False,
        names_quality: bool = False,
        tuned: Tuning | None = None,
    ) -> Counter[Kind | None]:
        """Kinds of units [clips, units], all labelled with the first class and tuned to the same middle."""
        count = units.shape[1]
        bells = Bells.of([tuned] * count)
        clips = np.arange(len(units))
        fold = clips % 5 if cross_fitted else np.where(clips < SEEN, FITTED, 0)
        tested = fold != FITTED
        predictions = np.tile(self.similarity[tested], (count, 1))
        measured = rivals([units], self.qualities, fold, predictions, clips[tested], [bells] * 5)
        return Counter(kinds(np.full(count, holds), measured, np.full(count, names_quality)))

    def small(self, clips: int) -> World:
        """The first clips alone."""
        part = copy.copy(self)
        for name in ("label", "qualities", "similarity", "quality"):
            setattr(part, name, getattr(self, name)[:clips])
        return part

    def noise(self, scale: float) -> Floats:
        return (scale * self.random.standard_normal((len(self.label), UNITS))).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


CONFOUNDS = pytest.mark.parametrize("confound", ["silence", "loudness", "duration"])


@CONFOUNDS
@pytest.mark.parametrize("cross_fitted", [False, True])
def test_units_of_a_class_that_differs_in_a_quality_are_concepts(confound: str, cross_fitted: bool) -> None:
    world = World(confound=confound)
    units = (world.label == 0)[:, None] + world.noise(0.3)
    assert world.kinds(units, cross_fitted=cross_fitted)["concept"] >= 0.85 * UNITS


@CONFOUNDS
@pytest.mark.parametrize("cross_fitted", [False, True])
def test_units_of_the_quality_are_acoustic_though_their_label_holds(
    confound: str, cross_fitted: bool
) -> None:
    world = World(confound=confound)
    size = float(world.quality.std())
    units = np.sign(SHIFTS.get(confound, 1)) * world.quality[:, None] / size + world.noise(0.3)
    assert world.kinds(units, cross_fitted=cross_fitted)["acoustic"] >= 0.8 * UNITS


SHAPES = {
    "any silence at all": lambda share: share > 0.01,
    "most of the clip": lambda share: share > 0.6,
    "a little does": np.sqrt,
    "the more the better": lambda share: share**3,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cross_fitted", [False, True])
def test_a_label_whose_effect_goes_when_padding_is_set_aside_makes_no_concept(
    shape: str, cross_fitted: bool
) -> None:
    """However a unit answers to silence: the label of the padded class predicts it, but not among unpadded clips."""
    world = World(4)
    world.similarity += 0.5 * (world.quality > 0)  # the embedder hears the padding, too
    response = SHAPES[shape](world.quality).astype(float)
    units = (response / response.std())[:, None] + world.noise(0.3)
    unpadded = world.quality == 0

    def effect(clips: npt.NDArray[np.bool_]) -> float:
        return float(np.median([np.corrcoef(world.similarity[clips], unit[clips])[0, 1] for unit in units.T]))

    assert effect(unpadded | True) > 0.3
    assert abs(effect(unpadded)) < 0.1
    assert world.kinds(units.astype(np.float32), cross_fitted=cross_fitted)["concept"] <= 0.1 * UNITS


@pytest.mark.parametrize("clips", [SEEN + TESTED, 60])
def test_a_label_that_says_no_more_than_silence_leaves_silence_as_the_plainer_explanation(clips: int) -> None:
    """Label and silence predict equally well, which is `both` for other qualities, see below."""
    world = World(6)
    world.similarity = world.quality + 0.1 * world.random.standard_normal(len(world.quality))
    units = (world.quality / world.quality.std())[:, None] + world.noise(0.5)
    small = clips < SEEN
    counts = world.small(clips).kinds(units[:clips].astype(np.float32), cross_fitted=small)
    assert counts["acoustic"] >= 0.8 * UNITS


@pytest.mark.parametrize("seed", [7, 8])
def test_a_label_that_adds_where_silence_is_not_measured_well_makes_no_concept(seed: int) -> None:
    """The class has more silence than is measured of it, so that its label adds something, but only to padded clips."""
    world = World(seed)
    silence = world.quality * np.where(world.label == 0, 1.4, 1)
    units = (silence / silence.std())[:, None] + world.noise(0.2)
    assert world.kinds(units.astype(np.float32))["acoustic"] >= 0.9 * UNITS


def test_nothing_is_set_aside_where_hardly_a_clip_is_without_silence() -> None:
    world = World(6)
    world.quality = world.random.uniform(0.2, 0.9, len(world.quality))
    world.qualities[:, NAMES.index("silence")] = world.quality
    world.similarity = world.quality + 0.02 * world.random.standard_normal(len(world.quality))
    units = (world.quality / world.quality.std())[:, None] + world.noise(0.5)
    assert world.kinds(units.astype(np.float32))["both"] >= 0.7 * UNITS


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_a_class_of_which_some_clips_are_padded_keeps_its_effect(cross_fitted: bool) -> None:
    world = World(5)
    unpadded = world.random.random(len(world.label)) < 0.5
    world.quality = np.where(unpadded, 0, world.quality)
    world.qualities[:, NAMES.index("silence")] = world.quality
    units = (world.label == 0)[:, None] + world.noise(0.3)
    assert world.kinds(units, cross_fitted=cross_fitted)["concept"] >= 0.9 * UNITS


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_a_label_that_names_a_quality_is_no_concept(world: World, cross_fitted: bool) -> None:
    units = (world.label == 0)[:, None] + world.noise(0.3)

    def counted(holds: bool) -> Counter[Kind | None]:
        return world.kinds(units, holds, cross_fitted, names_quality=True)

    assert counted(holds=True) == {"acoustic": UNITS}
    assert set(counted(holds=False)) <= {"acoustic", None}
    assert world.kinds(world.noise(1.0), holds=False, names_quality=True)[None] >= 0.95 * UNITS


def test_small_sets_are_told_apart_by_cross_fitting() -> None:
    """Sixty clips, of which too few could be held out."""
    world = World(2).small(60)
    concept = (world.label == 0)[:, None] + world.noise(0.2)
    assert world.kinds(concept, cross_fitted=True)["concept"] >= 0.8 * UNITS
    silence = world.quality[:, None] / float(world.quality.std()) + world.noise(0.3)
    assert world.kinds(silence, cross_fitted=True)["acoustic"] >= 0.8 * UNITS
    assert world.kinds(world.noise(1.0), holds=False, cross_fitted=True)[None] >= 0.95 * UNITS


def test_cross_fitting_leaves_missing_clips_out(world: World) -> None:
    units = world.quality[:, None] / float(world.quality.std()) + world.noise(0.3)
    gaps = units.copy()
    gaps[::7, : UNITS // 2] = np.nan
    assert world.kinds(gaps, cross_fitted=True)["acoustic"] >= 0.8 * UNITS
    gaps[1:, 0] = np.nan  # a single clip: nothing can be fitted
    assert world.kinds(gaps[:, :1], cross_fitted=True) == {None: 1}


@pytest.mark.parametrize("quality", ["loudness", "duration", "pitch"])
def test_units_of_another_quality_are_acoustic(world: World, quality: str) -> None:
    units = world.qualities[:, [NAMES.index(quality)]] + world.noise(0.5)
    assert world.kinds(units, holds=False)["acoustic"] >= 0.9 * UNITS


@pytest.mark.parametrize("noise", [0.05, 0.3])
@pytest.mark.parametrize("label", ["of the loudest", "as scores"])
def test_what_a_quality_has_beyond_its_ranks_is_not_the_labels(label: str, noise: float) -> None:
    """The label is no straight line over loudness, as exponential scores are none; the unit measures loudness."""
    world = World(3, "loudness")
    loud = world.qualities[:, NAMES.index("loudness")].astype(np.float64)
    shape = loud > np.quantile(loud, 0.85) if label == "of the loudest" else exponential_scores(loud[None])[0]
    world.similarity = shape + 0.3 * world.random.standard_normal(len(loud))
    counts = world.kinds((loud[:, None] + world.noise(noise)).astype(np.float32))
    assert counts["acoustic"] + counts["both"] >= 0.95 * UNITS


MIDDLE = Tuning("level", "peak", 0.0, -0.5, 0.5, 0.3, 0.001)


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_units_of_the_middle_of_a_quality_are_acoustic(cross_fitted: bool) -> None:
    """Which no rank sees: without the bell nothing explains them."""
    world = World()
    answer = Bells.of([MIDDLE]).responses(world.qualities).T.astype(np.float32)
    units = answer + world.noise(0.3)
    assert world.kinds(units, False, cross_fitted, tuned=MIDDLE)["acoustic"] >= 0.95 * UNITS
    assert world.kinds(units, False, cross_fitted)[None] >= 0.9 * UNITS
    concept = (world.label == 0)[:, None] + world.noise(0.3)
    assert world.kinds(concept, True, cross_fitted, tuned=MIDDLE)["concept"] >= 0.9 * UNITS


def test_a_label_that_is_heard_by_a_middle_is_both() -> None:
    world = World(1)
    world.similarity = Bells.of([MIDDLE]).responses(world.qualities)[0]
    units = world.similarity[:, None] + world.noise(0.6)
    assert world.kinds(units.astype(np.float32), tuned=MIDDLE)["both"] >= 0.9 * UNITS


def test_where_both_say_the_same_it_is_both() -> None:
    """A concept that is heard by its tonality alone: neither adds to the other, and the label stays."""
    world = World(1)
    world.similarity = world.similarity.argsort().argsort().astype(float)
    world.qualities[:, NAMES.index("tonality")] = world.similarity
    units = (world.similarity[:, None] / 100).astype(np.float32) + world.noise(1.0)
    assert world.kinds(units)["both"] >= 0.9 * UNITS


def test_a_look_makes_the_permutations_it_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """First few for all units, then all for those that stand out and are not yet significant."""
    made: list[int] = []
    given = GroupPermutations.__init__

    def counted(shuffles: GroupPermutations, groups: Array, permutations: int = 0, seed: int = 0) -> None:
        made.append(permutations)
        given(shuffles, groups, permutations, seed)

    monkeypatch.setattr(GroupPermutations, "__init__", counted)
    faint = world.noise(1.0)
    faint[:, 0] += world.qualities[:, NAMES.index("loudness")] / 3  # one unit of many, and not by far
    world.kinds(faint)
    assert made == [FIRST_PERMUTATIONS] * 2 + [PERMUTATIONS] * 2  # of all clips, and of those without silence


def test_units_of_noise_are_nothing(world: World) -> None:
    assert world.kinds(world.noise(1.0), holds=False)[None] >= 0.95 * UNITS


def test_a_scale_changes_nothing(world: World) -> None:
    units = world.quality[:, None] + world.noise(0.3)
    assert world.kinds(units) == world.kinds(units * np.float32(1e-9)) == world.kinds(units * np.float32(1e9))
