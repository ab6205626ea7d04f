"""What results show of themselves in a notebook: HTML with a player for the clips; no script, and nothing loaded."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..clips.files import UnreadableAudioError
from ..clips.index import ClipIndex
from ..explanation.stored import is_explained, load_explained
from ..recording.recording import Recording
from ..types import Explanation
from .media import SAMPLE_RATE, encode_mp3, playable, spectrogram

CLIPS = 3  # strongest clips of a unit that are played
HEARD = 10  # results whose strongest clip is played
_LABELS = 3


def player(index: ClipIndex, row: int) -> str:
    """A clip with its spectrogram and its sound, as HTML; says why where it cannot be read."""
    clip = index.clips[row]
    name = html.escape(clip.caption or clip.label or clip.path)
    try:
        sound = playable(index.read(row, SAMPLE_RATE), SAMPLE_RATE)
    except UnreadableAudioError as error:
        return f"<div>{name}: {html.escape(str(error))}</div>"
    picture, audio = (
        base64.b64encode(content).decode() for content in (spectrogram(sound), encode_mp3(sound))
    )
    return (
        f'<figure style="display:inline-block;margin:4px 8px 4px 0">'
        f'<img alt="" width="220" height="70" src="data:image/png;base64,{picture}"><br>'
        f'<audio controls preload="none" style="width:220px" src="data:audio/mpeg;base64,{audio}"></audio>'
        f'<figcaption style="max-width:220px">{name}</figcaption></figure>'
    )


@dataclass(frozen=True)
class Unit:
    """A unit of a run with what is said of it; shows itself in a notebook with its strongest clips.

    Attributes:
        recording: The run.
        explanation: What is said of the unit.
    """

    recording: Recording
    explanation: Explanation

    def _repr_html_(self) -> str:
        clips = [shown.row for shown in self.explanation.top[:CLIPS]]
        return self.explanation._repr_html_() + "".join(player(self.recording.index, row) for row in clips)


class Results(list[dict[str, Any]]):
    """Results of a search: a list of dicts that shows itself in a notebook, each unit with its strongest clip."""

    def __init__(self, results: Iterable[dict[str, Any]], recording: Recording) -> None:
        super().__init__(results)
        self._recording = recording

    def _repr_html_(self) -> str:
        head = ("unit", "z", "labels", "sentence", "strongest clip")
        return _table(head, (self._row(unit, place < HEARD) for place, unit in enumerate(self)))

    def _row(self, unit: Mapping[str, Any], heard: bool) -> tuple[str, ...]:
        labels = ", ".join(label["concept"] for label in unit["labels"][:_LABELS])
        evidence = self._recording.layer(unit["layer"])
        row = int(evidence.top.rows[unit["unit"], 0])
        name = f"{unit['layer']}:{unit['unit']}"
        z = f"{unit['z']:.1f} of {unit['needed']:.1f}"
        played = player(self._recording.index, row) if heard and row >= 0 else ""
        return (*map(html.escape, (name, z, labels, unit["summary"] or "")), played)


def run_html(recording: Recording) -> str:
    """A run as HTML: its network, its layers, and the strongest clip of each layer's first unit that ever responded."""
    explained = load_explained(recording) if is_explained(recording) else None
    verdicts = explained.column("reliable").to_pylist() if explained else []
    rows = []
    for layer, evidence in zip(recording.manifest.layers, recording.layers, strict=True):
        of = verdicts[recording.unit_index.rows_of(layer.name)]
        held = f"{of.count('holds')} of {len(of) - of.count('untested')}" if of else "not explained"
        rows.append((*map(html.escape, (layer.name, str(layer.units), held)), _loudest(recording, evidence)))
    manifest = recording.manifest
    return (
        f"<p><b>{html.escape(recording.name)}</b>: {html.escape(manifest.target)}, {manifest.read_clips} clips, "
        f"{len(manifest.held_out_rows)} of them held out</p>"
        + _table(("layer", "units", "tested labels that hold", "strongest clip of its first unit"), rows)
    )


def _loudest(recording: Recording, evidence: Any) -> str:
    responded = evidence.fired[:, 0].nonzero()[0]
    return player(recording.index, int(evidence.top.rows[responded[0], 0])) if len(responded) else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of HTML cells under a head of plain words."""
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
