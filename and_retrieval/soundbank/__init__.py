"""The demo probe set: short clips of everyday sounds that are computed, not downloaded.

    OUT/<concept>/<concept>-<n>.flac    16 kHz mono, 2.5 to 4 s
    OUT/clips.csv                       path, label, caption, fold; one row per clip
    OUT/soundbank.json                  recipe version and the sha256 of every file

Most concepts are synthesised (`nature` to `electronic`); instruments come from a soundfont, if one is installed
(`instruments`). Every clip has its own random generator, so it does not depend on which other clips are rendered.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..errors import InputError, unknown_name
from ..files import replacing, sha256, write_text
from ..types import Floats
from .alarms import ALARMS
from .animals import ANIMALS
from .electronic import ELECTRONIC
from .impacts import IMPACTS
from .instruments import INSTRUMENTS, REMEDY, soundfont
from .machines import MACHINES
from .nature import NATURE
from .people import PEOPLE
from .signals import RATE, Recipe, fade, noise

VERSION = 1
"""To be raised whenever a recipe changes: a folder of another version is rendered again."""

FOLDS = 4
SECONDS = (2.5, 3.0, 3.5, 4.0)
"""Lengths of clips: only a few, so that many clips of equal length form a batch."""
PEAK = (-9.0, -3.0)
"""Range of a clip's peak, dBFS."""
FLOOR = (-58.0, -46.0)
"""Range of the faint room noise under every clip, dBFS (RMS): real recordings are never digitally silent."""

SYNTHESISED: Mapping[str, Recipe] = {
    **NATURE,
    **ANIMALS,
    **PEOPLE,
    **MACHINES,
    **ALARMS,
    **IMPACTS,
    **ELECTRONIC,
}
CONCEPTS: tuple[str, ...] = tuple(sorted(SYNTHESISED))
"""Names of the concepts that are synthesised; these can be rendered on every machine."""
SAMPLED: tuple[str, ...] = tuple(sorted(INSTRUMENTS))
"""Names of the concepts that need the soundfont."""

# Main and second parameter of clip n: each fold gets both values of the second parameter and two of the main one.
_GRID = ((0, 0), (1, 1), (2, 0), (3, 1), (2, 1), (3, 0), (0, 1), (1, 0))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A clip: its path in the folder, its row of the CSV and its sound (float32, 16 kHz mono)."""

    path: str
    label: str
    caption: str
    fold: int
    waveform: Floats


def available() -> tuple[str, ...]:
    """Names of the concepts that can be rendered on this machine, sorted."""
    return tuple(sorted(CONCEPTS + (SAMPLED if soundfont() else ())))


def clip(concept: str, n: int) -> Rendered:
    """Render clip number `n` (from 1) of a concept; the samples are the same every time.

    Raises:
        InputError: The concept is unknown, or needs a soundfont that is not installed.
    """
    recipe = _recipe(concept)
    first, second = _GRID[(n - 1) % len(_GRID)]
    rng = np.random.default_rng([zlib.crc32(concept.encode()), n])
    length = int(rng.choice(SECONDS) * RATE)
    sound = recipe.make(rng, length, first / 3, float(second))
    x = sound - sound.mean()
    x = x / np.abs(x).max() + 10 ** (rng.uniform(*FLOOR) / 20) * noise(rng, x.size, 1.0)
    x = x * fade(x.size, 0.003, 0.02)
    peak = 10 ** (rng.uniform(*PEAK) / 20)
    return Rendered(
        path=_path(concept, n),
        label=concept,
        caption=caption(concept, n),
        fold=_fold(n),
        waveform=(peak * x / np.abs(x).max()).astype(np.float32),
    )


def caption(concept: str, n: int) -> str:
    """The sentence that describes clip number `n` (from 1) of a concept; needs no soundfont."""
    recipe = SYNTHESISED.get(concept) or INSTRUMENTS[concept]
    first, second = _GRID[(n - 1) % len(_GRID)]
    return recipe.caption.format(recipe.first[first], recipe.second[second])


def render(
    out: Path,
    clips_per_concept: int = 8,
    concepts: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the demo set into a folder and return the path of its `clips.csv`.

    Intact files of this version are kept, and the rest is rendered. Files of an earlier call that are no longer part
    of the set are removed. Files that this function did not write are never touched.

    Args:
        out: Folder; it is created if missing.
        clips_per_concept: At least 1; 8 gives two clips to each of the folds 1..4.
        concepts: Names from `available()`; None takes all of them.
        progress: Called with (clips done, number of clips).

    Raises:
        InputError: A concept is unknown, the count is below 1, or the folder holds a clips.csv of another origin.
    """
    if clips_per_concept < 1:
        raise InputError(f"clips_per_concept is {clips_per_concept}; give 1 or more")
    chosen = available() if concepts is None else tuple(dict.fromkeys(concepts))
    for concept in chosen:
        _recipe(concept)
    left_out = () if soundfont() or concepts is not None else SAMPLED
    if left_out:
        _log.warning("%d sampled concepts are left out, no soundfont: %s", len(left_out), REMEDY)
    out = Path(out)
    before = _known_files(out)
    wanted = [(concept, n) for concept in chosen for n in range(1, clips_per_concept + 1)]
    intact = _intact(out, before)
    files = {path: digest for c, n in wanted if (digest := intact.get(path := _path(c, n)))}
    for done, (concept, n) in enumerate(wanted, start=1):
        if _path(concept, n) not in files:
            rendered = clip(concept, n)
            files[rendered.path] = _write_clip(out / rendered.path, rendered.waveform)
            if n == clips_per_concept:
                _write_manifest(out, {**before, **files}, left_out)
        if progress:
            progress(done, len(wanted))
    for path in set(before) - set(files):
        (out / path).unlink(missing_ok=True)
    table = _table(wanted)
    write_text(out / "clips.csv", table)
    _write_manifest(out, files, left_out)
    return out / "clips.csv"


def _recipe(concept: str) -> Recipe:
    if concept in SYNTHESISED:
        return SYNTHESISED[concept]
    if concept not in INSTRUMENTS:
        raise unknown_name("sound concept", concept, [*CONCEPTS, *SAMPLED])
    if soundfont() is None:
        raise InputError(f"the sampled sound {concept!r} needs a soundfont and its player: {REMEDY}")
    return INSTRUMENTS[concept]


def _path(concept: str, n: int) -> str:
    return f"{concept}/{concept}-{n}.flac"


def _fold(n: int) -> int:
    return (n - 1) % FOLDS + 1


def _table(wanted: Sequence[tuple[str, int]]) -> str:
    """The CSV's text."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("path", "label", "caption", "fold"))
    for concept, n in wanted:
        writer.writerow((_path(concept, n), concept, caption(concept, n), _fold(n)))
    return stream.getvalue()


def _known_files(out: Path) -> dict[str, str]:
    """Path -> sha256 of the files that an earlier call wrote here; the hash is empty for files of other versions."""
    manifest = out / "soundbank.json"
    if not manifest.is_file():
        if (out / "clips.csv").exists():
            raise InputError(
                f"{out} holds a clips.csv that does not belong to the demo set; choose another folder"
            )
        return {}
    try:
        content: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        files, current = dict(content["files"]), content["version"] == VERSION
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    inside = {p: d for p, d in files.items() if not Path(p).is_absolute() and ".." not in Path(p).parts}
    return {path: str(digest) if current else "" for path, digest in inside.items()}


def _intact(out: Path, known: Mapping[str, str]) -> dict[str, str]:
    """The known files whose content has not changed."""
    return {p: d for p, d in known.items() if (out / p).is_file() and sha256(out / p) == d}


def _write_clip(path: Path, waveform: Floats) -> str:
    """Write a FLAC file in one step and return its sha256."""
    with replacing(path) as scratch:
        soundfile.write(scratch, waveform, RATE, format="FLAC", subtype="PCM_16")
    return sha256(path)


def _write_manifest(out: Path, files: Mapping[str, str], left_out: Sequence[str]) -> None:
    content = {"version": VERSION, "files": dict(sorted(files.items())), "left_out": list(left_out)}
    write_text(out / "soundbank.json", json.dumps(content, indent=1) + "\n")
