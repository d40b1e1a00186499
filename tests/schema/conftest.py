"""Loading made-up documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from collector.errors import Fault, SchemaError
from collector.schema import Schema, load_schema

Loader = Callable[[str], Schema]
Faults = Callable[[str], tuple[Fault, ...]]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    """Loads a document from its text."""
    path = tmp_path / "made-up.yaml"

    def load(text: str) -> Schema:
        path.write_bytes(text.encode(errors="surrogateescape"))
        return load_schema(path)

    return load


@pytest.fixture
def faults(load: Loader) -> Faults:
    """The faults of a document; empty if it loads."""

    def faults(text: str) -> tuple[Fault, ...]:
        try:
            load(text)
        except SchemaError as error:
            return error.faults
        return ()

    return faults
