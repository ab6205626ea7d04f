"""Confounds of real recordings: units that respond to how a class was recorded, and not to what it is.

All clips of a class are recorded otherwise than most others, and so is a quarter of every other class. The label of the
class goes with units that respond to that alone, and passes its test. The qualities of the rendered sounds are measured
as `record` measures them; they have to take such units from the label, but not units that respond to the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import signal

from and_retrieval import soundbank
from and_retrieval.clips.qualities import measure
from and_retrieval.explanation.bells import Bells
from and_retrieval.explanation.faithfulness import faithfulness
from and_retrieval.explanation.kinds import FITTED, kinds, rivals
from and_retrieval.numerics import Array, Doubles
from and_retrieval.types import Floats

RATE = 16_000
CLASSES = (
    "dog bark", "siren", "church bell", "rain", "car horn", "helicopter", "clock ticking", "baby cry"
)  # fmt: skip
CLIPS = 20  # of each class
CLASS = np.repeat(np.arange(len(CLASSES)), CLIPS)
OTHERS = 40  # concepts that name none of the classes
HEARING = 0.4  # standard deviation of how near a clip is to the name of its class, which is 1 for its own
WORLDS, UNITS = 3, 8  # in all 24 units of a confound
ALLOWED = 2
"""Units of a confound, of 24, that may keep the class as a reliable concept."""

Change = Callable[[Floats, float, np.random.Generator], Array]


def bandwidth(sound: Floats, amount: float, _: np.random.Generator) -> Array:
    """Nothing above 1 kHz, or up to above 2 kHz."""
    highest = 1000 * 2 ** (3 * (1 - amount))
    return np.asarray(signal.sosfiltfilt(signal.butter(6, highest, fs=RATE, output="sos"), sound))


def noise_pad(sound: Floats, amount: float, random: np.random.Generator) -> Array:
    """Faint noise in the place of the end."""
    sounding = np.arange(len(sound)) < (1 - 0.6 * amount) * len(sound)
    return np.where(sounding, sound, 0) + 1e-3 * random.standard_normal(len(sound))


def offset(sound: Floats, amount: float, _: np.random.Generator) -> Array:
    """A constant, half as large as the peak."""
    return sound + 0.5 * amount


def clipping(sound: Floats, amount: float, _: np.random.Generator) -> Array:
    """Cut off, up to 30 dB below the peak."""
    return np.clip(sound, -(10 ** (-1.5 * amount)), 10 ** (-1.5 * amount))


def hum(sound: Floats, amount: float, _: np.random.Generator) -> Array:
    """Of the mains, and its third harmonic."""
    phase = 2 * np.pi * 50 * np.arange(len(sound)) / RATE
    return sound + 0.3 * amount * (np.sin(phase) + 0.5 * np.sin(3 * phase))


def hiss(sound: Floats, amount: float, random: np.random.Generator) -> Array:
    """White noise, 30 to 10 dB below the peak."""
    return sound + 10 ** (-2.2 + 1.7 * amount) * random.standard_normal(len(sound))


def reverb(sound: Floats, amount: float, random: np.random.Generator) -> Array:
    """Of a large room: noise that dies away by 60 dB within 1 to 3 s."""
    length = int(RATE * (0.3 + 2.7 * amount))
    room = random.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    wet = signal.fftconvolve(sound, room / np.sqrt((room**2).sum()))[: len(sound)]
    return np.asarray((1 - amount) * sound + amount * wet)


def low_bit_depth(sound: Floats, amount: float, _: np.random.Generator) -> Array:
    """6 bits, or down to 3."""
    step = 2 ** (1 - (8 - 5 * amount))
    return np.round(sound / step) * step


CHANGES: Mapping[str, Change] = {
    change.__name__: change
    for change in (bandwidth, noise_pad, offset, clipping, hum, hiss, reverb, low_bit_depth)
}
UNMEASURED = ("noise_pad", "offset", "reverb")
"""No quality measures these well, so little says more of their units than the label does: a limit that
docs/robustness.md names. Once one does, these are confounds like the others."""


@pytest.fixture(scope="module")
def sounds() -> list[Floats]:
    """Clips of all classes with a peak of 1."""
    waveforms = [soundbank.clip(name, seed).waveform for name in CLASSES for seed in range(CLIPS)]
    return [waveform / np.abs(waveform).max() for waveform in waveforms]


@pytest.fixture(scope="module")
def clean(sounds: list[Floats]) -> Floats:
    """Their qualities as they are."""
    return np.stack([measure(sound, RATE) for sound in sounds])


@dataclass(frozen=True)
class World:
    """One draw of which clips a confound changed, how much, and which are held out.

    Attributes:
        amount: float64 [clips], 0..1.
        qualities: float32 [clips, qualities].
        fold: int [clips], 0 for those held out.
    """

    amount: Doubles
    qualities: Floats
    fold: Array

    def kept(self, responses: Array, random: np.random.Generator) -> tuple[int, float]:
        """How many of `UNITS` units keep the first class as a reliable concept, and how its label predicts them.

        The units respond alike but for noise, and every unit has a hearing of the class of its own.

        Args:
            responses: float [clips].
            random: Of the noise.
        """
        units = responses[:, None] / responses.std() + 0.3 * random.standard_normal((len(CLASS), UNITS))
        similarity = random.standard_normal((len(CLASS), OTHERS))
        held = self.fold == 0
        heard = ((CLASS == 0) + HEARING * random.standard_normal((UNITS, len(CLASS))))[:, held]
        test = faithfulness(
            units[held], similarity[held], np.zeros(UNITS, int), predictions=heard, all_random=False
        )
        files = np.flatnonzero(held)
        figures = rivals([units], self.qualities, self.fold, heard, files, [Bells.none(UNITS)])
        names = kinds(test.reliable, figures, np.zeros(UNITS, bool))
        pairs = zip(names, test.reliable.tolist(), strict=True)
        return sum(holds and kind in ("concept", "both") for kind, holds in pairs), float(
            np.median(figures.label)
        )


def worlds(name: str, sounds: list[Floats], clean: Floats) -> Iterator[tuple[World, np.random.Generator]]:
    """Several draws of a confound, and what draws more."""
    for seed in range(WORLDS):
        random = np.random.default_rng(seed)
        changed = (CLASS == 0) | (random.random(len(CLASS)) < 0.25)
        amount, qualities = np.where(changed, random.uniform(0.4, 1, len(CLASS)), 0), clean.copy()
        for row in np.flatnonzero(changed):
            sound = CHANGES[name](sounds[row], amount[row], random).astype(np.float32)
            qualities[row] = measure(sound, RATE)
        fold = np.where(random.permutation(len(CLASS)) % 3, FITTED, 0)
        yield World(amount, qualities, fold), random


@pytest.mark.parametrize("name", CHANGES)
def test_units_of_a_confound_lose_the_class_and_units_of_the_class_keep_it(
    name: str, sounds: list[Floats], clean: Floats
) -> None:
    of_confound, of_class = [], []
    for world, random in worlds(name, sounds, clean):
        of_confound.append(world.kept(world.amount, random))
        of_class.append(world.kept((CLASS == 0).astype(float), random))
    assert np.mean([predicts for _, predicts in of_confound]) > 0.2  # the label goes with them
    kept = sum(count for count, _ in of_confound)
    assert (kept > ALLOWED) if name in UNMEASURED else (kept <= ALLOWED)
    assert sum(count for count, _ in of_class) >= 2 / 3 * WORLDS * UNITS
