"""The documentation: built in strict mode, every link leads somewhere, and no reader's browser asks the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from readme_examples import ROOT

import and_retrieval

LOADS = {"script": "src", "img": "src", "source": "src", "audio": "src", "iframe": "src"}
"""Tag -> the attribute that makes a browser load something; `link` loads by its `rel`."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it, in a folder of its own."""
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="needs the extra [docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


class Page(HTMLParser):
    """A page of the site: where it links to, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in LOADS and LOADS[tag] in given:
            self.loads.add(given[LOADS[tag]])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loads.add(given["href"])


@cache
def page_of(path: Path) -> Page:
    return Page(path)


def pages(site: Path) -> list[Path]:
    """All pages but the one for addresses that do not exist, whose links are absolute."""
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]


def test_every_page_of_the_repository_is_there(site: Path) -> None:
    written = {path.relative_to(site).as_posix() for path in pages(site)}
    expected = {f"docs/{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert written == expected | {
        "index.html", "ARCHITECTURE.html", "CHANGELOG.html", "bench/index.html", "index/index.html"
    }  # fmt: skip


def test_every_link_leads_somewhere(site: Path) -> None:
    broken = []
    for path in pages(site):
        for link in page_of(path).links | page_of(path).loads:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            exists = place.is_file() and place.is_relative_to(site)
            anchored = not parts.fragment or (exists and unquote(parts.fragment) in page_of(place).anchors)
            if not (exists and anchored):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken, "\n".join(broken)


def test_a_reader_needs_no_network(site: Path) -> None:
    for path in pages(site):
        assert [load for load in page_of(path).loads if urlsplit(load).scheme or load.startswith("//")] == []
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"fonts\.(googleapis|gstatic)", text)
        assert 'class="mermaid"' not in text  # the theme would load a library to draw it
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(url\(\s*['\"]?|@import\s+['\"]?)(https?:)?//", text), style


def test_a_browser_asks_for_nothing_but_files_of_the_site(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        window.on("request", lambda request: asked.append(request.url))
        for name in ("index.html", "docs/python.html", "ARCHITECTURE.html"):  # pictures, code, a drawing
            window.goto((site / name).as_uri(), wait_until="networkidle")
        window.click("text=Trusting a label >> nth=0")
        window.wait_for_url("**/docs/trusting_a_label.html")
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


def test_every_public_name_is_documented(site: Path) -> None:
    anchors = page_of(site / "docs/python.html").anchors
    assert {f"and_retrieval.{name}" for name in and_retrieval.__all__} <= anchors
    for method in ("Run.search", "Run.prune", "Run.serve", "ClipIndex.build", "Embedder.embed_audio"):
        assert f"and_retrieval.{method}" in anchors
