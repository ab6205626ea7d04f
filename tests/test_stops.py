"""Verbs that are stopped, or that find no room, no memory or nowhere to write: one line, nothing lost, no litter."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sounds import noise, tone

from and_retrieval import interruption
from and_retrieval.cli import main
from and_retrieval.files import SCRATCH, replacing, settle
from and_retrieval.shards.folder import Shards
from and_retrieval.store import HOME_VARIABLE

EMBEDDER = """
import ctypes, os, signal
import numpy as np

def stop(number):
    os.kill(os.getpid(), number)

def unit(rows):
    rows = np.array(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

class Small:
    dim, sample_rate, fingerprint = 8, 8000, "small"
    def embed_audio(self, waveforms):
        {at_audio}
        return unit([np.abs(np.fft.rfft(w, 14)) + 1e-6 for w in waveforms])
    def embed_text(self, texts):
        {at_text}
        return unit([np.random.default_rng(sum(map(ord, text))).random(8) + 0.1 for text in texts])

def load():
    return Small()
"""
pytestmark = pytest.mark.usefixtures("heeded_signals")
LABELS = ("low", "high", "noise")
TARGET = f"{Path(__file__).parent / 'targets' / 'planted.py'}:load"


def embedder(folder: Path, at_audio: str = "pass", at_text: str = "pass") -> str:
    """A file with an embedder that does something when it is given sound or text; its spec."""
    path = folder / "small.py"
    path.write_text(EMBEDDER.format(at_audio=at_audio, at_text=at_text), encoding="utf-8")
    return f"{path}:load"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, an embedder, and a home with index `s` and its run `p`, explained, pruned and reported."""
    folder = tmp_path_factory.mktemp("stops")
    for number in range(24):
        label = LABELS[number % 3]
        sound = {
            "low": tone(200 + number, 0.5, 8000),
            "high": tone(3000 + number, 0.5, 8000),
            "noise": noise(0.5, 8000, number),
        }[label]
        path = folder / "sounds" / label / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, 8000)
    home = ("--home", str(folder / "home"))
    for line in (
        ["index", str(folder / "sounds"), "--name", "s", "--embedder", embedder(folder)],
        ["record", "s", "--target", TARGET, "--run", "p"],
        ["explain", "s/p", "--llm", "none", "--concepts", "labels", "--open-concepts", "no"],
    ):
        assert main([*line, *home]) == 0
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home, which commands find, beside what was made; the embedder lies where it was."""
    shutil.copytree(made / "home", tmp_path / "home")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path


def state(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def verbs(made: Path, work: Path) -> dict[str, list[str]]:
    return {
        "index": ["index", str(made / "sounds"), "--name", "fresh", "--embedder", f"{made / 'small.py'}:load"],
        "record": ["record", "s", "--target", TARGET, "--run", "p", "--top-k", "5"],
        "explain": ["explain", "s/p", "--llm", "none", "--concepts", "esc50", "--open-concepts", "no"],
        "prune": ["prune", "s/p", "low", "--budget", "1", "--draws", "1", "--export", str(work / "x.safetensors")],
        "report": ["report", "s/p", "--out", str(work / "r.html")],
        "export": ["export", "s/p", "--out", str(work / "units.jsonl")],
        "compare": ["compare", "s/p", "s/p", "--out", str(work / "ab.png")],
    }  # fmt: skip


VERBS = tuple(verbs(Path("a"), Path("b")))


def complaint(capsys: pytest.CaptureFixture[str], code: int, *line: str) -> str:
    """The one line that a command says that ends with an exit code."""
    capsys.readouterr()
    assert main(line) == code, capsys.readouterr()
    said = capsys.readouterr()
    assert said.out == ""
    [text] = [text for text in said.err.splitlines() if not text.startswith("and-retrieval: warning")]
    assert text.startswith("and-retrieval: ")
    return text


# ---------- signals ----------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_verb_without_litter(
    number: signal.Signals, code: int, made: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(work / "home")
    stopping = embedder(work, at_audio=f"stop({int(number)})")
    said = complaint(capsys, code, "index", str(made / "sounds"), "--name", "other", "--embedder", stopping)
    assert said == "and-retrieval: interrupted; what was stored before is unchanged"
    assert state(work / "home") == before


@pytest.mark.parametrize("verb", ["index", "record"])
def test_shards_that_were_finished_before_a_signal_are_used_by_the_next_call(
    verb: str, made: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*verbs(made, work)[verb], "--shard-seconds", "3"]
    assert main(line) == 0
    undisturbed = state(work / "home")
    shutil.rmtree(work / "home")
    shutil.copytree(made / "home", work / "home")
    before = state(work / "home")
    real = Shards.commit

    def stopped(shards: Any, number: int, *rest: Any) -> None:
        real(shards, number, *rest)
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Shards, "commit", stopped)
        complaint(capsys, 143, *line)
    after = state(work / "home")
    assert {name: after[name] for name in before} == before
    [folder] = {Path(name).parent for name in after.keys() - before.keys()}
    assert folder.name == "shards"
    assert [path.name for path in sorted((work / "home" / folder).glob("0*.json"))] == [
        "00000.json",
        "00001.json",
    ]
    capsys.readouterr()
    assert main([*line, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["shards"], result["resumed"]) == (4, 2)
    assert state(work / "home") == undisturbed


def test_the_handlers_of_the_caller_come_back(made: Path, work: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main(["runs"]) == 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_signal_that_is_ignored_stays_ignored(made: Path, work: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        ignoring = embedder(work, at_audio=f"stop({int(signal.SIGHUP)})")
        assert main(["index", str(made / "sounds"), "--name", "other", "--embedder", ignoring]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


LOSING = "ctypes.CFUNCTYPE(None)(lambda: stop({}))()"
"""A callback from C: the exception is printed by ctypes and dropped, and the work goes on."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("verb", ["index", "explain"])
def test_a_signal_that_a_c_library_swallows_still_ends_the_verb(
    verb: str, made: Path, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = state(work / "home")
    losing = embedder(work, LOSING.format(int(signal.SIGINT)), LOSING.format(int(signal.SIGINT)))
    line = verbs(made, work)[verb]
    line = [*(line[:-1] if verb == "index" else [*line, "--embedder"]), losing]
    assert main(line) == 130
    assert state(work / "home") == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_was_written_while_a_signal_was_lost_gets_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with interruption.watched():
        with pytest.raises(interruption.Interrupted), replacing(path) as scratch:  # noqa: PT012
            scratch.write_text("spoiled")
            ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGTERM))()
        assert interruption.received() == signal.SIGTERM
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"
    with interruption.watched():  # the next verb begins anew
        (tmp_path / "b").write_text("new")
        settle(tmp_path / "b", path)


# ---------- no room ----------


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """While the block runs, no file of this process can grow beyond so many bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("size", [0, 300])
def test_no_room_for_a_file(
    verb: str, size: int, made: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(work / "cache"))
    size = max(size, 20_000) if verb == "report" else size  # sounds are encoded in files, of memory
    line = verbs(made, work)[verb]
    if verb == "prune":
        line += ["--target", TARGET, "--embedder", f"{made / 'small.py'}:load"]
    elif verb not in ("index", "export"):
        line += ["--embedder", f"{made / 'small.py'}:load"]
    before = state(work / "home")
    with files_up_to(size):
        said = complaint(capsys, 2, *line)
    assert any(
        words in said for words in ("cannot be written", "no room", "no space", "too large", "could not")
    )
    assert state(work / "home") == before
    assert not list(work.rglob(f"*{SCRATCH}"))
    assert {path.name for path in work.iterdir()} <= {"home", "cache"}


def test_a_small_disk_ends_record_in_one_line(made: Path, tmp_path: Path) -> None:
    """Activations are written through a memory map: where the disk is full, that would kill the process (SIGBUS)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("a small disk can be mounted only by root")
    try:
        shutil.copytree(made / "home" / "s", disk / "s", ignore=shutil.ignore_patterns("runs"))
        full = disk / "full"
        with pytest.raises(OSError, match="No space left"):
            full.write_bytes(bytes(300_000))
        full.write_bytes(bytes(max(full.stat().st_size - 8192, 0)))
        before = state(disk)
        ended = subprocess.run(
            [sys.executable, "-m", "and_retrieval", "record", "s", "--target", TARGET, "--home", disk],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr
        assert state(disk) == before
    finally:
        subprocess.run(["umount", disk], check=True)


# ---------- places that cannot be written to ----------


@pytest.mark.parametrize("verb", ["index", "runs", "record", "search"])
def test_a_home_that_is_a_file(verb: str, made: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "file").write_text("mine")
    line = {"runs": ["runs"], "search": ["search", "s/p", "low"], **verbs(made, work)}[verb]
    said = complaint(capsys, 2, *line, "--home", str(work / "file"))
    assert "is a file; give a folder with --home" in said
    said = complaint(capsys, 2, *line, "--home", str(work / "file" / "inside"))
    assert (work / "file").read_text() == "mine"


@pytest.mark.parametrize("verb", ["index", "record", "explain", "prune", "report", "export", "compare"])
def test_what_cannot_be_written_is_said_before_any_work(
    verb: str, made: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = verbs(made, work)[verb]
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)  # root may write anywhere
    for start in (
        "and_retrieval.network.probe.probe",
        "and_retrieval.embed.user.CheckedEmbedder.embed_audio",
    ):
        monkeypatch.setattr(start, lambda *_: pytest.fail("the work has begun"))
    said = complaint(capsys, 2, *line)
    assert "cannot be written to; choose another folder" in said


# ---------- standard output and memory ----------


def stream(path: str, **options: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(path, "w"), **options)


@pytest.mark.parametrize(
    "line", [["runs"], ["runs", "--json"], ["--help"], ["search", "--help"], ["--version"]]
)
def test_standard_output_that_is_full(
    line: list[str], work: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.run(
        f"{sys.executable} -m and_retrieval {' '.join(line)} > /dev/full",
        shell=True, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(
        "and-retrieval: the result cannot be written to standard output (No space left"
    )
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("closed", "code"), [(">&-", 2), ("2>&-", 0), ("<&- 2>&-", 0)])
def test_standard_streams_that_are_closed(closed: str, code: int, work: Path) -> None:
    ended = subprocess.run(
        f"{sys.executable} -m and_retrieval runs {closed}",
        shell=True, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == code
    if code:
        assert "standard output is closed; send it to a file, or to /dev/null" in ended.stderr
    else:
        assert ended.stdout.startswith("s  24 clips")


def test_nobody_reads_the_result(work: Path) -> None:
    ended = subprocess.run(
        f"{sys.executable} -m and_retrieval runs | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_terminal_is_not_given_what_it_would_obey(
    made: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = work / "bank.json"
    bank.write_text('["\\u001b[2J\\u009b31mwiped", "\\u202edesrever", "low"]')
    small = ("--embedder", f"{made / 'small.py'}:load")
    assert (
        main(["explain", "s/p", "--llm", "none", "--concepts", str(bank), "--open-concepts", "no", *small])
        == 0
    )
    capsys.readouterr()
    for line in (["search", "s/p", "wiped", *small], ["search", "s/p", "wiped", "--json", *small]):
        assert main(line) == 0
        printed = capsys.readouterr()
        assert "wiped" in printed.out
        assert all(c.isprintable() or c == "\n" for c in printed.out + printed.err)


def test_plain_ascii(made: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["search", "s/p", "größer als 中", "--embedder", f"{made / 'small.py'}:load"]) == 0
    assert rb"gr\xf6\xdfer" in written.getvalue() or b"detectors:" in written.getvalue()


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("f8")),  # type: ignore[attr-defined]
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_no_memory(
    raised: Exception, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhausted(*_: object) -> None:
        raise raised

    monkeypatch.setattr("and_retrieval.store.Home.indexes", exhausted)
    assert "not enough memory (" in complaint(capsys, 2, "runs")


# ---------- lost work ----------


def test_a_run_is_not_replaced_by_one_of_no_clips(
    made: Path, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("and_retrieval.clips.source.named_file", lambda name: Path(str(name) + ".gone"))
    before = state(work / "home")
    said = complaint(capsys, 2, *verbs(made, work)["record"])
    assert "no clip can be recorded, the first is " in said
    assert state(work / "home") == before


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`failing(name)`: what of that name fails half way."""

    def patch(name: str) -> None:
        def half(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(name, half)

    return patch


@pytest.mark.parametrize("verb", ["report", "export", "compare"])
def test_a_file_of_the_users_is_replaced_in_one_step(
    verb: str, made: Path, work: Path, failing: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*verbs(made, work)[verb], "--embedder", f"{made / 'small.py'}:load"]
    line = line if verb != "export" else verbs(made, work)[verb]
    out = Path(line[line.index("--out") + 1])
    out.write_text("an earlier one")
    failing("and_retrieval.files.os.fsync")
    complaint(capsys, 2, *line)
    assert out.read_text() == "an earlier one"
    assert not list(work.glob(f".*{SCRATCH}"))
