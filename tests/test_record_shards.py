"""Recording in shards: stopped anywhere and by any number of workers, it ends in the same bytes."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from killing import content, run_and_kill
from numpy.typing import NDArray
from sounds import WriteSound, tone
from targets.deep import SAMPLE_RATE, load

from and_retrieval import ClipIndex, Run, record
from and_retrieval.cli import main
from and_retrieval.config import RecordConfig
from and_retrieval.errors import InputError
from and_retrieval.recording.activations import HELD_OUT, SEEN
from and_retrieval.recording.manifest import EVIDENCE
from and_retrieval.recording.record import merge, record_share
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.shard import Recorder
from and_retrieval.shards.folder import FOLDER, ShardCount
from and_retrieval.shards.lock import locked
from and_retrieval.types import Target

HERE = Path(__file__).parent
NAME = f"{HERE / 'targets/deep.py'}:three"
CLIPS = 14
CONFIG = RecordConfig(top_k=3, hold_out="0.3", batch=2, device="cpu", shard_seconds=1.3)
SHARDS = 5


@pytest.fixture
def index(tmp_path: Path, write_sound: WriteSound, home: Path) -> ClipIndex:
    for number in range(CLIPS):
        sound = tone(200 + 50 * number, 0.3 + 0.1 * (number % 3), SAMPLE_RATE, 0.1 + 0.05 * number)
        write_sound(f"sounds/{number:02}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "s")


def network() -> Target:
    return replace(load(3), name=NAME)


def recorded(index: ClipIndex, run: str = "whole", config: RecordConfig = CONFIG, workers: int = 1) -> Run:
    return record(network(), index, config=config, run=run, workers=workers)


def folder_of(index: ClipIndex, run: str) -> Path:
    return index.folder.run(run).path


class TestWithoutStops:
    def test_shards_are_counted_and_leave_nothing(self, index: ClipIndex) -> None:
        run = recorded(index)
        assert run.shards == ShardCount(SHARDS, 0)
        assert run.manifest.shards == SHARDS
        assert {path.name.partition("-")[0] for path in folder_of(index, "whole").iterdir()} == {
            "manifest.json", "activations", "evidence", "qualities", "unit_index",
        }  # fmt: skip

    def test_what_comes_out_is_what_one_shard_gives(self, index: ClipIndex) -> None:
        many, one = recorded(index), recorded(index, "one", replace(CONFIG, shard_seconds=None))
        assert one.shards == ShardCount(1, 0)
        for a, b in zip(many.layers, one.layers, strict=True):
            np.testing.assert_array_equal(a.top.rows, b.top.rows)
            np.testing.assert_array_equal(a.low.rows, b.low.rows)
            np.testing.assert_allclose(a.top.peaks, b.top.peaks)
            np.testing.assert_allclose(a.statistics.mean, b.statistics.mean, rtol=1e-5)
            np.testing.assert_allclose(a.statistics.std, b.statistics.std, rtol=1e-4)
            for part in (SEEN, HELD_OUT):
                np.testing.assert_allclose(
                    many.activations(a.name, part), one.activations(a.name, part), rtol=1e-5
                )
        np.testing.assert_allclose(many.qualities, one.qualities)
        np.testing.assert_allclose(many.bands, one.bands)

    def test_a_finished_recording_is_not_made_again(self, index: ClipIndex) -> None:
        recorded(index)
        before = content(folder_of(index, "whole"))
        again = recorded(index)
        assert again.shards == ShardCount(SHARDS, SHARDS)
        assert content(folder_of(index, "whole")) == before
        other = recorded(index, config=replace(CONFIG, top_k=4))
        assert other.shards == ShardCount(SHARDS, 0)
        assert other.layers[0].top.rows.shape == (1, 4)

    def test_code_that_changed_is_run(self, index: ClipIndex) -> None:
        recorded(index)
        louder = replace(network(), preprocess=lambda waveforms: 2 * network().preprocess(waveforms))
        again = record(louder, index, config=CONFIG, run="whole")
        assert again.shards == ShardCount(SHARDS, 0)
        record_share(network(), index, (1, 2), config=CONFIG, run="parts")
        other = record(louder, index, config=CONFIG, run="parts")
        assert other.shards == ShardCount(SHARDS, 0)
        assert content(other.folder.path) == content(again.folder.path)

    def test_a_finished_recording_that_is_damaged_is_made_again(self, index: ClipIndex) -> None:
        before = content(folder_of(index, recorded(index).folder.path.name))
        file = next(folder_of(index, "whole").glob("activations-*"))
        file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
        assert recorded(index).shards == ShardCount(SHARDS, 0)
        assert content(folder_of(index, "whole")) == before

    def test_a_recording_that_lacks_clips_is_tried_again(self, index: ClipIndex, tmp_path: Path) -> None:
        moved = (tmp_path / "sounds/03.wav").rename(tmp_path / "03.wav")
        partly = recorded(index)
        assert [Path(miss.path).name for miss in partly.manifest.skipped] == ["03.wav"]
        assert np.isnan(partly.qualities[3]).all()
        assert partly.manifest.read_clips == CLIPS - 1
        del partly  # whose files would stay
        moved.rename(tmp_path / "sounds/03.wav")
        assert recorded(index).manifest.skipped == ()
        whole = recorded(index, "other")
        assert content(whole.folder.path) == content(folder_of(index, "whole"))

    def test_a_recording_whose_clips_are_still_gone_is_not_made_again(
        self, index: ClipIndex, tmp_path: Path
    ) -> None:
        (tmp_path / "sounds/03.wav").unlink()
        (tmp_path / "sounds/07.wav").write_bytes(b"no sound")
        recorded(index)
        before = content(folder_of(index, "whole"))
        again = recorded(index)
        assert again.shards == ShardCount(SHARDS, SHARDS)
        assert content(folder_of(index, "whole")) == before
        assert [Path(miss.path).name for miss in again.manifest.skipped] == ["03.wav", "07.wav"]

    def test_a_clip_that_the_network_refuses_does_not_cost_the_recording(self, index: ClipIndex) -> None:
        """It can be read each time, and is refused each time."""
        shortest = min(clip.duration for clip in index.clips)

        def choosy(waveforms: Sequence[NDArray[np.float32]]) -> object:
            if len(waveforms[0]) < (shortest + 0.05) * SAMPLE_RATE:
                raise InputError("too short for this network")
            return network().preprocess(waveforms)

        target = replace(network(), preprocess=choosy)
        short = {clip.file for clip in index.clips if clip.duration < shortest + 0.05}
        first = record(target, index, config=CONFIG, run="whole")
        assert {miss.path for miss in first.manifest.skipped} == short
        assert record(target, index, config=CONFIG, run="whole").shards == ShardCount(SHARDS, SHARDS)

    def test_without_a_single_clip_the_recording_before_stays(self, index: ClipIndex, tmp_path: Path) -> None:
        recorded(index)
        before = content(folder_of(index, "whole"))
        (tmp_path / "sounds").rename(tmp_path / "gone")
        with pytest.raises(
            InputError, match=r"no clip can be recorded, the first is .*00\.wav: not readable"
        ):
            recorded(index, config=replace(CONFIG, top_k=4))
        assert content(folder_of(index, "whole")) == before


class TestKept:
    def test_a_sample_by_the_ids_is_kept_and_the_rest_is_as_before(self, index: ClipIndex) -> None:
        whole = recorded(index)
        few = recorded(index, "few", replace(CONFIG, kept_seen=4, kept_held_out=2))
        for part, count in (("seen_rows", 4), ("held_out_rows", 2)):
            rows = getattr(whole, part).tolist()
            lowest = sorted(sorted(rows, key=lambda row: index.clips[row].id)[:count])
            assert getattr(few, part).tolist() == lowest
            assert len(rows) > count
        for layer, other in zip(whole.layers, few.layers, strict=True):
            np.testing.assert_array_equal(layer.top.rows, other.top.rows)
            np.testing.assert_array_equal(layer.statistics.mean, other.statistics.mean)
            assert other.statistics.count == len(whole.seen_rows)
            for part, rows, chosen in (
                (SEEN, whole.seen_rows, few.seen_rows), (HELD_OUT, whole.held_out_rows, few.held_out_rows),
            ):  # fmt: skip
                expected = whole.activations(layer.name, part)[np.isin(rows, chosen)]
                np.testing.assert_array_equal(few.activations(layer.name, part), expected)
        np.testing.assert_array_equal(few.qualities, whole.qualities)

    def test_what_is_said_of_another_sample_is_said_of_another_recording(self, index: ClipIndex) -> None:
        """Though the evidence is the same: labels are tested on the activations that are kept."""
        whole = recorded(index)
        few = recorded(index, "few", replace(CONFIG, kept_seen=4))
        assert few.stored.entry(EVIDENCE) == whole.stored.entry(EVIDENCE)
        assert few.identity != whole.identity == recorded(index, "again").identity


class TestGrown:
    """Clips were added to the index."""

    ADDED = 5
    MORE = 2
    """Shards of these."""

    @pytest.fixture
    def add(self, tmp_path: Path, write_sound: WriteSound) -> Callable[[ClipIndex], ClipIndex]:
        """Adds loud and quiet clips, and gives the index of all."""

        def added(index: ClipIndex) -> ClipIndex:
            for number in range(self.ADDED):
                sound = tone(230 + 90 * number, 0.4, SAMPLE_RATE, (0.9, 0.02, 0.4)[number % 3])
                write_sound(f"sounds/{'ab'[number % 2]}{number}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
            return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), index.folder.path)

        return added

    @staticmethod
    def check(run: Run) -> None:
        """The evidence is that of the activations, brute force."""
        for layer in run.layers:
            seen = run.activations(layer.name, SEEN)
            order = np.argsort(-seen, axis=0, kind="stable")[: CONFIG.top_k]
            np.testing.assert_array_equal(layer.top.rows, run.seen_rows[order].T)
            np.testing.assert_array_equal(layer.top.values, np.take_along_axis(seen, order, axis=0).T)
            np.testing.assert_allclose(layer.statistics.mean, seen.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(layer.statistics.std, seen.std(axis=0), rtol=1e-4)
            assert layer.statistics.count == len(seen)

    def test_only_these_are_recorded(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = recorded(index)
        held = {index.clips[row].id for row in before.held_out_rows}
        old = {part: before.activations("layers.1", part).copy() for part in (SEEN, HELD_OUT)}
        del before
        index = add(index)
        done: list[int] = []
        real = Recorder.record
        monkeypatch.setattr(
            Recorder, "record", lambda self, number: (done.append(number), real(self, number))
        )
        grown = recorded(index)
        assert grown.shards == ShardCount(SHARDS + self.MORE, SHARDS)
        assert done == list(range(self.MORE))
        assert grown.manifest.index_clips == CLIPS + self.ADDED == grown.manifest.read_clips
        self.check(grown)
        assert held <= {index.clips[row].id for row in grown.held_out_rows}
        for part, values in old.items():
            np.testing.assert_array_equal(grown.activations("layers.1", part)[: len(values)], values)
        assert {path.name.partition("-")[0] for path in grown.folder.path.iterdir()} == {
            "manifest.json", "activations", "evidence", "qualities", "unit_index",
        }  # fmt: skip
        bytes_grown = content(grown.folder.path)
        again = recorded(index)
        assert again.shards == ShardCount(SHARDS + self.MORE, SHARDS + self.MORE)
        assert content(again.folder.path) == bytes_grown

    def test_all_figures_are_those_of_a_recording_made_anew(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], tmp_path: Path
    ) -> None:
        """Where it does not depend on the others whether a clip is held out: by its fold."""
        config = replace(CONFIG, hold_out="fold:2")
        add(index)  # the files
        names = sorted(path.name for path in (tmp_path / "sounds").iterdir())
        table = tmp_path / "sounds.csv"
        lines = [f"sounds/{name},{place % 3}\n" for place, name in enumerate(names)]
        table.write_text("path,fold\n" + "".join(lines[: CLIPS - 3]))
        small = ClipIndex.build(table, FakeEmbedder(), index.folder.path.with_name("folds"))
        recorded(small, config=config)
        table.write_text("path,fold\n" + "".join(lines))
        large = ClipIndex.build(table, FakeEmbedder(), small.folder.path)
        grown, anew = recorded(large, config=config), recorded(large, "anew", config)
        assert grown.shards.resumed > 0
        assert anew.shards.resumed == 0
        for a, b in zip(grown.layers, anew.layers, strict=True):
            for end in ("top", "low"):
                for field in ("rows", "values", "peaks"):
                    np.testing.assert_array_equal(
                        getattr(getattr(a, end), field), getattr(getattr(b, end), field)
                    )
            np.testing.assert_allclose(a.statistics.mean, b.statistics.mean, rtol=1e-6)
            np.testing.assert_allclose(a.statistics.std, b.statistics.std, rtol=1e-6)
            for part in (SEEN, HELD_OUT):
                np.testing.assert_array_equal(grown.activations(a.name, part), anew.activations(a.name, part))
                np.testing.assert_array_equal(grown.peaks(a.name, part), anew.peaks(a.name, part))
                assert len(grown.peaks(a.name, part)) == len(grown.activations(a.name, part))
        np.testing.assert_array_equal(grown.qualities, anew.qualities)
        np.testing.assert_array_equal(grown.bands, anew.bands)
        rows = np.arange(grown.unit_index.faiss.ntotal)
        np.testing.assert_array_equal(grown.unit_index.vectors(rows), anew.unit_index.vectors(rows))
        assert grown.manifest.held_out_rows == anew.manifest.held_out_rows

    def test_a_recording_that_lacks_clips_grows(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], tmp_path: Path
    ) -> None:
        gone = (tmp_path / "sounds/03.wav").rename(tmp_path / "03.wav")
        recorded(index)
        gone.rename(tmp_path / "sounds/03.wav")
        index = add(index)
        (tmp_path / "sounds/03.wav").rename(gone)
        grown = recorded(index)
        assert grown.shards == ShardCount(SHARDS + self.MORE, SHARDS)
        assert [Path(miss.path).name for miss in grown.manifest.skipped] == ["03.wav"]
        assert grown.manifest.read_clips == CLIPS + self.ADDED - 1
        assert np.isnan(grown.qualities[3]).all()
        del grown
        gone.rename(tmp_path / "sounds/03.wav")
        assert recorded(index).shards.resumed == 0

    def test_shards_of_an_unfinished_recording_stay(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex]
    ) -> None:
        record_share(network(), index, (1, 2), config=CONFIG, run="parts")
        grown = recorded(add(index), "parts")
        assert grown.shards == ShardCount(SHARDS + self.MORE, 3)
        self.check(grown)

    def test_a_recording_that_grows_is_finished_by_any_number_of_workers_and_shares(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex]
    ) -> None:
        for run in ("whole", "several", "parts"):
            recorded(index, run)
        index = add(index)
        whole = content(recorded(index).folder.path)
        several = recorded(index, "several", workers=2)
        assert several.shards == ShardCount(SHARDS + self.MORE, SHARDS)
        assert content(several.folder.path) == whole
        for part in (2, 1):
            assert record_share(network(), index, (part, 2), config=CONFIG, run="parts") == ShardCount(1, 0)
        assert merge(index, "parts").shards == ShardCount(SHARDS + self.MORE, SHARDS + self.MORE)
        assert content(folder_of(index, "parts")) == whole

    def test_shards_are_added_to_no_other_recording(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], tmp_path: Path
    ) -> None:
        """Nor to one of the same clips whose evidence is the same, and of which fewer activations are kept."""
        for run in ("whole", "copy", "parts"):
            recorded(index, run)
        recorded(index, "fewer", replace(CONFIG, kept_seen=4))
        evidence = [next(folder_of(index, run).glob("evidence-*")) for run in ("parts", "fewer")]
        assert evidence[0].read_bytes() == evidence[1].read_bytes()
        index = add(index)
        whole = content(recorded(index).folder.path)
        parts = folder_of(index, "parts")
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        record_share(network(), index, (1, 1), config=CONFIG, run="parts", to=address)
        for other in ("nothing", "fewer"):
            shutil.rmtree(parts)
            if other == "fewer":
                shutil.copytree(folder_of(index, other), parts)
            before = content(parts) if parts.exists() else {}
            with pytest.raises(
                InputError, match=r"runs/parts is not the one that the shards were begun with"
            ):
                merge(index, "parts", address)
            assert {name: text for name, text in content(parts).items() if FOLDER not in name} == before
        assert merge(index, "copy", address).shards.shards == SHARDS + self.MORE
        assert content(folder_of(index, "copy")) == whole

    def test_a_merge_that_is_repeated_changes_nothing(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], tmp_path: Path
    ) -> None:
        recorded(index)
        index = add(index)
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        record_share(network(), index, (1, 1), config=CONFIG, run="whole", to=address)
        once = content(merge(index, "whole", address).folder.path)
        again = merge(index, "whole", address)
        assert again.shards == ShardCount(SHARDS + self.MORE, SHARDS + self.MORE)
        assert content(again.folder.path) == once

    @pytest.mark.parametrize("finished", [True, False])
    def test_peaks_of_seen_clips_go_where_enough_are_held_out_by_now(
        self,
        finished: bool,
        index: ClipIndex,
        add: Callable[[ClipIndex], ClipIndex],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("and_retrieval.recording.manifest.LEAST_HELD_OUT", 6)
        config = replace(CONFIG, hold_out="fold:2")
        add(index)  # the files
        table = tmp_path / "sounds.csv"
        names = sorted(path.name for path in (tmp_path / "sounds").iterdir())
        lines = [f"sounds/{name},{place % 3}\n" for place, name in enumerate(names)]
        table.write_text("path,fold\n" + "".join(lines[:CLIPS]))
        small = ClipIndex.build(table, FakeEmbedder(), index.folder.path.with_name("folds"))
        if finished:
            assert len(recorded(small, config=config).peaks("layers.1", SEEN)) == CLIPS - 4
        else:
            record_share(network(), small, (1, 2), config=config, run="whole")
        table.write_text("path,fold\n" + "".join(lines))
        large = ClipIndex.build(table, FakeEmbedder(), small.folder.path)
        grown, anew = recorded(large, config=config), recorded(large, "anew", config)
        assert grown.shards.resumed > 0
        assert not grown.manifest.cross_fitted
        assert len(grown.peaks("layers.1", SEEN)) == 0
        for name in ("layers.0", "layers.1"):
            np.testing.assert_array_equal(grown.peaks(name, HELD_OUT), anew.peaks(name, HELD_OUT))
            np.testing.assert_array_equal(grown.activations(name, HELD_OUT), anew.activations(name, HELD_OUT))

    def test_the_sample_that_is_kept_is_that_of_all(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex]
    ) -> None:
        config = replace(CONFIG, kept_seen=4, kept_held_out=2)
        for run in ("whole", "few"):
            recorded(index, run, CONFIG if run == "whole" else config)
        index = add(index)
        whole, few = recorded(index), recorded(index, "few", config)
        for part, rows, kept in (
            (SEEN, whole.seen_rows, few.seen_rows), (HELD_OUT, whole.held_out_rows, few.held_out_rows),
        ):  # fmt: skip
            lowest = sorted(sorted(rows.tolist(), key=lambda row: index.clips[row].id)[: len(kept)])
            assert kept.tolist() == lowest
            expected = whole.activations("layers.0", part)[np.isin(rows, kept)]
            np.testing.assert_array_equal(few.activations("layers.0", part), expected)
        assert few.shards == ShardCount(SHARDS + self.MORE, SHARDS)

    def test_all_is_recorded_anew_where_other_clips_are_held_out(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], tmp_path: Path
    ) -> None:
        recorded(index)
        index = add(index)
        table = tmp_path / "sounds/labels.csv"  # labels that came later
        table.write_text(
            "path,label\n" + "".join(f"{clip.path},{row % 5}\n" for row, clip in enumerate(index.clips))
        )
        index = ClipIndex.build(table, FakeEmbedder(), index.folder.path)
        anew = recorded(index)
        assert anew.shards.resumed == 0
        assert anew.manifest.grown == ()
        self.check(anew)
        assert content(anew.folder.path) == content(recorded(index, "other").folder.path)

    def test_killed_at_steps_all_the_way(
        self, index: ClipIndex, add: Callable[[ClipIndex], ClipIndex], home: Path, tmp_path: Path
    ) -> None:
        begun = tmp_path / "begun"
        recorded(index)
        before = folder_of(index, "whole")
        starts = range(1, 60, 8)
        for step in starts:
            shutil.copytree(before, before.with_name(f"run{step}"))
        index = add(index)
        whole = content(recorded(index).folder.path)
        for step in starts:
            if not run_and_kill(record_again, home, f"run{step}", begun, step=step):
                break
            assert not run_and_kill(record_again, home, f"run{step}", begun)
            assert content(before.with_name(f"run{step}")) == whole
            assert len(begun.read_text().split()) <= self.MORE + 1
            begun.unlink()
        assert step > 20  # there were so many


def record_again(home: Path, run: str, begun: Path, config: RecordConfig = CONFIG) -> None:
    """What the killed processes do; the number of every shard that is begun becomes a line of a file."""
    real = Recorder.record

    def noted(self: Recorder, number: int) -> None:
        with begun.open("a") as stream:
            stream.write(f"{number}\n")
        real(self, number)

    Recorder.record = noted  # type: ignore[method-assign]
    recorded(ClipIndex.open(home / "s", FakeEmbedder()), run, config)


class TestKilled:
    @pytest.fixture
    def begun(self, tmp_path: Path) -> Path:
        """A file with the number of every shard that was begun, one a line."""
        return tmp_path / "begun"

    @pytest.fixture
    def whole(self, index: ClipIndex) -> dict[str, bytes]:
        """The files of a recording that nothing stopped."""
        return content(recorded(index).folder.path)

    @staticmethod
    def check(home: Path, name: str, whole: dict[str, bytes], begun: Path) -> None:
        """The same call again ends in the same bytes, nothing else is there, and one shard was done twice at most."""
        assert not run_and_kill(record_again, home, name, begun)
        assert content(home / "s/runs" / name) == whole
        counts = Counter(begun.read_text().split())
        assert len(counts) == SHARDS
        assert sum(counts.values()) <= SHARDS + 1
        begun.unlink()

    @pytest.mark.parametrize("stride", [6, pytest.param(2, marks=pytest.mark.slow)])
    def test_at_steps_all_the_way(
        self, stride: int, home: Path, whole: dict[str, bytes], begun: Path
    ) -> None:
        step = 1
        while run_and_kill(record_again, home, f"run{step}", begun, step=step):
            self.check(home, f"run{step}", whole, begun)
            step += stride
        assert step > 30  # there were so many

    def test_at_any_moment(self, home: Path, whole: dict[str, bytes], begun: Path) -> None:
        draw = random.Random(0)
        for number in range(4):
            if run_and_kill(record_again, home, f"run{number}", begun, seconds=draw.uniform(0.1, 1)):
                self.check(home, f"run{number}", whole, begun)
            begun.unlink(missing_ok=True)

    def test_again_and_again(self, home: Path, whole: dict[str, bytes], begun: Path) -> None:
        step = 6
        while run_and_kill(record_again, home, "run", begun, step=step):
            step += 5
        assert content(home / "s/runs/run") == whole

    def test_while_it_replaces_another(
        self, index: ClipIndex, home: Path, whole: dict[str, bytes], begun: Path
    ) -> None:
        """Readers have the recording before until the new one is there."""
        old = recorded(index, "run", replace(CONFIG, top_k=4))
        before = old.layers[0].top.rows.copy()
        del old
        for step in range(1, 80, 4):
            killed = run_and_kill(record_again, home, "run", begun, step=step)
            now = Recording.open(index.folder.run("run"), index)
            if now.manifest.settings.top_k == 4:
                np.testing.assert_array_equal(now.layers[0].top.rows, before)
            assert np.isfinite(now.activations("layers.0", SEEN)).all()
            del now
            if not killed:
                break
        recorded(index, "run")
        assert content(home / "s/runs/run") == whole


class TestWorkersAndShares:
    def test_two_workers_give_the_same_bytes(self, index: ClipIndex) -> None:
        whole = content(recorded(index).folder.path)
        several = recorded(index, "several", workers=2)
        assert several.shards == ShardCount(SHARDS, 0)
        assert content(several.folder.path) == whole

    def test_a_network_that_workers_cannot_load_is_refused(self, index: ClipIndex) -> None:
        with pytest.raises(InputError, match="unknown target 'deep'"):
            record(load(3), index, config=CONFIG, workers=2)
        other = replace(load(2), name=NAME)
        with pytest.raises(InputError, match="has other weights when it is loaded again"):
            record(other, index, config=CONFIG, workers=2)

    def test_shares_that_are_merged_give_the_same_bytes(self, index: ClipIndex) -> None:
        whole = content(recorded(index).folder.path)
        for part in (2, 3, 1):
            with pytest.raises(InputError, match=r"cannot be read|shards are missing"):
                merge(index, "parts")
            count = record_share(network(), index, (part, 3), config=CONFIG, run="parts")
            assert count == ShardCount(2 if part < 3 else 1, 0)
        assert record_share(network(), index, (1, 3), config=CONFIG, run="parts") == ShardCount(2, 2)
        merged = merge(index, "parts")
        assert merged.shards == ShardCount(SHARDS, SHARDS)
        assert content(folder_of(index, "parts")) == whole

    def test_a_share_of_another_plan_is_refused(self, index: ClipIndex) -> None:
        record_share(network(), index, (1, 2), config=CONFIG, run="parts")
        with pytest.raises(InputError, match="holds shards of other settings or clips"):
            record_share(network(), index, (2, 2), config=replace(CONFIG, top_k=4), run="parts")

    def test_shares_are_merged_with_no_other_index(self, index: ClipIndex, tmp_path: Path) -> None:
        """Nor with one of the same clips that has no moments, from which the vectors of units come."""
        record_share(network(), index, (1, 1), config=CONFIG, run="parts")
        parts = content(folder_of(index, "parts"))
        shutil.rmtree(index.folder.path)
        other = ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), index.folder.path, moments=True)
        assert other.digest() == index.digest()
        for name, text in parts.items():
            file = folder_of(other, "parts") / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
        with pytest.raises(InputError, match="index 's' was changed after parts was begun; record it again"):
            merge(other, "parts")

    def test_shares_begun_afresh_replace_no_other_recording(self, index: ClipIndex, tmp_path: Path) -> None:
        """What is there stays, unless it was there when they were begun; merging again changes nothing."""
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        other = recorded(index, "other", replace(CONFIG, top_k=5))
        before = content(other.folder.path)
        record_share(network(), index, (1, 1), config=CONFIG, run="r", to=address)
        shutil.copytree(folder_of(index, "other"), folder_of(index, "r"), dirs_exist_ok=True)
        with pytest.raises(
            InputError, match=r"runs/r is not the one .* merge them into another --home"
        ) as error:
            merge(index, "r", address)
        assert "\n" not in str(error.value)
        left = content(folder_of(index, "r"))
        assert {name: text for name, text in left.items() if FOLDER not in name} == before
        whole = content(recorded(index).folder.path)
        for _ in range(2):
            assert content(merge(index, "elsewhere", address).folder.path) == whole
        shutil.rmtree(folder_of(index, "r"))
        assert content(merge(index, "r", address).folder.path) == whole

    def test_shares_replace_what_was_there_when_they_were_begun(self, index: ClipIndex) -> None:
        recorded(index, "r", replace(CONFIG, top_k=5))
        for part in (1, 2):
            record_share(network(), index, (part, 2), config=CONFIG, run="r")
        whole = content(recorded(index).folder.path)
        assert content(merge(index, "r").folder.path) == whole
        for config in (replace(CONFIG, top_k=5), CONFIG):
            recorded(index, "r", config)
        assert content(folder_of(index, "r")) == whole

    def test_what_was_recorded_while_shares_were_made_stays(self, index: ClipIndex, tmp_path: Path) -> None:
        recorded(index, "r", replace(CONFIG, top_k=5))
        for part in (1, 2):
            record_share(network(), index, (part, 2), config=CONFIG, run="r")
        shards = folder_of(index, "r") / FOLDER
        shutil.move(shards, tmp_path / "kept")
        before = content(recorded(index, "r", replace(CONFIG, top_k=4)).folder.path)
        shutil.move(tmp_path / "kept", shards)
        with pytest.raises(InputError, match="is not the one that the shards were begun with"):
            merge(index, "r")
        shutil.rmtree(shards)
        assert content(folder_of(index, "r")) == before

    def test_a_merge_that_is_repeated_mends_what_was_damaged_since(
        self, index: ClipIndex, tmp_path: Path
    ) -> None:
        (tmp_path / "there").mkdir()
        address = f"file://{tmp_path}/there"
        record_share(network(), index, (1, 1), config=CONFIG, run="r", to=address)
        whole = content(merge(index, "r", address).folder.path)
        next(folder_of(index, "r").glob("activations-*")).write_bytes(b"x")
        assert content(merge(index, "r", address).folder.path) == whole

    def test_shares_begun_are_finished_by_a_whole_call(self, index: ClipIndex) -> None:
        whole = content(recorded(index).folder.path)
        record_share(network(), index, (1, 2), config=CONFIG, run="parts")
        assert recorded(index, "parts").shards == ShardCount(SHARDS, 3)
        assert content(folder_of(index, "parts")) == whole

    def test_two_writers(self, index: ClipIndex) -> None:
        folder = folder_of(index, "whole")
        with (
            locked(folder, "explain"),
            pytest.raises(InputError, match=r"runs/whole is in use: .* runs `explain`"),
        ):
            recorded(index)
        recorded(index)

    @pytest.mark.slow
    def test_a_ray_cluster_gives_the_same_bytes(self, index: ClipIndex) -> None:
        pytest.importorskip("ray")
        whole = content(recorded(index).folder.path)
        several = record(network(), index, config=CONFIG, run="several", workers="ray")
        assert several.shards == ShardCount(SHARDS, 0)
        assert content(several.folder.path) == whole


def test_machines_that_share_no_folder(
    index: ClipIndex, home: Path, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a copy of the index; what they leave at an address makes the recording of one process."""
    options = ["s", "--target", NAME, "--top-k", "3", "--hold-out", "0.3", "--batch", "2", "--device", "cpu"]
    options += ["--shard-seconds", "1.3", "--run", "parts"]
    address = f"file://{tmp_path}/there"
    machines = [tmp_path / "machine1", tmp_path / "machine2"]
    for machine in machines:
        shutil.copytree(index.folder.path, machine / "s")
    for part, shards, machine in zip((1, 2), (3, 2), machines, strict=True):
        share = ["record", *options, "--shard", f"{part}/2", "--to", address, "--home", str(machine)]
        if part == 1:
            assert main(share) == 2
            assert f"{address} cannot be written to: there is no such folder" in capsys.readouterr().err
            (tmp_path / "there").mkdir()
            assert main(["merge", "s/parts", "--from", address]) == 2
            assert f"{address} holds no shards; run the calls with --shard" in capsys.readouterr().err
        done = answer(*share)
        assert (done["shards"], done["resumed"]) == (shards, 0)
        assert not list(machine.rglob("*.shard"))
        if part == 1:
            assert main(["merge", "s/parts", "--from", address]) == 2
            assert (
                f"2 of {SHARDS} shards cannot be fetched from {address} (missing: 2, 4)"
                in capsys.readouterr().err
            )
    assert main(share) == 0
    assert f"next     and-retrieval merge s/parts --from {address}" in capsys.readouterr().out
    merged = answer("merge", "s/parts", "--from", address)
    assert (merged["shards"], merged["resumed"]) == (SHARDS, SHARDS)
    assert content(home / "s/runs/parts") == content(recorded(index).folder.path)
    assert main(["record", *options, "--to", address]) == 2
    assert f"--to {address} needs --shard I/N" in capsys.readouterr().err


def test_the_command_line(
    index: ClipIndex, home: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--target",
        NAME,
        "--top-k",
        "3",
        "--hold-out",
        "0.3",
        "--batch",
        "2",
        "--shard-seconds",
        "1.3",
    ]
    whole = answer("record", "s", *options, "--device", "cpu", "--run", "whole")
    assert (whole["shards"], whole["resumed"]) == (SHARDS, 0)
    for part, shards in ((1, 3), (2, 2)):
        capsys.readouterr()
        assert main(["merge", "s/parts"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        shared = answer("record", "s", *options, "--device", "cpu", "--run", "parts", "--shard", f"{part}/2")
        assert {key: shared[key] for key in ("shards", "resumed")} == {"shards": shards, "resumed": 0}
    merged = answer("merge", "s/parts")
    assert (merged["shards"], merged["resumed"]) == (SHARDS, SHARDS)
    assert content(home / "s/runs/parts") == content(home / "s/runs/whole")
    for wrong, says in (
        (["--workers", "0"], "workers 0: give a number of processes, ray, or ray:ADDRESS"),
        (["--workers", "two"], "workers 'two': give a number of processes"),
        (["--shard", "3/2"], "--shard 3/2: write I/N with I from 1 to N"),
        (["--shard", "x"], "--shard x: write I/N"),
        (["--shard-seconds", "0"], "--shard-seconds 0: give a number of seconds"),
        (["--keep-seen", "0"], "--keep-seen 0: give a whole number"),
    ):
        assert main(["record", "s", "--target", NAME, *wrong]) == 2
        assert says in capsys.readouterr().err
    with locked(home / "s/runs/whole", "explain"):
        assert main(["record", "s", "--target", NAME, "--run", "whole"]) == 2
    assert "is in use: " in capsys.readouterr().err
