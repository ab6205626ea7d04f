"""Engines, vehicles and tools, made from combustion pulses, turning air and motor tones."""

from __future__ import annotations

import numpy as np

from .signals import (
    RATE,
    Recipes,
    Signal,
    band,
    beats,
    decay,
    gate,
    glide,
    harmonic,
    noise,
    phase,
    resonate,
    room,
    scatter,
    tone,
    wander,
)

MACHINES = Recipes()
Rng = np.random.Generator


def _firing(rng: Rng, rate: Signal, rough: float) -> Signal:
    """The source of an engine's sound: combustion pulses at a varying rate, each slightly different."""
    n = rate.size
    cycles = np.floor(phase(rate, n) / (2 * np.pi)).astype(int)
    starts = np.flatnonzero(np.diff(cycles, prepend=-1) > 0)
    hits = np.zeros(n)
    hits[starts] = 1 + rough * rng.standard_normal(starts.size)
    burst = rng.standard_normal(200) * 0.35 * decay(200, 0.02) + decay(200, 0.012)
    return np.convolve(hits, burst)[:n]


@MACHINES.add(
    "{} engine idling {}", ("a slow diesel", "a truck", "a car", "a rough"), ("in the street", "in a garage")
)
def engine_idling(rng: Rng, n: int, a: float, b: float) -> Signal:
    rate = (19 + 16 * a) * wander(rng, n, 4, 0.97, 1.03)
    modes = [
        (60, 40, 1),
        (120, 60, 1),
        (250, 120, 0.7),
        (520, 250, 0.5),
        (1100, 500, 0.35),
        (2400, 1200, 0.25),
    ]
    knock = resonate(_firing(rng, rate, 0.3), modes)
    return room(rng, knock / np.abs(knock).max() + 0.03 * noise(rng, n, 1), 0.4, 0.3 * b)


@MACHINES.add(
    "{} motorcycle {}", ("a slow", "a cruising", "a fast", "a racing"), ("riding past", "revving up")
)
def motorcycle(rng: Rng, n: int, a: float, b: float) -> Signal:
    revs = glide(n, (0, 1), (0.4, 1 + 0.7 * b), (0.6, 1.1), (1, 1 + 0.6 * b)) * wander(rng, n, 3, 0.95, 1.05)
    modes = [(110, 50, 1), (230, 80, 1), (480, 150, 0.7), (950, 300, 0.5), (2200, 800, 0.3)]
    engine = resonate(_firing(rng, (45 + 45 * a) * revs, 0.15), modes)
    engine = np.tanh(2.5 * engine / np.abs(engine).max())
    return np.asarray(engine * (np.hanning(n) ** 0.7 + 0.1 if not b else 1.0) + 0.02 * noise(rng, n, 1))


@MACHINES.add(
    "{} chainsaw {}", ("an idling", "a sawing", "a hard-working", "a screaming"), ("in a forest", "in bursts")
)
def chainsaw(rng: Rng, n: int, a: float, b: float) -> Signal:
    revs = wander(rng, n, 1.2 + b, 0.75, 1.1)
    modes = [(320, 120, 0.8), (900, 250, 1), (1900, 500, 1), (3600, 900, 0.7)]
    saw = resonate(_firing(rng, (75 + 60 * a) * revs, 0.2), modes)
    return np.asarray(
        np.tanh(2.5 * saw / np.abs(saw).max()) * revs + 0.06 * band(noise(rng, n), 1500, 7000, 1)
    )


@MACHINES.add(
    "{} lawn mower {}",
    ("a distant", "a small", "a running", "a big"),
    ("cutting grass", "in the garden next door"),
)
def lawn_mower(rng: Rng, n: int, a: float, b: float) -> Signal:
    revs = wander(rng, n, 1.2, 0.94, 1.04)
    modes = [(200, 100, 0.8), (550, 200, 1), (1200, 400, 1), (2600, 900, 0.6)]
    engine = resonate(_firing(rng, (52 + 16 * a) * revs, 0.25), modes)
    return np.asarray(
        np.tanh(2.5 * engine / np.abs(engine).max())
        + (0.1 - 0.04 * b) * band(noise(rng, n, 0.5), 300, 7000, 1)
    )


@MACHINES.add(
    "{} {}",
    ("a jet engine", "a passenger jet", "a jet plane", "a fighter jet"),
    ("taking off", "whining on the ground"),
)
def jet_engine(rng: Rng, n: int, a: float, b: float) -> Signal:
    roar = band(noise(rng, n, 1.3), 50, 4500, 1)
    f = (1900 + 900 * a) * glide(n, (0, 0.8), (1, 1.1))
    whine = tone(f, n) + 0.6 * tone(1.51 * f, n) + 0.4 * tone(0.5 * f, n)
    return roar * glide(n, (0, 0.5), (1, 1)) + (0.12 + 0.2 * b) * whine


@MACHINES.add("{} helicopter {}", ("a heavy", "a hovering", "a passing", "a light"), ("overhead", "close by"))
def helicopter(rng: Rng, n: int, a: float, b: float) -> Signal:
    f = (105 - 25 * a) * glide(n, (0, 1.04), (0.35, 1.02), (0.65, 0.98), (1, 0.96))
    air = band(noise(rng, n, 1.1), 90, 1900 + 600 * b, 1) * (1 + 0.3 * tone(f / 4, n))
    return (air + 0.28 * harmonic(f, n, 1.1, 8) + 0.1 * tone(f * 3.1, n)) * (0.5 + 0.5 * np.hanning(n))


@MACHINES.add("{} traffic {}", ("light", "steady", "busy", "heavy"), ("on a road", "on a motorway"))
def traffic(rng: Rng, n: int, a: float, b: float) -> Signal:
    rate = 18 + 12 * a
    air = band(noise(rng, n, 1.2), 80, 3000 + 1500 * b, 1) * (1 + 0.15 * tone(rate, n))
    motor = resonate(
        _firing(rng, np.full(n, 4.0 * rate), 0.2), [(120, 60, 1), (310, 90, 0.5), (620, 200, 0.4)]
    )
    return room(rng, air + 0.5 * motor / np.abs(motor).max(), 0.4, 0.4)


@MACHINES.add(
    "{} power drill {}",
    ("a slow", "a cordless", "an electric", "a fast"),
    ("into wood", "starting and stopping"),
)
def power_drill(rng: Rng, n: int, a: float, b: float) -> Signal:
    spin = wander(rng, n, 1.0, 0.85, 1.0) if not b else np.clip(1.3 * np.abs(tone(0.45, n)), 0.1, 1)
    f = (240 + 260 * a) * spin
    motor = resonate(
        harmonic(f, n, 0.2, 24) * (1 + 0.3 * tone(f / 6, n)),
        [(900, 300, 1), (2200, 600, 1), (4200, 1200, 0.6)],
    )
    return np.asarray((motor / np.abs(motor).max() + 0.12 * band(noise(rng, n), 1000, 7500, 1)) * spin)


@MACHINES.add(
    "{} sewing machine {}", ("a slow", "a steady", "a quick", "a fast"), ("stitching", "stitching in bursts")
)
def sewing_machine(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(0.05 * RATE)
    clacks = [
        band(rng.standard_normal(m), low, high, 1) * decay(m, 0.03, 0.0005)
        for low, high in ((900, 6500), (300, 3000))
    ]
    rate = 8 + 8 * a
    at = beats(rng, n, 0.5 / rate, 0.03)
    motor = harmonic(90 + 6 * rate, n, 0.5, 24) * 0.05 + 0.08 * noise(rng, n, 0.8)
    stitches = scatter(n, at, np.resize([1.0, 0.8], at.size), clacks)
    return room(rng, (stitches + motor) * (gate(n, 1.1, 0.35, 0.05) if b else 1.0), 0.3, 0.3)


@MACHINES.add(
    "{} reversing beeps {}", ("slow", "steady", "quick", "urgent"), ("from a truck", "with an engine running")
)
def reversing_beeps(rng: Rng, n: int, a: float, b: float) -> Signal:
    on = 0.55 - 0.28 * a
    f = rng.uniform(1050, 1300)
    beep = (tone(f, n) + 0.25 * tone(3 * f, n)) * gate(n, on, on, 0.006, rng.uniform(0, on))
    motor = resonate(_firing(rng, np.full(n, 26.0), 0.2), [(75, 30, 1), (150, 60, 0.8), (600, 300, 0.2)])
    return np.asarray(room(rng, beep, 0.6, 0.3) + (0.05 + 0.25 * b) * motor / np.abs(motor).max())
