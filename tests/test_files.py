"""Files: written whole or not at all, and hashed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import signal
import stat
from pathlib import Path

import pytest

import and_retrieval
from and_retrieval import files
from and_retrieval.files import replacing, sha256, write_bytes, write_text


def test_sha256_of_a_file_of_several_blocks(tmp_path: Path) -> None:
    content = os.urandom(2 * files.CHUNK + 17)
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    with replacing(path) as scratch:
        scratch.write_text("half")
        assert not path.exists()
        scratch.write_text("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & stat.S_IROTH
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_the_file_before_and_nothing_else(
    error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_text("before")

    def broken() -> None:
        with replacing(path) as scratch:
            scratch.write_text("after")
            raise error

    with pytest.raises(type(error)):
        broken()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x").read_text() == "one"  # the last to end


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    assert write_text(tmp_path / "a", "ü\r\n\n").read_bytes() == "ü\r\n\n".encode()
    assert write_bytes(tmp_path / "b", b"\0\r\n").read_bytes() == b"\0\r\n"


def _killed_while_writing(path: Path) -> None:
    with replacing(path) as scratch:
        scratch.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    process = multiprocessing.get_context("spawn").Process(target=_killed_while_writing, args=(path,))
    process.start()
    process.join()
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".a[1].txt.")
    with replacing(path) as scratch:  # of a process that is alive
        scratch.write_text("first")
        write_text(path, "second")
        assert scratch.exists()
        assert not left.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"a[1].txt"}
    assert path.read_text() == "first"


def test_no_file_is_written_by_way_of_a_scratch_file_whose_name_is_not_known() -> None:
    """`save_file` of safetensors writes to `.tmpXXXXXX` first, which stays for ever when it is killed."""
    package = Path(and_retrieval.__file__).parent
    called = re.compile(r"^(?!.*[\"']).*\bsave_file\(|import .*\bsave_file\b", re.MULTILINE)
    assert [path.name for path in package.rglob("*.py") if called.search(path.read_text())] == []
