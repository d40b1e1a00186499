"""The privacy notice: a page in sentences (Art. 13 GDPR; Art. 21 of Indonesia's Law 27 of 2022, UU
PDP). If the page lacks a fact, the notice says that it is not stated.

``templates/notice.j2`` has its contents; ``html.j2`` and ``markdown.j2`` say how to write each
part.
"""

from __future__ import annotations

import re
from typing import Literal

from collector.claims.document import load_claims
from collector.pages.model import Page
from collector.pages.phrases import Language
from collector.pages.render import environment, policy, static

Form = Literal["html", "markdown"]
_BLANK_LINES = re.compile(r"\n{3,}")


def notice(page: Page, form: Form = "markdown", language: Language = "en") -> str:
    """Write the notice for the first schema of a page."""
    from collector.pages.words import PlainWords, Words  # noqa: PLC0415 - of Jinja2, slow

    style = static("notice.css")
    words = (Words if form == "html" else PlainWords).of(language)
    facts = {"page": page, "w": words, "claims": load_claims(), "form": form}
    template = environment(escape=form == "html").get_template("notice.j2")
    text = template.render(facts, style=style, policy=policy(style))
    return _BLANK_LINES.sub("\n\n", text).strip() + "\n"
