"""The sidecar's settings: a YAML file, the environment over it, and defaults under both."""

from __future__ import annotations

from collector.config.load import Loaded, examine, load, read
from collector.config.model import Config
from collector.config.values import Address

__all__ = ["Address", "Config", "Loaded", "examine", "load", "read"]
