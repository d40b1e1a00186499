"""What a store, a file or a sidecar's data holds after a test."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["addresses", "lines", "rows"]


def rows(path: Path, table: str = "conferencing") -> list[dict[str, Any]]:
    """The rows of a table; none if it is not there."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in db.execute(f'SELECT * FROM "{table}"')]
        except sqlite3.OperationalError:
            return []


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of NDJSON."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def addresses(path: Path) -> list[str]:
    """The addresses in a store or a file, sorted, each as often as it is there."""
    found = lines(path) if path.suffix == ".ndjson" else rows(path)
    return sorted(each["client.address"] for each in found)
