"""The benches over probe sets of any size and over embedders of any kind: what they cut, reduce and count."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench
from and_retrieval import ClipIndex, soundbank
from and_retrieval.benchmark.names import Names, own_names
from and_retrieval.types import Embedder
from bench import ears, grid, over_time, small_cnn
from bench.grid import UNBALANCED

CONCEPTS = ("church bell", "dog bark", "rain", "siren", "white noise")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return soundbank.render(tmp_path_factory.mktemp("sounds"), 8, CONCEPTS)


@pytest.fixture(scope="module")
def index(source: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    return ClipIndex.build(source, embedder, tmp_path_factory.mktemp("home") / "index")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")


class TestGrid:
    def test_cuts_leave_what_they_say(self) -> None:
        labels = np.repeat(["a", "b", "c"], [9, 21, 30])
        made = {cut.name: cut.sizes for cut in grid.cuts(labels, ("a", "b", "c"))}
        assert list(made) == ["3", "5", "8", UNBALANCED]
        assert sorted(made[UNBALANCED].values()) == [3, 5, 9]
        for sizes in made.values():
            rows = grid.drawn_rows(labels, sizes, np.random.default_rng(1))
            assert len(set(rows.tolist())) == len(rows)
            assert {label: int((labels[rows] == label).sum()) for label in "abc"} == sizes

    def test_class_units_get_their_own_names_and_others_do_not(self, index: ClipIndex) -> None:
        truth = np.array([CONCEPTS.index(clip.label or "") for clip in index.clips])
        noise = np.random.default_rng(0).uniform(0, 0.3, (len(truth), len(CONCEPTS)))
        class_names = own_names(CONCEPTS)
        wide = Names(
            (*class_names.names, "meow", "violin", "thunder"), class_names.classes, class_names.labels
        )
        for shift, expected in ((0, 1.0), (1, 0.0)):
            planted = (np.eye(len(CONCEPTS))[(truth + shift) % len(CONCEPTS)] + noise).astype(np.float32)
            rows = list(grid.grid(index, planted, CONCEPTS, {"own": class_names, "wide": wide}, draws=2))
            assert [(row["clips a class"], row["bank"], row["names"]) for row in rows] == [
                (cut, bank, names)
                for cut in ("3", "5", "8", UNBALANCED)
                for bank, names in (("own", 5), ("wide", 8))
            ]
            assert np.mean([row["today top-1"] for row in rows]) == pytest.approx(expected, abs=0.15)
            assert all(row["former top-1"] <= row["former top-5"] for row in rows)
        assert rows[0]["chance top-1"] == 0.2
        assert rows[0]["chance top-5"] == 1

    def test_as_typed(self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        brief = small_cnn.TrainConfig(epochs=6, widths=(4, 8, 8, 16), hidden=16, crop=1.0)
        monkeypatch.setattr(small_cnn, "TrainConfig", lambda: brief)
        arguments = [str(source), "--concepts", "own", "--draws", "1", "--home", str(tmp_path / "home")]
        result, text = bench.run("grid", arguments, quiet=True)
        rows = result["figures"]["rows"]
        assert [row["clips a class"] for row in rows] == ["3", "5", "8", UNBALANCED]
        assert all(0 <= row["today top-1"] <= row["today top-5"] == 1 for row in rows)
        assert "| cnn | 8 | own | 5 |" in text


class TestEars:
    def test_reduced_spaces_are_embedders_of_their_own(self, index: ClipIndex) -> None:
        whole, eight = ears.spaces(index, index.vectors()[:3], (8, 10_000))
        assert whole.index is index
        embedder = eight.index.embedder
        assert (embedder.dim, eight.index.dim) == (8, 8)
        assert embedder.fingerprint != index.embedder_fingerprint
        vectors = index.vectors()
        principal = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2][:8]
        expected = vectors @ principal.T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(eight.index.vectors(), expected, atol=1e-4)
        np.testing.assert_allclose(eight.absent, expected[:3], atol=1e-4)
        texts = embedder.embed_text(["rain", "siren"])
        np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
        assert not np.allclose(eight.index.concept_vectors(["rain"]), index.concept_vectors(["rain"])[:, :8])

    def test_as_typed(self, source: Path, tmp_path: Path) -> None:
        arguments = ["--set", "esc10", "--target", "bench/small_cnn.py:load", "--dims", "8", "--home"]
        place = tmp_path / "cnn"
        brief = small_cnn.TrainConfig(epochs=6, widths=(4, 8, 8, 16), hidden=16, crop=1.0)
        small_cnn.train(source, place, brief)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(small_cnn.HOME_VARIABLE, str(place))
            patch.chdir(Path(bench.__file__).parents[1])
            result, text = bench.run("ears", [str(source), *arguments, str(tmp_path / "home")], quiet=True)
        whole, eight = result["figures"]["rows"]
        assert (whole["dim"], eight["dim"]) == (521, 8)
        for row in (whole, eight):
            assert row["chance"] == 0.2
            assert row["zero-shot"] >= 0.6
            assert 0 <= row["nonsense"] <= 1
            assert row["auc"] > 0.5
            assert row["z needed"] > 0
        assert whole["z needed"] != eight["z needed"]
        assert "| bench/small_cnn.py:load | embedded | 521 |" in text


class TestOverTime:
    def test_partners_are_each_other_s(self) -> None:
        for classes in (2, 5, 10):
            partner = over_time.partners(classes, np.random.default_rng(classes))
            assert (partner[partner] == np.arange(classes)).all()
            assert (partner == np.arange(classes)).sum() == classes % 2

    def test_clips_hold_both_partners_and_share_no_recording_across_the_hold_out(self) -> None:
        class_of = np.repeat(np.arange(4), 15)
        partner = np.array([1, 0, 3, 2])
        made = over_time.paired(class_of, partner, 3, np.random.default_rng(0))
        held, seen = (set(made.members[of].ravel().tolist()) for of in (made.held, ~made.held))
        assert held
        assert not held & seen
        for members in class_of[made.members]:
            assert len(set(members.tolist())) == 3
            assert any({number, partner[number]} <= set(members.tolist()) for number in (0, 2))

    def test_as_typed(self, tmp_path: Path) -> None:
        source = soundbank.render(tmp_path / "sounds", 26, CONCEPTS[:4])
        result, text = bench.run("over_time", [str(source)], quiet=True)
        rows = {(row["sounds a clip"], row["peaks"]): row for row in result["figures"]["rows"]}
        assert set(rows) == {
            (count, kind)
            for count in (2, 3, 4)
            for kind in ("own", "0.5 s late", "1 s late", "2 s late", "partner", "random")
        }
        for count in (2, 3, 4):
            own, partner = rows[count, "own"], rows[count, "partner"]
            assert own["score"] > 0.3 > partner["score"]
            assert own["contradicted"] == partner["follows"] == 0
            assert own["holds"] == partner["holds"]
        assert "| 2 | own |" in text
