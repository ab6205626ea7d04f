"""Sound and pictures of clips as files of a temporary folder, to be served in ranges; the oldest go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Literal

from ..clips.files import UnreadableAudioError
from ..clips.index import ClipIndex
from ..errors import InputError
from ..files import write_bytes
from ..report.media import SAMPLE_RATE, encode_mp3, playable, spectrogram

KEPT = 2_000  # files; of ten seconds each 30 kB
Kind = Literal["mp3", "png"]


class ClipMedia:
    """Makes the sound and the picture of clips when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: OrderedDict[str, Path] = OrderedDict()
        self._lock = threading.Lock()

    def file(self, index: ClipIndex, row: int, kind: Kind) -> tuple[Path, str]:
        """The file of a clip's sound or picture, and what identifies its content.

        Raises:
            InputError: There is no such row, or its sound cannot be read.
        """
        if not 0 <= row < len(index.clips):
            raise InputError(
                f"index {index.name!r} has clips 0 to {len(index.clips) - 1}; there is no clip {row}"
            )
        tag = f"{index.clips[row].id}-{kind}"
        with self._lock:
            known = self._files.get(tag)
            if known is not None and known.exists():
                self._files.move_to_end(tag)
                return known, tag
        try:
            sound = playable(index.read(row, SAMPLE_RATE), SAMPLE_RATE)
        except UnreadableAudioError as error:
            raise InputError(f"clip {row} of {index.name!r} cannot be played: {error}") from None
        content = encode_mp3(sound) if kind == "mp3" else spectrogram(sound)
        path = write_bytes(self._folder / f"{tag}.{kind}", content)
        with self._lock:
            self._files[tag] = path
            while len(self._files) > KEPT:
                self._files.popitem(last=False)[1].unlink(missing_ok=True)
        return path, tag
