"""SFTP servers that the user knows: their keys are in `~/.ssh/known_hosts`, where `ssh` looks for them too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import one_line

FILE = "~/.ssh/known_hosts"
SHOWN = 60  # characters of a line in a message


def ssh_options() -> dict[str, Any]:
    """Settings of fsspec's SFTP that refuse a server whose key is not in the user's file.

    By itself fsspec takes any key, so anybody on the way could read and replace the shards.

    Raises:
        ImportError: paramiko is not installed.
    """
    import paramiko

    class KnownHosts(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        """Looks a key up in the user's file."""

        def missing_host_key(self, _client: Any, hostname: str, key: Any) -> None:
            flaw = _flaw(_keys_of(hostname), hostname, key)
            if flaw is not None:
                raise paramiko.SSHException(flaw)

    return {"host_key_policy": KnownHosts()}


def _keys_of(hostname: str) -> list[Any]:
    """All keys of a server in the user's file, which may have several of a kind; none where there is no file.

    Raises:
        paramiko.SSHException: The file cannot be read; the message says why, in one line.
    """
    import paramiko

    try:
        lines = Path(FILE).expanduser().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise paramiko.SSHException(f"{FILE} cannot be read: {one_line(str(error))}") from None
    keys = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        entry, names = _entry(line, number), paramiko.HostKeys()
        for name in entry.hostnames if entry else ():
            names.add(name, entry.key.get_name(), entry.key)
        if names.lookup(hostname):
            keys.append(entry.key)
    return keys


def _entry(line: str, number: int) -> Any:
    """What a line of the file says; None if it has a kind of key that paramiko does not know.

    Raises:
        paramiko.SSHException: It is malformed.
    """
    import paramiko
    from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

    try:
        return HostKeyEntry.from_line(line, number)
    except InvalidHostKey:
        raise paramiko.SSHException(
            f"line {number} of {FILE} is malformed, mend or remove it: {one_line(line)[:SHOWN]}"
        ) from None
    except paramiko.SSHException:
        return None


def _flaw(known: Sequence[Any], hostname: str, key: Any) -> str | None:
    """Why a server's key is not accepted; None if it is.

    Args:
        known: Keys of that server in the user's file.
        hostname: Of the server, as the file names it.
        key: Which the server showed.
    """
    if key in known:
        return None
    kind, others = key.get_name(), sorted({each.get_name() for each in known})
    if kind in others:
        return (
            f"the {kind} key of {hostname} HAS CHANGED: it is not the one in {FILE}, so somebody may be posing as "
            "that server; do not accept it before its administrator has confirmed the new key"
        )
    which = f", which has other keys of that server ({', '.join(others)})" if others else ""
    return f"the {kind} key of {hostname} is not in {FILE}{which}; add it with ssh-keyscan, once you trust it"
