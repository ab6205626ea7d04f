"""Activations of all layers in one file: written and read through a map, readable as safetensors, checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from and_retrieval.errors import InputError
from and_retrieval.recording.activations import (
    HELD_OUT,
    LATEST,
    LEAST_HELD_OUT,
    PARTS,
    SEEN,
    new_activations,
    open_activations,
)


def fill(path: Path, units: list[int], seen: int, held_out: int) -> dict[str, np.ndarray]:
    """A file with every layer's number and part in its values; gives what was written."""
    made = new_activations(path, units, seen, held_out)
    wrote = {}
    for number in range(len(units)):
        for sign, part in ((1, SEEN), (-1, HELD_OUT)):
            layer, peaks = made.layer(number, part), made.peaks(number, part)
            layer[:] = sign * (np.arange(layer.size).reshape(layer.shape) % 1000 + number)
            peaks[:] = np.arange(peaks.size).reshape(peaks.shape) / 4
            wrote[f"{part}/{number}"] = np.array(layer)
            wrote[f"{part}_peaks/{number}"] = np.array(peaks)
    return wrote


@settings(max_examples=30, deadline=None)
@given(
    units=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    seen=st.integers(0, 9),
    held_out=st.integers(0, 9),
)
def test_what_is_written_is_read_by_us_and_by_safetensors(
    tmp_path_factory: pytest.TempPathFactory, units: list[int], seen: int, held_out: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    wrote = fill(path, units, seen, held_out)
    ours, theirs = open_activations(path), load_file(path)
    assert set(theirs) == set(wrote)
    for number, count in enumerate(units):
        for part, clips in ((SEEN, seen), (HELD_OUT, held_out)):
            layer = ours.layer(number, part)
            assert (layer.shape, layer.dtype) == ((clips, count), np.float32)
            assert not layer.flags.writeable or not layer.size
            assert layer.flags.c_contiguous
            np.testing.assert_array_equal(layer, wrote[f"{part}/{number}"])
            np.testing.assert_array_equal(ours.peaks(number, part), wrote[f"{part}_peaks/{number}"])
            np.testing.assert_array_equal(layer, theirs[f"{part}/{number}"])
    with safe_open(path, framework="np") as stored:
        assert stored.get_tensor(f"{SEEN}/0").shape == (seen, units[0])


def test_a_new_file_is_missing_throughout(tmp_path: Path) -> None:
    made = new_activations(tmp_path / "a", [3, 2], 4, 1)
    assert all(np.isnan(made.layer(number, part)).all() for number in (0, 1) for part in PARTS)


def test_a_clip_that_is_filled_leaves_the_others_missing(tmp_path: Path) -> None:
    made = new_activations(tmp_path / "a", [3], 4, 1)
    made.layer(0, SEEN)[[2]] = 7
    del made
    rows = open_activations(tmp_path / "a").layer(0, SEEN)
    assert np.isfinite(rows).all(axis=1).tolist() == [False, False, True, False]


def test_a_layer_outlives_the_file_it_was_taken_from(tmp_path: Path) -> None:
    fill(tmp_path / "a", [3], 4, 1)
    layer = open_activations(tmp_path / "a").layer(0, SEEN)
    assert layer[1, 1] == 4


def test_one_file_is_open_however_many_layers_there_are(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    made = new_activations(tmp_path / "a", [2] * 200, 3, 2)
    parts = [made.layer(number, part) for number in range(200) for part in PARTS]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert len(parts) == 400


def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"no room for 4\.4 GB \(No space left on device\); free"):
        new_activations(tmp_path / "a", [1_000], 800_000, 200_000)


def damaged(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00", b"x" * 40, damaged([]), damaged("text"), damaged({"seen/0": {}}), damaged({"seen/0": []}),
        damaged({"seen/0": {"data_offsets": [0, 8], "shape": [1, 2]}}),  # there is nothing behind the header
        damaged({"seen/0": {"data_offsets": ["0", 8], "shape": [1, 2]}}) + bytes(8),
        damaged({"seen/0": {"data_offsets": [0, 8], "shape": [3, 2]}}) + bytes(8),
        damaged({"seen/0": {"data_offsets": [0, 7], "shape": [1, 2]}}) + bytes(8),
        (2**62).to_bytes(8, "little") + b"{}", b"\xff" * 8 + b"{}",
    ],
)  # fmt: skip
def test_a_damaged_file_names_itself_and_the_remedy(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors is damaged; make the recording again"):
        open_activations(path)


def test_values_of_any_size_are_kept_as_they_are(tmp_path: Path) -> None:
    values = np.array([[1e30, -1e6, 1e-30, 0.1, np.nan]], np.float32)
    made = new_activations(tmp_path / "a", [5], 1, 0)
    made.layer(0, SEEN)[:] = values
    del made
    np.testing.assert_array_equal(open_activations(tmp_path / "a").layer(0, SEEN), values)


@pytest.mark.parametrize("held_out", [LEAST_HELD_OUT - 1, LEAST_HELD_OUT])
def test_peaks_of_seen_clips_are_kept_where_too_few_are_held_out(held_out: int, tmp_path: Path) -> None:
    made = new_activations(tmp_path / "a", [2], 30, held_out)
    places, values = np.array([4, 2], np.int32), np.array([[1, 2], [3, 4]], np.float32)
    late = np.array([[0.5, 1e6], [3.25, 9]], np.float32)
    for part in PARTS:
        made.keep(0, part, places, values, late)
    assert made.layer(0, SEEN)[[4, 2]].tolist() == values.tolist()
    for part, kept in ((SEEN, held_out < LEAST_HELD_OUT), (HELD_OUT, True)):
        peaks = made.peaks(0, part)
        assert len(peaks) == (len(made.layer(0, part)) if kept else 0)
        if kept:
            assert peaks[[4, 2]].tolist() == [[0.5, LATEST], [3.25, 9]]
            assert np.isnan(np.delete(peaks, [4, 2], axis=0)).all()
