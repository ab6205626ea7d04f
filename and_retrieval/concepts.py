"""Concept banks: lists of short texts with which a unit may be labelled."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .errors import InputError, unknown_name

BUILT_IN = ("acoustic", "audioset", "esc50")
DEFAULT_BANK = "audioset"
OWN_LABELS = "labels"
"""Name of the bank that consists of the labels of the index's clips."""
COLUMNS = ("concept", "name", "label", "display_name")
_FORMS = "give one of .txt (one concept per line), .csv (a column named concept) or .json (a list of strings)"


@dataclass(frozen=True, slots=True)
class ConceptBank:
    """A named list of distinct concepts, in the order of the source."""

    name: str
    concepts: tuple[str, ...]


def load_bank(name_or_path: str) -> ConceptBank:
    """Read a built-in bank or a UTF-8 file of the user's.

    A .txt file holds one concept per line; a `#` at the start of a line or after a space begins a comment. A .csv file
    has a column `concept`, `name`, `label` or `display_name`; the first of these that it has is read. A .json file
    holds a list of strings, or an object with that list under `concepts`. In every concept, `_` becomes a space. Of
    concepts that differ only in case, the first is kept.

    Raises:
        InputError: There is no such bank or file, or the file cannot be read as a bank.
    """
    if name_or_path in BUILT_IN:
        return ConceptBank(name_or_path, bank_lines(name_or_path))
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix or path.name != name_or_path:
            raise InputError(f"concept bank {name_or_path!r}: no such file; check the path")
        raise unknown_name(
            "concept bank", name_or_path, BUILT_IN, "or give the path of a .txt, .csv or .json file"
        )
    concepts = _distinct(_read(path))
    if not concepts:
        raise InputError(f"concept bank {name_or_path!r} is empty; write one concept per line")
    return ConceptBank(path.stem, concepts)


def bank_lines(name: str) -> tuple[str, ...]:
    """The texts of a list that the package brings (`banks/NAME.txt`), each once."""
    text = (files(__package__) / "banks" / f"{name}.txt").read_text(encoding="utf-8")
    return _distinct(_lines(text))


def merge_banks(banks: Iterable[ConceptBank]) -> ConceptBank:
    """One bank with the concepts of all banks, in order, named `a+b`; a concept of several banks is kept once.

    Raises:
        InputError: `banks` is empty.
    """
    banks = list(banks)
    if not banks:
        raise InputError(f"no concept bank given; name at least one of {', '.join(BUILT_IN)}, or a file")
    name = "+".join(dict.fromkeys(bank.name for bank in banks))
    return ConceptBank(name, _distinct(concept for bank in banks for concept in bank.concepts))


def _read(path: Path) -> Iterator[str]:
    readers = {".txt": _lines, ".csv": _column, ".json": _list}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"concept bank {str(path)!r}: its format is not known; {_FORMS}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"concept bank {str(path)!r} is not UTF-8 (byte {error.start}); save it with encoding UTF-8"
        ) from None
    except OSError as error:
        raise InputError(
            f"concept bank {str(path)!r} cannot be read ({error.strerror}); check the file"
        ) from None
    try:
        for concept in reader(text):
            concept.encode()  # JSON can spell characters that no file can hold
            yield concept
    except UnicodeEncodeError:
        raise InputError(
            f"concept bank {str(path)!r}: {concept!a} holds half a character (a lone surrogate); correct it"
        ) from None
    except ValueError as error:
        raise InputError(f"concept bank {str(path)!r}: {error}") from None


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f" {line}".split(" #", 1)[0]


def _column(text: str) -> Iterator[str]:
    try:
        rows = list(csv.DictReader(text.splitlines(keepends=True), strict=True))
    except csv.Error as error:
        raise ValueError(f"not a CSV file ({error}); quote texts that hold commas or quotes") from None
    header = {name.strip().lower(): name for name in (rows[0] if rows else ()) if isinstance(name, str)}
    column = next((header[name] for name in COLUMNS if name in header), None)
    if rows and column is None:
        raise ValueError(f"no column {' or '.join(COLUMNS)} among {', '.join(header)}; rename one")
    for row in rows:
        yield (row[column] if column else "") or ""


def _list(text: str) -> Iterator[str]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON (line {error.lineno}: {error.msg}); correct it") from None
    if isinstance(content, dict):
        content = content.get("concepts")
    if not isinstance(content, list) or not all(isinstance(concept, str) for concept in content):
        raise ValueError('not a list of strings; write ["dog", "rain"] or {"concepts": ["dog", "rain"]}')
    yield from content


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for text in texts:
        concept = " ".join(text.replace("_", " ").split())
        if concept:
            first.setdefault(concept.casefold(), concept)
    return tuple(first.values())
