"""The clip index: built, opened, added to without embedding again, and refused when it does not fit."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from documents import rewritten
from embedders import FakeEmbedder
from sounds import WriteSound, noise, tone

from and_retrieval import faiss_index, soundbank
from and_retrieval.clips.files import UnreadableAudioError
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.manifest import IndexManifest
from and_retrieval.clips.reading import read_in_order
from and_retrieval.clips.shard import BATCH
from and_retrieval.clips.source import load_clips, read_clip
from and_retrieval.config import ClipConfig
from and_retrieval.errors import ChecksumError, InputError, StaleError
from and_retrieval.store import INDEX, Folder, Stored
from and_retrieval.types import Embedder, Floats


@pytest.fixture
def sounds(tmp_path: Path, write_sound: WriteSound) -> Path:
    for number in range(6):
        write_sound(
            f"sounds/{'low' if number % 2 else 'high'}/{number}.wav",
            tone(150 + 500 * number, 0.4, 8_000),
            8_000,
        )
    return tmp_path / "sounds"


@pytest.fixture
def fake() -> FakeEmbedder:
    return FakeEmbedder()


def names(index: ClipIndex) -> list[str]:
    return [clip.path for clip in index.clips]


def reasons(index: ClipIndex) -> dict[str, str]:
    return {Path(miss.path).name: miss.reason for miss in index.skipped}


def made_of(index: ClipIndex) -> Stored[IndexManifest]:
    return index.folder.open(IndexManifest)


def files(index: ClipIndex) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in index.folder.path.iterdir()}


class TestBuild:
    def test_and_open_again(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        seen: list[tuple[int, int]] = []
        built = ClipIndex.build(sounds, fake, home / "tones", progress=lambda *at: seen.append(at))
        assert fake.heard == 6
        assert seen[-1] == (6, 6)
        opened = ClipIndex.open(home / "tones")
        assert opened.clips == built.clips == load_clips(sounds).clips
        assert (opened.name, opened.dim, opened.embedder_name) == ("tones", 8, "fake")
        assert opened.digest() == built.digest() == made_of(built).manifest.digest
        assert opened.vectors().tobytes() == built.vectors().tobytes()
        np.testing.assert_allclose(np.linalg.norm(opened.vectors(), axis=1), 1, atol=1e-6)
        for row in range(6):
            matches = opened.search(opened.vectors()[row], 3)
            assert len(matches) == 3
            assert matches[0][0] == row
            assert matches[0][1] == pytest.approx(1, abs=1e-6)

    def test_twice_gives_the_same_bytes(self, sounds: Path, home: Path) -> None:
        one = ClipIndex.build(sounds, FakeEmbedder(), home / "one/x")
        two = ClipIndex.build(sounds, FakeEmbedder(), home / "two/x")
        assert files(one) == files(two)
        ClipIndex.build(sounds, FakeEmbedder(), home / "two/x")
        assert files(one) == files(two)

    def test_of_more_clips_than_a_batch_keeps_their_order(
        self, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        sound = np.concatenate([tone(100 + 30 * n, 0.2, 8_000) for n in range(2 * BATCH + 3)])
        path = write_sound("long.wav", sound, 8_000, subtype="FLOAT")
        index = ClipIndex.build(path, fake, home / "x", ClipConfig(window=0.2))
        assert len(index.clips) == 2 * BATCH + 3
        assert [clip.start for clip in index.clips] == sorted(clip.start for clip in index.clips)
        alone = fake.embed_audio([sound[n * 1_600 : (n + 1) * 1_600] for n in range(len(index.clips))])
        np.testing.assert_allclose(index.vectors(), alone, atol=1e-6)

    def test_bad_audio_is_listed_and_stops_nothing(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        (sounds / "zero.wav").write_bytes(b"")
        (sounds / "text.wav").write_text("not a sound")
        write_sound("sounds/one.wav", np.full(1, 0.5, np.float32))
        write_sound("sounds/silent.wav", np.zeros(8_000, np.float32))
        write_sound("sounds/nan.wav", np.full(8_000, np.nan, np.float32), subtype="FLOAT")
        write_sound("sounds/huge.wav", noise(0.5, amplitude=1e30), subtype="FLOAT")
        write_sound("sounds/array.wav", np.stack([noise(0.2, 192_000)] * 8, axis=1), 192_000)
        write_sound("sounds/odd.wav", tone(900, 0.5, 44_101), 44_101)
        write_sound(
            "sounds/half-silent.wav",
            np.concatenate([noise(10.0, 4_000), np.zeros(40_000, np.float32)]),
            4_000,
        )
        for suffix in ("ogg", "flac", "wav", "mp3"):
            cut = write_sound(f"sounds/cut.{suffix}", noise(12.0, 22_050), 22_050)
            cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        index = ClipIndex.build(sounds, fake, home / "x")
        listed = {name: reason for name, reason in reasons(index).items() if not name.startswith("cut")}
        assert listed == {
            "zero.wav": "empty file",
            "text.wav": "not readable as audio (Format not recognised)",
            "one.wav": "too short (1 samples)",
            "silent.wav": "silent",
            "nan.wav": "holds NaN or infinite samples",
            "huge.wav": "holds samples beyond 1e+06, where full scale is 1",
            "half-silent.wav at 10 s": "silent",
        }
        used = set(names(index))
        assert {"array.wav", "odd.wav", "half-silent.wav", "cut.ogg", "cut.wav", "cut.mp3"} <= used
        assert np.isfinite(index.vectors()).all()
        assert index.vectors().shape == (len(index.clips), 8)
        assert ClipIndex.open(home / "x").skipped == index.skipped
        assert made_of(index).manifest.skipped == len(index.skipped)

    def test_with_nothing_usable_leaves_no_index(
        self, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        path = write_sound("silent/x.wav", np.zeros(8_000, np.float32))
        with pytest.raises(InputError, match=r"all 1 clips were skipped \(silent\)"):
            ClipIndex.build(path.parent, fake, home / "x")
        assert not Folder(home / "x", INDEX).exists()


class TestAdding:
    def test_embeds_new_clips_alone(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        first = ClipIndex.build(sounds, fake, home / "x")
        write_sound("sounds/a-first-name.wav", tone(3_000, 0.4, 8_000), 8_000)
        other = write_sound("more/new.wav", noise(0.4, 8_000), 8_000).parent
        second = ClipIndex.build(sounds, fake, home / "x")
        third = ClipIndex.build(other, fake, home / "x")
        assert fake.heard == 8
        assert names(third) == [*names(first), "a-first-name.wav", "new.wav"]  # rows never move
        assert third.vectors()[:6].tobytes() == first.vectors().tobytes()
        assert third.digest(6) == first.digest()
        assert third.digest(7) == second.digest()
        assert third.digest() != second.digest()
        assert ClipIndex.open(home / "x").clips == third.clips
        ClipIndex.build(sounds, fake, home / "x")
        assert fake.heard == 8

    def test_a_moved_folder_is_read_from_its_new_place(
        self, sounds: Path, tmp_path: Path, home: Path, fake: FakeEmbedder
    ) -> None:
        before = ClipIndex.build(sounds, fake, home / "x")
        moved = tmp_path / "elsewhere"
        shutil.move(sounds, moved)
        after = ClipIndex.build(moved, fake, home / "x")
        assert fake.heard == 6
        assert {clip.root for clip in after.clips} == {str(moved)}
        assert after.digest() == before.digest()

    def test_a_changed_file_replaces_its_clips(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        before = ClipIndex.build(sounds, fake, home / "x")
        changed = names(before)[2]
        write_sound(f"sounds/{changed}", noise(0.4, 8_000), 8_000)
        after = ClipIndex.build(sounds, fake, home / "x")
        assert fake.heard == 7
        assert names(after) == [*names(before)[:2], *names(before)[3:], changed]
        kept = np.delete(before.vectors(), 2, axis=0)
        assert after.vectors()[:5].tobytes() == kept.tobytes()
        assert after.digest(6) != before.digest()

    def test_a_file_that_went_keeps_its_row(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        before = ClipIndex.build(sounds, fake, home / "x")
        (sounds / names(before)[0]).unlink()
        assert ClipIndex.build(sounds, fake, home / "x").clips == before.clips

    def test_files_of_the_same_name_in_another_folder_are_others(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        ClipIndex.build(sounds, fake, home / "x")
        other = write_sound("other/low/1.wav", noise(0.4, 8_000), 8_000).parents[1]
        index = ClipIndex.build(other, fake, home / "x")
        assert names(index).count("low/1.wav") == 2
        assert len(index.clips) == 7

    def test_mended_files_leave_the_list_of_the_skipped(
        self, sounds: Path, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        (sounds / "broken.wav").write_bytes(b"")
        (sounds / "lost.wav").write_bytes(b"")
        other = write_sound("more/new.wav", noise(0.4, 8_000), 8_000).parent
        (other / "bad.wav").write_bytes(b"")
        ClipIndex.build(sounds, fake, home / "x")
        assert set(reasons(ClipIndex.build(other, fake, home / "x"))) == {"broken.wav", "lost.wav", "bad.wav"}
        write_sound("sounds/broken.wav", noise(0.4, 8_000), 8_000)
        (sounds / "lost.wav").write_text("text now")
        skipped = ClipIndex.build(sounds, fake, home / "x").skipped
        assert sorted((Path(miss.path).name, miss.reason) for miss in skipped) == [
            ("bad.wav", "empty file"),
            ("lost.wav", "not readable as audio (Format not recognised)"),
        ]

    def test_with_another_embedder_is_refused(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        index = ClipIndex.build(sounds, fake, home / "x")
        before = files(index)
        with pytest.raises(StaleError, match=r"index 'x' was made with embedder 'fake' \(fake-1\)"):
            ClipIndex.build(sounds, FakeEmbedder("fake-2"), home / "x")
        assert files(index) == before

    def test_with_another_window_is_refused(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        ClipIndex.build(sounds, fake, home / "x", ClipConfig(window=0.2))
        with pytest.raises(
            InputError, match=r"was made with window 0\.2, not 10; use 0\.2 or another --name"
        ):
            ClipIndex.build(sounds, fake, home / "x", ClipConfig())

    @pytest.mark.parametrize(
        ("config", "says"),
        [
            (ClipConfig(silence=1e-3), r"silence 1e-05, not 0\.001"),
            (ClipConfig(min_duration=0.2), r"min_duration 0\.1, not 0\.2"),
        ],
    )
    def test_with_any_other_cut_is_refused(
        self, config: ClipConfig, says: str, sounds: Path, home: Path, fake: FakeEmbedder
    ) -> None:
        index = ClipIndex.build(sounds, fake, home / "x")
        before = files(index)
        with pytest.raises(InputError, match=f"index 'x' was made with {says}; use"):
            ClipIndex.build(sounds, fake, home / "x", config)
        assert files(index) == before

    def test_goes_on_with_the_cut_that_the_index_has(
        self, home: Path, write_sound: WriteSound, fake: FakeEmbedder
    ) -> None:
        cut = ClipConfig(window=0.25, min_duration=0.2, silence=1e-3)
        faint = tone(500, 0.5, 8_000, amplitude=5e-4)
        source = write_sound("cut/loud.wav", tone(500, 0.5, 8_000), 8_000).parent
        write_sound("cut/faint.wav", faint, 8_000, subtype="FLOAT")
        first = ClipIndex.build(source, fake, home / "x", cut)
        assert [(clip.path, clip.start) for clip in first.clips] == [("loud.wav", 0.0), ("loud.wav", 0.25)]
        assert reasons(first)["faint.wav"] == "silent"
        write_sound("cut/more.wav", tone(900, 0.6, 8_000), 8_000)
        write_sound("cut/more-faint.wav", faint, 8_000, subtype="FLOAT")
        second = ClipIndex.build(source, fake, home / "x")
        assert second.cut == ClipIndex.open(home / "x").cut == made_of(second).manifest.cut == cut
        assert [(clip.path, clip.start) for clip in second.clips[2:]] == [
            ("more.wav", 0.0),
            ("more.wav", 0.25),
        ]
        assert reasons(second)["more-faint.wav"] == "silent"


class TestOpen:
    def test_nothing(self, home: Path) -> None:
        with pytest.raises(
            InputError, match=r"x/manifest\.json cannot be read .*; make the clip index again"
        ):
            ClipIndex.open(home / "x")

    def test_a_count_that_does_not_fit(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        index = ClipIndex.build(sounds, fake, home / "x")
        few = faiss_index.build(index.vectors()[:4])
        stored = made_of(index)
        kept = {name: stored.file(name).read_text() for name in ("clips.jsonl", "skipped.jsonl")}
        index.folder.commit(
            {**kept, "vectors.faiss": lambda path: faiss_index.save(few, path)}, stored.manifest
        )
        with pytest.raises(InputError, match="holds 6 clips but 4 vectors"):
            ClipIndex.open(home / "x")

    @pytest.mark.parametrize("name", ["clips.jsonl", "vectors.faiss", "skipped.jsonl"])
    def test_a_changed_file(self, name: str, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        (sounds / "zero.wav").write_bytes(b"")
        path = made_of(ClipIndex.build(sounds, fake, home / "x")).file(name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(ChecksumError, match="was changed"):
            ClipIndex.open(home / "x")

    def test_another_format(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        path = ClipIndex.build(sounds, fake, home / "x").folder.path / "manifest.json"
        rewritten(path, format=99)
        with pytest.raises(StaleError, match="format 99"):
            ClipIndex.open(home / "x")

    def test_an_embedder_nobody_knows(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        built = ClipIndex.build(sounds, fake, home / "x")
        assert built.embedder.fingerprint == fake.fingerprint
        index = ClipIndex.open(home / "x")  # which needs no embedder before it is asked for one
        with pytest.raises(InputError, match="embedder 'fake'"):
            _ = index.embedder
        with pytest.raises(InputError, match="embedder 'fake'"):
            index.text_vectors(["rain"])
        for opened in (index.with_embedder(fake), ClipIndex.open(home / "x", fake)):
            assert opened.embedder.fingerprint == fake.fingerprint
        with pytest.raises(InputError, match="3 dimensions"):
            index.search(np.zeros(3, np.float32))


class TestEmbedder:
    def test_of_another_kind_is_refused(self, sounds: Path, home: Path, fake: FakeEmbedder) -> None:
        index = ClipIndex.build(sounds, fake, home / "x")
        other = FakeEmbedder("fake-2")
        for use in (index.with_embedder, lambda e: ClipIndex.open(home / "x", e)):
            with pytest.raises(
                StaleError, match=r"made with embedder 'fake' \(fake-1\), which has changed since \(fake-2\)"
            ):
                use(other)

    def test_that_was_changed_since_is_refused(
        self, sounds: Path, home: Path, fake: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ClipIndex.build(sounds, fake, home / "x")
        monkeypatch.setattr("and_retrieval.clips.index.load_embedder", lambda *_: FakeEmbedder("fake-2"))
        with pytest.raises(StaleError, match="made with embedder"):
            _ = ClipIndex.open(home / "x").embedder

    def test_is_loaded_once_where_it_is_to_run(
        self, sounds: Path, home: Path, fake: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ClipIndex.build(sounds, fake, home / "x")
        loaded: list[tuple[str, str]] = []
        monkeypatch.setattr(
            "and_retrieval.clips.index.load_embedder", lambda *how: (loaded.append(how), FakeEmbedder())[1]
        )
        index = ClipIndex.open(home / "x", device="cuda:1")
        assert loaded == []
        assert index.embedder is index.embedder
        index.text_vectors(["rain"])
        assert loaded == [("fake", "cuda:1")]

    def test_a_text_is_embedded_once(
        self, sounds: Path, home: Path, fake: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = ClipIndex.build(sounds, fake, home / "x")
        asked: list[str] = []
        embed = fake.embed_text
        monkeypatch.setattr(fake, "embed_text", lambda texts: (asked.extend(texts), embed(texts))[1])
        vectors = index.text_vectors(["rain", "dog", "rain"])
        np.testing.assert_array_equal(vectors, embed(["rain", "dog", "rain"]))
        np.testing.assert_array_equal(index.text_vectors(("sea", "dog")), embed(["sea", "dog"]))
        assert asked == ["rain", "dog", "sea"]
        assert index.text_vectors([]).shape == (0, 8)
        assert vectors.dtype == np.float32


def test_a_clip_is_read_as_it_was_indexed(home: Path, write_sound: WriteSound, fake: FakeEmbedder) -> None:
    faint = tone(500, 0.4, 8_000, amplitude=1e-7)
    source = write_sound("faint/a.wav", faint, 8_000, subtype="FLOAT").parent
    index = ClipIndex.build(source, fake, home / "x", ClipConfig(silence=1e-9))
    np.testing.assert_allclose(ClipIndex.open(home / "x").read(0, 8_000), faint, atol=1e-9)
    with pytest.raises(UnreadableAudioError, match="silent"):
        read_clip(index.clips[0], 8_000)  # under settings that are not the index's own


@pytest.mark.parametrize("threads", [1, 3])
def test_groups_are_read_in_order_with_their_misses(sounds: Path, threads: int) -> None:
    clips = load_clips(sounds).clips
    (sounds / clips[3].path).unlink()
    read = list(read_in_order(clips, [[4, 5], [3], [1, 3, 0]], 8_000, ClipConfig(), threads=threads))
    assert [group.rows for group in read] == [[4, 5], [], [1, 0]]
    assert [len(group.sounds) for group in read] == [2, 0, 2]
    assert [[Path(miss.path).name for miss in group.misses] for group in read] == [
        [], [Path(clips[3].path).name], [Path(clips[3].path).name],
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 3])
def test_sounds_are_measured_in_their_order_after_they_were_handed_over(sounds: Path, threads: int) -> None:
    clips = load_clips(sounds).clips
    (sounds / clips[3].path).unlink()
    handed_over = threading.Event()

    def peak(sound: Floats) -> float:
        assert handed_over.wait(20)
        return float(np.abs(sound).max())

    groups = read_in_order(clips, [[4, 3, 5], [2]], 8_000, ClipConfig(), peak, threads)
    for group in groups:
        handed_over.set()
        assert group.measured() == [float(np.abs(sound).max()) for sound in group.sounds]


def test_what_fails_in_measuring_is_raised_where_it_is_asked_for(sounds: Path) -> None:
    clips = load_clips(sounds).clips

    def fails(sound: Floats) -> float:
        raise ValueError("no number")

    [group] = read_in_order(clips, [[1]], 8_000, ClipConfig(), fails)
    with pytest.raises(ValueError, match="no number"):
        group.measured()


def test_text_finds_the_obvious_clip(tmp_path: Path, home: Path, embedder: Embedder) -> None:
    concepts = ("rain", "siren", "dog bark", "church bell", "crickets")
    table = soundbank.render(tmp_path / "set", clips_per_concept=2, concepts=concepts)
    ClipIndex.build(table, embedder, home / "set")
    index = ClipIndex.open(home / "set")
    assert len(index.clips) == 10
    assert index.embedder.fingerprint == embedder.fingerprint
    for concept, vector in zip(concepts, embedder.embed_text(concepts), strict=True):
        (row, score), *_ = index.search(vector, 2)
        assert index.clips[row].label == concept
        assert score > 0.05
