"""Spectral profiles against planted band-pass units, and the band levels they rest on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from and_retrieval.clips.bands import BANDS, QUIETEST, band_edges, band_levels
from and_retrieval.explanation.profiles import LEAST_CLIPS, spectral_profiles
from and_retrieval.soundbank.signals import RATE, noise
from and_retrieval.types import Floats

CLIPS = 200
EDGES = band_edges()


@pytest.fixture(scope="module")
def sounds() -> list[Floats]:
    """Noise with a gain drawn for every sixth of an octave or so, 20 dB more or less, at levels 20 dB apart."""
    random = np.random.default_rng(0)
    frequency = np.fft.rfftfreq(RATE // 2, 1 / RATE)
    knots = np.geomspace(50, 8_000, 40)
    made = []
    for _ in range(CLIPS):
        gain = np.interp(frequency, knots, random.uniform(-20, 0, len(knots)))
        spectrum = np.fft.rfft(noise(random, RATE // 2)) * 10 ** (gain / 20)
        made.append((10 ** random.uniform(-2, -1) * np.fft.irfft(spectrum)).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def bands(sounds: list[Floats]) -> Floats:
    return np.stack([band_levels(sound, RATE) for sound in sounds])


@pytest.fixture(scope="module")
def energies(sounds: list[Floats]) -> Floats:
    """Log energy behind a Butterworth band-pass filter half as wide as each band, [clips, bands]."""
    inner = (EDGES[:, :2] + EDGES[:, 1:]) / 2
    filters = [signal.butter(2, edges, "bandpass", fs=RATE, output="sos") for edges in inner]
    return np.array([[np.log(np.mean(signal.sosfilt(sos, x) ** 2)) for sos in filters] for x in sounds])


def test_a_tone_is_in_its_band_at_its_level() -> None:
    t = np.arange(RATE) / RATE
    for band, (_, centre, _) in enumerate(EDGES.tolist()):
        for amplitude in (1.0, 0.1):
            levels = band_levels((amplitude * np.sin(2 * np.pi * centre * t)).astype(np.float32), RATE)
            assert levels.argmax() == band
            assert levels[band] == pytest.approx(20 * np.log10(amplitude) - 3.01, abs=0.8)


def test_levels_do_not_depend_on_the_sample_rate() -> None:
    levels = []
    for rate in (16_000, 22_050, 44_100):
        t = np.arange(2 * rate) / rate
        tones = sum(np.sin(2 * np.pi * centre * t + centre) for centre in EDGES[::3, 1])
        levels.append(band_levels((0.05 * tones).astype(np.float32), rate))
    np.testing.assert_allclose(np.array(levels)[1:, ::3], [levels[0][::3]] * 2, atol=0.6)


def test_silence_short_sounds_and_low_rates() -> None:
    np.testing.assert_array_equal(band_levels(np.zeros(RATE, np.float32), RATE), QUIETEST)
    np.testing.assert_array_equal(band_levels(np.zeros(0, np.float32), RATE), QUIETEST)
    low = band_levels(np.random.default_rng(0).standard_normal(4_000).astype(np.float32), 4_000)
    silent = EDGES[:, 0] >= 2_000
    np.testing.assert_array_equal(low[silent], QUIETEST)
    assert (low[EDGES[:, 2] < 2_000] > -40).all()
    with pytest.raises(ValueError, match="1-D"):
        band_levels(np.zeros((2, 100), np.float32), RATE)


def test_the_preferred_band_of_band_pass_units_is_right(bands: Floats, energies: Floats) -> None:
    random = np.random.default_rng(1)
    standard = (energies - energies.mean(axis=0)) / energies.std(axis=0)
    for noise_share, least in ((0.3, 1.0), (1.0, 0.9)):
        units = standard + noise_share * random.standard_normal(standard.shape)
        away = np.abs(spectral_profiles(units, bands).argmax(axis=1) - np.arange(BANDS))
        assert np.mean(away == 0) >= least
        assert away.max() <= 1


def test_what_excites_and_what_inhibits_is_told_apart(bands: Floats, energies: Floats) -> None:
    standard = (energies - energies.mean(axis=0)) / energies.std(axis=0)
    excites, inhibits = np.arange(0, 16), np.arange(8, 24)
    profiles = spectral_profiles(standard[:, excites] - standard[:, inhibits], bands)
    assert np.mean(np.abs(profiles.argmax(axis=1) - excites) <= 1) >= 0.9
    assert np.mean(np.abs(profiles.argmin(axis=1) - inhibits) <= 1) >= 0.9


def test_the_formula_is_that_of_the_inverse_correlation_matrix(bands: Floats, energies: Floats) -> None:
    unit = energies[:, 5] + np.random.default_rng(2).standard_normal(CLIPS)
    joint = np.corrcoef(np.column_stack([unit, bands]), rowvar=False)
    joint[1:, 1:] += 0.1 * np.eye(BANDS)
    inverse = np.linalg.inv(joint)
    expected = -inverse[0, 1:] / np.sqrt(inverse[0, 0] * np.diag(inverse)[1:])
    np.testing.assert_allclose(spectral_profiles(unit[:, None], bands)[0], expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_scale_and_offset_change_nothing(scale: float, offset: float) -> None:
    random = np.random.default_rng(3)
    bands = random.standard_normal((60, BANDS))
    units = bands[:, :3] + random.standard_normal((60, 3))
    plain = spectral_profiles(units, bands)
    np.testing.assert_allclose(spectral_profiles(scale * units + offset, bands), plain, atol=1e-5)


def test_what_cannot_be_measured_is_nan(bands: Floats, energies: Floats) -> None:
    units = energies[:, :4].copy()
    units[:, 1] = 0.1
    units[:, 2] = np.nan
    units = np.insert(units, 9, np.nan, axis=0)  # a clip that could not be read
    profiles = spectral_profiles(units, np.insert(bands, 9, np.nan, axis=0))
    np.testing.assert_array_equal(np.isfinite(profiles).all(axis=1), [True, False, False, True])
    np.testing.assert_allclose(profiles[[0, 3]], spectral_profiles(energies[:, [0, 3]], bands), atol=1e-6)
    assert np.isnan(spectral_profiles(energies[: LEAST_CLIPS - 1], bands[: LEAST_CLIPS - 1])).all()
    still = bands.copy()
    still[:, 7] = QUIETEST
    assert (spectral_profiles(energies, still)[:, 7] == 0).all()
    with pytest.raises(ValueError, match="5 clips, bands of 6"):
        spectral_profiles(np.zeros((5, 2)), bands[:6])
