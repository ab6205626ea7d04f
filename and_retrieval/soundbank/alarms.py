"""Sirens, horns, telephones, clocks and bells, made from oscillators and struck modes."""

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
    gate,
    glide,
    harmonic,
    join,
    noise,
    poisson,
    resonate,
    room,
    scatter,
    strike,
    time,
    tone,
    wander,
)

ALARMS = Recipes()
Rng = np.random.Generator


@ALARMS.add(
    "a {} siren {}",
    ("slowly wailing", "wailing", "fast", "yelping"),
    ("in the street", "passing between houses"),
)
def siren(rng: Rng, n: int, a: float, b: float) -> Signal:
    rate = (0.3, 0.5, 1.2, 3.2)[round(3 * a)] * rng.uniform(0.9, 1.1)
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * (rate * time(n) + rng.uniform(0, 1)))
    f = 620 * (1.0 + 1.1 * sweep) * (glide(n, (0, 1.03), (1, 0.96)) if b else 1.0)
    return room(rng, harmonic(f, n, 1.3, 8), 0.9, 0.2 + 0.3 * b) + 0.02 * band(noise(rng, n, 1), 60, 3000, 1)


@ALARMS.add(
    "an air raid siren {} {}",
    ("starting", "rising", "wailing", "at full pitch"),
    ("over a town", "in the distance"),
)
def civil_defense_siren(rng: Rng, n: int, a: float, b: float) -> Signal:
    low, high = 220 + 130 * a, 430 + 60 * a
    f = glide(n, (0, low), (0.45, high), (0.75, high), (1, low + 60))
    horn = harmonic(f, n, 0.9, 12) + 0.6 * harmonic(f * 1.2, n, 0.9, 10)
    return room(rng, band(horn, 150, 3500 - 1700 * b, 1), 1.4, 0.5 + 0.4 * b)


@ALARMS.add(
    "a smoke alarm {} {}",
    ("chirping", "beeping slowly", "beeping", "beeping fast"),
    ("in a hallway", "right overhead"),
)
def smoke_alarm(rng: Rng, n: int, a: float, b: float) -> Signal:
    on, off = ((0.12, 0.9), (0.5, 0.5), (0.4, 0.2), (0.12, 0.1))[round(3 * a)]
    f = rng.uniform(3000, 3350)
    beep = (tone(f, n) + 0.1 * tone(2 * f, n)) * gate(n, on, off)
    return room(rng, beep, 0.5, 0.25 * (1 - b))


@ALARMS.add(
    "an alarm clock beeping {} {}",
    ("slowly", "in pairs", "in fours", "rapidly"),
    ("at the bedside", "under a pillow"),
)
def alarm_clock(rng: Rng, n: int, a: float, b: float) -> Signal:
    count, f = (1, 2, 4, 6)[round(3 * a)], rng.uniform(1900, 2150)
    beep = gate(n, 0.07, 0.07) * (np.mod(time(n), 0.14 * count + 0.36 - 0.1 * a) < 0.14 * count)
    return band(harmonic(f, n, 1.2, 3, odd=True) * beep, 0, 7000 - 2500 * b, 1)


@ALARMS.add(
    "a clock {} {}",
    ("ticking slowly", "ticking", "ticking quickly", "ticking fast"),
    ("on a wall", "close to the ear"),
)
def clock_ticking(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(0.04 * RATE)
    body = (1900, 3100, 4700, 6100)
    ticks = [
        strike(m, [k * f for f in body], [1, 0.9, 0.8, 0.5], [0.014, 0.01, 0.008, 0.006], 0.0003)
        + 0.4 * band(rng.standard_normal(m), 2000, 7500, 1) * decay(m, 0.006, 0.0003)
        for k in (1.0, 0.87)
    ]
    at = beats(rng, n, (1.0, 0.5, 0.33, 0.2)[round(3 * a)], 0.004)
    return room(rng, scatter(n, at, 1.0, ticks), 0.3, 0.3 * (1 - b)) + 0.0008 * noise(rng, n, 1)


@ALARMS.add("a {} dial tone {}", ("low", "plain", "bright", "high"), ("in a handset", "on a noisy line"))
def dial_tone(rng: Rng, n: int, a: float, b: float) -> Signal:
    low, high = ((330, 440), (350, 440), (400, 450), (425, 480))[round(3 * a)]
    return tone(float(low), n) + tone(float(high), n) + (0.005 + 0.03 * b) * band(noise(rng, n), 300, 3400)


@ALARMS.add(
    "a busy signal {} {}",
    ("beeping slowly", "beeping", "beeping quickly", "beeping fast"),
    ("in a handset", "on a noisy line"),
)
def busy_signal(rng: Rng, n: int, a: float, b: float) -> Signal:
    on = (0.5, 0.4, 0.3, 0.22)[round(3 * a)]
    pair = tone(480.0, n) + tone(620.0, n)
    return pair * gate(n, on, on, start=rng.uniform(0, on)) + (0.005 + 0.03 * b) * band(
        noise(rng, n), 300, 3400
    )


@ALARMS.add(
    "{} telephone ringing {}", ("an old", "a desk", "a small", "a shrill"), ("in an office", "on the table")
)
def telephone_ring(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(0.5 * RATE)
    base = (1100 + 500 * a) * rng.uniform(0.97, 1.03)
    bells = [
        strike(
            m,
            [base * k, base * k * 2.1, base * k * 3.6, base * k * 4.9],
            [1, 0.6, 0.4, 0.25],
            [0.5, 0.35, 0.25, 0.15],
        )
        for k in (1.0, 1.26)
    ]
    at = beats(rng, n, 1 / 24, 0.02, 0.0)
    at = at[np.mod(at, 1.6) < 1.1]
    return room(rng, scatter(n, at, rng.uniform(0.85, 1, at.size), bells), 0.4, 0.25 * (1 - b))


@ALARMS.add(
    "{} telephone keys {}",
    ("dialling slowly on", "pressing", "dialling on", "dialling quickly on"),
    ("of a phone", "over the line"),
)
def touch_tones(rng: Rng, n: int, a: float, b: float) -> Signal:
    step = 0.42 - 0.24 * a
    keys = min(int(n / RATE / step), 20)
    m, pieces = int(0.6 * step * RATE), []
    for i in range(keys):
        low, high = rng.choice([697.0, 770.0, 852.0, 941.0]), rng.choice([1209.0, 1336.0, 1477.0])
        pieces.append((0.05 + i * step, (tone(low, m) + tone(high, m)) * fade(m, 0.004, 0.004)))
    return join(n, pieces) + (0.004 + 0.02 * b) * band(noise(rng, n), 300, 3400)


@ALARMS.add(
    "a {} train horn {}", ("low", "loud", "bright", "high"), ("blowing long", "blowing at a crossing")
)
def train_horn(rng: Rng, n: int, a: float, b: float) -> Signal:
    chord = np.array([311.0, 370.0, 415.0, 494.0, 622.0]) * (0.9 + 0.35 * a) * rng.uniform(0.98, 1.02)
    bend = glide(n, (0, 0.95), (0.08, 1), (0.9, 1), (1, 0.96)) * (1 + 0.003 * wander(rng, n, 8, -1, 1))
    horn = sum(harmonic(f * bend, n, 0.9, 10) for f in chord)
    air = band(noise(rng, n), 500, 6000, 1)
    blast = gate(n, 1.0, 0.35, 0.08) if b else fade(n, 0.1, 0.4)
    return room(rng, (np.asarray(horn) + 0.6 * air) * blast, 1.3, 0.5)


@ALARMS.add("a {} honking {}", ("truck", "van", "car", "small car"), ("once or twice", "again and again"))
def car_horn(rng: Rng, n: int, a: float, b: float) -> Signal:
    low = (300 + 170 * a) * rng.uniform(0.97, 1.03)
    horn = harmonic(low, n, 0.4, 20) + harmonic(low * 1.26, n, 0.4, 20)
    horn = resonate(horn, [(low * 3, 400, 0.7), (2100, 800, 1), (3300, 1200, 0.7)])
    honk = gate(n, 0.9, 0.45, 0.02, 0.1) if not b else gate(n, 0.28, 0.16, 0.015, 0.1)
    return room(rng, horn * honk, 0.7, 0.3) + 0.005 * noise(rng, n, 1.2)


@ALARMS.add(
    "a {} steam whistle {}", ("deep", "mellow", "bright", "shrill"), ("blowing long", "in short blasts")
)
def steam_whistle(rng: Rng, n: int, a: float, b: float) -> Signal:
    chord = np.array([1.0, 1.26, 1.5]) * (380 + 300 * a)
    bend = glide(n, (0, 0.9), (0.1, 1), (0.85, 1), (1, 0.93)) * (1 + 0.003 * wander(rng, n, 8, -1, 1))
    pipes = sum(harmonic(f * bend, n, 1.5, 6) for f in chord)
    air = band(noise(rng, n), 900, 6000, 1)
    return room(
        rng,
        (np.asarray(pipes) + 0.35 * air) * (gate(n, 0.7, 0.3, 0.06) if b else fade(n, 0.1, 0.3)),
        1.2,
        0.4,
    )


@ALARMS.add("a {} buzzer {}", ("low", "rough", "loud", "high"), ("at a door", "in short bursts"))
def buzzer(rng: Rng, n: int, a: float, b: float) -> Signal:
    f = (95 + 110 * a) * rng.uniform(0.97, 1.03)
    buzz = resonate(harmonic(f, n, 0.1, 50), [(800, 500, 1), (1900, 700, 1), (3500, 1200, 0.7)])
    return room(rng, buzz * gate(n, 0.9 - 0.55 * b, 0.35, 0.01), 0.3, 0.15)


@ALARMS.add("a {} doorbell {}", ("low", "warm", "bright", "high"), ("going ding-dong", "ringing twice"))
def doorbell(rng: Rng, n: int, a: float, b: float) -> Signal:
    m, f = int(2.0 * RATE), (480 + 260 * a) * rng.uniform(0.98, 1.02)
    ding, dong = (
        strike(m, [k * f, 2.76 * k * f, 5.4 * k * f], [1, 0.25, 0.08], [1.6, 0.6, 0.25]) for k in (1.26, 1.0)
    )
    chime = [(0.1, ding), (0.65, dong), (1.6, ding), (2.15, dong)] if b else [(0.15, ding), (0.85, dong)]
    return room(rng, join(n, chime), 0.5, 0.2)


CHURCH = (
    (0.5, 0.6, 1.0),
    (1, 1.0, 0.8),
    (1.19, 0.8, 0.6),
    (1.5, 0.5, 0.45),
    (2, 1.0, 0.5),
    (2.5, 0.4, 0.3),
    (2.66, 0.35, 0.25),
    (3.0, 0.4, 0.25),
    (4.07, 0.35, 0.18),
    (5.3, 0.25, 0.12),
    (6.7, 0.15, 0.08),
)
"""Partials of a church bell: ratio to the prime, gain, relative decay (hum, prime, tierce, quint, nominal...)."""


@ALARMS.add("a {} church bell {}", ("great", "deep", "bright", "small"), ("tolling", "pealing with another"))
def church_bell(rng: Rng, n: int, a: float, b: float) -> Signal:
    base = (330 + 330 * a) * rng.uniform(0.97, 1.03)
    ratio, gain, last = np.array(CHURCH).T
    bells = [
        strike(n, k * base * ratio * rng.uniform(0.997, 1.003, ratio.size), gain * ratio**0.3, 5 * last)
        + strike(n, k * base * ratio * 1.004, gain * 0.5, 4 * last)
        for k in ((1.0, 1.19) if b else (1.0,))
    ]
    at = beats(rng, n, (1.4 - 0.4 * a) / (1 + b), 0.01)
    return room(rng, scatter(n, at, 1.0, bells), 1.5, 0.5) + 0.01 * noise(rng, n, 1)


@ALARMS.add("a {} bell {}", ("large hand", "hand", "small hand", "tiny"), ("rung steadily", "shaken quickly"))
def bell(rng: Rng, n: int, a: float, b: float) -> Signal:
    m, base = int(2.4 * RATE), (620 + 500 * a) * rng.uniform(0.97, 1.03)
    ratio = np.array([1, 1.004, 2.0, 2.74, 3.0, 4.1, 5.4])
    gain = np.array([1, 0.7, 0.6, 0.6, 0.3, 0.4, 0.3])
    hits = [
        strike(m, base * ratio, gain, np.array([2.6, 2.4, 1.9, 1.5, 1.3, 0.9, 0.7]) * k) for k in (1.0, 0.9)
    ]
    at = beats(rng, n, 0.9 - 0.5 * b, 0.06)
    return room(rng, scatter(n, at, rng.uniform(0.7, 1, at.size), hits), 1.0, 0.3)


@ALARMS.add(
    "a {} bicycle bell {}", ("low", "bright", "clear", "high"), ("rung once or twice", "rung again and again")
)
def bicycle_bell(rng: Rng, n: int, a: float, b: float) -> Signal:
    m, base = int(1.0 * RATE), (1500 + 700 * a) * rng.uniform(0.97, 1.03)
    hit = [strike(m, base * np.array([1, 1.007, 2.3, 3.9]), [1, 0.8, 0.5, 0.3], [1.1, 1.0, 0.6, 0.4])]
    first = beats(rng, n, 1.3 - 0.7 * b, 0.05)
    at = (first[:, None] + np.arange(5) * 0.05).reshape(-1)
    return scatter(n, at, np.tile([1, 0.6, 0.8, 0.5, 0.6], first.size), hit)


@ALARMS.add("{} wind chimes {}", ("low", "wooden", "metal", "tiny"), ("in a breeze", "in a strong wind"))
def wind_chimes(rng: Rng, n: int, a: float, b: float) -> Signal:
    m = int(1.2 * RATE)
    scale = (900 + 1100 * a) * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14]) / 12)
    tubes = [
        strike(m, f * np.array([1, 2.76, 5.4]), [1, 0.5, 0.2], [1.3, 0.7, 0.3])
        for f in rng.permutation(scale)
    ]
    at = poisson(rng, n, 4 + 7 * b)
    return scatter(n, at, rng.uniform(0.15, 1, at.size), tubes) + 0.01 * band(noise(rng, n, 1.5), 60, 800, 1)
