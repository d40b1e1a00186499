"""The pages of a real sidecar in a real browser: as accessible as the file, and out of reach of
other sites."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.pages.conftest import seen
from tests.support.command import run_process
from tests.support.deadline import wait_until
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.servers

_CANARY = "canary-of-a-chat"
_EVENT = (
    b'{"ip": "203.0.113.77", "os": {"type": "ios"}, "unlisted-canary": 1,'
    b' "chat": [{"text": "canary-of-a-chat"}]}'
)
_SETTINGS = {"COLLECTOR__SCHEMAS": "conferencing, web", "COLLECTOR__ABOUT__CONTROLLER": "Example"}
_PATHS = ("/", "/?lang=id", "/status")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One that got an event and was checked; some of its claims are unproven."""
    folder = tmp_path_factory.mktemp("live")
    settings = {**_SETTINGS, "COLLECTOR__DATA": str(folder / "data")}
    with started(folder, environ=settings) as running:
        assert running.send(_EVENT).status == 200
        done = run_process("claims", "--data", folder / "data", env=settings)
        assert (done.code, b"Unproven." in done.out) == (1, True), done.err
        wait_until(lambda: b'"holds"' in running.admin("/page.json").body)
        yield running


def _url(sidecar: Sidecar, path: str) -> str:
    return f"http://127.0.0.1:{sidecar.ports['admin']}{path}"


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", _PATHS)
def test_accessible(
    sidecar: Sidecar, browser: Browser, path: str, scheme: Literal["light", "dark"], width: int
) -> None:
    """Nothing that axe finds, no message, no other request, nothing wider than the screen, and no
    value or unlisted name."""
    with seen(browser, _url(sidecar, path), color_scheme=scheme, width=width) as found:
        found.tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        results = Axe().run(found.tab)
        assert results.violations_count == 0, results.generate_report()
        assert found.tab.evaluate("document.documentElement.scrollWidth") == width
        assert found.tab.evaluate("localStorage.length + sessionStorage.length") == 0
        shown = found.tab.content()
        assert not any(each in shown for each in (_CANARY, "unlisted-canary", "203.0.113.77"))


def test_keyboard(sidecar: Sidecar, browser: Browser) -> None:
    """The status leads to the other pages; the picture of the page works as in the file."""
    with seen(browser, _url(sidecar, "/status")) as found:
        found.tab.keyboard.press("Tab")
        assert found.tab.evaluate("document.activeElement.getAttribute('href')") == "/"
    with seen(browser, _url(sidecar, "/")) as found:
        line = found.tab.locator(".event li.line.kept").first
        line.focus()
        assert line.locator(".rule").bounding_box()["width"] > 200  # type: ignore[index]


@contextmanager
def _other_site(folder: Path, text: str) -> Iterator[str]:
    """A site with one page."""
    (folder / "index.html").write_text(text)
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    """Says nothing of requests."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("path", [*_PATHS, "/page.json", "/metrics"])
def test_another_site_gets_nothing(
    sidecar: Sidecar, browser: Browser, path: str, tmp_path: Path
) -> None:
    """It can neither frame a page nor read one, nor get at the window of one."""
    url = _url(sidecar, path)
    text = f"<!doctype html><title>x</title><iframe src='{url}'></iframe>"
    with _other_site(tmp_path, text) as other, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(other)
        tab.wait_for_load_state("networkidle")
        framed = [frame.content() for frame in tab.frames if frame is not tab.main_frame]
        assert not any("Example" in each or "collector_" in each for each in framed)
        for mode in ("cors", "no-cors"):
            read = f"fetch('{url}', {{mode: '{mode}'}}).then(r => r.text()).catch(() => '')"
            assert tab.evaluate(read) == ""
        window = (
            f"new Promise(r => {{ const w = open('{url}'); setTimeout(() => r(w.closed), 500) }})"
        )
        assert tab.evaluate(window) or path in {"/page.json", "/metrics"}


def test_a_name_that_leads_here(sidecar: Sidecar) -> None:
    """A page whose host name was made to resolve to this address is not served."""
    port = sidecar.ports["admin"]
    for path in (*_PATHS, "/page.json", "/metrics"):
        answer = sidecar.admin(path, {"Host": f"attacker.example:{port}"})
        assert answer.status == 421
        assert b"Example" not in answer.body
