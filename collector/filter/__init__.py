"""From untrusted bytes to minimised records: the only place where events are parsed."""

from __future__ import annotations

from collector.filter.admission import Admission
from collector.filter.run import Filter

__all__ = ["Admission", "Filter"]
