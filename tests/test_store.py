"""The folder layout: commits that are whole or not there, checksums, versions, names, and sweeping."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from documents import rewritten
from hypothesis import given
from hypothesis import strategies as st

from and_retrieval import files, store
from and_retrieval.errors import AndRetrievalError, ChecksumError, InputError, StaleError
from and_retrieval.store import FORMAT, Folder, Home, Stored

DAMAGED = (
    "", "{", "[]", "null", '"text"', "{}", f'{{"format": {FORMAT}}}', f'{{"format": {FORMAT}, "kind": "clip index"}}',
    f'{{"format": {FORMAT}, "kind": "clip index", "files": []}}', "\udcff", "[" * 100_000,
)  # fmt: skip
BAD_NAMES = ("../x", "", ".x", "..", ".", "a/b", "/x", "a\\b", "a b", "x\n", "-x", "ü", "a\0")


@dataclass(frozen=True)
class Part:
    """A part of what the folders of these tests say of themselves."""

    seconds: float
    many: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What the folders of these tests say of themselves."""

    n: int = 0
    who: str = ""
    part: Part = Part(1.5)
    named: dict[str, float] | None = None


def opened(folder: Folder) -> Stored[Facts]:
    return folder.open(Facts)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "x", "clip index")


def listed(folder: Folder) -> set[str]:
    return {path.name for path in folder.path.iterdir()}


def rewrite(folder: Folder, **changes: object) -> None:
    rewritten(folder.path / "manifest.json", **changes)


def complaint(folder: Folder) -> str:
    """What is said of a manifest that cannot be used: one line that names the file and what to do."""
    with pytest.raises(InputError) as caught:
        opened(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder.path / 'manifest.json'} is damaged (")
    assert text.endswith("); make the clip index again")
    assert "\n" not in text
    return text


def full_disk(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk be full when a file of that name is to be put in its place, or to be begun."""
    scratch, settle = Folder.scratch, files.settle

    def begin(self: Folder, wanted: str) -> Path:
        if wanted == name:
            raise OSError(28, "No space left on device")
        return scratch(self, wanted)

    def finish(source: Path, path: Path) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device")
        settle(source, path)

    monkeypatch.setattr(Folder, "scratch", begin)
    monkeypatch.setattr(files, "settle", finish)


class TestCommit:
    def test_takes_text_writers_and_scratch_files(self, folder: Folder) -> None:
        scratch = folder.scratch("c.npy")
        scratch.write_bytes(b"\0\1")
        sources: dict[str, Any] = {
            "a.txt": "ü\r\n",
            "b.bin": lambda path: path.write_bytes(b"bytes"),
            "c.npy": scratch,
        }
        facts = Facts(3, "ü", Part(0.5, (1, 2)), {"a": 2.0})
        folder.commit(sources, facts)
        stored = opened(folder)
        assert stored.file("a.txt").read_bytes() == "ü\r\n".encode()
        assert stored.file("b.bin").read_bytes() == b"bytes"
        assert stored.file("c.npy").read_bytes() == b"\0\1"
        assert stored.manifest == facts
        content = json.loads((folder.path / "manifest.json").read_text())
        assert (content["format"], content["kind"], content["n"], content["who"]) == (
            FORMAT,
            "clip index",
            3,
            "ü",
        )
        assert listed(folder) == {"manifest.json", *(entry.path for entry in stored.files.values())}

    def test_of_the_same_content_gives_the_same_bytes(self, tmp_path: Path) -> None:
        made = []
        for name in ("one", "two"):
            folder = Folder(tmp_path / name, "recording")
            folder.commit({"b.txt": "b", "a.txt": "a"}, Facts(1))
            made.append({p.name: p.read_bytes() for p in folder.path.iterdir()})
        assert made[0] == made[1]

    def test_replaces_the_state_before(self, folder: Folder) -> None:
        folder.commit({"a.txt": "old", "gone-0.npy": "old", "same.txt": "same"}, Facts())
        (folder.path / "explanations.jsonl").write_text("somebody's")
        (folder.path / "a-notes.txt").write_text("somebody's")
        folder.commit({"a.txt": "new", "same.txt": "same"}, Facts())
        stored = opened(folder)
        assert stored.file("a.txt").read_text() == "new"
        assert stored.file("same.txt").read_text() == "same"
        placed = {entry.path for entry in stored.files.values()}
        assert listed(folder) == {"manifest.json", "explanations.jsonl", "a-notes.txt", *placed}
        with pytest.raises(InputError, match=r"has no gone-0\.npy"):
            stored.file("gone-0.npy")

    @pytest.mark.parametrize("name", ["manifest.json", "b.txt"])
    def test_that_breaks_off_leaves_the_state_before(
        self, name: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.commit({"a.txt": "old", "b.txt": "old"}, Facts(1))
        full_disk(monkeypatch, name)
        with pytest.raises(OSError, match="No space left"):
            folder.commit({"a.txt": "new", "b.txt": "new"}, Facts(2))
        monkeypatch.undo()
        before = opened(folder)
        assert before.manifest.n == 1
        assert before.file("a.txt").read_text() == before.file("b.txt").read_text() == "old"
        del before  # whose files would stay
        folder.commit({"a.txt": "newer", "b.txt": "old"}, Facts(3))
        assert opened(folder).file("a.txt").read_text() == "newer"
        assert len(listed(folder)) == 3  # nothing of the commit that broke off is left

    def test_into_a_damaged_folder_makes_it_whole(self, folder: Folder) -> None:
        folder.commit({"a.txt": "old"}, Facts())
        (folder.path / "manifest.json").write_text("{")
        folder.commit({"a.txt": "new"}, Facts())
        assert opened(folder).file("a.txt").read_text() == "new"
        assert len(listed(folder)) == 2

    def test_is_not_disturbed_by_scratch_files_and_removes_abandoned_ones(self, folder: Folder) -> None:
        folder.commit({"a.txt": "old"}, Facts())
        abandoned, fresh = folder.scratch("held_out-0.npy"), folder.scratch("held_out-0.npy")
        assert abandoned != fresh
        two_days_ago = time.time() - 2 * 24 * 3600
        os.utime(abandoned, (two_days_ago, two_days_ago))
        assert opened(folder).file("a.txt").read_text() == "old"
        folder.commit({"a.txt": "new"}, Facts())
        assert not abandoned.exists()
        assert fresh.exists()  # somebody may be writing to it

    def test_removes_scratch_files_of_dead_processes_of_this_machine_alone(self, folder: Folder) -> None:
        folder.path.mkdir()
        program = "import sys; from pathlib import Path; from and_retrieval.files import scratch_path as s; "
        name = subprocess.run(
            [sys.executable, "-c", program + "print(s(Path('report.html')).name)"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        dead, elsewhere = folder.path / name, folder.path / re.sub(r"\.[0-9a-f]{8}-", ".00000000-", name)
        assert dead != elsewhere
        for path in (dead, elsewhere):
            path.touch()
        folder.tidy()
        assert listed(folder) == {elsewhere.name}

    def test_leaves_files_that_others_may_read(self, folder: Folder) -> None:
        private = folder.scratch("b.npy")
        private.chmod(0o600)
        folder.commit({"a.txt": "a", "b.npy": private}, Facts())
        for path in folder.path.iterdir():
            assert path.stat().st_mode & stat.S_IROTH, path


class TestReaderBesideAWriter:
    def test_keeps_its_files_however_often_another_state_is_committed(self, folder: Folder) -> None:
        folder.commit({"a.txt": "0", "b.txt": "0"}, Facts(0))
        reader = opened(folder)
        for number in range(1, 4):
            folder.commit({"a.txt": str(number), "b.txt": str(number)}, Facts(number))
        assert reader.manifest.n == 0
        assert reader.file("a.txt").read_text() == reader.file("b.txt").read_text() == "0"
        assert len(listed(folder)) == 5  # both states
        del reader
        folder.tidy()
        assert len(listed(folder)) == 3

    def test_gets_the_new_state_if_the_old_goes_while_it_is_opened(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.commit({"a.txt": "old"}, Facts(1))
        parsed = Folder._parsed

        def interrupted(self: Folder, text: bytes, content: type[Any]) -> Any:
            monkeypatch.undo()
            folder.commit({"a.txt": "new"}, Facts(2))
            return parsed(self, text, content)

        monkeypatch.setattr(Folder, "_parsed", interrupted)
        reader = opened(folder)
        assert (reader.manifest.n, reader.file("a.txt").read_text()) == (2, "new")

    def test_a_missing_file_is_no_reason_to_wait(self, folder: Folder) -> None:
        folder.commit({"a.txt": "a", "b.txt": "b"}, Facts())
        opened(folder).file("a.txt").unlink()
        reader = opened(folder)
        assert reader.file("b.txt").read_text() == "b"
        with pytest.raises(ChecksumError, match="missing"):
            reader.file("a.txt")

    def test_reads_are_never_mixed_or_refused(self, folder: Folder) -> None:
        """A process that commits as fast as it can, and this one that reads: every read is of one state."""
        folder.commit({"a.txt": "0", "b.txt": "0"}, Facts(0))
        program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_store import Facts
from and_retrieval.store import Folder
folder = Folder(Path({str(folder.path)!r}), "clip index")
number = 0
while not (folder.path / "stop").exists():
    number += 1
    folder.commit({{"a.txt": str(number), "b.txt": str(number)}}, Facts(number))
"""
        writer = subprocess.Popen([sys.executable, "-c", program])
        try:
            seen = set()
            while len(seen) < 60 and writer.poll() is None:
                reader = opened(folder)
                number = reader.manifest.n
                assert reader.file("a.txt").read_text() == reader.file("b.txt").read_text() == str(number)
                seen.add(number)
            assert len(seen) == 60
        finally:
            (folder.path / "stop").touch()
            writer.wait(60)


class TestTwoManifestsInOneFolder:
    """A recording and what is said of it lie in one folder: each commit leaves the files of the other alone."""

    @pytest.fixture
    def other(self, folder: Folder) -> Folder:
        return Folder(folder.path, "explanation", "explanation.json")

    def test_keep_apart(self, folder: Folder, other: Folder) -> None:
        folder.commit({"a.txt": "a"}, Facts(1))
        assert not other.exists()
        other.commit({"b.txt": "b"}, Facts(2))
        folder.commit({"a.txt": "newer"}, Facts(3))
        assert (opened(folder).manifest.n, opened(other).manifest.n) == (3, 2)
        assert opened(folder).file("a.txt").read_text() == "newer"
        assert opened(other).file("b.txt").read_text() == "b"
        assert len(listed(folder)) == 4


def flip(path: Path) -> None:
    """Change a bit in the middle of a file, and keep its size and the time of its last change."""
    times = path.stat()
    with path.open("r+b") as stream:
        stream.seek(times.st_size // 2)
        [value] = stream.read(1)
        stream.seek(times.st_size // 2)
        stream.write(bytes([value ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replace_by_another(path: Path) -> None:
    """Put a file of the same size and time in its place, as copying with times does."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    flip(other)
    other.replace(path)


class TestLargeFiles:
    """Larger than four bytes here; hashed once, until something writes to them."""

    @pytest.fixture(autouse=True)
    def _ready(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AND_RETRIEVAL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(files, "SETTLED", 0.0)
        monkeypatch.setattr(store, "ALWAYS_HASHED", 4)

    @pytest.fixture
    def hashed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the files that are hashed instead of remembered."""
        names: list[str] = []
        digest = files.sha256
        monkeypatch.setattr(files, "sha256", lambda path: names.append(path.name) or digest(path))
        return names

    @pytest.mark.parametrize("harm", [flip, cut, replace_by_another])
    def test_every_change_is_noticed(self, harm: Callable[[Path], None], folder: Folder) -> None:
        folder.commit({"a.npy": "12345"}, Facts())
        path = opened(folder).file("a.npy")
        harm(path)
        with pytest.raises(ChecksumError, match="missing or was changed"):
            opened(folder).file("a.npy")

    def test_they_are_hashed_once(
        self, folder: Folder, hashed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder.commit({"a.npy": "12345"}, Facts())
        path = opened(folder).file("a.npy")
        assert opened(folder).file("a.npy") == path
        assert hashed == [path.name]
        path.touch()
        for _ in range(2):
            opened(folder).file("a.npy")
        assert hashed == [path.name] * 2
        monkeypatch.setattr(files, "REMEMBERED", 0.0)
        opened(folder).file("a.npy")
        assert hashed == [path.name] * 3

    def test_what_was_written_a_moment_ago_is_hashed_again(
        self, folder: Folder, hashed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "SETTLED", 60.0)
        folder.commit({"a.npy": "12345"}, Facts())
        names = [opened(folder).file("a.npy").name for _ in range(3)]
        assert hashed == names

    def test_a_folder_is_known_by_each_of_its_files(self, folder: Folder, hashed: list[str]) -> None:
        def write(path: Path) -> None:
            path.unlink()
            path.mkdir()
            for name in "abc":
                (path / name).write_text(f"some {name}")

        folder.commit({"x.lance": write}, Facts())
        hashed.clear()
        for _ in range(2):
            path = opened(folder).file("x.lance")
        assert sorted(hashed) == ["a", "b", "c"]
        flip(path / "b")
        with pytest.raises(ChecksumError):
            opened(folder).file("x.lance")
        assert sorted(hashed) == ["a", "b", "b", "c"]

    def test_a_copy_is_hashed_where_it_is(self, folder: Folder, tmp_path: Path, hashed: list[str]) -> None:
        folder.commit({"a.npy": "12345"}, Facts())
        opened(folder).file("a.npy")
        copy = Folder(Path(shutil.copytree(folder.path, tmp_path / "copy")), folder.kind)
        path = opened(copy).file("a.npy")
        assert hashed == [path.name] * 2
        flip(path)
        with pytest.raises(ChecksumError):
            opened(copy).file("a.npy")
        opened(folder).file("a.npy")


class TestReading:
    def test_a_changed_file_is_noticed(self, folder: Folder) -> None:
        folder.commit({"a.txt": "true", "b.txt": "fine"}, Facts())
        opened(folder).file("a.txt").write_text("lies")
        stored = opened(folder)
        with pytest.raises(ChecksumError, match="missing or was changed; make the clip index again"):
            stored.file("a.txt")
        stored.file("b.txt").unlink()
        with pytest.raises(ChecksumError, match="missing or was changed"):
            opened(folder).file("b.txt")

    def test_every_file_is_verified_once(self, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.commit({"a.txt": "a", "b.txt": "b"}, Facts())
        hashed: list[str] = []
        monkeypatch.setattr(
            store, "sha256", lambda path: (hashed.append(path.name[0]), files.sha256(path))[1]
        )
        stored = opened(folder)
        assert hashed == []  # nothing is read before it is asked for
        for name in ("a.txt", "b.txt", "a.txt", "a.txt"):
            stored.file(name)
        assert hashed == ["a", "b"]
        opened(folder).file("a.txt")
        assert hashed == ["a", "b", "a"]  # another look at the folder trusts nothing that came before

    def test_a_file_that_failed_fails_again(self, folder: Folder) -> None:
        folder.commit({"a.txt": "true"}, Facts())
        stored = opened(folder)
        path = folder.path / stored.files["a.txt"].path
        path.write_text("lies")
        for _ in range(2):
            with pytest.raises(ChecksumError):
                stored.file("a.txt")
        path.write_text("true")
        assert stored.file("a.txt") == path

    def test_an_edited_manifest_is_noticed_wherever_it_was_edited(self, folder: Folder) -> None:
        folder.commit({"a.txt": "a"}, Facts(17, "me"))
        text = folder.manifest_path.read_text()
        for old, new in (("17", "18"), ('"me"', '"you"'), ("1.5", "1.25"), ('"size": 1', '"size": 2')):
            folder.manifest_path.write_text(text.replace(old, new))
            assert "it was changed after it was written" in complaint(folder)
        folder.manifest_path.write_text(json.dumps(json.loads(text)))  # other spacing, same content
        assert opened(folder).manifest.n == 17

    def test_other_formats_and_kinds(self, folder: Folder) -> None:
        folder.commit({"a.txt": "a"}, Facts())
        with pytest.raises(StaleError, match="is a clip index, not a recording"):
            Folder(folder.path, "recording").open(Facts)
        for other in (FORMAT - 1, FORMAT + 1):
            rewrite(folder, format=other, files=None)
            with pytest.raises(StaleError) as caught:
                opened(folder)
            text = str(caught.value)
            assert text.startswith(str(folder.path / "manifest.json"))
            assert (
                f"has format {other}, but this version reads format {FORMAT}; make the clip index again"
                in text
            )

    @pytest.mark.parametrize("text", DAMAGED)
    def test_a_damaged_manifest(self, text: str, folder: Folder) -> None:
        folder.path.mkdir()
        (folder.path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
        complaint(folder)

    @pytest.mark.parametrize("missing", ["n", "who"])
    def test_a_missing_field_is_named(self, missing: str, folder: Folder) -> None:
        @dataclass(frozen=True)
        class Needed:
            n: int
            who: str

        folder.commit({}, Needed(1, "me"))
        rewrite(folder, **{missing: None})
        with pytest.raises(
            InputError, match=rf"manifest\.json is damaged \({missing}: Field required\); make the"
        ):
            folder.open(Needed)

    @pytest.mark.parametrize(
        ("changes", "place"),
        [
            ({"n": "1"}, "n"), ({"n": 1.5}, "n"), ({"n": True}, "n"), ({"who": 3}, "who"),
            ({"part": {"seconds": "1"}}, "part.seconds"), ({"part": {"many": [1]}}, "part.seconds"),
            ({"part": {"seconds": 1, "many": [1, "2"]}}, "part.many.1"), ({"part": [1.5]}, "part"),
            ({"named": {"a": None}}, "named.a"), ({"format": "2"}, "format"), ({"kind": 7}, "kind"),
            ({"files": {"a.txt": {"path": "a.txt"}}}, "files.a.txt.size"),
            ({"files": {"a.txt": {"path": "a.txt", "size": "9", "sha256": ""}}}, "files.a.txt.size"),
        ],
    )  # fmt: skip
    def test_a_mistyped_field_is_named(self, changes: dict[str, Any], place: str, folder: Folder) -> None:
        folder.commit({"a.txt": "a"}, Facts(1, "me"))
        rewrite(folder, **changes)
        assert f"is damaged ({place}: " in complaint(folder)

    def test_a_field_of_a_later_version_does_no_harm(self, folder: Folder) -> None:
        folder.commit({}, Facts(1))
        rewrite(folder, later=[1, 2])
        assert opened(folder).manifest == Facts(1)

    def test_nothing_there(self, folder: Folder) -> None:
        assert not folder.exists()
        with pytest.raises(
            InputError,
            match=r"manifest\.json cannot be read \(No such file or directory\); make the clip index",
        ):
            opened(folder)

    def test_a_manifest_cannot_name_files_elsewhere(self, folder: Folder, tmp_path: Path) -> None:
        folder.commit({"a.txt": "a"}, Facts())
        (tmp_path / "secret").write_text("a")
        entry = opened(folder).files["a.txt"]
        rewrite(folder, files={"a.txt": {"path": "../secret", "size": entry.size, "sha256": entry.sha256}})
        with pytest.raises(ChecksumError):
            opened(folder).file("a.txt")

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
        here.index("sounds").commit({}, Facts())
        here.index("birds").commit({}, Facts())
        here.run("sounds", "yamnet").commit({}, Facts())
        here.run("sounds", "half-made").path.mkdir()
        assert here.indexes() == ["birds", "sounds"]
        assert here.runs("sounds") == ["yamnet"]
        assert here.require_index("sounds").exists()
        assert here.require_run("sounds", "yamnet").kind == "recording"
        assert here.require_run("sounds", "yamnet").open(Facts).manifest == Facts()
        with pytest.raises(InputError, match=r"unknown index 'sound'; did you mean sounds\?"):
            here.require_index("sound")
        with pytest.raises(InputError, match=r"did you mean yamnet\?; make it: and-retrieval record sounds"):
            here.require_run("sounds", "yamnett")
        with pytest.raises(InputError, match="unknown index"):
            here.require_run("nothing", "yamnet")


class TestFolders:
    """A file may be a folder."""

    @staticmethod
    def write(text: str) -> store.Writer:
        def into(path: Path) -> None:
            path.unlink()
            (path / "a/b").mkdir(parents=True)
            (path / "a/b/one").write_text(text)
            (path / "two").write_text("2")

        return into

    def test_is_committed_as_one(self, folder: Folder) -> None:
        folder.commit({"rows.table": self.write("1")}, Facts())
        stored = opened(folder)
        path = stored.file("rows.table")
        assert re.fullmatch(r"rows-[0-9a-f]{12}\.table", path.name)
        assert (path / "a/b/one").read_text() == "1"
        assert stored.entry("rows.table").size == 2
        folder.commit({"rows.table": self.write("1")}, Facts(n=2))  # the same content, which is held
        assert opened(folder).file("rows.table") == path
        folder.commit({"rows.table": self.write("3")}, Facts())
        assert path.exists()  # it is still read
        del stored
        folder.tidy()
        assert not path.exists()
        assert len(listed(folder)) == 2

    @pytest.mark.parametrize("change", ["content", "name", "more", "less"])
    def test_any_change_is_noticed(self, change: str, folder: Folder) -> None:
        folder.commit({"rows.table": self.write("1")}, Facts())
        path = next(folder.path.glob("rows-*"))
        if change == "content":
            (path / "two").write_text("3")
        elif change == "name":
            (path / "two").rename(path / "three")
        elif change == "more":
            (path / "empty").touch()
        else:
            (path / "two").unlink()
        with pytest.raises(ChecksumError, match="is missing or was changed; make the clip index again"):
            opened(folder).file("rows.table")

    def test_what_dead_processes_left_goes(self, folder: Folder) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        left = folder.scratch("rows.table")
        dead = left.with_name(left.name.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
        left.unlink()
        self_made = dead / "data"
        self_made.mkdir(parents=True)
        (self_made / "half").write_text("x")
        folder.commit({"rows.table": self.write("1")}, Facts())
        assert not dead.exists()

    def test_what_fails_leaves_the_state_before(self, folder: Folder) -> None:
        folder.commit({"rows.table": self.write("1")}, Facts())
        before = listed(folder)

        def fails(path: Path) -> None:
            self.write("2")(path)
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            folder.commit({"rows.table": fails}, Facts())
        assert listed(folder) == before
