"""The durable queue between the filter and the sinks, with its ledger, in one SQLite file."""

from __future__ import annotations

from collector.spool.ledger_writer import note, rotate
from collector.spool.recover import check
from collector.spool.spool import FILE_NAME, LIMIT, Spool

__all__ = ["FILE_NAME", "LIMIT", "Spool", "check", "note", "rotate"]
