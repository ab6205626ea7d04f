"""Ray clusters on this machine, as others start them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self


class Head:
    """The head of a Ray cluster of two workers, which can be killed and started again at the same address.

    Args:
        folder: For its log.
        started_in: Where its command is typed; by default as this program.
    """

    def __init__(self, folder: Path, started_in: str | None = None) -> None:
        import ray.util

        with socket.socket() as listener:
            listener.bind(("", 0))
            self._port = listener.getsockname()[1]
        self.address = f"{ray.util.get_node_ip_address()}:{self._port}"
        self._log, self._started_in = folder / "head.log", started_in
        place = os.environ.get("RAY_TMPDIR")
        self._files = tempfile.mkdtemp(
            prefix="ray-", dir=place
        )  # in pytest's, paths are too long for sockets

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self._files, ignore_errors=True)

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={self._port}",
            "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={self._files}",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._started_in)
        host, _, port = self.address.partition(":")
        for _ in range(120):
            with suppress(OSError):
                socket.create_connection((host, int(port)), 1).close()
                return
            time.sleep(1)
        raise TimeoutError(self._log.read_text())

    def end(self) -> None:
        """Kill it and all that it has started, at once."""
        for process in (*descendants(self._process.pid), self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()


def descendants(process: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # it has just ended
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found
