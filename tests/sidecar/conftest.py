"""Fixtures for tests of the whole sidecar."""

from __future__ import annotations

import sys

import pytest

from tests.support.failing_disk import Say


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Write a line to the terminal although pytest captures output."""

    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", file=sys.stderr)

    return write
