"""The suites `bench cost` and `bench overhead`: what they make of times, and one small run."""

from __future__ import annotations

from pathlib import Path

import pytest

from and_retrieval import soundbank
from bench import cost, overhead


def test_the_exponent_of_time_is_that_of_the_larger_half(tmp_path: Path) -> None:
    measured = {
        along: {
            n: {stage: {"seconds": 0.2 + power * n, "megabytes": 500.0 + n} for stage in cost.STAGES}
            for n in (1, 2, 4, 8, 16)
        }
        for along, power in (("clips", 3.0), ("units", 0.0))
    }
    summed = cost._summed_up(measured["clips"])["record"]
    assert summed["exponent"] == pytest.approx(1, abs=0.02)
    assert summed["megabytes"] == [501, 516]
    assert summed["seconds"] == pytest.approx([3.2, 48.2])
    assert cost._summed_up(measured["units"])["index"]["exponent"] == pytest.approx(0, abs=1e-9)
    table = cost.table({"along": {along: cost._summed_up(of) for along, of in measured.items()}})
    assert "| explain | clips | 3.2 - 48.2 | 0.99 | 501 - 516 |" in table
    cost.draw(measured, (250, 250), tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_the_overhead_of_recording_a_planted_network(tmp_path: Path) -> None:
    sounds = soundbank.render(tmp_path / "sounds", 2, ("siren", "rain"))
    target = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"
    figures = overhead.run(str(sounds), target, clips=3, rounds=2)
    assert figures["settings"]["clips"] == 3
    assert figures["units"] == 4
    for clock in overhead.CLOCKS:
        seconds = figures["seconds"]
        assert 0 < seconds["passes alone"][clock] < seconds["first record"][clock]
        ratio = figures["ratio"]["later records"][clock]
        assert ratio == pytest.approx(seconds["later records"][clock] / seconds["passes alone"][clock])
