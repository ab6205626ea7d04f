"""One self-contained HTML file that explains a network: text, pictures and sound, no network access.

The page is three templates in `web/` and JSON blocks: one with all text, one per clip with its
sound and picture. Text from outside is never markup: it is escaped JSON here and `textContent`
there, and the page's content security policy allows no script, style or address but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from importlib import resources
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from .audio import UnreadableAudioError
from .errors import InputError
from .faithful import LEVEL
from .progress import Progress, silent
from .types import Explanation, Floats, Shown

SAMPLE_RATE = 16_000  # Hz, of the stored sound
MP3_COMPRESSION = 0.7  # libsndfile's scale 0..1; about 24 kbit/s at 16 kHz mono
WINDOW = 400  # samples, 25 ms
FFT = 512
MELS = 64  # rows of a picture
COLUMNS = 200  # columns of a picture, fewer for clips below 0.2 s
DYNAMIC_RANGE = 70.0  # dB between the darkest and the brightest colour
SHADES = 24
FIRST_TOP, FIRST_LOW = 5, 2  # clips of a unit that get sound before any other clip does
FREQUENT = 8  # labels in a layer's overview
BINS = 30  # of the distribution of scores
SLACK = 2_000  # bytes kept free for the numbers that are known only once the clips are chosen

_MAGMA = ("000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "feca8d", "fcfdbf")

ReadClip = Callable[[int], tuple[Floats, int]]
Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ReportData:
    """What a report says.

    Attributes:
        title: Heading and window title.
        facts: Name -> value, shown under the title in this order.
        notes: Warnings and honest remarks, one paragraph each.
        layers: Names of the layers, in the order they are shown.
        explanations: One per unit; a `Shown.row` of -1 has no sound.
        concept_hits: Concept -> (index into `explanations`, score) pairs, best first.
        layer_facts: Layer -> (name, value) pairs shown in its overview.
    """

    title: str
    facts: Mapping[str, str]
    notes: tuple[str, ...]
    layers: tuple[str, ...]
    explanations: Sequence[Explanation]
    concept_hits: Mapping[str, Sequence[tuple[int, float]]]
    layer_facts: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


def build_report(
    data: ReportData, read_clip: ReadClip, max_megabytes: float = 25.0, progress: Progress | None = None
) -> str:
    """The page as text; the same data gives the same bytes.

    Every clip is stored once. Clips of the clearest units of every layer come first; when the
    page would grow past `max_megabytes` (10^6 bytes of UTF-8) no further clips are added, and the
    page says so. A clip for which `read_clip` raises `UnreadableAudioError`, `InputError` or `OSError`
    is shown without sound and named on the page.

    Args:
        data: What to show.
        read_clip: Row -> (waveform, 1-D float32 in [-1, 1]; sample rate in Hz).
        max_megabytes: Largest size of the page.
        progress: Called with (clips done, clips wanted).

    Raises:
        InputError: `max_megabytes` is no size or too small for the text alone, or libsndfile cannot write MP3.
        ValueError: An explanation or facts of an unknown layer, a unit explained twice, or a concept
            hit that points outside `explanations`.
    """
    _check(data)
    if not 0 < max_megabytes < math.inf:
        raise InputError(f"max_megabytes is {max_megabytes:g}; give a number above 0")
    rows = sound_order(data.explanations, data.layers)
    tables = text_tables(data)
    sound: dict[str, Any] = {
        "stored": 0,
        "wanted": len(rows),
        "unreadable": [],
        "first": FIRST_TOP,
        "megabytes": max_megabytes,
    }
    left = int(max_megabytes * 1e6) - SLACK - len(_page(data.title, tables | {"sound": sound}, []).encode())
    if left < 0:
        raise InputError(
            f"the report's text alone is larger than max_megabytes={max_megabytes:g}; "
            "allow more megabytes or report fewer layers"
        )
    blocks, stored = _add_sound(rows, read_clip, left, sound["unreadable"], _places(data), progress or silent)
    sound["stored"] = len(stored)
    for layer, heard in zip(tables["layers"], _heard(data, stored), strict=True):
        layer["heard"] = heard
    return _page(data.title, tables | {"sound": sound}, blocks)


def _check(data: ReportData) -> None:
    names = set(data.layers)
    for one in data.explanations:
        if one.layer not in names:
            raise ValueError(f"unit {one.unit} is of layer {one.layer!r}, which is not in layers")
    if unknown := [layer for layer in data.layer_facts if layer not in names]:
        raise ValueError(f"there are facts about layer {unknown[0]!r}, which is not in layers")
    for (layer, unit), times in Counter((one.layer, one.unit) for one in data.explanations).items():
        if times > 1:
            raise ValueError(f"unit {layer}:{unit} is explained {times} times")
    for concept, hits in data.concept_hits.items():
        if any(not 0 <= i < len(data.explanations) for i, _ in hits):
            raise ValueError(f"a hit of concept {concept!r} points outside the explanations")


# ---------- which clips get sound ----------


def sound_order(explanations: Sequence[Explanation], layers: Sequence[str]) -> list[int]:
    """Distinct clip rows in the order in which they are given sound.

    Layers take turns, each offering its units in the order of `_clearness`; the first clips of
    every unit come before the remaining clips of any.
    """
    ranked = [sorted((e for e in explanations if e.layer == layer), key=_clearness) for layer in layers]
    turns = [e for turn in zip_longest(*ranked) for e in turn if e is not None]
    first = [s for e in turns for s in (*e.top[:FIRST_TOP], *e.low[:FIRST_LOW])]
    rest = [s for e in turns for s in (*e.top[FIRST_TOP:], *e.low[FIRST_LOW:])]
    return list(dict.fromkeys(s.row for s in (*first, *rest) if s.row >= 0))


def _clearness(one: Explanation) -> tuple[int, float, int]:
    """Reliable units, then untested ones, then the others, each by the score of the best label."""
    return [True, None, False].index(_reliable(one)), -_best(one), one.unit


def _reliable(one: Explanation) -> bool | None:
    return one.faithfulness.reliable if one.faithfulness else None


def _best(one: Explanation) -> float:
    score = one.labels[0].score if one.labels else -math.inf
    return score if math.isfinite(score) else -math.inf


def _places(data: ReportData) -> dict[int, str]:
    return {s.row: f"{s.path} from {s.start:g} s" for e in data.explanations for s in (*e.top, *e.low)}


def _add_sound(
    rows: Sequence[int],
    read_clip: ReadClip,
    left: int,
    unreadable: list[str],
    places: Mapping[int, str],
    progress: Progress,
) -> tuple[list[str], set[int]]:
    """Blocks of the clips that fit into `left` bytes; `unreadable` gains the clips that failed."""
    blocks, stored = [], set()
    for done, row in enumerate(rows):
        progress(done, len(rows))
        try:
            waveform, sample_rate = read_clip(row)
        except (UnreadableAudioError, InputError, OSError) as error:
            unreadable.append(f"{places[row]}: {error}")
            left -= len(_embed(unreadable[-1])) + 1
        else:
            block = _json_block(f"clip-{row}", clip_media(waveform, sample_rate))
            left -= len(block) + 1
            if left >= 0:
                blocks.append(block)
                stored.add(row)
        if left < 0:
            break
    progress(len(rows), len(rows))
    return blocks, stored


def _heard(data: ReportData, stored: set[int]) -> list[int]:
    """Per layer the number of units whose first top clips can all be played."""
    whole = [e.layer for e in data.explanations if e.top and all(s.row in stored for s in e.top[:FIRST_TOP])]
    return [whole.count(layer) for layer in data.layers]


# ---------- sound and picture of a clip ----------


def clip_media(waveform: Floats, sample_rate: int) -> dict[str, Any]:
    """Duration in seconds, MP3 and PNG (base64) of a clip, for the page's JSON."""
    sound = np.nan_to_num(np.asarray(waveform, dtype=np.float32))
    if sample_rate != SAMPLE_RATE:
        sound = soxr.resample(sound, sample_rate, SAMPLE_RATE)
    sound = np.clip(sound, -1.0, 1.0)
    return {
        "duration": round(len(waveform) / sample_rate, 3),
        "audio": base64.b64encode(encode_mp3(sound)).decode(),
        "image": base64.b64encode(write_png(mel_levels(sound), _palette())).decode(),
    }


def encode_mp3(waveform: Floats) -> bytes:
    """MP3 of a 1-D waveform at `SAMPLE_RATE`.

    MP3 because every browser plays it, because at this rate it is as small and as true as Opus
    while five times as fast to write, and because libsndfile puts a random serial number into Ogg
    files, which would make equal reports differ.
    """
    memory = io.BytesIO()
    try:
        with soundfile.SoundFile(
            memory, "w", SAMPLE_RATE, 1, "MPEG_LAYER_III", format="MP3", compression_level=MP3_COMPRESSION
        ) as file:
            file.write(waveform)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise InputError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot write MP3 ({error}); "
            "install one that can: pip install --force-reinstall soundfile"
        ) from error
    return memory.getvalue()


def mel_levels(waveform: Floats) -> Levels:
    """Log-mel picture of a 1-D waveform at `SAMPLE_RATE`: uint8 [MELS, up to COLUMNS], 0..SHADES-1.

    HTK mel scale up to half the sample rate; the clip's loudest point is the brightest shade, what
    is `DYNAMIC_RANGE` dB below it the darkest. Row 0 is the highest band.
    """
    hop = max(16, len(waveform) // (COLUMNS * 5))
    padded = np.pad(waveform.astype(np.float64), (FFT // 2, FFT // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::hop]
    margin = (FFT - WINDOW) // 2
    window = np.pad(np.hanning(WINDOW), (margin, FFT - WINDOW - margin))
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=1)))
    columns = min(COLUMNS, len(frames))
    edges = np.arange(columns) * len(frames) // columns
    widths = np.diff(np.append(edges, len(frames)))
    mels = np.add.reduceat(power @ _mel_filters().T, edges, axis=0) / widths[:, None]
    decibels = 10 * np.log10(np.maximum(mels, 1e-12))
    if decibels.max() <= -100:
        return np.zeros((MELS, columns), np.uint8)
    share = np.clip(1 + (decibels - decibels.max()) / DYNAMIC_RANGE, 0, 1)
    return np.ascontiguousarray(np.rint(share * (SHADES - 1)).astype(np.uint8).T[::-1])


def _mel_filters() -> npt.NDArray[np.float64]:
    """Triangular HTK mel filters, [MELS, FFT // 2 + 1]."""
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    rise = (bins - hertz[:-2, None]) / np.diff(hertz)[:-1, None]
    fall = (hertz[2:, None] - bins) / np.diff(hertz)[1:, None]
    return np.asarray(np.maximum(0, np.minimum(rise, fall)))


def _palette() -> Levels:
    """`SHADES` colours along matplotlib's magma (CC0), uint8 [SHADES, 3]."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _MAGMA], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, SHADES)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def write_png(levels: Levels, palette: Levels) -> bytes:
    """PNG with 8-bit palette of uint8 [height, width] indices into uint8 [colours, 3] (ISO/IEC 15948)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = levels.shape
    lines = np.pad(levels, ((0, 0), (1, 0))).tobytes()  # a leading 0 per line: no filter
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", palette.tobytes()),
            chunk(b"IDAT", zlib.compress(lines, 9)),
            chunk(b"IEND", b""),
        ]
    )


# ---------- text ----------


def text_tables(data: ReportData) -> dict[str, Any]:
    """The page's text as JSON-able tables: units point to layers, concepts and clips by number."""
    concepts: dict[str, int] = {}
    clips: dict[tuple[int, str, float, str | None], int] = {}
    layer_number = {name: i for i, name in enumerate(data.layers)}

    def show(shown: Shown) -> list[Any]:
        key = (shown.row, shown.path, shown.start, shown.caption)
        return [clips.setdefault(key, len(clips)), _number(shown.peak), _number(shown.activation)]

    units = [
        {
            "layer": layer_number[e.layer],
            "unit": e.unit,
            "labels": [[concepts.setdefault(x.concept, len(concepts)), _number(x.score)] for x in e.labels],
            "text": e.summary.text,
            "origin": e.summary.origin,
            "reliable": _reliable(e),
            "faithfulness": _figures(e),
            "acoustics": e.acoustics,
            "reason": e.summary.reason,
            "raw": e.summary.raw,
            "top": [show(s) for s in e.top],
            "low": [show(s) for s in e.low],
        }
        for e in data.explanations
    ]
    return {
        "title": data.title,
        "facts": [[name, value] for name, value in data.facts.items()],
        "notes": list(data.notes),
        "layers": [
            layer_overview(
                name, [e for e in data.explanations if e.layer == name], data.layer_facts.get(name, ())
            )
            for name in data.layers
        ],
        "level": LEVEL,
        "scoreRange": _score_range(data.explanations),
        "concepts": list(concepts),
        "clips": [{"row": r, "path": p, "start": round(float(s), 3), "caption": c} for r, p, s, c in clips],
        "units": units,
        "hits": [
            [name, [[i, _number(score)] for i, score in hits]] for name, hits in data.concept_hits.items()
        ],
    }


def _figures(one: Explanation) -> list[float | None] | None:
    """The fields of `UnitFaithfulness` in its order, but for the verdict."""
    return [_number(value) for value in astuple(one.faithfulness)[:-1]] if one.faithfulness else None


def layer_overview(
    name: str, explanations: Sequence[Explanation], facts: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Counts of a layer's units, its most frequent best labels and the distribution of their scores."""
    verdicts = [_reliable(e) for e in explanations]
    frequent = Counter(e.labels[0].concept for e in explanations if e.labels)
    scores = np.array([s for s in map(_best, explanations) if math.isfinite(s)])
    return {
        "name": name,
        "units": len(explanations),
        "labelled": sum(bool(e.labels) for e in explanations),
        "tested": sum(verdict is not None for verdict in verdicts),
        "reliable": sum(verdict is True for verdict in verdicts),
        "sentences": sum(e.summary.text is not None for e in explanations),
        "facts": [list(fact) for fact in facts],
        "heard": 0,
        "frequent": sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT],
        "scores": _distribution(scores) if len(scores) else None,
    }


def _distribution(scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    low, high = float(scores.min()), float(scores.max())
    counts, _ = np.histogram(scores, bins=BINS, range=(low, high))
    return {
        "low": _number(low),
        "high": _number(high),
        "median": _number(float(np.median(scores))),
        "counts": counts.tolist(),
    }


def _score_range(explanations: Sequence[Explanation]) -> list[float]:
    """Ends of the score bars: 0 or the lowest score, and the highest."""
    scores = [x.score for e in explanations for x in e.labels if math.isfinite(x.score)]
    return [min([0.0, *scores]), max(scores, default=1.0)]


def _number(value: float) -> float | None:
    """Five significant digits, for a small page; None for what JSON cannot hold."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


# ---------- page ----------


def _embed(value: Any) -> str:
    """JSON in ASCII that cannot end or open an HTML element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _json_block(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{_embed(value)}</script>'


def _template(name: str) -> str:
    return (resources.files(__package__) / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Source expression of a content security policy that allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(title: str, tables: Mapping[str, Any], blocks: Sequence[str]) -> str:
    style, script = _template("report.css"), _template("report.js")
    parts = {
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        "style": style,
        "style-hash": _hash(style),
        "script": script,
        "script-hash": _hash(script),
        "data": "\n".join([_json_block("report", tables), *blocks]),
    }
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: parts[match[1]], _template("report.html"))
