"""Tuning and profile of a recorded network whose units are known: stored, exported, said, drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from embedders import FakeEmbedder
from safetensors.numpy import load_file, save_file
from torch import nn

from and_retrieval.clips.bands import BANDS, band_edges
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import ConceptBank
from and_retrieval.config import OpenConceptConfig, RecordConfig, SummaryConfig
from and_retrieval.errors import DamagedError
from and_retrieval.explanation.explain import explain
from and_retrieval.explanation.lines import unit_lines
from and_retrieval.explanation.stored import Explained
from and_retrieval.export.formats import export_units
from and_retrieval.recording.manifest import QUALITIES_FILE
from and_retrieval.recording.record import record
from and_retrieval.recording.recording import Recording
from and_retrieval.report.data import ClipFacts, ReportData, TextTables
from and_retrieval.types import Floats, Target

RATE = 16_000
PITCHES = 200 * 2 ** np.linspace(0, 2.5, 6)  # Hz that the first units prefer
LAYER = "response"


class Tuned(nn.Module):
    """Waveforms [n, samples] -> [n, units]: Gaussian tuning to the strongest frequency, rms in dB, minus that, and
    the level between 900 and 1100 Hz."""

    def __init__(self) -> None:
        super().__init__()
        self.response = nn.Linear(len(PITCHES) + 3, len(PITCHES) + 3, bias=False)
        with torch.no_grad():
            self.response.weight.copy_(torch.eye(len(PITCHES) + 3))

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """[n, samples] -> [n, units]."""
        power = torch.fft.rfft(waveforms * torch.hann_window(waveforms.shape[1])).abs().square()
        frequency = torch.fft.rfftfreq(waveforms.shape[1], 1 / RATE)
        strongest = frequency[power.argmax(dim=1), None]
        octaves = torch.log2(strongest / torch.tensor(PITCHES, dtype=torch.float32))
        level = 10 * torch.log10(waveforms.square().mean(dim=1, keepdim=True) + 1e-12)
        inside = power[:, (frequency > 900) & (frequency < 1100)].sum(dim=1, keepdim=True)
        parts = torch.exp(-(octaves**2) / (2 * 0.3**2)), level, -level, torch.log(inside + 1e-9)
        return self.response(torch.cat(parts, dim=1))


def load() -> Target:
    return Target(Tuned().eval(), RATE, lambda sounds: torch.from_numpy(np.stack(sounds)), layers=(LAYER,))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The network on 160 tones in noise."""
    folder, random = tmp_path_factory.mktemp("tuning"), np.random.default_rng(0)
    (folder / "sounds").mkdir()
    times = np.arange(int(0.6 * RATE)) / RATE
    for number in range(160):
        hertz = 100 * 2 ** random.uniform(0, 4.5)
        tone = np.sin(2 * np.pi * hertz * times) + 0.02 * random.standard_normal(len(times))
        sound = 10 ** random.uniform(-2, -0.5) * tone / 1.1
        soundfile.write(folder / "sounds" / f"{number}.wav", sound, RATE, subtype="PCM_24")
    index = ClipIndex.build(folder / "sounds", FakeEmbedder(), folder / "index")
    return record(load(), index, config=RecordConfig(hold_out="0.1"))


@pytest.fixture(scope="module")
def explained(recording: Recording) -> Explained:
    bank = ConceptBank("two", ("tone", "noise"))
    return explain(
        recording, [bank], summaries=SummaryConfig(llm="none"), opened=OpenConceptConfig(wanted="no")
    )


def test_units_of_known_pitch_and_level_are_told(explained: Explained) -> None:
    for hertz, unit in zip(PITCHES, explained, strict=False):
        tuning = next(tuning for tuning in unit.tuning if tuning.quality == "pitch")
        assert tuning.shape == "peak"
        assert 12 * abs(np.log2(tuning.best / hertz)) <= 1
        assert unit.acoustics is not None
        assert "tuned to pitch " in unit.acoustics
    for unit, shape in zip(explained[len(PITCHES) :], ("rising", "falling"), strict=False):
        tuning = next(tuning for tuning in unit.tuning if tuning.quality == "level")
        assert tuning.shape == shape


def test_the_profile_of_a_band_pass_unit_has_its_band(explained: Explained) -> None:
    profile = np.array(explained[len(PITCHES) + 2].profile)
    assert profile.shape == (BANDS,)
    low, _, high = band_edges()[profile.argmax()].tolist()
    assert low < 1000 < high


def test_exported_lines_carry_tuning_and_profile(explained: Explained, tmp_path: Path) -> None:
    lines = [
        json.loads(line)
        for line in export_units(explained, "jsonl", tmp_path / "u.jsonl").read_text().splitlines()
    ]
    assert lines == json.loads(json.dumps(list(unit_lines(explained))))
    tuning = lines[2]["tuning"][0]
    fields = {"quality", "shape", "best", "low", "high", "effect", "q_value"}
    assert fields < set(tuning)
    assert tuning["quality"] == "pitch"
    assert len(tuning["centres"]) == len(tuning["means"]) == len(tuning["margins"])
    assert len(lines[2]["profile"]) == BANDS
    for form in ("csv", "parquet"):
        assert export_units(explained, form, tmp_path / f"u.{form}").stat().st_size > 0


def without_bands(measured: dict[str, Floats]) -> dict[str, Floats]:
    return {"qualities": measured["qualities"]}


def without_the_last_clip(measured: dict[str, Floats]) -> dict[str, Floats]:
    return {**measured, "bands": measured["bands"][:-1]}


@pytest.mark.parametrize("change", [without_bands, without_the_last_clip])
def test_a_file_that_lacks_bands_is_damaged(
    recording: Recording, change: Callable[[dict[str, Floats]], dict[str, Floats]]
) -> None:
    path = recording.stored.file(QUALITIES_FILE)
    assert set(load_file(path)) == {"qualities", "bands"}
    assert np.isfinite(recording.bands).all()
    kept = path.read_bytes()
    try:
        save_file(change(load_file(path)), path)
        with pytest.raises(DamagedError, match="it does not hold the qualities and bands of all clips"):
            _ = Recording(recording.stored, recording.index).bands
    finally:
        path.write_bytes(kept)


def test_the_report_draws_the_curves(explained: Explained) -> None:
    clips = {shown.row: ClipFacts("x.wav", 0.0) for unit in explained for shown in (*unit.top, *unit.low)}
    text = TextTables(ReportData("t", {}, (), (LAYER,), explained, clips, {}))
    units = [text.unit(unit) for unit in explained]
    tables = text.tables()
    words, axis, effect, means, margins, (low, high) = units[0]["tuning"][0]
    tuning = explained[0].tuning[0]
    assert words.startswith("tuned to pitch")
    centres = tables["axes"][axis].pop("centres")
    assert tables["axes"][axis] == {"name": "pitch", "unit": "Hz", "logarithmic": True}
    drawn = [*centres, *means, *margins, effect, low, high]
    kept = [*tuning.centres, *tuning.means, *tuning.margins, tuning.effect, tuning.low, tuning.high]
    assert drawn == pytest.approx(kept, rel=0.006)
