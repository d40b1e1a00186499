"""The page as a file: what it says at first sight, where its links lead, and what it allows."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from collector.claims.findings import Verdict
from collector.claims.promises import Promise
from collector.pages.model import Page, build
from collector.pages.phrases import LANGUAGES, Language
from collector.pages.render import render
from collector.schema import load_schema
from tests.pages.sample_config import NOW, configured, page_of, promised
from tests.support.rows import for_each

_KEPT = "Chat, audio and video are never kept unless the host records."


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """The page of our store and of a processor's file, with a promise of each verdict."""
    return page_of(configured(tmp_path), verdicts=promised())


def several(folder: Path) -> Page:
    """The page of a configuration with two schemas."""
    names = ["conferencing", "web"]
    config = configured(folder, sinks={}, schemas=names)
    return build(config, [load_schema(name) for name in names], (), checked=None, now=NOW)


def text_of(html: str) -> str:
    """What is read of a part."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_links_lead_somewhere(language: Language, page: Page, tmp_path: Path) -> None:
    """Each id is there once, each link is inside the page and leads to one of them."""
    for each in (page, several(tmp_path)):
        html = render(each, language).decode()
        ids = re.findall(r' id="([^"]+)"', html)
        assert len(ids) == len(set(ids))
        links = re.findall(r' href="([^"]+)"', html)
        assert {link.removeprefix("#") for link in links} <= set(ids)
        labelled = re.findall(r' aria-labelledby="([^"]+)"', html)
        assert set(labelled) <= set(ids)
    assert f'id="promise-{page.promises[0].id}"' in render(page, language).decode()


def test_the_policy(page: Page) -> None:
    """One style and one script, by their hashes; no attribute holds one."""
    html = render(page).decode()
    (rules,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    rules = rules.replace("&#39;", "'")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in rules
    assert rules.startswith("default-src 'none'")
    assert "unsafe" not in rules
    assert not re.search(r"<[^>]* (style|on\w+)=", html)


@for_each(
    ("content", "recorded", "says_so"),
    [
        ("holds", "holds", True),
        ("holds", "amended", True),
        ("unproven", "holds", False),
        ("holds", "unproven", False),
        ("broken", "holds", False),
        ("missing", "holds", False),
    ],
)
def test_content_is_only_promised_where_it_holds(
    content: Verdict, recorded: Verdict, says_so: bool, tmp_path: Path
) -> None:
    """The first sentence says no more than what the promises do."""
    verdicts = [Promise("no-content", "a", content), Promise("unless-recorded", "b", recorded)]
    html = render(page_of(configured(tmp_path), verdicts=verdicts)).decode()
    assert (_KEPT in html) == says_so
    assert _KEPT not in render(page_of(configured(tmp_path))).decode()


def test_first_sight(page: Page) -> None:
    """How many facts, how many promises have which verdict, and when that was checked."""
    html = render(replace(page, checked=NOW)).decode()
    header = text_of(html[html.index("<header") : html.index("<main>")])
    assert header.startswith("Example GmbH collects 9 facts about your client.")
    assert "2 promises hold" in header
    assert "1 unproven" in header
    assert "Checked on 1 December 2026 , 14:02 UTC." in header
    never = text_of(render(page).decode())
    assert "Never checked" in never


def test_the_facts_of_several_schemas(tmp_path: Path) -> None:
    """Each schema has its pipe and its table; a fact of both counts once."""
    page = several(tmp_path)
    html = render(page).decode()
    names = {each.name for schema in page.schemas for each in schema.fields}
    assert f"Example GmbH collects {len(names)} facts" in text_of(html)
    assert html.count('<figure class="pipe">') == 2


def test_the_data(page: Page, tmp_path: Path) -> None:
    """The same facts, and nothing that is only for operators."""
    plain = orjson.loads(page.as_json())
    assert plain["promises"][0]["verdict"] == "holds"
    assert plain["schemas"][0]["fields"][0]["retention"] == 30 * 86400
    assert str(tmp_path).encode() not in page.as_json()
    assert str(tmp_path).encode() not in render(page)


def test_the_same_bytes(tmp_path: Path) -> None:
    """A page changes only when what it says does."""
    made = [render(page_of(configured(tmp_path), verdicts=promised())) for _ in range(2)]
    assert made[0] == made[1]
