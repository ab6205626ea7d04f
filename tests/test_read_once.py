"""What a verb reads of a run it reads once: the manifest is parsed once, every file and the weights are hashed once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from targets.two_per_class import UNITS_OF

from and_retrieval import ClipIndex, Run, load_embedder, load_target, record, soundbank, store, targets
from and_retrieval.cli import main
from and_retrieval.config import SummaryConfig
from and_retrieval.store import HOME_VARIABLE

TARGET = f"{Path(__file__).parent / 'targets' / 'two_per_class.py'}:load"


class Watch:
    """Counts of what happens while it is on.

    Attributes:
        opened: Files that were opened for reading, by their path.
        hashed: Files that were verified, by their path.
        weights: How often weights of a network were hashed.
    """

    on = False

    def __init__(self) -> None:
        self.opened: Counter[Path] = Counter()
        self.hashed: Counter[Path] = Counter()
        self.weights = 0

    def audit(self, event: str, details: tuple[Any, ...]) -> None:
        """Take in an event of the interpreter."""
        if self.on and event == "open" and isinstance(details[0], str) and "r" in str(details[1] or ""):
            self.opened[Path(details[0])] += 1


@pytest.fixture(scope="module")
def auditor() -> list[Watch]:
    """Whoever is in the list hears of every file that is opened; a hook cannot be taken out again."""
    watches: list[Watch] = []

    def hook(event: str, details: tuple[Any, ...]) -> None:
        for watch in watches:
            watch.audit(event, details)

    sys.addaudithook(hook)
    return watches


@pytest.fixture
def watch(auditor: list[Watch], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Counts what the test does from here on."""
    watch, digest, weights_hash = Watch(), store.sha256, targets.weights_hash

    def hashed(path: Path) -> str:
        watch.hashed[path] += 1
        return digest(path)

    def weighed(module: Any, *without: Any) -> str:
        watch.weights += 1
        return weights_hash(module, *without)

    monkeypatch.setattr(store, "sha256", hashed)
    for name, module in list(sys.modules.items()):
        if name.startswith("and_retrieval") and getattr(module, "weights_hash", None) is weights_hash:
            monkeypatch.setattr(module, "weights_hash", weighed)
    auditor.append(watch)
    watch.on = True
    yield watch
    auditor.remove(watch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with index `s` and its run `net`, explained."""
    home = tmp_path_factory.mktemp("home")
    source = soundbank.render(tmp_path_factory.mktemp("sounds"), concepts=list(UNITS_OF))
    index = ClipIndex.build(source, load_embedder(), home / "s")
    record(load_target(TARGET), index, run="net").explain("labels", summaries=SummaryConfig(llm="none"))
    return home


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the run, in the home that commands find."""
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return folder / "s/runs/net"


def check(watch: Watch, run: Path) -> None:
    """See to it that both manifests were opened once, and no file was hashed twice."""
    index = run.parents[1]
    assert watch.opened[run / "manifest.json"] == 1
    assert watch.opened[index / "manifest.json"] == 1
    twice = {path.name: times for path, times in watch.hashed.items() if times > 1}
    assert not twice
    assert {path.name.partition("-")[0] for path in watch.hashed} >= {"clips", "vectors", "skipped"}


def names(watch: Watch) -> set[str]:
    """Plain names of the files of the run that were verified."""
    return {path.name.partition("-")[0] for path in watch.hashed if path.parent.name == "net"}


def test_the_watch_sees_what_it_is_to_see(run: Path, watch: Watch) -> None:
    for _ in range(2):
        opened = Run.open(store.Home(run.parents[2]).run("s", "net"), ClipIndex.open(run.parents[1]))
        _ = opened.layers
    assert watch.opened[run / "manifest.json"] == 2
    assert watch.hashed[opened.stored.file("evidence.safetensors")] == 2


@pytest.mark.parametrize(
    "options",
    [[], ["--concepts", "labels", "--evidence", "both", "--score", "cos-cubed"]],
    ids=["plain", "both"],
)
def test_explain(options: list[str], run: Path, watch: Watch) -> None:
    assert main(["explain", "s/net", "--llm", "none", *options]) == 0
    check(watch, run)
    assert names(watch) >= {"evidence", "activations", "qualities"}
    assert watch.weights == 0


@pytest.mark.parametrize(
    "options",
    [
        [], ["--layers", "relu"], ["--like", "relu:1", "--minus", "rain"],
        ["--layers", "re*", "--polysemanticity", "0:"], ["--reliable"],
    ],
)  # fmt: skip
def test_search(options: list[str], run: Path, watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "s/net", "siren", *options]) in (0, 2)  # no unit may be reliable
    captured = capsys.readouterr()
    assert captured.out or "passes the filters" in captured.err
    check(watch, run)
    assert watch.opened[run / "explanation.json"] == 1
    assert names(watch) <= {"unit_index", "units"}  # and nothing that a search does not need


@pytest.mark.parametrize("selector", ["selective", "captions", "retrieval", "open", "random", "oracle"])
def test_prune(selector: str, run: Path, watch: Watch, tmp_path: Path) -> None:
    line = ["prune", "s/net", "smoke alarm", "--selector", selector, "--budget", "2", "--budget", "4"]
    assert main([*line, "--export", str(tmp_path / "p.safetensors"), "--draws", "2"]) == 0
    check(watch, run)
    assert names(watch) >= {"evidence", "activations", "unit_index"}
    assert watch.weights == 1


@pytest.mark.parametrize("line", [["report", "s/net"], ["export", "s/net"], ["compare", "s/net", "s/net"]])
def test_the_other_verbs(line: list[str], run: Path, watch: Watch, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out.html")] if line[0] != "compare" else []
    assert main([*line, *out]) == 0
    runs = 2 if line[0] == "compare" else 1  # of two runs each is opened
    assert watch.opened[run / "manifest.json"] == runs
    assert max(watch.hashed.values()) <= runs


def test_runs_reads_manifests_and_nothing_else(run: Path, watch: Watch) -> None:
    assert main(["runs"]) == 0
    assert watch.opened[run / "manifest.json"] == watch.opened[run.parents[1] / "manifest.json"] == 1
    assert not watch.hashed
