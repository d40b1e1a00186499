"""The sidecar's settings: a YAML file, the environment over it, and defaults under both.

The loader is imported on first use, because most commands need no settings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.addresses import Address
    from collector.config.loading import Loaded, examine, load, read
    from collector.config.model import Config

__all__ = ["Address", "Config", "Loaded", "examine", "load", "read"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(name)
    modules = {"Address": "values", "Config": "model"}
    return getattr(import_module(f"collector.config.{modules.get(name, 'loading')}"), name)
