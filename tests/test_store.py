"""The folder layout: commits that are whole or not there, checksums, versions, names, and sweeping."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval import store
from and_retrieval.errors import AndRetrievalError, ChecksumError, InputError, StaleError
from and_retrieval.store import Folder, Home

DAMAGED = ("", "{", "[]", "null", "{}", '{"format": 1}', '{"format": 1, "kind": "clip index"}', "\udcff")
BAD_NAMES = ("../x", "", ".x", "..", ".", "a/b", "/x", "a\\b", "a b", "x\n", "-x", "ü", "a\0")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "x", "clip index")


def listed(folder: Folder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def rewrite(folder: Folder, **changes: object) -> None:
    path = folder.path / "manifest.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


class TestCommit:
    def test_takes_text_writers_and_scratch_files(self, folder: Folder) -> None:
        scratch = folder.scratch("c.npy")
        scratch.write_bytes(b"\0\1")
        files = {"a.txt": "ü\r\n", "b.bin": lambda path: path.write_bytes(b"bytes"), "c.npy": scratch}
        folder.commit(files, {"clips": 3, "who": "ü"})
        assert folder.file("a.txt").read_bytes() == "ü\r\n".encode()
        assert folder.file("b.bin").read_bytes() == b"bytes"
        assert folder.file("c.npy").read_bytes() == b"\0\1"
        facts = folder.manifest()
        assert (facts["format"], facts["kind"], facts["clips"], facts["who"]) == (1, "clip index", 3, "ü")
        assert listed(folder) == {"manifest.json", *(entry["path"] for entry in facts["files"].values())}

    def test_of_the_same_content_gives_the_same_bytes(self, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            folder = Folder(tmp_path / name, "run")
            folder.commit({"b.txt": "b", "a.txt": "a"}, {"n": 1})
            made.append({p.name: p.read_bytes() for p in folder.path.iterdir()})
        assert made[0] == made[1]

    def test_replaces_the_state_before(self, folder: Folder) -> None:
        folder.commit({"a.txt": "old", "gone-0.npy": "old", "same.txt": "same"}, {})
        (folder.path / "explanations.jsonl").write_text("somebody's")
        (folder.path / "a-notes.txt").write_text("somebody's")
        folder.commit({"a.txt": "new", "same.txt": "same"}, {})
        assert folder.file("a.txt").read_text() == "new"
        assert folder.file("same.txt").read_text() == "same"
        placed = {entry["path"] for entry in folder.manifest()["files"].values()}
        assert listed(folder) == {"manifest.json", "explanations.jsonl", "a-notes.txt", *placed}
        with pytest.raises(InputError, match=r"has no gone-0\.npy"):
            folder.file("gone-0.npy")

    @pytest.mark.parametrize("name", ["manifest.json", "b.txt"])
    def test_that_breaks_off_leaves_the_state_before(
        self, name: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.commit({"a.txt": "old", "b.txt": "old"}, {"n": 1})
        scratch = Folder.scratch

        def full_disk(self: Folder, wanted: str) -> Path:
            if wanted == name:
                raise OSError(28, "No space left on device")
            return scratch(self, wanted)

        monkeypatch.setattr(Folder, "scratch", full_disk)
        with pytest.raises(OSError, match="No space left"):
            folder.commit({"a.txt": "new", "b.txt": "new"}, {"n": 2})
        monkeypatch.undo()
        assert folder.manifest()["n"] == 1
        assert folder.file("a.txt").read_text() == folder.file("b.txt").read_text() == "old"
        folder.commit({"a.txt": "newer", "b.txt": "old"}, {"n": 3})
        assert folder.file("a.txt").read_text() == "newer"
        assert len(listed(folder)) == 3  # nothing of the commit that broke off is left

    def test_into_a_damaged_folder_makes_it_whole(self, folder: Folder) -> None:
        folder.commit({"a.txt": "old"}, {})
        (folder.path / "manifest.json").write_text("{")
        folder.commit({"a.txt": "new"}, {})
        assert folder.file("a.txt").read_text() == "new"
        assert len(listed(folder)) == 2

    def test_is_not_disturbed_by_scratch_files_and_removes_abandoned_ones(self, folder: Folder) -> None:
        folder.commit({"a.txt": "old"}, {})
        abandoned, fresh = folder.scratch("held_out-0.npy"), folder.scratch("held_out-0.npy")
        assert abandoned != fresh
        two_days_ago = time.time() - 2 * 24 * 3600
        os.utime(abandoned, (two_days_ago, two_days_ago))
        assert folder.file("a.txt").read_text() == "old"
        folder.commit({"a.txt": "new"}, {})
        assert not abandoned.exists()
        assert fresh.exists()  # somebody may be writing to it

    def test_leaves_files_that_others_may_read(self, folder: Folder) -> None:
        private = folder.scratch("b.npy")
        private.chmod(0o600)
        folder.commit({"a.txt": "a", "b.npy": private}, {})
        for path in folder.path.iterdir():
            assert path.stat().st_mode & stat.S_IROTH, path


class TestReading:
    def test_a_changed_file_is_noticed(self, folder: Folder) -> None:
        folder.commit({"a.txt": "true", "b.txt": "fine"}, {})
        folder.file("a.txt").write_text("lies")
        with pytest.raises(ChecksumError, match="missing or was changed; make the clip index again"):
            folder.file("a.txt")
        assert folder.file("b.txt").read_text() == "fine"
        folder.file("b.txt").unlink()
        with pytest.raises(ChecksumError, match="missing or was changed"):
            folder.file("b.txt")

    def test_large_files_are_checked_by_size_alone(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.commit({"a.npy": "12345"}, {})
        monkeypatch.setattr(store, "CHECKED_UP_TO", 4)
        path = folder.file("a.npy")
        path.write_text("54321")
        assert folder.file("a.npy") == path
        path.write_text("123456")
        with pytest.raises(ChecksumError):
            folder.file("a.npy")

    def test_other_formats_and_kinds(self, folder: Folder) -> None:
        folder.commit({"a.txt": "a"}, {})
        with pytest.raises(StaleError, match="is a clip index, not a run"):
            Folder(folder.path, "run").manifest()
        rewrite(folder, format=2, files=None)
        with pytest.raises(StaleError, match="has format 2, this version reads format 1"):
            folder.manifest()

    @pytest.mark.parametrize("text", DAMAGED)
    def test_a_damaged_manifest(self, text: str, folder: Folder) -> None:
        folder.path.mkdir()
        (folder.path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(InputError, match="missing or damaged; make the clip index again"):
            folder.file("a.txt")

    def test_nothing_there(self, folder: Folder) -> None:
        assert not folder.exists()
        with pytest.raises(InputError, match="missing or damaged"):
            folder.manifest()

    def test_a_manifest_cannot_name_files_elsewhere(self, folder: Folder, tmp_path: Path) -> None:
        folder.commit({"a.txt": "a"}, {})
        (tmp_path / "secret").write_text("a")
        entry = folder.manifest()["files"]["a.txt"] | {"path": "../secret"}
        rewrite(folder, files={"a.txt": entry})
        with pytest.raises(ChecksumError):
            folder.file("a.txt")

    def test_text_is_written_in_one_step(self, folder: Folder) -> None:
        assert folder.write_text("report.html", "one").read_text() == "one"
        assert folder.write_text("report.html", "two\r\n").read_bytes() == b"two\r\n"
        assert listed(folder) == {"report.html"}


class TestHome:
    def test_is_what_was_chosen_or_the_variable_or_index(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert Home.find("there").path == Path("there")
        assert Home.find().path == home
        monkeypatch.delenv(store.HOME_VARIABLE)
        assert Home.find().path == Path("index")

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_names(self, name: str, home: Path) -> None:
        here = Home(home)
        for use in (
            here.index,
            here.require_index,
            here.runs,
            lambda n: here.run("a", n),
            lambda n: here.run(n, "a"),
        ):
            with pytest.raises(InputError, match="cannot be a name"):
                use(name)

    @given(st.text(max_size=12))
    def test_a_name_is_refused_or_lies_right_below_the_home(self, name: str) -> None:
        here = Home(Path("/srv/home"))
        try:
            path = here.index(name).path
        except AndRetrievalError:
            return
        assert Path(os.path.normpath(path)).parent == Path("/srv/home")

    def test_lists_what_exists_and_names_it_when_something_does_not(self, home: Path) -> None:
        here = Home(home)
        assert here.indexes() == here.runs("sounds") == []
        with pytest.raises(
            InputError, match=r"unknown index 'sounds'; known: none; make it: and-retrieval index"
        ):
            here.require_index("sounds")
        here.index("sounds").commit({}, {})
        here.index("birds").commit({}, {})
        here.run("sounds", "yamnet").commit({}, {})
        here.run("sounds", "half-made").path.mkdir()
        assert here.indexes() == ["birds", "sounds"]
        assert here.runs("sounds") == ["yamnet"]
        assert here.require_index("sounds").exists()
        assert here.require_run("sounds", "yamnet").manifest()["kind"] == "run"
        with pytest.raises(InputError, match=r"unknown index 'sound'; did you mean sounds\?"):
            here.require_index("sound")
        with pytest.raises(InputError, match=r"did you mean yamnet\?; make it: and-retrieval record sounds"):
            here.require_run("sounds", "yamnett")
        with pytest.raises(InputError, match="unknown index"):
            here.require_run("nothing", "yamnet")
