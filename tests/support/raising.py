"""Expect Collector's errors by their codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from collector.errors import CollectorError

_E = TypeVar("_E", bound=CollectorError)


@contextmanager
def raises(
    code: str, kind: type[_E], match: str | None = None
) -> Iterator[pytest.ExceptionInfo[_E]]:
    """Expect an error of a type and code. It must have no context, which might hold values."""
    with pytest.raises(kind, match=match) as caught:
        yield caught
    assert caught.value.code == code
    assert caught.value.__context__ is None
