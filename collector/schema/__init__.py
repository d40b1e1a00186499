"""The allowlist document: its model, its kinds, its loader."""

from __future__ import annotations

from collector.schema.load import load_schema, load_schemas
from collector.schema.model import Schema

__all__ = ["Schema", "load_schema", "load_schemas"]
