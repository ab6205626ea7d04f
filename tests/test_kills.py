"""Every verb that stores something is killed at random moments; the same command then finishes what it had begun."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import soundfile
from killing import content, run_and_kill
from sounds import noise, tone

from and_retrieval.cli import main
from and_retrieval.shards.folder import Shards

RATE = 8_000
LABELS = ("low", "high", "noise")
HERE = Path(__file__).parent
TARGET = f"{HERE / 'targets/planted.py'}:load"
EMBEDDER = f"{HERE / 'embedders.py'}:FakeEmbedder"
SECONDS = 3.0  # of sound in a shard

VERBS = {
    "index": ["index", "sounds", "--name", "new", "--embedder", EMBEDDER, "--shard-seconds", str(SECONDS)],
    "record": ["record", "s", "--target", TARGET, "--run", "new", "--shard-seconds", str(SECONDS)],
    "explain": ["explain", "s/p", "--llm", "none", "--concepts", "labels", "--open-concepts", "no"],
    "prune": ["prune", "s/p", "low", "--budget", "1", "--draws", "1", "--export", "x.safetensors"],
    "report": ["report", "s/p", "--out", "r.html"],
}


def command(folder: Path, verb: str, begun: Path) -> None:
    """What the killed processes do; every shard that is begun becomes a line of a file."""
    real = Shards.leave

    def noted(self: Shards, number: int, *rest: object) -> None:  # type: ignore[type-arg]
        with begun.open("a") as stream:
            stream.write(f"{number}\n")
        real(self, number, *rest)  # type: ignore[arg-type]

    Shards.leave = noted  # type: ignore[assignment, method-assign]
    line = [*VERBS[verb], "--home", str(folder / "home")]
    places = ("sounds", "x.safetensors", "r.html")
    assert main([str(folder / word) if word in places else word for word in line]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds and a home with index `s` and its run `p`, explained and pruned."""
    folder = tmp_path_factory.mktemp("kills")
    for number in range(24):
        label = LABELS[number % 3]
        sounds = {"low": tone(200 + number, 0.5, RATE), "high": tone(3000 + number, 0.5, RATE)}
        path = folder / "sounds" / label / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sounds.get(label, noise(0.5, RATE, number)), RATE)
    home = ("--home", str(folder / "home"))
    for line in (
        ["index", str(folder / "sounds"), "--name", "s", "--embedder", EMBEDDER],
        ["record", "s", "--target", TARGET, "--run", "p"],
        [*VERBS["explain"][:-1], "auto"],
        ["prune", "s/p", "high", "--budget", "1", "--draws", "1"],
    ):
        assert main([*line, *home]) == 0
    return folder


class Trials:
    """Folders in which a verb is run, killed, and run again; all have the same path."""

    def __init__(self, made: Path, folder: Path) -> None:
        self._made, self.folder, self.begun = made, folder / "work", folder / "begun"
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict[str, bytes]] = {}
        self.shards: dict[str, int] = {}
        run_and_kill(len, ())  # the first process waits for what all others find loaded
        for verb in VERBS:
            self.reset()
            begin = time.monotonic()
            assert not run_and_kill(command, self.folder, verb, self.begun)
            self.seconds[verb] = time.monotonic() - begin
            self.expected[verb] = content(self.folder)
            self.shards[verb] = len(self.begun_shards())

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.begun.unlink(missing_ok=True)
        shutil.copytree(self._made, self.folder)

    def begun_shards(self) -> list[str]:
        return self.begun.read_text().split() if self.begun.exists() else []

    def check(self, verb: str, seconds: float) -> tuple[bool, int]:
        """Kill a verb after so many seconds and run it again: whether it was killed, and shards done twice."""
        self.reset()
        killed = run_and_kill(command, self.folder, verb, self.begun, seconds=seconds)
        first = self.begun_shards()
        finished = content(self.folder) == self.expected[verb]
        assert not run_and_kill(command, self.folder, verb, self.begun)
        assert content(self.folder) == self.expected[verb]
        again = self.begun_shards()[len(first) :]
        twice = sum((Counter(first) & Counter(again)).values())
        assert finished or twice <= 1  # what is finished is explained anew when it is asked for again
        return killed, 0 if finished else twice


@pytest.fixture
def trials(made: Path, tmp_path: Path) -> Trials:
    return Trials(made, tmp_path)


@pytest.mark.parametrize("moments", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_at_random_moments(moments: int, trials: Trials, capsys: pytest.CaptureFixture[str]) -> None:
    """Finished by the same command, in the same bytes, one shard done twice at most, and nothing is left over."""
    draw = random.Random(moments)
    killed: Counter[str] = Counter()
    twice: Counter[str] = Counter()
    for number in range(moments):
        verb = list(VERBS)[number % len(VERBS)]
        moment = draw.uniform(0, trials.seconds[verb])
        for _ in range(3):  # a machine that has less to do by now is done before the moment comes
            was_killed, shards = trials.check(verb, moment)
            twice[verb] += shards
            if was_killed:
                break
            moment /= 2
        killed[verb] += was_killed
    with capsys.disabled():
        for verb in VERBS:
            print(
                f"\n{verb}: {killed[verb]} killed, {trials.shards[verb]} shards, {twice[verb]} done twice",
                end="",
            )
    assert sum(killed.values()) >= moments / 2
