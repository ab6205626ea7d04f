"""Maps of units for Embedding Atlas, features in the manner of Neuronpedia, and comparisons as tables."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from embedders import FakeEmbedder
from planting import plant, say
from sounds import WriteSound, loudest_frequency, tone

from and_retrieval.clips.index import ClipIndex
from and_retrieval.explanation.stored import Explained
from and_retrieval.export.features import BARS, histograms
from and_retrieval.export.formats import export_units
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Explanation, Label, Shown, Summary, UnitFaithfulness

HOLDS = UnitFaithfulness(9, 0.5, 0.1, 0.2, 0.75, 0.2, 0.01, True)


@pytest.fixture
def explained(home: Path, write_sound: WriteSound) -> Explained:
    """Of three tones of 300, 600 and 900 Hz, the first of 8 s."""
    for number, seconds in enumerate((8.0, 1.0, 1.0)):
        folder = write_sound(f"sounds/{number}.wav", tone(300.0 * (number + 1), seconds, 16_000)).parent
    index = ClipIndex.build(folder, FakeEmbedder(), home / "s")
    activations = np.array([[3.0, 0.0, np.nan], [1.0, 0.0, np.nan], [2.0, 5.0, np.nan]])
    recording = Recording.open(plant(index, {"conv": activations}, "p"), index)
    units = [
        Explanation(
            "conv", 0, (Shown(0, 7.9, 3.0), Shown(2, 0.5, 2.0)), labels=(Label("hum", 0.5), Label("tone", 0.25)),
            faithfulness=HOLDS, reliable="holds", summary=Summary("Responds to a hum.", False, origin="written"),
        ),
        Explanation("conv", 1, (Shown(2, 0.5, 5.0),), labels=(Label("beep", 0.5),)),
        Explanation("conv", 2),
    ]  # fmt: skip
    return say(recording, units, ["a hum", "a low beep", "a beep"])


class TestAtlas:
    def test_has_a_place_a_label_and_sound_for_every_unit(self, explained: Explained) -> None:
        rows = pq.read_table(export_units(explained, "embedding-atlas")).to_pylist()
        assert [row["id"] for row in rows] == ["conv:0", "conv:1", "conv:2"]
        assert [row["label"] for row in rows] == ["hum", "beep", "no label"]
        assert (rows[0]["reliable"], rows[0]["summary"]) == ("holds", "Responds to a hum.")
        assert all(np.isfinite([row["x"], row["y"]]).all() for row in rows[:2])
        assert (rows[2]["x"], rows[2]["y"]) == (None, None)  # it never responded
        heard = [soundfile.read(io.BytesIO(row["audio"]["bytes"])) for row in rows[:2]]
        assert [round(len(sound) / rate, 1) for sound, rate in heard] == pytest.approx([3.0, 1.0], abs=0.1)
        assert [loudest_frequency(sound, rate) for sound, rate in heard] == pytest.approx([300, 900], abs=5)
        assert rows[0]["audio"]["path"] == "0.wav"
        assert rows[2]["audio"] is None

    def test_a_file_that_is_gone_costs_its_sound_alone(self, explained: Explained) -> None:
        Path(explained.recording.index.clips[0].file).unlink()
        rows = pq.read_table(export_units(explained, "embedding-atlas")).to_pylist()
        assert [row["audio"] is not None for row in rows] == [False, True, False]


class TestFeatures:
    def test_say_what_is_known(self, explained: Explained) -> None:
        read = json.loads(export_units(explained, "neuronpedia").read_text(encoding="utf-8"))
        assert (read["modelId"], read["source"]) == ("planted", "s/p")
        first, second, third = read["features"]
        assert (first["layer"], first["index"], first["maxActApprox"]) == ("conv", "0", 3.0)
        assert first["activations"][0] == {
            "path": "0.wav", "start": 0.0, "maxValue": 3.0, "maxValueTime": pytest.approx(7.9), "text": "a hum",
        }  # fmt: skip
        sentence, hum, tone_label = first["explanations"]
        assert (sentence["description"], sentence["typeName"]) == ("Responds to a hum.", "sentence")
        assert (hum["description"], hum["reliable"]) == ("hum", "holds")
        assert {score["name"] for score in hum["scores"]} == {"soft-wpmi", "correlation", "auprc"}
        assert "reliable" not in tone_label
        assert second["frac_nonzero"] == pytest.approx(1 / 3, abs=1e-6)
        assert sum(second["freq_hist_data_bar_heights"]) == 3
        assert third["freq_hist_data_bar_values"] == []
        assert third["explanations"] == []

    def test_histograms_are_those_of_numpy(self) -> None:
        values = np.random.default_rng(0).normal(size=(500, 7))
        values[3, 2] = np.nan
        values[:, 5] = 2.0
        edges, counts = histograms(values)
        for unit in range(7):
            present = values[np.isfinite(values[:, unit]), unit]
            expected, borders = np.histogram(present, BARS)
            if unit == 5:
                assert counts[unit].sum() == 500
                continue
            assert np.abs(counts[unit] - expected).sum() <= 2  # a value on a border
            np.testing.assert_allclose(edges[unit], borders[:-1])
        nothing = histograms(np.full((4, 1), np.nan))
        assert np.isnan(nothing[0]).all()
        assert not nothing[1].any()
