"""What `explain` leaves in the folder of a recording: one row per unit as columns, and how they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..errors import DamagedError, InputError, StaleError
from ..recording.recording import Recording
from ..shards.folder import ShardCount
from ..store import Stored
from ..types import Explanation, Floats
from . import columns
from .manifest import ExplanationManifest, explanation_folder
from .unit_map import placed

UNITS = "units.parquet"
PHRASES = "phrases.parquet"
MAP = "map.safetensors"
ROW_GROUP = 2048  # units that are read together
CLIPS = ("top", "low")  # the large columns


@dataclass(frozen=True)
class _Phrase:
    """A clip in words, see `Explained.phrases`."""

    row: int
    phrase: str


@dataclass(frozen=True)
class Explained(Sequence[Explanation]):
    """The explanations of a recording, a sequence of its units, read as they are needed.

    Attributes:
        recording: What they explain.
        stored: The committed files.
        shards: Number of layers, and how many of them were found finished when they were made.
    """

    recording: Recording
    stored: Stored[ExplanationManifest]
    shards: ShardCount = field(default=ShardCount(), compare=False)

    @property
    def manifest(self) -> ExplanationManifest:
        """How they were made."""
        return self.stored.manifest

    def __len__(self) -> int:
        return sum(layer.units for layer in self.recording.manifest.layers)

    def __iter__(self) -> Iterator[Explanation]:
        return (unit for part in self.in_parts(clips=True) for unit in part)

    @overload
    def __getitem__(self, place: int) -> Explanation: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Explanation, ...]: ...
    def __getitem__(self, place: int | slice) -> Explanation | tuple[Explanation, ...]:
        if isinstance(place, slice):
            return tuple(self.at(range(len(self))[place], clips=True))
        return self.at([range(len(self))[place]], clips=True)[0]

    def in_parts(self, clips: bool = False) -> Iterator[list[Explanation]]:
        """All units in their order, at most `ROW_GROUP` at a time; none is kept. Their clips come only where wanted."""
        names = self._names(clips)
        for group in range(self._metadata.num_row_groups):
            yield columns.records(self._read(names, group), Explanation)

    @cached_property
    def phrases(self) -> Mapping[int, str]:
        """Row of a clip -> the clip in words: its caption, else the concepts nearest to its sound.

        Only clips that are evidence of some unit are listed.
        """
        path = self.stored.file(PHRASES)
        with _readable(path, self.recording):
            read = columns.records(pq.read_table(path, schema=columns.schema(_Phrase)), _Phrase)
        return {clip.row: clip.phrase for clip in read}

    @cached_property
    def positions(self) -> Floats:
        """The map, see `unit_map.placed`: float32 [units, 2] within -1..1; NaN for units that never responded."""
        path = self.stored.file(MAP)
        with _readable(path, self.recording):
            positions: Floats = load_file(path)["positions"]
            if positions.shape != (len(self), 2):
                raise ValueError
        return positions

    def at(self, rows: Sequence[int], clips: bool = False) -> list[Explanation]:
        """Some units by their rows in the unit index; their clips, the largest columns, only where they are wanted."""
        groups = self._metadata
        starts = [0, *accumulate(groups.row_group(group).num_rows for group in range(groups.num_row_groups))]
        names = self._names(clips)
        place = np.searchsorted(starts, rows, side="right") - 1
        units: dict[int, Explanation] = {}
        for group in sorted(set(place.tolist())):
            wanted = [int(row) for row, where in zip(rows, place, strict=True) if where == group]
            table = self._read(names, group)
            taken = table.take([row - starts[group] for row in wanted])
            units.update(zip(wanted, columns.records(taken, Explanation), strict=True))
        return [units[int(row)] for row in rows]

    def column(self, name: str) -> pa.ChunkedArray:
        """One column over all units, by the name of a field of `Explanation`."""
        return self._read([name]).column(name)

    def reliable(self) -> npt.NDArray[np.bool_]:
        """Which units have a label that holds, bool [units]."""
        return np.array([state == "holds" for state in self.column("reliable").to_pylist()], bool)

    def several_meanings(self) -> npt.NDArray[np.bool_]:
        """Which units have several meanings, bool [units]."""
        return np.array([bool(meanings) for meanings in self.column("meanings").to_pylist()], bool)

    def polysemanticity(self) -> npt.NDArray[np.float64]:
        """Of every unit, float64 [units], 0..1; NaN where there are too few clips to tell."""
        values: npt.NDArray[np.float64] = self.column("polysemanticity").to_numpy()
        return values

    def _read(self, names: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
        """Columns of all units, or of one row group, by a reader of their own: threads must not share Arrow's."""
        reader = pq.ParquetFile(pa.BufferReader(self._mapped), metadata=self._metadata)
        return reader.read(names) if group is None else reader.read_row_group(group, names)

    @staticmethod
    def _names(clips: bool) -> list[str]:
        return [name for name in columns.schema(Explanation).names if clips or name not in CLIPS]

    @cached_property
    def _mapped(self) -> pa.Buffer:
        path = self.stored.file(UNITS)
        with _readable(path, self.recording):
            return pa.memory_map(str(path)).read_buffer()

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        with _readable(self.stored.file(UNITS), self.recording):
            metadata = pq.read_metadata(pa.BufferReader(self._mapped))
            if metadata.num_rows != len(self) or metadata.schema.to_arrow_schema() != columns.schema(
                Explanation
            ):
                raise ValueError
        return metadata


@contextmanager
def _readable(path: Path, recording: Recording) -> Iterator[None]:
    """Turn what Arrow and safetensors raise for a damaged file into an error that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, pa.ArrowException, SafetensorError):
        raise DamagedError(f"{path} is damaged; {_remedy(recording)}") from None


def is_explained(recording: Recording) -> bool:
    """Whether `explain` has been run on a recording of this name."""
    return explanation_folder(recording.folder).exists()


def load_explained(recording: Recording) -> Explained:
    """The explanations of a recording.

    Raises:
        InputError: `explain` was not run yet, or what it left is damaged.
        StaleError: The network was recorded again since.
    """
    if not is_explained(recording):
        raise InputError(f"{recording.name} is not explained yet; {_remedy(recording)}")
    stored = explanation_folder(recording.folder).open(ExplanationManifest)
    if stored.manifest.recorded != recording.identity:
        raise StaleError(f"{recording.name} was recorded again since; {_remedy(recording)}")
    return Explained(recording, stored)


class ExplanationWriter:
    """Writes explanations layer by layer, so that only one layer is held at a time, and commits them together.

    Used as a context manager: what was not committed when the block ends is removed.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._folder = explanation_folder(recording.folder)
        self._shown: set[int] = set()

    def __enter__(self) -> Self:
        self._scratch = self._folder.scratch(UNITS)
        try:
            self._units = pq.ParquetWriter(self._scratch, columns.schema(Explanation), compression="zstd")
        except BaseException:
            self._scratch.unlink()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._units.close()
        finally:
            self._scratch.unlink(missing_ok=True)

    def add(self, units: Sequence[Explanation]) -> None:
        """Add the units of the next layer."""
        self.add_table(columns.table(units, Explanation))

    def add_table(self, units: pa.Table) -> None:
        """Add the units of the next layer as columns."""
        for name in CLIPS:
            for chunk in units.column(name).chunks:
                self._shown.update(chunk.flatten().field("row").to_pylist())
        self._units.write_table(units, row_group_size=ROW_GROUP)

    def commit(self, phrases: Sequence[str], manifest: ExplanationManifest) -> Explained:
        """Make the explanations those of the recording, with a map of its units.

        Args:
            phrases: Per clip of the index, the clip in words.
            manifest: How the explanations were made.
        """
        self._units.close()
        words = columns.table([_Phrase(row, phrases[row]) for row in sorted(self._shown)], _Phrase)
        positions = placed(self._recording.unit_index)

        def write_map(path: Path) -> None:
            path.write_bytes(save({"positions": positions}))

        self._folder.commit(
            {
                UNITS: self._scratch,
                PHRASES: lambda path: pq.write_table(words, path),
                MAP: write_map,
            },
            manifest,
        )
        return load_explained(self._recording)


def _remedy(recording: Recording) -> str:
    return f"run: and-retrieval explain {recording.name}"
