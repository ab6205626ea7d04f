"""Indexes and runs with a store of their vectors, made by machines that share no folder."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import Answer
from killing import content
from places import Place
from sounds import WriteSound, tone

from and_retrieval import faiss_index
from and_retrieval.cli import main
from and_retrieval.neighbours import STORES

HERE = Path(__file__).parent
RATE = 8_000
CLIPS = 12
INDEX = ["--name", "x", "--embedder", f"{HERE / 'embedders.py'}:FakeEmbedder", "--shard-seconds", "2.5"]
RECORD = [
    "record", "x", "--target", f"{HERE / 'targets/deep.py'}:wide", "--run", "r", "--top-k", "3", "--shard-seconds",
    "2.5",
]  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A verb whose work is shared.

    Attributes:
        name: What it makes, NAME or NAME/RUN.
        line: The command line.
        files: What the files of its store are called.
        query: A search that the store answers.
    """

    name: str
    line: list[str]
    files: str
    query: list[str]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the stores, used from the first vector on."""
    if request.param == "lance":
        pytest.importorskip("lance")
    monkeypatch.setattr(faiss_index, "APPROXIMATE_FROM", 1)
    return str(request.param)


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number in range(CLIPS):
        write_sound(f"sounds/{number:02}.wav", tone(200 + 80 * number, 1, RATE, 0.05 * (number + 1)), RATE)
    return tmp_path / "sounds"


def work_of(verb: str, sounds: Path, store: str) -> Work:
    options = ["--store", store, "--device", "cpu"]
    if verb == "index":
        line = ["index", str(sounds), *INDEX, "--moments", *options]
        return Work("x", line, "directions-*", ["search", "x", "a dog", "-k", "5"])
    main(["index", str(sounds), *INDEX, "--no-moments", "--home", str(sounds.parent / "machine")])
    return Work("x/r", [*RECORD, *options], "unit_lists-*", ["search", "x/r", "a dog", "-k", "5"])


def machine(sounds: Path, name: str) -> str:
    """The home of a machine; where clips are indexed already, it has a copy of the index."""
    first, home = sounds.parent / "machine", sounds.parent / name
    if first.exists():
        shutil.copytree(first, home)
    return str(home)


def made(home: str, work: Work) -> Path:
    name, _, run = work.name.partition("/")
    return Path(home, name, "runs", run) if run else Path(home, name)


@pytest.mark.parametrize("verb", ["index", "record"])
def test_what_two_machines_leave_is_what_one_makes(
    verb: str, store: str, place: Place, sounds: Path, answer: Answer
) -> None:
    work = work_of(verb, sounds, store)
    whole, merging = machine(sounds, "whole"), machine(sounds, "merging")
    one = answer(*work.line, "--home", whole)
    for part in (2, 1):
        share = ["--shard", f"{part}/2", "--to", place.url]
        assert answer(*work.line, *share, "--home", machine(sounds, f"{part}"))["resumed"] == 0
    merged = answer("merge", work.name, "--from", place.url, "--home", merging)
    assert merged["shards"] == merged["resumed"] == one["shards"] == 6
    expected, files = content(made(whole, work)), content(made(merging, work))
    [name] = made(merging, work).glob(work.files)
    assert name.suffix == STORES[store].file
    if store == "lance":  # its files have random names
        expected, files = (
            {name: text for name, text in made.items() if name != "manifest.json" and ".lance" not in name}
            for made in (expected, files)
        )
    assert files == expected
    found, alone = (answer(*work.query, "--home", home) for home in (merging, whole))
    assert found["results"] == alone["results"]


@pytest.mark.parametrize("store", ["lance"], indirect=True)
@pytest.mark.parametrize("verb", ["index", "record"])
def test_only_who_merges_needs_the_package_of_the_store(
    verb: str,
    store: str,
    sounds: Path,
    tmp_path: Path,
    answer: Answer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it is missing, no shard is lost."""
    (tmp_path / "there").mkdir()
    work, address = work_of(verb, sounds, store), f"file://{tmp_path}/there"
    merge = ["merge", work.name, "--from", address, "--home", machine(sounds, "merging")]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "lance", None)  # imports of it fail
        share = [*work.line, "--shard", "1/1", "--to", address, "--home", machine(sounds, "1")]
        assert main(share) == 0
        capsys.readouterr()
        assert main(merge) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "pip install 'and-retrieval[lance]'" in message
    assert answer(*merge)["shards"] == 6
