"""What the suites measure on: options for labelled clips, the names their classes go by, and the index of the clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from and_retrieval.benchmark.names import classes_of
from and_retrieval.benchmark.retrieval import embedded
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.source import load_clips
from and_retrieval.config import ClipConfig
from and_retrieval.embed import load_embedder
from and_retrieval.neighbours import STORES
from and_retrieval.store import Home
from and_retrieval.types import Embedder
from bench import Announce

ESC10_NAMES = Path(__file__).parent / "esc10_names.csv"


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE and the embedder."""
    parser.add_argument("source", metavar="SOURCE", help="labelled folder of folders, glob or CSV")
    parser.add_argument("--embedder", default="embedded", metavar="NAME", help="default: embedded")


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, the embedder, where its index is kept, the seed, and the stores that are searched."""
    add_clip_arguments(parser)
    parser.add_argument("--home", metavar="DIR", help="folder of the source's index (default: ./index)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--store", action="append", dest="stores", choices=STORES, help="repeatable (default: faiss)"
    )


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


def add_absent_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, which sounds are absent in it, and where recordings of these are."""
    parser.add_argument("source", metavar="SOURCE", help="labelled folder of folders, glob or CSV")
    parser.add_argument(
        "--set", required=True, choices=("esc10", "soundbank"), help="which rows of absent.csv"
    )
    parser.add_argument("--others", metavar="SOURCE", help="labelled sounds, some of them absent in SOURCE")
    parser.add_argument("--home", metavar="DIR", help="folder of the indexes (default: ./index)")


def source_index(source: str, embedder: Embedder, home: str | None, announce: Announce) -> ClipIndex:
    """The index of a source's clips under an embedder; one that is in the home is used again.

    Raises:
        InputError: The source holds no usable audio.
    """
    return embedded(source, embedder, Home.find(home), ClipConfig.window, announce("embedding", "clips"))


def labelled_index(source: str, embedder: str, home: str | None, announce: Announce) -> ClipIndex:
    """The index of a labelled source; one that is there is used again.

    Raises:
        InputError: Clips without labels, or an unknown embedder.
    """
    classes_of(load_clips(source).clips, source)
    return source_index(source, load_embedder(embedder), home, announce)


def embedder_of(index: ClipIndex) -> dict[str, str]:
    """What names the embedder of an index in a result."""
    return {"embedder": index.embedder_name, "fingerprint": index.embedder_fingerprint}
