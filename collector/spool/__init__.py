"""The durable queue between the filter and the sinks, with its ledger, in one SQLite file."""

from __future__ import annotations

from collector.spool.beside import note, rotate
from collector.spool.spool import FILE_NAME, LIMIT, Spool, State

__all__ = ["FILE_NAME", "LIMIT", "Spool", "State", "note", "rotate"]
