"""Explaining layer by layer: stopped anywhere, it ends in the same bytes, and sentences are asked for once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from killing import content, run_and_kill
from planting import plant
from sounds import WriteSound, tone

from and_retrieval import ClipIndex, ConceptBank, Run
from and_retrieval.config import OpenConceptConfig, SummaryConfig
from and_retrieval.errors import InputError
from and_retrieval.explanation import explain as stage
from and_retrieval.explanation import stored
from and_retrieval.explanation.shard import FOLDER
from and_retrieval.explanation.stored import Explained
from and_retrieval.shards.folder import ShardCount
from and_retrieval.shards.lock import locked

CLIPS, LAYERS = 30, 4


@pytest.fixture
def index(tmp_path: Path, write_sound: WriteSound, home: Path) -> ClipIndex:
    for number in range(CLIPS):
        write_sound(f"sounds/{number % 3}/{number:02}.wav", tone(100 + 100 * number, 0.2, 8_000), 8_000)
    return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "s")


def planted(index: ClipIndex, name: str) -> Path:
    """A recording of layers of random units; a third of its clips are held out."""
    random = np.random.default_rng(0)
    layers = {f"layer{number}": random.standard_normal((CLIPS, 5)) for number in range(LAYERS)}
    return plant(index, layers, name, np.arange(CLIPS) % 3 == 0).path


def explained(home: Path, name: str, begun: Path | None = None) -> Explained:
    """What the killed processes do; the name of every layer that is begun becomes a line of a file."""
    real = stage._Explainer.explain

    def noted(self: Any, layer: Any) -> Any:
        if begun is not None:
            with begun.open("a") as stream:
                stream.write(f"{layer.name}\n")
        return real(self, layer)

    stage._Explainer.explain = noted  # type: ignore[method-assign]
    try:
        index = ClipIndex.open(home / "s", FakeEmbedder())
        return Run.open(index.folder.run(name), index).explain(
            ConceptBank("b", ("low", "middle", "high")),
            summaries=SummaryConfig(llm="none"),
            opened=OpenConceptConfig(wanted="no"),
        )
    finally:
        stage._Explainer.explain = real  # type: ignore[method-assign]


class TestKilled:
    @pytest.mark.parametrize("stride", [13, pytest.param(4, marks=pytest.mark.slow)])
    def test_at_steps_all_the_way(self, stride: int, index: ClipIndex, home: Path, tmp_path: Path) -> None:
        begun = tmp_path / "begun"
        whole = planted(index, "whole")
        assert explained(home, "whole").shards == ShardCount(LAYERS, 0)
        assert not (whole / FOLDER).exists()
        expected = content(whole)
        step = 1
        while True:
            folder = planted(index, f"run{step}")
            if not run_and_kill(explained, home, f"run{step}", begun, step=step):
                break
            layers = begun.read_text().split() if begun.exists() else []
            committed = (folder / "explanation.json").exists()  # asked for again, explanations are made anew
            assert not run_and_kill(explained, home, f"run{step}", begun)
            assert content(folder) == expected
            again = begun.read_text().split()[len(layers) :]
            if not committed:
                assert len(set(layers) & set(again)) <= 1
            begun.unlink()
            step += stride
        assert step > 20

    def test_a_stop_by_hand_is_no_loss(
        self, index: ClipIndex, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = planted(index, "whole")
        real = stage.store_layer

        def stopped(shards: Any, number: int, *rest: Any) -> None:
            if number == 2:
                raise KeyboardInterrupt
            real(shards, number, *rest)

        monkeypatch.setattr(stage, "store_layer", stopped)
        with pytest.raises(KeyboardInterrupt):
            explained(home, "whole")
        monkeypatch.undo()
        assert not list(folder.rglob(".*"))
        assert explained(home, "whole").shards == ShardCount(LAYERS, 2)


def test_other_settings_begin_anew(index: ClipIndex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(index, "whole")
    monkeypatch.setattr(stage, "_merged", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        explained(home, "whole")
    monkeypatch.undo()
    run = Run.open(index.folder.run("whole"), index)
    other = run.explain(
        ConceptBank("b", ("low", "high")),
        summaries=SummaryConfig(llm="none"),
        opened=OpenConceptConfig(wanted="no"),
    )
    assert other.shards == ShardCount(LAYERS, 0)


NAMED = f"{Path(__file__).parent / 'embedders.py'}:FakeEmbedder"


class TestWorkers:
    @staticmethod
    def explained(index: ClipIndex, name: str, workers: int | str, embedder: Any) -> Explained:
        index = ClipIndex.open(index.folder.path, embedder)
        return Run.open(index.folder.run(name), index).explain(
            ConceptBank("b", ("low", "middle", "high")),
            summaries=SummaryConfig(llm="none"),
            opened=OpenConceptConfig(wanted="no"),
            workers=workers,
        )

    def test_two_give_the_same_bytes(self, index: ClipIndex) -> None:
        one, two = planted(index, "one"), planted(index, "two")
        assert self.explained(index, "one", 1, FakeEmbedder()).shards == ShardCount(LAYERS, 0)
        assert self.explained(index, "two", 2, NAMED).shards == ShardCount(LAYERS, 0)
        assert content(one) == content(two)
        assert not (two / FOLDER).exists()

    def test_they_go_on_with_what_one_has_begun(
        self, index: ClipIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, two = planted(index, "one"), planted(index, "two")
        self.explained(index, "one", 1, NAMED)
        real = stage.store_layer

        def stopped(shards: Any, number: int, *rest: Any) -> None:
            if number == 1:
                raise KeyboardInterrupt
            real(shards, number, *rest)

        monkeypatch.setattr(stage, "store_layer", stopped)
        with pytest.raises(KeyboardInterrupt):
            self.explained(index, "two", 1, NAMED)
        monkeypatch.undo()
        assert self.explained(index, "two", 3, NAMED).shards == ShardCount(LAYERS, 1)
        assert content(one) == content(two)

    def test_the_command_line(self, index: ClipIndex, answer: Answer, tmp_path: Path) -> None:
        one, two = planted(index, "one"), planted(index, "two")
        bank = tmp_path / "b.txt"
        bank.write_text("low\nmiddle\nhigh\n")
        options = ["--concepts", str(bank), "--llm", "none", "--open-concepts", "no", "--embedder", NAMED]
        for run, workers in (("one", "1"), ("two", "2")):
            result = answer("explain", f"s/{run}", *options, "--workers", workers)
            assert (result["shards"], result["resumed"], result["units"]) == (LAYERS, 0, 5 * LAYERS)
        assert content(one) == content(two)

    def test_an_embedder_that_they_cannot_load_is_refused(self, index: ClipIndex) -> None:
        folder = planted(index, "one")
        before = content(folder)
        with pytest.raises(
            InputError, match="the embedder of index 's' cannot be loaded: unknown embedder 'fake'"
        ):
            self.explained(index, "one", 2, FakeEmbedder())
        assert content(folder) == before


def test_two_writers(index: ClipIndex, home: Path) -> None:
    folder = planted(index, "whole")
    with locked(folder, "record"), pytest.raises(InputError, match=r"whole is in use: .* runs `record`"):
        explained(home, "whole")


def test_units_are_read_part_by_part(index: ClipIndex, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ROW_GROUP", 2)
    planted(index, "whole")
    units = explained(home, "whole")
    parts = list(units.in_parts(clips=True))
    assert [len(part) for part in parts] == [2, 2, 1] * LAYERS
    assert "units" not in vars(units)  # nothing was kept
    assert [unit for part in parts for unit in part] == list(units)
    bare = [replace(unit, top=(), low=()) for unit in units]
    assert [unit for part in units.in_parts() for unit in part] == bare
