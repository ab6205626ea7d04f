"""Makes `models/embedded_statistics.csv`: how YAMNet's classes respond to sound that means nothing.

About 400 synthetic signals of 5 s (coloured and band noise, harmonic tones, chirps, formant voices,
inharmonic bells, chord sequences, each times a random envelope) stand for "any sound"; a class then counts
only by how much more strongly it responds than it does to these. No recorded sound is involved, so the
statistics cannot leak any test set.

    python -m and_retrieval.embed.statistics
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..checkpoints.bundled import models_folder
from ..checkpoints.yamnet import load_yamnet
from ..checkpoints.yamnet_classes import SAMPLE_RATE, class_names
from ..types import Floats
from .posteriors import posterior_roots

SECONDS = 5.0
SIGNALS = 400
SEED = 20240613

Random = np.random.Generator
Signal = Callable[[Random, Floats], Floats]


def synthetic_signals(count: int = SIGNALS, seed: int = SEED) -> list[Floats]:
    """`count` signals of 5 s at 16 kHz, float32 in [-1, 1]; signal i does not depend on `count`."""
    time = (np.arange(int(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE).astype(np.float32)
    kinds: tuple[Signal, ...] = (_noise, _band, _tones, _chirp, _voice, _bells, _chords)
    signals = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        signal = kinds[number % len(kinds)](random, time) * _envelope(random, time)
        loudness = 10 ** random.uniform(-2, -0.1)
        signals.append((signal * loudness / max(1e-9, np.abs(signal).max())).astype(np.float32))
    return signals


def _coloured(random: Random, size: int, slope: float) -> Floats:
    """Noise whose amplitude spectrum falls as frequency ** -slope."""
    spectrum = np.fft.rfft(random.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 20.0)
    return np.asarray(np.fft.irfft(spectrum * frequency**-slope, size), dtype=np.float32)


def _pitch(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _noise(random: Random, time: Floats) -> Floats:
    return _coloured(random, len(time), random.uniform(-0.25, 1.25))


def _band(random: Random, time: Floats) -> Floats:
    spectrum = np.fft.rfft(random.standard_normal(len(time)))
    frequency = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
    centre, octaves = _pitch(random, 80, 7000), random.uniform(0.1, 2.0)
    distance = np.log2(np.maximum(frequency, 1.0) / centre) / octaves
    return np.asarray(np.fft.irfft(spectrum * np.exp(-0.5 * distance**2), len(time)), dtype=np.float32)


def _harmonics(time: Floats, pitch: Floats | float, slope: float, count: int = 30) -> Floats:
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch, time.shape)) / SAMPLE_RATE
    top = float(np.max(pitch))
    numbers = np.arange(1, max(2, min(count, int(0.45 * SAMPLE_RATE / top)) + 1))
    return np.asarray(
        (np.sin(np.outer(numbers, phase)) * numbers[:, None] ** -slope).sum(0), dtype=np.float32
    )


def _tones(random: Random, time: Floats) -> Floats:
    vibrato = 1 + random.uniform(0, 0.02) * np.sin(2 * np.pi * random.uniform(3, 8) * time)
    return _harmonics(time, _pitch(random, 60, 2000) * vibrato, random.uniform(0.3, 2.5))


def _chirp(random: Random, time: Floats) -> Floats:
    low, high = _pitch(random, 100, 3000), _pitch(random, 100, 6000)
    sweep = (time * random.uniform(0.2, 6)) % 1.0
    return _harmonics(time, low * (high / low) ** sweep, random.uniform(0.8, 3), count=5)


def _voice(random: Random, time: Floats) -> Floats:
    glide = np.cumsum(random.standard_normal(len(time))) / np.sqrt(len(time))
    source = _harmonics(time, _pitch(random, 80, 400) * np.exp(0.15 * glide), 1.0, count=40)
    spectrum = np.fft.rfft(source)
    frequency = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
    formants = [
        (random.uniform(250, 900), 90),
        (random.uniform(900, 2500), 120),
        (random.uniform(2300, 3500), 170),
    ]
    gain = sum(1 / (1 + ((frequency - centre) / width) ** 2) for centre, width in formants)
    return np.asarray(np.fft.irfft(spectrum * gain, len(time)), dtype=np.float32)


def _bells(random: Random, time: Floats) -> Floats:
    sound = np.zeros_like(time)
    ratios = np.array([0.5, 1, 1.19, 1.56, 2, 2.66, 3.01, 4.1]) * random.uniform(0.97, 1.03, 8)
    base, decay = _pitch(random, 150, 2000), random.uniform(0.1, 1.5)
    for start in np.sort(random.uniform(0, SECONDS, random.integers(1, 8))):
        age = np.maximum(time - start, 0)
        ring = (
            np.sin(2 * np.pi * np.outer(base * ratios, age)) * np.exp(-np.outer(np.sqrt(ratios), age) / decay)
        ).sum(0)
        sound += ring * (time >= start)
    return sound


def _chords(random: Random, time: Floats) -> Floats:
    sound, beat = np.zeros_like(time), random.uniform(0.25, 1.2)
    root, slope = _pitch(random, 80, 500), random.uniform(0.8, 2)
    for number in range(int(SECONDS / beat) + 1):
        part = (time >= number * beat) & (time < (number + 1) * beat)
        age = time[part] - number * beat
        shift = 2 ** (random.choice([0, 2, 4, 5, 7, 9]) / 12)
        for interval in (0, random.choice([3, 4]), 7):
            sound[part] += _harmonics(age, root * shift * 2 ** (interval / 12), slope, 12) * np.exp(-age * 2)
    return sound


def _envelope(random: Random, time: Floats) -> Floats:
    kind = random.integers(4)
    if kind == 0:
        return np.ones_like(time)
    if kind == 1:  # tremolo
        rate, depth = random.uniform(0.5, 20), random.uniform(0.2, 1)
        return np.asarray(1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate * time)), dtype=np.float32)
    if kind == 2:  # a few bursts
        gate = np.zeros_like(time)
        for start in random.uniform(0, SECONDS, random.integers(1, 7)):
            age = np.maximum(time - start, 0)
            gate += (time >= start) * np.exp(-age / random.uniform(0.05, 1)) * np.minimum(age / 0.005, 1)
        return gate + 1e-4
    knots = np.exp(random.normal(0, 1, 8))  # slow drift
    return np.interp(time, np.linspace(0, SECONDS, len(knots)), knots).astype(np.float32)


def write_statistics(path: Path) -> None:
    """Measure the signals with YAMNet and write class, mean and std as CSV."""
    q = posterior_roots(load_yamnet(), synthetic_signals()).astype(np.float64)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["class", "mean", "std"])
        writer.writerows(
            [name, f"{mean:.6f}", f"{std:.6f}"]
            for name, mean, std in zip(class_names(), q.mean(axis=0), q.std(axis=0), strict=True)
        )


if __name__ == "__main__":
    write_statistics(models_folder() / "embedded_statistics.csv")
    print(models_folder() / "embedded_statistics.csv")
