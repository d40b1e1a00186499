"""Recordings: meeting content, which a separate process keeps, and only under a host's grant.

    from collector.recording import Recorder

This façade is lazy: only importing ``Recorder`` needs the extra ``recording``. No part of telemetry
imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.recording.access import Caller as Caller
    from collector.recording.recorder import NewChunk as NewChunk
    from collector.recording.recorder import Recorder as Recorder
    from collector.recording.refusals import Refused as Refused
    from collector.recording.states import Terms as Terms

_WHERE = {
    "Caller": "collector.recording.access",
    "NewChunk": "collector.recording.recorder",
    "Recorder": "collector.recording.recorder",
    "Refused": "collector.recording.refusals",
    "Terms": "collector.recording.states",
}

__all__ = ["Caller", "NewChunk", "Recorder", "Refused", "Terms"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
