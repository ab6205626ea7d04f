"""The benchmark of the page: what it makes up can be served, and every kind of request is timed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from served import RUN

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench
from and_retrieval import ClipIndex, Run
from and_retrieval.explanation.stored import load_explained
from bench import serve


def test_made_up_units_are_served(served_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(serve, "ROUNDS", 2)
    home = shutil.copytree(served_home, tmp_path / "copy")
    result, text = bench.run("serve", [RUN, "--units", "300", "--home", str(home)], quiet=True)
    for name in ("12 units", "300 units"):
        kinds = result["figures"][name]
        assert {"table, first page", "search by a text", "unit", "overview"} <= set(kinds)
        assert all(figures["p95"] >= figures["p50"] > 0 for figures in kinds.values())
    assert "search by a text" in text
    index = ClipIndex.open(home / "s")
    real, made_up = (Run.open(index.folder.run(name), index) for name in ("net", serve.MADE_UP))
    assert sum(layer.units for layer in made_up.layers) == len(load_explained(made_up)) == 300
    known = {unit.top[0].row for unit in real.explanations()}
    assert {unit.top[0].row for unit in made_up.explanations()} <= known
    kept = np.concatenate([layer.top.rows[:, 0] for layer in made_up.layers])
    assert set(kept.tolist()) <= known
