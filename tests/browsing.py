"""A server as a user types it, a browser, and what tests of the page do again and again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from served import RUN, late_tone, wav

SHOTS = "AND_RETRIEVAL_SCREENSHOTS"
"""Environment variable: a folder in which screenshots are kept, to be looked at."""


@dataclass(frozen=True)
class Server:
    """A server that was started as a user types it: its address, its token, its process."""

    url: str
    token: str
    process: subprocess.Popen[str]
    home: Path


@contextmanager
def serving(home: Path, run: str = RUN) -> Iterator[Server]:
    """A server on a home; it must end cleanly."""
    command = [
        sys.executable,
        "-m",
        "and_retrieval",
        "serve",
        run,
        "--home",
        str(home),
        "--port",
        "0",
        "--json",
    ]
    paths = [
        str(Path(__file__).parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]  # the network's own imports
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    assert set(told) == {"url", "token"}
    yield Server(told["url"], told["token"], process, home)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")  # one object, and a clean end
    assert "Traceback" not in errors, errors


@contextmanager
def browsing(driver: Any, *arguments: str) -> Iterator[Any]:
    """Chromium, started with some arguments; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    plain = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    window = driver.chromium.launch(executable_path=chromium, args=[*plain, *arguments])
    yield window
    window.close()


@contextmanager
def visited(browser: Any, server: Server, expected: str = " 400 ") -> Iterator[Any]:
    """A page that was opened by the printed address; whatever else than `expected` it logs as an error fails the test.

    The browser logs an answer 400 as an error; the page says in words what cannot be done.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(30_000)
    flaws: list[str] = []
    page.on("pageerror", lambda error: flaws.append(str(error)))
    page.on(
        "console",
        lambda line: flaws.append(line.text) if line.type == "error" and expected not in line.text else None,
    )
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{server.url}/#token={server.token}")
    page.wait_for_selector(".layer-row")
    yield page
    context.close()
    assert flaws == []
    outside = [url for url in requests if not url.startswith((server.url, "data:", "blob:"))]
    assert outside == []


def shot(page: Any, name: str) -> None:
    """Keep a screenshot, where a folder is given for them."""
    if folder := os.environ.get(SHOTS):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def opened(page: Any, server: Server, view: str) -> None:
    """Go to a view and wait until it is drawn."""
    page.goto(f"{server.url}/?run={RUN}&view={view}")
    page.wait_for_selector("main h1")
    page.wait_for_selector("main .waiting", state="detached")
    page.wait_for_load_state("networkidle")


def late() -> dict[str, Any]:
    """A sound as a file to be chosen."""
    return {"name": "late.wav", "mimeType": "audio/wav", "buffer": wav(late_tone())}
