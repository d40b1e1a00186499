"""Shared by all tests: Hypothesis profiles, and the folder of the public test data."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
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
"""Whether tests try each combination of values, as in `make nightly`, or each value in some
combination."""

# These tests start hundreds of processes, which share compiled modules.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The command line sets this, in this process too. Forked children need a parent that has it
# already.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"

# A shell that starts the tests in the background makes them and their processes ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_ROOT = Path(__file__).parents[1]
_CORPORA = Path(os.environ.get("COLLECTOR_CORPORA", "../shared/corpora"))


def required(what: str) -> None:
    """Skip a test whose prerequisite is missing; fail it if all prerequisites are required."""
    message = f"{what} is not here"
    if os.environ.get("COLLECTOR_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def required_path(found: str | Path | None, what: str) -> Path:
    """Return where something is. Without it, skip the test, or fail it if all prerequisites are
    required."""
    if found is None:
        required(what)
    assert found is not None
    return Path(found)


def required_root() -> None:
    """Skip a test that looks into a sidecar, unless root runs it: other processes of the same user
    may not."""
    if os.geteuid():
        required("root, to look into another process")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of public test data."""
    if not _CORPORA.is_dir():
        required("the test data (COLLECTOR_CORPORA)")
    return _CORPORA


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter's value by its argument if the value differs in each process (a canary,
    compressed bytes, or bytes with the time) or is long: xdist's messages repeat it."""
    is_text = isinstance(val, str) and len(val) <= 100 and "canary-" not in val
    return None if is_text or not isinstance(val, bytes | str) else argname


def pytest_collection(session: pytest.Session) -> None:
    """Turn garbage collection off: nearly all objects stay, and collecting takes a tenth of the
    time. Load all test modules in another order in each worker: in a fresh checkout, each then
    finds most of them compiled by the others."""
    gc.disable()
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    modules = sorted(Path(__file__).parent.rglob("test_*.py"))
    first = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for path in modules[first:] + modules[:first]:
        name = ".".join(path.relative_to(_ROOT).with_suffix("").parts)
        with suppress(Exception, pytest.skip.Exception):  # collection reports it
            import_module(name)


def _settle() -> None:
    """Freeze the objects that exist, so that tests that collect garbage need not look at them
    again."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Freeze the loaded modules, which contain hardly any garbage."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Freeze what a module's tests leave in caches, for example those of Hypothesis."""
    if nextitem is None or nextitem.path != item.path:
        _settle()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Kill a test's processes when the test takes too long."""
    kill_at_timeout()


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Limit the teardown of a test that failed: pytest has cancelled ``faulthandler_timeout``."""
    seconds = float(node.config.getini("faulthandler_timeout"))
    if seconds and isinstance(node, pytest.Item):
        stderr = node.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
