"""Reading sound: every format, rate and channel count, exact windows, and files that are broken in every way."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import WriteSound, loudest_frequency, noise, tone

from and_retrieval.clips.files import EXTENSIONS, UnreadableAudioError, audio_info, read_window

FORMATS = ("wav", "flac", "ogg", "mp3", "aiff", "au", "caf")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_with_its_length_and_pitch(suffix: str, write_sound: WriteSound) -> None:
    assert f".{suffix}" in EXTENSIONS
    path = write_sound(f"tone.{suffix}", tone(440, 3.0, 44_100), 44_100)
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.frames, info.seconds) == (44_100, 1, 132_300, 3.0)
    sound = read_window(path, 0.0, 3.0, 16_000)
    assert sound.dtype == np.float32
    assert sound.shape == (48_000,)
    assert loudest_frequency(sound, 16_000) == pytest.approx(440, abs=0.5)
    assert np.abs(sound[4_000:-4_000]).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("start", "duration"), [(0.0, 1.0), (1.25, 0.5), (3.333, 1.234), (4.5, 9.0)])
def test_a_window_is_that_part_of_the_file(
    suffix: str, start: float, duration: float, write_sound: WriteSound
) -> None:
    path = write_sound(f"noise.{suffix}", noise(5.0, 44_100), 44_100)
    whole, rate = soundfile.read(path, dtype="float32")
    window = read_window(path, start, duration, rate)
    first = round(start * rate)
    np.testing.assert_allclose(window, whole[first : first + round(duration * rate)], atol=1e-6)


@pytest.mark.parametrize(
    "rate", [8_000, 11_025, 16_000, 22_050, 44_100, 44_101, 47_999, 48_000, 96_000, 192_000]
)
@pytest.mark.parametrize("wanted", [16_000, 48_000])
def test_resampling_keeps_length_pitch_and_level(rate: int, wanted: int, write_sound: WriteSound) -> None:
    path = write_sound("tone.wav", tone(1_000, 2.0, rate), rate, subtype="FLOAT")
    sound = read_window(path, 0.0, 2.0, wanted)
    assert abs(len(sound) - 2 * wanted) <= 1
    assert loudest_frequency(sound, wanted) == pytest.approx(1_000, abs=0.5)
    middle = sound[wanted // 4 : -wanted // 4]
    np.testing.assert_allclose(np.sqrt(np.mean(middle**2)), 0.5 / np.sqrt(2), rtol=1e-3)


def test_what_lies_above_the_new_band_is_gone(write_sound: WriteSound) -> None:
    path = write_sound("high.wav", tone(12_000, 1.0, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(read_window(path, 0.0, 1.0, 16_000)[1_000:-1_000]).max() < 1e-3


def test_channels_are_averaged(write_sound: WriteSound) -> None:
    left, right = noise(1.0, seed=1), noise(1.0, seed=2)
    path = write_sound("stereo.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_window(path, 0.0, 1.0, 16_000), (left + right) / 2, atol=1e-7)


def test_eight_channels_at_192_khz(write_sound: WriteSound) -> None:
    parts = [tone(500 * (n + 1), 1.0, 192_000, amplitude=0.5 if n == 2 else 0.0) for n in range(8)]
    path = write_sound("array.wav", np.stack(parts, axis=1), 192_000)
    assert audio_info(path).channels == 8
    sound = read_window(path, 0.0, 1.0, 16_000)
    assert sound.shape == (16_000,)
    assert loudest_frequency(sound, 16_000) == pytest.approx(1_500, abs=1)
    assert np.abs(sound[1_000:-1_000]).max() == pytest.approx(0.5 / 8, rel=0.02)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.integers(4_000, 96_000),
    samples=st.integers(1, 30_000),
    start=st.floats(0, 2),
    duration=st.floats(0.001, 3),
)
def test_any_window_is_finite_and_as_long_as_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, rate: int, samples: int, start: float, duration: float
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.wav"
    soundfile.write(path, noise(samples / rate, rate), rate)
    first = min(round(start * rate), samples)
    there = min(round(duration * rate), samples - first)
    if there < 1:
        with pytest.raises(UnreadableAudioError, match="ends after"):
            read_window(path, start, duration, 16_000)
        return
    sound = read_window(path, start, duration, 16_000)
    assert np.isfinite(sound).all()
    assert abs(len(sound) - there * 16_000 / rate) <= 1


@pytest.mark.parametrize("suffix", sorted(e.removeprefix(".") for e in EXTENSIONS))
def test_files_that_are_no_audio_say_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(UnreadableAudioError, match="empty file"):
        audio_info(path)
    path.write_text("not a sound, but a text about one\n" * 500)
    with pytest.raises(UnreadableAudioError, match="Format not recognised"):
        audio_info(path)
    path.write_bytes(np.random.default_rng(0).bytes(5_000))
    with pytest.raises(UnreadableAudioError, match=r"not readable as audio|no audio"):
        audio_info(path)


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudioError, match="No such file"):
        audio_info(tmp_path / "gone.wav")
    with pytest.raises(UnreadableAudioError, match="not readable"):
        read_window(tmp_path / "gone.wav", 0.0, 1.0, 16_000)


def test_a_header_without_sound_is_unreadable(write_sound: WriteSound) -> None:
    with pytest.raises(UnreadableAudioError, match="no audio"):
        audio_info(write_sound("none.wav", np.zeros(0, np.float32)))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "opus"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_heard_as_far_as_it_goes(
    suffix: str, share: float, write_sound: WriteSound
) -> None:
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    path = write_sound(f"x.{suffix}", noise(8.0, 48_000), 48_000, **options)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    heard = 0.0
    for start in range(8):
        try:
            audio_info(path)
            sound = read_window(path, float(start), 1.0, 16_000)
        except UnreadableAudioError:  # and never another exception
            continue
        assert np.isfinite(sound).all()
        heard += len(sound) / 16_000
    assert heard <= 8 * share + 1.5
    assert heard >= 8 * share - 2.5


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_file_damaged_in_the_middle_never_raises_anything_else(
    suffix: str, write_sound: WriteSound
) -> None:
    path = write_sound(f"x.{suffix}", noise(4.0, 44_100), 44_100)
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(5):
        first = int(random.integers(200, len(content) - 600))
        content[first : first + 500] = random.bytes(500)
    path.write_bytes(content)
    with contextlib.suppress(UnreadableAudioError):
        audio_info(path)
    for start in range(4):
        with contextlib.suppress(UnreadableAudioError):
            assert np.isfinite(read_window(path, float(start), 1.0, 16_000)).all()


def test_a_streamed_flac_is_measured_by_decoding(write_sound: WriteSound) -> None:
    path = write_sound("streamed.flac", tone(440, 3.0, 44_100), 44_100)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of the sample count: 0, as an encoder writes into a pipe
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert soundfile.info(str(path)).frames > 2**60
    info = audio_info(path)
    assert 132_298 <= info.frames <= 132_300
    assert len(read_window(path, 2.5, info.seconds - 2.5, 44_100)) == info.frames - 110_250
    path.write_bytes(content[: len(content) // 2])
    assert 0.3 < audio_info(path).seconds < 2.0


def test_a_wav_header_that_promises_too_much(write_sound: WriteSound) -> None:
    path = write_sound("piped.wav", tone(440, 1.0, 16_000))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert audio_info(path).seconds == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_spoil_their_window_alone(bad: float, write_sound: WriteSound) -> None:
    sound = noise(2.0)
    sound[20_000] = bad
    path = write_sound("bad.wav", sound, subtype="FLOAT")
    assert len(read_window(path, 0.0, 1.0, 16_000)) == 16_000
    with pytest.raises(UnreadableAudioError, match="NaN or infinite"):
        read_window(path, 1.0, 1.0, 16_000)


@pytest.mark.parametrize("amplitude", [1e10, 3e38])
def test_numbers_that_are_no_sound_are_refused_before_they_overflow(
    amplitude: float, write_sound: WriteSound
) -> None:
    path = write_sound("huge.wav", tone(440, 1.0, 44_100, amplitude), 44_100, subtype="FLOAT")
    with pytest.raises(UnreadableAudioError, match="full scale is 1"):
        read_window(path, 0.0, 1.0, 16_000)


def test_a_float_file_in_integer_units_is_still_sound(write_sound: WriteSound) -> None:
    path = write_sound("scaled.wav", tone(440, 1.0, 44_100, 32_767), 44_100, subtype="FLOAT")
    assert np.isfinite(read_window(path, 0.0, 1.0, 16_000)).all()


@pytest.mark.parametrize("rate", [1_000, 500_000, 1_000_000])
def test_rates_that_hardly_anybody_uses(rate: int, write_sound: WriteSound) -> None:
    path = write_sound("odd.wav", noise(500 / rate, rate), rate)
    sound = read_window(path, 0.0, min(500 / rate, 5.0), 16_000)
    assert np.isfinite(sound).all()


def test_one_sample(write_sound: WriteSound) -> None:
    path = write_sound("one.wav", np.full(1, 0.5, np.float32))
    assert audio_info(path).frames == 1
    np.testing.assert_allclose(read_window(path, 0.0, 1.0, 16_000), [0.5], atol=1e-4)
    with pytest.raises(UnreadableAudioError, match="ends after"):
        read_window(path, 0.0, 1.0, 16_000, least=0.1)


def test_a_long_file_is_not_read_whole(write_sound: WriteSound) -> None:
    path = write_sound("long.wav", noise(660.0, 4_000), 4_000)
    whole = soundfile.read(path, dtype="float32")[0]
    window = read_window(path, 655.0, 10.0, 4_000)
    np.testing.assert_array_equal(window, whole[655 * 4_000 :])


@pytest.mark.slow
def test_a_window_of_an_hour_needs_the_memory_of_a_window(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 44_100, 2) as stream:
        for minute in range(60):
            stream.write(np.repeat(noise(60.0, 44_100, seed=minute)[:, None], 2, axis=1))
    program = (
        "import resource, sys; from pathlib import Path; from and_retrieval.clips.files import read_window\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "sound = read_window(Path(sys.argv[1]), 3585.0, 10.0, 16_000)\n"
        "print(len(sound), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    samples, megabytes = map(int, answer.stdout.split())
    assert samples == 160_000
    assert megabytes < 60
