"""Units tuned to the middle of a quality are called by it; units of anything else that goes with it are not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from embedders import FakeEmbedder
from hypothesis import given
from hypothesis import strategies as st
from planting import plant

from and_retrieval import ClipIndex, ConceptBank, explain, search_neurons
from and_retrieval.benchmark.audit import Expectation, audit
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.config import LabelConfig, OpenConceptConfig, SummaryConfig
from and_retrieval.explanation.axes import AXES
from and_retrieval.explanation.bells import Bells
from and_retrieval.explanation.measured_concepts import measured_labels
from and_retrieval.explanation.stored import Explained
from and_retrieval.explanation.tuned_concepts import (
    Tuned,
    foremost,
    is_meant,
    meant_values,
    name_of,
    response,
    share_within,
)
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Explanation, Floats, Preference, Tuning

NAMES = list(QUALITIES)
RATE, CLASSES = 8_000, 8
CLIPS, SMALL = 480, 150
COUNT = 12  # units of each sort
SORTS = (
    *("pitch", "brightness", "level", "class", "loud", "high", "silence", "duration", "pitched", "unpitched"),
    *("noise", "sparse noise"),
)
TUNED = ("pitch", "brightness", "level")
BANK = ConceptBank("bands", tuple(f"band {number}" for number in range(CLASSES)))


class Bands(FakeEmbedder):
    """Knows what "band 3" sounds like."""

    def embed_text(self, texts: Sequence[str]) -> Floats:
        rows = super().embed_text(texts)
        for row, text in zip(rows, texts, strict=True):
            if text in BANK.concepts:
                row[:] = np.eye(self.dim)[int(text.split()[1])]
        return rows


class World:
    """Noise in one of eight bands a clip, the classes; qualities are drawn, and some go together.

    The first class is mostly of 300 to 500 Hz. A clip's brightness goes with its pitch, silence with a middling level,
    and a third of the clips have no pitch.
    """

    def __init__(self, folder: Path, clips: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        draw = self.random.standard_normal
        self.label = self.random.integers(0, CLASSES, clips)
        self.qualities = draw((clips, len(NAMES))).astype(np.float32)
        octaves = np.where(self.label == 0, 2.7 + 0.25 * draw(clips), self.random.uniform(0, 6, clips))
        unpitched = self.random.random(clips) < np.where(self.label == 0, 0, 0.4)
        self.set("pitch", np.where(unpitched, np.nan, 60 * 2**octaves))
        self.set("pitch_strength", 0.4 + 0.4 * ~unpitched + 0.05 * draw(clips))
        self.set("brightness", 300 * 2 ** (0.6 * octaves + 0.6 * draw(clips)))
        self.set("loudness", -30 + 9 * draw(clips))
        middling = np.exp(-(((self.get("loudness") + 30) / 5) ** 2))
        self.set("silence", np.clip(0.8 * middling + 0.2 * draw(clips), 0, 0.95))
        self.set("duration", 2 ** draw(clips))
        self.set("modulation_rate", np.where(self.random.random(clips) < 0.5, np.nan, 2 ** (2 + draw(clips))))
        self.index = ClipIndex.build(self.sounds(folder / "sounds"), Bands(), folder / "index")

    def sounds(self, folder: Path) -> Path:
        """The clips as files, in the order of their rows."""
        folder.mkdir(parents=True)
        for number, label in enumerate(self.label):
            spectrum = np.zeros(801, complex)
            band = slice(label * 100 + 10, label * 100 + 90)
            spectrum[band] = self.random.standard_normal(80) + 1j * self.random.standard_normal(80)
            sound = np.fft.irfft(spectrum)
            soundfile.write(
                folder / f"{number:04}.wav", 0.5 * sound / np.abs(sound).max(), RATE, subtype="PCM_24"
            )
        return folder

    def set(self, name: str, values: Floats) -> None:
        self.qualities[:, NAMES.index(name)] = values

    def get(self, name: str) -> Floats:
        return self.qualities[:, NAMES.index(name)].astype(np.float64)

    def bell(self, x: Floats, centres: Floats, width: float) -> Floats:
        return np.nan_to_num(np.exp(-(((x[:, None] - centres) / width) ** 2) / 2))

    def planted(self) -> Floats:
        """Activations [clips, sorts x units], in the order of `SORTS`."""
        pitch, bright = np.log2(self.get("pitch")), np.log2(self.get("brightness"))
        level, there = self.get("loudness"), np.isfinite(pitch)
        rank = {name: self.get(name).argsort().argsort() / len(level) for name in ("loudness", "silence")}
        high = np.where(there, np.nan_to_num(pitch - 9), -1)
        noise = self.random.standard_normal((len(level), 2 * COUNT))
        sorts = [
            self.bell(pitch, np.log2(PITCHES), 0.7 / 12 if len(level) == CLIPS else 2 / 12),
            self.bell(bright, np.log2(BRIGHT), 0.4),
            self.bell(level, LEVELS, 3.0),
            *(
                np.repeat(x[:, None], COUNT, axis=1)
                for x in (
                    self.label == 0,
                    3 * rank["loudness"],
                    high,
                    3 * rank["silence"],
                    np.exp(-(np.log2(self.get("duration")) ** 2)),
                    there,
                    ~there,
                )
            ),
            noise[:, :COUNT],
            np.maximum(noise[:, COUNT:] - 1.5, 0),
        ]
        spread = np.full(len(SORTS) * COUNT, 0.2)
        spread[: COUNT * 3] = 0.05
        units = np.concatenate(sorts, axis=1)
        return units + spread * self.random.standard_normal(units.shape)

    def explained(self, held: Floats, units: Floats | None = None) -> Explained:
        """What is said of planted units, by default those of all sorts, with the clips `held` out."""
        layers = {"layer": self.planted() if units is None else units}
        plant(self.index, layers, "p", held, qualities=self.qualities)
        recording = Recording.open(self.index.folder.run("p"), self.index)
        opened = OpenConceptConfig(wanted="no")
        return explain(recording, [BANK], LabelConfig(), SummaryConfig(llm="none"), opened=opened)


PITCHES = np.geomspace(110, 2200, COUNT)
BRIGHT = np.geomspace(500, 2000, COUNT)
LEVELS = np.linspace(-36, -24, COUNT)


@pytest.fixture(scope="module", params=[CLIPS, SMALL])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Explained]:
    clips = request.param
    held = np.arange(clips) % 3 == 1 if clips == CLIPS else np.arange(clips) % 12 == 1
    return clips, World(tmp_path_factory.mktemp(f"world{clips}"), clips).explained(held)


def of_sort(explained: Explained, sort: str) -> list[Explanation]:
    start = SORTS.index(sort) * COUNT
    return list(explained[start : start + COUNT])


def middles(units: Sequence[Explanation], places: slice = slice(None)) -> list[str]:
    """The tuned concepts among labels of the units."""
    names = {name_of(tuning) for unit in units for tuning in unit.tuning}
    labels = [label for unit in units for label in unit.labels[places] if label.evidence == "measured"]
    return [label.concept for label in labels if label.concept in names]


@pytest.mark.parametrize("sort", TUNED)
def test_units_tuned_to_a_middle_are_called_by_it(world: tuple[int, Explained], sort: str) -> None:
    clips, explained = world
    centres = {"pitch": PITCHES, "brightness": BRIGHT, "level": LEVELS}[sort]
    away = {"pitch": 1 / 12, "brightness": 0.5, "level": 2.0}[sort]  # octaves, octaves, dB
    holding = [unit for unit in of_sort(explained, sort) if unit.reliable == "holds"]
    assert sum(not middles([unit], slice(1)) for unit in holding) <= 1
    right = 0
    for unit, centre in zip(of_sort(explained, sort), centres, strict=True):
        if unit.reliable != "holds" or not middles([unit], slice(1)):
            continue
        tuning = next(tuning for tuning in unit.tuning if tuning.quality == sort)
        scaled = AXES[sort].scaled(np.array([tuning.low, tuning.best, tuning.high, centre]))
        assert scaled[0] - away <= scaled[3] <= scaled[2] + away
        assert abs(scaled[1] - scaled[3]) <= away
        assert unit.kind == "acoustic"
        assert unit.labels[0].concept.startswith(AXES[sort].words)
        assert unit.acoustics is not None
        assert f"tuned to {unit.labels[0].concept}" in unit.acoustics
        assert 0.3 < unit.labels[0].score <= 1
        assert unit.faithfulness is not None
        assert unit.faithfulness.correlation >= unit.faithfulness.best_correlation
        right += 1
    few = sort == "pitch" and clips == SMALL  # a handful of clips for every unit
    assert right >= (COUNT // 2 if few else COUNT - 2)


@pytest.mark.parametrize(
    ("sort", "concept"),
    [
        ("class", "band 0"),
        ("loud", "loud sound"),
        ("high", "high pitch"),
        ("silence", "silence"),
        ("pitched", "clear pitch"),
        ("unpitched", "no clear pitch"),
    ],
)
def test_units_of_something_else_keep_its_name(world: tuple[int, Explained], sort: str, concept: str) -> None:
    """A class of a typical pitch, silence of a middling level, clips that have a pitch at all, more of a quality."""
    units = of_sort(world[1], sort)
    assert sum(unit.labels[0].concept == concept and unit.reliable == "holds" for unit in units) >= COUNT - 2
    assert not middles(units)
    if sort == "class":
        assert {unit.kind for unit in units} == {"concept"}


@pytest.mark.parametrize("sort", ["duration", "noise", "sparse noise"])
def test_units_of_nothing_that_has_a_name_get_none(world: tuple[int, Explained], sort: str) -> None:
    """Noise, and the middle of a quality that goes with no other."""
    units = of_sort(world[1], sort)
    assert len(middles(units)) <= 1
    assert sum(unit.reliable == "holds" for unit in units) <= 1


def test_many_units_of_noise_hardly_ever_get_a_tuned_concept(tmp_path: Path) -> None:
    world = World(tmp_path, 300, seed=1)
    noise = world.random.standard_normal((300, 400))
    noise[:, 200:] = np.maximum(noise[:, 200:] - 1.8, 0)
    explained = world.explained(np.arange(300) % 3 == 1, noise)
    assert len(middles(explained)) <= 0.01 * len(explained)
    assert sum(unit.reliable == "holds" for unit in explained) <= 0.02 * len(explained)


def test_search_finds_them_by_value(world: tuple[int, Explained]) -> None:
    explained = world[1]
    for number, unit in enumerate(of_sort(explained, "pitch")):
        if unit.reliable == "holds" and unit.kind == "acoustic":
            query = f"pitch of {PITCHES[number]:.0f} Hz"
            best = search_neurons(explained.recording, query, k=3)[0]
            assert best["listens"] is True
            assert best["measured"]["quality"] == "pitch"
            assert best["measured"]["rho"] is None
            assert best["measured"]["word"] in {label["concept"] for label in best["labels"]}
            assert abs(best["unit"] - unit.unit) <= 1
    levels = search_neurons(explained.recording, "level -31 to -29 dB", k=3)
    assert all(of_range(result["unit"], "level") for result in levels)
    assert search_neurons(explained.recording, "9 kHz", k=1)[0]["measured"] is None


def test_an_audit_knows_them(world: tuple[int, Explained]) -> None:
    explained = world[1]
    holding = next(
        (unit, number)
        for number, unit in enumerate(of_sort(explained, "level"))
        if unit.reliable == "holds" and middles([unit], slice(1))
    )
    unit, number = holding
    for concept, expected in ((f"level {LEVELS[number]:.1f} dB", True), ("level 3 dB", False)):
        (check,) = audit(explained, [Expectation(f"layer:{unit.unit}", concept, expected, line=2)])
        assert check.passed
        assert bool(check.labels) == expected


def of_range(unit: int, sort: str) -> bool:
    return 0 <= unit - SORTS.index(sort) * COUNT < COUNT


@pytest.mark.parametrize(
    ("text", "tunings", "low", "high"),
    [
        ("pitch of 300 Hz", ("pitch",), 300, 300),
        ("300 Hz", ("pitch", "brightness", "modulation_rate"), 300, 300),
        ("a tone at 1.2 kHz", ("pitch",), 1200, 1200),
        ("pitch 280-360 Hz", ("pitch",), 280, 360),
        ("1-2 kHz", ("pitch", "brightness", "modulation_rate"), 1000, 2000),
        ("pitch 900 Hz to 1.1 kHz", ("pitch",), 900, 1100),
        ("centre of the spectrum near 2 kHz", ("brightness",), 2000, 2000),
        ("level -30 to -24 dB", ("level",), -30, -24),
        ("-30 dB", ("level",), -30, -30),
        ("pulses of 4 Hz", ("modulation_rate",), 4, 4),
    ],
)
def test_texts_that_mean_values(text: str, tunings: tuple[str, ...], low: float, high: float) -> None:
    meant = meant_values(text)
    assert meant is not None
    assert meant.tunings == tunings
    assert (meant.low, meant.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dog",
        "pitch",
        "energy below 300 Hz",
        "dog at 300 Hz",
        "300",
        "pitch of 30 dB",
        "Hz",
        "-30 dB to 4 Hz",
    ],
)
def test_texts_that_mean_none(text: str) -> None:
    assert meant_values(text) is None


@given(st.text(max_size=40))
def test_any_text_is_read(text: str) -> None:
    meant = meant_values(text)
    assert meant is None or (meant.tunings and meant.low <= meant.high)


@given(
    st.sampled_from(["pitch", "brightness", "level", "modulation_rate"]),
    st.floats(2, 3000),
    st.floats(1.02, 3),
)
def test_every_name_is_a_query_that_finds_it(quality: str, low: float, ratio: float) -> None:
    ends = (low, low * ratio) if AXES[quality].logarithmic else (-low / 50 - 3 * ratio, -low / 50)
    best = math.sqrt(ends[0] * ends[1]) if AXES[quality].logarithmic else sum(ends) / 2
    tuning = Tuning(quality, "peak", best, *ends, 0.4, 0.01)
    meant = meant_values(name_of(tuning))
    assert meant is not None
    assert meant.tunings == (quality,)
    assert response(tuning, meant) > 0.7


@pytest.mark.parametrize("text", ["pitch 0-300 Hz", "tuned to pitch 250 Hz", "20-20000 Hz", "0 to 5 kHz"])
def test_wide_values_and_values_from_0_find_what_lies_in_them(text: str) -> None:
    meant, tuning = meant_values(text), Tuning("pitch", "peak", 250.0, 230.0, 270.0, 0.4, 0.01)
    assert meant is not None
    assert is_meant(tuning, meant)
    assert response(tuning, meant) == pytest.approx(1)


def test_a_range_up_to_nearly_zero_has_no_sign() -> None:
    assert name_of(Tuning("level", "peak", -5.0, -12.0, -0.2, 0.4, 0.01)) == "level -12 to 0 dB"


def test_a_range_that_holds_most_clips_is_no_label() -> None:
    pitches = np.sort(np.log2(np.append(np.geomspace(100, 1600, 41), np.nan)))
    tuning = Tuning("pitch", "peak", 400.0, 198.0, 802.0, 0.4, 0.01)
    assert share_within(tuning, {"pitch": pitches}) == pytest.approx(21 / 41)
    narrow = Tuning("pitch", "peak", 400.0, 399.0, 401.0, 0.4, 0.01)
    assert share_within(narrow, {"pitch": pitches}) == pytest.approx(1 / 41)
    assert share_within(narrow, {"pitch": np.array([np.nan])}) == 0
    assert foremost((tuning, narrow), (0.0, 0.5), 0.1) == Tuned(narrow, 0.5)
    assert foremost((tuning, narrow), (0.0, 0.5), 0.3) is None
    assert foremost((tuning,), (0.0,), 0.0) is None
    assert foremost((), (), 0.0) is None


def test_of_both_the_range_comes_first_and_no_side_of_the_same_quality_is_named() -> None:
    tuned = Tuned(Tuning("pitch", "peak", 300.0, 281.0, 359.0, 0.4, 0.01), 0.7)
    preferences = (Preference("pitch", -0.4), Preference("loudness", 0.3))
    labels = measured_labels(preferences, "Hum", tuned)
    assert [label.concept for label in labels] == ["pitch 280-360 Hz", "loud sound"]
    assert [label.score for label in labels] == [0.7, 0.3]
    assert [label.concept for label in measured_labels(preferences, "Hum")] == ["low pitch", "loud sound"]


def test_bells_are_half_as_high_at_both_ends_and_nothing_without_the_quality() -> None:
    tuning = Tuning("pitch", "peak", 200.0, 100.0, 400.0, 0.4, 0.01)
    qualities = np.full((4, len(NAMES)), np.nan)
    qualities[:3, NAMES.index("pitch")] = 200, 100, 400
    said = Bells.of([tuning, None]).responses(qualities)
    np.testing.assert_allclose(said, [[1, 0.5, 0.5, 0], [0, 0, 0, 0]], atol=1e-6)
