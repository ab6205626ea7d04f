"""A folder, a glob or a table -> the clips a network is shown."""

from __future__ import annotations

import glob
import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..choices import check_hold_out
from ..config import ClipConfig
from ..errors import InputError, first_of
from ..files import named_file, plain_name
from ..types import Clip, Floats, ProbeSet, Skipped
from .files import EXTENSIONS, AudioInfo, UnreadableAudioError, audio_info, file_digest, read_window
from .formats import looks_like_sound, misnamed
from .table import TABLES, Row, read_table

SHARE_HELD_OUT = 0.2
NO_FILE = "no such file"
LINES_TOLD = 20  # numbers of lines that a note lists
OUTSIDE = 0.1  # seconds that an event may end after its file without a word


@dataclass(frozen=True)
class _Source:
    """What a source names: the folder that paths start from, its rows, and what it holds and cannot be used."""

    root: Path
    rows: list[Row]
    skipped: list[Skipped] = field(default_factory=list)
    columns: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def load_clips(source: str | Path, config: ClipConfig | None = None) -> ProbeSet:
    """Find the clips of a source.

    Args:
        source: A folder (searched to the bottom; the folder a file lies in is its label), a glob, or a table with
            the columns path, label, caption, fold, start, end (or duration), of which only path is required, see
            `clips.table`. Paths of a table are relative to its folder and must not leave it. A row with a start or
            an end is a part of its file. Rows that name the same part of the same file are one row with all their
            captions. The ids of a glob's clips count from the folder before its first wildcard,
            so that more matches change none.
        config: Window length and the shortest clip.

    Returns:
        Clips in a fixed order, and everything that looks like sound and cannot be used, with the reason of each.

    Raises:
        InputError: The source is missing, holds no audio, or the table has no path column.
    """
    config = config or ClipConfig()
    listing = _source(str(source))
    rows, notes = _joined(listing.rows)
    clips: dict[str, Clip] = {}
    skipped = list(listing.skipped)
    for row in rows:
        try:
            for clip, miss in _windows(listing.root, row, config):
                if clip is not None:
                    clips.setdefault(clip.id, clip)
                if miss is not None:
                    skipped.append(miss)
        except UnreadableAudioError as error:
            skipped.append(Skipped(plain_name(row.path), str(error)))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or f"not readable ({error})"
            skipped.append(Skipped(plain_name(row.path), reason))
    skipped = list(dict.fromkeys(skipped))
    if not clips:
        reason = (
            f"; {len(skipped)} files were skipped, the first because: {skipped[0].reason}" if skipped else ""
        )
        raise InputError(f"no usable audio in {source}{reason}; looked for {' '.join(sorted(EXTENSIONS))}")
    return ProbeSet(tuple(clips.values()), tuple(skipped), listing.columns, (*listing.notes, *notes))


def read_clip(clip: Clip, sample_rate: int, config: ClipConfig | None = None) -> Floats:
    """A clip's sound, mono float32 [samples] at `sample_rate`.

    Raises:
        UnreadableAudioError: The file is gone, broken, or not the one that the clip was found in, or the clip is
            silent.
    """
    config = config or ClipConfig()
    path = named_file(clip.file)
    try:
        changed = bool(clip.sha256) and file_digest(path) != clip.sha256
    except OSError as error:
        raise UnreadableAudioError(f"not readable ({error.strerror})") from None
    if changed:
        raise UnreadableAudioError("the file was changed after it was indexed; index it again")
    return read_window(
        path, clip.start, clip.duration, sample_rate, least=config.min_duration, silence=config.silence
    )


def held_out(clips: Sequence[Clip], choice: str = "auto", grown: Sequence[int] = ()) -> npt.NDArray[np.bool_]:
    """Which clips are kept out of the evidence, to test explanations on; bool [clips].

    Windows of one file always stay together. A share is drawn within labels, so that every label of two files or more
    has clips on either side; files of one label do not move when files of another are added.

    Args:
        clips: The probe set.
        choice: A share of the files of every label (0..0.9), those with the lowest hashes; `fold:NAME`; or `auto`: the
            last fold where every clip carries one, else a share of 0.2.
        grown: Where a share is drawn: how many clips there were each time before others were added; files of these
            stay on the side on which they were then.

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
        chosen = _share_of_labels(clips, float(choice), grown)
    if chosen.all():
        if choice != str(SHARE_HELD_OUT):
            raise InputError(f"--hold-out {choice} leaves no clip to explain with; choose less")
        chosen[:] = False  # one or two files: explaining them comes before testing the explanation
    return chosen


def _share_of_labels(clips: Sequence[Clip], share: float, grown: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Clips of that share of the files of every label, at least one file and never all where there are two or more."""
    files: dict[str | None, int] = {}
    label_of: dict[str, str | None] = {}
    held: dict[str | None, set[str]] = {}
    for begin, end in itertools.pairwise((0, *grown, len(clips))):
        added: dict[str | None, list[str]] = {}
        for clip in clips[begin:end]:
            if clip.sha256 not in label_of:  # a file with several labels counts for the first
                label_of[clip.sha256] = clip.label
                added.setdefault(clip.label, []).append(clip.sha256)
        for label, of_label in added.items():
            count = files[label] = files.get(label, 0) + len(of_label)
            fewest, most = (1, count - 1) if share and count > 1 else (0, count)
            held_before = held.setdefault(label, set())
            wanted = min(max(round(share * count), fewest), most) - len(held_before)
            held_before.update(sorted(of_label)[: max(wanted, 0)])
    return np.array([clip.sha256 in held[label_of[clip.sha256]] for clip in clips], bool)


def _natural(fold: str) -> tuple[int, float, str]:
    return (0, float(fold), fold) if fold.replace(".", "", 1).isdecimal() else (1, 0.0, fold)


def _source(source: str) -> _Source:
    path = Path(source).expanduser()
    path = path.resolve() if ".." in path.parts else path.absolute()
    if path.is_dir():
        files, skipped = _searched(path)
        return _Source(path, _labelled(files, path), skipped)
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            return _Source(path.parent, [Row(path)])
        table = read_table(path)
        return _Source(path.parent, list(table.rows), [], table.columns, table.notes)
    if glob.has_magic(source):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
        files = sorted(p for p in map(Path, names) if p.is_file())
        if not files:
            raise InputError(f"no file matches {source}; quote the pattern if the shell expands it")
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        return _Source(root, _labelled(files, root))
    raise InputError(f"{source} does not exist; give a folder, a quoted glob, or a CSV with a path column")


def _labelled(files: Iterable[Path], root: Path) -> list[Row]:
    return [Row(p, label=None if p.parent == root else plain_name(p.parent.name)) for p in files]


def _searched(root: Path) -> tuple[list[Path], list[Skipped]]:
    """Files of a folder, to the bottom, that look like sound, and what could not be searched or is misnamed."""
    files: list[Path] = []
    skipped: list[Skipped] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            skipped.append(Skipped(plain_name(folder), f"folder not readable ({error.strerror})"))
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif path.is_dir():
                skipped.append(Skipped(plain_name(path), "a link to a folder, which is not followed"))
            elif looks_like_sound(path.suffix):
                files.append(path)
            elif (reason := _passed_over(path)) is not None:
                skipped.append(Skipped(plain_name(path), reason))
    return sorted(files), sorted(skipped, key=lambda miss: miss.path)


def _passed_over(path: Path) -> str | None:
    """Why a file whose name is not one of sound should still be told of; None where it should not."""
    try:
        return misnamed(path) if path.is_file() else None
    except OSError:
        return None  # nothing says that it is sound


def _joined(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Rows, those of the same part of a file as one with all captions, and a note where labels or folds differ."""
    joined: dict[object, Row] = {}
    lines: list[int] = []
    for row in rows:
        same = row if row.flaw is not None else (os.path.normpath(row.path), row.start, row.end)
        first = joined.setdefault(same, row)
        if first is row:
            continue
        joined[same] = replace(first, captions=tuple(dict.fromkeys((*first.captions, *row.captions))))
        if row.line is not None and any(
            later not in (None, kept) for kept, later in ((first.label, row.label), (first.fold, row.fold))
        ):
            lines.append(row.line)
    if not lines:
        return list(joined.values()), []
    note = (
        f"{len(lines)} lines give a file another label or fold than an earlier line does; the first is kept, not "
        f"lines {first_of(lines, LINES_TOLD)}"
    )
    return list(joined.values()), [note]


def _inside(root: Path, path: Path) -> Path:
    """The path without `..`, which lies under the root."""
    whole = named_file(os.path.normpath(path))
    if not whole.is_file() and "\\" in str(path):  # written under Windows
        whole = Path(os.path.normpath(str(path).replace("\\", "/")))
    if not whole.is_file():
        raise UnreadableAudioError(NO_FILE)
    if not whole.is_relative_to(root) or not whole.resolve().is_relative_to(root.resolve()):
        raise UnreadableAudioError(f"lies outside {plain_name(root)}; start from a folder above it")
    return whole


def _windows(root: Path, row: Row, config: ClipConfig) -> Iterator[tuple[Clip | None, Skipped | None]]:
    """The clips of a row, and what of its file is not among them."""
    if row.flaw is not None:
        raise UnreadableAudioError(row.flaw)
    path = _inside(root, row.path)
    info = audio_info(path)
    if info.seconds < config.min_duration:
        raise UnreadableAudioError(f"too short ({info.frames} samples)" + _because(info))
    relative, digest = plain_name(path.relative_to(root).as_posix()), file_digest(path)
    begin, end = _part(row, info, config)
    for start, duration in _spans(end - begin, config):
        name = f"{relative}\0{digest}\0{begin + start:.3f}" + (f"\0{duration:.3f}" if row.is_event else "")
        clip = Clip(
            id=hashlib.sha256(name.encode()).hexdigest()[:16],
            root=plain_name(root.as_posix()),
            path=relative,
            start=round(begin + start, 6),
            duration=duration,
            label=row.label,
            captions=row.captions,
            fold=row.fold,
            sha256=digest,
        )
        yield clip, None
    if info.missing is not None:
        yield None, Skipped(f"{plain_name(path)} from {info.seconds:.3g} s", info.missing)
    if row.end is not None and row.end > info.seconds + OUTSIDE:
        reason = f"line {row.line}: the event ends at {row.end:g} s, the file at {info.seconds:.3g} s"
        yield None, Skipped(f"{plain_name(path)} from {info.seconds:.3g} s", reason)


def _because(info: AudioInfo) -> str:
    return f"; {info.missing}" if info.missing else ""


def _part(row: Row, info: AudioInfo, config: ClipConfig) -> tuple[float, float]:
    """Begin and end in seconds of what a row means of its file."""
    begin, end = row.start or 0.0, info.seconds if row.end is None else min(row.end, info.seconds)
    if row.is_event and end - begin < config.min_duration - 1e-9:
        problem = (
            f"the event begins at {begin:g} s, the file ends at {info.seconds:.3g} s"
            if begin >= info.seconds
            else f"the event is too short ({max(0.0, end - begin):.3g} s)"
        )
        raise UnreadableAudioError(f"line {row.line}: {problem}{_because(info)}")
    return begin, end


def file_windows(path: Path, sample_rate: int, config: ClipConfig) -> Iterator[Floats]:
    """The windows that a file is cut into, mono float32 [samples] at `sample_rate`, silent ones among them.

    Raises:
        UnreadableAudioError: The file is not audio, or a window of it cannot be used.
    """
    for start, duration in _spans(audio_info(path).seconds, config):
        yield read_window(path, start, duration, sample_rate)


def _spans(seconds: float, config: ClipConfig) -> Iterator[tuple[float, float]]:
    """(start, duration) of the windows of so many seconds; a last one shorter than a tenth of one is left out."""
    least = max(config.min_duration, 0.1 * config.window)
    for number in range(max(1, math.ceil(seconds / config.window))):
        start = number * config.window
        duration = min(config.window, seconds - start)
        if number == 0 or duration >= least:
            yield start, round(duration, 6)
