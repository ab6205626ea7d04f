"""Instruments sampled in the General MIDI soundfont of the `pretty_midi` wheel, played by `tinysoundfont`.

Both are optional. `pretty_midi` itself is never imported: only its soundfont (TimGM6mb, GPL-2) is read, and
the sounds rendered from it stay on this machine. Every clip gets a new synthesiser, because a synthesiser that has
played before does not give the same samples again.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .signals import RATE, Recipe, Signal

REMEDY = "pip install pretty_midi && pip install --no-deps tinysoundfont"
GAIN = -8.0
"""Gain in decibels; the headroom keeps chords from clipping before the clip is set to its level."""


@dataclass(frozen=True, slots=True)
class Patch:
    """How an instrument is played.

    Attributes:
        program: General MIDI program 0..127; -1 for a key of the drum kit.
        low, high: Range of MIDI keys; for drums, the keys that are struck in turn.
        style: melody, chords, strum, slow, beat or roll.
        called: What a caption calls the instrument.
    """

    program: int
    low: int
    high: int
    style: str
    called: str


def _drum(low: int, high: int, called: str) -> Patch:
    return Patch(-1, low, high, "beat", called)


PATCHES: dict[str, Patch] = {
    "piano": Patch(0, 48, 79, "chords", "a piano"),
    "harpsichord": Patch(6, 50, 79, "chords", "a harpsichord"),
    "glockenspiel": Patch(9, 79, 100, "melody", "a glockenspiel"),
    "vibraphone": Patch(11, 60, 84, "melody", "a vibraphone"),
    "marimba": Patch(12, 50, 79, "melody", "a marimba"),
    "tubular bells": Patch(14, 60, 77, "slow", "tubular bells"),
    "church organ": Patch(19, 48, 79, "chords", "a church organ"),
    "accordion": Patch(21, 55, 81, "chords", "an accordion"),
    "harmonica": Patch(22, 60, 84, "melody", "a harmonica"),
    "acoustic guitar": Patch(25, 45, 69, "strum", "an acoustic guitar"),
    "electric guitar": Patch(30, 40, 64, "strum", "a distorted electric guitar"),
    "bass guitar": Patch(33, 28, 47, "melody", "a bass guitar"),
    "violin": Patch(40, 57, 86, "melody", "a violin"),
    "cello": Patch(42, 38, 62, "slow", "a cello"),
    "pizzicato strings": Patch(45, 48, 76, "melody", "plucked strings"),
    "harp": Patch(46, 45, 84, "strum", "a harp"),
    "timpani": Patch(47, 38, 52, "beat", "timpani"),
    "string section": Patch(48, 48, 76, "chords", "a string section"),
    "choir": Patch(52, 50, 74, "chords", "a choir"),
    "trumpet": Patch(56, 58, 80, "melody", "a trumpet"),
    "trombone": Patch(57, 43, 65, "slow", "a trombone"),
    "french horn": Patch(60, 45, 68, "slow", "french horns"),
    "saxophone": Patch(65, 52, 76, "melody", "a saxophone"),
    "clarinet": Patch(71, 52, 80, "melody", "a clarinet"),
    "flute": Patch(73, 64, 91, "melody", "a flute"),
    "sitar": Patch(104, 48, 70, "melody", "a sitar"),
    "banjo": Patch(105, 52, 76, "melody", "a banjo"),
    "bagpipes": Patch(109, 57, 76, "melody", "bagpipes"),
    "steel drums": Patch(114, 58, 79, "melody", "steel drums"),
    "bass drum": _drum(35, 36, "a bass drum"),
    "snare drum": _drum(38, 40, "a snare drum"),
    "drum roll": Patch(-1, 38, 40, "roll", "a drum roll"),
    "cymbal": _drum(49, 57, "crash cymbals"),
    "hi hat": _drum(42, 46, "a hi-hat"),
    "tambourine": _drum(54, 54, "a tambourine"),
    "cowbell": _drum(56, 56, "a cowbell"),
    "conga": _drum(62, 64, "congas"),
    "maracas": _drum(70, 70, "maracas"),
    "wood block": _drum(76, 77, "a wood block"),
    "drum kit": _drum(35, 51, "a drum kit"),
}
"""Sampled concept -> how it is played."""

DRUM_KEYS = {
    "cymbal": (49, 57, 55, 49),
    "hi hat": (42, 42, 46, 42, 44),
    "conga": (63, 64, 62, 64),
    "drum kit": (36, 42, 38, 42, 36, 46, 38, 42),
}
SCALE = np.array([0, 2, 4, 5, 7, 9, 11])


@functools.cache
def soundfont() -> Path | None:
    """Path of the soundfont if it and a working player are installed, else None."""
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None or importlib.util.find_spec("tinysoundfont") is None:
        return None
    path = Path(spec.origin).parent / "TimGM6mb.sf2"
    try:
        import tinysoundfont  # noqa: F401
    except ImportError:
        return None
    return path if path.is_file() else None


def _phrase(
    rng: np.random.Generator, concept: str, seconds: float, a: float, b: float
) -> list[tuple[float, int, float, int]]:
    """Notes (start, key, length, velocity); `a` sets the register, low to high, and `b` the tempo, slow or fast."""
    patch = PATCHES[concept]
    step = (0.5 if patch.style != "slow" else 0.9) * (1 - 0.45 * b) * rng.uniform(0.9, 1.1)
    count = int((seconds - 0.1) / step) + 1
    loud = rng.integers(75, 122, count)
    starts = step * np.arange(count)
    if patch.style == "beat":
        drums = DRUM_KEYS.get(concept, tuple(range(patch.low, patch.high + 1)))
        at = starts * (0.7 if concept != "cymbal" else 1.6)
        return [
            (float(t), drums[(i + round(3 * a)) % len(drums)], step, int(v))
            for i, (t, v) in enumerate(zip(at, loud, strict=True))
        ]
    if patch.style == "roll":
        at = np.arange(0, seconds, rng.uniform(0.9, 1.1) / (16 + 4 * a + 8 * b))
        swell = np.linspace(60 + 30 * a, 120, at.size) * rng.uniform(0.85, 1, at.size)
        return [
            (float(t), 38 + 2 * (i % 2), 0.1, int(v)) for i, (t, v) in enumerate(zip(at, swell, strict=True))
        ]
    root = int(patch.low + (patch.high - patch.low - 12) * a * 0.9)
    walk = np.abs(np.cumsum(rng.integers(-2, 4, count))) % 8
    keys = root + 12 * (walk // 7) + SCALE[walk % 7]
    if patch.style in ("melody", "slow"):
        return [(float(t), int(k), step * 1.05, int(v)) for t, k, v in zip(starts, keys, loud, strict=True)]
    lag, length, size = (0.05, step * 1.5, 5) if patch.style == "strum" else (0.0, step * 1.9, 3)
    chord = (0, 4, 7, 12, 16)[:size]
    return [
        (float(t + lag * j), int(k + c), length, int(v))
        for t, k, v in zip(starts[::2], keys[::2], loud[::2], strict=True)
        for j, c in enumerate(chord)
    ]


def _play(program: int, notes: list[tuple[float, int, float, int]], n: int) -> Signal:
    """Notes played by a fresh synthesiser -> mono [n]."""
    import tinysoundfont

    synth: Any = tinysoundfont.Synth(gain=GAIN, samplerate=RATE)
    font = synth.sfload(str(soundfont()))
    drums = program < 0
    synth.program_select(0, font, 128 if drums else 0, max(program, 0), drums)
    events = sorted(
        [(int(t * RATE), 1, key, velocity) for t, key, _, velocity in notes]
        + [(int((t + length) * RATE), 0, key, 0) for t, key, length, _ in notes if not drums]
    )
    parts, now = [], 0
    for at, on, key, velocity in [*events, (n, 0, 0, 0)]:
        if min(at, n) > now:
            parts.append(np.frombuffer(bytes(synth.generate(min(at, n) - now)), np.float32))
            now = min(at, n)
        if on:
            synth.noteon(0, key, velocity)
        elif key:
            synth.noteoff(0, key)
    stereo = np.concatenate(parts).reshape(-1, 2)
    return np.asarray(stereo.mean(axis=1), dtype=float)[:n]


def _recipe(concept: str, patch: Patch) -> Recipe:
    def make(rng: np.random.Generator, n: int, a: float, b: float) -> Signal:
        return _play(patch.program, _phrase(rng, concept, n / RATE, a, b), n)

    if patch.style == "roll":
        return Recipe(
            concept,
            "{} drum roll, {}",
            ("a quiet", "a soft", "a swelling", "a loud"),
            ("steady", "fast"),
            make,
        )
    if patch.style == "beat":
        return Recipe(
            concept,
            f"{patch.called} playing {{}} {{}}",
            ("one pattern", "a beat", "a rhythm", "a groove"),
            ("slowly", "fast"),
            make,
        )
    played = {"melody": "notes", "slow": "long notes", "chords": "chords", "strum": "broken chords"}[
        patch.style
    ]
    words = ("low", "middle", "bright", "high")
    return Recipe(concept, f"{patch.called} playing {{}} {played} {{}}", words, ("slowly", "fast"), make)


INSTRUMENTS = {concept: _recipe(concept, patch) for concept, patch in PATCHES.items()}
"""Sampled concept -> recipe; must be called only if `soundfont()` is not None."""
