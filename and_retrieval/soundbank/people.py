"""Voices, breath, hands and hearts, made from formants and short bursts."""

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
    resonate,
    room,
    scatter,
    time,
    tone,
    voice,
    wander,
)

PEOPLE = Recipes()
Rng = np.random.Generator


VOWELS = {
    "ah": [(730, 80, 1.0), (1090, 90, 0.6), (2440, 120, 0.25), (3400, 200, 0.1)],
    "eh": [(530, 70, 1.0), (1840, 100, 0.4), (2480, 120, 0.25), (3400, 200, 0.1)],
    "ee": [(280, 60, 1.0), (2250, 100, 0.3), (2950, 150, 0.25), (3500, 200, 0.1)],
    "oh": [(500, 70, 1.0), (900, 80, 0.5), (2400, 120, 0.12), (3300, 200, 0.06)],
    "oo": [(310, 60, 1.0), (800, 80, 0.35), (2250, 120, 0.08), (3200, 200, 0.04)],
}
"""Formants (frequency, bandwidth, gain) of five vowels, after Peterson & Barney 1952."""


@PEOPLE.add(
    "{} singing {}",
    ("a bass voice", "a tenor voice", "an alto voice", "a soprano voice"),
    ("ah", "ooh and ah in a hall"),
)
def singing(rng: Rng, n: int, a: float, b: float) -> Signal:
    base, pieces, t = 110 * 2 ** (2 * a), [], 0.0
    for step in rng.choice([0, 2, 4, 5, 7], 8):
        m = int(rng.uniform(0.5, 0.9) * RATE)
        vibrato = 1 + 0.012 * glide(m, (0, 0), (0.4, 1), (1, 1)) * np.sin(2 * np.pi * 5.6 * time(m))
        f = base * 2 ** (step / 12) * vibrato
        modes = [
            (v * (1 + 0.12 * a), w, g)
            for v, w, g in VOWELS[str(rng.choice(["ah", "oh", "oo"] if b else ["ah"]))]
        ]
        pieces.append((t, voice(rng, f, modes, 0.02, 1.0, 0.004) * fade(m, 0.06, 0.08)))
        t += m / RATE - 0.06
    return room(rng, join(n, pieces), 0.6 + b, 0.2 + 0.25 * b)


@PEOPLE.add("{} speaking {}", ("a deep voice", "a man", "a woman", "a child"), ("calmly", "quickly"))
def speech(rng: Rng, n: int, a: float, b: float) -> Signal:
    base, pieces, t = 95 * 2 ** (1.4 * a), [], 0.05
    names = list(VOWELS)
    while t < n / RATE:
        for _ in range(int(rng.integers(3, 7))):
            m = int(rng.uniform(0.12, 0.22) * (1 - 0.25 * b) * RATE)
            first, second = (VOWELS[names[i]] for i in rng.choice(5, 2, replace=False))
            f = base * np.linspace(rng.uniform(1.0, 1.35), rng.uniform(0.85, 1.15), m)
            turn = glide(m, (0, 0), (0.3, 0), (0.7, 1), (1, 1))
            size = 1 + 0.18 * a
            say = sum(
                w * voice(rng, f, [(v * size, q, g) for v, q, g in modes], 0.03, 0.9)
                for w, modes in ((1 - turn, first), (turn, second))
            )
            pieces.append((t, np.asarray(say) * fade(m, 0.03, 0.04)))
            hiss = int(0.06 * RATE)
            if rng.uniform() < 0.5:
                s = band(rng.standard_normal(hiss), rng.uniform(2000, 4500), 7800, 2) * fade(hiss, 0.02, 0.02)
                pieces.append((t - 0.05 if t > 0.05 else t, 0.04 * s))
            t += m / RATE + rng.choice([0.0, 0.04])
        t += rng.uniform(0.15, 0.3)
    return room(rng, join(n, pieces), 0.3, 0.1)


@PEOPLE.add(
    "{} crying {}",
    ("a newborn baby", "a baby", "an upset baby", "a screaming baby"),
    ("in a cot", "without pause"),
)
def baby_cry(rng: Rng, n: int, a: float, b: float) -> Signal:
    pieces, t = [], 0.05
    while t < n / RATE - 0.3:
        m = int(rng.uniform(0.6, 1.0) * RATE)
        top = rng.uniform(460, 520) * (1 + 0.25 * a)
        f = glide(m, (0, top * 0.75), (0.2, top), (0.7, top * 0.95), (1, top * 0.7))
        f = f * (1 + 0.02 * np.sin(2 * np.pi * 7 * time(m)))
        cry = voice(rng, f, [(1100, 180, 1), (1650, 220, 0.6), (3100, 300, 0.7)], 0.08 + 0.15 * a, 0.5, 0.02)
        pieces.append((t, cry * fade(m, 0.08, 0.15)))
        t += m / RATE + rng.uniform(0.2, 0.4) * (1 - 0.6 * b)
    return room(rng, join(n, pieces), 0.35, 0.15)


@PEOPLE.add("{} laughing {}", ("a man", "a woman", "a young woman", "a child"), ("softly", "loudly"))
def laughter(rng: Rng, n: int, a: float, b: float) -> Signal:
    pieces, t, base = [], 0.05, 170 * 2 ** (1.2 * a)
    while t < n / RATE:
        count = int(rng.integers(5, 9))
        for i in range(count):
            m = int(rng.uniform(0.09, 0.12) * RATE)
            f = base * np.linspace(1.35, 1.0, m) * (1.6 - 0.6 * i / count) * rng.uniform(0.95, 1.05)
            modes = [(v * (1 + 0.15 * a), q * 2, g) for v, q, g in VOWELS["ah"]]
            ha = voice(rng, f, modes, 0.25 + 0.2 * b, 0.7, 0.03) * fade(m, 0.02, 0.05)
            puff = int(0.07 * RATE)
            breath = resonate(rng.standard_normal(puff), [(900, 400, 1), (1700, 600, 0.7)]) * fade(
                puff, 0.02, 0.03
            )
            pieces += [(t, ha * (1 - 0.5 * i / count)), (t + m / RATE - 0.01, 0.35 * breath)]
            t += 0.2 * rng.uniform(0.95, 1.05)
        t += rng.uniform(0.2, 0.4)
    return room(rng, join(n, pieces), 0.4, 0.2)


@PEOPLE.add(
    "{} whistling {}",
    ("someone low", "someone", "someone high", "someone very high"),
    ("a tune", "slow notes"),
)
def whistling(rng: Rng, n: int, a: float, b: float) -> Signal:
    scale = 2 ** (np.array([0, 2, 4, 7, 9, 12]) / 12)
    length = 0.28 + 0.3 * b
    notes = (850 + 600 * a) * scale[np.abs(np.cumsum(rng.integers(-2, 3, 24))) % 6]
    step = np.minimum((time(n) / length).astype(int), 23)
    slide = np.convolve(notes[step], np.ones(600) / 600, "same") if n > 600 else notes[step]
    slide[:300], slide[-300:] = slide[300], slide[-301]
    f = slide * (1 + 0.006 * np.sin(2 * np.pi * 5.5 * time(n)))
    accents = 0.25 + 0.75 * np.abs(np.sin(np.pi * (time(n) / length % 1))) ** 0.4
    return (tone(f, n) + 0.03 * tone(2 * f, n)) * accents + 0.02 * band(noise(rng, n), 800, 4000, 1)


@PEOPLE.add(
    "{} snoring {}",
    ("someone softly", "someone", "someone loudly", "someone very loudly"),
    ("in bed", "deeply"),
)
def snoring(rng: Rng, n: int, a: float, b: float) -> Signal:
    pieces, t = [], 0.1
    while t < n / RATE:
        m = int(rng.uniform(0.9, 1.2) * RATE)
        rate = glide(m, (0, 60 - 15 * b), (1, 80 - 15 * b)) * (1 + 0.15 * wander(rng, m, 30, -1, 1))
        flutter = np.maximum(0, tone(rate, m)) ** 3
        air = resonate(
            flutter * rng.standard_normal(m), [(300, 200, 1), (800, 350, 0.8), (1700, 500, 0.4 + 0.4 * a)]
        )
        pieces.append((t, air * fade(m, 0.35, 0.25)))
        out = int(0.7 * RATE)
        breath = band(rng.standard_normal(out), 500, 3000, 1) * fade(out, 0.2, 0.4)
        pieces.append((t + m / RATE + 0.15, 0.03 * breath))
        t += m / RATE + 1.0
    return room(rng, join(n, pieces), 0.3, 0.2)


@PEOPLE.add(
    "{} heartbeat {}", ("a slow", "a calm", "a quick", "a racing"), ("through a stethoscope", "felt close")
)
def heartbeat(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(0.16 * RATE)
    thumps = [
        tone(glide(m, (0, f * 1.3), (1, f * 0.8)), m) * decay(m, d, 0.008)
        + 0.3 * band(rng.standard_normal(m), 30, 160) * decay(m, d)
        for f, d in ((55 + 20 * b, 0.14), (75 + 20 * b, 0.1))
    ]
    period = 1.0 - 0.5 * a
    first = beats(rng, n, period, 0.01, 0.1)
    at = np.stack([first, first + 0.3 * period**0.5], axis=1)
    return scatter(n, at, np.tile([1.0, 0.7], first.size), thumps) + 0.008 * band(noise(rng, n, 1), 30, 400)


def _claps(rng: Rng, count: int) -> list[Signal]:
    """Hand claps: short noise bursts, each with its own cupped-hand resonance (Repp 1987)."""
    m = int(0.05 * RATE)
    return [
        band(rng.standard_normal(m), f, 3 * f, 1) * decay(m, 0.025, 0.0005)
        for f in rng.uniform(800, 1500, count)
    ]


@PEOPLE.add(
    "{} hand clapping {}",
    ("slow", "steady", "lively", "fast"),
    ("by one person", "by a few people in a hall"),
)
def hand_clapping(rng: Rng, n: int, a: float, b: float) -> Signal:
    out = np.zeros(n)
    for i in range(1 + 2 * int(b)):
        at = beats(rng, n, 0.55 - 0.32 * a, 0.03, 0.05 + 0.02 * i)
        out += scatter(n, at, rng.uniform(0.7, 1, at.size), _claps(rng, 4))
    return room(rng, out, 0.4 + 0.6 * b, 0.3)
