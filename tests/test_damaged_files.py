"""Any file that the program reads may hold anything: the result is a result or one of our errors, in one line.

Files whose hash a manifest holds are damaged in two ways: as chance does, and as somebody does who mends the hash.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audio_models import saved
from clap_models import laion_state, save_clap
from documents import rewritten
from embedders import FakeEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planting import plant, say
from sounds import tone
from test_export import Norms, as_target, exported_from

from and_retrieval import faiss_index
from and_retrieval.clips.index import ClipIndex
from and_retrieval.concepts import load_bank
from and_retrieval.embed import load_embedder, text_cache
from and_retrieval.errors import AndRetrievalError, ChecksumError, DamagedError, InputError
from and_retrieval.explanation.stored import load_explained
from and_retrieval.files import sha256
from and_retrieval.neighbours import STORES
from and_retrieval.network.dictionary import load_dictionary
from and_retrieval.network.plan import LayerPlan
from and_retrieval.pruning.export import card_path, load_pruned, writable
from and_retrieval.pruning.result import stored_results
from and_retrieval.recording.recording import Recording
from and_retrieval.store.documents import SEAL
from and_retrieval.targets import archive, load_target
from and_retrieval.types import Clip, Explanation, Label, Shown

FEW, MANY = 25, 60
LAYERS = {"conv": 3, "head": 2}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9)
    | st.sampled_from(["\ud800", "../x", "/etc/passwd", "x" * 300, 10**400, "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def fuzzed(examples: int = MANY) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


@contextmanager
def one_line() -> Iterator[None]:
    """The block may fail only as the user is to see it."""
    message = "a result"
    with suppress(AndRetrievalError):
        try:
            yield
        except AndRetrievalError as error:
            message = str(error)
            raise
    assert message
    assert "\n" not in message


def changed_bytes(data: st.DataObject, content: bytes) -> bytes:
    """Content with bits flipped, bytes replaced, a part cut out or something joined to it."""
    new = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of what a file says of itself is at its beginning or its end.
        most = data.draw(st.sampled_from([len(new), 64, 400]))
        place = min(data.draw(st.integers(0, max(most, 1))), max(len(new) - 1, 0))
        place = len(new) - 1 - place if data.draw(st.booleans()) and new else place
        how = data.draw(st.sampled_from(["flip", "replace", "cut", "end", "join"]))
        if how == "flip" and new:
            new[place] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "replace":
            new[place : place + 8] = data.draw(
                st.sampled_from([b"\xff" * 8, bytes(8), (2**62).to_bytes(8, "little")])
            )
        elif how == "cut":
            del new[place : place + data.draw(st.integers(1, 40))]
        elif how == "end":
            del new[place:]
        else:
            new += data.draw(st.binary(max_size=20))
    return bytes(new)


def changed_document(data: st.DataObject, content: Any) -> Any:
    """A JSON document with something else in one or two places, or without them."""
    for _ in range(data.draw(st.integers(1, 2))):
        content = _changed(data, content)
    return content


def _changed(data: st.DataObject, content: Any) -> Any:
    inside = isinstance(content, dict | list) and content and data.draw(st.integers(0, 5))
    if not inside:
        return data.draw(JSON)
    if isinstance(content, dict):
        key = data.draw(st.sampled_from(sorted(content)))
        rest = {name: value for name, value in content.items() if name != key}
        return rest if not data.draw(st.integers(0, 5)) else {**rest, key: _changed(data, content[key])}
    place = data.draw(st.integers(0, len(content) - 1))
    return [*content[:place], _changed(data, content[place]), *content[place + 1 :]]


# ---------- indexes and runs ----------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with index `s` and its run `p`, explained, and a result of `prune`."""
    folder = tmp_path_factory.mktemp("damaged")
    import soundfile

    (folder / "sounds").mkdir()
    for number in range(6):
        soundfile.write(folder / "sounds" / f"{number}.wav", tone(200 + 400 * number, 0.3, 8_000), 8_000)
    index = ClipIndex.build(folder / "sounds", FakeEmbedder(), folder / "home" / "s")
    random = np.random.default_rng(0)
    held = np.arange(6) % 3 == 0
    layers = {name: random.random((6, units)) for name, units in LAYERS.items()}
    recording = Recording.open(plant(index, layers, "p", held), index)
    units = [
        Explanation(name, unit, (Shown(1, 0.0, 1.0),), (Shown(2, 0.0, 0.0),), (Label("low", 0.5),))
        for name, count in LAYERS.items()
        for unit in range(count)
    ]
    say(recording, units, concepts=("low", "high"))
    rewritten_result(recording.folder.path / "prune-low-selective.json", recording.identity)
    return folder


def rewritten_result(path: Path, identity: str) -> None:
    names = ("random_gap", "random_gap_std", "oracle_gap", "gap_centred", "random_gap_centred", "delta_target",
             "delta_rest", "accuracy_target", "accuracy_rest", "accuracy_target_before",
             "accuracy_rest_before")  # fmt: skip
    budgets = [{"units": n, "share": n / 5, "gap": 0.1 * n, **dict.fromkeys(names, 0.1 * n)} for n in (1, 2)]
    path.write_text("{}")
    rewritten(
        path, recorded=identity, concepts=["low"], selector="selective", ablate="zero", unmeasured="", chosen=1,
        budgets=budgets, lost=[["high", -0.1]], removed=[["low", 2]],
    )  # fmt: skip
    rewritten(path, unmeasured="nothing")


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return made / "home"


def read_all(home: Path) -> None:
    """Everything that verbs read of an index and its run."""
    index = ClipIndex.open(home / "s", FakeEmbedder())
    index.search(np.eye(index.dim, dtype=np.float32)[0], 3)
    assert all(isinstance(clip, Clip) for clip in index.clips)
    recording = Recording.open(index.folder.run("p"), index)
    assert recording.layers
    recording.unit_index.search(np.eye(index.dim, dtype=np.float32)[0], 3)
    for name in LAYERS:
        recording.seen_activations(name)
        recording.activations(name, "held_out")
    assert len(recording.qualities) == len(recording.bands) == recording.manifest.index_clips
    explained = load_explained(recording)
    assert len(tuple(explained)) == len(explained)
    explained.at([0, 4])
    assert explained.phrases
    assert len(explained.positions) == len(explained)
    explained.reliable()
    stored_results(recording)


DOCUMENTS = (
    "s/manifest.json",
    "s/runs/p/manifest.json",
    "s/runs/p/explanation.json",
    "s/runs/p/prune-low-selective.json",
)
STORED = (
    ("s/manifest.json", "clips.jsonl"), ("s/manifest.json", "skipped.jsonl"), ("s/manifest.json", "vectors.faiss"),
    *(("s/runs/p/manifest.json", f"{name}.safetensors") for name in ("evidence", "activations", "qualities")),
    ("s/runs/p/manifest.json", "unit_index.faiss"),
    ("s/runs/p/explanation.json", "units.parquet"), ("s/runs/p/explanation.json", "phrases.parquet"),
    ("s/runs/p/explanation.json", "map.safetensors"),
)  # fmt: skip


@contextmanager
def put_back(path: Path) -> Iterator[bytes]:
    """The content of a file, which it has again after the block."""
    before = path.read_bytes()
    try:
        yield before
    finally:
        path.write_bytes(before)


def test_what_is_whole_can_be_read(home: Path) -> None:
    read_all(home)
    index = ClipIndex.open(home / "s", FakeEmbedder())
    assert len(stored_results(Recording.open(index.folder.run("p"), index))) == 1


@pytest.mark.parametrize("name", DOCUMENTS)
@fuzzed()
@given(data=st.data())
def test_documents_that_chance_damaged(name: str, home: Path, data: st.DataObject) -> None:
    """Every change but of blanks is noticed."""
    with put_back(home / name) as before:
        content = changed_bytes(data, before)
        (home / name).write_bytes(content)
        try:
            same = json.loads(content) == json.loads(before)
        except (ValueError, RecursionError):
            same = False
        if same:
            read_all(home)
        elif name.endswith("selective.json"):
            index = ClipIndex.open(home / "s", FakeEmbedder())
            assert stored_results(Recording.open(index.folder.run("p"), index)) == []
        else:
            with pytest.raises(AndRetrievalError) as caught:
                read_all(home)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DOCUMENTS)
@fuzzed(2 * MANY)
@given(data=st.data())
def test_documents_that_were_edited_and_sealed_again(name: str, home: Path, data: st.DataObject) -> None:
    with put_back(home / name) as before:
        document = json.loads(before)
        del document[SEAL]
        changed = changed_document(data, document)
        if not isinstance(changed, dict):
            (home / name).write_text(json.dumps(changed))
        else:
            gone = {field: None for field in document if field not in changed}
            try:
                rewritten(home / name, **{**changed, **gone})
            except UnicodeEncodeError:  # such text cannot be stored
                return
        with one_line():
            read_all(home)


@contextmanager
def with_content(home: Path, manifest: str, name: str, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """During the block a stored file has other content, and the manifest says so."""
    with put_back(home / manifest) as text:
        entries = json.loads(text)["files"]
        path = (home / manifest).parent / entries[name]["path"]
        with put_back(path) as before:
            path.write_bytes(change(before))
            entries[name] |= {"size": path.stat().st_size, "sha256": sha256(path)}
            rewritten(home / manifest, files=entries)
            yield


@pytest.mark.parametrize(("manifest", "name"), STORED)
@fuzzed()
@given(data=st.data())
def test_files_whose_hash_was_mended(manifest: str, name: str, home: Path, data: st.DataObject) -> None:
    with with_content(home, manifest, name, lambda before: changed_bytes(data, before)), one_line():
        read_all(home)


@pytest.mark.parametrize(("manifest", "name"), STORED)
@fuzzed(10)
@given(data=st.data())
def test_files_whose_hash_was_not_mended(manifest: str, name: str, home: Path, data: st.DataObject) -> None:
    entry = json.loads((home / manifest).read_text())["files"][name]
    path = (home / manifest).parent / entry["path"]
    with put_back(path) as before:
        content = changed_bytes(data, before)
        path.write_bytes(content)
        if content != before:
            with pytest.raises(ChecksumError, match="is missing or was changed; make the"):
                read_all(home)


@fuzzed()
@given(data=st.data())
def test_clips_of_other_types(home: Path, data: st.DataObject) -> None:
    def change(before: bytes) -> bytes:
        lines = before.splitlines()
        place = data.draw(st.integers(0, len(lines) - 1))
        lines[place] = json.dumps(changed_document(data, json.loads(lines[place]))).encode()
        return b"\n".join(lines)

    with with_content(home, "s/manifest.json", "clips.jsonl", change), one_line():
        read_all(home)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 500])
@pytest.mark.parametrize("name", ["manifest.json", "clips.jsonl", "vectors.faiss", "skipped.jsonl"])
def test_the_remedy_of_a_damaged_index_works(name: str, damage: bytes, made: Path, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(made / "home", home)
    folder = home / "s"
    path = folder / name
    if name != "manifest.json":
        path = folder / json.loads((folder / "manifest.json").read_text())["files"][name]["path"]
    if path.read_bytes() == damage:
        pytest.skip("nothing was skipped, and that is what the file holds")
    path.write_bytes(damage)
    with pytest.raises(AndRetrievalError, match="make the clip index again"):
        ClipIndex.open(folder)
    again = ClipIndex.build(made / "sounds", FakeEmbedder(), folder)
    assert len(again.clips) == 6
    read_all(home)  # the same sounds are the same index, and its run still belongs to it


def test_an_index_of_an_older_version_is_made_again(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "home" / "s", tmp_path / "s")
    rewritten(tmp_path / "s" / "manifest.json", format=2)
    with pytest.raises(AndRetrievalError, match=r"has format 2.*make the clip index again"):
        ClipIndex.open(tmp_path / "s")
    assert len(ClipIndex.build(made / "sounds", FakeEmbedder(), tmp_path / "s").clips) == 6


@pytest.mark.parametrize("approximate", [False, True])
@fuzzed(2 * MANY)
@given(data=st.data())
def test_faiss_files(
    approximate: bool, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    vectors = np.random.default_rng(0).normal(size=(90, 8)).astype(np.float32)
    index = faiss_index.build(vectors)
    path = tmp_path_factory.getbasetemp() / f"{approximate}.faiss"
    if approximate:
        STORES["faiss"].write(vectors, path)
        found = STORES["faiss"].open(path).near(vectors[:3], 2, None)
    else:
        faiss_index.save(index, path)
        found = faiss_index.search(faiss_index.load(path), vectors[:3], 2)[1]
    assert len(found) == 3
    path.write_bytes(changed_bytes(data, path.read_bytes()))
    try:
        if approximate:
            finder = STORES["faiss"].open(path)
            if finder.count == len(vectors):
                faiss_index.search(index, vectors[:3], 2, finder=finder)
        else:
            index = faiss_index.load(path)
            faiss_index.stored(index)
            if index.d == vectors.shape[1]:
                faiss_index.search(index, vectors[:3], 2)
    except DamagedError:
        return


@pytest.mark.parametrize(("at", "value"), [(33, 1 << 61), (4, 2**31 - 1), (8, 2**62), (33, 0), (37, 1 << 33)])
def test_sizes_that_no_file_could_hold_are_refused_before_faiss_reads_them(
    at: int, value: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.faiss"
    faiss_index.save(faiss_index.build(np.eye(4, dtype=np.float32)), path)
    content = bytearray(path.read_bytes())
    content[at : at + 8] = value.to_bytes(8, "little")
    path.write_bytes(content)
    monkeypatch.setattr(faiss_index.faiss, "read_index", lambda _: pytest.fail("FAISS reads it"))
    with pytest.raises(DamagedError, match="is not a FAISS index; make it again"):
        faiss_index.load(path)


# ---------- models ----------


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clap")
    save_clap(folder)
    return folder


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from audio_models import _ast

    return saved(_ast, tmp_path_factory.mktemp("ast"))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "model.safetensors",
    ],
)
@fuzzed(FEW)
@given(data=st.data())
def test_folders_of_clap(name: str, clap: Path, data: st.DataObject) -> None:
    path = clap / name
    if not path.is_file():
        pytest.skip(f"no {name}")
    with put_back(path) as before:
        if name.endswith(".json"):
            path.write_text(json.dumps(changed_document(data, json.loads(before))))
        else:
            path.write_bytes(changed_bytes(data, before))
        with one_line():
            embedder = load_embedder(f"clap:{clap}")
            assert embedder.fingerprint
            assert np.isfinite(embedder.embed_text(["rain"])).all()


@pytest.fixture(scope="module")
def laion(clap: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as LAION's training code writes them, beside the vocabulary."""
    from transformers import ClapModel

    path = tmp_path_factory.mktemp("laion") / "clap.pt"
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(clap / file, path.parent)
    torch.save({"epoch": 3, "state_dict": laion_state(ClapModel.from_pretrained(clap))}, path)
    return path


@fuzzed(FEW)
@given(data=st.data())
def test_files_of_laion_of_other_bytes(laion: Path, data: st.DataObject) -> None:
    with put_back(laion) as before:
        laion.write_bytes(changed_bytes(data, before))
        with one_line():
            load_embedder(f"laion:{laion}")


@fuzzed(FEW)
@given(data=st.data())
def test_files_of_laion_of_other_content(laion: Path, data: st.DataObject) -> None:
    with put_back(laion):
        content = torch.load(laion, weights_only=True)
        state = content["state_dict"]
        for _ in range(data.draw(st.integers(1, 3))):
            name = data.draw(st.sampled_from(sorted(state)))
            shape = data.draw(st.lists(st.integers(0, 5), max_size=3))
            other = data.draw(
                st.sampled_from(
                    [
                        torch.zeros(shape),
                        torch.full(shape, torch.nan),
                        torch.zeros(shape).bool(),
                        3,
                        "x",
                        None,
                    ]
                )
            )
            how = data.draw(st.sampled_from(["replace", "remove", "join"]))
            if how == "remove":
                del state[name]
            else:
                state[name if how == "replace" else f"{name}.more"] = other
        if data.draw(st.integers(0, 5)) == 0:
            content = data.draw(st.sampled_from([{}, [], 3, None, {"state_dict": 3}, {"state_dict": {1: 2}}]))
        torch.save(content, laion)
        with one_line():
            assert np.isfinite(load_embedder(f"laion:{laion}").embed_text(["rain"])).all()


@fuzzed()
@given(data=st.data())
def test_what_lies_beside_an_archive(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "facts.json"
    content = changed_document(data, {"sample_rate": 16_000, "class_names": ["dog", "rain"]})
    path.write_text(json.dumps(content))
    with one_line():
        facts = archive._facts(path, "target")
        assert isinstance(facts["sample_rate"], int)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
@fuzzed(FEW)
@given(data=st.data())
def test_folders_of_targets(name: str, ast: Path, data: st.DataObject) -> None:
    path = ast / name
    with put_back(path) as before:
        if name.endswith(".json"):
            path.write_text(json.dumps(changed_document(data, json.loads(before))))
        else:
            path.write_bytes(changed_bytes(data, before))
        with one_line():
            load_target(f"hf:{ast}")


@pytest.mark.parametrize(
    "shard", ["../x.bin", "/etc/passwd", "a/b.bin", "", "..", "a\\b.bin", 3, None, ["x"]]
)
@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_a_weight_map_names_no_file_outside_the_folder(
    name: str, shard: Any, ast: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ast, folder)
    (folder / "model.safetensors").rename(tmp_path / "x.bin")
    (folder / name).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(InputError, match=r"names a file outside its folder|weight_map does not say"):
        load_target(f"hf:{folder}")


@pytest.mark.parametrize("content", [[], {}, {"weight_map": []}, {"weight_map": None}, "x", None])
def test_a_weight_map_of_another_type(content: Any, ast: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ast, folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"weight_map|holds no settings"):
        load_target(f"hf:{folder}")


def test_a_clap_with_a_weight_that_is_no_number(clap: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = clap / "model.safetensors"
    with put_back(path):
        weights = load_file(path)
        weights["audio_projection.linear1.weight"][0, 0] = float("nan")
        save_file(weights, path, {"format": "pt"})
        with pytest.raises(InputError, match=r"audio_projection.linear1.weight holds NaN or infinity"):
            load_embedder(f"clap:{clap}").embed_text(["rain"])


# ---------- exports, dictionaries, banks, the cache ----------


@fuzzed()
@given(data=st.data())
def test_exports(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    target = as_target(Norms())
    path = tmp_path_factory.getbasetemp() / "export.safetensors"
    for old in (path, card_path(path)):
        old.unlink(missing_ok=True)
    exported_from(target, {"relu": [2]}, (LayerPlan("relu", 6, 1, None, "mean"),), path, not_hashed=[])
    if data.draw(st.booleans()):
        card = json.loads(card_path(path).read_text())
        card_path(path).write_text(json.dumps(changed_document(data, card)))
    else:
        path.write_bytes(changed_bytes(data, path.read_bytes()))
        if data.draw(st.booleans()):
            card = json.loads(card_path(path).read_text())
            card_path(path).write_text(json.dumps({**card, "weights_sha256": sha256(path)}))
    with one_line():
        load_pruned(target, path)
    with one_line():
        writable(path, "0123")


@fuzzed()
@given(data=st.data())
def test_dictionaries(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    from and_retrieval.network.dictionary import Dictionary, save_dictionary

    path = tmp_path_factory.getbasetemp() / "dictionary.safetensors"
    save_dictionary(Dictionary(torch.eye(4), torch.zeros(4)), path)
    path.write_bytes(changed_bytes(data, path.read_bytes()))
    with one_line():
        load_dictionary(path)


@pytest.mark.parametrize("ending", ["json", "csv", "txt"])
@fuzzed()
@given(data=st.data())
def test_banks(ending: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / f"bank.{ending}"
    if ending == "json":
        content = json.dumps(changed_document(data, ["dog", "rain", {"concepts": ["x"]}])).encode()
    else:
        content = changed_bytes(data, 'concept\ndog\n"rain, ""heavy"""\nRädchen # so\n'.encode())
    path.write_bytes(content)
    with one_line():
        bank = load_bank(str(path))
        assert bank.concepts
        assert all(concept.strip() == concept and concept.encode() for concept in bank.concepts)


def test_half_a_character_in_a_bank(tmp_path: Path) -> None:
    path = tmp_path / "bank.json"
    path.write_text(r'["dog", "\ud83d"]')
    with pytest.raises(InputError, match=r"'\\ud83d' holds half a character"):
        load_bank(str(path))
    path.write_text(r'["dog", "\ud83d\udc15"]')
    assert load_bank(str(path)).concepts == ("dog", "🐕")


@fuzzed()
@given(data=st.data())
def test_cached_text_vectors_are_as_they_were_made_or_made_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_cache, "cache_folder", lambda: tmp_path_factory.getbasetemp() / "cache")
        vectors = np.random.default_rng(0).random((3, 4), np.float32)

        def cached() -> Any:
            return text_cache.cached_vectors("kind", ["model"], ["a", "b", "c"], 4, lambda _: vectors)

        cached()
        [path] = (tmp_path_factory.getbasetemp() / "cache" / "text").iterdir()
        path.write_bytes(changed_bytes(data, path.read_bytes()))
        np.testing.assert_array_equal(cached(), vectors)


def test_the_cache_of_text_vectors_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr(text_cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(text_cache, "LARGEST", 3000)
    made: list[str] = []

    def cached(text: str) -> None:
        def embed(_: Any) -> Any:
            made.append(text)
            return np.zeros((1, 200), np.float32)

        text_cache.cached_vectors("kind", ["model"], [text], 200, embed)
        for number, path in enumerate(sorted((tmp_path / "text").iterdir(), key=lambda p: p.stat().st_mtime)):
            os.utime(path, (number + 1, number + 1))  # the order of use, whatever the clock says

    for text in ("a", "b", "c"):
        cached(text)
    cached("b")
    assert made == ["a", "b", "c"]
    cached("d")  # the third file goes that was used longest ago
    cached("b")
    cached("a")
    assert made == ["a", "b", "c", "d", "a"]
    assert sum(path.stat().st_size for path in (tmp_path / "text").iterdir()) <= 3000
