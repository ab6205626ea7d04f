"""A table of sounds -> its rows: any of four separators, headers in any case, every line that cannot be used named."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

TABLES = frozenset({".csv", ".tsv", ".tab", ".txt"})
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
TEXTS = ("label", "fold")
CAPTION = re.compile(r"caption(?:[ _]?\d+)?")
SYNONYMS = {"onset": "start", "offset": "end"}
LINES_OF_A_ROW = 200  # at most; a quote that is never closed reaches no further
FIELD_BYTES = 1 << 20


@dataclass(frozen=True)
class Row:
    """A file that a source names, and what it says of it.

    Attributes:
        path: Of the file; of the table where the row cannot be used.
        label, captions, fold: As in `Clip`.
        start, end: Seconds of an event within the file; None for its beginning and end.
        line: Where the row begins in the table, from 1; None where there is no table.
        flaw: Why the row cannot be used, or None.
    """

    path: Path
    label: str | None = None
    captions: tuple[str, ...] = ()
    fold: str | None = None
    start: float | None = None
    end: float | None = None
    line: int | None = None
    flaw: str | None = None

    @property
    def is_event(self) -> bool:
        """Whether it means a part of the file."""
        return self.start is not None or self.end is not None


@dataclass(frozen=True)
class Table:
    """The rows of a table in order, which of label, caption and fold it has columns for, and what else to say."""

    rows: tuple[Row, ...]
    columns: frozenset[str]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Read a table with the column path and any of label, caption, fold, start, end and duration.

    Several captions stand in columns caption_1, caption_2 and so on, or in several rows of the same file.
    Separated by commas, semicolons, tabs or bars, UTF-8 (UTF-16 with its mark), any line ends. A row that cannot be
    used carries its flaw with the number of its line.

    Raises:
        InputError: It cannot be read, is in another encoding, or has no column named path.
    """
    lines = _lines(path)
    separator, header, names = _header(path, lines)
    records = _records(lines, separator, header, len(names))
    rows = tuple(row for line, cells in records if (row := _row(path, names, line, cells, separator)))
    notes = _header_notes(path, names)
    columns = {"caption" if CAPTION.fullmatch(name) else name for name in names}
    return Table(rows, frozenset(columns & {*TEXTS, "caption"}), notes)


def _lines(path: Path) -> list[str]:
    """Lines with their ends; bytes that are not UTF-8 stand for themselves, see `surrogateescape`."""
    try:
        content = path.read_bytes()
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff")) and len(content) % 2 == 0
        text = content.decode("utf-16") if wide else content.decode("utf-8-sig", "surrogateescape")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a UTF-8 CSV ({error})") from None
    lines = list(io.StringIO(text, newline=""))
    whole = [line for line in lines if line.strip() and not _foreign(line)]
    if lines and (_foreign(lines[0]) or (len(whole) < 2 and any(map(_foreign, lines)))):
        place = 1 + next(number for number, line in enumerate(lines) if _foreign(line))
        raise InputError(f"{path} is not a UTF-8 CSV (line {place}); save it as UTF-8")
    return lines


def _foreign(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _header(path: Path, lines: list[str]) -> tuple[str, int, list[str]]:
    """Separator, number of lines up to the header's end, and the columns' names in lower case."""
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    chosen = list(SEPARATORS)
    if lines and lines[first].strip().lower().startswith("sep="):  # a spreadsheet's own way of saying so
        chosen = [lines[first].strip()[4:5] or "\t"]
        first += 1
    csv.field_size_limit(FIELD_BYTES)
    read = []
    for separator in chosen:
        reader = csv.reader(lines[first : first + LINES_OF_A_ROW], delimiter=separator, skipinitialspace=True)
        try:
            shown = [name.strip() for name in next(reader, [])]
        except csv.Error:
            continue
        read.append((separator, first + reader.line_num, shown))
    able = [
        (len(shown), -place) for place, (_, _, shown) in enumerate(read) if "path" in map(str.lower, shown)
    ]
    if not able:
        widest = max((shown for _, _, shown in read), key=len, default=[])
        raise InputError(f"{path} has no column named path; its columns: {', '.join(widest) or 'none'}")
    separator, behind, shown = read[-max(able)[1]]
    names = [SYNONYMS.get(name, name) for name in map(str.lower, shown)]
    return separator, behind, names


def _header_notes(path: Path, names: list[str]) -> tuple[str, ...]:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    return tuple(f"{path.name}: column {name} occurs more than once; the first is read" for name in twice)


def _records(lines: list[str], separator: str, first: int, width: int) -> list[tuple[int, list[str] | str]]:
    """(line number, cells or what is wrong with the line) of the rows that are not empty."""
    records = [
        (line, cells)
        for line, cells in _cells(lines, separator, first)
        if isinstance(cells, str) or any(cell.strip() for cell in cells)
    ]
    lengths = {len(cells) for _, cells in records if isinstance(cells, list)}
    surplus = [cell for _, cells in records if isinstance(cells, list) for cell in cells[width:]]
    if len(lengths) == 1 and not any(cell.strip() for cell in surplus):
        width = max(width, *lengths)  # a separator at the end of every line
    return [
        (line, cells if isinstance(cells, str) else _checked(cells, width, separator))
        for line, cells in records
    ]


def _checked(cells: list[str], width: int, separator: str) -> list[str] | str:
    if len(cells) > width:
        return (
            f"{len(cells)} cells where the header has {width} columns; put quotes around a text that "
            f"holds {SEPARATORS.get(separator, 'separators')}"
        )
    return "not UTF-8; save the table as UTF-8" if any(map(_foreign, cells)) else cells


def _cells(lines: list[str], separator: str, first: int) -> Iterator[tuple[int, list[str] | str]]:
    """(line number, cells or what is wrong with the line) of all rows; a quote that is never closed spoils one line."""
    at = first
    while at < len(lines):
        line = at + 1
        reader = csv.reader(
            lines[at : at + LINES_OF_A_ROW], delimiter=separator, skipinitialspace=True, strict=True
        )
        try:
            cells: list[str] | str = next(reader, [])
            at += max(1, reader.line_num)
        except csv.Error as error:
            cells, at = _loosely(lines[at], separator, str(error)), at + 1
        yield line, cells


def _loosely(line: str, separator: str, flaw: str) -> list[str] | str:
    """The cells of a line whose quotes are closed but not in the right place; else what is wrong with it."""
    if line.count('"') % 2:
        return f"a quote is opened and not closed ({flaw})"
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error as error:
        return str(error)


def _row(table: Path, names: list[str], line: int, cells: list[str] | str, separator: str) -> Row | None:
    if isinstance(cells, str):
        return Row(table, line=line, flaw=f"line {line}: {cells}")
    cell = {name: text.strip() or None for name, text in reversed(list(zip(names, cells, strict=False)))}
    if not cell.get("path"):
        return Row(table, line=line, flaw=f"no path in line {line}")
    texts = {name: cell.get(name) for name in TEXTS}
    caption_cells = (cell.get(name) for name in names if CAPTION.fullmatch(name))
    captions = tuple(dict.fromkeys(caption for caption in caption_cells if caption))
    path = table.parent / str(cell["path"])
    try:
        start, end = _span(cell, "start" in names or "end" in names, separator)
    except ValueError as error:
        return Row(path, line=line, flaw=f"line {line} of {table.name}: {error}")
    return Row(path, captions=captions, **texts, start=start, end=end, line=line)


def _span(cell: dict[str, str | None], spans: bool, separator: str) -> tuple[float | None, float | None]:
    """Start and end of an event, of which `duration` may stand for the end; None, None where the row has neither.

    Raises:
        ValueError: They are no numbers of seconds, or contradict each other.
    """
    if not spans:  # a column `duration` alone says how long the files are
        return None, None
    start, end, duration = (
        _seconds(name, cell.get(name), separator) for name in ("start", "end", "duration")
    )
    if duration is not None and (start is not None or end is None):
        stop = (start or 0.0) + duration
        if end is not None and abs(end - stop) > 0.05:
            raise ValueError(f"start {start:g} s and duration {duration:g} s do not give end {end:g} s")
        end = stop if end is None else end
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"the event ends at {end:g} s and starts at {start or 0.0:g} s")
    return start, end


def _seconds(name: str, text: str | None, separator: str) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text.replace(",", ".") if separator != "," else text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} {text!r} is not a number of seconds")
    return seconds
