"""Sound files as people have them: joined, cut off, with headers that lie, in formats libsndfile does not know."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import WriteSound, loudest_frequency, noise, tone

from and_retrieval.clips import decoded, ffmpeg, files, mpeg
from and_retrieval.clips.files import UnreadableAudioError, audio_info, read_window
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.types import Floats, ProbeSet

needs_ffmpeg = pytest.mark.skipif(not ffmpeg.installed(), reason="ffmpeg and ffprobe are not installed")
OPTIONS = {"opus": {"format": "OGG", "subtype": "OPUS"}}
RATE = 16_000


def parts(write_sound: WriteSound, suffix: str, seconds: tuple[float, ...] = (2.0, 3.0)) -> list[Path]:
    return [
        write_sound(f"parts/{n}.{suffix}", tone(300 + 200 * n, length, RATE), RATE, **OPTIONS.get(suffix, {}))
        for n, length in enumerate(seconds)
    ]


def joined(path: Path, pieces: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(pieces))
    return path


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def reasons(probe: ProbeSet) -> dict[str, str]:
    return {Path(miss.path).name: miss.reason for miss in probe.skipped}


class TestJoined:
    @pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3", "flac", "wav", "aiff", "au"])
    @pytest.mark.parametrize("between", [0, 5_000])
    def test_sounds_are_read_to_the_last_sample(
        self, suffix: str, between: int, write_sound: WriteSound, tmp_path: Path
    ) -> None:
        files = parts(write_sound, suffix, (2.0, 3.0, 1.5))
        junk = np.random.default_rng(1).bytes(between)
        path = joined(
            tmp_path / f"set/all.{suffix}", [junk * bool(n) + p.read_bytes() for n, p in enumerate(files)]
        )
        whole = np.concatenate([soundfile.read(p, dtype="float32")[0] for p in files])
        probe = load_clips(path)
        read = np.concatenate([read_clip(clip, RATE) for clip in probe.clips])
        reported = "neither sound nor metadata" in " ".join(reasons(probe).values())
        assert len(read) == len(whole) or reported
        np.testing.assert_allclose(read, whole[: len(read)], atol=1e-6)
        if not between:
            assert len(read) == len(whole)
            assert not probe.skipped

    @pytest.mark.parametrize("suffix", ["ogg", "mp3", "flac", "wav"])
    def test_sounds_of_another_rate_and_channel_count_keep_their_pitch(
        self, suffix: str, write_sound: WriteSound, tmp_path: Path
    ) -> None:
        first = write_sound(f"a.{suffix}", tone(440, 2.0, RATE), RATE)
        both = np.stack([tone(880, 2.0, 48_000)] * 2, axis=1)
        second = write_sound(f"b.{suffix}", both, 48_000)
        path = joined(tmp_path / f"set/all.{suffix}", [first.read_bytes(), second.read_bytes()])
        assert audio_info(path).seconds == pytest.approx(4.0, abs=0.01)
        assert loudest_frequency(read_window(path, 0.0, 1.9, RATE), RATE) == pytest.approx(440, abs=2)
        assert loudest_frequency(read_window(path, 2.1, 1.8, RATE), RATE) == pytest.approx(880, abs=2)

    def test_mp3_with_tags_around_every_part(self, write_sound: WriteSound, tmp_path: Path) -> None:
        tag = b"ID3\x03\0\0\0\0\x10\0" + b"\xff\xfb\x90\x00" * 512
        end = b"TAG" + bytes(125)
        pieces = [tag + p.read_bytes() + end for p in parts(write_sound, "mp3")]
        assert audio_info(joined(tmp_path / "all.mp3", pieces)).seconds == pytest.approx(5.0, abs=0.01)

    def test_mp3_whose_second_part_has_no_count(self, write_sound: WriteSound, tmp_path: Path) -> None:
        first, second = (p.read_bytes() for p in parts(write_sound, "mp3"))
        bare = second[second.index(second[:2], 4) :]  # without the frame that carries the count
        assert audio_info(joined(tmp_path / "all.mp3", [first, bare])).seconds == pytest.approx(5.0, abs=0.15)

    def test_a_part_that_cannot_be_decoded_is_told(self, write_sound: WriteSound, tmp_path: Path) -> None:
        first, second = (p.read_bytes() for p in parts(write_sound, "flac"))
        path = joined(tmp_path / "set/all.flac", [first, second[:60]])
        probe = load_clips(path.parent)
        assert sum(clip.duration for clip in probe.clips) == 2.0
        assert "part 2 of 2" in reasons(probe)["all.flac from 2 s"]

    @settings(max_examples=15, deadline=None)
    @given(
        lengths=st.lists(st.floats(0.2, 2.0), min_size=1, max_size=4),
        suffix=st.sampled_from(["mp3", "ogg", "flac"]),
    )
    def test_any_number_of_parts_add_up(
        self, lengths: list[float], suffix: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder, pieces, frames = tmp_path_factory.mktemp("parts"), [], 0
        for number, seconds in enumerate(lengths):
            part = folder / f"{number}.{suffix}"
            soundfile.write(part, noise(seconds, RATE, number), RATE)
            pieces.append(part.read_bytes())
            frames += len(soundfile.read(part)[0])
        assert audio_info(joined(folder / f"all.{suffix}", pieces)).frames == frames


def decoded_by_threads(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What eight threads decode that read windows of two files, which must not wait for one another."""
    calls: list[Path] = []
    both = threading.Barrier(2, timeout=20)

    def counting(decode: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *rest: Any) -> Any:
            calls.append(path)
            both.wait()
            return decode(path, *rest)

        return call

    with monkeypatch.context() as patch, ThreadPoolExecutor(8) as pool:
        for name in ("by_libsndfile", "by_ffmpeg"):
            patch.setattr(decoded, name, counting(getattr(decoded, name)))
        windows = pool.map(lambda n: read_window(paths[n % 2], 0.5 * (n // 2), 1.0, RATE), range(8))
        assert [len(window) for window in windows] == [RATE] * 8
    return sorted(calls)


class TestThreads:
    @pytest.mark.parametrize("suffix", ["ogg", pytest.param("mka", marks=needs_ffmpeg)])
    def test_a_file_is_decoded_by_one_of_them(
        self, suffix: str, write_sound: WriteSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if suffix == "ogg":
            pieces = [part.read_bytes() for part in parts(write_sound, "ogg")]
            paths = [joined(tmp_path / f"{n}.ogg", pieces) for n in range(2)]
        else:
            paths = [TestOtherFormats().make(tmp_path / str(n), suffix) for n in range(2)]
        assert decoded_by_threads(paths, monkeypatch) == paths
        monkeypatch.setattr(files, "_kept", decoded.Kept())  # their lengths are known, their samples are not
        assert decoded_by_threads(paths, monkeypatch) == paths


class TestWindows:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
    @pytest.mark.parametrize("level", [0.0, 0.5, 0.99])
    def test_of_an_mp3_hold_the_sound_from_their_first_sample(
        self, rate: int, level: float, write_sound: WriteSound
    ) -> None:
        loudness = np.repeat(np.random.default_rng(1).random(32).astype(np.float32), rate)
        path = write_sound("x.mp3", tone(300, 32.0, rate) * loudness, rate, compression_level=level)
        whole = soundfile.read(path, dtype="float32")[0]
        for start in (0.0, 0.5, 10.0, 13.37, 20.0, 30.0):
            read = read_window(path, start, 2.0, rate)
            first = round(start * rate)
            np.testing.assert_allclose(read, whole[first : first + 2 * rate], atol=1e-5)


class TestCutOff:
    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "au", "caf"])
    @pytest.mark.parametrize("share", [0.2, 0.46, 0.7, 0.93])
    def test_clips_claim_what_can_be_read_and_the_rest_is_told(
        self, suffix: str, share: float, write_sound: WriteSound
    ) -> None:
        path = cut(write_sound(f"set/x.{suffix}", noise(12.0, RATE), RATE, **OPTIONS.get(suffix, {})), share)
        probe = load_clips(path)
        for clip in probe.clips:
            assert len(read_clip(clip, RATE)) == pytest.approx(clip.duration * RATE, abs=1)
        total = sum(clip.duration for clip in probe.clips)
        assert 12 * share - 1.5 < total < 12 * share + 0.5
        assert "cut off" in " ".join(reasons(probe).values())

    @pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3"])
    def test_nothing_left_but_a_header(self, suffix: str, write_sound: WriteSound) -> None:
        path = write_sound(f"x.{suffix}", noise(5.0, RATE), RATE, **OPTIONS.get(suffix, {}))
        path.write_bytes(path.read_bytes()[:90])
        with pytest.raises(UnreadableAudioError, match=r"cut off|no audio"):
            audio_info(path)

    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "au", "caf", "w64"])
    def test_a_whole_file_is_not_called_cut_off(self, suffix: str, write_sound: WriteSound) -> None:
        info = audio_info(write_sound(f"x.{suffix}", noise(5.0, RATE), RATE, **OPTIONS.get(suffix, {})))
        assert (info.seconds, info.missing) == (5.0, None)


class TestHeaders:
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_wav_whose_length_was_never_written(self, whole: bool, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", tone(440, 3.0, RATE), RATE)
        content = bytearray(path.read_bytes())
        content[40:44] = bytes(4)
        content[4:8] = content[4:8] if whole else bytes(4)
        path.write_bytes(content)
        assert audio_info(path).seconds == 3.0
        assert loudest_frequency(read_window(path, 1.0, 2.0, RATE), RATE) == pytest.approx(440, abs=1)

    @pytest.mark.parametrize(
        ("suffix", "place", "size"),
        [("au", 8, 4), ("aiff", 42, 4), ("aiff", 22, 4), ("caf", 4_084 + 4, 8), ("w64", 96, 8)],
    )
    def test_other_containers_whose_length_was_never_written(
        self, suffix: str, place: int, size: int, write_sound: WriteSound
    ) -> None:
        path = write_sound(f"x.{suffix}", tone(440, 3.0, RATE), RATE)
        content = bytearray(path.read_bytes())
        assert content[place : place + size] != bytes(size)
        content[place : place + size] = bytes(size)
        path.write_bytes(content)
        assert audio_info(path).seconds == pytest.approx(3.0, abs=0.001)

    def test_a_wav_without_samples_has_none(self, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", np.zeros(0, np.float32), RATE)
        path.write_bytes(path.read_bytes() + b"LIST\x04\0\0\0INFO")
        with pytest.raises(UnreadableAudioError, match="no audio"):
            audio_info(path)

    def test_chunks_behind_the_sound_are_not_sound(self, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", noise(1.0, RATE), RATE)
        for tail in (b"LIST" + struct.pack("<I", 3_000) + bytes(3_000), b"TAG" + bytes(125), bytes(4_096)):
            with path.open("ab") as stream:
                stream.write(tail)
            assert (audio_info(path).seconds, audio_info(path).missing) == (1.0, None)

    @pytest.mark.parametrize(
        "subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "G721_32", "NMS_ADPCM_16", "ULAW"]
    )
    def test_every_window_of_telephone_codecs(self, subtype: str, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", tone(440, 25.0, 8_000), 8_000, subtype=subtype)
        whole = soundfile.read(path, dtype="float32")[0]
        clips = load_clips(path).clips
        read = np.concatenate([read_clip(clip, 8_000) for clip in clips])
        assert [clip.start for clip in clips] == [0.0, 10.0, 20.0]
        np.testing.assert_allclose(read, whole[: len(read)], atol=1e-6)
        assert len(read) >= 25 * 8_000

    @pytest.mark.parametrize("rate", [1, 8, 100, 999, 1_000_001, 2_000_000_000])
    def test_rates_that_are_none_are_refused(self, rate: int, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", noise(80_000 / RATE, RATE), rate)
        for attempt in (audio_info, lambda p: read_window(p, 0.0, 10.0, RATE)):
            with pytest.raises(UnreadableAudioError, match=f"sample rate of {rate} Hz"):
                attempt(path)

    @pytest.mark.parametrize("rate", [1_000, 8_000, 384_000, 1_000_000])
    def test_rates_that_exist_are_read(self, rate: int, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", noise(0.5, rate), rate)
        assert len(read_window(path, 0.0, 1.0, RATE)) == pytest.approx(RATE / 2, abs=1)


class TestLevel:
    def listened(self, write_sound: WriteSound, channels: list[Floats], **options: str) -> Floats:
        path = write_sound(f"x.{options.pop('suffix', 'wav')}", np.stack(channels, axis=1), RATE, **options)
        return read_clip(load_clips(path).clips[0], RATE)

    @pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
    def test_a_channel_and_its_opposite(self, subtype: str, write_sound: WriteSound) -> None:
        left = tone(440, 2.0, RATE) + noise(2.0, RATE, amplitude=0.01)
        sound = self.listened(write_sound, [left, -left], subtype=subtype)
        np.testing.assert_allclose(np.abs(sound), np.abs(left), atol=1e-4)

    @pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
    def test_the_same_compressed(self, suffix: str, write_sound: WriteSound) -> None:
        sound = self.listened(write_sound, [tone(440, 2.0, RATE), -tone(440, 2.0, RATE)], suffix=suffix)
        assert sound.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)

    def test_almost_opposite_and_opposite_in_pairs(self, write_sound: WriteSound) -> None:
        left, other = tone(440, 2.0, RATE), tone(700, 2.0, RATE, 0.3)
        assert self.listened(write_sound, [left, -0.95 * left]).std() > 0.3
        assert self.listened(write_sound, [left, other, -left, -other]).std() > 0.3
        assert self.listened(write_sound, [left + 0.3, -left + 0.1]).std() > 0.3

    def test_ordinary_channels_are_averaged(self, write_sound: WriteSound) -> None:
        one, other = noise(2.0, RATE, 1), noise(2.0, RATE, 2)
        np.testing.assert_allclose(
            self.listened(write_sound, [one, other], subtype="FLOAT"), (one + other) / 2, atol=1e-7
        )
        single = [one if n == 7 else np.zeros_like(one) for n in range(64)]
        np.testing.assert_allclose(self.listened(write_sound, single, subtype="FLOAT"), one / 64, atol=1e-7)

    @pytest.mark.parametrize("value", [0.915, -1.0, 1e-3])
    @pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8", "FLOAT"])
    @pytest.mark.parametrize("wanted", [8_000, RATE, 48_000])
    def test_a_constant_is_silent(
        self, value: float, subtype: str, wanted: int, write_sound: WriteSound
    ) -> None:
        path = write_sound("x.wav", np.full(60 * RATE, value, np.float32), RATE, subtype=subtype)
        for clip in load_clips(path).clips:
            with pytest.raises(UnreadableAudioError, match="silent"):
                read_clip(clip, wanted)

    def test_constants_that_differ_by_channel_and_the_last_bit_of_16(self, write_sound: WriteSound) -> None:
        still = np.zeros(RATE, np.float32)
        dither = np.random.default_rng(0).integers(-1, 2, RATE).astype(np.float32) / 2**15
        for channels in ([still + 0.3, still - 0.7], [dither], [dither + 0.25, dither]):
            with pytest.raises(UnreadableAudioError, match="silent"):
                self.listened(write_sound, channels, subtype="PCM_16")
        quiet = tone(440, 1.0, RATE, 2e-4) + 0.5
        assert self.listened(write_sound, [quiet], subtype="PCM_16").std() > 1e-4


class TestOtherFormats:
    MADE = ("m4a", "aac", "webm", "wma", "mka", "mp4", "ac3", "wv", "tta", "spx", "mkv")

    def make(self, folder: Path, suffix: str, seconds: float = 3.0, extra: tuple[str, ...] = ()) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        source, path = folder / "source.wav", folder / f"x.{suffix}"
        soundfile.write(source, tone(440, seconds, RATE), RATE)
        subprocess.run(
            ["ffmpeg", "-v", "error", "-nostdin", "-i", str(source), *extra, str(path)],
            check=True,
            timeout=60,
        )
        source.unlink()
        return path

    @needs_ffmpeg
    @pytest.mark.parametrize("suffix", MADE)
    def test_are_decoded_where_ffmpeg_is_installed(self, suffix: str, tmp_path: Path) -> None:
        self.make(tmp_path / "set/dog", suffix, 12.0)
        probe = load_clips(tmp_path / "set")
        assert not probe.skipped
        assert [clip.label for clip in probe.clips] == ["dog", "dog"]
        assert sum(clip.duration for clip in probe.clips) == pytest.approx(12.0, abs=0.2)
        for clip in probe.clips:
            sound = read_clip(clip, RATE)
            assert len(sound) == pytest.approx(clip.duration * RATE, abs=1)
            assert loudest_frequency(sound, RATE) == pytest.approx(440, abs=2)

    @needs_ffmpeg
    @pytest.mark.parametrize("suffix", MADE)
    def test_are_listed_where_it_is_not(
        self, suffix: str, tmp_path: Path, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.make(tmp_path / "sounds", suffix)
        write_sound("sounds/good.wav")
        monkeypatch.setattr(shutil, "which", lambda *_: None)
        probe = load_clips(path.parent)
        assert [clip.path for clip in probe.clips] == ["good.wav"]
        assert "FFmpeg" in reasons(probe)[path.name]
        assert "install" in reasons(probe)[path.name]

    @needs_ffmpeg
    def test_a_video_without_sound_and_one_cut_off(self, tmp_path: Path, write_sound: WriteSound) -> None:
        mute = tmp_path / "sounds/mute.mp4"
        write_sound("sounds/good.wav")
        made = [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=duration=1:size=64x64:rate=5",
            str(mute),
        ]
        subprocess.run(made, check=True, timeout=60)
        cut(self.make(tmp_path / "other", "m4a"), 0.5).rename(tmp_path / "sounds/cut.m4a")
        refused = reasons(load_clips(tmp_path / "sounds"))
        assert refused["mute.mp4"] == "no audio in the file"
        assert refused["cut.m4a"].startswith("not readable as audio (FFmpeg")

    @needs_ffmpeg
    def test_what_names_other_files_is_not_followed(self, tmp_path: Path, write_sound: WriteSound) -> None:
        secret = write_sound("elsewhere/secret.wav")
        write_sound("sounds/good.wav")
        (tmp_path / "sounds/list.m4a").write_text(f"ffconcat version 1.0\nfile {secret}\n")
        (tmp_path / "sounds/play.aac").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n")
        probe = load_clips(tmp_path / "sounds")
        assert [clip.path for clip in probe.clips] == ["good.wav"]
        assert set(reasons(probe)) == {"list.m4a", "play.aac"}

    @needs_ffmpeg
    def test_the_time_of_a_decoder_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.make(tmp_path, "m4a")
        monkeypatch.setattr(ffmpeg, "PROBE_SECONDS", 0.0)
        with pytest.raises(UnreadableAudioError, match="not done after"):
            audio_info(path)

    @needs_ffmpeg
    def test_content_decides_not_the_name(self, tmp_path: Path) -> None:
        path = self.make(tmp_path, "m4a").rename(tmp_path / "really-aac.wav")
        assert audio_info(path).seconds == pytest.approx(3.0, abs=0.1)

    @pytest.mark.parametrize("name", ["a.amr", "a.M4A", "a.opus", "a.mid", "a.pcm", "a.ape", "a.avi"])
    def test_everything_called_sound_is_listed(
        self, name: str, tmp_path: Path, write_sound: WriteSound
    ) -> None:
        write_sound("good.wav")
        (tmp_path / name).write_bytes(b"\x01\x02 no sound at all" * 50)
        assert name in reasons(load_clips(tmp_path))

    def test_sound_under_another_name_is_listed(self, tmp_path: Path, write_sound: WriteSound) -> None:
        write_sound("good.wav").with_name("backup.wav.bak").write_bytes(write_sound("good.wav").read_bytes())
        write_sound("x.flac").rename(tmp_path / "take one")
        (tmp_path / "notes.txt").write_text("ID number 7")
        (tmp_path / "picture.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(500))
        (tmp_path / "text.dat").write_bytes("\ufeffwide text".encode("utf-16"))
        (tmp_path / ".DS_Store").write_bytes(bytes(100))
        refused = reasons(load_clips(tmp_path))
        assert set(refused) == {"backup.wav.bak", "take one"}
        assert "rename it to end in .flac" in refused["take one"]


class TestNames:
    def test_bytes_that_are_not_utf8_are_read_and_shown(
        self, write_sound: WriteSound, tmp_path: Path
    ) -> None:
        write_sound("sounds/a.wav", noise(seed=1))
        made = write_sound("b.wav", noise(seed=2))
        folder = tmp_path / "sounds" / os.fsdecode(b"r\xe9gen")
        folder.mkdir()
        made.rename(folder / os.fsdecode(b"caf\xe9 \xff.wav"))
        probe = load_clips(tmp_path / "sounds")
        clip = next(clip for clip in probe.clips if clip.path != "a.wav")
        assert (clip.path, clip.label) == (r"r\xe9gen/caf\xe9 \xff.wav", r"r\xe9gen")
        assert len(read_clip(clip, RATE)) == RATE / 2
        for text in (clip.path, clip.label or "", clip.id):
            text.encode("utf-8")

    def test_a_name_that_looks_so_is_itself(self, write_sound: WriteSound, tmp_path: Path) -> None:
        write_sound(r"sounds/caf\xe9.wav")
        assert len(read_clip(load_clips(tmp_path / "sounds").clips[0], RATE)) == RATE / 2

    def test_broken_files_of_such_names_are_listed(self, write_sound: WriteSound, tmp_path: Path) -> None:
        write_sound("sounds/a.wav")
        (tmp_path / "sounds" / os.fsdecode(b"\xe9.wav")).touch()
        assert reasons(load_clips(tmp_path / "sounds")) == {r"\xe9.wav": "empty file"}

    def test_folders_that_cannot_be_entered_are_listed(
        self, write_sound: WriteSound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_sound("sounds/a.wav")
        write_sound("sounds/locked/b.wav")
        write_sound("elsewhere/c.wav")
        (tmp_path / "sounds/link").symlink_to(tmp_path / "elsewhere")
        scandir = os.scandir

        def guarded(path: Path) -> object:
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)
        assert reasons(load_clips(tmp_path / "sounds")) == {
            "link": "a link to a folder, which is not followed",
            "locked": "folder not readable (Permission denied)",
        }

    def test_seven_hundred_folders_deep(self, tmp_path: Path, write_sound: WriteSound) -> None:
        made = write_sound("a.wav")
        here = os.getcwd()  # noqa: PTH109
        (tmp_path / "deep").mkdir()
        try:
            os.chdir(tmp_path / "deep")
            for _ in range(700):
                Path("d").mkdir()
                os.chdir("d")
            shutil.copy(made, "a.wav")
        finally:
            os.chdir(here)
        assert len(load_clips(tmp_path / "deep").clips) == 1


class TestChanged:
    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.write_bytes(path.read_bytes()[:20_000]),
            lambda path: soundfile.write(path, noise(2.0, RATE, 9), RATE),
            lambda path: path.write_bytes(b""),
        ],
    )
    def test_a_file_that_was_edited_is_not_read_as_what_it_was(
        self, harm: Callable[[Path], object], write_sound: WriteSound
    ) -> None:
        path = write_sound("x.wav", noise(2.0))
        clip = load_clips(path).clips[0]
        assert len(read_clip(clip, RATE)) == 2 * RATE
        times = path.stat()
        harm(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        with pytest.raises(UnreadableAudioError, match="changed after it was indexed"):
            read_clip(clip, RATE)

    def test_a_touched_file_is_still_itself(self, write_sound: WriteSound) -> None:
        path = write_sound("x.wav", noise(2.0))
        clip = load_clips(path).clips[0]
        path.touch()
        assert len(read_clip(clip, RATE)) == 2 * RATE


class TestFrames:
    @settings(max_examples=200)
    @given(st.binary(max_size=4_000))
    def test_any_bytes_are_walked_to_the_end(self, content: bytes) -> None:
        for stream in mpeg.runs(content, 0):  # type: ignore[arg-type]
            assert stream.frames > 0
            assert stream.stated_seconds >= 0
