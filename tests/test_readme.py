"""What the README and docs/ tell a newcomer to copy works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from readme_examples import PAGES, ROOT, readme_example, readme_text

from and_retrieval import soundbank
from and_retrieval.cli import main

LINKED = (*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "index/README.md", "bench/README.md")))


def test_the_example_network_can_be_recorded_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = re.search(
        r"^and-retrieval (record mine --target my_network\.py:load .*)$", readme_text(), re.MULTILINE
    )
    assert command
    (tmp_path / "my_network.py").write_text(readme_example("target"))
    monkeypatch.chdir(tmp_path)
    source = soundbank.render(tmp_path / "sounds", concepts=["siren", "rain"])
    assert main(["index", str(source), "--name", "mine"]) == 0
    assert main(command[1].replace('"', "").split()) == 0
    out = capsys.readouterr().out
    assert "4  32 units" in out
    assert "7  10 units" in out


def test_every_verb_of_the_readme_exists(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = set(re.findall(r"and-retrieval ([a-z]+)", readme_text()))
    assert {
        "index", "record", "explain", "search", "prune", "compare", "export", "runs", "report", "bench"
    } <= verbs  # fmt: skip
    for verb in verbs:
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_places_a_page_points_to_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for place in re.findall(r'\]\(((?!http)[^)]+)\)|(?:href|src)="((?!http)[^"]+)"', text):
        path, _, heading = "".join(place).partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), "".join(place)
        if heading:
            assert heading in headings(linked), "".join(place)


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
