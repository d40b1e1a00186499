"""The contenders: one module each, with the same three methods. One that cannot be is skipped."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from benchmarks.contenders.base import FIELDS, SCHEMA, Contender, Outcome, Record, Unavailable
from benchmarks.data import Corpus

__all__ = ["FIELDS", "NAMES", "SCHEMA", "Contender", "Outcome", "Record", "load", "obstacle"]

NAMES: tuple[str, ...] = (
    "bare",
    "ours",
    "ours_documents",
    "ours_mappings",
    "orjson_projection",
    "simdjson_projection",
    "pydantic_models",
    "duckdb_copy",
    "polars_lazy",
    "pyarrow_json",
    "vrl",
)
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
        except Unavailable as why:
            skipped[name] = str(why)
        else:
            ready.append(module.contender())
    return ready, skipped


def obstacle(contender: Contender, corpus: Corpus) -> str | None:
    """Why a contender does not take part in a corpus; ``None`` if it does."""
    if corpus.schema not in contender.schemas:
        return f"does not know the schema {corpus.schema}"
    if not corpus.admitted and not contender.checks_values:
        return "does not check values, and so would admit what must not be"
    return None
