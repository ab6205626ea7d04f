"""Moments of clips: where they lie, their vectors, how they are stored, and search that answers with times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import Answer
from embedders import FakeEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import WriteSound, noise, tone

from and_retrieval.cli import main
from and_retrieval.clips.index import ClipIndex
from and_retrieval.clips.manifest import IndexManifest
from and_retrieval.clips.moments import ClipMoments, moment_counts, moment_spans
from and_retrieval.config import ClipConfig, MomentConfig
from and_retrieval.embed.user import checked_embedder
from and_retrieval.errors import ChecksumError, InputError
from and_retrieval.explanation import space
from and_retrieval.explanation.space import (
    centred_background,
    clip_centre,
    clip_similarity,
    concept_directions,
    moment_centre,
)
from and_retrieval.numerics import centred
from and_retrieval.search.search import search_clips
from and_retrieval.search.thresholds import clip_deviations
from and_retrieval.soundbank import clip as rendered
from and_retrieval.types import Embedder, Floats, Spans

seconds = st.floats(0.1, 40, allow_nan=False)
configs = st.builds(MomentConfig, st.floats(0.2, 5), st.floats(0.2, 5))


class Counting(FakeEmbedder):
    """Makes the vectors of moments itself: a number that says where each begins; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__("counting-1")
        self.asked = 0

    def embed_with_moments(
        self, waveforms: Sequence[Floats], spans: Sequence[Spans]
    ) -> tuple[Floats, list[Floats]]:
        self.asked += 1
        moments = [np.eye(self.dim, dtype=np.float32)[[int(start) for start, _ in of]] for of in spans]
        return self.embed_audio(waveforms), moments


def made(durations: Sequence[float], config: MomentConfig, dim: int = 6, seed: int = 0) -> ClipMoments:
    of = np.array(durations)
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((int(moment_counts(of, config).sum()), dim)).astype(np.float16)
    return ClipMoments(config, of, vectors)


def glued(*names: str, seed: int = 1, rate: int = 16_000) -> Floats:
    """Two and a half seconds of each sound, one after the other."""
    return np.concatenate([rendered(name, seed).waveform[: round(2.5 * rate)] for name in names])


class TestSpans:
    @given(seconds, configs)
    def test_cover_the_clip_and_are_no_further_apart_than_the_hop(
        self, duration: float, config: MomentConfig
    ) -> None:
        spans = moment_spans(duration, config)
        assert len(spans) == moment_counts(np.array([duration]), config)[0]
        starts, ends = np.array(spans).T
        assert starts[0] == 0
        assert ends[-1] == pytest.approx(duration)
        if len(spans) > 1:
            np.testing.assert_allclose(ends - starts, config.seconds, atol=1e-9)
            np.testing.assert_allclose(np.diff(starts), starts[1], atol=1e-6)
            assert starts[1] <= config.hop + 1e-5
        else:
            assert duration <= config.seconds + 1e-5

    @pytest.mark.parametrize(
        ("duration", "starts"),
        [(5.0, [0, 1, 2, 3]), (2.0, [0]), (0.7, [0]), (10.0, list(range(9))), (3.5, [0, 0.75, 1.5])],
    )
    def test_of_usual_clips(self, duration: float, starts: list[float]) -> None:
        assert [start for start, _ in moment_spans(duration, MomentConfig())] == starts

    @pytest.mark.parametrize(("length", "hop"), [(0, 1), (2, 0), (float("nan"), 1), (2, float("inf"))])
    def test_of_no_length_are_refused(self, length: float, hop: float) -> None:
        with pytest.raises(InputError, match=r"moments?"):
            MomentConfig(length, hop)


class TestClipMoments:
    @given(st.lists(seconds, min_size=1, max_size=8), configs, st.integers(0, 99))
    def test_the_nearest_to_a_time(self, durations: list[float], config: MomentConfig, seed: int) -> None:
        moments = made(durations, config)
        random = np.random.default_rng(seed)
        clips = random.integers(0, len(durations), (3, 4))
        times = random.random((3, 4)) * np.array(durations)[clips]
        nearest_rows = moments.at(clips, times)
        for place, row in np.ndenumerate(nearest_rows):
            clip = clips[place]
            assert moments.clips[row] == clip
            middles = np.array(moment_spans(durations[clip], config)).mean(axis=1)
            away = np.abs(middles - times[place])
            assert away[row - moments.first[clip]] == pytest.approx(away.min(), abs=1e-6)

    def test_nothing_where_there_is_no_clip_and_the_middle_where_there_is_no_time(self) -> None:
        moments = made([5.0, 1.0, 6.0], MomentConfig())
        nearest_rows = moments.at(np.array([-1, 0, 1, 2]), np.array([1, np.nan, 0.3, np.nan]))
        assert nearest_rows[0] == -1
        assert [moments.span(row) for row in nearest_rows[1:3].tolist()] == [(2, 4), (0, 1)]
        assert moments.span(int(nearest_rows[3])) == (2, 4)

    @settings(max_examples=25)
    @given(st.lists(seconds, min_size=1, max_size=6), st.integers(0, 99))
    def test_the_largest_score_and_where(self, durations: list[float], seed: int) -> None:
        moments = made(durations, MomentConfig(), seed=seed)
        queries = np.random.default_rng(seed).standard_normal((3, 6)).astype(np.float32)
        largest, rows = moments.largest(lambda vectors: vectors @ queries.T)
        everything = moments.vectors.astype(np.float32) @ queries.T
        for clip in range(len(durations)):
            clip_rows = np.flatnonzero(moments.clips == clip)
            np.testing.assert_allclose(largest[clip], everything[clip_rows].max(axis=0), rtol=1e-6)
            assert rows[clip].tolist() == clip_rows[everything[clip_rows].argmax(axis=0)].tolist()

    def test_of_some_clips_in_their_order_and_the_sum_over_clips(self) -> None:
        moments = made([5.0, 1.0, 3.0, 9.5], MomentConfig())
        some = moments.of(np.array([3, 0, 3]))
        assert some.counts.tolist() == [9, 4, 9]
        assert some.take([0, 9]).tolist() == moments.take([7, 0]).tolist()
        vectors = moments.vectors.astype(np.float64)
        means = [vectors[moments.clips == clip].mean(axis=0) for clip in range(4)]
        np.testing.assert_allclose(moments.total, np.sum(means, axis=0), atol=1e-5)


class TestEmbeddedEmbedder:
    def test_gives_the_clips_the_same_bytes(self, embedder: Embedder) -> None:
        sounds = [glued("siren", "rain"), glued("bell", "siren"), noise(1.0), noise(3.0)]
        spans = [moment_spans(len(sound) / 16_000, MomentConfig()) for sound in sounds]
        vectors, moments = checked_embedder(embedder).embed_with_moments(sounds, spans)
        assert vectors.tobytes() == embedder.embed_audio(sounds).tobytes()
        assert [len(of) for of in moments] == [4, 4, 1, 2]
        assert moments[2].tobytes() == vectors[2].tobytes()  # a clip shorter than a moment

    def test_hears_each_sound_in_its_place(self, embedder: Embedder) -> None:
        names = ("siren", "rain", "bell", "dog bark")
        sound = glued(*names)
        alone = embedder.embed_audio([sound[start : start + 40_000] for start in range(0, 160_000, 40_000)])
        spans = tuple((2.5 * place + 0.25, 2.5 * place + 2.25) for place in range(4))
        _, (moments,) = checked_embedder(embedder).embed_with_moments([sound], [spans])
        assert (moments @ alone.T).argmax(axis=1).tolist() == [0, 1, 2, 3]
        assert np.diag(moments @ alone.T).min() > 0.7

    def test_hears_silence_where_a_clip_is_padded(self, embedder: Embedder) -> None:
        sound = np.concatenate([glued("dog bark"), np.zeros(80_000, np.float32)])
        _, (moments,) = checked_embedder(embedder).embed_with_moments([sound], [((0.0, 2.0), (4.0, 6.0))])
        silence, bark = embedder.embed_text(["silence", "a dog barks"])
        assert moments[1] @ silence > moments[1] @ bark
        assert moments[0] @ bark > moments[0] @ silence


class TestUsersEmbedders:
    def test_moments_are_cut_only_if_asked_for(self, home: Path, write_sound: WriteSound) -> None:
        sound = np.concatenate([tone(300, 2.0, 8_000), np.zeros(16_000, np.float32), tone(3_000, 2.0, 8_000)])
        source = write_sound("sounds/a.wav", sound, 8_000).parent
        plain = ClipIndex.build(source, FakeEmbedder(), home / "plain")
        assert plain.moments is None
        assert plain.folder.open(IndexManifest).manifest.moments is None
        fake = FakeEmbedder()
        index = ClipIndex.build(source, fake, home / "cut", moments=MomentConfig(2.0, 2.0))
        assert fake.heard == 1 + 2  # the silent one is not embedded
        assert index.moments is not None
        low, silent, high = index.moments.take([0, 1, 2])
        np.testing.assert_allclose(low, fake.embed_audio([tone(300, 2.0, 8_000)])[0], atol=0.01)
        np.testing.assert_allclose(high, fake.embed_audio([tone(3_000, 2.0, 8_000)])[0], atol=0.01)
        np.testing.assert_allclose(silent, index.vectors()[0], atol=1e-3)

    def test_those_that_make_moments_are_asked_once(self, home: Path, write_sound: WriteSound) -> None:
        source = write_sound("sounds/a.wav", noise(4.0, 8_000), 8_000).parent
        embedder = Counting()
        index = ClipIndex.build(source, embedder, home / "own")
        assert (embedder.asked, embedder.heard) == (1, 1)
        assert index.moments is not None
        assert index.moments.take([0, 1, 2]).argmax(axis=1).tolist() == [0, 1, 2]
        assert ClipIndex.build(source, Counting(), home / "without", moments=False).moments is None

    def test_moments_of_the_wrong_shape_are_refused(self, home: Path, write_sound: WriteSound) -> None:
        class Short(Counting):
            def embed_with_moments(
                self, waveforms: Sequence[Floats], spans: Sequence[Spans]
            ) -> tuple[Floats, list[Floats]]:
                vectors, moments = super().embed_with_moments(waveforms, spans)
                return vectors, [of[1:] for of in moments]

        class Fewer(Counting):
            def embed_with_moments(
                self, waveforms: Sequence[Floats], spans: Sequence[Spans]
            ) -> tuple[Floats, list[Floats]]:
                vectors, moments = super().embed_with_moments(waveforms, spans)
                return vectors, moments[1:]

        source = write_sound("sounds/a.wav", noise(4.0, 8_000), 8_000).parent
        with pytest.raises(InputError, match=r"embed_with_moments returned an array .*2.* for 3 moments"):
            ClipIndex.build(source, Short(), home / "short")
        with pytest.raises(InputError, match="embed_with_moments returned moments of 0 waveforms, not 1"):
            ClipIndex.build(source, Fewer(), home / "fewer")


class TestIndex:
    @pytest.fixture
    def source(self, write_sound: WriteSound) -> Path:
        write_sound("sounds/long.wav", noise(23.0, 8_000), 8_000)
        return write_sound("sounds/short.wav", tone(440, 1.0, 8_000), 8_000).parent

    def test_is_the_same_when_it_is_opened_again(self, source: Path, home: Path) -> None:
        built = ClipIndex.build(source, FakeEmbedder(), home / "x", moments=True)
        assert [clip.duration for clip in built.clips] == [10, 10, 3, 1]
        opened = ClipIndex.open(home / "x")
        assert opened.moments is not None
        assert built.moments is not None
        assert opened.moments.counts.tolist() == [9, 9, 2, 1]
        assert opened.moments.vectors.dtype == np.float16
        assert opened.moments.vectors.tobytes() == built.moments.vectors.tobytes()
        assert opened.folder.open(IndexManifest).manifest.moments == MomentConfig()
        files = {path.name: path.read_bytes() for path in (home / "x").iterdir()}
        ClipIndex.build(source, FakeEmbedder(), home / "x")
        assert files == {path.name: path.read_bytes() for path in (home / "x").iterdir()}

    def test_keeps_the_moments_of_clips_that_stay(
        self, source: Path, home: Path, write_sound: WriteSound
    ) -> None:
        before = ClipIndex.build(source, FakeEmbedder(), home / "x", moments=True)
        write_sound("sounds/long.wav", noise(6.0, 8_000, seed=2), 8_000)  # other content: embedded anew
        fake = FakeEmbedder()
        after = ClipIndex.build(source, fake, home / "x")
        assert before.moments is not None
        assert after.moments is not None
        assert [clip.path for clip in after.clips] == ["short.wav", "long.wav"]
        assert fake.heard == 1 + 5
        assert after.moments.counts.tolist() == [1, 5]
        assert after.moments.take([0]).tolist() == before.moments.take([20]).tolist()

    def test_other_moments_want_another_name(self, source: Path, home: Path) -> None:
        ClipIndex.build(source, FakeEmbedder(), home / "x", moments=MomentConfig(1.0, 0.5))
        again = ClipIndex.build(source, FakeEmbedder(), home / "x", moments=True)  # as they are
        assert again.moment_config == MomentConfig(1.0, 0.5)
        with pytest.raises(
            InputError, match=r"made with moments of 1 s every 0.5 s, not without moments; use"
        ):
            ClipIndex.build(source, FakeEmbedder(), home / "x", moments=False)
        ClipIndex.build(source, FakeEmbedder(), home / "y")
        with pytest.raises(InputError, match=r"made without moments, not with moments of 2 s every 1 s; use"):
            ClipIndex.build(source, FakeEmbedder(), home / "y", moments=True)

    def test_a_file_that_was_changed_or_replaced_is_refused(self, source: Path, home: Path) -> None:
        index = ClipIndex.build(source, FakeEmbedder(), home / "x", moments=True)
        path = next((home / "x").glob("moments-*.npy"))
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(ChecksumError, match="was changed"):
            ClipIndex.open(home / "x")
        path.write_bytes(content)
        for flaw in (np.zeros((3, 8), np.float16), np.zeros((21, 8)), np.array([{}], object)):
            manifest = index.folder.open(IndexManifest).manifest
            files = {
                name: (home / "x" / entry.path).read_bytes()
                for name, entry in index.folder.open(IndexManifest).files.items()
            }
            damaged = {name: lambda path, b=data: path.write_bytes(b) for name, data in files.items()}
            damaged["moments.npy"] = lambda path, array=flaw: _write(path, array)
            index.folder.commit(damaged, manifest)  # type: ignore[arg-type]
            with pytest.raises(
                InputError, match=r"does not hold the moments of the index .*make the index again"
            ):
                ClipIndex.open(home / "x")


def _write(path: Path, array: Floats) -> None:
    with path.open("wb") as stream:
        np.save(stream, array, allow_pickle=True)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> ClipIndex:
    """Sounds glued together, one file longer than a clip."""
    folder = tmp_path_factory.mktemp("glued")
    for name, parts in {
        "a": ("rain", "siren", "bell", "dog bark"),
        "b": ("bell", "rain", "bell", "rain"),
        "c": ("rain", "rain", "bell", "rain", "bell", "siren"),
    }.items():
        soundfile.write(folder / f"{name}.wav", glued(*parts), 16_000)
    return ClipIndex.build(folder, embedder, folder / "home" / "glued", ClipConfig(window=10))


class TestSearch:
    def test_finds_the_moment(self, index: ClipIndex) -> None:
        results = search_clips(index, "siren", 2)
        where = {Path(clip["path"]).name: clip for clip in results}
        assert set(where) == {"a.wav", "c.wav"}
        assert 1.5 <= where["a.wav"]["moment"] <= 3.5
        assert where["a.wav"]["time"] == where["a.wav"]["moment"]
        assert where["c.wav"]["start"] == 10
        assert 11.5 <= where["c.wav"]["time"] <= 13.5
        assert where["c.wav"]["time"] == 10 + where["c.wav"]["moment"]
        assert {clip["duration"] for clip in results} == {2}
        (bark,) = search_clips(index, "dog bark", 1)
        assert bark["path"].endswith("a.wav")
        assert bark["moment"] >= 7

    def test_a_short_event_in_a_long_clip_matches(
        self, tmp_path: Path, write_sound: WriteSound, embedder: Embedder
    ) -> None:
        rain = np.concatenate([rendered("rain", seed).waveform for seed in range(16)])[: 60 * 16_000]
        rain[27 * 16_000 : 29 * 16_000] = rendered("siren", 1).waveform[:32_000]
        source = write_sound("rain.wav", rain)
        index = ClipIndex.build(source, embedder, tmp_path / "long")
        (result,) = search_clips(index, "siren", 1)
        assert result["matches"]
        assert 25.5 <= result["time"] <= 28
        assert not search_clips(index, "trumpet", 1)[0]["matches"]
        plain = ClipIndex.build(source, embedder, tmp_path / "plain", moments=False)
        (whole,) = search_clips(plain, "siren", 1)
        assert (whole["start"], whole["matches"]) == (20, False)

    def test_near_is_the_mean_of_the_clip_and_its_best_moment(self, index: ClipIndex) -> None:
        queries = index.text_vectors(["siren", "rain"])
        moments = index.moments
        assert moments is not None
        clips = centred(index.vectors(), clip_centre(index)) @ queries.T
        of_moments = centred(moments.vectors.astype(np.float32), moment_centre(index)) @ queries.T
        for clip in range(len(index.clips)):
            best = of_moments[moments.clips == clip].max(axis=0)
            np.testing.assert_allclose(
                clip_similarity(index, queries)[clip], (clips[clip] + best) / 2, atol=1e-5
            )
        some = np.array([2, 0])
        np.testing.assert_allclose(
            clip_similarity(index, queries, some), clip_similarity(index, queries)[some], atol=1e-6
        )

    def test_cosines_with_centred_vectors_are_exact_wherever_the_vectors_lie(self) -> None:
        rng = np.random.default_rng(0)
        queries, centre = rng.normal(size=(3, 40)), rng.normal(size=40)
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        centre = (0.9 * centre / np.linalg.norm(centre)).astype(np.float32)
        for far in (0, 1e-7, 1e-4, 0.01, 0.1, 0.19, 0.21, 0.5, 2):
            away = rng.normal(size=(50, 40))
            away /= np.linalg.norm(away, axis=1, keepdims=True)
            vectors = (centre + far * away).astype(np.float32)
            exact = centred(vectors.astype(np.float64), centre.astype(np.float64)) @ queries.T
            near = space._centred_cosines(vectors, centre, queries)
            assert near.dtype == np.float32
            np.testing.assert_allclose(near, exact, atol=1e-5)

    def test_z_of_a_clip_compares_the_largest_cosines_of_its_moments(self, index: ClipIndex) -> None:
        moments, texts = index.moments, centred_background(index)
        assert moments is not None
        queries = concept_directions(index, ["siren", "dog bark", "trumpet"])
        z = clip_deviations(index, queries, np.arange(len(index.clips)))
        vectors = centred(moments.take(slice(None)), moment_centre(index))
        for row in range(len(index.clips)):
            of_clip = vectors[moments.clips == row]
            usual = (of_clip @ texts.T).max(axis=0)
            largest = (of_clip @ queries.T).max(axis=0)
            np.testing.assert_allclose(z[row], (largest - usual.mean()) / usual.std(), atol=1e-3)

    def test_several_texts_may_be_heard_in_turn(self, index: ClipIndex) -> None:
        both = search_clips(index, ["siren", "dog bark"], 3)
        assert Path(both[0]["path"]).name == "a.wav"


class TestCommandLine:
    def test_index_and_search(self, write_sound: WriteSound, answer: Answer) -> None:
        write_sound("glued/a.wav", glued("rain", "siren", "rain", "rain"))
        source = write_sound("glued/b.wav", glued("rain", "bell", "bell", "rain")).parent
        made = answer("index", str(source), "--name", "m")
        assert made["moments"] == {"seconds": 2.0, "hop": 1.0}
        (siren,) = answer("search", "m", "siren", "-k", "1", "--for", "clips")["results"]
        assert siren["path"].endswith("a.wav")
        assert 1.5 <= siren["moment"] <= 3.5
        assert siren["duration"] == 2
        assert answer("index", str(source), "--name", "n", "--no-moments")["moments"] is None
        (whole,) = answer("search", "n", "siren", "-k", "1")["results"]
        assert (whole["moment"], whole["duration"], whole["time"]) == (0, 10, 0)

    def test_says_the_time(self, write_sound: WriteSound, capsys: pytest.CaptureFixture[str]) -> None:
        source = write_sound("glued/a.wav", glued("rain", "rain", "rain", "rain", "rain", "siren")).parent
        write_sound("glued/b.wav", glued("bell", "bell", "rain", "bell"))
        assert main(["index", str(source), "--name", "m"]) == 0
        capsys.readouterr()
        assert main(["search", "m", "siren", "-k", "1"]) == 0
        line = capsys.readouterr().out
        assert "a.wav at 1" in line
        time = float(line.split(" at ")[1].split(" s")[0])
        assert 12 <= time <= 13.5

    def test_other_moments_are_refused_in_one_line(
        self, write_sound: WriteSound, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = write_sound("glued/a.wav", noise(3.0)).parent
        assert main(["index", str(source), "--name", "m", "--no-moments"]) == 0
        capsys.readouterr()
        assert main(["index", str(source), "--name", "m", "--moments"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "made without moments, not with moments of 2 s every 1 s; use another --name" in message
