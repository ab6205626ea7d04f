"""Code that a manifest names runs only if the user has named it on this machine, or names it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from documents import rewritten
from sounds import noise, tone

from and_retrieval import ClipIndex
from and_retrieval.checkpoints import named_code
from and_retrieval.checkpoints.named_code import check_noted, is_noted, note
from and_retrieval.cli import main
from and_retrieval.errors import InputError
from and_retrieval.store import HOME_VARIABLE

EMBEDDER = """
from pathlib import Path
import numpy as np
Path(__file__).with_name("ran").touch()

class Small:
    dim, sample_rate, fingerprint = 2, 8000, "named code"
    def embed_audio(self, waveforms):
        return unit([[1.0, np.abs(np.diff(w)).mean() * 9] for w in waveforms])
    def embed_text(self, texts):
        return unit([[1.0, len(text)] for text in texts])

def unit(rows):
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

def load():
    return Small()
"""
NETWORK = """
from pathlib import Path
import sys
sys.path.insert(0, {tests!r})
from targets.planted import load as planted
Path(__file__).with_name("ran").touch()

def load():
    return planted()
"""


@pytest.fixture
def shared_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home as somebody else has made it: index `s` by an embedder of theirs, and run `p` of their network."""
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "theirs"))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    for number in range(6):
        sound = noise(0.5, 8000, number) if number % 2 else tone(400, 0.5, 8000)
        path = tmp_path / "sounds" / ("noise" if number % 2 else "tone") / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, 8000)
    (tmp_path / "ears.py").write_text(EMBEDDER)
    (tmp_path / "net.py").write_text(NETWORK.format(tests=str(Path(__file__).parent)))
    embedder, target = f"{tmp_path / 'ears.py'}:load", f"{tmp_path / 'net.py'}:load"
    assert main(["index", str(tmp_path / "sounds"), "--name", "s", "--embedder", embedder]) == 0
    assert main(["record", "s", "--target", target, "--run", "p"]) == 0
    (tmp_path / "ran").unlink()
    return tmp_path


@pytest.fixture
def refused(shared_run: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused("prune", ...)` -> what a command says that runs none of that code."""

    def run(*line: str) -> str:
        capsys.readouterr()
        assert main(line) == 2
        assert not (shared_run / "ran").exists()
        return capsys.readouterr().err

    return run


PRUNE = ("prune", "s/p", "tone", "--budget", "1", "--draws", "1")


def test_what_was_named_here_runs_again(shared_run: Path) -> None:
    assert main(["search", "s", "tone"]) == 0
    assert main(PRUNE) == 0
    assert (shared_run / "ran").exists()


def test_what_was_named_elsewhere_runs_only_if_it_is_named_again(
    shared_run: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(shared_run / "ours"))
    ears, net = f"{shared_run / 'ears.py'}:load", f"{shared_run / 'net.py'}:load"
    for line in (
        ("search", "s", "tone"),
        ("search", "s/p", "tone"),
        ("explain", "s/p", "--llm", "none"),
        PRUNE,
    ):
        assert "names the program code" in (message := refused(*line))
        # PRUNE too: its concept needs the embedder, before the network is loaded.
        assert "it is not run. If you trust it, name it: " in message
        assert f"--target {net}" in message or f"--embedder {ears}" in message
    message = refused(*PRUNE, "--embedder", "nonsense")
    assert f"run 's/p' names the program code '{net}'" in message
    assert main([*PRUNE, "--target", net, "--embedder", ears]) == 0
    (shared_run / "ran").unlink()
    assert main(PRUNE) == 0  # from now on it is known here
    assert (shared_run / "ran").exists()


@pytest.mark.parametrize("name", ["ears.py", "net.py"])
def test_what_was_changed_since_does_not_run(
    name: str, shared_run: Path, refused: Callable[..., str]
) -> None:
    with (shared_run / name).open("a") as file:
        file.write("\n# another version\n")
    message = refused(*(("search", "s", "tone") if name == "ears.py" else PRUNE))
    assert "was not named on this machine before, or has changed since" in message


def test_the_same_content_elsewhere_does_not_run(shared_run: Path, refused: Callable[..., str]) -> None:
    """What the code imports lies beside it, and may be another there."""
    (shared_run / "copy").mkdir()
    shutil.copy(shared_run / "net.py", shared_run / "copy")
    rewritten(shared_run / "home/s/runs/p/manifest.json", target=f"{shared_run / 'copy/net.py'}:load")
    assert "it is not run" in refused(*PRUNE)
    assert not (shared_run / "copy" / "ran").exists()


@pytest.mark.parametrize(
    "spec", ["os:abort", "sys:exit", "antigravity:fly", "evil:load", "email.message:Message"]
)
def test_modules_do_not_run_either(
    spec: str, shared_run: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared_run)
    (shared_run / "evil.py").write_text(EMBEDDER)
    rewritten(shared_run / "home/s/runs/p/manifest.json", target=spec)
    assert f"names the program code '{spec}'" in refused(*PRUNE)
    rewritten(shared_run / "home/s/manifest.json", embedder=spec)
    assert f"names the program code '{spec}'" in refused("search", "s", "tone")


def test_nothing_runs_while_an_index_is_opened_in_python(
    shared_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(shared_run / "ours"))
    index = ClipIndex.open(shared_run / "home/s")
    with pytest.raises(InputError, match="is not run"):
        index.text_vectors(["tone"])
    assert not (shared_run / "ran").exists()
    named = ClipIndex.open(shared_run / "home/s", f"{shared_run / 'ears.py'}:load")
    assert named.text_vectors(["tone"]).shape == (1, 2)


# ---------- what is noted ----------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("form", ["{}/a.py:load", "torch:{}/a.pt2"])
def test_place_and_content_and_function_count(form: str, tmp_path: Path) -> None:
    spec = form.format(tmp_path)
    file = tmp_path / ("a.py" if "a.py" in form else "a.pt2")
    assert not is_noted(spec)
    check_noted(spec, "run 'x'", "name it")  # there is nothing to run: the loader says so
    file.write_text("one")
    with pytest.raises(InputError, match=r"run 'x' names the program code .* If you trust it, name it$"):
        check_noted(spec, "run 'x'", "name it")
    note(spec)
    assert is_noted(spec)
    assert not is_noted(spec.replace(":load", ":other") if "load" in spec else "torch:elsewhere")
    file.write_text("two")
    assert not is_noted(spec)
    file.write_text("one")
    assert is_noted(spec)


def test_a_module_is_found_without_importing_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("pack/__init__.py", "pack/inner/__init__.py", "pack/inner/mod.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert named_code._module_file("pack.inner.mod") == tmp_path / "pack/inner/mod.py"
    assert named_code._module_file("pack.inner") == tmp_path / "pack/inner/__init__.py"
    assert named_code._module_file("pack.nothing.mod") is None
    note("pack.inner.mod:load")
    assert is_noted("pack.inner.mod:load")


def test_a_cache_that_cannot_be_written_means_to_name_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "file"))
    (tmp_path / "a.py").write_text("")
    note(f"{tmp_path / 'a.py'}:load")
    assert not is_noted(f"{tmp_path / 'a.py'}:load")


@pytest.mark.parametrize(
    "text", ["", ":", "a:b", "é\0:x", "a" * 9999 + ":b", "..:x", ".x:y", "torch:", "a.py"]
)
def test_no_spec_breaks_it(text: Any, cache: Path) -> None:
    note(text)
    assert not is_noted(text)
