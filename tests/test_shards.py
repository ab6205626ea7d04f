"""Work in shards: plans, receipts, locks and workers, on work that is nothing but numbers."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray_clusters import Head
from squares import WHOLE, Squares, joined, square

from and_retrieval.errors import InputError
from and_retrieval.shards.folder import PLAN, Shards
from and_retrieval.shards.lock import FILE, locked
from and_retrieval.shards.plan import MOST_SHARDS, SHORTEST, shard_sizes, spans
from and_retrieval.shards.workers import TRIES, check_workers, shared_gpus, work
from and_retrieval.types import Skipped

HERE = Path(__file__).parent


@dataclass(frozen=True)
class SquareJob:
    """Writes squares to shards; dies or fails at some of them if it is told to.

    Attributes:
        path: Folder of the shards.
        dies_at: At that shard the process dies, as often as `times` says.
        refuses: That shard cannot be done.
        hangs_at: The first worker that has that shard never finishes it.
    """

    path: Path
    dies_at: int | None = None
    times: int = 0
    refuses: int | None = None
    hangs_at: int | None = None
    device: str = "cpu"

    def start(self) -> Callable[[int], None]:
        shards = Shards.open(self.path, Squares)

        def do(number: int) -> None:
            log = self.path.parent / f"{number}.{os.getpid()}-{time.monotonic_ns()}.begun"
            log.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
            if number == self.refuses:
                raise InputError("this shard is too much")
            if number == self.dies_at and len(list(self.path.parent.glob(f"{number}.*.begun"))) <= self.times:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self.hangs_at and len(list(self.path.parent.glob(f"{number}.*.begun"))) == 1:
                time.sleep(600)
            square(shards, number)

        return do


@pytest.fixture
def shards(tmp_path: Path) -> Shards[Squares]:
    made = Shards(tmp_path / "shards", Squares((3, 2, 4, 1)))
    made.begin()
    return made


def nothing(number: int) -> None:
    """What is called when a shard is done."""


class TestPlan:
    @given(st.lists(st.floats(0.01, 50), min_size=1, max_size=60), st.floats(0.5, 200))
    def test_a_shard_is_as_long_as_it_may_be(self, seconds: list[float], most: float) -> None:
        parts = [[seconds[place] for place in rows] for rows in spans(shard_sizes(seconds, most))]
        assert [length for part in parts for length in part] == seconds
        assert all(parts)
        for part, following in pairwise(parts):
            assert sum(part) <= most or len(part) == 1
            assert sum(part) + following[0] > most - 1e-6
        assert sum(parts[-1]) <= most or len(parts[-1]) == 1

    def test_large_sets_get_longer_shards_not_more(self) -> None:
        assert len(shard_sizes([10.0] * 59)) == 1
        assert set(shard_sizes([10.0] * 600)) == {int(SHORTEST // 10)}
        assert MOST_SHARDS <= len(shard_sizes([10.0] * 1_000_000)) <= MOST_SHARDS + 1

    def test_clips_that_are_added_change_no_full_shard(self) -> None:
        before, after = shard_sizes([7.0] * 1000, 100.0), shard_sizes([7.0] * 1500, 100.0)
        assert after[: len(before) - 1] == before[:-1]

    @given(st.lists(st.floats(0.01, 50), min_size=2, max_size=60), st.floats(0.5, 200), st.integers(0, 60))
    def test_shards_that_were_begun_stay_and_clips_that_were_added_are_others(
        self, seconds: list[float], most: float, first: int
    ) -> None:
        begun = shard_sizes(seconds[:first], most)
        assert shard_sizes(seconds, most, begun) == (*begun, *shard_sizes(seconds[first:], most))


class TestFolder:
    def test_finished_shards_are_found_again(self, shards: Shards[Squares]) -> None:
        for number in (2, 0):
            square(shards, number)
        again = Shards.open(shards.path, Squares)
        assert again.plan == shards.plan
        assert again.missing(again.finished()) == [1, 3]
        with pytest.raises(
            InputError, match=r"2 of 4 shards are missing in .* \(numbers 2, 4\); run the calls"
        ):
            again.check_complete(again.finished())
        for number in (1, 3):
            square(again, number)
        again.check_complete(again.finished())
        assert joined(again) == WHOLE
        assert again.finished()[1].manifest.skipped == (Skipped("a.wav", "silent"),)

    def test_many_shards_need_few_open_files(self, tmp_path: Path) -> None:
        many = Shards(tmp_path / "many", Squares((1,) * 80))
        many.begin()
        for number in range(80):
            square(many, number)
        before = len(list(Path("/proc/self/fd").iterdir()))
        finished = many.finished()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
        assert len(finished) == 80

    def test_what_was_stopped_before_a_shard_was_finished_leaves_nothing(
        self, shards: Shards[Squares]
    ) -> None:
        shards.scratch(0)
        shards.tidy()
        assert not shards.path.exists()
        shards.begin()
        square(shards, 0)
        shards.scratch(1)
        shards.tidy()
        assert {path.name.partition("-")[0] for path in shards.path.iterdir()} == {
            PLAN,
            "00000",
            "00000.json",
        }

    def test_a_damaged_shard_is_not_finished(self, shards: Shards[Squares]) -> None:
        for number in range(4):
            square(shards, number)
        files = {number: shards.file(of) for number, of in shards.finished().items()}
        files[0].write_text(files[0].read_text()[::-1])
        files[1].unlink()
        (shards.path / "00003.json").write_text("{}")
        assert list(shards.finished()) == [2]
        assert {path.name for path in shards.path.iterdir()} == {PLAN, "00002.json", files[2].name}

    def test_shards_of_another_plan_are_removed(self, shards: Shards[Squares]) -> None:
        square(shards, 0)
        other = Shards(shards.path, Squares(shards.plan.sizes, offset=1))
        other.begin()
        assert dict(other.finished()) == {}
        square(other, 0)
        assert (shards.path / "00000.json").exists()
        shards.begin()
        assert dict(shards.finished()) == {}

    def test_shards_that_another_plan_has_as_well_stay(self, shards: Shards[Squares]) -> None:
        for number in range(4):
            square(shards, number)
        other = Shards(shards.path, Squares((3, 2, 5, 2, 2)))
        other.begin()
        assert list(other.finished()) == [0, 1]
        for number in other.missing(other.finished()):
            square(other, number)
        assert joined(other) == " ".join(str(n**2) for n in range(14))

    def test_a_receipt_of_another_plan_does_not_count(self, shards: Shards[Squares], tmp_path: Path) -> None:
        other = Shards(tmp_path / "other", Squares(shards.plan.sizes, offset=1))
        other.begin()
        square(other, 0)
        for path in other.path.glob("00000*"):
            path.rename(shards.path / path.name)
        assert dict(shards.finished()) == {}
        assert {path.name for path in shards.path.iterdir()} == {PLAN}

    def test_a_shard_under_the_number_of_another_does_not_count(self, shards: Shards[Squares]) -> None:
        square(shards, 0)
        (shards.path / "00000.json").rename(shards.path / "00002.json")
        assert dict(shards.finished()) == {}

    def test_a_shard_that_is_done_twice_counts_once(self, shards: Shards[Squares]) -> None:
        for number in (0, 1, 1, 2, 3, 3):
            square(shards, number)
        assert joined(shards) == WHOLE
        assert len(list(shards.path.iterdir())) == 9

    def test_others_are_left_alone_and_another_plan_is_refused(self, shards: Shards[Squares]) -> None:
        square(shards, 0)
        scratch = shards.scratch(1)  # somebody is at it
        Shards(shards.path, shards.plan).begin(alone=False)
        assert list(shards.finished(alone=False)) == [0]
        assert scratch.exists()
        with pytest.raises(InputError, match="holds shards of other settings or clips"):
            Shards(shards.path, Squares((1,))).begin(alone=False)

    @pytest.mark.parametrize("text", ["{", '{"format": 1}', ""])
    def test_a_damaged_plan_is_written_anew(self, text: str, shards: Shards[Squares]) -> None:
        square(shards, 0)
        (shards.path / PLAN).write_text(text)
        shards.begin()
        assert Shards.open(shards.path, Squares).plan == shards.plan
        assert list(shards.finished()) == [0]  # a receipt says by itself what its shard belongs to


class TestLock:
    def test_a_second_writer_is_told_who_the_first_is(self, tmp_path: Path) -> None:
        folder = tmp_path / "a/b"
        with (
            locked(folder, "record"),
            pytest.raises(
                InputError,
                match=rf"{folder} is in use: \w+ runs `record` on \S+ \(process {os.getpid()}\) since \d{{4}}-\S+ ",
            ),
            locked(folder, "explain"),
        ):
            pass
        assert list(tmp_path.iterdir()) == []  # what was created and stayed empty is gone
        with locked(folder, "explain"):
            (folder / "kept").touch()
        assert [path.name for path in folder.iterdir()] == ["kept"]

    def test_it_ends_with_its_process(self, tmp_path: Path) -> None:
        program = (
            "import sys, time; from pathlib import Path; from and_retrieval.shards.lock import locked\n"
            f"with locked(Path({str(tmp_path)!r}), 'index'):\n    print('held', flush=True); time.sleep(600)"
        )
        holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=rf"runs `index` on \S+ \(process {holder.pid}\)"),
            locked(tmp_path, "x"),
        ):
            pass
        holder.kill()
        holder.wait()
        assert (tmp_path / FILE).exists()
        with locked(tmp_path, "record"):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_several_share_it(self, tmp_path: Path) -> None:
        with locked(tmp_path, "one", shared=True):
            with (
                locked(tmp_path, "two", shared=True),
                pytest.raises(InputError, match="is in use"),
                locked(tmp_path, "merge"),
            ):
                pass
            with pytest.raises(InputError, match="is in use"), locked(tmp_path, "merge"):
                pass
        with (
            locked(tmp_path, "merge"),
            pytest.raises(InputError, match="merge"),
            locked(tmp_path, "x", shared=True),
        ):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_never_two_at_once(self, tmp_path: Path) -> None:
        """Processes that take it and leave it as fast as they can; each adds 1 to a number, none of which is lost."""
        (tmp_path / "number").write_text("0")
        program = f"""
from pathlib import Path
from and_retrieval.errors import InputError
from and_retrieval.shards.lock import locked
folder, added = Path({str(tmp_path)!r}), 0
while added < 100:
    try:
        with locked(folder, "count"):
            (folder / "number").write_text(str(int((folder / "number").read_text()) + 1))
            added += 1
    except InputError:
        pass
"""
        several = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
        assert [process.wait(120) for process in several] == [0, 0, 0]
        assert (tmp_path / "number").read_text() == "300"


class TestWorkers:
    @pytest.mark.parametrize("workers", [0, -1, "", "rays", "ray:", "many"])
    def test_other_workers_are_refused(self, workers: int | str) -> None:
        with pytest.raises(InputError, match="give a number of processes, ray, or ray:ADDRESS"):
            check_workers(workers)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_all_shards_are_done(self, workers: int, shards: Shards[Squares]) -> None:
        done: list[int] = []
        work(SquareJob(shards.path), [0, 1, 2, 3], workers, done.append)
        assert sorted(done) == [0, 1, 2, 3]
        assert joined(shards) == WHOLE

    @pytest.mark.parametrize(
        ("device", "expected"), [("cuda", {"3", "GPU-5"}), ("cuda:1", {"3,GPU-5"}), ("cpu", {"3,GPU-5"})]
    )
    def test_workers_share_the_gpus_in_turn(
        self,
        device: str,
        expected: set[str],
        shards: Shards[Squares],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A certain GPU is everybody's."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
        work(SquareJob(shards.path, device=device), [0, 1, 2, 3], 2, nothing)
        begun = list(tmp_path.glob("*.begun"))
        seen = {path.name.split(".")[1].partition("-")[0]: path.read_text() for path in begun}
        assert len(begun) == 4
        assert set(seen.values()) <= expected
        assert device != "cuda" or len(set(seen.values())) == len(seen)  # each process has its own

    @pytest.mark.parametrize(
        ("named", "expected"),
        [
            ("0,1,", ("0", "1")),
            (" 2, 0", ("2", "0")),
            ("0,-1,1", ("0",)),
            ("", ()),
            ("MIG-a,GPU-b", ("MIG-a", "GPU-b")),
        ],
    )
    def test_gpus_are_those_that_cuda_would_see(
        self, named: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert shared_gpus("cuda") == expected

    def test_the_shard_of_a_worker_that_dies_is_done_by_another(
        self, shards: Shards[Squares], tmp_path: Path
    ) -> None:
        work(SquareJob(shards.path, dies_at=1, times=TRIES - 1), [0, 1, 2, 3], 2, nothing)
        assert joined(shards) == WHOLE
        begun = [path.name.partition(".")[0] for path in tmp_path.glob("*.begun")]
        assert sorted(begun) == sorted([*"0123", *"1" * (TRIES - 1)])  # nothing else was done twice

    def test_a_shard_that_kills_every_worker_is_given_up(self, shards: Shards[Squares]) -> None:
        with pytest.raises(
            InputError, match=rf"the workers of shard 1 died, {TRIES} times, .* with fewer --workers"
        ):
            work(SquareJob(shards.path, dies_at=1, times=99), [0, 1, 2, 3], 2, nothing)

    def test_what_a_worker_cannot_do_is_said_as_it_is(self, shards: Shards[Squares]) -> None:
        with pytest.raises(InputError, match="this shard is too much"):
            work(SquareJob(shards.path, refuses=2), [0, 1, 2, 3], 2, nothing)
        assert 2 not in shards.finished()

    def test_work_that_cannot_be_sent_is_refused(self, shards: Shards[Squares]) -> None:
        class Local(SquareJob):
            pass

        with pytest.raises(InputError, match="cannot be given this work"):
            work(Local(shards.path), [0, 1], 2, nothing)


@pytest.mark.slow
class TestRay:
    """A Ray cluster on this machine; Ray is an extra."""

    @pytest.fixture(autouse=True)
    def ray(self, monkeypatch: pytest.MonkeyPatch) -> object:
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        return pytest.importorskip("ray")

    def test_all_shards_are_done_though_a_worker_is_killed(
        self, shards: Shards[Squares], tmp_path: Path
    ) -> None:
        done: list[int] = []
        work(SquareJob(shards.path, dies_at=1, times=1), [0, 1, 2, 3], "ray", done.append)
        assert sorted(done) == [0, 1, 2, 3]
        assert joined(shards) == WHOLE
        begun = [path.name.partition(".")[0] for path in tmp_path.glob("*.begun")]
        assert sorted(begun) == sorted("01123")

    def test_a_shard_that_takes_too_long_is_given_to_another(self, shards: Shards[Squares]) -> None:
        from and_retrieval.shards.cluster import work_on_ray

        work_on_ray(SquareJob(shards.path, hangs_at=2), [0, 1, 2, 3], None, nothing, patience=20)
        assert joined(shards) == WHOLE

    def test_what_a_worker_cannot_do_is_said_as_it_is(self, shards: Shards[Squares]) -> None:
        with pytest.raises(InputError, match="this shard is too much"):
            work(SquareJob(shards.path, refuses=2), [0, 1, 2, 3], "ray", nothing)

    def test_a_cluster_that_is_not_there(self, shards: Shards[Squares]) -> None:
        with pytest.raises(InputError, match=r"no Ray cluster can be used at 127\.0\.0\.1:1"):
            work(SquareJob(shards.path), [0], "ray:127.0.0.1:1", nothing)

    def test_an_address_at_which_something_else_listens(
        self, shards: Shards[Squares], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from and_retrieval.shards import cluster

        monkeypatch.setattr(cluster, "STARTS_WITHIN", 8.0)
        begin = time.monotonic()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(
                InputError,
                match=rf"at {address}: it was not ready within 8 s; .* ray status --address {address}",
            ):
                work(SquareJob(shards.path), [0], f"ray:{address}", nothing)
        assert time.monotonic() - begin < 60

    def test_another_cluster_of_the_machine_is_left_alone(
        self, shards: Shards[Squares], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that Ray's own settings name, of which nobody knows the token; and one that is gone."""
        with Head(tmp_path) as head:
            monkeypatch.setenv("RAY_ADDRESS", head.address)
            work(SquareJob(shards.path), [0], "ray:auto", nothing)
            monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
            work(SquareJob(shards.path), [1], "ray", nothing)
            assert head.runs()
        work(SquareJob(shards.path), [2, 3], "ray", nothing)
        assert joined(shards) == WHOLE

    def test_a_cluster_that_lacks_what_workers_need(
        self, shards: Shards[Squares], caplog: pytest.LogCaptureFixture
    ) -> None:
        """It may get one, so it is waited for, with a word."""
        from and_retrieval.shards.cluster import work_on_ray

        with pytest.raises(InputError, match="the workers of shard 0 died"):
            work_on_ray(SquareJob(shards.path, device="cuda"), [0], None, nothing, patience=2)
        assert "the Ray cluster at this machine has no GPU; waiting until it has one" in caplog.text

    def test_two_at_once(self, tmp_path: Path) -> None:
        made = [Shards(tmp_path / name / "shards", Squares((3, 2, 4, 1))) for name in "ab"]
        with ThreadPoolExecutor(2) as pool:
            for each in made:
                each.begin()
            list(pool.map(lambda each: work(SquareJob(each.path), [0, 1, 2, 3], "ray", nothing), made))
        assert [joined(each) for each in made] == [WHOLE, WHOLE]

    def test_the_head_of_the_cluster_is_restarted(
        self, shards: Shards[Squares], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Shards that were done before are not done again, and the others go on when it is back."""
        head = Head(tmp_path)
        done: list[int] = []

        def restart() -> None:
            head.end()
            head.start()

        with head, once(lambda: bool(done) and any(tmp_path.glob("3.*.begun")), restart):
            work(SquareJob(shards.path, hangs_at=3), [0, 1, 2, 3], f"ray:{head.address}", done.append)
        assert sorted(done) == [0, 1, 2, 3]
        assert joined(shards) == WHOLE
        assert f"the Ray cluster at {head.address} was lost; waiting for it" in caplog.text
        begun = [path.name.partition(".")[0] for path in tmp_path.glob("*.begun")]
        assert begun.count("3") == 2
        assert len(begun) <= 6  # at most one shard of either worker was done twice

    def test_a_head_that_does_not_come_back(
        self, shards: Shards[Squares], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line, and the same call goes on where it was."""
        from and_retrieval.shards import cluster

        monkeypatch.setattr(cluster, "BACK_WITHIN", 2.0)
        head = Head(tmp_path)
        done: list[int] = []
        with (
            head,
            once(lambda: len(done) == 3 and any(tmp_path.glob("3.*.begun")), head.end),
            pytest.raises(
                InputError, match=r"no Ray cluster can be used at .*; what is finished is kept: run"
            ),
        ):
            work(SquareJob(shards.path, hangs_at=3), [0, 1, 2, 3], f"ray:{head.address}", done.append)
        again = shards.finished()
        assert len(again) == 3
        work(SquareJob(shards.path), shards.missing(again), 1, nothing)
        assert joined(shards) == WHOLE


@contextmanager
def once(happened: Callable[[], bool], then: Callable[[], None]) -> Iterator[None]:
    """Do something beside the block as soon as something has happened."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            if happened():
                then()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
