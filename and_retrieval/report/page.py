"""One self-contained HTML file that explains a network: text, pictures and sound, no network access.

The page consists of templates in `web/` and JSON blocks: one with all text, and one per clip with its sound and
picture. Text from outside is never markup: it is escaped as JSON here and set as `textContent` by the page's script.
The page's content security policy allows no other script, style or address.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from itertools import zip_longest
from typing import Any

from ..choices import MEGABYTES
from ..clips.files import UnreadableAudioError
from ..config import REPORT_MEGABYTES
from ..errors import InputError
from ..progress import Progress, silent
from ..types import Explanation, Floats, Shown
from .data import ReportData, best_score, check, text_tables
from .media import clip_media

FIRST_TOP, FIRST_LOW = 5, 2  # clips of a unit, or of a meaning, that get sound first
SLACK = 2_000  # bytes kept free for numbers that are known only after the clips are chosen
SCRIPTS = tuple(
    f"report-{part}.js" for part in ("elements", "words", "listing", "clips", "cards", "overview", "start")
)
"""The parts of the page's script, in the order in which they are joined."""

ReadClip = Callable[[int], tuple[Floats, int]]


def build_report(
    data: ReportData,
    read_clip: ReadClip,
    max_megabytes: float = REPORT_MEGABYTES,
    progress: Progress | None = None,
) -> str:
    """The page as text; the same data gives the same bytes.

    Every clip is stored once. Clips of the clearest units of every layer come first. Once the page would
    exceed `max_megabytes` (10^6 bytes of UTF-8), no more clips are added, and the page says so. A clip for
    which `read_clip` raises `UnreadableAudioError`, `InputError` or `OSError` is shown without sound and
    listed on the page.

    Args:
        data: The content of the report.
        read_clip: Row -> (waveform, 1-D float32 in [-1, 1]; sample rate in Hz).
        max_megabytes: Largest size of the page.
        progress: Called with (clips done, clips wanted).

    Raises:
        InputError: `max_megabytes` is not a size or is too small for the text alone, or libsndfile cannot write MP3.
        ValueError: The parts of the report do not belong together, see `data.check`.
    """
    check(data)
    MEGABYTES.check("max_megabytes", max_megabytes)
    rows = sound_order(data.explanations, data.layers)
    tables = text_tables(data)
    sound: dict[str, Any] = {
        "stored": 0,
        "wanted": len(rows),
        "unreadable": [],
        "first": FIRST_TOP,
        "megabytes": max_megabytes,
    }
    text = SLACK + len(_page(data.title, tables | {"sound": sound}, []).encode())
    left = int(max_megabytes * 1e6) - text
    if left < 0:
        needed = -(-text // 100_000) / 10  # a tenth of a megabyte, rounded up
        raise InputError(
            f"the report's text alone takes {needed:g} megabytes, and {max_megabytes:g} are allowed; "
            f"give --megabytes {needed:g} or more (in Python: max_megabytes)"
        )
    blocks, stored = _add_sound(rows, read_clip, left, sound["unreadable"], _places(data), progress or silent)
    sound["stored"] = len(stored)
    for layer, heard in zip(tables["layers"], _heard(data, stored), strict=True):
        layer["heard"] = heard
    return _page(data.title, tables | {"sound": sound}, blocks)


# ---------- which clips get sound ----------


def sound_order(explanations: Sequence[Explanation], layers: Sequence[str]) -> list[int]:
    """Distinct clip rows in the order in which they get sound.

    Layers take turns, each offering its units in the order of `_clearness`. The first clips of every unit come
    before the remaining clips of any unit.
    """
    ranked = [sorted((e for e in explanations if e.layer == layer), key=_clearness) for layer in layers]
    turns = [e for turn in zip_longest(*ranked) for e in turn if e is not None]
    first = [s for e in turns for s in (*_first_clips(e), *e.low[:FIRST_LOW])]
    rest = [s for e in turns for s in (*e.top, *e.low)]
    return list(dict.fromkeys(s.row for s in (*first, *rest) if s.row >= 0))


def _first_clips(unit: Explanation) -> list[Shown]:
    """The top clips that a unit's card shows unfolded: the strongest, or the strongest of every meaning."""
    if not unit.meanings:
        return list(unit.top[:FIRST_TOP])
    return [unit.top[place] for meaning in unit.meanings for place in meaning.clips[:FIRST_TOP]]


def _clearness(unit: Explanation) -> tuple[int, float, int]:
    """Sort key: reliable units, then untested units, then the others; within these, by the score of the first label."""
    return ("holds", "untested", "fails").index(unit.reliable), -best_score(unit), unit.unit


def _places(data: ReportData) -> dict[int, str]:
    return {row: f"{clip.path} from {clip.start:g} s" for row, clip in data.clips.items()}


def _add_sound(
    rows: Sequence[int],
    read_clip: ReadClip,
    left: int,
    unreadable: list[str],
    places: Mapping[int, str],
    progress: Progress,
) -> tuple[list[str], set[int]]:
    """Blocks and rows of the clips that fit into `left` bytes; clips that cannot be read are added to `unreadable`."""
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
    """For every layer the number of units whose first top clips can all be played."""
    playable = [e.layer for e in data.explanations if e.top and all(s.row in stored for s in _first_clips(e))]
    return [playable.count(layer) for layer in data.layers]


# ---------- page ----------


def _embed(value: Any) -> str:
    """JSON in ASCII that cannot open or close an HTML element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _json_block(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{_embed(value)}</script>'


def _template(name: str) -> str:
    return (resources.files("and_retrieval") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The expression with which a content security policy allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(title: str, tables: Mapping[str, Any], blocks: Sequence[str]) -> str:
    style, script = _template("report.css"), "\n".join(map(_template, SCRIPTS))
    parts = {
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        "style": style,
        "style-hash": _hash(style),
        "script": script,
        "script-hash": _hash(script),
        "data": "\n".join([_json_block("report", tables), *blocks]),
    }
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: parts[match[1]], _template("report.html"))
