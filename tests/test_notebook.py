"""What runs, units, search results and results of pruning show of themselves in a notebook."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import soundfile
from served import RUN
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run
from and_retrieval.errors import InputError
from and_retrieval.types import Explanation, Label


@pytest.fixture(scope="module")
def run(served_home: Path) -> Run:
    index = ClipIndex.open(served_home / "s")
    return Run.open(index.folder.run(RUN.split("/")[1]), index)


class Elements(HTMLParser):
    """The elements of some HTML, which must all be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def sounds(self) -> list[float]:
        """Length in seconds of every sound that can be played."""
        sources = [str(attrs["src"]) for tag, attrs in self.seen if tag == "audio"]
        whole = [base64.b64decode(source.removeprefix("data:audio/mpeg;base64,")) for source in sources]
        return [soundfile.info(io.BytesIO(sound)).duration for sound in whole]


def test_a_unit_is_heard(run: Run) -> None:
    unit = run.unit("relu:4")
    shown = Elements(unit._repr_html_())
    lengths = [run.index.clips[clip.row].duration for clip in unit.explanation.top[:3]]
    assert shown.sounds() == pytest.approx(lengths, abs=0.1)
    with pytest.raises(InputError, match="there is no unit 8"):
        run.unit("relu:8")


def test_search_results_are_a_list_that_is_heard(run: Run) -> None:
    results = run.search("smoke alarm", k=3)
    assert isinstance(results, list)
    assert {unit["unit"] for unit in results if unit["layer"] == "relu"} == set(UNITS_OF["smoke alarm"])
    text = results._repr_html_()
    assert len(Elements(text).sounds()) == 3
    assert all(f"{unit['layer']}:{unit['unit']}" in text for unit in results)


def test_a_run_shows_its_layers(run: Run) -> None:
    text = run._repr_html_()
    assert len(Elements(text).sounds()) == 2
    assert "head" in text
    assert re.search(r"\d of \d", text)


def test_pruning_shows_its_curves_and_table(run: Run) -> None:
    text = run.prune("heartbeat", draws=1)._repr_html_()
    assert [tag for tag, _ in Elements(text).seen].count("tr") == 3
    assert "data:image/png" in text
    single = run.prune("heartbeat", budgets=[2], draws=1)._repr_html_()
    assert "data:image/png" not in single


def test_text_from_outside_is_no_markup() -> None:
    hostile = "<script>alert(1)</script>"
    unit = Explanation(hostile, 0, labels=(Label(hostile, 1.0),))
    assert [tag for tag, _ in Elements(unit._repr_html_()).seen] == ["p", "b", "br", "br"]


def test_a_run_serves_its_page_beside_the_notebook(run: Run) -> None:
    server = run.serve(port=0)
    try:
        assert f"{server.url}/#token=" in server._repr_html_()
        with urlopen(Request(f"{server.url}/api/status"), timeout=30) as answer:
            assert b'"start":"s/net"' in answer.read()
        with pytest.raises(InputError, match=f"port {server.port} is in use"):
            run.serve(port=server.port)
    finally:
        server.stop()
    assert not Path(server.served.folder).exists()
