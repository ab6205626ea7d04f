"""Building blocks of the recipes: noise, tones, struck modes, voices, scattered grains, rooms.

Signals are 1-D float64 arrays at `RATE`. Frequencies are in Hz, times in seconds. Nothing here depends on a concept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

RATE = 16_000
"""Sample rate in Hz of every rendered clip."""

Signal = npt.NDArray[np.float64]
Pitch = float | Signal
Make = Callable[[np.random.Generator, int, float, float], Signal]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one concept is made and described.

    Attributes:
        concept: Name of the concept.
        caption: Sentence with one `{}` for a word of `first` and one for a word of `second`.
        first: Four words for values of the main parameter, from 0 to 1.
        second: Two words for the values 0 and 1 of the second parameter.
        make: (rng, samples, first, second) -> signal of any level, at most `samples` long.
    """

    concept: str
    caption: str
    first: tuple[str, str, str, str]
    second: tuple[str, str]
    make: Make


def time(n: int) -> Signal:
    """Time of each of `n` samples, seconds."""
    return np.arange(n) / RATE


def glide(n: int, *points: tuple[float, float]) -> Signal:
    """Piecewise linear control signal through (position 0..1, value) points -> [n]."""
    at, value = zip(*points, strict=True)
    return np.asarray(np.interp(np.linspace(0.0, 1.0, n), at, value))


def wander(rng: np.random.Generator, n: int, rate: float, low: float = 0.0, high: float = 1.0) -> Signal:
    """Smooth random control signal between `low` and `high` that turns about `rate` times a second -> [n]."""
    knots = int(n / RATE * rate) + 4
    at = np.arange(n) * (rate / RATE) + rng.uniform(0, 1)
    left = at.astype(int)
    part = (1 - np.cos(np.pi * (at - left))) / 2
    values = rng.uniform(low, high, knots)
    return np.asarray(values[left] * (1 - part) + values[left + 1] * part)


def noise(rng: np.random.Generator, n: int, slope: float = 0.0) -> Signal:
    """Gaussian noise whose power falls as 1/f**slope (0 white, 1 pink, 2 brown), unit RMS."""
    x = rng.standard_normal(n)
    if slope:
        size = fft.next_fast_len(n, real=True)
        spectrum = fft.rfft(x, size)
        spectrum *= np.maximum(fft.rfftfreq(size, 1 / RATE), 20.0) ** (-slope / 2)
        x = fft.irfft(spectrum, size)[:n]
    return np.asarray(x / np.sqrt(np.mean(x**2)))


def band(x: Signal, low: float, high: float, order: int = 2) -> Signal:
    """Butterworth band-pass; `low` 0 makes it a low-pass, `high` >= 8000 a high-pass."""
    if low <= 0:
        sos = signal.butter(order, high, "lowpass", fs=RATE, output="sos")
    elif high >= RATE / 2:
        sos = signal.butter(order, low, "highpass", fs=RATE, output="sos")
    else:
        sos = signal.butter(order, (low, high), "bandpass", fs=RATE, output="sos")
    return np.asarray(signal.sosfilt(sos, x))


def resonate(x: Signal, modes: Sequence[tuple[float, float, float]]) -> Signal:
    """Parallel two-pole resonators (frequency, bandwidth, gain), each of unit peak gain."""
    out = np.zeros_like(x)
    for frequency, width, gain in modes:
        r = np.exp(-np.pi * width / RATE)
        angle = 2 * np.pi * frequency / RATE
        b0 = (1 - r) * np.sqrt(1 - 2 * r * np.cos(2 * angle) + r * r)
        out += gain * signal.lfilter([b0], [1, -2 * r * np.cos(angle), r * r], x)
    return out


def phase(frequency: Pitch, n: int) -> Signal:
    """Running phase in radians of an oscillator at `frequency` -> [n]."""
    return 2 * np.pi * np.cumsum(np.broadcast_to(frequency, (n,))) / RATE


def tone(frequency: Pitch, n: int) -> Signal:
    """Sine at a constant or varying frequency -> [n]."""
    return np.sin(phase(frequency, n))


def harmonic(frequency: Pitch, n: int, tilt: float = 1.0, count: int = 40, odd: bool = False) -> Signal:
    """Harmonics 1..count with amplitude 1/k**tilt; each is silent while it is above 7800 Hz -> [n].

    `odd` keeps only the odd harmonics, which sounds hollow, like a square wave.
    """
    f = np.broadcast_to(frequency, (n,))
    count = min(count, int(7800 / max(float(f.min()), 20.0)))
    turn = np.exp(1j * phase(frequency, n))
    step, z = (turn * turn, turn.copy()) if odd else (turn, turn.copy())
    steady, out = float(f.max()) * count <= 7800, np.zeros(n)
    for k in range(1, count + 1, 2 if odd else 1):
        part = z.imag / k**tilt
        out += part if steady else part * (f * k <= 7800)
        z *= step
    return out


def fade(n: int, attack: float, release: float) -> Signal:
    """Envelope that rises over `attack` and falls over `release` seconds, flat 1 in between -> [n]."""
    t = time(n)
    return np.clip(t / max(attack, 1e-4), 0, 1) * np.clip((n / RATE - t) / max(release, 1e-4), 0, 1)


def decay(n: int, t60: float, attack: float = 0.001) -> Signal:
    """Envelope that falls by 60 dB in `t60` seconds after a short attack -> [n]."""
    t = time(n)
    return np.exp(-6.91 * t / t60) * np.clip(t / attack, 0, 1)


def strike(
    n: int, partials: npt.ArrayLike, gains: npt.ArrayLike, t60: npt.ArrayLike, attack: float = 0.001
) -> Signal:
    """A struck body: a sum of sines at `partials` Hz, each of which decays by 60 dB in its `t60` -> [n]."""
    f, g, d = (np.asarray(v, dtype=float) for v in (partials, gains, t60))
    keep = f < 7800
    pole = np.exp((2j * np.pi * f[keep] - 6.91 / d[keep]) / RATE)
    block = 256
    inside = pole[:, None] ** np.arange(block)
    starts = g[keep] * pole ** (block * np.arange(-(-n // block))[:, None])
    modes = np.einsum("jk,kl->jl", starts, inside).imag.reshape(-1)[:n]
    return np.asarray(modes * np.clip(time(n) / attack, 0, 1))


def scatter(n: int, at: npt.ArrayLike, gains: npt.ArrayLike, grains: Sequence[Signal]) -> Signal:
    """Place grains at times `at` (seconds) with `gains`, taking the grains in turn -> [n]."""
    start = np.floor(np.asarray(at, dtype=float).reshape(-1) * RATE).astype(int)
    level = np.broadcast_to(np.asarray(gains, dtype=float), start.shape)
    inside = (start >= 0) & (start < n)
    turn = np.arange(start.size) % len(grains)
    out = np.zeros(n)
    for i, grain in enumerate(grains):
        uses = inside & (turn == i)
        if uses.sum() <= 12:
            for s, g in zip(start[uses], level[uses], strict=True):
                out[s : s + grain.size] += g * grain[: n - s]
        else:
            hits = np.bincount(start[uses], weights=level[uses], minlength=n)
            out += signal.oaconvolve(hits, grain)[:n]
    return out


def poisson(rng: np.random.Generator, n: int, rate: float) -> Signal:
    """Random times of events, about `rate` a second over `n` samples, at least one event."""
    seconds = n / RATE
    return rng.uniform(0, seconds, max(1, rng.poisson(rate * seconds)))


def beats(
    rng: np.random.Generator, n: int, period: float, jitter: float = 0.0, start: float = 0.05
) -> Signal:
    """Times that are a `period` apart, each shifted by up to `jitter` periods."""
    at = np.arange(start, n / RATE - 0.02, period)
    return np.maximum(0.0, at + rng.uniform(-jitter, jitter, at.size) * period)


def gate(n: int, on: float, off: float, edge: float = 0.004, start: float = 0.0) -> Signal:
    """Envelope that alternates between 1 for `on` seconds and 0 for `off` seconds, with soft edges -> [n]."""
    t = np.mod(time(n) - start, on + off)
    return np.clip(t / edge, 0, 1) * np.clip((on - t) / edge, 0, 1)


def room(
    rng: np.random.Generator, x: Signal, t60: float, wet: float, low: float = 150.0, high: float = 5000.0
) -> Signal:
    """Add the reverberation of a room: filtered noise that decays by 60 dB in `t60` seconds."""
    n = int(min(t60, 1.5) * RATE)
    tail = band(rng.standard_normal(n), low, high, 1) * np.exp(-6.91 * time(n) / t60)
    tail /= np.sqrt(np.sum(tail**2))
    return x + wet * np.asarray(signal.oaconvolve(x, tail))[: x.size]


def voice(
    rng: np.random.Generator,
    pitch: Signal,
    modes: Sequence[tuple[float, float, float]],
    breath: float = 0.03,
    tilt: float = 1.0,
    rough: float = 0.01,
) -> Signal:
    """A voice: harmonics of `pitch` with a little random jitter, plus breath, filtered by the formants `modes`."""
    n = pitch.size
    shaken = pitch * (1 + rough * wander(rng, n, 40.0, -1.0, 1.0))
    source = harmonic(shaken, n, tilt) + breath * rng.standard_normal(n)
    return resonate(source, modes)


def join(n: int, pieces: Sequence[tuple[float, Signal]]) -> Signal:
    """Sum signals that start at given times in seconds -> [n]; everything after the end is cut off."""
    out = np.zeros(n)
    for start, piece in pieces:
        s = int(start * RATE)
        if s < n:
            out[s : s + piece.size] += piece[: n - s]
    return out


class Recipes(dict[str, Recipe]):
    """Recipes by concept; a recipe is added by decorating the function that makes the sound."""

    def add(
        self, caption: str, first: tuple[str, str, str, str], second: tuple[str, str]
    ) -> Callable[[Make], Make]:
        """Add a function as a recipe; its name, with spaces for underscores, is the concept."""

        def register(make: Make) -> Make:
            concept = make.__name__.strip("_").replace("_", " ")
            self[concept] = Recipe(concept, caption, first, second, make)
            return make

        return register
