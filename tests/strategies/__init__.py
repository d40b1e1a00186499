"""Strategies that draw schemas, and events and payloads around their fields, for any schema."""

from collector.testing._texts import lines
from tests.strategies.documents import schemas
from tests.strategies.mappings import events
from tests.strategies.options import draw_options
from tests.strategies.texts import payloads

__all__ = ["draw_options", "events", "lines", "payloads", "schemas"]
