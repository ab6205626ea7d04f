"""Lists of units that people make, under names of their own, as JSON in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..store import Folder
from .guard import RefusedError
from .kept import changing, read_kept, write_kept

FILE, FIELD = "lists.json", "lists"
MOST_LISTS = 200
MOST_UNITS = 20_000  # of a list
NAME_LENGTH = 80  # characters


@dataclass(frozen=True)
class UnitList:
    """A list of units.

    Attributes:
        name: As people wrote it.
        units: LAYER:UNIT -> `Recording.identity` of the recording that it was added from.
    """

    name: str
    units: Mapping[str, str] = field(default_factory=dict)

    def plain(self, recorded: str) -> dict[str, Any]:
        """As JSON; `earlier` counts units of an earlier recording, which may have been others."""
        earlier = sum(of != recorded for of in self.units.values())
        return {"name": self.name, "units": len(self.units), "earlier": earlier}

    def stored(self) -> dict[str, list[str]]:
        """As it is stored: identity of a recording -> units, sorted."""
        recordings: dict[str, list[str]] = {}
        for unit, recorded in sorted(self.units.items(), key=lambda pair: _order(pair[0])):
            recordings.setdefault(recorded, []).append(unit)
        return recordings


def read_lists(folder: Folder) -> dict[str, UnitList]:
    """Name -> list.

    Raises:
        InputError: The file is damaged or of another format.
    """
    return read_kept(folder, FILE, FIELD, _parsed)


def known_list(folder: Folder, name: str) -> UnitList:
    """The list of a name; raises `RefusedError` where there is none."""
    return _known(read_lists(folder), name)


def create_list(folder: Folder, name: str) -> UnitList:
    """Make an empty list.

    Raises:
        InputError: The name is empty or too long, there is such a list, or there are too many.
    """

    def create(lists: dict[str, UnitList]) -> UnitList:
        if len(lists) >= MOST_LISTS:
            raise InputError(f"there are {MOST_LISTS} lists already; delete one first")
        return UnitList(_free(lists, name))

    return _changed(folder, None, create)


def change_list(
    folder: Folder, name: str, new_name: str | None, add: Iterable[str], remove: Iterable[str], recorded: str
) -> UnitList:
    """Rename a list, add units to it, and take units out of it.

    Args:
        folder: Of the run.
        name: Of the list.
        new_name: Its new name, or None.
        add, remove: Units as LAYER:UNIT.
        recorded: `Recording.identity` of the recording whose units these are.

    Raises:
        RefusedError: There is no such list.
        InputError: The new name cannot be used, or the list would be too long.
    """
    leaving = set(remove)

    def change(lists: dict[str, UnitList]) -> UnitList:
        old = _known(lists, name)
        units = {unit: of for unit, of in old.units.items() if unit not in leaving}
        units |= dict.fromkeys(add, recorded)
        if len(units) > MOST_UNITS:
            raise InputError(f"a list may have {MOST_UNITS:,} units, not {len(units):,}; add fewer")
        return UnitList(name if new_name is None else _free(lists, new_name, name), units)

    return _changed(folder, name, change)


def delete_list(folder: Folder, name: str) -> None:
    """Delete a list; raises `RefusedError` where there is none."""
    _changed(folder, name, lambda lists: _known(lists, name), keep=False)


def _changed(
    folder: Folder, old: str | None, change: Callable[[dict[str, UnitList]], UnitList], keep: bool = True
) -> UnitList:
    """Put what `change` makes of all lists in the place of one of them, and store it."""
    with changing(folder):
        lists = read_lists(folder)
        made = change(lists)
        lists.pop(old or "", None)
        if keep:
            lists[made.name] = made
        write_kept(folder, FILE, FIELD, {name: kept.stored() for name, kept in lists.items()})
    return made


def _known(lists: Mapping[str, UnitList], name: str) -> UnitList:
    if name not in lists:
        raise RefusedError(404, f"there is no list {name!r}; it may have been renamed or deleted")
    return lists[name]


def _free(lists: Mapping[str, UnitList], name: str, old: str | None = None) -> str:
    """A name in the form it is kept in, which no other list has."""
    name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    if not name:
        raise InputError("give the list a name")
    if len(name) > NAME_LENGTH:
        raise InputError(f"the name has {len(name)} characters; write at most {NAME_LENGTH}")
    if name in lists and name != old:
        raise InputError(f"there is a list {name!r} already; choose another name")
    return name


def _parsed(name: str, recordings: Any) -> UnitList:
    units = {str(unit): str(recorded) for recorded, units in recordings.items() for unit in units}
    return UnitList(name, units)


def _order(unit: str) -> tuple[str, int]:
    layer, _, number = unit.rpartition(":")
    return layer, int(number) if number.isdecimal() else 0
