"""What people say of units: stars, labels and notes of their own, as JSON in the run's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import InputError
from ..store import Folder
from .kept import changing, read_kept, write_kept

FILE, FIELD = "notes.json", "units"
MOST_UNITS = 10_000
LABEL_LENGTH, NOTE_LENGTH = 200, 4_000  # characters


@dataclass(frozen=True, slots=True)
class UnitNote:
    """What someone says of a unit.

    Attributes:
        recorded: `Recording.identity` of the recording that it was said of.
        star: Whether the unit is marked.
        label: A label of one's own, or an empty text.
        note: A remark, or an empty text.
    """

    recorded: str
    star: bool = False
    label: str = ""
    note: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing is said."""
        return not (self.star or self.label or self.note)


def read_notes(folder: Folder) -> dict[str, UnitNote]:
    """LAYER:UNIT -> what is said of it; empty where there are no notes.

    Raises:
        InputError: The file is damaged or of another format.
    """
    return read_kept(folder, FILE, FIELD, lambda _, note: UnitNote(**note))


def change_note(
    folder: Folder,
    unit: str,
    recorded: str,
    star: bool | None = None,
    label: str | None = None,
    note: str | None = None,
) -> UnitNote:
    """Change what is said of a unit, in one step; what is None stays, and a note that says nothing is removed.

    Raises:
        InputError: A text is too long, there are too many notes, or the file cannot be read or written.
    """
    changes: dict[str, Any] = {} if star is None else {"star": star}
    if label is not None:
        changes["label"] = _short("label", " ".join(label.split()), LABEL_LENGTH)
    if note is not None:
        changes["note"] = _short("note", note.strip(), NOTE_LENGTH)
    with changing(folder):
        notes = read_notes(folder)
        changed = replace(notes.pop(unit, UnitNote(recorded)), recorded=recorded, **changes)
        if not changed.empty:
            notes[unit] = changed
        if len(notes) > MOST_UNITS:
            raise InputError(f"there are notes on {MOST_UNITS} units already; remove some first")
        write_kept(folder, FILE, FIELD, {name: asdict(kept) for name, kept in notes.items()})
    return changed


def _short(name: str, text: str, most: int) -> str:
    if len(text) > most:
        raise InputError(f"the {name} has {len(text)} characters; write at most {most}")
    return text


def plain(note: UnitNote | None, recorded: str) -> dict[str, Any] | None:
    """A note as JSON; `earlier` says that it was made of an earlier recording, whose unit may have been another."""
    if note is None:
        return None
    return {"star": note.star, "label": note.label, "note": note.note, "earlier": note.recorded != recorded}
