"""A release: sdist and wheel are built, and tried in a bare environment away from the checkout."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import and_retrieval
from and_retrieval.store import HOME_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
LEFT_BEHIND = (".*", "build", "dist", "index", "*.egg-info", "demo", "shared", "__pycache__")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist of the checkout, and a wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    build = "from setuptools.build_meta import {0}; print({0}({1!r}))"
    run(sys.executable, "-c", build.format("build_sdist", str(folder)), cwd=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "sdist", filter="data")
    (unpacked,) = (folder / "sdist").iterdir()
    run(sys.executable, "-c", build.format("build_wheel", str(folder)), cwd=unpacked)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_what_it_needs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "and_retrieval").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package <= names, package - names
    assert "and_retrieval/models/manifest.toml" in names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)
    text = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "Typing :: Typed" in text


@pytest.fixture(scope="module")
def bare(built: Path) -> Iterator[Path]:
    """The programs of a fresh environment with nothing but the wheel and what it depends on, as a user installs it.

    It is removed afterwards, as it takes 2.5 GB.
    """
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "bare", cwd=built)
    programs = built / "bare" / "bin"
    pip = (programs / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    torch = re.search(r"^TORCH := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert torch
    run(*pip, torch[1], cwd=built)
    run(*pip, f"{wheel}[embedded]", cwd=built)
    yield programs
    shutil.rmtree(built / "bare")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder far from the checkout, and no setting that leads back."""
    for name in ("PYTHONPATH", "VIRTUAL_ENV", HOME_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def first_five_minutes() -> list[list[str]]:
    """The commands of the README's section of that name, as a shell reads them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("## The first five minutes")[2].partition("```sh\n")[2].partition("```")[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words for words in lines if words and words[0] == "and-retrieval"]


def page_of(program: Path, arguments: list[str], cwd: Path) -> str:
    """The page that `serve` answers with."""
    server = subprocess.Popen(
        [program, *arguments, "--port", "0", "--json"], cwd=cwd, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        address = json.loads(server.stdout.readline())["url"]
        with urllib.request.urlopen(address, timeout=60) as answer:
            return str(answer.read().decode())
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in (0, 130)


@pytest.mark.slow
def test_the_first_five_minutes_in_a_bare_environment(bare: Path, away: Path) -> None:
    """The commands of the README, with fewer sentences than they would write."""
    where = run(bare / "python", "-c", "import and_retrieval as a; print(a.__file__)", cwd=away)
    assert Path(where.strip()).is_relative_to(bare.parent)
    run(bare / "pip", "check", cwd=away)
    render = "from pathlib import Path; from and_retrieval import soundbank; soundbank.render(Path('sounds'), 6, {0!r})"
    run(bare / "python", "-c", render.format(["dog bark", "rain", "siren"]), cwd=away)
    (away / "sounds/clips.csv").unlink()  # a folder of folders, as people have it
    *commands, serve = first_five_minutes()
    assert [words[1] for words in (*commands, serve)] == [
        "index", "record", "explain", "search", "search", "prune", "report", "serve"
    ]  # fmt: skip
    for program, verb, *rest in commands:
        fewer = ("--summaries", "10") if verb == "explain" else ()
        answer = run(bare / program, verb, *rest, *fewer, cwd=away)
        assert answer.strip(), verb
        if verb == "search":
            assert "dog" in answer.lower()
    assert "<title>" in page_of(bare / serve[0], serve[1:], away)
    assert (away / "without_dog.safetensors").stat().st_size > 10**6
    (report,) = (away / "index").rglob("*.html")
    assert "dog bark" in report.read_text(encoding="utf-8")
    result = json.loads(run(bare / "and-retrieval", "bench", "retrieval", "sounds", "--json", cwd=away))
    assert set(result["figures"]["embedded"]) == {"class_to_audio", "zero_shot"}


# The citation file: what its format asks for (citation-file-format 1.2.0).

NEEDED = {"cff-version", "message", "title", "authors"}
KNOWN = NEEDED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
    "version",
}  # fmt: skip
PERSON = {
    "family-names",
    "given-names",
    "name-particle",
    "name-suffix",
    "affiliation",
    "alias",
    "email",
    "orcid",
    "website",
}
ENTITY = {"name", "alias", "email", "orcid", "website", "location", "date-start", "date-end"}


def citation_faults(citation: dict[str, Any]) -> list[str]:
    """What the format does not allow in a citation file."""
    faults = [f"lacks {name}" for name in sorted(NEEDED - citation.keys())]
    faults += [f"has {name}" for name in sorted(citation.keys() - KNOWN)]
    if citation.get("cff-version") != "1.2.0":
        faults.append("cff-version is not 1.2.0")
    if citation.get("type", "software") not in ("software", "dataset"):
        faults.append("type is neither software nor dataset")
    cited = [citation, *citation.get("references", ())]
    for work in cited:
        missing = {"authors", "title", "type" if work is not citation else "message"} - work.keys()
        faults += [f"a work lacks {name}" for name in sorted(missing)]
        authors = work.get("authors") or []
        faults += ["a work has no author"] * (not authors)
        for author in authors:
            entity = "name" in author
            if not author or author.keys() - (ENTITY if entity else PERSON):
                faults.append(f"author {author} is neither a person nor an entity with a name")
    return faults


def test_the_citation_file_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation_faults(citation) == []
    assert citation["version"] == and_retrieval.__version__
    assert citation["license"] == "Apache-2.0"
    for change, fault in (
        ({"authors": []}, "a work has no author"),
        ({"authors": [{"nom": "x"}]}, "author {'nom': 'x'} is neither a person nor an entity with a name"),
        ({"year": 2026}, "has year"),
        ({"cff-version": 1.2}, "cff-version is not 1.2.0"),
    ):
        assert citation_faults({**citation, **change}) == [fault]
    assert citation_faults({key: value for key, value in citation.items() if key != "title"}) == [
        "lacks title", "a work lacks title"
    ]  # fmt: skip
