"""Kinds of units: planted ones of all four, confounds included."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.explanation.kinds import kinds, rivals
from and_retrieval.types import Floats, Kind

SEEN, TESTED, UNITS = 320, 80, 60
NAMES = tuple(QUALITIES)
CLASSES = 10


class World:
    """Clips of ten classes; those of the first are padded with silence, and so are some of every other class."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        clips = SEEN + TESTED
        self.label = self.random.integers(0, CLASSES, clips)
        self.qualities = self.random.standard_normal((clips, len(NAMES))).astype(np.float32)
        self.silence = np.where(self.label == 0, self.random.uniform(0.5, 0.9, clips), 0.0)
        padded = self.random.random(clips) < 0.3
        self.silence = np.where(padded, self.random.uniform(0.2, 0.9, clips), self.silence)
        self.qualities[:, NAMES.index("silence")] = self.silence
        self.similarity = (self.label == 0) + 0.4 * self.random.standard_normal(clips)

    def kinds(self, units: Floats, holds: bool = True) -> Counter[Kind | None]:
        """Kinds of units [clips, units], all labelled with the first class."""
        predictions = np.tile(self.similarity[SEEN:], (units.shape[1], 1))
        measured = rivals(
            (units[:SEEN], self.qualities[:SEEN]),
            (units[SEEN:], self.qualities[SEEN:]),
            predictions,
            np.arange(TESTED),
        )
        return Counter(kinds(np.full(units.shape[1], holds), measured))

    def noise(self, scale: float) -> Floats:
        return (scale * self.random.standard_normal((SEEN + TESTED, UNITS))).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_units_of_a_padded_class_are_concepts(world: World) -> None:
    units = (world.label == 0)[:, None] + world.noise(0.3)
    assert world.kinds(units)["concept"] >= 0.9 * UNITS


def test_units_of_silence_are_acoustic_though_their_label_holds(world: World) -> None:
    units = world.silence[:, None] + world.noise(0.1)
    assert world.kinds(units)["acoustic"] >= 0.8 * UNITS


@pytest.mark.parametrize("quality", ["loudness", "duration", "pitch"])
def test_units_of_another_quality_are_acoustic(world: World, quality: str) -> None:
    units = world.qualities[:, [NAMES.index(quality)]] + world.noise(0.5)
    assert world.kinds(units, holds=False)["acoustic"] >= 0.9 * UNITS


def test_where_both_say_the_same_it_is_both() -> None:
    """A concept that is heard by its tonality alone: neither adds to the other, and the label stays."""
    world = World(1)
    world.similarity = world.similarity.argsort().argsort().astype(float)
    world.qualities[:, NAMES.index("tonality")] = world.similarity
    units = (world.similarity[:, None] / 100).astype(np.float32) + world.noise(1.0)
    assert world.kinds(units)["both"] >= 0.9 * UNITS


def test_units_of_noise_are_nothing(world: World) -> None:
    assert world.kinds(world.noise(1.0), holds=False)[None] >= 0.95 * UNITS


def test_a_scale_changes_nothing(world: World) -> None:
    units = world.silence[:, None] + world.noise(0.3)
    assert world.kinds(units) == world.kinds(units * np.float32(1e-9)) == world.kinds(units * np.float32(1e9))
