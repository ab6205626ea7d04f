"""What every test gets: a home of its own. And what many want: small sounds, shared data, commands as typed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile
from command_line import Answer
from sounds import WriteSound, noise

from and_retrieval.store import HOME_VARIABLE
from and_retrieval.types import Embedder, Floats

if TYPE_CHECKING:
    from browsing import Server
    from places import Place
    from served import Visitor


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for indexes and runs that goes with the test. The cache folder stays: joining models is slow."""
    folder = tmp_path / "home"
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="session")
def heeded_signals() -> Iterator[None]:
    """Signals that end a program do so, though shells ignore Ctrl-C for what runs in the background, `nohup` SIGHUP."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def write_sound(tmp_path: Path) -> WriteSound:
    """`write_sound("a/x.wav", waveform, rate, **soundfile options)` -> path under the test's folder."""

    def write(name: str, waveform: Floats | None = None, rate: int = 16_000, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise() if waveform is None else waveform, rate, **options)
        return path

    return write


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of a bucket of an S3 server on this machine."""
    from places import s3_bucket

    with s3_bucket() as address:
        yield address


@pytest.fixture(params=["file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty folder: of this machine, of a store that is no folder, and of a server."""
    from places import Place

    if request.param == "file":
        (tmp_path / "there").mkdir()
        return Place(f"file://{tmp_path}/there")
    root = "memory://" if request.param == "memory" else request.getfixturevalue("bucket") + "/"
    return Place(f"{root}{tmp_path.name}")


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The embedded embedder, loaded once."""
    from and_retrieval.embed import load_embedder

    return load_embedder("embedded")


@pytest.fixture
def in_built(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that the test's module has `built`, as the one that commands find."""
    monkeypatch.setenv(HOME_VARIABLE, str(built))
    return built


@pytest.fixture(scope="session")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home to serve, see `served.recorded_home`; whoever records in it makes one of its own."""
    from served import recorded_home

    return recorded_home(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def visitor(served_home: Path) -> Iterator[Visitor]:
    """A client of a server on that home."""
    from served import visiting

    with visiting(served_home) as visitor:
        yield visitor


@pytest.fixture(scope="session")
def server(served_home: Path, heeded_signals: None) -> Iterator[Server]:
    """A server on that home, started as a user types it."""
    from browsing import serving

    with serving(served_home) as server:
        yield server


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Playwright, of which a process can hold one; while it does, nothing else there can begin an event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def browser(driver: Any) -> Iterator[Any]:
    """Chromium."""
    from browsing import browsing

    with browsing(driver) as window:
        yield window


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A page that was opened by the printed address; whatever it logs as an error fails the test."""
    from browsing import visited

    with visited(browser, server) as page:
        yield page


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """`answer("search", "s/p", "siren")` -> what the command prints with --json: one line and nothing else."""
    from and_retrieval.cli import main

    def run(*line: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*line, "--json"]) == 0
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        result: dict[str, Any] = json.loads(out)
        return result

    return run
