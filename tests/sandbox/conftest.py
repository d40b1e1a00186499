"""What tests of the sandbox share: a kernel that has one, and a process that is confined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.sandbox import support
from tests.conftest import required
from tests.sandbox.confined import Confined, confined
from tests.support.certificates import Authority


@pytest.fixture(scope="session", autouse=True)
def _kernel() -> None:
    if lacks := support().lacks:
        required(" and ".join(lacks))


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate for localhost, its key, and its authority."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    issued = authority.issue("server")
    issued.key.chmod(0o600)
    return issued.certificate, issued.key, authority.own.certificate


@pytest.fixture(scope="package")
def worker(pair: tuple[Path, Path, Path]) -> Iterator[Confined]:
    """A confined process that serves."""
    certificate, key, authority = pair
    with confined((certificate, key), authority) as running:
        yield running
