"""Untrusted bytes in, minimised records out: the only room that parses events."""

from __future__ import annotations

from collector.filter.admission import Admission
from collector.filter.run import Filter

__all__ = ["Admission", "Filter"]
