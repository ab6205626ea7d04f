"""Clip indexes in shards: stopped anywhere and by any number of workers, they end in the same bytes."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from killing import content, run_and_kill
from sounds import WriteSound, tone

from and_retrieval import ClipIndex, faiss_index
from and_retrieval.clips.build import Request, build_index, build_share, merge_index
from and_retrieval.clips.shard import ShardEmbedder
from and_retrieval.config import MomentConfig
from and_retrieval.embed import checked_embedder
from and_retrieval.errors import InputError
from and_retrieval.shards.folder import FOLDER, ShardCount
from and_retrieval.shards.lock import locked

RATE = 8_000
CLIPS = 12
SHARDS = 6
SETTINGS: dict[str, Any] = {"shard_seconds": 2.5, "moments": MomentConfig(0.5, 0.25)}
NAMED = f"{Path(__file__).parent / 'embedders.py'}:FakeEmbedder"


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    """Tones of about a second in two folders; one in the middle is silent, which only decoding it can tell."""
    for number in range(CLIPS):
        sound = tone(200 + 80 * number, 1 + 0.2 * (number % 2), RATE, 0.0 if number == 5 else 0.3)
        write_sound(f"sounds/{number % 2}/{number:02}.wav", sound, RATE)
    return tmp_path / "sounds"


def built(sounds: Path, path: Path, **changes: Any) -> ClipIndex:
    return ClipIndex.build(sounds, FakeEmbedder(), path, **(SETTINGS | changes))


def test_an_index_of_many_shards_is_that_of_one(sounds: Path, home: Path) -> None:
    many, one = built(sounds, home / "many"), built(sounds, home / "one", shard_seconds=None)
    assert many.shards == ShardCount(SHARDS, 0)
    assert one.shards == ShardCount(1, 0)
    assert many.clips == one.clips
    assert [Path(miss.path).name for miss in many.skipped] == ["05.wav"]
    np.testing.assert_array_equal(many.vectors(), one.vectors())
    assert many.moments is not None
    assert one.moments is not None
    np.testing.assert_array_equal(many.moments.vectors, one.moments.vectors)
    embedder = FakeEmbedder()
    for row in range(CLIPS - 1):  # the clip that could not be read has left no gap
        np.testing.assert_array_equal(many.vectors()[row], embedder.embed_audio([many.read(row, RATE)])[0])
    assert {path.name.partition("-")[0] for path in (home / "many").iterdir()} == {
        "manifest.json", "clips", "skipped", "vectors", "moments",
    }  # fmt: skip


def test_clips_that_are_added_are_new_shards(sounds: Path, home: Path, write_sound: WriteSound) -> None:
    before = built(sounds, home / "x")
    again = built(sounds, home / "x")
    assert again.shards == ShardCount(SHARDS + 1, SHARDS)  # the silent clip is tried again
    assert content(again.folder.path) == content(before.folder.path)
    write_sound("sounds/1/99.wav", tone(90, 1, RATE), RATE)
    embedder = FakeEmbedder()
    grown = ClipIndex.build(sounds, embedder, home / "x", **SETTINGS)
    assert grown.shards == ShardCount(SHARDS + 1, SHARDS)
    assert embedder.heard == 4  # one clip of a second and its three moments
    np.testing.assert_array_equal(grown.vectors()[: CLIPS - 1], before.vectors())
    assert grown.clips[:-1] == before.clips


def test_what_finds_clips_is_that_of_an_index_made_at_once(
    sounds: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether clips join later or not: it is made of all of them."""
    monkeypatch.setattr(faiss_index, "APPROXIMATE_FROM", 2)
    gone = (sounds / "1/11.wav").rename(tmp_path / "11.wav")
    few = content(built(sounds, home / "grown").folder.path)
    gone.rename(sounds / "1/11.wav")
    grown = content(built(sounds, home / "grown").folder.path)
    whole = content(built(sounds, home / "whole", shard_seconds=None).folder.path)
    for part in ("directions-", "sums-"):
        [before], [after], [once] = (
            [file for name, file in files.items() if name.startswith(part)] for files in (few, grown, whole)
        )
        assert before != after == once


def test_clips_that_are_added_while_an_index_is_unfinished_cost_no_shard(
    sounds: Path, home: Path, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they come first in the source: shards that were begun keep their order."""
    whole = built(sounds, home / "whole")
    real, calls = ShardEmbedder.embed, iter(range(SHARDS))

    def stopped(self: ShardEmbedder, number: int) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt
        real(self, number)

    monkeypatch.setattr(ShardEmbedder, "embed", stopped)
    with pytest.raises(KeyboardInterrupt):
        built(sounds, home / "x")
    monkeypatch.undo()
    write_sound("sounds/0/00a.wav", tone(90, 1, RATE), RATE)
    embedder = FakeEmbedder()
    grown = ClipIndex.build(sounds, embedder, home / "x", **SETTINGS)
    assert grown.shards == ShardCount(SHARDS + 1, 4)
    assert embedder.heard == 3 * (1 + 4) + (1 + 3)  # 07, 09, 11 and what was added, each with its moments
    assert grown.clips[:-1] == whole.clips
    np.testing.assert_array_equal(grown.vectors()[:-1], whole.vectors())
    assert Path(grown.clips[-1].path).name == "00a.wav"
    assert content(home / "x").keys() == {path.name for path in (home / "x").iterdir()}  # no shards are left
    anew = ClipIndex.build(sounds, FakeEmbedder(), home / "anew", **SETTINGS)
    places = {clip.id: row for row, clip in enumerate(anew.clips)}
    np.testing.assert_array_equal(grown.vectors(), anew.vectors()[[places[clip.id] for clip in grown.clips]])


def test_a_clip_that_went_while_an_index_is_unfinished(sounds: Path, home: Path) -> None:
    request = TestWorkersAndShares.request(sounds, home / "x")
    build_share(request, (1, 2))
    (sounds / "0/00.wav").unlink()
    assert built(sounds, home / "x").clips == built(sounds, home / "y").clips


def test_without_a_single_clip_nothing_is_made(sounds: Path, home: Path, write_sound: WriteSound) -> None:
    for path in sounds.rglob("*.wav"):
        path.unlink()
    write_sound("sounds/a.wav", np.zeros(RATE, np.float32), RATE)
    with pytest.raises(InputError, match=r"no usable audio: all 1 clips were skipped \(silent\)"):
        built(sounds, home / "x")
    assert not (home / "x").exists()


@pytest.mark.parametrize("rows", [0, 1, 700])
def test_vectors_are_written_in_blocks_as_faiss_writes_them(rows: int, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((rows, 12)).astype(np.float32)
    faiss_index.save(faiss_index.build(vectors), tmp_path / "whole")
    blocks = (vectors[first : first + 256] for first in range(0, rows, 256))
    faiss_index.save_blocks(blocks, rows, 12, tmp_path / "blocks")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "blocks").read_bytes()
    mapped = faiss_index.stored(
        faiss_index.load(tmp_path / "blocks")
    )  # the index itself is held by nothing else
    np.testing.assert_array_equal(mapped, vectors)
    assert not mapped.flags.writeable


def build_again(sounds: Path, path: Path, begun: Path) -> None:
    """What the killed processes do; the number of every shard that is begun becomes a line of a file."""
    real = ShardEmbedder.embed

    def noted(self: ShardEmbedder, number: int) -> None:
        with begun.open("a") as stream:
            stream.write(f"{number}\n")
        real(self, number)

    ShardEmbedder.embed = noted  # type: ignore[method-assign]
    built(sounds, path)


class TestKilled:
    @pytest.fixture
    def whole(self, sounds: Path, tmp_path: Path) -> dict[str, bytes]:
        """The files of an index that nothing stopped."""
        return content(built(sounds, tmp_path / "unstopped/x").folder.path)

    @staticmethod
    def check(sounds: Path, path: Path, whole: dict[str, bytes], begun: Path) -> None:
        """The same call again ends in the same bytes, nothing else is there, and one shard was done twice at most."""
        assert not run_and_kill(build_again, sounds, path, begun)
        assert content(path) == whole
        counts = Counter(begun.read_text().split())
        assert (
            SHARDS <= sum(counts.values()) <= SHARDS + 2
        )  # where it was finished, the silent clip is tried again
        begun.unlink()

    @pytest.mark.parametrize("stride", [9, pytest.param(3, marks=pytest.mark.slow)])
    def test_at_steps_all_the_way(
        self, stride: int, sounds: Path, home: Path, whole: dict[str, bytes], tmp_path: Path
    ) -> None:
        step = 1
        while run_and_kill(build_again, sounds, home / f"{step}/x", tmp_path / "begun", step=step):
            self.check(sounds, home / f"{step}/x", whole, tmp_path / "begun")
            step += stride
        assert step > 30  # there were so many

    def test_at_any_moment(self, sounds: Path, home: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
        draw, begun = random.Random(1), tmp_path / "begun"
        for number in range(4):
            path = home / f"{number}/x"
            if run_and_kill(build_again, sounds, path, begun, seconds=draw.uniform(0.05, 0.6)):
                self.check(sounds, path, whole, begun)
            begun.unlink(missing_ok=True)


class TestWorkersAndShares:
    @staticmethod
    def request(sounds: Path, path: Path, **changes: Any) -> Request:
        embedder = FakeEmbedder()
        embedder.name = NAMED
        return Request(sounds, checked_embedder(embedder), path, **(SETTINGS | changes))

    def test_two_workers_give_the_same_bytes(self, sounds: Path, home: Path) -> None:
        one = build_index(self.request(sounds, home / "1/x"))
        two = build_index(self.request(sounds, home / "2/x"), workers=2)
        assert two.shards == one.shards == ShardCount(SHARDS, 0)
        assert content(home / "1/x") == content(home / "2/x")

    def test_an_embedder_that_workers_cannot_load_is_refused(self, sounds: Path, home: Path) -> None:
        with pytest.raises(InputError, match="unknown embedder 'fake'"):
            built(sounds, home / "x", workers=2)

    def test_shares_that_are_merged_give_the_same_bytes(self, sounds: Path, home: Path) -> None:
        whole = build_index(self.request(sounds, home / "1/x"))
        path = home / "2/x"
        for part in (2, 1):
            with pytest.raises(InputError, match=r"cannot be read|shards are missing"):
                merge_index(path)
            assert build_share(self.request(sounds, path), (part, 2)) == ShardCount(SHARDS // 2, 0)
        assert build_share(self.request(sounds, path), (2, 2)) == ShardCount(SHARDS // 2, SHARDS // 2)
        merged = merge_index(path)
        assert merged.shards == ShardCount(SHARDS, SHARDS)
        assert merged.clips == whole.clips
        assert content(path) == content(home / "1/x")

    def test_machines_that_share_no_folder(
        self, sounds: Path, home: Path, tmp_path: Path, answer: Answer
    ) -> None:
        line = [
            "index",
            str(sounds),
            "--name",
            "x",
            "--embedder",
            NAMED,
            "--shard-seconds",
            "2.5",
            "--no-moments",
        ]
        answer(*line, "--home", str(tmp_path / "whole"))
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        for part in (2, 1):
            share = ["--shard", f"{part}/2", "--to", address, "--home", str(tmp_path / f"machine{part}")]
            assert answer(*line, *share)["shards"] == SHARDS // 2
            assert answer(*line, *share)["resumed"] == SHARDS // 2  # they are seen there
        merged = answer("merge", "x", "--from", address)
        assert (merged["shards"], merged["resumed"]) == (SHARDS, SHARDS)
        assert content(home / "x") == content(tmp_path / "whole/x")

    def test_a_share_of_other_settings_is_refused(self, sounds: Path, home: Path) -> None:
        build_share(self.request(sounds, home / "x"), (1, 2))
        with pytest.raises(InputError, match="holds shards of other settings or clips"):
            build_share(self.request(sounds, home / "x", moments=False), (2, 2))

    @pytest.mark.parametrize("change", [{"prompts": ["a bell called {}"]}, {"store": "lance"}])
    def test_a_share_of_other_prompts_or_another_store_is_refused(
        self, change: dict[str, Any], sounds: Path, home: Path
    ) -> None:
        build_share(self.request(sounds, home / "x"), (1, 2))
        with pytest.raises(InputError, match="holds shards of other settings or clips"):
            build_share(self.request(sounds, home / "x", **change), (2, 2))

    def test_a_merge_that_is_repeated_changes_nothing(
        self, sounds: Path, home: Path, tmp_path: Path, write_sound: WriteSound
    ) -> None:
        """A clip changes and one joins; the shards stay at the address, so they can be fetched again."""
        build_index(self.request(sounds, home / "x"))
        write_sound("sounds/0/00.wav", tone(111, 1, RATE), RATE)
        write_sound("sounds/1/99.wav", tone(90, 1, RATE), RATE)
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        build_share(self.request(sounds, home / "x"), (1, 1), to=address)
        merged = merge_index(home / "x", address)
        embedder = FakeEmbedder()
        for row in range(len(merged.clips)):
            heard = embedder.embed_audio([merged.read(row, RATE)])[0]
            np.testing.assert_array_equal(merged.vectors()[row], heard)
        once = content(home / "x")
        again = merge_index(home / "x", address)
        assert again.clips == merged.clips
        assert content(home / "x") == once
        write_sound("sounds/1/98.wav", tone(95, 1, RATE), RATE)
        build_index(self.request(sounds, home / "x"))
        other = content(home / "x")
        with pytest.raises(InputError, match="is not the one that the shards were begun with"):
            merge_index(home / "x", address)
        assert {name: text for name, text in content(home / "x").items() if "shards" not in name} == other

    def test_shards_are_added_to_no_index_with_other_moments(
        self, sounds: Path, home: Path, tmp_path: Path
    ) -> None:
        """It holds the same clips, embedded alike."""
        few = tmp_path / "few.csv"
        few.write_text(f"path\n{sounds}/0/00.wav\n{sounds}/0/02.wav\n")
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        build_index(self.request(few, home / "x"))
        build_index(self.request(few, tmp_path / "other/x", moments=False))
        build_share(self.request(sounds, home / "x"), (1, 1), to=address)
        before = content(tmp_path / "other/x")
        with pytest.raises(InputError, match="is not the one that the shards were begun with"):
            merge_index(tmp_path / "other/x", address)
        assert {
            name: text for name, text in content(tmp_path / "other/x").items() if FOLDER not in name
        } == before
        assert (
            len(merge_index(home / "x", address).clips) == 2 + CLIPS - 1
        )  # those of the table lie under another root

    def test_a_machine_that_lacks_the_index_is_not_mixed_with_one_that_has_it(
        self, sounds: Path, home: Path, tmp_path: Path
    ) -> None:
        few = tmp_path / "few.csv"
        few.write_text(f"path\n{sounds}/0/00.wav\n")
        build_index(self.request(few, home / "x"))
        more = tmp_path / "more.csv"
        more.write_text(f"path\n{sounds}/0/02.wav\n{sounds}/0/04.wav\n")
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        build_share(self.request(more, tmp_path / "without/x"), (1, 2), to=address)
        with pytest.raises(InputError, match=r"holds shards of other settings, .*; choose another address"):
            build_share(self.request(more, home / "x"), (2, 2), to=address)
        build_share(self.request(more, tmp_path / "without/x"), (2, 2), to=address)
        with pytest.raises(InputError, match="is not the one that the shards were begun with"):
            merge_index(home / "x", address)
        assert len(ClipIndex.open(home / "x").clips) == 1

    def test_what_was_moved_to_an_address_does_not_stand_in_the_way(
        self, sounds: Path, home: Path, tmp_path: Path
    ) -> None:
        for name, moments in (("a", None), ("b", False)):
            (tmp_path / name).mkdir()
            changes = {} if moments is None else {"moments": moments}
            request = self.request(sounds, home / "x", **changes)
            build_share(request, (1, 1), to=f"file://{tmp_path}/{name}")
            assert not list((home / "x" / FOLDER).glob("*.shard"))
        build_share(self.request(sounds, home / "x", moments=False), (1, 2))  # a shard that stays is kept
        with pytest.raises(InputError, match="holds shards of other settings or clips"):
            build_share(self.request(sounds, home / "x"), (1, 2))

    def test_a_label_that_is_corrected_meanwhile_costs_no_shard(self, sounds: Path, home: Path) -> None:
        table = sounds / "table.csv"
        table.write_text("path,label\n" + "".join(f"{n % 2}/{n:02}.wav,first\n" for n in range(CLIPS)))
        build_share(self.request(table, home / "x"), (1, 2))
        table.write_text(table.read_text().replace("first", "second"))
        index = build_index(self.request(table, home / "x"))
        assert index.shards == ShardCount(SHARDS, SHARDS // 2)
        assert {clip.label for clip in index.clips} == {"second"}
        assert not (home / "x" / FOLDER).exists()

    def test_two_writers(self, sounds: Path, home: Path) -> None:
        with locked(home / "x", "index"), pytest.raises(InputError, match=r"x is in use: .* runs `index`"):
            built(sounds, home / "x")
