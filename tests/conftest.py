"""What every test shares: Hypothesis profiles, and where the public test data lies."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, settings

from tests.support.deadline import kill_at_timeout
from tests.support.s3 import proxy, s3  # noqa: F401 - fixtures

settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("COLLECTOR_EXAMPLES", "10")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")
IS_WHOLE = settings().max_examples >= 100
"""Whether each combination of values is tried, as in `make nightly`; else each value in some."""

# Hundreds of processes start in these tests: none of them has to compile everything anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The command line sets it, in this process too; children are forked from one that has it already.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and so their processes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CORPORA = Path(os.environ.get("COLLECTOR_CORPORA", "../shared/corpora"))


def required(what: str) -> None:
    """Skip a test whose surroundings are missing; fail it where everything must be there."""
    message = f"{what} is not here"
    if os.environ.get("COLLECTOR_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def required_root() -> None:
    """Skip a test that looks into a sidecar, which no other process of its user may."""
    if os.geteuid():
        required("root, to look into another process")


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


def pytest_collection() -> None:
    """Almost all that is made meanwhile stays: to look for garbage takes a tenth of the time."""
    gc.disable()


def _settle() -> None:
    """What is there by now stays: tests that collect garbage need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Modules are loaded, and hardly anything of it is garbage."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The tests of a module leave much in caches, as Hypothesis does."""
    if nextitem is None or nextitem.path != item.path:
        _settle()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A test that takes too long takes its processes along."""
    kill_at_timeout()


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Limit the teardown of a test that failed: pytest has cancelled ``faulthandler_timeout``."""
    seconds = float(node.config.getini("faulthandler_timeout"))
    if seconds and isinstance(node, pytest.Item):
        stderr = node.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
