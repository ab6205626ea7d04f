"""Routes that only read: status, runs, units, clips and their media. Field names are those of the verbs' --json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Header, Response
from fastapi.responses import FileResponse

from .guard import RefusedError
from .lists import read_lists
from .notes import plain, read_notes
from .parameters import Asked, Filters, Index, Limit, Offset, Run, Sort, Sound, Unit
from .served import Server

if TYPE_CHECKING:
    from ..types import Explanation
    from .opened import OpenRun

PAGE = 100  # units or clips in an answer, unless asked for otherwise
FOUND = 1_000  # best matches of a query that can be paged through

routes = APIRouter(prefix="/api")
media = APIRouter()


@routes.get("/status")
def status(served: Server) -> dict[str, Any]:
    """Whether the server is ready, and what is loading."""
    return served.status()


@routes.get("/runs")
def runs(served: Server) -> dict[str, Any]:
    """The indexes of the home and their runs, as `and-retrieval runs --json`."""
    from ..explanation.listing import listed_index

    indexes = [listed_index(served.home, name) for name in served.home.indexes()]
    return {"home": str(served.home.path), "indexes": indexes}


@routes.get("/overview")
def overview(served: Server, run: Run) -> dict[str, Any]:
    """Per layer: units, what explains them, how many labels hold, median figures, frequent labels."""
    opened = served.run(run)
    manifest = opened.recording.manifest
    return {
        "run": opened.recording.name,
        "recorded": opened.recording.identity,
        "target": manifest.target,
        "clips": manifest.read_clips,
        "held_out": len(manifest.held_out_rows),
        "explained": opened.explained is not None,
        "problem": opened.problem,
        "chance": opened.explained.manifest.random_polysemanticity if opened.explained else None,
        "layers": opened.table.overview(),
    }


@routes.get("/units")
def units(
    served: Server,
    run: Run,
    filters: Filters,
    asked: Asked,
    sort: Sort = "",
    offset: Offset = 0,
    limit: Limit = PAGE,
) -> dict[str, Any]:
    """Units of a run: all that pass the filters, or, with a query, those that match it best, best first.

    A query gives the fields of `and-retrieval search --json`. The first 1,000 matches can be paged through.
    """
    opened = served.run(run)
    mask = filters.mask(opened)
    query = asked.query(opened.recording.index)
    if query is None:
        ordered = opened.table.ordered(mask, sort or "clear")
        results = opened.table.rows(ordered[offset : offset + limit].tolist())
        return _answered(
            opened, {"query": "", "for": "neurons", "nothing": False}, results, len(ordered), offset
        )
    return searched_units(opened, query, mask, offset, limit)


def shown_rows(opened: OpenRun, filters: Filters, asked: Asked) -> list[int]:
    """Rows of all units that pass the filters, in layer and unit order; or of those that match a query, best first."""
    mask = filters.mask(opened)
    query = asked.query(opened.recording.index)
    if query is None:
        return [int(row) for row in mask.nonzero()[0]]
    row = opened.recording.unit_index.row
    results = searched_units(opened, query, mask, 0, FOUND)["results"]
    return [row(f"{unit['layer']}:{unit['unit']}") for unit in results]


def searched_units(opened: OpenRun, asked: Any, mask: Any, offset: int, limit: int) -> dict[str, Any]:
    """A page of the units that match a query best, among those of bool [units]."""
    from ..search.search import best_units, measured_matches, verdict
    from ..vocabulary import unknown_texts

    total = min(int(mask.sum()), FOUND)
    if not total:
        return _answered(opened, {"query": str(asked), "for": "neurons", "nothing": False}, [], 0, offset)
    among = None if mask.all() else mask
    explained: dict[int, Explanation] = {}

    def explanations(rows: Sequence[int]) -> Sequence[Explanation]:
        explained.update(zip(rows, opened.table.explanations(rows), strict=True))
        return [explained[row] for row in rows]

    wanted = max(1, min(offset + limit, total))
    measured = measured_matches(asked, opened.table.explained, among)
    known = explanations if opened.explained else None
    best = best_units(opened.recording, known, asked, wanted, among, measured)
    answer = verdict(
        asked, "neurons", best, unknown_texts(opened.recording.index, [*asked.texts, *asked.minus])
    )
    row = opened.recording.unit_index.row
    results = [
        {**unit, **opened.table.facts(explained.get(row(f"{unit['layer']}:{unit['unit']}")))}
        for unit in best[offset:]
    ]
    return _answered(opened, answer, results, total, offset)


def _answered(
    opened: OpenRun, answer: dict[str, Any], results: list[dict[str, Any]], total: int, offset: int
) -> dict[str, Any]:
    identity = opened.recording.identity
    notes = read_notes(opened.recording.folder)
    for unit in results:
        unit["note"] = plain(notes.get(f"{unit['layer']}:{unit['unit']}"), identity)
    return {**answer, "results": results, "total": total, "offset": offset, "recorded": identity}


@routes.get("/units/{unit:path}")
def unit(served: Server, unit: Unit, run: Run) -> dict[str, Any]:
    """One unit: its exported line, and the distribution of its activations, its neighbours, and notes."""
    from .unit import unit_page

    opened = served.run(run)
    page = unit_page(opened, served.unit_row(opened, unit))
    folder = opened.recording.folder
    return {
        **page,
        "note": plain(read_notes(folder).get(unit), opened.recording.identity),
        "lists": [kept.name for kept in read_lists(folder).values() if unit in kept.units],
    }


@routes.get("/clips")
def clips(
    served: Server, index: Index, asked: Asked, offset: Offset = 0, limit: Limit = PAGE
) -> dict[str, Any]:
    """Clips of an index: all in row order, or, with a query, those that match it best, as `search --json`."""
    from .unit import clip_facts

    opened = served.index(index)
    query = asked.query(opened)
    if query is not None:
        return searched_clips(opened, query, offset, limit)
    rows = range(offset, min(offset + limit, len(opened.clips)))
    results = [clip_facts(opened, row) for row in rows]
    return {
        "query": "", "for": "clips", "nothing": False,
        "results": results, "total": len(opened.clips), "offset": offset,
    }  # fmt: skip


@routes.get("/sounds/{sound}")
def sound(served: Server, sound: Sound, index: Index) -> dict[str, Any]:
    """What a sound that was searched by is called."""
    from .sounds import kept_sound

    return {"sound": sound, "name": kept_sound(served.index(index), sound).name}


def searched_clips(opened: Any, asked: Any, offset: int, limit: int) -> dict[str, Any]:
    """A page of the clips that match a query best."""
    from ..search.search import search_clips, verdict
    from ..vocabulary import unknown_texts
    from .unit import clip_facts

    total = min(len(opened.clips), FOUND)
    best = search_clips(opened, asked, max(1, min(offset + limit, total)))
    answer = verdict(asked, "clips", best, unknown_texts(opened, [*asked.texts, *asked.minus]))
    results = [{**clip_facts(opened, clip["row"]), **clip} for clip in best[offset:]]
    return {**answer, "results": results, "total": total, "offset": offset}


@routes.get("/map")
def unit_map(served: Server, run: Run) -> dict[str, Any]:
    """Where units lie in two dimensions, as `explain` placed them.

    Columns, one value a unit in layer and unit order: `x` and `y` within -1..1, null for units that never responded;
    `layer`, `kind` and `label` (the first one) as places in `layers`, `kinds` and `labels`; -1 without a label.

    Of more than 20,000 units, one value a cell of a grid, see `cells`: `x` and `y` of its middle, `units` in it, and
    what most of them are.
    """
    from .map_columns import map_columns

    return map_columns(served.run(run))


@routes.get("/notes")
def notes(served: Server, run: Run) -> dict[str, Any]:
    """All stars, labels and notes of a run."""
    opened = served.run(run)
    identity = opened.recording.identity
    notes = read_notes(opened.recording.folder)
    return {"run": run, "units": {unit: plain(note, identity) for unit, note in notes.items()}}


@routes.get("/lists")
def lists(served: Server, run: Run) -> dict[str, Any]:
    """The lists of a run; their units are those of `GET /api/units` with `list`."""
    recording = served.run(run).recording
    kept = read_lists(recording.folder)
    return {"run": run, "lists": [one.plain(recording.identity) for one in kept.values()]}


@media.get(
    "/clip/{name}/{row}.{kind}",
    response_class=FileResponse,
    responses={206: {"description": "A part of it"}, 304: {"description": "It has not changed"}},
)
def clip(
    served: Server,
    name: str,
    row: int,
    kind: Literal["mp3", "png"],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The sound of a clip (16 kHz mono), in byte ranges where they are asked for, or its mel spectrogram."""
    opened = served.index(name)
    if not 0 <= row < len(opened.clips):
        raise RefusedError(
            404, f"index {name!r} has clips 0 to {len(opened.clips) - 1}; there is no clip {row}"
        )
    path, tag = served.media().file(opened, row, kind)
    headers = {"etag": f'"{tag}"', "cache-control": "private, no-cache"}
    if if_none_match is not None and f'"{tag}"' in if_none_match:
        return Response(status_code=304, headers=headers)
    return FileResponse(
        Path(path), headers=headers, media_type="audio/mpeg" if kind == "mp3" else "image/png"
    )
