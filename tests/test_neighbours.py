"""Stores of vectors held against brute force: one suite over all of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from command_line import Answer
from embedders import FakeEmbedder
from planting import recorded_layer, recording_manifest
from sounds import WriteSound, tone

from and_retrieval import ClipIndex, faiss_index
from and_retrieval.cli import main
from and_retrieval.clips.index import CLIPS, SKIPPED
from and_retrieval.clips.manifest import IndexManifest
from and_retrieval.clips.records import digest_of, record_lines
from and_retrieval.clips.vector_files import vector_files
from and_retrieval.config import ClipConfig, MomentConfig
from and_retrieval.embed.prompts import BARE
from and_retrieval.errors import ChecksumError, DamagedError
from and_retrieval.faiss_index import Finder, brute_force, build, search
from and_retrieval.neighbours import STORES, temporary_store
from and_retrieval.recording.manifest import EVIDENCE, RecordingManifest
from and_retrieval.recording.recording import Recording
from and_retrieval.recording.unit_index import FILE, LISTS, load_unit_index
from and_retrieval.search import search as search_module
from and_retrieval.search.search import Filters, search_clips, search_neurons
from and_retrieval.store import INDEX, Folder, Writer
from and_retrieval.types import Clip, Floats

HERE = Path(__file__).parent
COUNT = 20_000


def clustered(n: int, dim: int = 160, seed: int = 0) -> Floats:
    """Unit vectors around 300 centres whose variance decays over the dimensions, as neuron vectors' does."""
    scale = 0.97 ** np.arange(dim)
    centres = np.random.default_rng(9).standard_normal((300, dim)) * scale
    random = np.random.default_rng(seed)
    rows = centres[random.integers(300, size=n)] + 0.5 * random.standard_normal((n, dim)) * scale
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Made(NamedTuple):
    """A store of `COUNT` vectors, and the vectors."""

    name: str
    path: Path
    finder: Finder
    vectors: Floats


@pytest.fixture(scope="module", params=STORES, name="made")
def _made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    if request.param == "lance":
        pytest.importorskip("lance")
    store = STORES[request.param]
    path = tmp_path_factory.mktemp("store") / f"x{store.file}"
    path.touch()  # as scratch files are
    vectors = clustered(COUNT)
    store.write(vectors, path)
    return Made(request.param, path, store.open(path), vectors)


class TestEveryStore:
    def test_nearly_all_is_found_and_scores_are_exact(self, made: Made) -> None:
        queries = clustered(60, seed=1)
        index = build(made.vectors)
        assert made.finder.count == COUNT
        for k, among in ((10, None), (100, None), (10, np.arange(COUNT) % 3 != 0)):
            scores, rows = search(index, queries, k, among, made.finder)
            expected, best = brute_force(made.vectors, queries, k, among)
            recall = np.mean([np.isin(a, b).mean() for a, b in zip(rows, best, strict=True)])
            assert recall >= 0.99
            np.testing.assert_allclose(
                np.einsum("qd,qkd->qk", queries, made.vectors[rows]), scores, atol=1e-5
            )
            assert (np.diff(scores, axis=1) <= 0).all()
            assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
            assert scores.sum() <= expected.sum() + 1e-2
            if among is not None:
                assert among[rows].all()

    def test_scores_do_not_depend_on_the_store(self, made: Made) -> None:
        """To the bit: those of a search that compares all vectors."""
        index = build(made.vectors)
        for query in clustered(20, seed=2):
            scores, rows = search(index, query[None], 30, finder=made.finder)
            every, order = search(index, query[None], COUNT)
            place = np.argsort(order[0])[rows[0]]
            np.testing.assert_array_equal(scores[0], every[0][place])

    def test_a_filter_that_leaves_few_is_exact(self, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        queries, index = clustered(5, seed=1), build(made.vectors)
        among = np.zeros(COUNT, bool)
        among[7::2_000] = True
        for scanned in (0, faiss_index.SCANNED):  # by the store, and one by one
            monkeypatch.setattr(faiss_index, "SCANNED", scanned)
            scores, rows = search(index, queries, 15, among, made.finder)
            assert rows.shape == (5, 10)
            np.testing.assert_array_equal(rows, brute_force(made.vectors, queries, 15, among)[1])
            assert (np.diff(scores, axis=1) <= 0).all()

    def test_more_than_the_lists_hold(self, made: Made) -> None:
        queries, index = clustered(2, seed=1), build(made.vectors)
        rows = search(index, queries, COUNT - 3, finder=made.finder)[1]
        assert all(len(set(row)) == COUNT - 3 for row in rows.tolist())

    def test_a_store_that_finds_too_few_is_not_believed(self, made: Made) -> None:
        class Poor:
            count = COUNT

            def near(self, queries: Floats, k: int, among: Any) -> Any:
                rows = made.finder.near(queries, k, among)
                return np.where(np.arange(rows.shape[1]) < k - 1, rows, -1)

        queries = clustered(3, seed=1)
        _, rows = search(build(made.vectors), queries, 10, finder=Poor())
        np.testing.assert_array_equal(rows, brute_force(made.vectors, queries, 10)[1])

    @pytest.mark.parametrize("dim", [3, 17])
    def test_few_dimensions(self, made: Made, dim: int) -> None:
        vectors = clustered(1_000, dim)
        with temporary_store(made.name, vectors) as finder:
            rows = search(build(vectors), vectors[:50], 5, finder=finder)[1]
        found = [
            np.isin(a, b).mean() for a, b in zip(rows, brute_force(vectors, vectors[:50], 5)[1], strict=True)
        ]
        assert np.mean(found) >= 0.98

    def test_units_without_a_vector_score_zero(self, made: Made) -> None:
        vectors = clustered(1_000)
        vectors[300:] = 0
        with temporary_store(made.name, vectors) as finder:
            scores, rows = search(build(vectors), vectors[:1], 320, finder=finder)
        assert rows[0, 0] == 0
        np.testing.assert_array_equal(scores[0][rows[0] >= 300], 0)

    def test_the_mean_is_not_taken_off(self, made: Made) -> None:
        """FAISS's own PCA does, which ranks vectors that share a direction differently from their inner products."""
        shared = np.full(200, 3.0)
        rows = clustered(COUNT, dim=200) + 0.2 * shared / np.linalg.norm(shared)
        vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        queries = clustered(40, dim=200, seed=1)
        with temporary_store(made.name, vectors) as finder:
            nearest = search(build(vectors), queries, 10, finder=finder)[1]
        best = brute_force(vectors, queries, 10)[1]
        assert np.mean([np.isin(a, b).mean() for a, b in zip(nearest, best, strict=True)]) >= 0.97

    def test_what_is_none(self, made: Made, tmp_path: Path) -> None:
        store = STORES[made.name]
        for number, content in enumerate((b"", b"not a store", b"IxPT" + bytes(10))):
            path = tmp_path / f"{number}{store.file}"
            path.write_bytes(content)
            with pytest.raises(DamagedError, match="make it again"):
                store.open(path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(DamagedError, match="make it again"):
            store.open(tmp_path / "nothing")


class TestFaissLists:
    def test_the_file_is_what_faiss_writes(self, tmp_path: Path) -> None:
        import faiss

        vectors = clustered(5_000)
        STORES["faiss"].write(vectors, tmp_path / "mine")
        index = STORES["faiss"].open(tmp_path / "mine").index
        again = faiss.read_index(str(tmp_path / "mine"))  # loaded, not mapped
        inverted = faiss.downcast_index(again.index)
        inverted.reset()
        again.ntotal = 0
        again.add(vectors)
        faiss.write_index(again, str(tmp_path / "its"))
        assert (tmp_path / "mine").read_bytes() == (tmp_path / "its").read_bytes()
        assert index.ntotal == 5_000

    def test_the_same_vectors_give_the_same_bytes(self, tmp_path: Path) -> None:
        import faiss

        vectors, threads = clustered(3_000), faiss.omp_get_max_threads()
        try:
            for number in (1, 2):
                faiss.omp_set_num_threads(number)
                STORES["faiss"].write(vectors, tmp_path / str(number))
        finally:
            faiss.omp_set_num_threads(threads)
        assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


class TestRuns:
    """Units of a run, in a store."""

    UNITS = 4_000

    @pytest.fixture
    def index(self, tmp_path: Path, write_sound: WriteSound, home: Path) -> ClipIndex:
        for number in range(6):
            write_sound(f"sounds/{number}.wav", tone(200 + 80 * number, 0.5, 8_000), 8_000)
        return ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "s")

    def files(self, vectors: Floats, store: str | None) -> Iterator[tuple[str, Writer | str]]:
        units = build(vectors)
        yield FILE, lambda path: faiss_index.save(units, path)
        yield EVIDENCE, "stands in"
        if store is not None:
            yield LISTS + STORES[store].file, lambda path: STORES[store].write(vectors, path)

    def stored(self, index: ClipIndex, store: str | None, run: str) -> Recording:
        vectors = clustered(self.UNITS, index.dim)
        manifest = recording_manifest(
            [recorded_layer("a", 3_000), recorded_layer("b", 1_000)],
            index_clips=len(index.clips),
            index_digest=index.digest(),
        )
        manifest = replace(manifest, settings=replace(manifest.settings, store=store or "faiss"))
        folder = index.folder.run(run)
        folder.commit(dict(self.files(vectors, store)), manifest)
        return Recording.open(folder, index)

    def test_search_answers_alike(
        self, index: ClipIndex, made: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(faiss_index, "SCANNED", 100)
        run, plain = self.stored(index, made.name, "run"), self.stored(index, None, "plain")
        assert run.unit_index.finder is not None
        assert plain.unit_index.finder is None
        for query in ("dog", ["rain", "-wind"]):
            for filters in (Filters(), Filters(layers=("a",))):
                mine, other = (search_neurons(one, query, 5, filters) for one in (run, plain))
                assert mine == other

    def test_damage_is_noticed_and_what_was_before_goes(self, index: ClipIndex, made: Made) -> None:
        run = self.stored(index, made.name, "run")
        path = run.stored.file(LISTS + STORES[made.name].file)
        del run
        again = self.stored(index, made.name, "run")
        names = {p.name.partition("-")[0] for p in again.folder.path.iterdir()}
        assert names == {"manifest.json", "unit_index", "evidence", "unit_lists"}
        assert len(list(again.folder.path.iterdir())) == 4
        path = again.stored.file(LISTS + STORES[made.name].file)
        file = path if path.is_file() else max(path.rglob("*.lance"), key=lambda p: p.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(ChecksumError, match="was changed; make the recording again"):
            _ = Recording.open(again.folder, index).unit_index
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(ChecksumError, match="is missing"):
            _ = Recording.open(again.folder, index).unit_index

    def test_a_store_of_other_units_is_refused(self, index: ClipIndex, made: Made) -> None:
        run = self.stored(index, made.name, "run")
        few = clustered(600, index.dim)
        files = dict(self.files(clustered(self.UNITS, index.dim), None))
        files[LISTS + STORES[made.name].file] = lambda path: STORES[made.name].write(few, path)
        run.folder.commit(files, run.manifest)
        with pytest.raises(DamagedError, match="it holds 600 units"):
            load_unit_index(run.folder.open(RecordingManifest))

    def test_while_a_state_is_read_its_store_stays(self, index: ClipIndex, made: Made) -> None:
        run = self.stored(index, made.name, "run")
        path = run.stored.file(LISTS + STORES[made.name].file)
        run.folder.commit(dict(self.files(clustered(self.UNITS, index.dim), None)), run.manifest)
        assert path.exists()
        assert len(run.unit_index.search(clustered(1, index.dim)[0], 3)) == 3


class Drawn(FakeEmbedder):
    """Sound -> what is at that place of a list, as if it had been embedded; texts as its parent does."""

    name = f"{HERE / 'test_neighbours.py'}:Drawn"
    dim = 160


def check_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two results of a search say the same, but for rounding."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value == (pytest.approx(other[key], abs=1e-5) if isinstance(value, float) else other[key])


CLIP_COUNT, MOMENT_COUNT = 2_000, 3  # of an index, and of each of its clips


def clip_index(path: Path, store: str, moments: bool) -> ClipIndex:
    """An index of made-up clips; a clip's vector is the mean of those of its moments, which lie close together."""
    own = clustered(CLIP_COUNT, Drawn.dim)
    parts = own[:, None] + 0.4 * clustered(CLIP_COUNT * MOMENT_COUNT, Drawn.dim, 3).reshape(
        CLIP_COUNT, MOMENT_COUNT, -1
    )
    parts = 0.1 + parts / np.linalg.norm(parts, axis=2, keepdims=True)  # what all clips share
    parts /= np.linalg.norm(parts, axis=2, keepdims=True)
    own = parts.mean(axis=1)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    config = MomentConfig(1.0, 0.5) if moments else None
    clips = [
        Clip(f"{row:016x}", "/nowhere", f"{row}.wav", 0.0, 2.0, sha256=f"{row:064x}")
        for row in range(CLIP_COUNT)
    ]
    embedder = Drawn("neighbours-1")
    manifest = IndexManifest(
        name=path.name,
        clips=CLIP_COUNT,
        skipped=0,
        embedder=embedder.name,
        embedder_fingerprint=embedder.fingerprint,
        dim=embedder.dim,
        cut=ClipConfig(),
        prompts=BARE,
        digest=digest_of(clips, embedder.fingerprint),
        moments=config,
        store=store,
    )
    halves = parts.reshape(-1, Drawn.dim).astype(np.float16)
    folder = Folder(path, INDEX)
    with vector_files(folder, manifest, [own], [halves], np.full(CLIP_COUNT, 2.0)) as files:
        folder.commit({CLIPS: record_lines(clips), SKIPPED: "", **files}, manifest)
    return ClipIndex.open(path, embedder)


@pytest.fixture(scope="module", params=[True, False], ids=["moments", "clips"])
def both(
    request: pytest.FixtureRequest, made: Made, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ClipIndex, ClipIndex]:
    """The same index with the store and without."""
    home = tmp_path_factory.mktemp("clips")
    plain = clip_index(home / "plain", made.name, request.param)
    assert plain.finder is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_index, "APPROXIMATE_FROM", 1_000)
        several = clip_index(home / "several", made.name, request.param)
    assert several.finder is not None
    return several, plain


class TestClips:
    """Clips of an index, in a store."""

    def test_search_answers_alike(
        self, both: tuple[ClipIndex, ClipIndex], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Though 400 of 2,000 clips, or of 6,000 moments, are compared; scores and what is said of them are equal."""
        monkeypatch.setattr(search_module, "CANDIDATES", 400)
        found = []
        for number in range(12):
            for query in (f"text {number}", [f"text {number}", f"-text {number + 50}"]):
                mine, other = (
                    {result["row"]: result for result in search_clips(index, query, 10)} for index in both
                )
                found.append(len(mine.keys() & other.keys()) / 10)
                for row in mine.keys() & other.keys():
                    check_alike(mine[row], other[row])
                scores = [result["score"] for result in mine.values()]
                assert scores == sorted(scores, reverse=True)
        assert np.mean(found) >= 0.98

    def test_what_all_share_need_not_be_computed(self, both: tuple[ClipIndex, ClipIndex]) -> None:
        several, plain = both
        np.testing.assert_array_equal(several.vector_sum, plain.vector_sum)
        np.testing.assert_array_equal(several.moment_sum, plain.moment_sum)

    def test_more_than_the_store_lists(self, both: tuple[ClipIndex, ClipIndex]) -> None:
        mine, other = (search_clips(index, "text", CLIP_COUNT) for index in both)
        assert [result["row"] for result in mine] == [result["row"] for result in other]

    def test_damage_is_noticed(self, both: tuple[ClipIndex, ClipIndex], made: Made, tmp_path: Path) -> None:
        path = shutil.copytree(both[0].folder.path, tmp_path / "damaged")
        ending = STORES[made.name].file
        [file] = path.glob(f"directions-*{ending}")
        file = file if file.is_file() else max(file.rglob("*.lance"), key=lambda p: p.stat().st_size)
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        file.write_bytes(damaged)
        index = ClipIndex.open(path, Drawn("neighbours-1"))  # all that does not search its clips goes on
        np.testing.assert_array_equal(index.moment_sum, both[0].moment_sum)
        with pytest.raises(
            DamagedError, match=r"directions-\w+\.\w+ is missing or damaged; run `index` again"
        ):
            search_clips(index, "text", 3)

    def test_a_store_of_other_clips_is_refused(
        self, both: tuple[ClipIndex, ClipIndex], made: Made, tmp_path: Path
    ) -> None:
        folder = replace(both[0].folder, path=shutil.copytree(both[0].folder.path, tmp_path / "other"))
        stored = folder.open(IndexManifest)
        name = f"directions{STORES[made.name].file}"
        kept = {plain: stored.file(plain).rename(tmp_path / plain) for plain in stored.files if plain != name}
        few = clustered(600, Drawn.dim)
        files = {**kept, name: lambda to: STORES[made.name].write(few, to)}
        folder.commit(files, stored.manifest)
        with pytest.raises(DamagedError, match="is missing or damaged; run `index` again"):
            _ = ClipIndex.open(folder.path).finder


def damage(path: Path) -> None:
    """Change one bit of a file, or of the largest file of a Lance table."""
    file = path if path.is_file() else max(path.rglob("*.lance"), key=lambda part: part.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


class TestDerived:
    """A store is derived from the vectors: without it, nothing but the search of clips is lost."""

    EMBEDDER = f"{HERE / 'embedders.py'}:FakeEmbedder"

    @pytest.fixture(autouse=True)
    def sounds(self, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(11):
            folder = "one" if number < 8 else "two"
            write_sound(f"{folder}/{number}.wav", tone(200 + 80 * number, 0.5, 8_000), 8_000)
        monkeypatch.setattr(faiss_index, "APPROXIMATE_FROM", 1)

    def index(self, source: Path, *options: str) -> list[str]:
        return ["index", str(source), "--name", "mine", "--embedder", self.EMBEDDER, *options]

    @pytest.mark.parametrize("store", STORES)
    @pytest.mark.parametrize("harm", [damage, lose])
    @pytest.mark.parametrize("name", ["directions", "sums"])
    def test_the_store_is_made_again_and_no_clip_is_lost(
        self,
        tmp_path: Path,
        home: Path,
        answer: Answer,
        capsys: pytest.CaptureFixture[str],
        store: str,
        harm: Callable[[Path], None],
        name: str,
    ) -> None:
        if store == "lance":
            pytest.importorskip("lance")
        assert answer(*self.index(tmp_path / "one", "--store", store))["clips"] == 8
        expected = answer("search", "mine", "dog", "-k", "3")["results"]
        for source, clips in (("one", 8), ("two", 11)):
            [path] = (home / "mine").glob(f"{name}-*")
            harm(path)
            if name == "directions":
                assert main(["search", "mine", "dog"]) == 2
                assert f"{path} is missing or damaged; run `index` again" in capsys.readouterr().err
            assert answer(*self.index(tmp_path / source))["clips"] == clips
            assert len(list((home / "mine").glob(f"{name}-*"))) == 1
            again = answer("search", "mine", "dog", "-k", "3")["results"]
            if source == "one":
                for one, other in zip(again, expected, strict=True):
                    check_alike(one, other)

    def test_an_index_with_a_lance_table_where_lance_is_not_installed(
        self,
        tmp_path: Path,
        answer: Answer,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pytest.importorskip("lance")
        answer(*self.index(tmp_path / "one", "--store", "lance"))
        monkeypatch.setitem(sys.modules, "lance", None)  # imports of it fail from here on
        target = f"{HERE / 'targets/deep.py'}:wide"
        record = answer(
            "record", "mine", "--target", target, "--run", "r", "--store", "faiss", "--device", "cpu"
        )
        assert record["clips"] == 8
        for command in (["search", "mine", "dog"], self.index(tmp_path / "two")):
            assert main(command) == 2
            message = capsys.readouterr().err
            assert message.count("\n") == 1
            assert "index 'mine', made with --store lance, needs a package that is not installed" in message
            assert "pip install 'and-retrieval[lance]'" in message
        assert answer(*self.index(tmp_path / "two", "--store", "faiss"))["clips"] == 11
        assert len(answer("search", "mine", "dog", "-k", "3")["results"]) == 3


def write_tones(write_sound: WriteSound, count: int) -> None:
    """So many files, each with a tone of another pitch and level."""
    for number in range(count):
        sound = tone(200 + 80 * number, 0.5, 8_000, 0.1 + 0.1 * number)
        write_sound(f"sounds/{number}.wav", sound, 8_000)


def test_the_command_line_of_clips(
    tmp_path: Path,
    write_sound: WriteSound,
    home: Path,
    answer: Answer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An index that changes its store embeds nothing again, and keeps it where none is named."""
    write_tones(write_sound, 8)
    embedder = f"{HERE / 'embedders.py'}:FakeEmbedder"
    command = ["index", str(tmp_path / "sounds"), "--name", "s", "--embedder", embedder]
    plain = answer(*command, "--home", str(tmp_path / "plain"))
    expected = answer("search", "s", "dog", "-k", "4", "--home", str(tmp_path / "plain"))["results"]
    monkeypatch.setattr(faiss_index, "APPROXIMATE_FROM", 1)
    made: list[set[str]] = []
    for options, ending in (([], ".faiss"), (["--store", "lance"], ".lance"), ([], ".lance")):
        if ending == ".lance":
            pytest.importorskip("lance")
        result = answer(*command, *options)
        assert result["clips"] == plain["clips"]
        assert [path.suffix for path in (home / "s").glob("directions-*")] == [ending]
        made.append({path.name for path in (home / "s").glob("directions-*")})
        for one, other in zip(answer("search", "s", "dog", "-k", "4")["results"], expected, strict=True):
            check_alike(one | {"path": ""}, other | {"path": ""})
    assert made[1] == made[2]  # it was taken over, for names of Lance's files are drawn anew each time
    assert main([*command, "--store", "other"]) == 2
    assert "unknown store 'other'; known: faiss, lance" in capsys.readouterr().err
    monkeypatch.setattr("and_retrieval.neighbours.find_spec", lambda _: None)
    assert main([*command, "--store", "lance"]) == 2
    assert "pip install 'and-retrieval[lance]'" in capsys.readouterr().err


def test_the_command_line(
    tmp_path: Path,
    write_sound: WriteSound,
    home: Path,
    answer: Answer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that changes its store is not recorded again; the store is made from 50,000 units on, here from 1."""
    write_tones(write_sound, 6)
    ClipIndex.build(tmp_path / "sounds", FakeEmbedder(), home / "s")
    monkeypatch.setattr(faiss_index, "APPROXIMATE_FROM", 1)
    command = ["record", "s", "--target", f"{HERE / 'targets/deep.py'}:wide", "--run", "r", "--device", "cpu"]
    scores: list[list[float]] = []
    for name in STORES:
        if name == "lance":
            pytest.importorskip("lance")
        result = answer(*command, "--store", name)
        assert result["resumed"] == (0 if name == "faiss" else result["shards"])
        endings = {path.suffix for path in (home / "s/runs/r").glob("unit_lists-*")}
        assert endings == {STORES[name].file}
        search = answer(
            "search", "s/r", "dog", "-k", "4", "--embedder", f"{HERE / 'embedders.py'}:FakeEmbedder"
        )
        scores.append([unit["score"] for unit in search["results"]])  # many units are alike
    assert np.shape(scores) == (len(STORES), 4)
    np.testing.assert_allclose(scores[1:], scores[:-1], atol=1e-5)
    assert main([*command, "--store", "other"]) == 2
    assert "unknown store 'other'; known: faiss, lance" in capsys.readouterr().err
    monkeypatch.setattr("and_retrieval.neighbours.find_spec", lambda _: None)
    assert main([*command, "--store", "lance"]) == 2
    assert "pip install 'and-retrieval[lance]'" in capsys.readouterr().err
