"""`bench explain` on a few sounds: every stage is timed, and the figures follow from the seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from and_retrieval import soundbank
from and_retrieval.explanation import explain as explaining
from bench import explain


def test_every_stage_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "LAYER", 24)
    monkeypatch.setattr(explain, "_seconds_of_ast", lambda: 2.0)
    usual = explaining.measured_acoustics
    sounds = soundbank.render(tmp_path / "sounds", 30, ("siren", "rain", "sine tone"))
    figures = explain.run(str(sounds), 40, "esc50", lambda *_: lambda *_: None)
    assert explaining.measured_acoustics is usual  # what was put in its place is gone
    assert figures["clips"] == 90
    seconds = figures["seconds"]
    assert list(seconds) == [*explain.STAGES, "rest", "all"]
    unused = {"measured concepts", "captions"}  # of a small set these have no test of their own
    assert all(seconds[stage] > 0 for stage in seconds if stage not in unused)
    assert sum(seconds.values()) == pytest.approx(2 * seconds["all"])
    ratio = 180 / (seconds["all"] * explain.AST_UNITS / 40)
    assert figures["passes of AST over explaining its units"] == pytest.approx(ratio)
    assert "| kinds |" in explain.table(figures)
