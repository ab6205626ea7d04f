"""Test signals, hums, static and electronic effects."""

from __future__ import annotations

import numpy as np

from .signals import (
    RATE,
    Recipes,
    Signal,
    band,
    beats,
    decay,
    fade,
    glide,
    harmonic,
    join,
    noise,
    room,
    scatter,
    time,
    tone,
    wander,
)

ELECTRONIC = Recipes()
Rng = np.random.Generator


@ELECTRONIC.add("{} laser zaps {}", ("slow", "steady", "quick", "rapid"), ("from a toy", "in a video game"))
def laser_zap(rng: Rng, n: int, a: float, b: float) -> Signal:
    m, pieces = int((0.4 - 0.2 * a) * RATE), []
    for t in beats(rng, n, 0.6 - 0.38 * a, 0.03):
        f = rng.uniform(2800, 4500) * np.exp(-glide(m, (0, 0), (1, rng.uniform(2.3, 3.2)))) + 80
        pieces.append((t, (harmonic(f, m, 1.0, 12, odd=True) if b else tone(f, m)) * fade(m, 0.003, 0.1)))
    return join(n, pieces)


@ELECTRONIC.add("a {} sonar ping {}", ("low", "clear", "bright", "high"), ("under water", "with long echoes"))
def sonar_ping(rng: Rng, n: int, a: float, b: float) -> Signal:
    m, f = int(0.9 * RATE), (700 + 800 * a) * rng.uniform(0.97, 1.03)
    ping = tone(f, m) * decay(m, 0.9 + 0.5 * b, 0.01)
    at = beats(rng, n, 1.5, 0.01)
    dry = scatter(n, np.concatenate([at, at + 0.35]), np.repeat([1.0, 0.25 + 0.2 * b], at.size), [ping])
    return room(rng, dry, 1.5, 0.5 + 0.5 * b, f * 0.8, f * 1.25) + 0.01 * band(noise(rng, n, 2), 40, 300, 1)


@ELECTRONIC.add("{} static {}", ("faint", "crackling", "harsh", "dense"), ("on a radio", "between stations"))
def radio_static(rng: Rng, n: int, a: float, b: float) -> Signal:
    hiss = band(noise(rng, n), 80, 7900, 1) * wander(rng, n, 3 + 6 * a, 0.85, 1)
    return hiss + 0.08 * b * tone(wander(rng, n, 0.8, 600, 1800), n)


@ELECTRONIC.add("a {} mains hum {}", ("soft", "steady", "rough", "strong"), ("at 50 hertz", "at 60 hertz"))
def mains_hum(rng: Rng, n: int, a: float, b: float) -> Signal:
    f = 50.0 + 10 * b
    hum = harmonic(2 * f, n, 1.0 - 0.5 * a, 10) * (1 + 0.15 * tone(f, n)) + 0.4 * tone(f, n)
    return hum + 0.06 * noise(rng, n, 1)


@ELECTRONIC.add("a {} sine tone {}", ("low", "middle", "high", "very high"), ("held", "pulsing slowly"))
def sine_tone(rng: Rng, n: int, a: float, b: float) -> Signal:
    f = 500 * 2 ** (2.6 * a) * rng.uniform(0.95, 1.05)
    return tone(float(f), n) * (1 - 0.4 * b * (0.5 + 0.5 * tone(0.8, n)))


@ELECTRONIC.add("a {} chirp tone sweeping {}", ("slow", "steady", "quick", "fast"), ("up", "down"))
def chirp_sweep(rng: Rng, n: int, a: float, b: float) -> Signal:
    ramp = np.mod(time(n) / (3.2, 1.9, 1.2, 0.8)[round(3 * a)], 1)
    low, high = rng.uniform(300, 500), rng.uniform(3000, 5000)
    return tone(low * (high / low) ** (1 - ramp if b else ramp), n)


@ELECTRONIC.add(
    "{} white noise {}", ("soft", "steady", "loud", "very loud"), ("without a break", "with a slow swell")
)
def white_noise(rng: Rng, n: int, a: float, b: float) -> Signal:
    return noise(rng, n) * (1 - 0.35 * b * (0.5 + 0.5 * tone(0.5, n))) * (0.3 + 0.7 * a)


@ELECTRONIC.add(
    "{} pink noise {}", ("soft", "steady", "loud", "very loud"), ("without a break", "with a slow swell")
)
def pink_noise(rng: Rng, n: int, a: float, b: float) -> Signal:
    return noise(rng, n, 1.0) * (1 - 0.35 * b * (0.5 + 0.5 * tone(0.5, n))) * (0.3 + 0.7 * a)


@ELECTRONIC.add(
    "a theremin playing {} {}",
    ("low", "a slow tune", "high", "very high"),
    ("with vibrato", "with long slides"),
)
def theremin(rng: Rng, n: int, a: float, b: float) -> Signal:
    steps = wander(rng, n, 1.4 - 0.6 * b, 0, 14)
    f = (220 * 2**a) * 2 ** (steps / 12) * (1 + 0.018 * tone(5.8, n))
    return harmonic(f, n, 2.0, 8) * wander(rng, n, 1.5, 0.5, 1)
