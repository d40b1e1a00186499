"""The documents as a site: it builds without a warning, its search works, and it loads nothing from
elsewhere."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import sync_playwright

from tests.conftest import required
from tests.support.deadline import WAIT_SECONDS

pytestmark = pytest.mark.long

_ROOT = Path(__file__).parent.parent
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|link)\b[^>]*?\b(?:src|srcset|href)=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import\s"""
)
"""What has a browser load something of another host."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does; a warning of MkDocs is an error."""
    mkdocs = _ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        required("MkDocs (make docs)")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [mkdocs, "build", "--quiet", "--site-dir", folder],
        cwd=_ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """The site's address, on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_file_loads_anything_from_elsewhere(site: Path) -> None:
    """No script, style, font or picture of another host, in any page or style sheet; and each page
    tells browsers to refuse them."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for path in [*pages, *site.rglob("*.css")]:
        assert not _LOADED.search(path.read_text("utf-8")), path.name
    for path in pages:
        assert "Content-Security-Policy" in path.read_text("utf-8"), path.name


def test_a_browser_asks_nobody_else(served: str) -> None:
    """It shows pages and finds words, says nothing, and asks this host only."""
    program = which("chromium")
    if program is None:
        required("Chromium (Debian: apt install chromium)")
    asked: list[str] = []
    said: list[str] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        for page in ("index", "sdk", "api", "errors"):
            tab.goto(f"{served}/{page}.html")
        tab.fill("input.md-search__input", "seccomp")
        tab.wait_for_selector(".md-search-result__link")
        found = tab.locator(".md-search-result__link").all()
        assert any("operating" in str(link.get_attribute("href")) for link in found)
        browser.close()
    assert {url for url in asked if not url.startswith((served, "data:", "blob:"))} == set()
    assert said == []
