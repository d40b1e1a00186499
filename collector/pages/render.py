"""Write a page as one HTML file that loads nothing and works from disk, under a strict CSP.

Every text is escaped automatically, and is in an element that isolates its direction. Style and
script are files beside the templates; the page allows only their hashes.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from collector.pages.model import Page
from collector.pages.phrases import Language

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")


def render(page: Page, language: Language = "en") -> bytes:
    """Write the page in a language."""
    from collector.pages.words import Words  # noqa: PLC0415 - of Jinja2, slow

    style, script = static("page.css"), static("page.js")
    template = environment().get_template("page.html.j2")
    words, rules = Words.of(language), policy(style, script)
    text = template.render(page=page, w=words, style=style, script=script, policy=rules)
    return text.encode()


def flow_chart(page: Page) -> str:
    """Write a Mermaid chart of which field reaches which destination."""
    return environment(escape=False).get_template("flows.j2").render(page=page)


def policy(style: str, script: str | None = None) -> str:
    """Return the content security policy of a file with this style and, if given, this script. A
    server that sends the file may add directives that are allowed only in a header."""
    allowed = "" if script is None else f" script-src {_digest(script)};"
    return (
        f"default-src 'none'; style-src {_digest(style)};{allowed} img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def static(name: str) -> str:
    """Read a style or a script, which goes into a page unchanged."""
    return (_TEMPLATES / name).read_text("utf-8").strip()


@cache
def environment(*, escape: bool = True) -> Environment:
    """Return the environment of all templates; without ``escape``, for formats other than HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - slow

    from collector.pages.words import cut, markdown, mermaid  # noqa: PLC0415 - of Jinja2

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,  # noqa: S701 - other formats have filters
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["cut"] = cut
    made.filters |= {"markdown": markdown, "mermaid": mermaid}
    return made
