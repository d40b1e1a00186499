"""What every test shares: Hypothesis profiles, and where the public test data lies."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.room import Alone, Room

settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("COLLECTOR_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")

# Hundreds of processes start in these tests: none of them has to compile everything anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

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


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """What would be another name of a test in each process (a canary, bytes that are compressed or
    have the time in them), or a long one in every message between them, is none."""
    is_text = isinstance(val, str) and len(val) <= 100 and "canary-" not in val
    return None if is_text or not isinstance(val, bytes | str) else argname


_ROOM = Room()


@pytest.fixture
def alone() -> Alone:
    """For tests of which a part measures time; those that do nothing else are marked ``alone``."""
    return _ROOM.alone


def _measures(item: pytest.Item) -> bool:
    return _is_marked(item) or "alone" in getattr(item, "fixturenames", ())


def _is_marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that have to be alone come last, where they wait for others least."""
    items.sort(key=_measures)


def _settle() -> None:
    """What is there by now stays: tests that collect garbage need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Modules are loaded."""
    _settle()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The tests of a module leave much in caches, as Hypothesis does."""
    if nextitem is None or nextitem.path != item.path:
        _settle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where several processes run tests, one that measures time has the machine for itself."""
    with _ROOM.shared(), _ROOM.alone() if _is_marked(item) else nullcontext():
        return (yield)
