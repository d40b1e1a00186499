"""Read and change tests' SQLite files while another connection has them open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.deadline import WAIT_SECONDS


def query(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a database that may be in use, and return the rows of the last one."""
    rows: list[tuple[Any, ...]] = []
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as db:
        for statement in statements:
            rows = db.execute(statement).fetchall()
    return rows
