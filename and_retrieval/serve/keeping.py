"""Routes for what people keep of a run: stars, labels and notes, lists of units, and exports; all need the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from ..errors import InputError
from .guard import needs_token
from .lists import NAME_LENGTH, change_list, create_list, delete_list, read_lists
from .notes import LABEL_LENGTH, NOTE_LENGTH, UnitNote, change_note, plain, read_notes
from .parameters import WITH_TOKEN, Asked, Body, Filters, Run, Unit, problems
from .reading import shown_rows
from .served import Server

if TYPE_CHECKING:
    from .opened import OpenRun

MOST_NAMED = 5_000  # units that one request names

ListName = Annotated[str, Path(description="Name of a list", max_length=4 * NAME_LENGTH)]
NewName = Annotated[str, Field(max_length=4 * NAME_LENGTH)]
UnitName = Annotated[str, Field(max_length=500)]

routes = APIRouter(prefix="/api", dependencies=[Depends(needs_token)], responses=problems(*WITH_TOKEN))


class NoteChange(Body):
    """What changes of what someone says of a unit; a note that says nothing is removed."""

    star: bool | None = None
    label: str | None = Field(None, max_length=LABEL_LENGTH)
    note: str | None = Field(None, max_length=NOTE_LENGTH)


class NewList(Body):
    """A list to be made."""

    name: NewName


class ListChange(Body):
    """What becomes of a list: a new name, units as LAYER:UNIT, and whether all units that are shown are added."""

    name: NewName | None = None
    add: list[UnitName] = Field([], max_length=MOST_NAMED)
    remove: list[UnitName] = Field([], max_length=MOST_NAMED)
    add_shown: bool = False


@routes.patch("/notes/{unit:path}")
def changed_note(served: Server, unit: Unit, run: Run, change: NoteChange) -> dict[str, Any]:
    """Star a unit, give it a label of your own, or write a note; stored with the run. What is left out stays."""
    opened = served.run(run)
    layer, number = opened.table.place(served.unit_row(opened, unit))
    identity = opened.recording.identity
    name = f"{layer}:{number}"
    changed = change_note(opened.recording.folder, name, identity, change.star, change.label, change.note)
    return {"unit": name, "note": plain(changed, identity)}


@routes.post("/lists", status_code=201)
def new_list(served: Server, run: Run, order: NewList) -> dict[str, Any]:
    """Make an empty list of units, stored with the run."""
    recording = served.run(run).recording
    return create_list(recording.folder, order.name).plain(recording.identity)


@routes.patch("/lists/{name:path}")
def changed_list(
    served: Server, name: ListName, run: Run, filters: Filters, asked: Asked, change: ListChange
) -> dict[str, Any]:
    """Rename a list, add units to it, or take units out of it.

    `add_shown` adds all units that `GET /api/units` gives for the same parameters.
    """
    opened = served.run(run)
    recording = opened.recording
    rows = [served.unit_row(opened, unit) for unit in change.add]
    if change.add_shown:
        rows += shown_rows(opened, filters, asked)
    add = [_name(opened, row) for row in rows]
    made = change_list(recording.folder, name, change.name, add, change.remove, recording.identity)
    return made.plain(recording.identity)


@routes.delete("/lists/{name:path}")
def deleted_list(served: Server, name: ListName, run: Run) -> dict[str, Any]:
    """Delete a list; its units stay what they are."""
    delete_list(served.run(run).recording.folder, name)
    return {"deleted": name}


@routes.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, "application/json": {}}, "description": "The units"}},
)
def export(
    served: Server,
    run: Run,
    filters: Filters,
    asked: Asked,
    form: Annotated[Literal["csv", "json"], Query(alias="format")] = "csv",
) -> StreamingResponse:
    """The units that `GET /api/units` gives for the same parameters, as exported lines.

    Each line has what was said of the unit besides: `star`, `own_label`, `note`, and `lists`.
    """
    opened = served.run(run)
    opened.require_explained()
    rows = shown_rows(opened, filters, asked)
    if not rows:
        raise InputError("no unit passes these filters, so there is nothing to export")
    texts = (_csv if form == "csv" else _json)(_lines(opened, rows))
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/json"
    name = {"content-disposition": f'attachment; filename="units.{form}"'}
    return StreamingResponse(texts, media_type=kind, headers=name)


def _name(opened: OpenRun, row: int) -> str:
    layer, number = opened.table.place(row)
    return f"{layer}:{number}"


def _lines(opened: OpenRun, rows: list[int]) -> Iterator[list[dict[str, Any]]]:
    """Exported lines with notes and lists, as many at a time as are read together."""
    from ..explanation.lines import unit_line
    from ..explanation.stored import ROW_GROUP

    explained = opened.require_explained()
    notes = read_notes(opened.recording.folder)
    lists = read_lists(opened.recording.folder)
    nothing = UnitNote("")
    for start in range(0, len(rows), ROW_GROUP):
        part = rows[start : start + ROW_GROUP]
        lines = []
        for unit in explained.at(part, clips=True):
            name = f"{unit.layer}:{unit.unit}"
            note = notes.get(name, nothing)
            noted = {"star": note.star, "own_label": note.label, "note": note.note}
            among = [one.name for one in lists.values() if name in one.units]
            lines.append({**unit_line(unit, explained), **noted, "lists": among})
        yield lines


def _csv(parts: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    from ..explanation.lines import csv_texts

    return csv_texts(line for lines in parts for line in lines)


def _json(parts: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    before = "["
    for lines in parts:
        yield before + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        before = ",\n"
    yield "]\n"
