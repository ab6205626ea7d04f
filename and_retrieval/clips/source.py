"""A folder, a glob or a CSV -> the clips a network is shown."""

from __future__ import annotations

import csv
import glob
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..choices import check_hold_out
from ..config import ClipConfig
from ..errors import InputError
from ..files import sha256
from ..types import Clip, Floats, ProbeSet, Skipped
from .files import EXTENSIONS, AudioInfo, UnreadableAudioError, audio_info, read_window

SHARE_HELD_OUT = 0.2
COLUMNS = ("path", "label", "caption", "fold")


@dataclass(frozen=True)
class _Row:
    path: Path
    label: str | None = None
    caption: str | None = None
    fold: str | None = None
    flaw: str | None = None


def load_clips(source: str | Path, config: ClipConfig | None = None) -> ProbeSet:
    """Find the clips of a source.

    Args:
        source: A folder (searched to the bottom; the folder a file lies in is its label), a glob, or a CSV
            with the columns path,label,caption,fold, of which only path is required. Paths of a CSV are
            relative to the CSV's folder and must not leave it. The ids of a glob's clips count from the
            folder before its first wildcard, so that more matches change none.
        config: Window length and the shortest clip.

    Returns:
        Clips in a fixed order, and the files that cannot be used with the reason of each.

    Raises:
        InputError: The source is missing, holds no audio, or the CSV has no path column.
    """
    config = config or ClipConfig()
    root, rows = _rows(str(source))
    clips: dict[str, Clip] = {}
    skipped: list[Skipped] = []
    for row in rows:
        try:
            for clip in _windows(root, row, config):
                clips.setdefault(clip.id, clip)
        except UnreadableAudioError as error:
            skipped.append(Skipped(str(row.path), str(error)))
        except OSError as error:
            skipped.append(Skipped(str(row.path), error.strerror or "not readable"))
    if not clips:
        reason = (
            f"; {len(skipped)} files were skipped, the first because: {skipped[0].reason}" if skipped else ""
        )
        raise InputError(f"no usable audio in {source}{reason}; looked for {' '.join(sorted(EXTENSIONS))}")
    return ProbeSet(tuple(clips.values()), tuple(skipped))


def read_clip(clip: Clip, sample_rate: int, config: ClipConfig | None = None) -> Floats:
    """A clip's sound, mono float32 [samples] at `sample_rate`.

    Raises:
        UnreadableAudioError: The file is gone or broken, or the clip is silent.
    """
    config = config or ClipConfig()
    path = Path(clip.file)
    sound = read_window(path, clip.start, clip.duration, sample_rate, least=config.min_duration)
    if float(np.abs(sound).max(initial=0.0)) < config.silence:
        raise UnreadableAudioError("silent")
    return sound


def held_out(clips: Sequence[Clip], choice: str = "auto") -> npt.NDArray[np.bool_]:
    """Which clips are kept out of the evidence, to test explanations on; bool [clips].

    Windows of one file always stay together. A share is drawn within labels, so that every label of two files or more
    has clips on either side; files of one label do not move when files of another are added.

    Args:
        clips: The probe set.
        choice: A share of the files of every label (0..0.9), those with the lowest hashes; `fold:NAME`; or `auto`: the
            last fold where every clip carries one, else a share of 0.2.

    Raises:
        InputError: A share out of range, an unknown fold, or nothing left to explain with.
    """
    folds = sorted({clip.fold for clip in clips if clip.fold is not None}, key=_natural)
    if choice == "auto":
        complete = len(folds) > 1 and all(clip.fold is not None for clip in clips)
        choice = f"fold:{folds[-1]}" if complete else str(SHARE_HELD_OUT)
    if choice.startswith("fold:"):
        if choice[5:] not in folds:
            raise InputError(f"no fold {choice[5:]!r} among the clips; known: {', '.join(folds) or 'none'}")
        chosen = np.array([clip.fold == choice[5:] for clip in clips])
    else:
        check_hold_out("hold_out", choice)
        chosen = _share_of_labels(clips, float(choice))
    if chosen.all():
        if choice != str(SHARE_HELD_OUT):
            raise InputError(f"--hold-out {choice} leaves no clip to explain with; choose less")
        chosen[:] = False  # one or two files: explaining them comes before testing the explanation
    return chosen


def _share_of_labels(clips: Sequence[Clip], share: float) -> npt.NDArray[np.bool_]:
    """Clips of that share of the files of every label, at least one file and never all where there are two or more."""
    files: dict[str | None, dict[str, None]] = {}
    label_of: dict[str, str | None] = {}
    for clip in clips:
        label = label_of.setdefault(
            clip.sha256, clip.label
        )  # a file with several labels counts for the first
        files.setdefault(label, {})[clip.sha256] = None
    held: set[str] = set()
    for of_label in files.values():
        fewest, most = (1, len(of_label) - 1) if share and len(of_label) > 1 else (0, len(of_label))
        held.update(sorted(of_label)[: min(max(round(share * len(of_label)), fewest), most)])
    return np.array([clip.sha256 in held for clip in clips], bool)


def _natural(fold: str) -> tuple[int, float, str]:
    return (0, float(fold), fold) if fold.replace(".", "", 1).isdecimal() else (1, 0.0, fold)


def _rows(source: str) -> tuple[Path, list[_Row]]:
    path = Path(source).expanduser()
    path = path.resolve() if ".." in path.parts else path.absolute()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.is_dir())
        return path, _labelled(files, path)
    if path.is_file():
        is_table = path.suffix.lower() == ".csv"
        return path.parent, list(_csv_rows(path)) if is_table else [_Row(path)]
    if glob.has_magic(source):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
        files = sorted(p for p in map(Path, names) if p.is_file())
        if not files:
            raise InputError(f"no file matches {source}; quote the pattern if the shell expands it")
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        return root, _labelled(files, root)
    raise InputError(f"{source} does not exist; give a folder, a quoted glob, or a CSV with a path column")


def _labelled(files: Iterable[Path], root: Path) -> list[_Row]:
    return [_Row(p, label=None if p.parent == root else p.parent.name) for p in files]


def _csv_rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            if "path" not in columns:
                raise InputError(
                    f"{path} has no column named path; its columns: {', '.join(columns) or 'none'}"
                )
            reader.fieldnames = columns
            for line in reader:
                cells = {name: (line.get(name) or "").strip() or None for name in COLUMNS}
                name = cells.pop("path")
                flaw = None if name else f"no path in line {reader.line_num}"
                yield _Row(path.parent / name if name else path, **cells, flaw=flaw)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a UTF-8 CSV ({error})") from None


def _inside(root: Path, path: Path) -> Path:
    """The path without `..`, which lies under the root."""
    whole = Path(os.path.normpath(path))
    if not whole.is_file():
        raise UnreadableAudioError("no such file")
    if not whole.is_relative_to(root) or not whole.resolve().is_relative_to(root.resolve()):
        raise UnreadableAudioError(f"lies outside {root}; start from a folder above it")
    return whole


def _windows(root: Path, row: _Row, config: ClipConfig) -> Iterator[Clip]:
    if row.flaw is not None:
        raise UnreadableAudioError(row.flaw)
    path = _inside(root, row.path)
    info = audio_info(path)
    if info.seconds < config.min_duration:
        raise UnreadableAudioError(f"too short ({info.frames} samples)")
    relative, digest = path.relative_to(root).as_posix(), sha256(path)
    for start, duration in _spans(info, config):
        name = f"{relative}\0{digest}\0{start:.3f}"
        yield Clip(
            id=hashlib.sha256(name.encode()).hexdigest()[:16],
            root=root.as_posix(),
            path=relative,
            start=start,
            duration=duration,
            label=row.label,
            caption=row.caption,
            fold=row.fold,
            sha256=digest,
        )


def _spans(info: AudioInfo, config: ClipConfig) -> Iterator[tuple[float, float]]:
    """(start, duration) of the windows of a file; a last window shorter than a tenth of one is left out."""
    least = max(config.min_duration, 0.1 * config.window)
    for number in range(max(1, math.ceil(info.seconds / config.window))):
        start = number * config.window
        duration = min(config.window, info.seconds - start)
        if number == 0 or duration >= least:
            yield start, round(duration, 6)
