"""Measured qualities against sounds made to have them, and against real recordings."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from and_retrieval.clips.qualities import QUALITIES, measure
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.types import Floats

RATE = 16_000
SECONDS = 3.0
NAMES = list(QUALITIES)
ESC10 = Path(__file__).resolve().parents[2] / "shared" / "esc10"


def times(rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    return np.arange(round(rate * seconds)) / rate


def tone(hertz: float, rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * times(rate, seconds))


def noise(low: float = 0.0, high: float = RATE / 2, seconds: float = SECONDS, seed: int = 0) -> np.ndarray:
    """Gaussian noise with nothing outside a band, Hz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(RATE * seconds)))
    f = np.fft.rfftfreq(round(RATE * seconds), 1 / RATE)
    sound = np.fft.irfft(np.where((f >= low) & (f <= high), spectrum, 0), round(RATE * seconds))
    return np.asarray(0.1 * sound / sound.std())


def clicks(per_second: float, background: float = 0.0) -> np.ndarray:
    sound = background * noise()
    sound[np.arange(RATE // 8, len(sound), RATE / per_second).astype(int)] += 0.9
    return sound


def burst(attack: float, decay: float, at: float = 1.0) -> np.ndarray:
    """Noise that rises linearly within `attack` s and then loses 60 dB every `decay` s."""
    t = times() - at
    envelope = np.where(t < attack, np.clip(t / attack, 0, 1), 10 ** (-3 * (t - attack) / decay))
    return envelope * noise()


def qualities(sound: np.ndarray, rate: int = RATE) -> dict[str, float]:
    measured = measure(sound.astype(np.float32), rate)
    assert measured.dtype == np.float32
    assert measured.shape == (len(QUALITIES),)
    return dict(zip(NAMES, measured.tolist(), strict=True))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("hertz", [82.4, 440.0, 1234.5])
def test_the_pitch_of_a_tone_at_any_rate(hertz: float, rate: int) -> None:
    measured = qualities(tone(hertz, rate), rate)
    assert measured["pitch"] == pytest.approx(hertz, rel=0.005)
    assert measured["pitch_strength"] > 0.98
    assert measured["brightness"] == pytest.approx(hertz, rel=0.02)


def test_a_high_tone_is_not_taken_for_its_octave_below() -> None:
    assert qualities(tone(3000.0))["pitch"] == pytest.approx(3000, rel=0.005)


def test_harmonics_have_the_pitch_of_their_missing_fundamental() -> None:
    assert qualities(tone(600) + tone(800) + tone(1000))["pitch"] == pytest.approx(200, rel=0.005)


def test_noise_has_no_pitch_and_is_not_tonal_whatever_its_colour() -> None:
    b, a = signal.butter(1, 200, fs=RATE)
    dark = signal.lfilter(b, a, noise())
    for sound in (noise(), dark):
        measured = qualities(sound)
        assert np.isnan(measured["pitch"])
        assert measured["pitch_strength"] < 0.3
        assert measured["tonality"] < 4
    assert qualities(tone(440))["tonality"] > 20
    mixed = [qualities(tone(440) + level * noise())["tonality"] for level in (0.1, 1.0, 10.0)]
    assert mixed == sorted(mixed, reverse=True)


def test_the_spectrum_of_band_noise() -> None:
    assert qualities(noise(1000, 2000))["brightness"] == pytest.approx(1500, rel=0.03)
    low, mid, high = (qualities(noise(*band)) for band in ((60, 250), (500, 2500), (3500, 7000)))
    assert min(low["lows"], mid["mids"], high["highs"]) > 0.97
    white = qualities(noise(20, 8000))
    assert white["lows"] == pytest.approx(280 / 7980, abs=0.01)
    assert white["mids"] == pytest.approx(2700 / 7980, abs=0.02)
    assert white["lows"] + white["mids"] + white["highs"] == pytest.approx(1, abs=1e-5)


def test_loudness_is_a_weighted_level() -> None:
    assert qualities(tone(1000))["loudness"] == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.1)
    # The A curve: -19.1 dB at 100 Hz, +1.0 dB at 4 kHz.
    difference = qualities(tone(4000))["loudness"] - qualities(tone(100))["loudness"]
    assert difference == pytest.approx(20.1, abs=0.3)
    gap = np.concatenate([tone(1000), 0.01 * noise(seconds=6)])
    assert qualities(gap)["loudness"] == pytest.approx(qualities(tone(1000))["loudness"], abs=0.5)


@pytest.mark.parametrize("gain", [2.0, 1e-3])
def test_only_the_loudness_depends_on_the_gain(gain: float) -> None:
    sound = burst(0.01, 0.5) + 0.2 * tone(500)
    one, other = qualities(sound), qualities(gain * sound)
    assert other.pop("loudness") - one.pop("loudness") == pytest.approx(20 * np.log10(gain), abs=1e-3)
    assert other == pytest.approx(one, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize("background", [0.0, 0.05])
@pytest.mark.parametrize("per_second", [1.0, 3.0, 7.0])
def test_clicks_are_counted_and_their_rate_found(per_second: float, background: float) -> None:
    measured = qualities(clicks(per_second, background))
    assert measured["onset_rate"] == pytest.approx(per_second, abs=0.34)
    assert measured["modulation_rate"] == pytest.approx(per_second, rel=0.03)
    assert measured["attack"] > 1


def test_steady_sounds_have_no_onsets() -> None:
    for seed in range(5):
        assert qualities(noise(seed=seed))["onset_rate"] == 0
    assert qualities(tone(440))["onset_rate"] == 0


def test_sharper_attacks_measure_sharper() -> None:
    measured = [qualities(burst(attack, 1.0))["attack"] for attack in (0.005, 0.04, 0.15)]
    assert measured[0] > 1.2 * measured[1] > 3 * measured[2]
    assert qualities(noise())["attack"] < 0.3


@pytest.mark.parametrize("decay", [0.3, 1.0, 2.5])
def test_decay_is_the_time_of_60_db(decay: float) -> None:
    assert qualities(burst(0.005, decay))["decay"] == pytest.approx(decay, rel=0.1)
    assert np.isnan(qualities(noise())["decay"])


def test_duration_counts_what_sounds() -> None:
    sound = noise() * ((times() > 0.5) & (times() < 1.25))
    assert qualities(sound)["duration"] == pytest.approx(0.75, abs=0.02)
    assert qualities(sound + 0.03 * noise(seed=1))["duration"] == pytest.approx(0.75, abs=0.02)
    assert qualities(noise())["duration"] == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize("carrier", [noise(), tone(700)], ids=["noise", "tone"])
@pytest.mark.parametrize(("rate", "depth"), [(2.0, 0.8), (4.0, 0.5), (11.0, 0.6)])
def test_amplitude_modulation(rate: float, depth: float, carrier: np.ndarray) -> None:
    measured = qualities((1 + depth * np.cos(2 * np.pi * rate * times())) * carrier)
    assert measured["modulation_rate"] == pytest.approx(rate, rel=0.03)
    assert measured["modulation"] == pytest.approx(depth, rel=0.1)


def test_an_unmodulated_sound_has_no_rate() -> None:
    for sound in (noise(), tone(440)):
        measured = qualities(sound)
        assert np.isnan(measured["modulation_rate"])
        assert measured["modulation"] < 0.1


@pytest.mark.parametrize("offset", [0.0, 1e-3, 0.2])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_padding_is_silence_whatever_the_offset_of_the_sound(share: float, offset: float) -> None:
    times = np.arange(RATE) / RATE
    sound = 0.5 * np.sin(2 * np.pi * 330 * times) + offset
    sound[RATE - int(share * RATE) :] = 0
    measured = dict(zip(QUALITIES, measure(sound.astype(np.float32), RATE), strict=True))
    assert measured["silence"] == pytest.approx(share, abs=0.011)


def test_silence_has_a_loudness_and_no_qualities() -> None:
    for sound in (np.zeros(RATE), np.full(RATE, 0.25), np.zeros(0)):
        measured = qualities(sound)
        assert (measured["loudness"], measured["onset_rate"], measured["duration"]) == (-120, 0, 0)
        assert np.isnan(measured["pitch"])
        assert np.isnan(measured["brightness"])


@pytest.mark.parametrize("rate", [1000, 8000, 16000, 48000])
def test_a_tenth_of_a_second_is_enough(rate: int) -> None:
    measured = qualities(tone(200, rate, 0.1), rate)
    assert measured["pitch"] == pytest.approx(200, rel=0.03)
    assert measured["duration"] == pytest.approx(0.1, abs=0.01)
    assert np.isnan(measured["modulation"])


@pytest.mark.parametrize(
    ("sound", "rate"), [(np.array([0.1, np.nan]), RATE), (np.zeros((2, 9)), RATE), (np.zeros(9), 500)]
)
def test_what_is_no_waveform_is_refused(sound: np.ndarray, rate: int) -> None:
    with pytest.raises(ValueError, match="finite 1-D waveform"):
        measure(sound.astype(np.float32), rate)


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float32, st.integers(0, 3000), elements=st.floats(-4, 4, width=32)),
    st.sampled_from([1000, 4000, 11025, 16000, 44100]),
)
def test_every_waveform_can_be_measured(sound: Floats, rate: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = measure(sound, rate)
    assert not np.isinf(measured).any()
    assert np.isfinite(measured[NAMES.index("loudness")])
    np.testing.assert_array_equal(measured, measure(sound, rate))


@pytest.mark.slow
@pytest.mark.skipif(not ESC10.is_dir(), reason="needs the ESC-10 recordings beside the checkout")
def test_real_recordings_sound_as_their_names_say() -> None:
    clips = load_clips(ESC10 / "clips.csv").clips
    measured = np.stack([measure(read_clip(clip, RATE), RATE) for clip in clips])
    labels = np.array([clip.label for clip in clips])

    def median(label: str, name: str) -> float:
        return float(np.nanmedian(measured[labels == label, NAMES.index(name)]))

    assert 300 < median("baby_cry", "pitch") < 600
    assert 500 < median("rooster", "pitch") < 1000
    assert median("rooster", "tonality") > 2 * median("rain", "tonality")
    assert median("clock_tick", "onset_rate") > 1 > median("helicopter", "onset_rate")
    assert median("person_sneeze", "duration") < 1 < 4 < median("rain", "duration")
    assert 8 < median("helicopter", "modulation_rate") < 20
    assert median("helicopter", "lows") > 0.5 > 0.1 > median("dog_bark", "lows")
