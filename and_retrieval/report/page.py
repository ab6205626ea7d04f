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
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from itertools import chain, zip_longest
from typing import Any, Self

from ..choices import MEGABYTES
from ..clips.files import UnreadableAudioError
from ..config import REPORT_MEGABYTES
from ..errors import InputError
from ..progress import Progress, silent
from ..types import Explanation, Floats, Shown
from .data import ReportData, TextTables, best_score, check
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

    Units are read once, one after the other, and what is said of them is kept only as far as it fits on the page. Every
    clip is stored once. Clips of the clearest units of every layer come first. Once the page would
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
    limit = int(max_megabytes * 1e6)
    tables, units, clips = _read_once(data, limit)
    rows = sound_order(clips, data.layers)
    sound: dict[str, Any] = {
        "stored": 0,
        "wanted": len(rows),
        "unreadable": [],
        "first": FIRST_TOP,
        "megabytes": max_megabytes,
    }
    text = (
        SLACK + units.size + len(_page(data.title, _report_block(tables | {"sound": sound}, []), []).encode())
    )
    left = limit - text
    if left < 0:
        needed = -(-text // 100_000) / 10  # a tenth of a megabyte, rounded up
        raise InputError(
            f"the report's text alone takes {needed:g} megabytes, and {max_megabytes:g} are allowed; "
            f"give --megabytes {needed:g} or more (in Python: max_megabytes)"
        )
    blocks, stored = _add_sound(rows, read_clip, left, sound["unreadable"], _places(data), progress or silent)
    sound["stored"] = len(stored)
    for layer in tables["layers"]:
        layer["heard"] = sum(unit.heard(stored) for unit in clips if unit.layer == layer["name"])
    return _page(data.title, _report_block(tables | {"sound": sound}, units.parts), blocks)


class _UnitTexts:
    """The units' rows as JSON, as long as they fit.

    Attributes:
        parts: One text a unit; empty once they exceed the limit, where only their size is of interest.
        size: Characters of all of them with what stands between them.
    """

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.size = 0
        self._limit = limit

    def add(self, row: Mapping[str, Any]) -> None:
        text = _embed(row)
        self.size += len(text) + 1
        if self.size <= self._limit:
            self.parts.append(text)
        else:
            self.parts.clear()


def _read_once(data: ReportData, limit: int) -> tuple[dict[str, Any], _UnitTexts, list[UnitClips]]:
    """The page's tables, the units' rows as text, and the units' clips; only one part of the units is held at a time.

    Raises:
        ValueError: See `data.TextTables.unit`.
    """
    tables, texts, clips = TextTables(data), _UnitTexts(limit), []
    for unit in data.explanations:
        texts.add(tables.unit(unit))
        clips.append(UnitClips.of(unit))
    return tables.tables(), texts, clips


# ---------- which clips get sound ----------


@dataclass(frozen=True, slots=True)
class UnitClips:
    """The clips of a unit, as rows of the index.

    Attributes:
        layer: Its layer.
        clearness: Sort key: reliable units, then untested units, then the others; within these, by the score of the
            first label.
        first: Those that its card shows unfolded, of which `leading` are top clips and the others low ones.
        rest: All.
    """

    layer: str
    clearness: tuple[int, float, int]
    first: array[int]
    leading: int
    rest: array[int]

    @classmethod
    def of(cls, unit: Explanation) -> Self:
        """Those of an explained unit."""
        top = [shown.row for shown in _first_clips(unit)]
        verdict = ("holds", "untested", "fails").index(unit.reliable)
        return cls(
            unit.layer,
            (verdict, -best_score(unit), unit.unit),
            array("i", [*top, *(shown.row for shown in unit.low[:FIRST_LOW])]),
            len(top),
            array("i", [shown.row for shown in (*unit.top, *unit.low)]),
        )

    def heard(self, stored: Set[int]) -> bool:
        """Whether its first top clips can all be played."""
        return self.leading > 0 and all(row in stored for row in self.first[: self.leading])


def sound_order(units: Iterable[UnitClips], layers: Sequence[str]) -> list[int]:
    """Distinct clip rows in the order in which they get sound.

    Layers take turns, each offering its units in the order of their clearness. The first clips of every unit come
    before the remaining clips of any unit.
    """
    of_layer: dict[str, list[UnitClips]] = {layer: [] for layer in layers}
    for unit in units:
        of_layer[unit.layer].append(unit)
    ranked = [sorted(units, key=lambda unit: unit.clearness) for units in of_layer.values()]
    turns = [unit for turn in zip_longest(*ranked) for unit in turn if unit is not None]
    order: dict[int, None] = {}
    for rows in chain((unit.first for unit in turns), (unit.rest for unit in turns)):
        order.update((row, None) for row in rows if row >= 0)
    return list(order)


def _first_clips(unit: Explanation) -> list[Shown]:
    """The top clips that a unit's card shows unfolded: the strongest, or the strongest of every meaning."""
    if not unit.meanings:
        return list(unit.top[:FIRST_TOP])
    return [unit.top[place] for meaning in unit.meanings for place in meaning.clips[:FIRST_TOP]]


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


# ---------- page ----------


def _embed(value: Any) -> str:
    """JSON in ASCII that cannot open or close an HTML element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _json_block(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{_embed(value)}</script>'


def _report_block(tables: Mapping[str, Any], units: Sequence[str]) -> str:
    """The block with all text; `units` are the rows of the table of units, as JSON."""
    whole = f'{_embed(tables)[:-1]},"units":[{",".join(units)}]}}'
    return f'<script type="application/json" id="report">{whole}</script>'


def _template(name: str) -> str:
    return (resources.files("and_retrieval") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The expression with which a content security policy allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(title: str, report: str, blocks: Sequence[str]) -> str:
    style, script = _template("report.css"), "\n".join(map(_template, SCRIPTS))
    parts = {
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        "style": style,
        "style-hash": _hash(style),
        "script": script,
        "script-hash": _hash(script),
        "data": "\n".join([report, *blocks]),
    }
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda match: parts[match[1]], _template("report.html"))
