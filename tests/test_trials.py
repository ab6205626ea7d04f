"""Trials of a network are remembered by weights, code and settings, and made again when any of these changed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from and_retrieval.config import RecordConfig
from and_retrieval.errors import InputError
from and_retrieval.recording.trials import Tried, tried
from and_retrieval.targets import load_target
from and_retrieval.types import Target

CODE = """
import numpy as np
import torch
from torch import nn
from and_retrieval.types import Target

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv1d(1, 4, 64, 32)
        self.unused = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, waveforms):
        return self.layer(self.dropout(waveforms.unsqueeze(1)))

def load():
    return Target(
        module=Network().eval(),
        sample_rate=8000,
        preprocess=lambda waveforms: torch.from_numpy(np.stack(waveforms)),
    )
"""
Try = Callable[..., tuple[Tried, int]]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "network.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def try_out(code: Path) -> Try:
    """What trials find, and the number of forward passes they took."""

    def call(
        target: Target | None = None, layers: tuple[str, ...] = ("layer", "unused"), **settings: object
    ) -> tuple[Tried, int]:
        target = target or load_target(f"{code}:load")
        passes: list[None] = []
        hook = target.module.register_forward_hook(lambda *_: passes.append(None))
        config = RecordConfig(**settings)  # type: ignore[arg-type]
        try:
            return tried(target, layers, 0.5, config, torch.device("cpu")), len(passes)
        finally:
            hook.remove()

    return call


def test_the_second_time_takes_one_pass(try_out: Try, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        first, passes = try_out()
    assert passes > 10
    assert "does not run these layers on clips, they are left out: unused" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        second, passes = try_out()
    assert passes == 1
    assert second == first
    assert "left out: unused" in caplog.text
    target = load_target("yamnet")  # of which only the plans' names matter
    assert [plan.name for plan in second.plans(target)] == ["layer"]


@pytest.mark.parametrize(
    "settings", [{"batch": 2}, {"pooling": (("layer", "max"),)}, {"layers": ("layer",)}], ids=str
)
def test_other_settings_are_tried(try_out: Try, settings: dict[str, object]) -> None:
    try_out()
    _, passes = try_out(**settings)
    assert passes > 10
    _, passes = try_out(**settings)
    assert passes == 1


def test_other_weights_are_tried(try_out: Try, code: Path) -> None:
    first, _ = try_out()
    target = load_target(f"{code}:load")
    with torch.no_grad():
        target.module.unused.weight += 1  # type: ignore[operator, union-attr]
    second, passes = try_out(target)
    assert passes > 10
    assert second.response == first.response
    assert second.weights != first.weights


def test_other_code_is_tried(try_out: Try, code: Path) -> None:
    try_out()
    code.write_text(CODE + "\n# another comment\n")
    assert try_out()[1] > 10
    code.write_text(CODE.replace("self.dropout(", "nn.functional.dropout("))
    with pytest.raises(InputError, match="gives other values when the same clip is shown again"):
        try_out()
    with pytest.raises(InputError, match="gives other values when the same clip is shown again"):
        try_out()


def test_a_network_that_answers_otherwise_is_tried(try_out: Try, code: Path) -> None:
    """Its file is the same, but not what that reads."""
    part = code.with_name("scale.txt")
    part.write_text("1.0")
    scale = f"float(open({str(part)!r}).read())"
    code.write_text(CODE.replace("waveforms.unsqueeze", f"({scale} * waveforms).unsqueeze"))
    try_out()
    assert try_out()[1] == 1
    part.write_text("2.0")
    assert try_out()[1] > 10


def test_a_damaged_memory_is_not_used(try_out: Try, tmp_path: Path) -> None:
    first, _ = try_out()
    (file,) = (tmp_path / "cache" / "trials").iterdir()
    for content in (file.read_text().replace('"unit_axis": 1', '"unit_axis": 2'), "{}", ""):
        assert content != file.read_text()
        file.write_text(content)
        again, passes = try_out()
        assert passes > 10
        assert again == first


def test_networks_made_in_python_are_not_remembered(try_out: Try, code: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    for _ in range(2):
        assert try_out(replace(load_target(f"{code}:load"), name="mine"))[1] > 10
    assert not (tmp_path / "cache" / "trials").exists()
