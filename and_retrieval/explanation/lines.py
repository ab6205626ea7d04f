"""Explanations for other programs: one line per unit, in JSON lines, CSV or Parquet.

The fields of a line are documented in `index/README.md`; other programs may rely on them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..types import Explanation, Label, Meaning, OverTime, Shown, Summary, UnitFaithfulness
from .columns import schema
from .stored import ROW_GROUP, Explained

CSV_PART = 1 << 16  # characters that are written together
SPECIAL = ("summary", "meanings", "top", "low")
"""Fields of `Explanation` that a line holds in another form; all others are written as they are."""


def unit_lines(explained: Explained) -> Iterator[dict[str, Any]]:
    """One JSON-able dict per unit, in layer and unit order, see `unit_line`."""
    return (unit_line(unit, explained) for part in explained.in_parts(clips=True) for unit in part)


def unit_line(unit: Explanation, explained: Explained) -> dict[str, Any]:
    """A unit as a JSON-able dict, its clips with path, start and caption."""
    clips, phrases = explained.recording.index.clips, explained.phrases

    def clip(shown: Shown) -> dict[str, Any]:
        where = clips[shown.row]
        return {
            "path": where.file,
            "start": where.start,
            "peak": shown.peak,
            "activation": shown.activation,
            "row": shown.row,
            "caption": phrases[shown.row],
            "captions": list(where.captions),
        }

    plain = [field.name for field in fields(Explanation) if field.name not in SPECIAL]
    return {
        **{name: _plain(getattr(unit, name)) for name in plain},
        **_sentence(unit.summary),
        "meanings": [_meaning(meaning) for meaning in unit.meanings],
        "top": [clip(shown) for shown in unit.top],
        "low": [clip(shown) for shown in unit.low],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _sentence(summary: Summary) -> dict[str, Any]:
    return {
        "summary": summary.text,
        "summary_origin": summary.origin,
        "abstained": summary.abstained,
        "reason": summary.reason,
        "raw": summary.raw,
    }


def _meaning(meaning: Meaning) -> dict[str, Any]:
    return {
        "labels": _plain(meaning.labels),
        **_sentence(meaning.summary),
        "clips": list(meaning.clips),
        "reliable": meaning.reliable,
        "faithfulness": _plain(meaning.faithfulness),
    }


def write_jsonl(explained: Explained, path: Path) -> None:
    """One JSON object a line, UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        for line in unit_lines(explained):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_csv(explained: Explained, path: Path) -> None:
    """One row a unit, without nesting: what has several values is joined by `; `, tests are columns of their own."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(csv_texts(unit_lines(explained)))


def csv_texts(lines: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines as CSV, many rows at a time; the header comes with the first."""
    text, writer = io.StringIO(newline=""), None
    for row in map(_flat, lines):
        if writer is None:
            writer = csv.DictWriter(text, list(row))
            writer.writeheader()
        writer.writerow(row)
        if text.tell() > CSV_PART:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _flat(line: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in line.items():
        if name == "labels":
            row["labels"] = "; ".join(label["concept"] for label in value)
            row["scores"] = "; ".join(f"{label['score']:.6g}" for label in value)
        elif name in ("faithfulness", "caption_faithfulness"):
            row |= {f"{name}_{measure}": (value or {}).get(measure) for measure in TESTED}
        elif name == "over_time":
            row |= {f"{name}_{field.name}": (value or {}).get(field.name) for field in fields(OverTime)}
        elif name == "meanings":
            row["meanings"] = " | ".join("; ".join(label["concept"] for label in m["labels"]) for m in value)
        elif name in ("top", "low"):
            row[name] = "; ".join(clip["path"] for clip in value)
        elif isinstance(value, list):
            row[name] = "; ".join(map(str, value))
        else:
            row[name] = value
    return row


TESTED = ("clips", "correlation", "random_correlation", "best_correlation", "auprc", "base_rate", "q_value")
"""Measures of a test that a CSV has a column for."""


@dataclass(frozen=True)
class _Sentence:
    """What a line says of a sentence, see `_sentence`."""

    summary: str | None
    summary_origin: str | None
    abstained: bool
    reason: str | None
    raw: str | None


@dataclass(frozen=True)
class _MeaningLine(_Sentence):
    labels: tuple[Label, ...]
    clips: tuple[int, ...]
    reliable: str
    faithfulness: UnitFaithfulness | None


@dataclass(frozen=True)
class _ClipLine:
    path: str
    start: float
    peak: float
    activation: float
    row: int
    caption: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class _Special(_Sentence):
    """The fields of a line that are not those of `Explanation`."""

    meanings: tuple[_MeaningLine, ...]
    top: tuple[_ClipLine, ...]
    low: tuple[_ClipLine, ...]


def line_schema() -> pa.Schema:
    """The columns of a Parquet export, whatever the run holds."""
    plain = [field for field in schema(Explanation) if field.name not in SPECIAL]
    return pa.schema([*plain, *schema(_Special)])


def write_parquet(explained: Explained, path: Path) -> None:
    """The same lines as nested columns."""
    table = pa.Table.from_pylist(list(unit_lines(explained)), line_schema())
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
