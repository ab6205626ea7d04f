"""What stays of an index when it is built again, and what a source says of it by now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..files import named_file, plain_name
from ..types import Clip, ProbeSet, Skipped
from .source import NO_FILE

_PART = re.compile(r"(.*) (?:at|from) [0-9.e+]+ s", re.DOTALL)


def still_valid(old: Sequence[Clip], probe: ProbeSet) -> tuple[list[int], list[Clip], int]:
    """Rows and clips that stay: those whose file still has the content they were embedded from.

    A clip that is found in another place now (the whole folder moved) is read from there. What the source says of it
    now is taken over; the number of clips of which that is something else comes last.
    """
    current = {clip.id: clip for clip in probe.clips}
    content = {(clip.root, clip.path): clip.sha256 for clip in probe.clips}
    rows: list[int] = []
    kept: list[Clip] = []
    changed = 0
    for row, clip in enumerate(old):
        now = current.get(clip.id)
        if now is None and content.get((clip.root, clip.path), clip.sha256) != clip.sha256:
            continue
        rows.append(row)
        if now is not None:
            corrected = _corrected(clip, now, probe.columns)
            changed += corrected != clip
            clip = replace(corrected, root=now.root)
        kept.append(clip)
    return rows, kept, changed


def _corrected(clip: Clip, now: Clip, columns: frozenset[str]) -> Clip:
    """A clip as a source describes it now, in the columns that this has."""
    label = now.label if "label" in columns else clip.label or now.label
    captions = now.captions if "caption" in columns else clip.captions
    fold = now.fold if "fold" in columns else clip.fold
    return replace(clip, label=label, captions=captions, fold=fold)


def still_missed(old: Sequence[Skipped], probe: ProbeSet, source: str | Path) -> Iterator[Skipped]:
    """What an earlier source could not use, as far as this one did not look at the same files and they still exist."""
    looked_at = {clip.file for clip in probe.clips} | {_file(miss) for miss in probe.skipped}
    looked_at.add(plain_name(Path(source).expanduser().absolute()))
    for miss in old:
        file = _file(miss)
        if file not in looked_at and (miss.reason == NO_FILE or named_file(file).exists()):
            yield miss


def _file(miss: Skipped) -> str:
    """The file that was skipped, whole or from some second on."""
    match = _PART.fullmatch(miss.path)
    return match[1] if match else miss.path
