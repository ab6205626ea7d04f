"""Audits: planted labels against tables of what is expected, as typed, with exit codes; and bad tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Answer
from planting import plant, say
from sounds import tone

from and_retrieval.benchmark.audit import audit, read_expectations
from and_retrieval.cli import main
from and_retrieval.clips.index import ClipIndex
from and_retrieval.errors import InputError
from and_retrieval.explanation.stored import Explained
from and_retrieval.recording.recording import Recording
from and_retrieval.types import Embedder, Explanation, Label, Meaning, UnitFaithfulness

HOLDS = UnitFaithfulness(30, 0.5, 0.1, 0.2, 0.75, 0.2, 0.01, True)
FAILS = replace(HOLDS, reliable=False)
BANK = ("Bark", "Rain", "Chicken, rooster", "Siren", "Engine", "Speech")


def unit(
    layer: str, number: int, label: str, test: UnitFaithfulness | None = HOLDS, *more: str
) -> Explanation:
    reliable = "untested" if test is None else "holds" if test.reliable else "fails"
    meanings = tuple(Meaning((Label(name, 0.2),), (0,), faithfulness=HOLDS) for name in more)
    return Explanation(
        layer, number, labels=(Label(label, 0.5),), faithfulness=test, reliable=reliable, meanings=meanings
    )


UNITS = (
    unit("block1", 0, "Bark", None),
    unit("block1", 1, "Engine"),
    unit("block2", 0, "Bark"),
    unit("block2", 1, "Siren", FAILS),
    unit("block2", 2, "Chicken, rooster", HOLDS, "Chicken, rooster", "Rain"),
    unit("quiet", 0, "Rain", None),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    import soundfile

    folder = tmp_path_factory.mktemp("audit")
    (folder / "sounds").mkdir()
    for number in range(3):
        soundfile.write(folder / f"sounds/{number}.wav", tone(300.0 + 200 * number, 1.0, 16_000), 16_000)
    index = ClipIndex.build(folder / "sounds", embedder, folder / "home/s")
    layers = {name: np.random.default_rng(0).random((3, count)) for name, count in
              (("block1", 2), ("block2", 3), ("quiet", 1))}  # fmt: skip
    recording = Recording.open(plant(index, layers, "p"), index)
    say(recording, UNITS, concepts=BANK)
    return folder / "home"


@pytest.fixture
def explained(built: Path, embedder: Embedder) -> Explained:
    from and_retrieval.explanation.stored import load_explained

    index = ClipIndex.open(built / "s", embedder)
    return load_explained(Recording.open(index.folder.run("p"), index))


def table(folder: Path, *lines: str) -> Path:
    path = folder / "expected.csv"
    path.write_text("\n".join(["units,concept,expected", *lines]) + "\n")
    return path


@pytest.mark.usefixtures("in_built")
class TestCommand:
    def test_all_as_expected(self, tmp_path: Path, answer: Answer) -> None:
        path = table(
            tmp_path, "block*,bark,yes", "block1,bark,no", "block2:2,rooster,yes", "block2:2, rain ,YES"
        )
        result = answer("audit", "s/p", str(path))
        assert (result["passed"], result["failed"]) == (True, 0)
        assert [check["having"] for check in result["checks"]] == [
            ["block2:0"],
            [],
            ["block2:2"],
            ["block2:2"],
        ]
        assert result["checks"][2]["labels"] == ["Chicken, rooster"]
        assert [(check["looked_at"], check["tested"]) for check in result["checks"]][1] == (2, 1)

    def test_what_fails_is_a_table_and_exit_code_1(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = table(tmp_path, "block2,siren,yes", "block2,bark,no", "block2:[01],bark,yes")
        assert main(["audit", "s/p", str(path)]) == 1
        out = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in out[1:4]] == ["FAIL", "FAIL", "ok"]
        assert "none of 3 units (3 tested)" in out[1]
        assert "block2:0" in out[2]
        assert out[-1] == "s/p: 2 of 3 expectations fail"
        assert main(["audit", "s/p", str(path), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["failed"] == 2

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("block9,bark,yes", "line 2: unknown recorded layer 'block9'"),
            ("block1:7,bark,yes", "line 2: 'block1:7' matches no unit"),
            ("quiet,rain,no", "line 2: no label of 'quiet' could be tested"),
            ("block1,blorft grelb,yes", "concept 'blorft grelb'"),
            ("block1,bark,maybe", "line 2: give units, a concept, and expected as yes or no"),
            ("block1,,yes", "line 2: give units"),
            ("block1,bark", "line 2: give units"),
        ],
    )
    def test_bad_lines_are_one_line_and_exit_code_2(
        self, line: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["audit", "s/p", str(table(tmp_path, line))]) == 2
        caught = capsys.readouterr()
        assert says in caught.err
        assert (caught.err.count("\n"), caught.out) == (1, "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column units, concept, expected"),
        ("units,concept\nblock1,bark\n", "has no column expected"),
        ("units,concept,expected\n\n,,\n", "holds no expectation"),
    ],
)
def test_a_table_without_expectations(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        read_expectations(tmp_path / "x.csv")
    with pytest.raises(InputError, match=r"gone\.csv is not a readable UTF-8 CSV"):
        read_expectations(tmp_path / "gone.csv")


def test_in_python(explained: Explained, tmp_path: Path) -> None:
    (check,) = audit(explained, read_expectations(table(tmp_path, "*,engine,yes")))
    assert check.passed
    assert (check.units, check.tested, check.having) == (6, 4, ("block1:1",))
