"""An SFTP server of a folder on this machine."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface

USER, PASSWORD = "me", "hunter2"


@dataclass(frozen=True)
class Served:
    """A server that listens.

    Attributes:
        address: `host:port`.
        known_host: The line of a `known_hosts` file that names its key.
    """

    address: str
    known_host: str

    def url(self, folder: Path, password: str = PASSWORD) -> str:
        """The address of a folder."""
        return f"sftp://{USER}:{password}@{self.address}{folder}"


class _Door(paramiko.ServerInterface):
    """Lets one user in, by a password."""

    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (USER, PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def get_allowed_auths(self, _username: str) -> str:
        return "password"

    def check_channel_request(self, _kind: str, _number: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _Files(SFTPServerInterface):
    """The files of this machine."""

    def _said(self, error: OSError) -> int:
        return int(SFTPServer.convert_errno(error.errno))

    def stat(self, path: str) -> Any:
        try:
            return SFTPAttributes.from_stat(os.stat(path))  # noqa: PTH116
        except OSError as error:
            return self._said(error)

    lstat = stat

    def list_folder(self, path: str) -> Any:
        try:
            return [SFTPAttributes.from_stat(file.stat(), file.name) for file in Path(path).iterdir()]
        except OSError as error:
            return self._said(error)

    def remove(self, path: str) -> int:
        try:
            Path(path).unlink()
        except OSError as error:
            return self._said(error)
        return paramiko.SFTP_OK

    def open(self, path: str, flags: int, _attributes: Any) -> Any:
        try:
            number = os.open(path, flags, 0o644)
        except OSError as error:
            return self._said(error)
        handle = SFTPHandle(flags)
        stream = os.fdopen(number, "wb" if flags & os.O_WRONLY else "r+b" if flags & os.O_RDWR else "rb")
        handle.readfile = handle.writefile = stream
        handle.stat = lambda: SFTPAttributes.from_stat(os.fstat(stream.fileno()))
        return handle


@contextmanager
def sftp_server() -> Iterator[Served]:
    """Serve SFTP during the block."""
    key = paramiko.RSAKey.generate(2048)
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[paramiko.Transport] = []

    def accept() -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = listener.accept()
                transport = paramiko.Transport(connection)
                transports.append(transport)
                transport.add_server_key(key)
                transport.set_subsystem_handler("sftp", SFTPServer, _Files)
                with suppress(paramiko.SSHException, EOFError):  # whoever called went away
                    transport.start_server(event=threading.Event(), server=_Door())

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield Served(f"127.0.0.1:{port}", f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}\n")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        thread.join(5)
