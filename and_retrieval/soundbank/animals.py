"""Animals, made from whistles, pulses and formants."""

from __future__ import annotations

import numpy as np

from .signals import (
    RATE,
    Recipes,
    Signal,
    beats,
    fade,
    glide,
    harmonic,
    join,
    noise,
    resonate,
    room,
    scatter,
    strike,
    time,
    tone,
    voice,
    wander,
)

ANIMALS = Recipes()
Rng = np.random.Generator


def _whistled(rng: Rng, seconds: float, low: float, high: float, kind: int) -> Signal:
    """One bird note: an up, down or arched sweep, or a trill."""
    m = int(seconds * RATE)
    shapes = ((low, high, high), (high, (low + high) / 2, low), (low, high, low), (high, low, high))
    first, middle, last = shapes[kind % 4]
    f = glide(m, (0, first), (0.5, middle), (1, last))
    if kind >= 4:
        f = f + (high - low) * 0.5 * np.sin(2 * np.pi * rng.uniform(24, 40) * time(m))
    return (tone(f, m) + 0.08 * tone(2 * f, m)) * fade(m, 0.012, seconds * 0.5)


@ANIMALS.add(
    "{} bird {}",
    ("a slowly chirping", "a chirping", "a trilling", "a busily singing"),
    ("in a garden", "in a forest"),
)
def birds_chirping(rng: Rng, n: int, a: float, b: float) -> Signal:
    pieces = []
    for bird in range(2 + int(b)):
        low = rng.uniform(2300, 3800)
        motif = [(int(rng.integers(0, 8)), rng.uniform(0.05, 0.16), rng.uniform(0.9, 1.25)) for _ in range(3)]
        t = rng.uniform(0, 0.4)
        while t < n / RATE:
            for kind, length, up in motif:
                note = _whistled(rng, length, low * up, low * up * 1.45, kind)
                pieces.append((t, note * (1.0 if bird == 0 else 0.35)))
                t += length + rng.uniform(0.03, 0.08)
            t += rng.uniform(0.1, 0.3) * (2 - a)
    return room(rng, join(n, pieces), 0.7, 0.2 + 0.2 * b) + 0.004 * noise(rng, n, 1)


@ANIMALS.add("{} crickets {}", ("a few", "some", "many", "countless"), ("chirping at night", "in a meadow"))
def crickets(rng: Rng, n: int, a: float, b: float) -> Signal:
    out = 0.01 * noise(rng, n, 1.0)
    for i in range(1 + round(3 * a)):
        f = rng.uniform(4000, 5000)
        pulses = scatter(int(0.12 * RATE), np.arange(3) * 0.035, 1.0, [np.hanning(int(0.025 * RATE))])
        chirps = scatter(
            n, beats(rng, n, rng.uniform(0.3, 0.5) - 0.1 * b, 0.02, rng.uniform(0, 0.3)), 1.0, [pulses]
        )
        out += tone(f, n) * chirps * (1.0 if i == 0 else rng.uniform(0.2, 0.7))
    return out


@ANIMALS.add(
    "{} croaking {}",
    ("a deep-voiced frog", "a frog", "a small frog", "a tiny frog"),
    ("in a pond", "in chorus"),
)
def frog(rng: Rng, n: int, a: float, b: float) -> Signal:
    pieces = []
    for k in range(1 + 2 * int(b)):
        size = (1 + 0.9 * a) * rng.uniform(0.9, 1.1)
        m = int(rng.uniform(0.22, 0.32) * RATE)
        click = strike(400, [520 * size, 1250 * size, 2100 * size], [1, 0.8, 0.3], [0.025, 0.02, 0.015])
        croak = scatter(m, beats(rng, m, 1 / (38 + 25 * a), 0.05, 0.0), 1.0, [click]) * fade(m, 0.12, 0.06)
        pieces += [
            (t, croak * (1 if k == 0 else 0.5))
            for t in beats(rng, n, rng.uniform(0.5, 0.7), 0.08, 0.1 + 0.2 * k)
        ]
    return room(rng, join(n, pieces), 0.5, 0.15) + 0.003 * noise(rng, n, 1)


@ANIMALS.add(
    "{} barking {}",
    ("a big dog", "a dog", "a small dog", "a yapping puppy"),
    ("in a yard", "again and again indoors"),
)
def dog_bark(rng: Rng, n: int, a: float, b: float) -> Signal:
    size, pieces = (0.7 + 0.6 * a) * rng.uniform(0.95, 1.05), []
    for t in beats(rng, n, rng.uniform(0.45, 0.6) - 0.1 * b, 0.12, 0.08):
        m = int(rng.uniform(0.1, 0.14) * RATE)
        f = glide(m, (0, 450), (0.3, rng.uniform(640, 720)), (1, 330)) * size
        modes = [(800 * size, 300, 1), (1500 * size, 400, 0.8), (2600 * size, 600, 0.4), (4200, 900, 0.2)]
        bark = voice(rng, f, modes, 0.08, 0.5, 0.04)
        pieces.append((t, bark * fade(m, 0.008, 0.07) * rng.uniform(0.7, 1)))
    return room(rng, join(n, pieces), 0.8, 0.5 + 0.2 * b, 300, 4000)


@ANIMALS.add(
    "{} meowing {}", ("a large cat", "a cat", "a young cat", "a kitten"), ("once or twice", "plaintively")
)
def cat_meow(rng: Rng, n: int, a: float, b: float) -> Signal:
    size, pieces, t = (0.85 + 0.35 * a) * rng.uniform(0.96, 1.04), [], 0.1
    while t < n / RATE - 0.4:
        m = int(rng.uniform(0.6, 0.85) * (1 + 0.3 * b) * RATE)
        f = glide(m, (0, 560), (0.3, 780), (0.6, 740), (1, 500)) * size
        closed = voice(rng, f, [(700 * size, 300, 1), (2500, 400, 0.3)], 0.02, 0.8)
        opened = voice(rng, f, [(1500 * size, 500, 1), (2600 * size, 600, 0.9), (4500, 900, 0.6)], 0.02, 0.2)
        open_mouth = glide(m, (0, 0), (0.2, 0.9), (0.6, 1), (1, 0.1))
        pieces.append((t, (closed * (1 - open_mouth) + opened * open_mouth) * fade(m, 0.1, 0.25)))
        t += m / RATE + rng.uniform(0.35, 0.7)
    return room(rng, join(n, pieces), 0.4, 0.2)


@ANIMALS.add("{} bleating {}", ("a ram", "a sheep", "a goat", "a lamb"), ("in a meadow", "in a stable"))
def sheep_bleat(rng: Rng, n: int, a: float, b: float) -> Signal:
    size, pieces, t = (0.75 + 0.6 * a) * rng.uniform(0.95, 1.05), [], 0.1
    while t < n / RATE - 0.4:
        m = int(rng.uniform(0.6, 0.9) * RATE)
        shake = np.sin(2 * np.pi * rng.uniform(9, 13) * time(m))
        f = glide(m, (0, 230), (0.2, 260), (1, 200)) * size * (1 + 0.08 * shake)
        modes = [(700 * size, 250, 0.8), (1600, 350, 1), (2800, 500, 0.8), (4200, 800, 0.4)]
        cry = voice(rng, f, modes, 0.3, 0.2, 0.06)
        pieces.append((t, cry * (0.6 + 0.4 * shake) * fade(m, 0.04, 0.2)))
        t += m / RATE + rng.uniform(0.25, 0.6)
    return room(rng, join(n, pieces), 0.4 + 0.5 * b, 0.2 + 0.15 * b)


@ANIMALS.add(
    "{} hooting {}",
    ("a large owl", "an owl", "a tawny owl", "a small owl"),
    ("at night", "in an echoing wood"),
)
def owl_hoot(rng: Rng, n: int, a: float, b: float) -> Signal:
    base, pieces, t = 330 + 200 * a + rng.uniform(-15, 15), [], 0.15
    for length, pause in ((0.3, 0.3), (0.12, 0.08), (0.12, 0.1), (0.4, 0.45), (0.3, 0.3), (0.4, 0.3)):
        m = int(length * RATE)
        f = glide(m, (0, base * 0.9), (0.3, base * 1.05), (1, base * 0.92))
        hoot = tone(f, m) + 0.05 * tone(2 * f, m)
        pieces.append((t, hoot * fade(m, 0.06, length * 0.6)))
        t += length + pause
    return room(rng, join(n, pieces), 1.3, 0.4 + 0.4 * b) + 0.02 * noise(rng, n, 1)


@ANIMALS.add(
    "{} buzzing {}",
    ("a slow bee", "a bee", "a busy bee", "an angry wasp"),
    ("around a flower", "past the ear"),
)
def bee_buzz(rng: Rng, n: int, a: float, b: float) -> Signal:
    f = (190 + 80 * a) * wander(rng, n, 3, 0.85, 1.1) * (1 + 0.03 * wander(rng, n, 80, -1, 1))
    buzz = resonate(harmonic(f, n, 0.3, 30), [(f.mean() * 2, 300, 1), (1200, 800, 0.6), (3000, 1500, 0.5)])
    return np.asarray(
        (buzz / np.abs(buzz).max() + 0.04 * noise(rng, n, 0.5)) * wander(rng, n, 1.5 + b, 0.15, 1) ** 1.5
    )


@ANIMALS.add(
    "{} mosquito {}",
    ("a droning", "a whining", "a shrill", "a very shrill"),
    ("circling", "close to the ear"),
)
def mosquito(rng: Rng, n: int, a: float, b: float) -> Signal:
    f = (370 + 200 * a) * wander(rng, n, 3, 0.9, 1.08) * (1 + 0.03 * wander(rng, n, 80, -1, 1))
    whine = resonate(harmonic(f, n, 0.3, 20), [(f.mean(), 300, 1), (1500, 900, 0.6), (3400, 1500, 0.5)])
    return np.asarray(
        (whine / np.abs(whine).max() + 0.04 * noise(rng, n, 0.5)) * wander(rng, n, 1.5 + b, 0.15, 1) ** 1.5
    )
