"""Weather, water, fire and steam, made from noise, bubbles and crackles."""

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
    noise,
    poisson,
    resonate,
    room,
    scatter,
    time,
    tone,
    wander,
)

NATURE = Recipes()
Rng = np.random.Generator


def _bubbles(rng: Rng, n: int, rate: float, low: float, high: float, ring: float) -> Signal:
    """Air bubbles in water: sines that rise as they decay (van den Doel 2005)."""
    grains = []
    for f in rng.uniform(np.log(low), np.log(high), 12):
        m = int(RATE * ring * rng.uniform(1, 3))
        grains.append(
            tone(np.exp(f) * (1 + rng.uniform(0.1, 0.8) * np.linspace(0, 1, m)), m) * decay(m, m / RATE)
        )
    at = poisson(rng, n, rate)
    return scatter(n, at, rng.uniform(0.05, 1, at.size) ** 2, grains)


@NATURE.add("{} rain {}", ("light", "steady", "heavy", "pouring"), ("on a roof", "on leaves"))
def rain(rng: Rng, n: int, a: float, b: float) -> Signal:
    hiss = band(noise(rng, n), 250 + 350 * b, 6500, 1) * wander(rng, n, 8, 0.75, 1)
    drops = [band(rng.standard_normal(48), 500 + 400 * b, 7000, 1) * decay(48, 0.003) for _ in range(3)]
    at = poisson(rng, n, 150 + 600 * a)
    return (0.35 + 0.4 * a) * hiss + 0.7 * scatter(n, at, rng.pareto(2.2, at.size).clip(0, 5), drops)


@NATURE.add(
    "{} wind {}", ("gentle", "gusty", "strong", "stormy"), ("blowing outdoors", "howling around a house")
)
def wind(rng: Rng, n: int, a: float, b: float) -> Signal:
    gust = wander(rng, n, 0.8 + a, 0.25, 1) ** 2
    low = band(noise(rng, n, 1.5), 60, 700 + 500 * a, 1)
    centre = rng.uniform(380, 620)
    howl = resonate(noise(rng, n), [(centre, 40, 1), (centre * 1.6, 60, 0.6)])
    return gust * (low + (0.3 + 2.5 * b) * gust * howl)


@NATURE.add(
    "{} thunder {}", ("distant", "rolling", "loud", "cracking"), ("over a plain", "with rain falling")
)
def thunder(rng: Rng, n: int, a: float, b: float) -> Signal:
    t = time(n)
    at = np.sort(np.concatenate([[0.12], rng.uniform(0.3, 2.2, 4)]))
    claps = sum(
        g * np.exp(-3.0 * np.maximum(t - s, 0)) * (t > s)
        for s, g in zip(at, np.sort(rng.uniform(0.3, 1, 5))[::-1], strict=True)
    )
    rumble = band(noise(rng, n, 1.3), 25, 250 + 350 * a) * wander(rng, n, 18, 0.3, 1)
    wet = 0.01 * band(noise(rng, n), 600, 7000, 1) * (0.3 + b)
    return np.asarray(np.tanh(1.2 * claps * rumble) + wet)


@NATURE.add("{} ocean waves {}", ("small", "rolling", "big", "breaking"), ("on a beach", "against rocks"))
def ocean_waves(rng: Rng, n: int, a: float, b: float) -> Signal:
    t = time(n)
    swell = (0.5 - 0.5 * np.cos(2 * np.pi * (t / rng.uniform(2.6, 3.8) + rng.uniform(0, 1)))) ** (1.5 + b)
    body = band(noise(rng, n, 1.0), 100, 2500, 1)
    foam = band(noise(rng, n, 0.5), 900, 7000, 1)
    return (
        (0.25 + swell) * body * 0.8
        + (0.2 + 0.5 * a) * swell**2 * foam
        + 0.15 * band(noise(rng, n, 2), 0, 150)
    )


@NATURE.add("{} stream {}", ("trickling", "babbling", "running", "rushing"), ("in the woods", "over stones"))
def stream(rng: Rng, n: int, a: float, b: float) -> Signal:
    water = _bubbles(rng, n, 150 + 300 * a, 260 + 150 * b, 1700, 0.02)
    return water + (0.15 + 0.2 * a) * band(noise(rng, n, 0.7), 200, 5000, 1) * wander(rng, n, 6, 0.6, 1)


@NATURE.add("water {} {}", ("gurgling", "bubbling", "boiling", "boiling over"), ("in a pot", "in a kettle"))
def boiling_water(rng: Rng, n: int, a: float, b: float) -> Signal:
    water = _bubbles(rng, n, 150 + 300 * a, 200 + 150 * b, 1100, 0.02)
    return water + (0.15 + 0.15 * a) * band(noise(rng, n, 0.8), 200, 3500 + 2500 * b, 1) * wander(
        rng, n, 9, 0.6, 1
    )


@NATURE.add(
    "water drops {} {}",
    ("dripping slowly", "dripping", "dripping fast", "falling"),
    ("in a cave", "in a sink"),
)
def water_drops(rng: Rng, n: int, a: float, b: float) -> Signal:
    grains = []
    for _ in range(4):
        m = int(0.09 * RATE)
        rise = rng.uniform(600, 1100) * np.exp(glide(m, (0, 0), (0.5, 0.5), (1, rng.uniform(0.7, 1.1))))
        grains.append(tone(rise, m) * decay(m, rng.uniform(0.05, 0.09), 0.003))
    at = beats(rng, n, 0.85 - 0.55 * a, 0.12)
    return room(rng, scatter(n, at, rng.uniform(0.6, 1, at.size), grains), 1.2 - 0.8 * b, 0.5 - 0.3 * b)


@NATURE.add("a {} waterfall {}", ("small", "broad", "high", "roaring"), ("nearby", "in a gorge"))
def waterfall(rng: Rng, n: int, a: float, b: float) -> Signal:
    sheet = band(noise(rng, n, 0.9 + 0.4 * b), 80, 6500, 1) * wander(rng, n, 12, 0.85, 1)
    return (
        sheet
        + 0.5 * _bubbles(rng, n, 400, 400, 2500, 0.01) * (1 - 0.6 * a)
        + a * band(noise(rng, n, 2), 0, 200)
    )


@NATURE.add("a {} fire crackling {}", ("small", "warm", "big", "roaring"), ("in a fireplace", "outdoors"))
def fire_crackling(rng: Rng, n: int, a: float, b: float) -> Signal:
    pops = [
        band(rng.standard_normal(120), f, min(3 * f, 7500), 1) * decay(120, d)
        for f, d in ((700, 0.006), (1200, 0.005), (2200, 0.004), (1500, 0.008))
    ]
    at = poisson(rng, n, 18 + 35 * a)
    crackle = scatter(n, at, rng.pareto(1.6, at.size).clip(0, 8) + 0.1, pops)
    bed = 0.12 * band(noise(rng, n, 1.4), 60, 900, 1) * wander(rng, n, 7, 0.4, 1) + 0.012 * noise(rng, n)
    return room(rng, crackle, 0.25, 0.3 * (1 - b)) + (0.6 + 1.8 * a) * bed


@NATURE.add(
    "{} hissing {}",
    ("steam", "loud steam", "escaping gas", "a leaking valve"),
    ("in short puffs", "steadily"),
)
def steam_hiss(rng: Rng, n: int, a: float, b: float) -> Signal:
    jet = band(noise(rng, n, -0.3), 1500 + 1800 * a, 7900, 1)
    puffs = scatter(n, beats(rng, n, 0.8, 0.05), 1.0, [fade(int(0.55 * RATE), 0.05, 0.3)])
    return jet * (wander(rng, n, 2, 0.8, 1) if b else puffs)
