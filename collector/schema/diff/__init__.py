"""What a new version of a schema lets through that the old one does not."""

from __future__ import annotations

from collector.schema.diff.change import Change
from collector.schema.diff.comparison import Comparison, compare

__all__ = ["Change", "Comparison", "compare"]
