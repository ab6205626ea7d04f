"""The parameters of the API, with their limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, Path, Query
from pydantic import BaseModel, ConfigDict

from .lists import known_list
from .notes import read_notes

if TYPE_CHECKING:
    from ..clips.index import ClipIndex
    from ..faiss_index import Mask
    from ..search.query import Query as SearchQuery
    from .opened import OpenRun

MOST = 500  # units or clips in one answer
TEXT = 200  # characters of a text
LOOP = 2_000  # characters of a loop
CORNERS = r"^$|^-?\d(\.\d{1,4})?,-?\d(\.\d{1,4})?(;-?\d(\.\d{1,4})?,-?\d(\.\d{1,4})?){2,}$"
"""X,Y;X,Y;... of at least three corners."""
TERMS = 8  # texts, or units, of a query

Texts = Annotated[list[Annotated[str, Query(max_length=TEXT)]] | None, Query(max_length=TERMS)]
Units = Annotated[list[Annotated[str, Query(max_length=500)]] | None, Query(max_length=TERMS)]
Sounds = Annotated[
    list[Annotated[str, Query(pattern=r"^([0-9a-f]{16})?$")]] | None,
    Query(max_length=TERMS, description="Sounds, as `POST /api/sounds` names them."),
]
Sound = Annotated[str, Path(description="As `POST /api/sounds` names it", pattern=r"^[0-9a-f]{16}$")]
Index = Annotated[str, Query(description="Name of an index", max_length=200)]
Run = Annotated[str, Query(description="NAME/RUN", max_length=300)]
Unit = Annotated[str, Path(description="LAYER:UNIT", max_length=500)]
Offset = Annotated[int, Query(ge=0, le=100_000_000)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Reliable = Literal["holds", "fails", "untested", ""]
Kind = Literal["concept", "acoustic", "both", "none", ""]
Sort = Literal[
    "", "clear", "unit", "score", "faithfulness", "polysemanticity",
    "-clear", "-unit", "-score", "-faithfulness", "-polysemanticity",
]  # fmt: skip


class Problem(BaseModel):
    """Why something was not done."""

    error: str


_PROBLEMS = {
    400: "What was asked for cannot be done",
    401: "The token is missing",
    403: "The request comes from elsewhere",
    404: "There is nothing of this name",
    409: "What was asked of was made again, or has changed, since",
    413: "Too much was sent",
    415: "What was sent is no sound",
    422: "A parameter or a field has another form",
    429: "As many are at work as are allowed at a time",
}
EVERYWHERE = (400, 403, 404, 409, 413, 422)
WITH_TOKEN = (401, 429)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a schema says of answers that tell in one line why something was not done."""
    return {status: {"model": Problem, "description": _PROBLEMS[status]} for status in statuses}


def problems_as_json(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The same for a route whose other answers are not JSON."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


class Body(BaseModel):
    """A body as JSON, with no other fields than it names."""

    model_config = ConfigDict(extra="forbid")


class _Filters:
    """Which units are listed or searched; empty values let all pass."""

    def __init__(
        self,
        layer: Annotated[list[str] | None, Query(max_length=1000, description="Names of layers.")] = None,
        reliable: Annotated[list[Reliable] | None, Query(max_length=4)] = None,
        kind: Annotated[list[Kind] | None, Query(max_length=5)] = None,
        words: Annotated[
            str, Query(max_length=TEXT, description="Words that the labels or the sentence contain.")
        ] = "",
        starred: Annotated[bool, Query(description="Only units with a star, a label or a note.")] = False,
        listed: Annotated[
            str, Query(alias="list", max_length=TEXT, description="Only units of the list of this name.")
        ] = "",
        lasso: Annotated[
            str,
            Query(max_length=LOOP, pattern=CORNERS, description="Only units inside this loop on the map."),
        ] = "",
    ) -> None:
        self.layer, self.reliable, self.kind = given(layer), given(reliable), given(kind)
        self.words, self.starred, self.listed, self.lasso = words, starred, listed, lasso

    def mask(self, opened: OpenRun) -> Mask:
        """The units of a run that pass, bool [units]."""
        mask = opened.table.chosen(self.layer, self.reliable, self.kind, self.words)
        folder = opened.recording.folder
        if self.starred:
            mask &= opened.mask_of(read_notes(folder))
        if self.listed:
            mask &= opened.mask_of(known_list(folder, self.listed).units)
        if self.lasso:
            from ..explanation.unit_map import inside

            corners = [tuple(map(float, corner.split(","))) for corner in self.lasso.split(";")]
            mask &= inside(opened.require_explained().positions, corners)
        return mask


class _Asked:
    """What units or clips are searched by; without any of it all are listed."""

    def __init__(
        self, q: Texts = None, minus: Texts = None, like: Units = None, sound: Sounds = None
    ) -> None:
        self._texts, self._minus, self._like = given(q), given(minus), given(like)
        self._sounds = given(sound)

    def query(self, index: ClipIndex) -> SearchQuery | None:
        """The query on an index, which keeps the sounds; None where nothing is asked for."""
        from ..search.query import Query as SearchQuery
        from .sounds import kept_sound

        if not (self._texts or self._minus or self._like or self._sounds):
            return None
        sounds = tuple(kept_sound(index, sound) for sound in self._sounds)
        return SearchQuery(tuple(self._texts), tuple(self._minus), sounds, tuple(self._like))


Filters = Annotated[_Filters, Depends()]
Asked = Annotated[_Asked, Depends()]


def given(values: Sequence[str] | None) -> list[str]:
    """The values of a parameter without empty ones."""
    return [value for value in values or [] if value.strip()]
