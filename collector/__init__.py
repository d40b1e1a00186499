"""Collector: telemetry that holds only allowlisted fields.

    from collector import Collector

    with Collector(schema="conferencing", to="sqlite:///telemetry.db") as telemetry:
        telemetry.emit({"ip_address": "203.0.113.7", "chat": ["never leaves this process"]})

or the filter alone:

    from collector import Filter, load_schema

    filter = Filter(load_schema("conferencing"))
    admission = filter.admit(b'{"ip_address": "203.0.113.7", "chat": ["never decoded"]}')
    admission.records, admission.tally, admission.encode()

This façade is lazy: importing it loads none of the libraries behind it. Nothing inside the package
imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.contracts import Batch as Batch
    from collector.contracts import Tally as Tally
    from collector.errors import CollectorError as CollectorError
    from collector.errors import ConfigError as ConfigError
    from collector.errors import DeliveryError as DeliveryError
    from collector.errors import InputError as InputError
    from collector.errors import SchemaError as SchemaError
    from collector.filter import Admission as Admission
    from collector.filter import Filter as Filter
    from collector.keyring import Keyring as Keyring
    from collector.schema import Schema as Schema
    from collector.schema import load_schema as load_schema
    from collector.sdk.account import Account as Account
    from collector.sdk.client import Collector as Collector
    from collector.sinks.sink import Sink as Sink
    from collector.sinks.store import Store as Store

_WHERE = {
    "Account": "collector.sdk.account",
    "Admission": "collector.filter",
    "Batch": "collector.contracts",
    "Collector": "collector.sdk.client",
    "CollectorError": "collector.errors",
    "ConfigError": "collector.errors",
    "DeliveryError": "collector.errors",
    "Filter": "collector.filter",
    "InputError": "collector.errors",
    "Keyring": "collector.keyring",
    "Schema": "collector.schema",
    "SchemaError": "collector.errors",
    "Sink": "collector.sinks.sink",
    "Store": "collector.sinks.store",
    "Tally": "collector.contracts",
    "load_schema": "collector.schema",
}

__all__ = [
    "Account",
    "Admission",
    "Batch",
    "Collector",
    "CollectorError",
    "ConfigError",
    "DeliveryError",
    "Filter",
    "InputError",
    "Keyring",
    "Schema",
    "SchemaError",
    "Sink",
    "Store",
    "Tally",
    "load_schema",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
