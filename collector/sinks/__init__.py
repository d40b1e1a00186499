"""Sinks: where records go. They see only records, and never one another.

The names below are public. A package needs them to offer a type of sinks under the entry-point
group ``collector.sinks``. ``docs/sinks.md`` explains them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.config.sink_settings import SinkSettings as SinkSettings
    from collector.contracts import Batch as Batch
    from collector.contracts import Record as Record
    from collector.contracts import Removal as Removal
    from collector.errors import DeliveryError as DeliveryError
    from collector.errors import Unacceptable as Unacceptable
    from collector.errors import Unreachable as Unreachable
    from collector.filter.redaction import Rule as Rule
    from collector.filter.redaction import matching as matching
    from collector.filter.redaction import redact as redact
    from collector.filter.stored import foreign_lines as foreign_lines
    from collector.sinks.record_files import lines as lines
    from collector.sinks.sink import ErasableSink as ErasableSink
    from collector.sinks.sink import Holding as Holding
    from collector.sinks.sink import Opening as Opening
    from collector.sinks.sink import Sink as Sink

_MODULES = {
    "Batch": "collector.contracts",
    "DeliveryError": "collector.errors",
    "ErasableSink": "collector.sinks.sink",
    "Holding": "collector.sinks.sink",
    "Opening": "collector.sinks.sink",
    "Record": "collector.contracts",
    "Removal": "collector.contracts",
    "Rule": "collector.filter.redaction",
    "Sink": "collector.sinks.sink",
    "SinkSettings": "collector.config.sink_settings",
    "Unacceptable": "collector.errors",
    "Unreachable": "collector.errors",
    "foreign_lines": "collector.filter.stored",
    "lines": "collector.sinks.record_files",
    "matching": "collector.filter.redaction",
    "redact": "collector.filter.redaction",
}
__all__ = [
    "Batch",
    "DeliveryError",
    "ErasableSink",
    "Holding",
    "Opening",
    "Record",
    "Removal",
    "Rule",
    "Sink",
    "SinkSettings",
    "Unacceptable",
    "Unreachable",
    "foreign_lines",
    "lines",
    "matching",
    "redact",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, because opening a store needs few of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
