"""Papers: what is written is read as the same text, whatever it holds."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from collector.pages.paper_document import (
    Block,
    BulletList,
    DataTable,
    Heading,
    Sentence,
    as_html,
    as_markdown,
)

_HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    "*a* _b_ `c` ~~d~~",
    "[link](javascript:alert(1))",
    "![image](https://example.org/a.png)",
    "&lt; &amp; &#60;",
    "# no heading",
    "- no item",
    "+ no item",
    "1. no item",
    "2) no item",
    "---",
    "===",
    "> no quotation",
    "    no code",
    "\\",
    "ends in \\",
    "a\nb",
    '" onload="x',
    "<https://example.org>",
]
_text = st.sampled_from(_HOSTILE) | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
_texts = _text.filter(str.strip)
_rows = st.lists(st.lists(_texts, min_size=2, max_size=2), max_size=3)
_blocks = st.one_of(
    st.builds(Heading, st.integers(1, 3), _texts),
    st.builds(Sentence, _texts),
    st.builds(BulletList, st.lists(_texts, min_size=1, max_size=3)),
    st.builds(DataTable, st.lists(_texts, min_size=2, max_size=2), _rows),
)
_TAGS = {"h1", "h2", "h3", "p", "ul", "li", "div", "table", "thead", "tbody", "tr", "th", "td"}
_REGION = {"role": "region", "tabindex": "0"}


def texts(block: Block) -> list[str]:
    """The texts of a block, in order, each on one line."""
    match block:
        case BulletList(found):
            every = list(found)
        case DataTable(head, rows):
            every = [*head, *(cell for row in rows for cell in row)]
        case Heading(_, text) | Sentence(text):
            every = [text]
    return [" ".join(text.split()) for text in every]


class _Reader(HTMLParser):
    """The texts of the leaves of a body, and all tags."""

    def __init__(self, headings: list[str]) -> None:
        super().__init__()
        self.headings = headings
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.is_open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.is_open = tag in {"h1", "h2", "h3", "p", "li", "th", "td"}
        if self.is_open:
            assert tag == "th" or not attrs
            self.found.append("")
        if attrs:
            marks = dict(attrs)
            name = marks.pop("aria-label", None)
            known = ({"scope": "col"}, {"scope": "row"}) if name is None else (_REGION,)
            assert marks in known
            assert name in {None, "", *self.headings}

    def handle_endtag(self, tag: str) -> None:
        self.is_open = False

    def handle_data(self, data: str) -> None:
        if self.is_open:
            self.found[-1] += data


@given(st.lists(_blocks, min_size=1, max_size=4))
def test_html_means_the_texts(blocks: list[Block]) -> None:
    """A reader of HTML finds exactly the texts, and no element but those of the blocks, nor an
    attribute but those that say what a table is."""
    reader = _Reader([block.text for block in blocks if isinstance(block, Heading)])
    reader.feed(as_html(blocks, "en").partition("<main>")[2].partition("</main>")[0])
    reader.close()
    assert [" ".join(text.split()) for text in reader.found] == [
        text for block in blocks for text in texts(block)
    ]
    assert reader.tags <= _TAGS


@given(_blocks)
def test_markdown_means_the_texts(block: Block) -> None:
    """A reader of Markdown finds one such block, with exactly the texts and no mark-up."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(as_markdown([block]))
    inline = [token for token in tokens if token.type == "inline"]
    children = [child for token in inline for child in token.children or ()]
    assert {child.type for child in children} <= {"text", "text_special"}
    assert [token.content for token in inline]
    found = ["".join(child.content for child in token.children or ()) for token in inline]
    assert found == texts(block)
    opened = {
        Heading: "heading_open",
        Sentence: "paragraph_open",
        BulletList: "bullet_list_open",
        DataTable: "table_open",
    }
    assert tokens[0].type == opened[type(block)]
    assert sum(token.level == 0 and token.nesting == 1 for token in tokens) == 1


def test_html_stands_alone() -> None:
    """It loads nothing, runs nothing, says its language, and its title is the first heading."""
    page = as_html([Sentence("a"), Heading(1, "B & C")], "id")
    assert page.startswith('<!DOCTYPE html>\n<html lang="id">')
    assert "<title>B &amp; C</title>" in page
    assert "default-src 'none'" in page
    for word in ("<script", "src=", "href=", "url(", "@import", "http:", "https:"):
        assert word not in page


@pytest.mark.parametrize("text", ["a: b", "you (and I)", "3 numbers", "a-b", "#1", "Art. 6(1)(b)"])
def test_plain_sentences_stay_as_they_are(text: str) -> None:
    """What needs no mark gets none, but at the start."""
    assert as_markdown([Sentence(f"x {text}")]) == f"x {text}\n"
