"""Read the contents of a store, a file or a sidecar's data after a test."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def rows(path: Path, table: str = "conferencing") -> list[dict[str, Any]]:
    """Return the rows of a table; none if it does not exist."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(f'SELECT * FROM "{table}"')]
        except sqlite3.OperationalError:
            return []


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of an NDJSON file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def addresses(path: Path) -> list[str]:
    """Return the addresses in a store or a file, sorted, with duplicates."""
    found = lines(path) if path.suffix == ".ndjson" else rows(path)
    return sorted(each["client.address"] for each in found)
