"""A configuration with two sinks and a controller, for tests of notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from collector.config import Config, load
from collector.routing import Flows, flows
from collector.schema import load_schema
from collector.schema.review import ApprovedCopy, Review, review

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


def matrix(config: Config, schema: str | Path = "conferencing") -> Flows:
    """Compute its flows."""
    return flows(config, load_schema(schema))


def unreviewed(found: Flows) -> Review:
    """Review a schema of which nobody has approved a field."""
    return review(found.schema, ApprovedCopy(Path("none.reviewed.yaml")))
