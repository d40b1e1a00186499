"""A browser, and where it finds a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from playwright.sync_api import Page as Tab

from collector.pages.model import Page
from collector.pages.phrases import Language
from collector.pages.render import render
from tests.conftest import required

Address = Callable[[Page, Language], str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as Debian has it. While it is open, no other event loop can run in this thread."""
    program = which("chromium")
    if program is None:
        required("Chromium (Debian: apt install chromium)")
    with sync_playwright() as started:
        options: Any = {"executable_path": program, "args": ["--no-sandbox"]}
        opened = started.chromium.launch(**options)
        yield opened
        opened.close()


@pytest.fixture(params=["file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """Where a page is found: a file that is written, at least."""

    def written(page: Page, language: Language = "en") -> str:
        path = tmp_path / f"{language}.html"
        path.write_bytes(render(page, language))
        return path.as_uri()

    return written


class Seen:
    """A tab with an open page, and what it said and asked for meanwhile."""

    def __init__(self, tab: Tab, url: str) -> None:
        self.tab = tab
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(str(error)))
        tab.on("dialog", lambda dialog: self.said.append(dialog.message))
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.goto(url)


@contextmanager
def seen(browser: Browser, url: str, **options: Any) -> Iterator[Seen]:
    """Open a page in a tab with a profile of its own; it says nothing and asks for nothing else."""
    width = options.pop("width", 1280)
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    try:
        found = Seen(context.new_page(), url)
        yield found
        assert found.said == []
        assert set(found.asked) == {url}
        assert context.cookies() == []
    finally:
        context.close()
