"""Files in a folder anywhere, read and written through fsspec."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import IPV6, DamagedError, InputError, without_secrets
from ..files import CHUNK, one_line
from ..store import StoredFile
from .known_hosts import ssh_options

EXTRAS = {"s3": "s3", "s3a": "s3", "sftp": "sftp", "ssh": "sftp"}
"""Protocol -> extra that installs what it needs."""
ABSENT = "there is no such folder or bucket; make it first"
TELLING = 3  # characters of a piece of a password, at least; shorter ones are in other words too
LARGEST = 256 << 20
"""Bytes of a plan or a receipt: room for a million clips that could not be used."""
LOCAL = ("file", "local")
"""Protocols of paths of this machine, in which nothing is a secret."""
_QUERY = re.compile(rf"(?!({'|'.join(LOCAL)})://).*://.*[?]")
_NAMED_USER = re.compile(r"([^/:]*):(?!\d+/)")
_IPV6 = re.compile(IPV6)


class RefusedError(InputError):
    """Whoever keeps the files refuses, or cannot be reached; it may be another time."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder that fsspec can read and write: `s3://bucket/folder`, `sftp://host/folder`, a path.

    All methods raise an InputError, of one line, if whoever keeps it refuses; so does an address that has a query: it
    would become part of the names of files.

    Attributes:
        url: What the user typed.
    """

    url: str

    def __post_init__(self) -> None:
        if _QUERY.match(self.url):
            raise InputError(
                f"{self.shown}: an address of a folder has no query (?...); give keys and tokens in the environment or "
                "in a key file"
            )

    @property
    def shown(self) -> str:
        """The address for messages, without secrets."""
        return without_secrets(self._parts[1])

    @property
    def typed(self) -> str:
        """The address to be typed in another command: as it was typed, without a password.

        `ADDRESS` where nothing tells what of it is a password.
        """
        if ":" not in self._parts[0]:
            return self.url
        begin, _, rest = self.url.partition("://")
        user = _NAMED_USER.match(rest)
        return f"{begin}://{user[1]}@{self._parts[1].partition('://')[2]}" if user else "ADDRESS"

    @property
    def _parts(self) -> tuple[str, str]:
        """User and password, "" where there are none, and the address without them.

        All from a colon to the last @ counts as a password, see `without_secrets`.
        """
        begin, mark, rest = self.url.partition("://")
        if not mark or begin in LOCAL:
            return "", self.url
        user, _, place = rest.rpartition("@")
        if ":" not in user or _IPV6.match(rest):  # whose colons are no user's
            host, slash, path = rest.partition("/")
            user, _, host = host.rpartition("@")
            place = f"{host}{slash}{path}"
        return user, f"{begin}{mark}{place}"

    def copy(self, entry: StoredFile, write: Callable[[bytes], object]) -> None:
        """Read a file, block after block.

        Raises:
            FileNotFoundError: It is missing.
            DamagedError: It is not what the entry says.
        """
        digest, size = hashlib.sha256(), 0
        with self._asked("read"):
            stream = self._system.open(self._at(entry.path), "rb")
        with stream:
            while True:
                with self._asked("read"):
                    block = stream.read(CHUNK)
                if not block:
                    break
                digest.update(block)
                size += len(block)
                if size > entry.size:
                    break
                write(block)
        if (size, digest.hexdigest()) != (entry.size, entry.sha256):
            raise DamagedError(f"{entry.path} at {self.shown} is damaged")

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            FileNotFoundError: It is missing.
            DamagedError: It is larger than any that this program writes.
        """
        with self._asked("read"), self._system.open(self._at(name), "rb") as stream:
            content = bytes(stream.read(LARGEST + 1))
        if len(content) > LARGEST:
            raise DamagedError(f"{name} at {self.shown} is damaged")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, or replace it."""
        with self._asked("written to", ABSENT):
            self._system.pipe_file(self._at(name), content)

    def send(self, file: Path, name: str) -> None:
        """Copy a file of this machine to the folder, or replace one there."""
        with self._asked("written to", ABSENT):
            self._system.put_file(str(file), self._at(name))

    def _without_password(self, text: str) -> str:
        """An error of whoever keeps the files, without the password of the address."""
        user = self._parts[0]
        password = user.partition(":")[2]
        pieces = (piece for piece in re.split(r"[/\s]", password) if len(piece) >= TELLING)
        secrets = {user, password, unquote(password), *pieces} - {""}
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return without_secrets(text)

    def _at(self, name: str) -> str:
        return f"{self._place[1].rstrip('/')}/{name}"

    @property
    def _system(self) -> Any:
        return self._place[0]

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """What reads and writes files there, and the path of the folder to it."""
        from fsspec.core import url_to_fs

        with_ssh = self.url.startswith(("sftp://", "ssh://"))
        try:
            system, path = url_to_fs(self.url, **(ssh_options() if with_ssh else {}))
        except TypeError as error:
            if with_ssh and "host_key_policy" in str(error):
                raise ImportError("the fsspec that is installed is too old for SFTP") from None
            raise
        return system, path

    @contextmanager
    def _asked(self, done: str, absent: str | None = None) -> Iterator[None]:
        """Turn whatever a system raises into an InputError; `absent` says what it means that a file is missing.

        Every system has errors of its own, without a base in common.
        """
        try:
            yield
        except FileNotFoundError:
            if absent is None:
                raise
            raise InputError(f"{self.shown} cannot be {done}: {absent}") from None
        except ImportError as error:
            extra = EXTRAS.get(self.url.partition("://")[0])
            remedy = f"; run: pip install 'and-retrieval[{extra}]'" if extra else ""
            raise InputError(f"{self.shown} cannot be {done}: {one_line(str(error))}{remedy}") from None
        except Exception as error:
            reason = one_line(self._without_password(str(error)) or type(error).__name__)
            raise RefusedError(f"{self.shown} cannot be {done}: {reason}") from None
