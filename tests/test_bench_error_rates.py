"""The suite of error rates: planted units answer as they are told, and right and wrong are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from embedders import FakeEmbedder

from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.qualities import QUALITIES
from and_retrieval.types import Explanation, Label, Tuning, UnitFaithfulness
from bench import error_rates

CLIPS = 80
HELD = UnitFaithfulness(20, 0.8, 0.0, 0.3, 0.9, 0.2, 0.01, reliable=True)


def test_planted_units_answer_as_they_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(CLIPS):
        times = np.arange(8_000) / 16_000
        tone = np.sin(2 * np.pi * 150 * 2 ** random.uniform(0, 4) * times)
        sound = 10 ** random.uniform(-2, -0.2) * tone + 1e-3 * random.standard_normal(len(times))
        path = tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, 16_000, subtype="PCM_24")
    index = ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), tmp_path / "index")
    answers = {"one.relu": random.standard_normal((CLIPS, 3)), "two": random.random((CLIPS, 2))}
    told = {name: of_layer.astype(np.float32) for name, of_layer in answers.items()}
    units = error_rates.planted(index, told)
    assert [(unit.layer, unit.unit) for unit in units] == [
        *(("one.relu", number) for number in range(3)),
        *(("two", number) for number in range(2)),
    ]
    for unit in units:
        for shown in (*unit.top, *unit.low):
            assert shown.activation == np.float32(told[unit.layer][shown.row, unit.unit])
        seen = {shown.row for shown in (*unit.top, *unit.low)}
        assert len(seen) > 10


def test_quality_and_middle_units_follow_what_they_are_told() -> None:
    random = np.random.default_rng(1)
    qualities = np.exp(random.standard_normal((300, len(QUALITIES)))).astype(np.float32)
    qualities[::3, list(QUALITIES).index("pitch")] = np.nan
    units = error_rates.quality_units(qualities, random)
    for column in range(len(QUALITIES)):
        there = np.isfinite(qualities[:, column])
        least_noisy = units[there, column * len(error_rates.NOISE)]
        ranks = qualities[there, column].argsort().argsort()
        assert np.corrcoef(least_noisy, ranks)[0, 1] > 0.95
    middles, ranges = error_rates.middle_units(qualities, random)
    assert middles.shape == (300, len(ranges))
    pitch = np.log2(qualities[:, list(QUALITIES).index("pitch")])
    strongest = np.nanargmax(np.where(np.isfinite(pitch), middles[:, 0], -np.inf))
    assert abs(pitch[strongest] - ranges[0][1]) < 1


def unit(concept: str, evidence: str = "measured", reliable: str = "holds") -> Explanation:
    tuning = Tuning("pitch", "peak", 300.0, 280.0, 360.0, 0.4, 0.01)
    return Explanation(
        "layer",
        0,
        (),
        (),
        labels=(Label(concept, 0.5, evidence),),
        reliable=reliable,
        faithfulness=HELD,
        tuning=(tuning,),
    )


def test_verdicts() -> None:
    units = [
        unit("loud sound"),
        unit("bright sound"),
        unit("Dog", "audio"),
        unit("loud sound", reliable="fails"),
    ]
    counts = error_rates.judged(units, lambda one: error_rates.first(one) in error_rates.sides("loudness"))
    assert counts == {"units": 4, "right": 1, "other quality": 1, "concept": 1, "none": 1}
    assert error_rates.within(unit("pitch 280-360 Hz"), "pitch", np.log2(300))
    assert not error_rates.within(unit("pitch 280-360 Hz"), "pitch", np.log2(400))
    assert not error_rates.within(unit("high pitch"), "pitch", np.log2(300))
    assert error_rates.shares(units)["holds"] == 0.75
