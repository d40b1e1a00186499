"""The page in a real browser: for eyes, keyboards and screen readers, on paper and on a phone."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from collector.documents import without_hidden
from collector.pages.model import Page, SchemaVersion, mapped
from collector.pages.phrases import LANGUAGES, Language
from collector.pages.render import render
from tests.pages.conftest import Address, seen
from tests.pages.sample_config import NOW, configured, page_of, promised
from tests.pages.test_words import HOSTILE
from tests.support.deadline import wait_until

pytestmark = pytest.mark.servers

_STRUCTURE = (
    "[...document.querySelectorAll('*:not(bdi code)')]"
    ".map(e => `${e.tagName} ${e.className.baseVal ?? e.className}`)"
)
_MARKED = ("\u05d0\u05d1\u05d2", "\u202egnp.exe", "a\u2066b\u2069c", "x\u200bY", "\u200f\u05d0")
_ALL = [*HOSTILE, *_MARKED, "</style><script>hit=1</script>", "W" * 150]
_REST = "category: system, purposes: [ops], retention: 1d, reason: TEXT}"
_SCHEMA = f"""
schema: hostile
version: 1.0.0
title: TEXT
owner: a
also_collected: {{more: TEXT}}
purposes:
  ops: {{use: essential.service.operations, basis: legitimate_interests,
    reason: TEXT, optional: true}}
fields:
  os.type: {{kind: enum, values: [TEXT, linux], {_REST}
  call.delay: {{kind: integer, minimum: 0, maximum: 9, step: 1, also: more, {_REST}
"""


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A page that has everything: all verdicts, sinks at home and abroad, and a history."""
    versions = (
        SchemaVersion("2026-11-30", "2.0.0", ("fields.os.name: field added",)),
        SchemaVersion("2026-06-01", "1.0.0", is_first=True),
    )
    made = page_of(configured(tmp_path), "conferencing", promised())
    return replace(made, schemas=(replace(made.schemas[0], history=versions),), checked=NOW)


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_accessible(
    page: Page,
    address: Address,
    browser: Browser,
    language: Language,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    """Nothing that axe finds, also where everything is open; nothing wider than the screen."""
    with seen(browser, address(page, language), color_scheme=scheme, width=width) as found:
        found.tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        found.tab.locator("li.line").nth(1).focus()
        results = Axe().run(found.tab)
        assert results.violations_count == 0, results.generate_report()
        assert found.tab.evaluate("document.documentElement.scrollWidth") == width
        assert found.tab.evaluate("localStorage.length + sessionStorage.length") == 0


def test_keyboard(page: Page, address: Address, browser: Browser) -> None:
    """The first stop leaves the picture out; a line shows its rule, and arrows lead to others."""
    with seen(browser, address(page, "en")) as found:
        found.tab.keyboard.press("Tab")
        assert found.tab.evaluate("document.activeElement.hash") == "#facts"
        line = found.tab.locator(".event li.line.kept").first
        line.focus()
        assert line.locator(".rule").bounding_box()["width"] > 200  # type: ignore[index]
        (name,) = (line.get_attribute("data-fields") or "").split()
        tied = found.tab.locator(".record li.tied")
        assert tied.get_attribute("data-fields") == name
        found.tab.keyboard.press("ArrowDown")
        assert not line.evaluate("e => e === document.activeElement")
        assert line.locator(".rule").bounding_box()["width"] < 2  # type: ignore[index]


def test_without_scripts(page: Page, address: Address, browser: Browser) -> None:
    """The rules are there, and so is everything else."""
    with seen(browser, address(page, "en"), java_script_enabled=False) as found:
        line = found.tab.locator("li.line").first
        line.hover()
        assert line.locator(".rule").bounding_box()["width"] > 200  # type: ignore[index]


def test_on_a_phone(page: Page, address: Address, browser: Browser) -> None:
    """Each cell says what it is, and the rule of a line stands below it."""
    with seen(browser, address(page, "en"), width=375) as found:
        labels = found.tab.evaluate(
            "[...document.querySelectorAll('td')].map(e => getComputedStyle(e, '::before').content)"
        )
        assert labels
        assert all(len(label) > 2 and label != "none" for label in labels)
        line = found.tab.locator("li.line").first
        line.focus()
        assert line.evaluate(
            "e => { const box = x => x.getBoundingClientRect();"
            " const [a, b] = [box(e), box(e.querySelector('.rule'))];"
            " return a.top < b.top && b.bottom <= a.bottom + 1 && b.width > 200 }"
        )


def test_on_paper(page: Page, address: Address, browser: Browser) -> None:
    """What is folded on a screen is open on paper, and what only leads somewhere is gone."""
    with seen(browser, address(page, "en"), color_scheme="dark") as found:
        folded = found.tab.locator("details p").first
        found.tab.emulate_media(media="print")
        assert folded.bounding_box()["height"] > 10  # type: ignore[index]
        assert found.tab.locator("nav").is_hidden()
        paper = "getComputedStyle(document.body).backgroundColor"
        assert found.tab.evaluate(paper) == "rgb(255, 255, 255)"


def test_reduced_motion(page: Page, address: Address, browser: Browser) -> None:
    """Nothing moves for who asks for that."""
    with seen(browser, address(page, "en"), reduced_motion="reduce") as found:
        moving = "[...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e)"
        assert found.tab.evaluate(f"{moving}.transitionDuration) > 0).length") == 0
        assert found.tab.evaluate(f"{moving}.animationDuration) > 0).length") == 0


@pytest.mark.parametrize(("text", "language"), [*zip(_ALL, cycle(LANGUAGES), strict=False)])
def test_hostile_texts(
    text: str, language: Language, tmp_path: Path, address: Address, browser: Browser
) -> None:
    """A text in every place is only a text: the page has the same elements as with a harmless one,
    and each is isolated from the direction of the others."""
    harmless = _said_everywhere(tmp_path, "harmless", "harmless")
    hostile = _said_everywhere(tmp_path, "harmless", text)
    with seen(browser, address(harmless, language)) as found:
        expected = found.tab.evaluate(_STRUCTURE)
    with seen(browser, address(hostile, language)) as found:
        assert found.tab.evaluate(_STRUCTURE) == expected
        assert found.tab.evaluate("typeof hit") == "undefined"
        shown = found.tab.content()
        assert not any(mark in shown for mark in "\u202e\u2066\u2069\u200b\u200f")
        directions = found.tab.evaluate(
            "[...document.querySelectorAll('bdi')].map(e => getComputedStyle(e).unicodeBidi)"
        )
        assert set(directions) == {"isolate"}
        for width in (1280, 375):
            found.tab.set_viewport_size({"width": width, "height": 900})
            assert found.tab.evaluate("document.documentElement.scrollWidth") == width


def _said_everywhere(folder: Path, harmless: str, text: str) -> Page:
    """A page where a text is said by every part of the model that a document or a check gives."""
    path = folder / "hostile.yaml"
    path.write_text(_SCHEMA.replace("TEXT", harmless))
    sink = {"path": "a", "party": "processor", "recipient": harmless, "country": "ID"}
    sinks = {"ndjson": sink | {"safeguard": harmless, "purposes": ["ops"]}, "store": True}
    about = {"controller": harmless, "contact": harmless, "officer": harmless, "country": "DE"}
    made = page_of(configured(folder, sinks=sinks, about=about), path, promised(harmless))
    versions = (SchemaVersion("2026-11-30", harmless, (harmless,), (harmless,)),)
    schema = replace(made.schemas[0], history=versions)
    page = replace(made, schemas=(schema,), checked=NOW)
    return mapped(mapped(page, lambda each: each.replace(harmless, text)), without_hidden)


def test_the_policy_is_in_force(page: Page, address: Address, browser: Browser) -> None:
    """A script that somebody brings in does not run, nor does a style count."""
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(address(page, "en"))
        tab.evaluate(
            "document.body.append(Object.assign(document.createElement('script'),"
            "{textContent: 'window.hit = 1'}));"
            'document.body.innerHTML += \'<p style="color: red" onclick="hit = 1">x</p>\''
        )
        assert tab.evaluate("typeof window.hit") == "undefined"
        assert tab.locator("body > p").last.get_attribute("style")
        colour = "e => getComputedStyle(e).color"
        assert tab.locator("body > p").last.evaluate(colour) != "rgb(255, 0, 0)"


def test_small_and_soon(page: Page, address: Address, browser: Browser) -> None:
    for language in LANGUAGES:
        assert len(render(page, language)) < 150_000
    with seen(browser, address(page, "en")) as found:
        paints = "performance.getEntriesByType('paint').map(e => Math.round(e.startTime))"
        print("first paint, in ms:", wait_until(lambda: found.tab.evaluate(paints)))
