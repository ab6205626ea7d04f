"""The pitch network of fixed filters, by the command line as typed and by its suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Answer

from and_retrieval.soundbank.signals import RATE, harmonic
from and_retrieval.store import HOME_VARIABLE
from bench import tuned
from bench.pitch_bins import LOWEST, PITCHES, SAMPLE_RATE, SEMITONES, PitchBins

TONES = 320


def test_every_unit_answers_to_its_semitone() -> None:
    """Brute force: the pitch of rendered tones is that of the strongest unit, whatever the timbre."""
    network = PitchBins().eval()
    assert RATE == SAMPLE_RATE
    for number in range(2, SEMITONES, 7):
        for tilt in (0.5, 1.5):
            tone = harmonic(PITCHES[number], SAMPLE_RATE, tilt=tilt).astype(np.float32)
            with torch.inference_mode():
                answer = network(torch.from_numpy(tone)[None])[0].mean(dim=1)
            assert int(answer.argmax()) == number
            assert PITCHES[number] > LOWEST


def test_units_of_a_pitch_network_are_called_by_their_pitch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    sounds = tuned.rendered(tmp_path / "tones", TONES)
    answer("index", str(sounds), "--name", "tones")
    answer("record", "tones", "--target", tuned.TARGET, "--run", "pitch")
    explained = answer("explain", "tones/pitch", "--llm", "none")
    assert explained["units"] == SEMITONES
    result = answer("search", "tones/pitch", "pitch of 440 Hz")
    first = result["results"][0]
    assert result["nothing"] is False
    assert first["label_kind"] in ("acoustic", "both")
    assert first["measured"]["word"].startswith("pitch ")
    assert abs(12 * np.log2(PITCHES[first["unit"]] / 440)) <= 2
