"""A configuration with two sinks and a controller, for tests of notices."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import orjson

from collector.claims.findings import Verdict
from collector.claims.promises import Promise
from collector.config import Config, load
from collector.pages.model import Page, build
from collector.schema import load_schema
from collector.schema.review import ApprovedCopy, Review, review

NOW = datetime(2026, 12, 1, 14, 2, tzinfo=UTC)
ABOUT = {"controller": "Example GmbH", "contact": "privacy@example.org", "country": "DE"}
_SINKS = {
    "store": {"purposes": ["service_operations", "security"]},
    "ndjson": {
        "path": "records",
        "party": "processor",
        "recipient": "Stats & Co <b>",
        "country": "ID",
        "safeguard": "standard clauses",
        "purposes": ["capacity_planning"],
    },
}


def configured(folder: Path, **sections: Any) -> Config:
    """Load the configuration with some sections replaced."""
    path = folder / "collector.yaml"
    path.write_bytes(orjson.dumps({"about": ABOUT, "sinks": _SINKS} | sections))
    return load(path)


def page_of(
    config: Config,
    schema: str | Path = "conferencing",
    verdicts: Iterable[Promise] = (),
    *,
    reviewed: Review | None = None,
) -> Page:
    """Build its page with a schema, of which nobody has approved a field unless it is said."""
    loaded = load_schema(schema)
    reviews = {loaded.name: reviewed or review(loaded, ApprovedCopy(Path("none.reviewed.yaml")))}
    return build(config, [loaded], verdicts, checked=None, now=NOW, reviews=reviews)


def promised(text: str = "A `plain` sentence.") -> list[Promise]:
    """A promise with each verdict, whose texts are this one, and the two of the first sentence."""
    verdicts: tuple[Verdict, ...] = get_args(Verdict)
    others = [
        Promise(f"p-{each}", text, each, text, text, text, text, (text,)) for each in verdicts
    ]
    return [Promise("no-content", text, "holds"), *others]
