"""What tests of the sandbox share: a kernel that has one."""

from __future__ import annotations

import pytest

from collector.sandbox import support
from tests.conftest import required


@pytest.fixture(scope="session", autouse=True)
def _kernel() -> None:
    if lacks := support().lacks:
        required(" and ".join(lacks))
