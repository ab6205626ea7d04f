"""Finding clips: folders, globs, CSVs, windows, ids that stay, and what is skipped with its reason."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import WriteSound, noise, tone

from and_retrieval.clips.files import UnreadableAudioError
from and_retrieval.clips.source import held_out, load_clips, read_clip
from and_retrieval.config import ClipConfig
from and_retrieval.errors import InputError
from and_retrieval.types import Clip, ProbeSet


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    """dog/a, dog/b, rain/a and one file at the top."""
    for number, name in enumerate(("dog/a.wav", "dog/b.flac", "rain/a.ogg", "top.wav")):
        write_sound(f"sounds/{name}", noise(0.5, seed=number))
    return tmp_path / "sounds"


def ids(probe: ProbeSet) -> dict[str, str]:
    return {f"{clip.path}@{clip.start:g}": clip.id for clip in probe.clips}


def reasons(probe: ProbeSet) -> dict[str, str]:
    return {Path(miss.path).name: miss.reason for miss in probe.skipped}


def table(folder: Path, text: str, name: str = "clips.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def some_clips(files: int, windows: int = 1, folds: int = 0) -> list[Clip]:
    random = np.random.default_rng(files)
    digests = [random.bytes(32).hex() for _ in range(files)]
    return [
        Clip(f"{file}-{window}", "/", f"{file}.wav", 10.0 * window, 10.0, sha256=digest,
             fold=str(file % folds + 1) if folds else None)
        for file, digest in enumerate(digests)
        for window in range(windows)
    ]  # fmt: skip


class TestFolder:
    def test_is_searched_to_the_bottom_and_parents_are_labels(self, sounds: Path) -> None:
        (sounds / "notes.txt").write_text("not sound")
        probe = load_clips(sounds)
        assert [(c.path, c.label) for c in probe.clips] == [
            ("dog/a.wav", "dog"), ("dog/b.flac", "dog"), ("rain/a.ogg", "rain"), ("top.wav", None),
        ]  # fmt: skip
        assert probe.skipped == ()
        assert {c.root for c in probe.clips} == {str(sounds)}
        assert all((c.start, c.duration) == (0.0, 0.5) for c in probe.clips)

    def test_broken_files_are_listed_and_the_rest_is_used(
        self, sounds: Path, write_sound: WriteSound
    ) -> None:
        (sounds / "zero.wav").write_bytes(b"")
        (sounds / "text.mp3").write_text("hello\n" * 100)
        write_sound("sounds/one.wav", np.full(1, 0.5, np.float32))
        (sounds / "dangling.wav").symlink_to(sounds / "nothing.wav")
        (sounds / "loop.wav").symlink_to(sounds / "loop.wav")
        (sounds / "folder.wav").mkdir()
        os.mkfifo(sounds / "pipe.wav")
        probe = load_clips(sounds)
        assert len(probe.clips) == 4
        assert reasons(probe) == {
            "zero.wav": "empty file",
            "text.mp3": "not readable as audio (Format not recognised)",
            "one.wav": "too short (1 samples)",
            "dangling.wav": "no such file",
            "loop.wav": "no such file",
            "pipe.wav": "no such file",
        }

    def test_nothing_usable_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no usable audio"):
            load_clips(tmp_path)
        (tmp_path / "zero.wav").write_bytes(b"")
        with pytest.raises(InputError, match="1 files were skipped, the first because: empty file"):
            load_clips(tmp_path)
        with pytest.raises(InputError, match="does not exist"):
            load_clips(tmp_path / "nowhere")

    @pytest.mark.parametrize("way", ["../sounds", "../sounds/dog/..", ".", "./dog/.."])
    def test_any_way_of_writing_the_folder_gives_the_same_ids(
        self, way: str, sounds: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(sounds)
        assert ids(load_clips(way)) == ids(load_clips(sounds))

    def test_a_linked_folder_is_used(self, sounds: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(sounds)
        probe = load_clips(tmp_path / "link")
        assert ids(probe) == ids(load_clips(sounds))
        assert read_clip(probe.clips[0], 16_000).shape == (8_000,)

    def test_a_link_that_leaves_the_folder_is_skipped(self, sounds: Path, write_sound: WriteSound) -> None:
        (sounds / "secret.wav").symlink_to(write_sound("outside.wav"))
        assert "lies outside" in reasons(load_clips(sounds))["secret.wav"]

    def test_a_single_file_even_with_brackets_in_its_name(self, write_sound: WriteSound) -> None:
        probe = load_clips(write_sound("take [1].wav"))
        assert [(c.path, c.label) for c in probe.clips] == [("take [1].wav", None)]


class TestIds:
    def test_moving_the_folder_keeps_them(self, sounds: Path, tmp_path: Path) -> None:
        before = ids(load_clips(sounds))
        assert all(len(i) == 16 and int(i, 16) >= 0 for i in before.values())
        assert len(set(before.values())) == 4
        shutil.move(sounds, tmp_path / "elsewhere")
        assert ids(load_clips(tmp_path / "elsewhere")) == before

    def test_are_the_same_on_every_machine(self, tmp_path: Path) -> None:
        (tmp_path / "x.wav").write_bytes(
            b"RIFF$\x10\0\0WAVEfmt \x10\0\0\0\1\0\1\0@\x1f\0\0\x80>\0\0\2\0\x10\0data\0\x10\0\0" + bytes(4096)
        )
        assert ids(load_clips(tmp_path, ClipConfig(window=0.1))) == {
            "x.wav@0": "1c8a97bbe3b9ff9e",
            "x.wav@0.1": "f8123d8b306a4352",
        }

    def test_change_with_the_content_and_the_path(self, sounds: Path, write_sound: WriteSound) -> None:
        before = ids(load_clips(sounds))
        write_sound("sounds/dog/a.wav", noise(0.5, seed=99))
        (sounds / "top.wav").rename(sounds / "peak.wav")
        after = ids(load_clips(sounds))
        assert after["dog/a.wav@0"] != before["dog/a.wav@0"]
        assert after["dog/b.flac@0"] == before["dog/b.flac@0"]
        assert after["peak.wav@0"] != before["top.wav@0"]

    def test_a_copy_is_a_clip_of_its_own_and_a_repeated_row_is_not(self, sounds: Path) -> None:
        shutil.copy(sounds / "dog/a.wav", sounds / "dog/copy.wav")
        assert len({c.id for c in load_clips(sounds).clips}) == 5
        again = table(sounds, "path\ndog/a.wav\ndog/a.wav\n./dog/../dog/a.wav\n")
        assert [c.path for c in load_clips(again).clips] == ["dog/a.wav"]

    def test_of_folder_csv_and_glob_are_the_same(self, sounds: Path) -> None:
        folder = ids(load_clips(sounds))
        listed = table(sounds, "path\n" + "".join(f"{name.split('@')[0]}\n" for name in folder))
        assert ids(load_clips(listed)) == folder
        assert ids(load_clips(f"{sounds}/**/*.[wfo]*")) == folder
        assert ids(load_clips(f"{sounds}/*/*.wav")).items() <= folder.items()

    def test_of_a_glob_stay_when_more_files_match(self, sounds: Path, write_sound: WriteSound) -> None:
        pattern = f"{sounds}/d*/*.wav"
        before = load_clips(pattern)
        assert [c.label for c in before.clips] == ["dog"]
        write_sound("sounds/door/slam.wav", noise(0.5, seed=50))
        after = load_clips(pattern)
        assert len(after.clips) == 2
        assert ids(before).items() <= ids(after).items()


class TestGlob:
    def test_takes_what_matches(self, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert [c.path for c in load_clips(f"{sounds}/dog/*.wav").clips] == ["a.wav"]
        monkeypatch.chdir(sounds)
        assert [c.path for c in load_clips("**/a.*").clips] == ["dog/a.wav", "rain/a.ogg"]
        monkeypatch.chdir(sounds / "dog")
        assert [c.path for c in load_clips("../*/a.*").clips] == ["dog/a.wav", "rain/a.ogg"]

    def test_that_matches_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no file matches"):
            load_clips(f"{tmp_path}/*.wav")


class TestTable:
    def test_carries_labels_captions_and_folds(self, sounds: Path) -> None:
        text = (
            "fold, path ,caption,label,source\n"
            '2,dog/a.wav,"a dog, barking ""twice""",dog,field\n'
            "1,rain/a.ogg,,,\n"
        )
        probe = load_clips(table(sounds, text))
        assert [(c.path, c.label, c.caption, c.fold) for c in probe.clips] == [
            ("dog/a.wav", "dog", 'a dog, barking "twice"', "2"),
            ("rain/a.ogg", None, None, "1"),
        ]

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_with_a_byte_order_mark(self, newline: str, sounds: Path) -> None:
        text = newline.join(["path,label", "dog/a.wav,Hündchen", ""])
        probe = load_clips(table(sounds, text, encoding="utf-8-sig"))
        assert [(c.path, c.label) for c in probe.clips] == [("dog/a.wav", "Hündchen")]

    @pytest.mark.parametrize("text", ["", "file,label\ndog/a.wav,dog\n", "dog/a.wav\n"])
    def test_without_a_path_column(self, text: str, sounds: Path) -> None:
        with pytest.raises(InputError, match="no column named path; its columns: "):
            load_clips(table(sounds, text))

    def test_that_is_no_text(self, sounds: Path) -> None:
        (sounds / "clips.csv").write_bytes(b"path\n\xff\xfe\xfd\n")
        with pytest.raises(InputError, match="not a UTF-8 CSV"):
            load_clips(sounds / "clips.csv")

    def test_with_rows_that_cannot_be_used(self, sounds: Path, write_sound: WriteSound) -> None:
        outside = write_sound("outside.wav")
        (sounds / "way-out.wav").symlink_to(outside)
        rows = [
            "dog/a.wav,dog", "gone.wav,", "../outside.wav,", f"{outside},", "way-out.wav,", "dog,", ",rain",
            "x" * 300 + ".wav,", "nul\0.wav,", f"{sounds}/top.wav,", "/etc/passwd,", "clips.csv,",
        ]  # fmt: skip
        probe = load_clips(table(sounds, "path,label\n" + "\n".join(rows) + "\n"))
        assert [c.path for c in probe.clips] == ["dog/a.wav", "top.wav"]
        refused = [(Path(miss.path).name[:12], miss.reason.split(" /")[0]) for miss in probe.skipped]
        assert refused == [
            ("gone.wav", "no such file"),
            ("outside.wav", "lies outside"),  # both ways of writing it
            ("way-out.wav", "lies outside"),
            ("dog", "no such file"),
            ("clips.csv", "no path in line 8"),
            ("x" * 12, "File name too long"),
            ("nul\0.wav", "no such file"),
            ("passwd", "lies outside"),
            ("clips.csv", "not readable as audio (Format not recognised)"),
        ]

    def test_reached_by_a_path_with_dots(self, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        table(sounds, "path\ndog/a.wav\n")
        monkeypatch.chdir(sounds / "dog")
        assert [c.path for c in load_clips("../clips.csv").clips] == ["dog/a.wav"]


class TestWindows:
    def test_of_a_long_file_are_exact(self, write_sound: WriteSound) -> None:
        sound = noise(661.5, 4_000)  # eleven minutes
        path = write_sound("long.wav", sound, 4_000, subtype="FLOAT")
        clips = load_clips(path).clips
        assert [c.start for c in clips] == [10.0 * n for n in range(67)]
        assert [c.duration for c in clips] == [10.0] * 66 + [1.5]
        assert len({c.id for c in clips}) == 67
        heard = np.concatenate([read_clip(c, 4_000) for c in clips])
        np.testing.assert_array_equal(heard, sound)

    @pytest.mark.parametrize(
        ("seconds", "window", "expected"),
        [
            (10.0, 10.0, [(0, 10)]),
            (10.5, 10.0, [(0, 10)]),  # a tenth of a window or less is no clip
            (11.0, 10.0, [(0, 10), (10, 1)]),
            (20.0, 10.0, [(0, 10), (10, 10)]),
            (0.5, 10.0, [(0, 0.5)]),
            (0.35, 0.1, [(0, 0.1), (0.1, 0.1), (0.2, 0.1)]),
        ],
    )
    def test_start_and_duration(
        self, seconds: float, window: float, expected: list[tuple[float, float]], write_sound: WriteSound
    ) -> None:
        path = write_sound("x.wav", noise(seconds, 8_000), 8_000)
        spans = [(c.start, c.duration) for c in load_clips(path, ClipConfig(window=window)).clips]
        np.testing.assert_allclose(spans, expected, atol=1e-9)

    @pytest.mark.parametrize("rate", [8_000, 44_100, 44_101, 192_000])
    def test_together_are_the_file(self, rate: int, write_sound: WriteSound) -> None:
        sound = noise(3.37, rate)
        path = write_sound("x.wav", sound, rate, subtype="FLOAT")
        clips = load_clips(path, ClipConfig(window=1.0)).clips
        np.testing.assert_array_equal(np.concatenate([read_clip(c, rate) for c in clips]), sound)

    @pytest.mark.slow
    def test_of_an_hour(self, write_sound: WriteSound) -> None:
        path = write_sound("hour.flac", noise(3_600.0, 8_000), 8_000)
        clips = load_clips(path).clips
        assert [c.start for c in clips] == [10.0 * n for n in range(360)]
        assert all(len(read_clip(c, 16_000)) == 160_000 for c in clips)

    def test_a_streamed_flac_has_an_end(self, write_sound: WriteSound) -> None:
        path = write_sound("streamed.flac", tone(440, 25.0, 8_000), 8_000)
        content = bytearray(path.read_bytes())
        content[21] &= 0xF0
        content[22:26] = bytes(4)
        path.write_bytes(content)
        clips = load_clips(path).clips
        assert [round(c.duration, 3) for c in clips] == [10.0, 10.0, 5.0]
        assert all(len(read_clip(c, 8_000)) >= 39_998 for c in clips)


class TestReading:
    def test_silence_is_no_clip(self, write_sound: WriteSound) -> None:
        quiet = load_clips(write_sound("quiet.wav", noise(1.0, amplitude=1e-4), subtype="FLOAT")).clips[0]
        assert np.abs(read_clip(quiet, 16_000)).max() < 2e-4
        silent = load_clips(write_sound("silent.wav", np.zeros(16_000, np.float32))).clips[0]
        with pytest.raises(UnreadableAudioError, match="silent"):
            read_clip(silent, 16_000)

    def test_a_file_that_went_or_shrank(self, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", noise(2.0))
        first, second = load_clips(path, ClipConfig(window=1.0)).clips
        write_sound("x.wav", noise(0.5))
        for clip in (first, second):
            with pytest.raises(UnreadableAudioError, match="changed after it was indexed"):
                read_clip(clip, 16_000)
        path.unlink()
        with pytest.raises(UnreadableAudioError, match="not readable"):
            read_clip(first, 16_000)


class TestHeldOut:
    def test_share_of_many_files(self) -> None:
        clips = some_clips(4_000)
        assert held_out(clips).mean() == pytest.approx(0.2, abs=0.02)
        assert held_out(clips, "0.5").mean() == pytest.approx(0.5, abs=0.03)
        assert not held_out(clips, "0").any()

    @given(st.integers(2, 60), st.integers(1, 5), st.sampled_from(["auto", "0.2", "0.5"]))
    def test_windows_stay_together_and_clips_keep_their_side(
        self, files: int, windows: int, choice: str
    ) -> None:
        clips = some_clips(files, windows)
        try:
            chosen = held_out(clips, choice)
        except InputError:
            return  # with very few files an explicit share may take them all
        sides: dict[str, set[bool]] = {}
        for clip, out in zip(clips, chosen, strict=True):
            sides.setdefault(clip.path, set()).add(bool(out))
        assert all(len(side) == 1 for side in sides.values())
        if chosen.any():
            others = [replace(clip, label="another") for clip in some_clips(200)]
            np.testing.assert_array_equal(held_out([*others, *clips], choice)[200:], chosen)

    @given(
        st.lists(st.integers(2, 30), min_size=1, max_size=8), st.sampled_from(["auto", "0.05", "0.2", "0.9"])
    )
    def test_every_label_has_clips_on_either_side(self, sizes: list[int], choice: str) -> None:
        clips = [
            replace(clip, label=f"label {number}", sha256=f"{number}{clip.sha256}")
            for number, size in enumerate(sizes)
            for clip in some_clips(size)
        ]
        chosen = held_out(clips, choice)
        for number, size in enumerate(sizes):
            out = sum(
                held for clip, held in zip(clips, chosen, strict=True) if clip.label == f"label {number}"
            )
            assert 1 <= out < size
            if choice != "auto":
                assert out in (1, size - 1) or abs(out - float(choice) * size) <= 1

    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=1, max_size=40),
        st.lists(st.integers(0, 40), max_size=3),
        st.sampled_from(["0", "0.05", "0.2", "0.5", "0.9"]),
    )
    def test_files_stay_on_their_side_when_others_are_added(
        self, drawn: list[tuple[str, int]], ends: list[int], choice: str
    ) -> None:
        clips = [
            Clip(
                f"{place}",
                "/",
                f"{place}",
                0.0,
                1.0,
                label=label,
                sha256=f"{file * 7919 % 16:x}{label}",
            )
            for place, (label, file) in enumerate([*zip("ddd", range(3), strict=True), *drawn])
        ]
        grown = sorted(end for end in set(ends) if 2 < end < len(clips))
        chosen = held_out(clips, choice, grown)
        for count, end in enumerate(grown):
            np.testing.assert_array_equal(held_out(clips[:end], choice, grown[:count]), chosen[:end])
        # Of every label as many files are held out as if all had been there from the beginning.
        at_once = held_out(clips, choice)
        for label in "abc":
            files = [
                {clip.sha256 for clip, out in zip(clips, side, strict=True) if clip.label == label and out}
                for side in (chosen, at_once)
            ]
            assert len(files[0]) == len(files[1])

    def test_copies_of_a_file_stay_together(self) -> None:
        clips = some_clips(300)
        copies = [Clip(f"{c.id}b", "/", f"copy/{c.path}", 0.0, 10.0, sha256=c.sha256) for c in clips]
        chosen = held_out([*clips, *copies])
        np.testing.assert_array_equal(chosen[:300], chosen[300:])

    def test_folds(self) -> None:
        clips = some_clips(12, windows=2, folds=3)
        np.testing.assert_array_equal(held_out(clips, "fold:2"), [c.fold == "2" for c in clips])
        np.testing.assert_array_equal(held_out(clips, "auto"), [c.fold == "3" for c in clips])

    def test_the_last_fold_is_the_highest_number(self) -> None:
        clips = some_clips(22, folds=11)
        np.testing.assert_array_equal(held_out(clips), [c.fold == "11" for c in clips])
        strange = [Clip(n, "/", n, 0.0, 1.0, fold=n, sha256="0" * 64) for n in ("a", "²", "2", "10")]
        assert held_out(strange).sum() == 1

    def test_auto_draws_a_share_where_folds_are_incomplete(self) -> None:
        some = some_clips(2_000)
        with_folds = [*some_clips(10, folds=2), *some]
        assert held_out(with_folds).mean() == pytest.approx(0.2, abs=0.04)
        assert held_out(some_clips(2_000, folds=1)).mean() == pytest.approx(0.2, abs=0.04)

    @pytest.mark.parametrize("choice", ["0.95", "-0.1", "nan", "half", "", "fold:9", "fold:", "fold"])
    def test_choices_that_make_no_sense(self, choice: str) -> None:
        with pytest.raises(InputError):
            held_out(some_clips(20, folds=2), choice)

    def test_a_choice_that_leaves_nothing(self) -> None:
        with pytest.raises(InputError, match="leaves no clip to explain with"):
            held_out(some_clips(6, folds=1), "fold:1")

    def test_one_file_is_explained_rather_than_held_out(self) -> None:
        low = [Clip("a", "/", "a.wav", 0.0, 1.0, sha256="0" * 64)]
        assert not held_out(low).any()
