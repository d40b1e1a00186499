"""Write a page as one HTML file that loads nothing and works from disk, under a strict CSP.

Every text goes through autoescape, and stands in an element that isolates its direction. Style and
script are files beside the templates; their hashes are the only ones that the page allows.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from collector.pages.model import Page
from collector.pages.phrases import Language, phrase_book

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")


def render(page: Page, language: Language = "en") -> bytes:
    """Write the page in a language."""
    style, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("page.html.j2")
    text = template.render(
        page=page, book=phrase_book(language), style=style, script=script, policy=policy
    )
    return text.encode()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - slow

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
