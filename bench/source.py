"""What the suites measure on: labelled clips, and the names their classes go by."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from and_retrieval.config import fingerprint
from and_retrieval.errors import InputError
from and_retrieval.types import Clip

ESC10_NAMES = Path(__file__).parent / "esc10_names.csv"


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE and the embedder."""
    parser.add_argument("source", metavar="SOURCE", help="labelled folder of folders, glob or CSV")
    parser.add_argument("--embedder", default="embedded", metavar="NAME", help="default: embedded")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, and the names to choose from."""
    add_clip_arguments(parser)
    parser.add_argument("--concepts", default="esc50", metavar="BANK|FILE", help="default: esc50")
    parser.add_argument(
        "--aliases",
        type=Path,
        default=ESC10_NAMES,
        metavar="FILE",
        help="CSV label,name: what the bank calls the source's classes (default: those of ESC-10)",
    )


@dataclass(frozen=True)
class Names:
    """Names to choose from, each in its own words.

    Attributes:
        names: All of them.
        classes: For every class of the source, in sorted order, the place of its name among `names`.
    """

    names: tuple[str, ...]
    classes: tuple[int, ...]


def classes_of(clips: Sequence[Clip], source: str) -> tuple[str, ...]:
    """The labels of the clips, sorted.

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


def own_names(classes: Sequence[str]) -> Names:
    """The classes' own labels, `_` read as a space."""
    return Names(tuple(label.replace("_", " ") for label in classes), tuple(range(len(classes))))


def bank_names(classes: Sequence[str], bank: Sequence[str], aliases: Mapping[str, str]) -> Names:
    """The bank's concepts; a class whose alias (else: own name) is not one of them is put behind them."""
    place = {concept.casefold(): number for number, concept in enumerate(bank)}
    names = list(bank)
    for label in classes:
        name = aliases.get(label, label.replace("_", " "))
        if name.casefold() not in place:
            place[name.casefold()] = len(names)
            names.append(name)
    own = (aliases.get(label, label.replace("_", " ")) for label in classes)
    return Names(tuple(names), tuple(place[name.casefold()] for name in own))


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


def digest(clips: Sequence[Clip]) -> str:
    """Changes with the sounds and with what is said about them, not with where they lie."""
    return fingerprint([[clip.id, clip.label, clip.captions, clip.fold] for clip in clips])
