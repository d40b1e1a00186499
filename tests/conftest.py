"""What every test shares: Hypothesis profiles, and where the public test data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("COLLECTOR_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")

_CORPORA = Path(os.environ.get("COLLECTOR_CORPORA", "../shared/corpora"))


def required(what: str) -> None:
    """Skip a test whose surroundings are missing; fail it where everything must be there."""
    message = f"{what} is not here"
    if os.environ.get("COLLECTOR_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of public test data."""
    if not _CORPORA.is_dir():
        required("the test data (COLLECTOR_CORPORA)")
    return _CORPORA
