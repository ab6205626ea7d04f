"""The rendered demo set: what is in it, that its clips are sound, and that two renders are the same bytes."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from and_retrieval import soundbank
from and_retrieval.errors import InputError
from and_retrieval.soundbank import instruments, signals

FEW = ("bell", "rain", "siren")


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    soundbank.render(folder, concepts=FEW)
    return folder


@pytest.fixture
def soundfont() -> Path:
    path = instruments.soundfont()
    if path is None:
        pytest.skip(f"no soundfont: {instruments.REMEDY}")
    return path


def test_at_least_forty_concepts_need_no_soundfont() -> None:
    assert len(soundbank.CONCEPTS) >= 40
    assert not set(soundbank.CONCEPTS) & set(soundbank.SAMPLED)
    assert set(soundbank.CONCEPTS) <= set(soundbank.available())


@pytest.mark.parametrize("concept", soundbank.CONCEPTS)
def test_clip_is_a_sound(concept: str) -> None:
    x = soundbank.clip(concept, 2).waveform
    assert x.dtype == np.float32
    assert 2.5 <= x.size / signals.RATE <= 4.0
    assert np.isfinite(x).all()
    assert 10 ** (-9.1 / 20) <= np.abs(x).max() <= 10 ** (-2.9 / 20)
    # A single click in silence would reach the peak as well.
    assert np.sqrt(np.mean(x**2)) > 0.005


@pytest.mark.parametrize("concept", [*soundbank.CONCEPTS, *soundbank.SAMPLED])
def test_captions_tell_the_eight_clips_apart(concept: str) -> None:
    captions = [soundbank.caption(concept, n) for n in range(1, 9)]
    assert len(set(captions)) == 8
    for caption in captions:
        assert "{" not in caption
        assert caption == " ".join(caption.split())


def test_folder_and_csv(few: Path) -> None:
    table = rows(few / "clips.csv")
    assert list(table[0]) == ["path", "label", "caption", "fold"]
    assert [row["path"] for row in table] == [f"{c}/{c}-{n}.flac" for c in FEW for n in range(1, 9)]
    assert all(row["path"].split("/")[0] == row["label"] for row in table)
    for concept in FEW:
        folds = [row["fold"] for row in table if row["label"] == concept]
        assert sorted(folds) == ["1", "1", "2", "2", "3", "3", "4", "4"]
    for row in table:
        info = soundfile.info(few / row["path"])
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")


def test_no_two_clips_are_alike(few: Path) -> None:
    clips = [digest for path, digest in digests(few).items() if path.endswith(".flac")]
    assert len(set(clips)) == len(clips) == len(FEW) * 8


def test_two_renders_are_the_same_bytes(few: Path, tmp_path: Path) -> None:
    soundbank.render(tmp_path, concepts=FEW)
    assert digests(tmp_path) == digests(few)


def test_a_clip_does_not_depend_on_the_others(few: Path, tmp_path: Path) -> None:
    soundbank.render(tmp_path, clips_per_concept=2, concepts=["siren"])
    assert (tmp_path / "siren/siren-2.flac").read_bytes() == (few / "siren/siren-2.flac").read_bytes()


def test_finished_folder_is_left_alone_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    table = soundbank.render(tmp_path, clips_per_concept=2, concepts=["bell"])
    before = digests(tmp_path)
    whole, damaged = tmp_path / "bell/bell-1.flac", tmp_path / "bell/bell-2.flac"
    stamp = whole.stat().st_mtime_ns
    damaged.write_bytes(damaged.read_bytes()[:-100])
    table.unlink()
    seen: list[tuple[int, int]] = []
    soundbank.render(tmp_path, 2, ["bell"], lambda done, total: seen.append((done, total)))
    assert digests(tmp_path) == before
    assert whole.stat().st_mtime_ns == stamp
    assert seen == [(1, 2), (2, 2)]


def test_interrupted_render_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        soundbank.render(tmp_path, 2, ["bell", "siren"], stop)
    assert not (tmp_path / "clips.csv").exists()
    stamp = (tmp_path / "bell/bell-2.flac").stat().st_mtime_ns
    soundbank.render(tmp_path, 2, ["bell", "siren"])
    assert (tmp_path / "bell/bell-2.flac").stat().st_mtime_ns == stamp
    assert len(rows(tmp_path / "clips.csv")) == 4


def test_other_version_is_rendered_again(tmp_path: Path) -> None:
    soundbank.render(tmp_path, clips_per_concept=1, concepts=["bell"])
    before = digests(tmp_path)
    (tmp_path / "bell/bell-1.flac").write_bytes(b"made by an older recipe")
    manifest = tmp_path / "soundbank.json"
    content = json.loads(manifest.read_text())
    content["version"] = -1
    content["files"]["bell/bell-1.flac"] = hashlib.sha256(b"made by an older recipe").hexdigest()
    manifest.write_text(json.dumps(content))
    soundbank.render(tmp_path, clips_per_concept=1, concepts=["bell"])
    assert digests(tmp_path) == before


def test_clips_that_no_longer_belong_go_and_foreign_files_stay(tmp_path: Path) -> None:
    soundbank.render(tmp_path, clips_per_concept=2, concepts=["bell", "siren"])
    (tmp_path / "siren/mine.flac").write_bytes(b"mine")
    soundbank.render(tmp_path, clips_per_concept=1, concepts=["bell"])
    left = {path for path in digests(tmp_path) if path.endswith(".flac")}
    assert left == {"bell/bell-1.flac", "siren/mine.flac"}


def test_manifest_cannot_point_outside_the_folder(tmp_path: Path) -> None:
    victim, out = tmp_path / "victim.flac", tmp_path / "out"
    victim.write_bytes(b"mine")
    soundbank.render(out, clips_per_concept=1, concepts=["bell"])
    content = json.loads((out / "soundbank.json").read_text())
    content["files"] |= {"../victim.flac": "", str(victim): ""}
    (out / "soundbank.json").write_text(json.dumps(content))
    soundbank.render(out, clips_per_concept=1, concepts=["bell"])
    assert victim.read_bytes() == b"mine"


def test_somebody_elses_csv_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path\nmine.wav\n")
    with pytest.raises(InputError, match=r"clips\.csv"):
        soundbank.render(tmp_path, clips_per_concept=1, concepts=["bell"])
    assert (tmp_path / "clips.csv").read_text() == "path\nmine.wav\n"


def test_unknown_concept_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rian.*rain"):
        soundbank.render(tmp_path / "out", concepts=["bell", "rian"])
    assert not (tmp_path / "out").exists()


def test_count_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="clips_per_concept"):
        soundbank.render(tmp_path, clips_per_concept=0)


def test_without_a_soundfont_sampled_concepts_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(soundbank, "soundfont", lambda: None)
    monkeypatch.setattr(soundbank, "CONCEPTS", ("bell",))
    assert soundbank.available() == ("bell",)
    table = soundbank.render(tmp_path, clips_per_concept=1)
    assert [row["label"] for row in rows(table)] == ["bell"]
    assert "tinysoundfont" in caplog.text
    assert "trumpet" in json.loads((tmp_path / "soundbank.json").read_text())["left_out"]
    with pytest.raises(InputError, match="tinysoundfont"):
        soundbank.render(tmp_path, concepts=["trumpet"])


@pytest.mark.parametrize("concept", soundbank.SAMPLED)
def test_sampled_clip_is_a_sound_and_repeats(concept: str, soundfont: Path) -> None:
    assert soundfont.is_file()
    first, again, other = (soundbank.clip(concept, n).waveform for n in (1, 1, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:16_000], other[:16_000])
    assert np.isfinite(first).all()
    assert np.sqrt(np.mean(first**2)) > 0.005


@settings(max_examples=25, deadline=None)
@given(concept=st.sampled_from(soundbank.CONCEPTS), n=st.integers(1, 60))
def test_any_clip_is_in_range_and_has_a_fold(concept: str, n: int) -> None:
    made = soundbank.clip(concept, n)
    assert made.fold in (1, 2, 3, 4)
    assert np.isfinite(made.waveform).all()
    assert 0.3 < np.abs(made.waveform).max() < 0.72


@settings(max_examples=30, deadline=None)
@given(f=st.floats(100, 7000), t60=st.floats(0.05, 3), n=st.integers(300, 4000), gain=st.floats(0.1, 2))
def test_strike_is_a_dying_sine(f: float, t60: float, n: int, gain: float) -> None:
    t = np.arange(n) / signals.RATE
    expected = gain * np.sin(2 * np.pi * f * t) * np.exp(-6.91 * t / t60) * np.clip(t / 0.001, 0, 1)
    assert np.allclose(signals.strike(n, [f], [gain], [t60]), expected, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(at=st.lists(st.floats(-0.1, 0.3), min_size=1, max_size=40), seed=st.integers(0, 9))
def test_scatter_places_grains(at: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    grains, gains = [rng.standard_normal(7), rng.standard_normal(11)], rng.uniform(0, 1, len(at))
    expected = np.zeros(3000 + 11)
    for i, (second, gain) in enumerate(zip(at, gains, strict=True)):
        start = int(np.floor(second * signals.RATE))
        if 0 <= start < 3000:
            expected[start : start + grains[i % 2].size] += gain * grains[i % 2]
    assert np.allclose(signals.scatter(3000, at, gains, grains), expected[:3000], atol=1e-9)


@pytest.mark.slow
def test_whole_bank(tmp_path: Path) -> None:
    table = rows(soundbank.render(tmp_path))
    assert len(table) == 8 * len(soundbank.available())
    assert len({row["caption"] for row in table}) > 0.95 * len(table)
    clips = [digest for path, digest in digests(tmp_path).items() if path.endswith(".flac")]
    assert len(set(clips)) == len(clips) == len(table)
