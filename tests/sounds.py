"""Small sounds that the tests write and measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from and_retrieval.types import Floats

WriteSound = Callable[..., Path]
"""What the fixture `write_sound` gives: (name, waveform, rate, **soundfile options) -> path."""


def tone(frequency: float, seconds: float, rate: int, amplitude: float = 0.5) -> Floats:
    """A sine, float32."""
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def noise(seconds: float = 0.5, rate: int = 16_000, seed: int = 0, amplitude: float = 0.3) -> Floats:
    """Uniform noise, float32."""
    random = np.random.default_rng(seed)
    return random.uniform(-amplitude, amplitude, round(seconds * rate)).astype(np.float32)


def loudest_frequency(sound: Floats, rate: int) -> float:
    """Frequency of the strongest bin of the spectrum, Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * rate / len(sound))
