"""What a server that listens bears: an upload of a gigabyte, and fifty tabs that watch a job."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import RUN

from and_retrieval.serve import server as server_module
from and_retrieval.serve.guard import UPLOAD_BYTES
from and_retrieval.serve.jobs import Job
from and_retrieval.serve.server import PageServer
from and_retrieval.store import Home

TABS = 50
GIGABYTE = 1 << 30
PART = 1 << 20


@pytest.fixture(scope="module")
def listening(served_home: Path) -> Iterator[PageServer]:
    server = PageServer.listen(Home(served_home), RUN, port=0).start()
    yield server
    server.stop()


def headers(server: PageServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.served.token}"}


# ---------- a gigabyte ----------


def begun(server: PageServer, *more: str) -> socket.socket:
    """A connection on which an upload has begun."""
    lines = [
        f"POST /api/hear?run={RUN} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"Authorization: Bearer {server.served.token}",
        "Content-Type: audio/wav",
        *more,
    ]
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def answered(connection: socket.socket) -> str:
    """All that the server sends before it closes the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass  # it closed while more was on its way
    return b"".join(parts).decode()


def resident() -> int:
    """Bytes of memory of this process, and so of the server."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_stated_gigabyte_is_refused_before_it_is_sent(listening: PageServer) -> None:
    with begun(listening, f"Content-Length: {GIGABYTE}") as connection:
        connection.sendall(b"RIFF")
        told = answered(connection)
    assert told.startswith("HTTP/1.1 413")
    assert "128 MiB" in told


@pytest.mark.slow
def test_a_gigabyte_of_unstated_length_is_cut_off_and_never_held(listening: PageServer) -> None:
    before = resident()
    sent, most = 0, 0
    part = b"%x\r\n" % PART + bytes(PART) + b"\r\n"
    with begun(listening, "Transfer-Encoding: chunked") as connection:
        connection.settimeout(60)
        try:
            while sent < GIGABYTE:
                connection.sendall(part)
                sent += PART
                most = max(most, resident() - before)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert UPLOAD_BYTES <= sent < UPLOAD_BYTES + (32 << 20)
    assert most < UPLOAD_BYTES // 2
    assert list(listening.served.folder.glob("sound-*")) == []
    answer = httpx.get(f"{listening.url}/api/status", headers=headers(listening))
    assert answer.status_code == 200


# ---------- fifty tabs ----------


def test_fifty_tabs_watch_a_job_while_others_work(listening: PageServer) -> None:
    hold, watching = threading.Event(), threading.Barrier(TABS + 1)

    def work(job: Job, progress: Any) -> dict[str, Any]:
        progress(1, 3)
        hold.wait(60)
        progress(2, 3)
        return {"kept": True}

    job = listening.served.jobs.start(work)

    def tab(_: int) -> list[dict[str, Any]]:
        told = []
        path = f"{listening.url}/api/jobs/{job.id}/events"
        with httpx.stream("GET", path, headers=headers(listening), timeout=60) as events:
            for line in events.iter_lines():
                if line.startswith("data:"):
                    told.append(json.loads(line[5:]))
                    if len(told) == 1:
                        watching.wait(60)
        return told

    with ThreadPoolExecutor(TABS) as pool:
        tabs = pool.map(tab, range(TABS))
        watching.wait(60)  # all fifty streams are open now
        units = httpx.get(f"{listening.url}/api/units", params={"run": RUN, "q": "dog"}, timeout=30)
        assert len(units.json()["results"]) == 12
        hold.set()
        for told in tabs:
            assert told[0]["state"] in ("waiting", "running")
            assert (told[-1]["state"], told[-1]["result"]) == ("done", {"kept": True})
            assert [event["done"] for event in told] == sorted(event["done"] for event in told)


def test_a_tab_that_goes_away_leaves_the_job_and_the_server(listening: PageServer) -> None:
    hold = threading.Event()

    def work(job: Job, progress: Any) -> dict[str, Any]:
        hold.wait(60)
        return {}

    job = listening.served.jobs.start(work)
    path = f"{listening.url}/api/jobs/{job.id}"
    for _ in range(3):
        with httpx.stream("GET", f"{path}/events", headers=headers(listening), timeout=30) as events:
            next(events.iter_lines())
    assert httpx.get(path, headers=headers(listening)).json()["state"] == "running"
    hold.set()
    with httpx.stream("GET", f"{path}/events", headers=headers(listening), timeout=30) as events:
        *_, last = (line for line in events.iter_lines() if line.startswith("data:"))
    assert json.loads(last[5:])["state"] == "done"


def test_it_ends_without_complaint_though_an_answer_takes_long(
    served_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_module, "PATIENCE", 1)
    server = PageServer.listen(Home(served_home), RUN, port=0).start()
    asked, hold = threading.Event(), threading.Event()

    def slow() -> dict[str, Any]:
        asked.set()
        hold.wait(30)
        return {}

    monkeypatch.setattr(server.served, "status", slow)

    def ask() -> None:
        with suppress(httpx.HTTPError):
            httpx.get(f"{server.url}/api/status", timeout=30)

    tab = threading.Thread(target=ask)
    tab.start()
    assert asked.wait(30)
    server.stop()
    hold.set()
    tab.join()
    assert capfd.readouterr() == ("", "")
