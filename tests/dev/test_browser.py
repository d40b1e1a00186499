"""The page of ``collector dev`` in a browser: for eyes and screen readers, and for hostile text."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from collector.dev.playground import Playground
from collector.dev.site import Site
from tests.pages.conftest import browser

pytestmark = pytest.mark.servers

__all__ = ["browser"]

_HOSTILE = (
    """{"ip": "203.0.113.7", "<img src=x onerror=hit=1>": "</script><script>hit=1</script>"}"""
)
_EVENT = {"verdict": "admitted", "record": {}, "content": ["chat"], "unlisted": 2}
_STATE = {
    "schema": "<b>bold</b>/1.0.0",
    "faults": ["<script>hit=1</script>"],
    "now": None,
    "latest": {"text": "<script>hit=1</script>", "found": {"events": [_EVENT | {"fields": []}]}},
    "confined": True,
    "public": "http://127.0.0.1:1/",
    "curl": "curl",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A page with texts that are markup."""
    playground = Playground("conferencing")
    with Site(0, lambda: _STATE, playground.ask) as site:
        Thread(target=site.serve_forever, daemon=True).start()
        yield site.url
        site.shutdown()
    playground.close()


@pytest.fixture
def tab(browser: Browser, url: str) -> Iterator[Page]:
    """The page in a tab that keeps nothing, and reports nothing."""
    context, said = browser.new_context(), list[str]()
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(url)
    opened.wait_for_selector("#latest > *")
    yield opened
    assert said == []
    assert opened.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert opened.evaluate("Promise.all([indexedDB.databases(), caches.keys()])") == [[], []]
    assert context.cookies() == []
    context.close()


def test_hostile_text_stays_text(tab: Page) -> None:
    """In the playground, the event, the faults and the name of the schema."""
    tab.fill("#text", _HOSTILE)
    tab.click("button")
    tab.wait_for_selector("#told .event")
    told = tab.inner_text("#told")
    assert ("203.0.113.7" in told, "1 other members were skipped" in told) == (True, True)
    assert tab.inner_text("#event") == "<script>hit=1</script>"
    assert tab.evaluate("typeof hit") == "undefined"
    assert tab.locator("#told script, #told img, #faults script, #schema b").count() == 0


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("json", "[" * 1_200 + "]" * 1_200, "too deep"),
        ("ndjson", "{}\n{broken", "1 malformed"),
        ("logs", "{", "malformed"),
        ("json", ("x" * 1_023 + "\n") * 1_025, "1,048,576 bytes at most"),
    ],
)
def test_hostile_text_gets_a_reason(tab: Page, form: str, text: str, reason: str) -> None:
    """In words."""
    tab.evaluate("text => { document.getElementById('text').value = text }", text)
    tab.select_option("#form", form)
    tab.click("button")
    tab.wait_for_selector("#told > *")
    assert reason in tab.inner_text("#told")


@pytest.mark.parametrize("before", ["", "x" * 1_000_000])
def test_a_paste_that_is_too_long_is_refused_before_it_is_laid_out(tab: Page, before: str) -> None:
    """16 MiB from the clipboard, and 100,000 bytes beside 1,000,000: the text stays as it was. A
    short paste is taken afterwards."""
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.evaluate("text => { document.getElementById('text').value = text }", before)
    copy = "([unit, times]) => navigator.clipboard.writeText(unit.repeat(times))"
    tab.evaluate(copy, ["x" * 1_024, 100 if before else 16_384])
    tab.focus("#text")
    tab.keyboard.press("Control+v")
    tab.wait_for_selector("#told > .dropped", timeout=5_000)
    assert "1,048,576 bytes at most" in tab.inner_text("#told")
    assert tab.evaluate("document.getElementById('text').value.length") == len(before)
    tab.evaluate(copy, ["{}", 1])
    tab.keyboard.press("Control+v")
    tab.wait_for_function(f"document.getElementById('text').value.length == {len(before) + 2}")


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(tab: Page, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    tab.click("button")
    tab.wait_for_selector("#told .event")
    found = Axe().run(tab).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
