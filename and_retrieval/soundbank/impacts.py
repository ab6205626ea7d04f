"""Blows, bangs and breakage, made from short noise bursts and struck modes."""

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
    join,
    noise,
    poisson,
    room,
    scatter,
    strike,
    time,
    tone,
    wander,
)

IMPACTS = Recipes()
Rng = np.random.Generator


@IMPACTS.add("{} knocking {}", ("slow", "firm", "quick", "urgent"), ("on a wooden door", "on a hollow door"))
def knocking(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(0.15 * RATE)
    wood = np.array([170, 330, 560, 900, 1500, 2300]) * (1 - 0.3 * b) * rng.uniform(0.92, 1.08)
    knocks = [
        strike(m, wood * k, [1, 0.9, 0.7, 0.5, 0.35, 0.2], [0.07, 0.06, 0.05, 0.04, 0.025, 0.02], 0.0003)
        for k in (1.0, 1.03, 0.98)
    ]
    period = 0.36 - 0.22 * a
    group = int(3 + 2 * a)
    first = np.arange(0.1, n / RATE, period * group + 0.6)
    at = (first[:, None] + period * np.arange(group) * rng.uniform(0.97, 1.03, group)).reshape(-1)
    return room(rng, scatter(n, at, rng.uniform(0.8, 1, at.size), knocks), 0.45, 0.25)


@IMPACTS.add(
    "a machine gun firing {} {}",
    ("slowly", "in bursts", "fast", "very fast"),
    ("in the open", "between buildings"),
)
def machine_gun(rng: Rng, n: int, a: float, b: float) -> Signal:
    turn = np.mod(time(n) * (8.5 + 5 * a), 1)
    chop = (np.exp(-8 * turn) + 0.08) * (0.15 + 0.85 * (np.mod(time(n), 1.9) < 1.5))
    slap = band(noise(rng, n, 1.1), 40, 1500 + 1500 * b, 1)
    return np.asarray(
        (slap + 0.8 * tone(62, n) + 0.5 * band(noise(rng, n, 1.5), 20, 200)) * chop
        + 0.05 * noise(rng, n, 0.8)
    )


@IMPACTS.add(
    "{} explosion {}", ("a small", "a big", "a huge", "a deafening"), ("in the distance", "close by")
)
def explosion(rng: Rng, n: int, a: float, b: float) -> Signal:
    t60 = 1.6 + 1.6 * a
    blast = band(noise(rng, n, 1.3), 25, 500 + 900 * b) * decay(n, t60, 0.004) * wander(rng, n, 18, 0.5, 1)
    front = noise(rng, n, 0.5) * decay(n, 0.35, 0.001) * (0.25 + 0.6 * b)
    debris = band(noise(rng, n), 800, 5000, 1) * wander(rng, n, 40) ** 6 * decay(n, t60, 0.4) * 0.2
    return np.concatenate([np.zeros(1500), np.tanh(1.6 * (blast + front) + debris)])[:n]


@IMPACTS.add("{} fireworks {}", ("a few", "some", "many", "countless"), ("banging", "whistling and banging"))
def fireworks(rng: Rng, n: int, a: float, b: float) -> Signal:
    m, w, pieces = int(0.9 * RATE), int(0.6 * RATE), []
    for t in beats(rng, n, 1.1 - 0.65 * a, 0.2, 0.25 + 0.4 * b):
        bang = band(noise(rng, m, 1.1), 40, 2500, 1) * decay(m, 0.6) + 0.3 * noise(rng, m) * decay(m, 0.08)
        pieces.append((t, bang * rng.uniform(0.5, 1)))
        at = poisson(rng, m, 150)
        crack = [band(rng.standard_normal(400), f, 3 * f, 1) * decay(400, 0.025) for f in (800, 1100, 1500)]
        crackle = scatter(m, at, rng.uniform(0.2, 1, at.size) ** 1.5, crack)
        pieces.append((t + 0.25, 0.5 * crackle * fade(m, 0.1, 0.4)))
        if b and t > 0.6:
            f = glide(w, (0, 1800), (1, rng.uniform(3200, 4200)))
            pieces.append((t - 0.6, 0.12 * tone(f, w) * fade(w, 0.1, 0.05)))
    return room(rng, join(n, pieces), 1.4, 0.5, 80, 2500)


@IMPACTS.add(
    "glass {} {}", ("clinking", "cracking", "breaking", "shattering"), ("on the floor", "in the distance")
)
def breaking_glass(rng: Rng, n: int, a: float, b: float) -> Signal:
    shards = []
    for f in rng.uniform(1800, 5500, 20):
        m = int(0.25 * RATE)
        shards.append(
            strike(
                m,
                f * np.array([1, 1.47, 2.09, 2.56]),
                [1, 0.7, 0.5, 0.4],
                np.array([0.22, 0.16, 0.1, 0.08]) * rng.uniform(0.5, 1.2),
                0.0003,
            )
        )
    pieces = np.zeros(n)
    for start in (0.12, 1.6):
        count = int(25 + 60 * a)
        at = start + np.concatenate([[0, 0.004, 0.011], rng.exponential(0.18 + 0.15 * a, count)])
        pieces += scatter(n, at, rng.uniform(0.1, 1, at.size) ** 1.5 * np.exp(-1.2 * (at - start)), shards)
        crash = int(0.2 * RATE)
        pieces += join(
            n,
            [
                (
                    start,
                    (0.5 + a) * band(rng.standard_normal(crash), 1500, 7900, 1) * decay(crash, 0.12, 0.0003),
                )
            ],
        )
    return room(rng, pieces, 0.5, 0.15 + 0.3 * b)


@IMPACTS.add("{} hammering {}", ("slow", "steady", "quick", "fast"), ("a nail", "on metal"))
def hammering(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(0.3 * RATE)
    ring = np.array([1150, 2740, 4150, 5600, 7100]) * rng.uniform(0.9, 1.1)
    metal = strike(m, ring, [0.5, 0.8, 0.8, 0.6, 0.5], np.array([0.12, 0.1, 0.08, 0.06, 0.05]) * (0.4 + b))
    thud = band(rng.standard_normal(m), 100, 900, 1) * decay(m, 0.05, 0.0005) * (1 - 0.6 * b)
    blow = (
        0.5 * metal + 1.2 * thud + 0.9 * band(rng.standard_normal(m), 800, 7500, 1) * decay(m, 0.03, 0.0003)
    )
    at = beats(rng, n, 0.55 - 0.3 * a, 0.05)
    return room(rng, scatter(n, at, rng.uniform(0.7, 1, at.size), [blow]), 0.6, 0.4)
