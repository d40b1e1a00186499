"""The SDK: minimise telemetry inside the application, before anything leaves the process.

    from collector import Collector

    with Collector(schema="conferencing", to="sqlite:///telemetry.db") as telemetry:
        telemetry.emit({"ip_address": "203.0.113.7", "chat": ["never leaves this process"]})

The package imports a module on the first use of one of its names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.sdk.account import Account as Account
    from collector.sdk.client import Collector as Collector
    from collector.sdk.host import host_event as host_event
    from collector.sdk.withdrawal import Withdrawal as Withdrawal

_MODULES = {
    "Account": "collector.sdk.account",
    "Collector": "collector.sdk.client",
    "Withdrawal": "collector.sdk.withdrawal",
    "host_event": "collector.sdk.host",
}

__all__ = ["Account", "Collector", "Withdrawal", "host_event"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
