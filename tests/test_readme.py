"""What the README tells a newcomer to copy works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from and_retrieval import soundbank
from and_retrieval.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_network_can_be_recorded_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"<!-- example: target -->\n```python\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    command = re.search(
        r"^and-retrieval (record mine --target my_network\.py:load .*)$", README, re.MULTILINE
    )
    assert code
    assert command
    (tmp_path / "my_network.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    source = soundbank.render(tmp_path / "sounds", concepts=["siren", "rain"])
    assert main(["index", str(source), "--name", "mine"]) == 0
    assert main(command[1].replace('"', "").split()) == 0
    out = capsys.readouterr().out
    assert "4  32 units" in out
    assert "7  10 units" in out


def test_every_verb_of_the_readme_exists(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = set(re.findall(r"and-retrieval ([a-z]+)", README))
    assert {
        "index", "record", "explain", "search", "prune", "compare", "runs", "report", "bench"
    } <= verbs  # fmt: skip
    for verb in verbs:
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_the_files_it_points_to_exist() -> None:
    for place in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (Path(__file__).parents[1] / place).exists(), place
