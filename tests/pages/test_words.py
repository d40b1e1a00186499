"""Texts in templates: what is written is read as the same text, whatever it holds."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from collector.pages.phrases import LANGUAGES, Language
from collector.pages.render import environment
from collector.pages.words import PlainWords, Words
from tests.support.rows import for_each

HOSTILE = (
    "<script>alert(1)</script>",
    "</bdi><img src=x onerror=alert(1)>",
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
    "{{ page }} {% raw %} {name}",
    "<https://example.org>",
)
_text = st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
_texts = _text.filter(str.strip)
_NOTICE = """{% import form ~ ".j2" as write with context %}
{{ write.heading(2, texts[0]) }}
{{ write.sentence(texts[1]) }}
{{ write.bullets(texts) }}
{{ write.table(name, texts, [texts, texts]) }}
"""


def written(form: str, texts: list[str], words: Words) -> str:
    """All parts of a document with these texts."""
    template = environment(escape=form == "html").from_string(_NOTICE)
    apart = [words.text(text) for text in texts]
    return template.render(form=form, name=texts[0], texts=apart, w=words)


class _Reader(HTMLParser):
    """The texts of the leaves, each on one line, and all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in {"h2", "p", "li", "th", "td"}:
            self.found.append("")
        assert {name for name, _ in attrs} <= {"lang", "role", "aria-label", "tabindex", "scope"}

    def handle_data(self, data: str) -> None:
        if self.found:
            self.found[-1] += data


@pytest.mark.parametrize("language", LANGUAGES)
@given(st.lists(_texts, min_size=2, max_size=3))
def test_html_means_the_texts(language: Language, texts: list[str]) -> None:
    """A reader of HTML finds exactly the texts, each isolated, and no element but our own."""
    reader = _Reader()
    reader.feed(written("html", texts, Words.of(language)))
    reader.close()
    expected = [" ".join(text.split()) for text in (*texts[:2], *texts, *texts, *texts, *texts)]
    assert [" ".join(text.split()) for text in reader.found] == expected
    own = {"h2", "p", "ul", "li", "div", "table", "thead", "tbody", "tr", "th", "td", "bdi"}
    assert reader.tags == own


@given(st.lists(_texts, min_size=2, max_size=3))
def test_markdown_means_the_texts(texts: list[str]) -> None:
    """A reader of Markdown finds exactly the texts, and no mark-up in them."""
    text = written("markdown", texts, PlainWords.of("en"))
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    children = [child for token in inline for child in token.children or ()]
    assert {child.type for child in children} <= {"text", "text_special"}
    found = ["".join(child.content for child in token.children or ()) for token in inline]
    expected = [*texts[:2], *texts, *texts, *texts, *texts]
    assert found == [" ".join(text.split()) for text in expected]


@for_each("text", ["a: b", "you (and I)", "3 numbers", "a-b", "#1", "Art. 6(1)(b)"])
def test_plain_sentences_stay_as_they_are(text: str) -> None:
    """What needs no mark gets none, but at the start."""
    assert environment().from_string("{{ t|markdown }}").render(t=f"x {text}") == f"x {text}"


@given(_texts)
def test_parts_of_a_phrase_are_isolated(text: str) -> None:
    """A part is in an element of its own, and no mark-up."""
    said = Words.of("en").say("head", organisation=text, number=9)
    assert said.startswith("<bdi>")
    assert said.count("<") == 2


def test_code_in_what_a_check_says() -> None:
    """What stands between backquotes is an element; everything else is only text."""
    said = Words.of("en").told("Run `a <b>` & <i>so</i>.")
    assert "<code>a &lt;b&gt;</code> &amp; &lt;i&gt;so&lt;/i&gt;." in said
