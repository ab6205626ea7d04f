"""Tuning against planted units: pitch, level and modulation of known shape, noise, few files, any scale."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from and_retrieval.clips.qualities import QUALITIES, measure
from and_retrieval.explanation.axes import AXES
from and_retrieval.explanation.tuned_concepts import in_words, with_tunings
from and_retrieval.explanation.tuning import rank_explained, tunings
from and_retrieval.soundbank.signals import RATE, harmonic
from and_retrieval.types import Floats, Tuning

NAMES = list(QUALITIES)
MEASURED = {name: NAMES.index(axis.measured) for name, axis in AXES.items()}
UNITS = 40


def table(clips: int, seed: int = 0) -> Floats:
    """Qualities that units can be tuned to, independent of each other; pitch and modulation are often missing."""
    random = np.random.default_rng(seed)
    qualities = np.full((clips, len(NAMES)), np.nan, np.float32)
    qualities[:, MEASURED["pitch"]] = 60 * 2 ** random.uniform(0, 6, clips)
    qualities[:, MEASURED["brightness"]] = 200 * 2 ** random.normal(2, 1, clips)
    qualities[:, MEASURED["level"]] = random.normal(-30, 10, clips)
    qualities[:, MEASURED["modulation_rate"]] = 2 ** random.uniform(0, 4.3, clips)
    for name in ("pitch", "modulation_rate"):
        qualities[random.random(clips) < 0.3, MEASURED[name]] = np.nan
    return qualities


def bell(quality: Floats, centre: float | Floats, width: float) -> Floats:
    """Response that falls off over `width` octaves from the centre, 0 where there is no quality; [clips, units]."""
    octaves = np.log2(quality[:, None]) - np.log2(np.atleast_1d(centre))
    return np.nan_to_num(np.exp(-(octaves**2) / (2 * width**2))).astype(np.float32)


def noisy(activations: Floats, noise: float = 0.3, seed: int = 1) -> Floats:
    return activations + noise * np.random.default_rng(seed).standard_normal(activations.shape)


def of(name: str, unit: Sequence[Tuning]) -> Tuning:
    (tuning,) = (tuning for tuning in unit if tuning.quality == name)
    return tuning


def shapes(units: Sequence[Sequence[Tuning]]) -> list[list[tuple[str, str]]]:
    return [[(tuning.quality, tuning.shape) for tuning in unit] for unit in units]


def test_the_preferred_pitch_of_rendered_tones_is_found_within_a_semitone() -> None:
    """Harmonic tones of 0.6 s, 90 to 2000 Hz, measured as any clip; units answer to the pitch that was played."""
    random = np.random.default_rng(0)
    played = 90 * 2 ** random.uniform(0, 4.47, 320)
    tones = [harmonic(hertz, int(0.6 * RATE), tilt=random.uniform(0.5, 2)) for hertz in played]
    qualities = np.stack([measure((0.1 * tone).astype(np.float32), RATE) for tone in tones])
    wanted = 150 * 2 ** np.linspace(0, 3, UNITS)
    units = tunings(noisy(bell(played, wanted, 0.25), 0.2), qualities, np.arange(320))
    peaks = [of("pitch", unit) for unit in units]
    assert {tuning.shape for tuning in peaks} == {"peak"}
    semitones = 12 * np.abs(np.log2([tuning.best for tuning in peaks] / wanted))
    assert semitones.max() <= 1
    for hertz, tuning in zip(wanted, peaks, strict=True):
        assert tuning.low < hertz < tuning.high
        assert np.log2(tuning.high / tuning.low) == pytest.approx(2 * 1.177 * 0.25, rel=0.5)
        assert 0.3 < tuning.effect < 1
        assert tuning.q_value <= 0.05


def test_rank_correlation_is_blind_to_what_is_found() -> None:
    qualities = table(400)
    pitch = qualities[:, MEASURED["pitch"]]
    activations = bell(pitch, 480.0, 0.5)
    there = np.isfinite(pitch)
    ranks = np.argsort(np.argsort(pitch[there]))
    assert abs(np.corrcoef(ranks, activations[there, 0])[0, 1]) < 0.1
    assert of("pitch", tunings(activations, qualities, np.arange(400))[0]).effect > 0.7


def test_every_shape_over_every_quality() -> None:
    qualities = table(400)
    for name, column in MEASURED.items():
        values = qualities[:, column]
        x = np.log2(values) if AXES[name].logarithmic else values / 10
        x = x - np.nanmedian(x)
        planted = np.nan_to_num(
            np.stack([np.exp(-2 * x**2), -np.exp(-2 * x**2), np.tanh(x), -np.tanh(x)], axis=1)
        )
        units = tunings(noisy(planted), qualities, np.arange(400))
        expected = ["peak", "valley", "rising", "falling"]
        assert shapes(units) == [[(name, shape)] for shape in expected]
        peak, valley, rising, falling = (unit[0] for unit in units)
        middle = float(np.nanmedian(values))
        for tuning in (peak, valley):
            assert tuning.low < middle < tuning.high
            assert tuning.low < tuning.best < tuning.high
        assert rising.best > middle > falling.best
        assert rising.high == pytest.approx(float(np.nanmax(values)), rel=1e-4)
        assert falling.low == pytest.approx(float(np.nanmin(values)), rel=1e-4)
        assert rising.low < rising.best
        assert falling.best < falling.high


def test_the_curve_is_the_conditional_mean_with_an_interval_that_covers_it() -> None:
    qualities = table(600)
    level = qualities[:, MEASURED["level"]]
    units = tunings(noisy(np.repeat(0.1 * level[:, None], 200, axis=1), 1.0), qualities, np.arange(600))
    covered = [
        abs(mean - 0.1 * centre) <= margin
        for unit in units
        for centre, mean, margin in zip(*dataclasses.astuple(of("level", unit))[-3:], strict=True)
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("units", ["few clips answer", "all clips answer"])
def test_narrow_peaks_are_found_over_nearly_the_whole_range(units: str) -> None:
    """Units a semitone wide, which answer to a handful of clips: their own bins vary most."""
    qualities = table(500)
    pitch = qualities[:, MEASURED["pitch"]]
    wanted = np.quantile(pitch[np.isfinite(pitch)], np.linspace(0.06, 0.94, UNITS))
    activations = bell(pitch, wanted, 0.5 / 12)
    if units == "all clips answer":
        activations = noisy(activations, 0.1)
    told = tunings(activations, qualities, np.arange(500))
    best = [[t.best for t in unit if (t.quality, t.shape) == ("pitch", "peak")] for unit in told]
    assert sum(map(bool, best)) >= 0.8 * UNITS
    for found, hertz in zip(best, wanted, strict=True):
        assert all(12 * abs(np.log2(one / hertz)) <= 1 for one in found)


@pytest.mark.parametrize("shape", ["step", "line", "exponential", "only the top answers"])
def test_what_rises_is_no_peak(shape: str) -> None:
    qualities = table(500)
    level = qualities[:, MEASURED["level"], None].astype(np.float64)
    z = (level - level.mean()) / level.std()
    planted = {
        "step": 3 * (z > 0),
        "line": z,
        "exponential": np.exp(z),
        "only the top answers": 3 * (z > 1.6),
    }
    activations = noisy(np.repeat(planted[shape], 200, axis=1), 0.7)
    told = tunings(np.concatenate([activations, -activations], axis=1), qualities, np.arange(500))
    wrong = [any(t.quality == "level" and t.shape in ("peak", "valley") for t in unit) for unit in told]
    assert np.mean(wrong) <= 0.05


def test_units_of_noise_have_no_tuning() -> None:
    random = np.random.default_rng(3)
    drawn = random.standard_normal((300, 1_000))
    for activations in (drawn, np.maximum(drawn - 1.5, 0), random.standard_t(2, drawn.shape)):
        unit_tunings = tunings(activations, table(300), np.arange(300))
        assert np.mean([bool(unit) for unit in unit_tunings]) <= 0.05


def test_windows_of_few_files_are_no_evidence() -> None:
    """Thirty files of ten windows each: quality and activation are the file's, and independent."""
    random = np.random.default_rng(4)
    file = np.repeat(np.arange(30), 10)
    qualities = table(30)[file] * (1 + 0.01 * random.standard_normal((300, 1)))
    activations = random.standard_normal((30, 1_000))[file] + 0.1 * random.standard_normal((300, 1_000))
    assert np.mean([bool(unit) for unit in tunings(activations, qualities, np.arange(300))]) > 0.5
    assert np.mean([bool(unit) for unit in tunings(activations, qualities, file)]) <= 0.05


def test_windows_of_many_files_still_are() -> None:
    """A hundred files of two to four windows, each file with a pitch of its own."""
    random = np.random.default_rng(5)
    file = np.repeat(np.arange(100), random.integers(2, 5, 100))
    qualities = table(100)[file]
    activations = noisy(bell(qualities[:, MEASURED["pitch"]], 480.0, 0.6))
    assert of("pitch", tunings(activations, qualities, file)[0]).shape == "peak"


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_verdicts_do_not_depend_on_scale_and_offset(scale: float, offset: float) -> None:
    qualities = table(200)
    pitch, level = (qualities[:, MEASURED[name], None] for name in ("pitch", "level"))
    planted = np.concatenate([bell(pitch[:, 0], [150.0, 600.0], 0.5), level / 20, np.zeros((200, 3))], axis=1)
    activations = noisy(planted)
    plain = tunings(activations, qualities, np.arange(200))
    assert shapes(plain[:3]) == [[("pitch", "peak")], [("pitch", "peak")], [("level", "rising")]]
    scaled = tunings(scale * activations + offset, qualities, np.arange(200))
    assert shapes(scaled) == shapes(plain)
    for before, after in zip(sum(plain, ()), sum(scaled, ()), strict=True):
        verdicts = [dataclasses.replace(tuning, means=(), margins=()) for tuning in (before, after)]
        assert verdicts[0] == verdicts[1]
        np.testing.assert_allclose(
            after.means, scale * np.array(before.means) + offset, rtol=1e-4, atol=1e-4 * scale
        )


def test_dead_units_have_none_and_clips_that_are_not_finite_do_not_count() -> None:
    qualities = table(200)
    activations = np.repeat(bell(qualities[:, MEASURED["pitch"]], 480.0, 0.6), 5, axis=1)
    activations[:, 1] = 0.1
    activations[3, 2] = np.nan
    activations[3, 3] = np.inf
    padded = np.insert(activations, 7, np.nan, axis=0)  # a clip that could not be read
    units = tunings(padded, np.insert(qualities, 7, 400.0, axis=0), np.arange(201))
    assert [bool(unit) for unit in units] == [True, False, True, True, True]
    assert units[0] == units[4]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 4), st.data())
def test_nothing_breaks(clips: int, units: int, data: st.DataObject) -> None:
    some = st.sampled_from([0.0, 1.0, -2.5, 1e-8, 3e4, np.nan])
    activations = data.draw(arrays(np.float32, (clips, units), elements=some))
    qualities = data.draw(arrays(np.float32, (clips, len(NAMES)), elements=some))
    files = data.draw(arrays(np.int64, clips, elements=st.integers(0, 20)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for unit in tunings(activations, qualities, files):
            for tuning in unit:
                numbers = dataclasses.astuple(tuning)[2:]
                assert np.isfinite(np.concatenate([np.atleast_1d(number) for number in numbers])).all()
                in_words(tuning)


def test_chunks_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    qualities = table(150)
    activations = noisy(bell(qualities[:, MEASURED["pitch"]], np.geomspace(100, 2000, 9), 0.5))
    whole = tunings(activations, qualities, np.arange(150))
    monkeypatch.setattr("and_retrieval.explanation.tuning.CHUNK_BYTES", 2 * 8 * 150)
    assert tunings(activations, qualities, np.arange(150)) == whole


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="5 activations, 6 qualities, 6 files"):
        tunings(np.zeros((5, 2)), table(6), np.arange(6))


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        (Tuning("pitch", "peak", 318.2, 281.3, 359.6, 0.4, 0.01), "tuned to pitch 280-360 Hz"),
        (Tuning("pitch", "peak", 442.0, 438.0, 446.0, 0.4, 0.01), "tuned to pitch 438-446 Hz"),
        (
            Tuning("modulation_rate", "valley", 4.0, 2.52, 6.0, 0.4, 0.01),
            "weakest at modulation rate 2.5-6 Hz",
        ),
        (Tuning("level", "peak", -31.0, -34.2, -27.8, 0.4, 0.01), "tuned to level -34 to -28 dB"),
        (Tuning("level", "rising", -12.0, -20.0, -10.0, 0.4, 0.01), "rises with level"),
        (Tuning("brightness", "falling", 300.0, 200.0, 900.0, 0.4, 0.01), "falls with brightness"),
    ],
)
def test_words(tuning: Tuning, words: str) -> None:
    assert in_words(tuning) == words


def test_words_add_what_rank_correlation_cannot_tell() -> None:
    peak = Tuning("pitch", "peak", 318.2, 281.3, 359.6, 0.4, 0.01)
    rising = Tuning("level", "rising", -12.0, -20.0, -10.0, 0.5, 0.01)
    ranked = "prefers loud sounds (rho 0.60)"
    valley = dataclasses.replace(peak, shape="valley")
    assert with_tunings(None, (), (), 0.0) is None
    assert with_tunings(ranked, (), (), 0.36) == ranked
    assert with_tunings(ranked, (rising, peak), (0, 0.7), 0.36) == f"tuned to pitch 280-360 Hz; {ranked}"
    assert with_tunings(ranked, (rising, peak), (0, 0.6), 0.37) == ranked
    assert with_tunings(None, (rising, peak), (0, 0.5), 0.02) == "rises with level; tuned to pitch 280-360 Hz"
    assert with_tunings(ranked, (valley,), (0,), 0.36) == f"weakest at pitch 280-360 Hz; {ranked}"
    assert with_tunings(ranked, (valley,), (0,), 0.41) == ranked


def test_what_rank_correlation_explains() -> None:
    qualities = table(300)
    level = qualities[:, MEASURED["level"]]
    activations = noisy(np.stack([np.exp(level / 5), 0 * level, 0 * level], axis=1), 1e-3)
    activations[:, 2] = 3.0
    explained = rank_explained(np.insert(activations, 4, np.nan, axis=0), np.insert(qualities, 4, 1, axis=0))
    assert explained[0] > 0.8
    assert explained[1] < 0.1
    assert explained[2] == 0
    np.testing.assert_allclose(explained, rank_explained(10 * activations - 3, qualities), atol=1e-6)
