"""Queries: how they are read, how several terms are scored, and when a unit is said to listen."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import WriteSound, noise

from and_retrieval.clips.index import ClipIndex
from and_retrieval.errors import InputError
from and_retrieval.explanation.space import background_texts, text_centre
from and_retrieval.faiss_index import brute_force
from and_retrieval.numerics import centred
from and_retrieval.search.query import Calibrated, Query, Terms, calibrated, cosines, embed_query, ranked
from and_retrieval.search.thresholds import Thresholds, best_z, split, thresholds, unit_deviations
from and_retrieval.types import Floats

TEXT_NEEDS, SOUND_NEEDS = 6.0, 12.0


class Drawn:
    """Text -> a vector drawn by its hash; counts how often it is asked."""

    name, dim, sample_rate, fingerprint = "drawn", 300, 8_000, "drawn-1"

    def __init__(self) -> None:
        self.asked = 0

    def embed_text(self, texts: Sequence[str]) -> Floats:
        self.asked += 1
        return unit([np.random.default_rng(zlib.crc32(t.encode())).standard_normal(self.dim) for t in texts])

    def embed_audio(self, waveforms: Sequence[Floats]) -> Floats:
        return unit([np.r_[np.abs(wave).mean(), np.ones(self.dim - 1)] for wave in waveforms])


def unit(rows: Sequence[Floats] | Floats) -> Floats:
    matrix = np.asarray(rows)
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def terms(plus: Floats, minus: Floats | None = None, needs: float = TEXT_NEEDS) -> Terms:
    lacking = np.zeros((0, plus.shape[1]), np.float32) if minus is None else minus
    return Terms(plus, lacking, np.full(len(plus), needs, np.float32), TEXT_NEEDS)


def worth(asked: Terms, vectors: Floats, texts: Floats) -> Calibrated:
    return calibrated(asked, lambda queries: unit_deviations(vectors, queries, texts))


class TestParse:
    @pytest.mark.parametrize(
        ("given", "texts", "minus"),
        [
            ("dog", ("dog",), ()),
            ("+dog", ("dog",), ()),
            (["dog", "-indoor"], ("dog",), ("indoor",)),
            ([" + water drops ", "- rain", "-wind"], ("water drops",), ("rain", "wind")),
            (["T-shirt", "drum+bass"], ("T-shirt", "drum+bass"), ()),
        ],
    )
    def test_signs(self, given: str | list[str], texts: tuple[str, ...], minus: tuple[str, ...]) -> None:
        assert Query.parse(given) == Query(texts, minus)

    def test_a_query_stays_itself_and_says_what_it_asks(self) -> None:
        query = Query(("dog", "bark"), ("indoor",), ("/a/b.wav",), ("head:3",))
        assert Query.parse(query) is query
        assert str(query) == "dog + bark + b.wav + head:3 - indoor"
        assert Query.parse("dog", ["x.wav"], ["head:1"]) == Query(("dog",), (), ("x.wav",), ("head:1",))

    @pytest.mark.parametrize("empty", ["", "  ", "+", "-", [], ["dog", ""], ["dog", "- "]])
    def test_empty(self, empty: str | list[str]) -> None:
        with pytest.raises(InputError, match="empty"):
            Query.parse(empty)

    def test_only_what_it_is_not(self) -> None:
        with pytest.raises(InputError, match=r"besides what it is not \(indoor\)"):
            Query.parse("-indoor")


class TestScore:
    @settings(max_examples=50, deadline=None)
    @given(
        plus=st.integers(1, 4),
        minus=st.integers(0, 3),
        n=st.integers(1, 40),
        k=st.integers(1, 50),
        seed=st.integers(0, 99),
    )
    def test_is_that_of_a_plain_loop(self, plus: int, minus: int, n: int, k: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        vectors = unit(random.standard_normal((n, 12)))
        asked = terms(
            unit(random.standard_normal((plus, 12))),
            unit(random.standard_normal((max(minus, 1), 12)))[:minus],
        )
        expected = [
            min(float(v @ p) for p in asked.plus) - max([0.0, *(float(v @ m) for m in asked.minus)])
            for v in vectors
        ]
        np.testing.assert_allclose(asked.scores(cosines(vectors)), expected, atol=1e-6)

        def nearest(vector: Floats, wanted: int) -> tuple[Floats, Floats]:
            scores, rows = brute_force(vectors, vector[None], wanted)
            return scores[0], rows[0]

        scores, rows = ranked(asked, nearest, lambda rows: vectors[rows], k)  # type: ignore[arg-type]
        assert len(scores) == len(rows) == min(n, k)
        np.testing.assert_allclose(scores, np.sort(expected)[::-1][:k], atol=1e-6)
        np.testing.assert_allclose(np.array(expected)[rows], scores, atol=1e-6)

    def test_both_is_more_than_one_of_them(self) -> None:
        dog, rain, other = np.eye(3, dtype=np.float32)
        vectors = unit([dog, dog + rain, rain, other])
        assert terms(np.stack([dog, rain])).scores(cosines(vectors)).argmax() == 1
        assert terms(dog[None], rain[None]).scores(cosines(vectors)).argmax() == 0
        np.testing.assert_allclose(
            terms(dog[None], -rain[None]).scores(cosines(vectors))[:1], 1
        )  # lacking it is no merit

    def test_terms_that_cancel(self) -> None:
        dog = np.eye(3, dtype=np.float32)[:1]
        with pytest.raises(InputError, match="cancel"):
            _ = terms(dog, dog).vector


@pytest.fixture
def index(tmp_path: Path, write_sound: WriteSound) -> ClipIndex:
    for number in range(4):
        write_sound(f"sounds/{number}.wav", noise(0.5, seed=number))
    return ClipIndex.build(tmp_path / "sounds", Drawn(), tmp_path / "index")


class TestEmbed:
    def test_terms_and_what_they_need(self, index: ClipIndex, write_sound: WriteSound) -> None:
        sound = str(write_sound("x.wav"))
        example = unit(np.ones((1, Drawn.dim)))
        needs = Thresholds(TEXT_NEEDS, SOUND_NEEDS)
        embedded = embed_query(Query(("dog",), ("cat", "wind"), (sound,), ("head:1",)), index, example, needs)
        assert embedded.plus.shape == (3, Drawn.dim)
        centre = text_centre(index)
        np.testing.assert_array_equal(embedded.minus, centred(Drawn().embed_text(["cat", "wind"]), centre))
        np.testing.assert_array_equal(embedded.plus[:1], centred(Drawn().embed_text(["dog"]), centre))
        np.testing.assert_array_equal(embedded.plus[2:], example)
        assert embedded.needs.tolist() == [TEXT_NEEDS, SOUND_NEEDS, SOUND_NEEDS]
        assert embedded.text_needs == TEXT_NEEDS

    def test_files_that_are_not_sound(self, index: ClipIndex, tmp_path: Path) -> None:
        path = tmp_path / "x.wav"
        with pytest.raises(InputError, match="does not exist"):
            embed_query(Query(sounds=(str(path),)), index, np.zeros((0, Drawn.dim), np.float32))
        path.write_text("no sound")
        with pytest.raises(InputError, match="give a sound file"):
            embed_query(Query(sounds=(str(path),)), index, np.zeros((0, Drawn.dim), np.float32))

    def test_the_background_is_embedded_once(self, index: ClipIndex) -> None:
        assert background_texts(index).shape == (521, Drawn.dim)
        asked = index.embedder
        before = vars(asked).get("asked"), background_texts(index)
        np.testing.assert_array_equal(background_texts(index), before[1])
        assert vars(asked).get("asked") == before[0]


class TestThresholds:
    @given(st.integers(0, 1000))
    def test_two_groups_are_split_between_them(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        values = np.concatenate([random.normal(0, 1, 400), random.normal(12, 1, 60)])
        assert 3 < split(values) < 10

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 1000), st.integers(2, 60), st.floats(0, 1))
    def test_made_up_words_pass_for_a_twentieth_at_most(self, seed: int, dim: int, share: float) -> None:
        random = np.random.default_rng(seed)
        units, texts, made_up = (unit(random.standard_normal((n, dim))) for n in (40, 200, 200))
        there = random.random(len(texts)) < share
        texts[there] = unit(units[random.integers(len(units), size=there.sum())] + texts[there])
        needed = thresholds(units, texts, units, made_up)
        passed = best_z(units, made_up, texts) >= needed.text
        assert passed.mean() <= 0.05
        assert passed.mean() <= needed.made_up

    @pytest.mark.parametrize(("dim", "tells"), [(200, True), (60, True), (4, False), (3, False)])
    def test_it_can_be_told_where_names_stand_out(self, dim: int, tells: bool) -> None:
        """A tenth of the texts name what a unit hears, made-up words name nothing; in few dimensions all are near."""
        random = np.random.default_rng(dim)
        units, texts, made_up = (unit(random.standard_normal((n, dim))) for n in (300, 500, 400))
        texts[:50] = unit(units[:50] + 0.5 * texts[:50])
        needed = thresholds(units, texts, units, made_up)
        assert needed.tells == tells
        if tells:
            assert (best_z(units, texts[:50], texts) >= needed.text).all()

    def test_the_best_z_is_that_of_calibrated(self) -> None:
        random = np.random.default_rng(0)
        units, texts, queries = (unit(random.standard_normal((n, 20))) for n in (70, 50, 9))
        expected = [worth(terms(query[None]), units, texts).z.max() for query in queries]
        np.testing.assert_allclose(best_z(units, queries, texts), expected, atol=1e-4)

    def test_an_offset_of_all_sounds_and_all_texts_changes_little(self) -> None:
        """What every contrastive embedder adds to its sounds and to its texts says nothing about any of them."""
        random = np.random.default_rng(1)
        clips, texts = unit(random.standard_normal((300, 60))), unit(random.standard_normal((500, 60)))
        texts[:40] = unit(clips[:40] + 0.3 * unit(random.standard_normal((40, 60))))
        away, other = 0.7 * unit(random.standard_normal((2, 60)))
        verdicts = []
        for a, b in ((clips, texts), (unit(clips + away), unit(texts + other))):
            sounds, words = centred(a, a.mean(axis=0)), centred(b, b.mean(axis=0))
            needed = thresholds(sounds[:200], words, sounds[200:], words[40:]).text
            verdicts.append(best_z(sounds[:200], words, words) >= needed)
        assert np.mean(verdicts[0] == verdicts[1]) >= 0.96


class TestCalibrated:
    def test_z_is_that_of_the_background(self) -> None:
        random = np.random.default_rng(0)
        vectors, texts = unit(random.standard_normal((9, 20))), unit(random.standard_normal((50, 20)))
        asked = terms(unit(random.standard_normal((1, 20))))
        worths = worth(asked, vectors, texts)
        for row, vector in enumerate(vectors):
            others = texts @ vector
            assert worths.z[row] == pytest.approx(
                (asked.plus[0] @ vector - others.mean()) / others.std(), abs=1e-4
            )
        assert not worths.listens.any()

    def test_a_text_drawn_like_the_background_is_heard_by_none(self) -> None:
        """False alarms over 200 units and 300 unrelated texts: none reaches the threshold."""
        random = np.random.default_rng(0)
        vectors, texts, asked = (unit(random.standard_normal((n, 60))) for n in (200, 500, 300))
        assert not any(worth(terms(text[None]), vectors, texts).listens.any() for text in asked)

    def test_all_that_is_asked_for_and_nothing_that_is_not(self) -> None:
        random = np.random.default_rng(0)
        texts = unit(random.standard_normal((500, 400)))
        dog, rain, wind = unit(random.standard_normal((3, 400)))
        vectors = np.concatenate([unit([dog, dog + rain, dog + wind]), np.zeros((1, 400), np.float32)])
        assert worth(terms(dog[None]), vectors, texts).listens.tolist() == [
            True,
            True,
            True,
            False,
        ]
        both = worth(terms(np.stack([dog, rain])), vectors, texts)
        assert both.listens.tolist() == [False, True, False, False]
        assert both.z[0] == pytest.approx(worth(terms(rain[None]), vectors, texts).z[0])
        without = worth(terms(dog[None], wind[None]), vectors, texts)
        assert without.listens.tolist() == [True, True, False, False]
        assert both.z[3] == 0  # no vector

    def test_the_term_that_falls_shortest_counts(self) -> None:
        random = np.random.default_rng(0)
        texts = unit(random.standard_normal((500, 400)))
        dog = unit(random.standard_normal((1, 400)))
        asked = Terms(
            np.concatenate([dog, dog]), dog[:0], np.array([TEXT_NEEDS, SOUND_NEEDS], np.float32), TEXT_NEEDS
        )
        assert worth(asked, dog, texts).needed.tolist() == [SOUND_NEEDS]
