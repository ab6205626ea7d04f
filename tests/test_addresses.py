"""Shards at an address: machines that share no folder leave them there, and whoever merges fetches and checks them."""

from __future__ import annotations

import argparse
import json
import shlex
import string
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import Place
from sounds import WriteSound
from squares import WHOLE, Squares, joined, square

from and_retrieval.cli import main
from and_retrieval.cli.options import share_result
from and_retrieval.clips.manifest import IndexPlan
from and_retrieval.errors import DamagedError, InputError, without_secrets
from and_retrieval.shards.address import Address, begun_share
from and_retrieval.shards.folder import PLAN, ShardCount, Shards
from and_retrieval.shards.remote import RemoteFolder
from and_retrieval.store import StoredFile, placed_name
from and_retrieval.store.documents import sealed

if TYPE_CHECKING:
    from sftp_server import Served

NAMED = f"{Path(__file__).parent / 'embedders.py'}:FakeEmbedder"
PLANNED = Squares((3, 2, 4, 1))


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Path]:
    """Name -> the folder of shards of a machine."""
    return lambda name: tmp_path / name / "shards"


def do_share(path: Path, share: tuple[int, int], place: Place, plan: Squares = PLANNED) -> ShardCount:
    """What a call with `--shard` and `--to` does."""
    shards = Shards(path, plan)
    missing, count, leave = begun_share(shards, share, place.url)
    for number in missing:
        square(shards, number)
        leave(number)
    return count


def fetched(path: Path, place: Place) -> str:
    """What a call of `merge --from` would join."""
    Address(RemoteFolder(place.url)).fetch(path, Squares)
    return joined(Shards.open(path, Squares))


class TestShares:
    def test_two_machines_leave_their_shards_and_a_third_joins_them(
        self, place: Place, machine: Callable[[str], Path]
    ) -> None:
        assert do_share(machine("a"), (1, 2), place) == ShardCount(2, 0)
        assert do_share(machine("b"), (2, 2), place) == ShardCount(2, 0)
        for name in "ab":
            assert {path.name for path in machine(name).iterdir()} == {PLAN}  # the shards are elsewhere
        assert len(place.names()) == 1 + 2 * 4
        assert fetched(machine("c"), place) == WHOLE

    def test_a_machine_that_is_another_goes_on(self, place: Place, machine: Callable[[str], Path]) -> None:
        shards = Shards(machine("a"), PLANNED)
        missing, _, leave = begun_share(shards, (1, 1), place.url)
        square(shards, missing[0])
        leave(missing[0])
        assert do_share(machine("b"), (1, 1), place) == ShardCount(4, 1)
        assert fetched(machine("c"), place) == WHOLE

    def test_what_could_not_be_sent_is_sent_by_the_next_call(
        self, place: Place, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            real = RemoteFolder.send

            def failing(self: RemoteFolder, file: Path, name: str) -> None:
                if name.startswith("00001"):
                    raise InputError(f"{self.url} cannot be written to: the line is cut")
                real(self, file, name)

            patch.setattr(RemoteFolder, "send", failing)
            with pytest.raises(InputError, match="the line is cut"):
                do_share(machine("a"), (1, 1), place)
            left = {
                place.file_of(number) for number in (0, 2, 3)
            }  # the others were done and sent all the same
            assert {name for name in place.names() if name.endswith(".shard")} == left
        assert do_share(machine("a"), (1, 1), place) == ShardCount(4, 4)
        assert fetched(machine("c"), place) == WHOLE

    def test_what_could_not_be_sent_is_tried_once_more_at_the_end(
        self,
        place: Place,
        machine: Callable[[str], Path],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        real, tried = RemoteFolder.send, []

        def failing_once(self: RemoteFolder, file: Path, name: str) -> None:
            tried.append(name[:5])
            if name.startswith("00001") and tried.count("00001") == 1:
                raise InputError(f"{self.url} cannot be written to: the line is cut")
            real(self, file, name)

        monkeypatch.setattr(RemoteFolder, "send", failing_once)
        assert do_share(machine("a"), (1, 1), place) == ShardCount(4, 0)
        assert tried == ["00000", "00001", "00002", "00003", "00001"]
        assert "shard 2 stays here for now" in caplog.text
        assert fetched(machine("c"), place) == WHOLE

    def test_a_fetch_that_is_stopped_goes_on(
        self, place: Place, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        do_share(machine("a"), (1, 1), place)
        real, copied = RemoteFolder.copy, []

        def noted(self: RemoteFolder, entry: Any, write: Any) -> None:
            copied.append(entry.path[:5])
            if len(copied) == 3:
                write(b"a part of it")
                raise KeyboardInterrupt
            real(self, entry, write)

        monkeypatch.setattr(RemoteFolder, "copy", noted)
        with pytest.raises(KeyboardInterrupt):
            fetched(machine("c"), place)
        assert fetched(machine("c"), place) == WHOLE
        assert copied == ["00000", "00001", "00002", "00002", "00003"]

    def test_shards_of_this_machine_are_not_fetched(
        self, place: Place, machine: Callable[[str], Path]
    ) -> None:
        do_share(machine("a"), (1, 2), place)
        with pytest.raises(InputError, match=r"2 of 4 shards cannot be fetched from .* \(missing: 2, 4\)"):
            fetched(machine("a"), place)
        for number in (1, 3):
            square(Shards(machine("a"), PLANNED), number)
        assert fetched(machine("a"), place) == WHOLE

    def test_a_shard_that_is_left_twice_counts_once(
        self, place: Place, machine: Callable[[str], Path]
    ) -> None:
        """Two machines are at the same shard; on one the figures are others, as on a GPU of another make."""
        one, other = Shards(machine("a"), PLANNED), Shards(machine("b"), PLANNED)
        begun = [begun_share(shards, (1, 1), place.url) for shards in (one, other)]
        for shards, (missing, _, leave) in zip((one, other), begun, strict=True):
            for number in missing:
                if shards is other and number == 2:
                    scratch = shards.scratch(number)
                    scratch.write_text("25.0 36.0 49.0 64.0")
                    shards.commit(number, scratch, 0.1)
                else:
                    square(shards, number)
                leave(number)
        assert len(place.names()) == 1 + 2 * 4 + 1
        assert fetched(machine("c"), place) == WHOLE.replace("25 36 49 64", "25.0 36.0 49.0 64.0")


class TestDamage:
    @pytest.fixture(autouse=True)
    def _left(self, place: Place, machine: Callable[[str], Path]) -> None:
        do_share(machine("a"), (1, 1), place)

    @staticmethod
    def check(place: Place, machine: Callable[[str], Path], flaw: str) -> None:
        """One line says it, the calls with `--shard` mend it, and nothing else is done again."""
        with pytest.raises(InputError) as error:
            fetched(machine("c"), place)
        assert f"1 of 4 shards cannot be fetched from {place.url} ({flaw}: 3); run the calls" in str(
            error.value
        )
        assert "\n" not in str(error.value)
        assert do_share(machine("b"), (1, 1), place) == ShardCount(4, 3)
        assert fetched(machine("c"), place) == WHOLE

    @pytest.mark.parametrize(
        "damage", [lambda c: c[:-1], lambda c: b"1" + c[1:], lambda _: b"", lambda c: c + b"0"]
    )
    def test_a_file_that_is_damaged(
        self,
        damage: Callable[[bytes], bytes],
        place: Place,
        machine: Callable[[str], Path],
    ) -> None:
        name = place.file_of(2)
        place.write(name, damage(place.read(name)))
        self.check(place, machine, "damaged")

    @pytest.mark.parametrize(
        "damage",
        [lambda _: b"", lambda c: c[: len(c) // 2], lambda c: c.replace(b"0.1", b"0.2"), lambda _: b"\xff{"],
    )
    def test_a_receipt_that_is_damaged(
        self,
        damage: Callable[[bytes], bytes],
        place: Place,
        machine: Callable[[str], Path],
    ) -> None:
        place.write("00002.json", damage(place.read("00002.json")))
        self.check(place, machine, "damaged")

    @pytest.mark.parametrize("what", ["file", "receipt"])
    def test_one_that_is_gone(
        self,
        what: str,
        place: Place,
        machine: Callable[[str], Path],
    ) -> None:
        place.remove(place.file_of(2) if what == "file" else "00002.json")
        self.check(place, machine, "missing")

    @pytest.mark.parametrize("which", ["another plan", "another number", "another version"])
    def test_one_of_something_else(
        self,
        which: str,
        place: Place,
        machine: Callable[[str], Path],
    ) -> None:
        if which == "another number":
            place.write("00002.json", place.read("00001.json"))
        elif which == "another version":
            place.write("00002.json", sealed({**json.loads(place.read("00002.json")), "format": 1}).encode())
        else:
            other = Shards(machine("other"), replace(PLANNED, offset=1))
            other.begin()
            square(other, 2)
            place.write("00002.json", (other.path / "00002.json").read_bytes())
        self.check(place, machine, "of other settings, other clips or another version")

    def test_a_plan_that_is_damaged(
        self,
        place: Place,
        machine: Callable[[str], Path],
    ) -> None:
        place.write(PLAN, place.read(PLAN)[:-5])
        with pytest.raises(InputError, match=r"the plan at .* is damaged; run the calls"):
            fetched(machine("c"), place)
        assert do_share(machine("b"), (1, 1), place) == ShardCount(4, 4)
        assert fetched(machine("c"), place) == WHOLE

    def test_several_are_named_together(
        self,
        place: Place,
        machine: Callable[[str], Path],
    ) -> None:
        place.remove("00000.json")
        place.write(place.file_of(1), b"")
        place.remove(place.file_of(3))
        with pytest.raises(InputError, match=r"3 of 4 shards .* \(missing: 1, 4; damaged: 2\)"):
            fetched(machine("c"), place)

    @pytest.mark.parametrize(
        ("name", "digest"),
        [
            ("../00002.shard", None),
            ("00002.shard", "/../../../aa" + "0" * 52),
            ("00002.shard", "\0" + "0" * 63),
            ("/tmp/00002.shard", None),
        ],
    )
    def test_no_name_leads_out_of_the_folder(
        self,
        name: str,
        digest: str | None,
        place: Place,
        machine: Callable[[str], Path],
        tmp_path: Path,
    ) -> None:
        receipt = json.loads(place.read("00002.json"))
        [entry] = receipt["files"].values()
        if digest is None:
            entry["path"] = f"{Path(name).parent}/{Path(entry['path']).name}"
        else:
            entry["sha256"] = digest
            entry["path"] = placed_name(name, digest)
        place.write("00002.json", sealed({k: v for k, v in receipt.items() if k != "seal"}).encode())
        before = {path for path in tmp_path.rglob("*") if "there" not in path.parts}
        self.check(place, machine, "damaged")
        new = {path for path in tmp_path.rglob("*") if "there" not in path.parts} - before
        assert {path.parent for path in new if path.is_file()} <= {machine("b"), machine("c")}


class TestRefused:
    def test_other_settings(self, place: Place, machine: Callable[[str], Path]) -> None:
        other = replace(PLANNED, offset=1)
        do_share(machine("a"), (1, 2), place)
        with pytest.raises(
            InputError, match=r"holds shards of other settings, .*; choose another address, or remove"
        ):
            do_share(machine("b"), (2, 2), place, other)
        square_here = Shards(machine("c"), other)
        square_here.begin()
        square(square_here, 0)
        with pytest.raises(
            InputError, match=r"holds no shards, or shards of other settings, .* without --from, or remove"
        ):
            fetched(machine("c"), place)
        assert list(square_here.finished()) == [0]

    def test_another_kind_of_plan(self, place: Place, machine: Callable[[str], Path]) -> None:
        do_share(machine("a"), (1, 1), place)
        with pytest.raises(InputError, match="holds no index plan, but shards of other work; `merge NAME`"):
            Address(RemoteFolder(place.url)).fetch(machine("c"), IndexPlan)

    def test_no_more_is_read_than_there_should_be(
        self, place: Place, machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        do_share(machine("a"), (1, 1), place)
        monkeypatch.setattr("and_retrieval.shards.remote.CHUNK", 8)
        written: list[bytes] = []
        entry = StoredFile("big", 20, "0" * 64)
        place.write("big", b"x" * 10_000)
        with pytest.raises(DamagedError, match=r"big at .* is damaged"):
            RemoteFolder(place.url).copy(entry, written.append)
        assert sum(map(len, written)) <= entry.size
        monkeypatch.setattr("and_retrieval.shards.remote.LARGEST", 9_999)
        with pytest.raises(DamagedError, match=r"big at .* is damaged"):
            RemoteFolder(place.url).read("big")

    def test_nothing_is_there(self, place: Place, machine: Callable[[str], Path]) -> None:
        with pytest.raises(
            InputError, match=rf"{place.url} holds no shards; run the calls with --shard and --to"
        ):
            fetched(machine("c"), place)

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("file:///nowhere/at/all", "there is no such folder or bucket; make it first"),
            ("nothing://there", "Protocol not known"),
            ("file:///etc/hostname", "Not a directory"),
            ("ftp://127.0.0.1:1/x", "refused"),
        ],
    )
    def test_an_address_that_cannot_be_used(
        self, url: str, says: str, machine: Callable[[str], Path]
    ) -> None:
        with pytest.raises(InputError, match=says) as error:
            do_share(machine("a"), (1, 1), Place(url))
        assert str(error.value).startswith(f"{url} cannot be ")
        assert "\n" not in str(error.value)

    @pytest.mark.usefixtures("bucket")
    def test_a_bucket_that_is_not_there(self, machine: Callable[[str], Path]) -> None:
        with pytest.raises(
            InputError, match=r"s3://nobody/x cannot be written to: there is no such folder or bucket"
        ):
            do_share(machine("a"), (1, 1), Place("s3://nobody/x"))

    @pytest.mark.parametrize("text", ["", " ", "file://", "s3://"])
    def test_an_address_that_names_no_folder(
        self, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        index = ["index", str(tmp_path), "--name", "x", "--shard", "1/1", "--to", text]
        for option, line in (("--to", index), ("--from", ["merge", "x", "--from", text])):
            assert main(line) == 2
            assert f"{option} {text!r} names no folder" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("url", "package", "says"),
        [
            ("gs://bucket/x", "gcsfs", "gcsfs"),
            ("az://box/x", "adlfs", "adlfs"),
            ("abfs://box/x", "adlfs", "adlfs"),
            ("s3://bucket/x", "s3fs", "run: pip install 'and-retrieval[s3]'"),
            ("sftp://host/x", "paramiko", "run: pip install 'and-retrieval[sftp]'"),
        ],
    )
    def test_the_package_of_a_protocol_is_named(
        self,
        url: str,
        package: str,
        says: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """One line, before anything is fetched."""
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)  # imports of it fail
        for name in ("s3", "gs", "az", "abfs", "sftp"):
            monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
        monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
        assert main(["merge", "x", "--from", url]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"and-retrieval: {url} cannot be read: ")
        assert says in said
        assert said.count("\n") == 1

    def test_a_package_that_is_too_old_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Earlier versions of fsspec hand the policy on to paramiko, which does not know it."""
        paramiko = pytest.importorskip("paramiko")

        def connecting(_url: str, **options: Any) -> None:
            paramiko.SSHClient().connect("127.0.0.1", **options)

        monkeypatch.setattr("fsspec.core.url_to_fs", connecting)
        with pytest.raises(InputError, match=r"too old for SFTP; run: pip install 'and-retrieval\[sftp\]'"):
            RemoteFolder("sftp://127.0.0.1/x").read("x")

    def test_a_package_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def lacks(*_: Any) -> None:
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr("fsspec.core.url_to_fs", lacks)
        with pytest.raises(InputError, match=r"Install s3fs .*; run: pip install 'and-retrieval\[s3\]'"):
            RemoteFolder("s3://bucket/x").read("x")


SECRETS = ("hunter2", "hun@ter2", "hun%40ter2", "hun/ter2", "ter2", "AKIA123", "5ecret")
"""What may be found nowhere."""


def secrets_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


class TestSecrets:
    """User, password and query of an address are printed and stored nowhere."""

    @pytest.mark.parametrize(
        ("url", "seen"),
        [
            ("sftp://me:hunter2@host/x", "sftp://host/x"),
            ("sftp://hunter2@host/x", "sftp://host/x"),
            ("ftp://me:hun%40ter2@127.0.0.1:1/x", "ftp://127.0.0.1:1/x"),
            ("ftp://me:hun@ter2@127.0.0.1:1/x", "ftp://127.0.0.1:1/x"),
            ("ftp://me:hun/ter2@127.0.0.1:1/x", "ftp://127.0.0.1:1/x"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("ftp://me:42/hunter2@127.0.0.1:1/x", "ftp://127.0.0.1:1/x"),
            ("ftp://me:hun ter2@127.0.0.1:1/x", "ftp://127.0.0.1:1/x"),
            ("ftp://me@corp:7/hun ter2@127.0.0.1:1/x", "ftp://127.0.0.1:1/x"),
            ("nothing://me:7/hunter2@host/x", "nothing://host/x"),
            ("sftp://me:hunter2@[::1]:22/x", "sftp://[::1]:22/x"),
            ("sftp://[me:42/hunter2@host/x", "sftp://host/x"),
            ("sftp://[::1]:22/a@b", "sftp://[::1]:22/a@b"),
            ("ftp://host:21/a", "ftp://host:21/a"),
            ("/folder/a@b", "/folder/a@b"),
            ("file:///folder/a?b", "file:///folder/a?***"),
        ],
    )
    def test_no_password_is_shown(self, url: str, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
        _, _, password = url.rpartition("@")[0].rpartition("://")[2].rpartition(":")

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(f"{url} refused {unquote(password)}, and {password.split('/')[-1]!r}")

        assert without_secrets(url) == seen
        monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
        with pytest.raises(InputError) as error:
            RemoteFolder(url).read("x")
        assert str(error.value).startswith(f"{seen} cannot be read: {seen} refused ")
        assert not secrets_in(str(error.value))

    @pytest.mark.parametrize(
        "url",
        [
            "s3://bucket/f?token=hunter2",
            "s3://bucket/f?X-Amz-Credential=AKIA123&X-Amz-Signature=5ecret",
            "https://me:hunter2@host/f?X-Amz-Signature=5ecret",
            "az://box/f?sv=2024&sig=5ecret",
            "simplecache::s3://bucket/f?token=hunter2",
            "ftp://me:hunter2@127.0.0.1:1/x",
            "ftp://me:hun/ter2@127.0.0.1:1/x",
            "ftp://me:42/hunter2@127.0.0.1:1/x",
            "ftp://me:hun ter2@127.0.0.1:1/x",
            "nothing://me:hunter2@host/x",
            "nothing://me:7/hunter2@host/x",
        ],
    )
    @pytest.mark.parametrize(
        "typed", ["--to", "--from", "--too", "--frm", "--to without --shard", "in Python"]
    )
    def test_none_is_printed_or_stored(
        self,
        url: str,
        typed: str,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        machine: Callable[[str], Path],
        tmp_path: Path,
        write_sound: WriteSound,
    ) -> None:
        write_sound("a.wav")
        if typed == "in Python":
            shards = Shards(machine("a"), PLANNED)
            with pytest.raises(InputError) as error:
                begun_share(shards, (1, 1), url)
            said = "".join(traceback.format_exception(error.value))
        else:
            index = ["index", str(tmp_path), "--name", "x", "--embedder", NAMED, "--device", "cpu"]
            lines = {
                "--to": [*index, "--shard", "1/1", "--to", url],
                "--to without --shard": [*index, "--to", url],
                "--too": [*index, "--shard", "1/1", "--too", url],
                "--from": ["merge", "x", "--from", url],
                "--frm": ["merge", "x", "--frm", url],
            }
            assert main([*lines[typed], "--json"]) == 2
            out, said = capfd.readouterr()
            assert out == ""
            assert said.count("\n") == 1
        said += caplog.text
        assert "://" in said
        for path in tmp_path.rglob("*"):
            said += str(path) + (path.read_bytes().decode(errors="replace") if path.is_file() else "")
        assert not secrets_in(said)

    @given(st.text(string.ascii_letters + "0123456789/@: %[]?#", max_size=12))
    def test_no_password_at_all(self, filling: str) -> None:
        """Whatever stands between user and host."""
        url = f"ftp://me:hunter2{filling}hunter2@host/x"
        assert "hunter2" not in without_secrets(f"--to {url} cannot be used, nor {url}")
        with suppress(InputError):
            assert "hunter2" not in RemoteFolder(url).shown
            assert "hunter2" not in RemoteFolder(url).typed

    @pytest.mark.parametrize(
        ("url", "typed"),
        [
            ("sftp://anna@host/data/x", "sftp://anna@host/data/x"),
            ("sftp://anna:hunter2@host/data/x", "sftp://anna@host/data/x"),
            ("ftp://anna:hun/ter2@host:1/x", "ftp://anna@host:1/x"),
            ("abfs://container@account.dfs.core.windows.net/x",) * 2,
            ("s3://bucket/a@b",) * 2,
            ("file:///folder/what?",) * 2,
            ("file:///folder/a:b@c",) * 2,
            ("/folder/a:b@c",) * 2,
            ("sftp://[::1]:22/x",) * 2,
            ("ftp://me:42/hunter2@host/x", "ADDRESS"),
            ("s3://bucket/a:hunter2@c", "ADDRESS"),
        ],
    )
    def test_the_next_command_goes_to_the_same_address(self, url: str, typed: str) -> None:
        _, text = share_result(ShardCount(4, 0), "s/r", argparse.Namespace(to=url))
        assert text.endswith(f"next     and-retrieval merge s/r --from {shlex.quote(typed)}")

    @pytest.mark.usefixtures("bucket")
    def test_what_the_store_itself_says(self, machine: Callable[[str], Path]) -> None:
        """S3 takes the user for a part of the bucket's name, and repeats that."""
        with pytest.raises(InputError, match=r"^s3://bucket/x cannot be .*bucket name") as error:
            do_share(machine("a"), (1, 1), Place(f"s3://me:{SECRETS[0]}@bucket/x"))
        assert not secrets_in("".join(traceback.format_exception(error.value)))

    def test_a_path_may_have_a_question_mark(self, machine: Callable[[str], Path], tmp_path: Path) -> None:
        (tmp_path / "what?").mkdir()
        for place in (Place(f"file://{tmp_path}/what?"), Place(f"{tmp_path}/what?")):
            do_share(machine("a"), (1, 1), place)
        assert fetched(machine("c"), place) == WHOLE


def another_key(line: str) -> bytes:
    """A line of `known_hosts` with another key of the same kind."""
    import paramiko

    host, kind, _ = line.split()
    return f"{host} {kind} {paramiko.RSAKey.generate(2048).get_base64()}\n".encode()


ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHfaYHTJEKLBAGr3lX3ewUx0lj1hn4nxdIAXB5kfN4Rb"
CHANGED_KEYS: dict[str, Callable[[str], bytes]] = {
    "other kind": lambda line: f"{line.split()[0]} {ED25519}\n".encode(),
    "other key": another_key,
    "malformed": lambda line: f"# mine\n{line.split()[0]} ssh-rsa AAAAB\n".encode(),
    "no text": lambda line: b"\xff\xfe" + line.encode(),
    "of others": lambda line: f"elsewhere {line.split(maxsplit=1)[1]}".encode(),
}
"""What happens to the file `known_hosts`: name -> the line of the server -> what is in the file."""


class TestSftp:
    """An SFTP server on this machine; paramiko is an extra."""

    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
        """One whose key the user knows."""
        pytest.importorskip("paramiko")
        from sftp_server import sftp_server

        monkeypatch.setenv("HOME", str(tmp_path / "user"))
        (tmp_path / "user/.ssh").mkdir(parents=True)
        (tmp_path / "there").mkdir()
        with sftp_server() as server:
            (tmp_path / "user/.ssh/known_hosts").write_text(server.known_host)
            yield server

    def test_one_of_several_keys_is_enough(
        self, server: Served, machine: Callable[[str], Path], tmp_path: Path
    ) -> None:
        lines = [
            b"# mine\n\nelsewhere new-kind AAAA\n",
            another_key(server.known_host),
            server.known_host.encode(),
        ]
        (tmp_path / "user/.ssh/known_hosts").write_bytes(b"".join(lines))
        assert do_share(machine("a"), (1, 1), Place(server.url(tmp_path / "there"))) == ShardCount(4, 0)

    def test_shards_are_left_and_fetched(
        self, server: Served, machine: Callable[[str], Path], tmp_path: Path
    ) -> None:
        place = Place(server.url(tmp_path / "there"))
        for part in (1, 2):
            assert do_share(machine(f"{part}"), (part, 2), place) == ShardCount(2, 0)
        assert do_share(machine("other"), (2, 2), place) == ShardCount(2, 2)
        assert fetched(machine("c"), place) == WHOLE
        (file,) = (tmp_path / "there").glob("00002-*.shard")
        file.write_text("1 2 3")
        (tmp_path / "there/00000.json").unlink()
        with pytest.raises(InputError, match=r"2 of 4 shards .* \(missing: 1; damaged: 3\)"):
            fetched(machine("d"), place)
        assert do_share(machine("other"), (1, 1), place) == ShardCount(4, 2)
        assert fetched(machine("d"), place) == WHOLE

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ("folder", "there is no such folder or bucket"),
            ("password", "Authentication failed"),
            (
                "other kind",
                r"the ssh-rsa key of \[127\.0\.0\.1\]:\d+ is not in ~/\.ssh/known_hosts, which has other keys of that "
                r"server \(ssh-ed25519\); add it",
            ),
            (
                "other key",
                r"the ssh-rsa key of \[127\.0\.0\.1\]:\d+ HAS CHANGED: .* do not accept it before its administrator",
            ),
            (
                "malformed",
                r"cannot be \w[\w ]*: line 2 of ~/\.ssh/known_hosts is malformed, mend or remove it: \[127",
            ),
            ("no text", r"~/\.ssh/known_hosts cannot be read: .*decode"),
            ("of others", r"is not in ~/\.ssh/known_hosts; add it"),
            ("no keys", r"is not in ~/\.ssh/known_hosts"),
            ("server", "Unable to connect|refused"),
        ],
    )
    def test_what_goes_wrong_is_said_in_one_line(
        self,
        change: str,
        says: str,
        server: Served,
        machine: Callable[[str], Path],
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        url = server.url(tmp_path / ("nowhere" if change == "folder" else "there"))
        known = tmp_path / "user/.ssh/known_hosts"
        if change == "password":
            url = server.url(tmp_path / "there", "hun%40ter2")
        elif change == "server":
            url = f"sftp://me:hunter2@127.0.0.1:1{tmp_path}"
        elif change in CHANGED_KEYS:
            known.write_bytes(CHANGED_KEYS[change](server.known_host))
        elif change == "no keys":
            known.unlink()
        with pytest.raises(InputError, match=says) as error:
            do_share(machine("a"), (1, 1), Place(url))
        assert not secrets_in(str(error.value))
        assert "\n" not in str(error.value)
        assert capfd.readouterr().err == ""
