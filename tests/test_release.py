"""A release: sdist and wheel are built and tried away from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from sounds import WriteSound, tone

ROOT = Path(__file__).resolve().parents[1]
LEFT_BEHIND = (".*", "build", "dist", "index", "*.egg-info", "demo", "shared", "__pycache__")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
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


@pytest.mark.slow
def test_it_runs_away_from_the_checkout(built: Path, write_sound: WriteSound, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(target)
    for number, name in enumerate(("low", "high")):
        write_sound(f"sounds/{name}/{name}.wav", tone(300.0 + 900 * number, 1.0, 16_000))
    bare = tmp_path / "bare"
    bare.mkdir()

    def command(*words: str) -> str:
        return run(sys.executable, "-m", "and_retrieval", *words, cwd=bare, PYTHONPATH=str(target))

    where = run(
        sys.executable, "-c", "import and_retrieval as a; print(a.__file__)", cwd=bare, PYTHONPATH=str(target)
    )
    assert Path(where.strip()).is_relative_to(target)
    assert json.loads(command("index", "../sounds", "--name", "mine", "--json"))["clips"] == 2
    result = json.loads(command("bench", "retrieval", "../sounds", "--json"))
    assert set(result["figures"]["embedded"]) == {"class_to_audio", "zero_shot"}
    assert "mine" in command("runs")
