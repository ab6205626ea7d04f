"""The names that the classes of labelled clips go by."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..types import Clip


@dataclass(frozen=True)
class Names:
    """Names to choose from, each in its own words.

    Attributes:
        names: All of them.
        classes: For every class of the source, in sorted order, the place of its name among `names`.
        labels: The classes as the source writes them.
    """

    names: tuple[str, ...]
    classes: tuple[int, ...]
    labels: tuple[str, ...] = ()

    @cached_property
    def place_of(self) -> Mapping[str, int]:
        """Label -> place of its name."""
        return dict(zip(self.labels, self.classes, strict=True))


def labels_of(clips: Sequence[Clip]) -> tuple[str, ...]:
    """All labels of the clips, sorted; a clip may have several."""
    return tuple(sorted({label for clip in clips for label in clip.labels}))


def classes_of(clips: Sequence[Clip], source: str) -> tuple[str, ...]:
    """The labels of clips that have exactly one each, sorted.

    Raises:
        InputError: Clips without label, or fewer than two classes.
    """
    bare = sum(clip.label is None for clip in clips)
    if bare:
        raise InputError(
            f"{bare} of {len(clips)} clips of {source} carry no label; "
            "use a folder of folders or a CSV with a label column"
        )
    classes = tuple(sorted({clip.label for clip in clips if clip.label}))
    if len(classes) < 2:
        raise InputError(f"{source} holds one class only ({classes[0]}); at least two are needed")
    return classes


def own_names(classes: Sequence[str], aliases: Mapping[str, str] | None = None) -> Names:
    """The classes' aliases, else their own labels, `_` read as a space."""
    aliases = aliases or {}
    names = tuple(aliases.get(label, label.replace("_", " ")) for label in classes)
    return Names(names, tuple(range(len(classes))), tuple(classes))


def bank_names(classes: Sequence[str], bank: Sequence[str], aliases: Mapping[str, str]) -> Names:
    """The bank's concepts; a class whose alias (else: own name) is not one of them is put behind them."""
    place = {concept.casefold(): number for number, concept in enumerate(bank)}
    names = list(bank)
    class_names = own_names(classes, aliases).names
    for name in class_names:
        if name.casefold() not in place:
            place[name.casefold()] = len(names)
            names.append(name)
    return Names(tuple(names), tuple(place[name.casefold()] for name in class_names), tuple(classes))


def read_aliases(path: Path) -> dict[str, str]:
    """Label -> name, out of a CSV with the columns label and name.

    Raises:
        InputError: No such file, or no such columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return {row["label"]: row["name"] for row in csv.DictReader(stream)}
    except OSError:
        raise InputError(
            f"alias file {path} cannot be read; give a CSV with the columns label,name"
        ) from None
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise InputError(f"alias file {path} is not a UTF-8 CSV with the columns label,name") from None
