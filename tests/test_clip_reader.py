"""The clips of a recording are read ahead of the network, from one shard to the next."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedders import FakeEmbedder
from sounds import WriteSound, tone
from targets.deep import SAMPLE_RATE, load

from and_retrieval import ClipIndex
from and_retrieval.clips import reading
from and_retrieval.clips.bands import band_levels
from and_retrieval.clips.qualities import measure
from and_retrieval.clips.source import read_clip
from and_retrieval.config import RecordConfig
from and_retrieval.recording import clip_reader
from and_retrieval.recording.clip_reader import ClipReader
from and_retrieval.recording.manifest import RecordPlan
from and_retrieval.recording.record import record_share
from and_retrieval.shards.folder import Shards
from and_retrieval.types import Clip, Floats

CLIPS, SHARDS = 9, 3
CONFIG = RecordConfig(top_k=3, hold_out="0.3", batch=2, device="cpu", shard_seconds=1.2)
"""Three shards of three clips, the second of each shorter than the others."""


@pytest.fixture
def index(tmp_path: Path, write_sound: WriteSound, home: Path) -> ClipIndex:
    for number in range(CLIPS):
        sound = tone(200 + 50 * number, 0.3 if number % 3 == 1 else 0.45, SAMPLE_RATE, 0.1 + 0.05 * number)
        write_sound(f"sounds/{number:02}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "s")


@pytest.fixture
def shards(index: ClipIndex) -> Shards[RecordPlan]:
    record_share(load(2), index, (1, SHARDS), config=CONFIG, run="x")
    shards = Shards.open(index.folder.run("x").path / "shards", RecordPlan)
    assert shards.plan.sizes == (3, 3, 3)
    return shards


def test_shards_come_as_they_are_asked_for(index: ClipIndex, shards: Shards[RecordPlan]) -> None:
    for asked in ([0, 1, 2], [2, 0, 1], [1, 1, 0]):
        reader = ClipReader(index, shards, SAMPLE_RATE, [0, 1, 2])
        for number in asked:
            groups = list(reader.groups(number))
            first = 3 * number
            assert [group.rows for group in groups] == [[first, first + 2], [first + 1]]
            for group in groups:
                for row, sound, (qualities, bands) in zip(
                    group.rows, group.sounds, group.measured(), strict=True
                ):
                    np.testing.assert_array_equal(sound, index.read(row, SAMPLE_RATE))
                    np.testing.assert_array_equal(qualities, measure(sound, SAMPLE_RATE))
                    np.testing.assert_array_equal(bands, band_levels(sound, SAMPLE_RATE))


def test_the_next_shard_is_read_while_the_network_hears_the_last_batch(
    index: ClipIndex, shards: Shards[RecordPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    begun = threading.Event()

    def counted(sound: np.ndarray, rate: int) -> np.ndarray:  # type: ignore[type-arg]
        measured.append(len(sound))
        if len(measured) == 5:  # the first shard holds three clips, the first batch of the next two
            begun.set()
        return measure(sound, rate)

    monkeypatch.setattr(clip_reader, "measure", counted)
    ahead = ClipReader(index, shards, SAMPLE_RATE, [0, 1]).groups(0)
    assert [next(ahead).rows, next(ahead).rows] == [[0, 2], [1]]
    assert begun.wait(20)
    measured.clear()
    begun.clear()
    unknown = ClipReader(index, shards, SAMPLE_RATE)  # of a worker that does not know what it will be given
    assert [group.rows for group in unknown.groups(0)] == [[0, 2], [1]]
    assert not begun.wait(0.2)
    assert len(measured) == 3


def test_a_shard_is_complete_whatever_becomes_of_the_next(
    index: ClipIndex, shards: Shards[RecordPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end does not wait for the first batch of the next, and that one's failure is its own."""
    let_go = threading.Event()
    fails = True

    def failing(clip: Clip, *rest: Any) -> Floats:
        if clip.path == "03.wav":  # the first of the second shard
            assert let_go.wait(20)
            if fails:
                raise MemoryError
        return read_clip(clip, *rest)

    monkeypatch.setattr(reading, "read_clip", failing)
    reader = ClipReader(index, shards, SAMPLE_RATE, [0, 1, 2])
    assert [group.rows for group in reader.groups(0)] == [[0, 2], [1]]
    let_go.set()
    with pytest.raises(MemoryError):
        list(reader.groups(1))
    fails = False
    for number in (1, 2):
        assert [group.rows for group in reader.groups(number)] == [
            [3 * number, 3 * number + 2],
            [3 * number + 1],
        ]


def test_a_shard_that_is_left_leaves_nothing_to_the_next(
    index: ClipIndex, shards: Shards[RecordPlan]
) -> None:
    reader = ClipReader(index, shards, SAMPLE_RATE, [0, 1, 2])
    left = reader.groups(0)
    assert next(left).rows == [0, 2]
    left.close()
    assert [group.rows for group in reader.groups(1)] == [[3, 5], [4]]
    assert [len(group.measured()) for group in reader.groups(2)] == [2, 1]
