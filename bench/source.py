"""What the suites measure on: options for labelled clips, and for the names their classes go by."""

from __future__ import annotations

import argparse
from pathlib import Path

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
