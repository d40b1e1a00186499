"""A configuration with two sinks and somebody who is responsible, for tests of papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from collector.config import Config, load
from collector.proof.flows import Flows, flows
from collector.schema import load_schema

__all__ = ["ABOUT", "configured", "matrix"]

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
    """The settings, with some sections instead."""
    path = folder / "collector.yaml"
    path.write_bytes(orjson.dumps({"about": ABOUT, "sinks": _SINKS} | sections))
    return load(path)


def matrix(config: Config, schema: str | Path = "conferencing") -> Flows:
    """Its flows."""
    return flows(config, load_schema(schema))
