"""The contenders: one module each, with the same three methods. One that cannot be is skipped."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from benchmarks.contenders.base import FIELDS, SCHEMA, Contender, Record

__all__ = ["FIELDS", "NAMES", "SCHEMA", "Contender", "Record", "load"]

NAMES: tuple[str, ...] = ("bare", "ours", "orjson_projection", "pydantic_models")
"""The modules here, in the order in which they are reported; each is named as its contender."""


def load(names: Iterable[str] = NAMES) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that can run here, and for each of the others the reason why it cannot."""
    ready: list[Contender] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            module = import_module(f"benchmarks.contenders.{name}")
        except ModuleNotFoundError as missing:
            skipped[name] = f"{missing.name} is not installed"
        else:
            ready.append(module.contender())
    return ready, skipped
