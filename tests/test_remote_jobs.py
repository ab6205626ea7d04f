"""Workers that share no folder with the command: they leave their shards at an address, and it fetches them."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer
from embedders import FakeEmbedder
from killing import content
from places import Place
from ray_clusters import Head
from sounds import WriteSound, tone
from squares import WHOLE, Squares, joined, square
from targets.deep import SAMPLE_RATE, load

from and_retrieval import ClipIndex, record
from and_retrieval.cli import main
from and_retrieval.clips.shard import ShardEmbedder
from and_retrieval.config import MomentConfig, RecordConfig
from and_retrieval.errors import InputError
from and_retrieval.files import scratch_path
from and_retrieval.recording.record import record_share
from and_retrieval.recording.shard import Recorder
from and_retrieval.shards import remote_job
from and_retrieval.shards.folder import FOLDER, ShardCount, Shards
from and_retrieval.shards.remote import RefusedError, RemoteFolder
from and_retrieval.shards.remote_job import RemoteJob, fetch_finished, fetching, job_at
from and_retrieval.shards.workers import Do, work
from and_retrieval.types import Target

HERE = Path(__file__).parent
NETWORK = f"{HERE / 'targets/deep.py'}:three"
EMBEDDER = f"{HERE / 'embedders.py'}:FakeEmbedder"
CLIPS, SHARDS = 10, 4
CONFIG = RecordConfig(top_k=3, hold_out="0.3", batch=2, device="cpu", shard_seconds=1.3)
PLANNED = Squares((3, 2, 4, 1))


@dataclass(frozen=True)
class SquareJob:
    """Squares in a folder of shards; that of shard `fails` raises."""

    shards: Path
    fails: int | None = None
    device: str = "cpu"

    def start(self) -> Do:
        shards = Shards.open(self.shards, Squares)

        def do(number: int) -> None:
            if number == self.fails:
                shards.scratch(number).write_text("half")
                raise InputError("this shard is too much")
            square(shards, number)

        return do


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers have their folders; nothing is left there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> Shards[Squares]:
    shards = Shards(tmp_path / "run" / FOLDER, PLANNED)
    shards.begin()
    return shards


class TestSquares:
    def test_what_workers_leave_is_fetched(
        self, shards: Shards[Squares], place: Place, scratch: Path
    ) -> None:
        assert not fetch_finished(shards, place.url)
        fetch = fetching(shards, place.url)
        done: list[int] = []

        def fetched(number: int) -> None:
            fetch(number)
            done.append(number)

        work(job_at(place.url, SquareJob, shards), [0, 1, 2, 3], 1, fetched)
        assert done == [0, 1, 2, 3]
        assert len(place.names()) == 1 + 2 * 4
        assert joined(shards) == WHOLE
        assert not list(scratch.iterdir())

    def test_what_is_at_the_address_is_not_done_again(self, shards: Shards[Squares], place: Place) -> None:
        fetch_finished(shards, place.url)
        work(job_at(place.url, SquareJob, shards), [2], 1, fetching(shards, place.url))
        other = Shards(shards.path.parents[1] / "other" / FOLDER, PLANNED)
        other.begin()
        square(other, 1)
        finished = fetch_finished(other, place.url)
        assert sorted(finished) == [1, 2]
        assert other.missing(finished) == [0, 3]

    def test_other_work_at_the_address_is_refused(self, shards: Shards[Squares], place: Place) -> None:
        fetch_finished(shards, place.url)
        other = Shards(shards.path.parents[1] / "other" / FOLDER, replace(PLANNED, offset=1))
        other.begin()
        with pytest.raises(InputError, match=r"holds shards of other settings, .*; choose another address"):
            fetch_finished(other, place.url)

    @pytest.mark.parametrize(("what", "flaw"), [("file", "missing"), ("content", "damaged")])
    def test_a_shard_that_is_not_whole_is_named(
        self, what: str, flaw: str, shards: Shards[Squares], place: Place
    ) -> None:
        fetch_finished(shards, place.url)
        fetch = fetching(shards, place.url)

        def spoilt(number: int) -> None:
            if number == 1:
                name = place.file_of(number)
                place.remove(name) if what == "file" else place.write(name, b"1 2 3")
            fetch(number)

        with pytest.raises(
            InputError, match=rf"shard 2 at {place.url} is {flaw}; run the same command again"
        ):
            work(job_at(place.url, SquareJob, shards), [0, 1, 2, 3], 1, spoilt)
        missing = shards.missing(fetch_finished(shards, place.url))
        assert missing == [1, 2, 3]
        work(job_at(place.url, SquareJob, shards), missing, 1, fetch)
        assert joined(shards) == WHOLE

    @pytest.mark.parametrize("method", ["send", "write", "copy", "read"])
    def test_a_short_fault_of_the_network_ends_nothing(
        self, method: str, shards: Shards[Squares], place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever of workers and command it meets: every call to the address fails once."""
        fetch_finished(shards, place.url)
        real, failed = getattr(RemoteFolder, method), set[str]()

        def failing_once(self: RemoteFolder, *given: Any) -> Any:
            name = next(each for part in given if isinstance(each := getattr(part, "path", part), str))
            if name not in failed:
                failed.add(name)
                raise RefusedError("the network is down")
            return real(self, *given)

        waited: list[float] = []
        monkeypatch.setattr(RemoteFolder, method, failing_once)
        monkeypatch.setattr("time.sleep", waited.append)
        monkeypatch.setattr(remote_job, "PAUSES", (1.0, 2.0, 3.0, 4.0, 5.0))
        work(job_at(place.url, SquareJob, shards), [0, 1, 2, 3], 1, fetching(shards, place.url))
        assert joined(shards) == WHOLE
        assert len(waited) >= 4

    def test_a_network_that_stays_away_is_named(
        self, shards: Shards[Squares], place: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch_finished(shards, place.url)
        waited: list[float] = []
        monkeypatch.setattr("time.sleep", waited.append)

        def failing(*_: Any) -> None:
            raise RefusedError("the network is down")

        monkeypatch.setattr(RemoteFolder, "send", failing)
        with pytest.raises(InputError, match="the network is down"):
            work(job_at(place.url, SquareJob, shards), [0, 1], 1, fetching(shards, place.url))
        assert tuple(waited) == remote_job.PAUSES
        assert not list(scratch.iterdir())

    def test_a_shard_that_fails_leaves_nothing(
        self, shards: Shards[Squares], place: Place, scratch: Path
    ) -> None:
        fetch_finished(shards, place.url)
        job = RemoteJob(lambda path: SquareJob(path, fails=1), shards.path, Squares, place.url, "cpu")
        with pytest.raises(InputError, match="too much"):
            work(job, [0, 1], 1, fetching(shards, place.url))
        assert not list(scratch.iterdir())
        assert len(place.names()) == 1 + 2

    def test_what_killed_workers_left_is_removed_by_the_next(
        self, shards: Shards[Squares], place: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        alive = scratch_path(scratch / "and_retrieval")
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: gone.pid)
            dead = scratch_path(scratch / "and_retrieval")
        for folder in (alive, dead, scratch / "other"):
            (folder / "run/shards").mkdir(parents=True)
        fetch_finished(shards, place.url)
        work(job_at(place.url, SquareJob, shards), [0], 1, fetching(shards, place.url))
        assert {path.name for path in scratch.iterdir()} == {alive.name, "other"}


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number in range(CLIPS):
        sound = tone(200 + 50 * number, 0.3 + 0.1 * (number % 3), SAMPLE_RATE, 0.1 + 0.05 * number)
        write_sound(f"sounds/{number:02}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    return tmp_path / "sounds"


@pytest.fixture
def index(sounds: Path, home: Path) -> ClipIndex:
    return ClipIndex.build(sounds, FakeEmbedder(), home / "s")


@pytest.fixture
def address(tmp_path: Path) -> str:
    (tmp_path / "there").mkdir()
    return f"file://{tmp_path}/there"


def network() -> Target:
    return replace(load(3), name=NETWORK)


class TestRecord:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_bytes_are_those_of_one_process(
        self, workers: int, index: ClipIndex, address: str, scratch: Path, tmp_path: Path
    ) -> None:
        whole = record(network(), index, config=CONFIG, run="whole")
        several = record(network(), index, config=CONFIG, run="several", workers=workers, to=address)
        assert several.shards == whole.shards == ShardCount(SHARDS, 0)
        assert content(several.folder.path) == content(whole.folder.path)
        assert len(list((tmp_path / "there").glob("*.shard"))) == SHARDS
        assert not list(scratch.iterdir())

    def test_it_goes_on_with_what_others_left(
        self, index: ClipIndex, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record_share(network(), index, (2, 2), config=CONFIG, run="several", to=address)
        begun: list[int] = []
        real = Recorder.record
        monkeypatch.setattr(
            Recorder, "record", lambda self, number: begun.append(number) or real(self, number)
        )
        several = record(network(), index, config=CONFIG, run="several", to=address)
        assert begun == [0, 2]
        assert several.shards == ShardCount(SHARDS, 2)

    def test_a_worker_of_another_version_is_refused(
        self, index: ClipIndex, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("and_retrieval.shards.plan.made_by", lambda: "code 0, torch 1")
        with pytest.raises(InputError, match=r"a worker on \S+ runs another version of this program"):
            record(network(), index, config=CONFIG, run="several", to=address)

    def test_a_worker_with_another_index_is_refused(
        self, index: ClipIndex, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = ClipIndex.open(index.folder.path)
        other = replace(opened, clips=opened.clips[1:])
        monkeypatch.setattr("and_retrieval.recording.shard.ClipIndex.open", lambda _: other)
        with pytest.raises(
            InputError, match="index 's' was changed after several was begun; record it again"
        ):
            record(network(), index, config=CONFIG, run="several", to=address)


def test_index(sounds: Path, home: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"shard_seconds": 1.3, "moments": MomentConfig(0.2, 0.1)}
    embedder = FakeEmbedder()
    embedder.name = EMBEDDER
    whole = ClipIndex.build(sounds, embedder, home / "1/x", **settings)
    begun: list[Path] = []
    real = ShardEmbedder.embed
    monkeypatch.setattr(
        ShardEmbedder, "embed", lambda self, number: begun.append(self.shards.path) or real(self, number)
    )
    several = ClipIndex.build(sounds, embedder, home / "2/x", to=address, **settings)
    assert several.shards == whole.shards == ShardCount(SHARDS, 0)
    assert len(begun) == SHARDS
    assert not [path for path in begun if path.is_relative_to(home)]
    assert content(home / "2/x") == content(home / "1/x")


def test_the_command_line(
    index: ClipIndex, address: str, sounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (["record", "s", "--target", NETWORK], ["index", str(sounds), "--name", "y"]):
        for workers in ([], ["--workers", "2"]):
            assert main([*line, "--to", address, *workers]) == 2
            assert f"--to {address} needs --shard I/N, or --workers ray:ADDRESS" in capsys.readouterr().err


@pytest.mark.slow
def test_a_ray_cluster(
    sounds: Path, address: str, tmp_path: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    """It was started elsewhere; all names are relative to where the command is typed."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # paths of sockets are short
    monkeypatch.chdir(tmp_path)
    options = ["--home", "home", "--shard-seconds", "1.3", "--device", "cpu"]
    line = ["index", "sounds", "--name", "s", "--embedder", EMBEDDER, *options]
    assert answer(*line)["shards"] == SHARDS
    (tmp_path / "network.py").write_text((HERE / "targets/deep.py").read_text())
    record = ["record", "s", "--target", "network.py:three", "--top-k", "3", "--batch", "2", *options]
    whole = answer(*record, "--run", "whole")
    runs = tmp_path / "home/s/runs"
    (tmp_path / "embedded").mkdir()
    with Head(tmp_path, started_in="/") as head:
        ray = ["--workers", f"ray:{head.address}"]
        several = answer(*line, "--name", "t", *ray, "--to", f"file://{tmp_path}/embedded")
        assert (several["shards"], several["resumed"]) == (SHARDS, 0)
        vectors = [next((tmp_path / "home" / name).glob("vectors-*")).read_bytes() for name in "st"]
        assert vectors[0] == vectors[1]
        for run, to in (("shared", []), ("apart", ["--to", address])):
            several = answer(*record, "--run", run, *ray, *to)
            assert (several["shards"], several["resumed"]) == (whole["shards"], 0)
            assert content(runs / run) == content(runs / "whole")
    assert len(list((tmp_path / "there").glob("*.shard"))) == whole["shards"]
    assert not list(scratch.glob(".and_retrieval*"))
