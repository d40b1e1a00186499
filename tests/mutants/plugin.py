"""The pytest plugin for runs with mutants: ``-p tests.mutants.plugin``.

It does not shrink failing examples, because that takes longer than finding them. If
``COLLECTOR_REACH`` names a file, the plugin writes there as JSON which lines of which files each
test reached, and how long the test took. ``COLLECTOR_MUTATED`` has the paths of the files, one a
line. ``COLLECTOR_CPU`` is a test's limit of CPU seconds; the process ends when a test exceeds it.
``COLLECTOR_SWAPPED`` is a file with the mutants that ``tests.mutants.swapped`` runs.
"""

from __future__ import annotations

import json
import os
import resource
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import pytest
from coverage import Coverage
from hypothesis import Phase, settings

from tests.mutants.swapped import run

_REACH = os.environ.pop("COLLECTOR_REACH", "")
_FILES = os.environ.pop("COLLECTOR_MUTATED", "").splitlines()
_SWAPPED = os.environ.pop("COLLECTOR_SWAPPED", "")
cpu_seconds: int = int(os.environ.pop("COLLECTOR_CPU", "0"))
"""The CPU seconds that a test may take; 0 sets no limit."""
_COVERAGE = Coverage(data_file=None, include=_FILES, config_file=False) if _REACH else None
_seconds: dict[str, float] = defaultdict(float)

if _COVERAGE is not None:
    _COVERAGE.start()


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Change the profile of Hypothesis, which ``tests/conftest.py`` has loaded by now."""
    some = (Phase.explicit, Phase.reuse, Phase.generate)
    settings.register_profile("mutants", settings(), phases=some)
    settings.load_profile("mutants")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the mutants of a file, each in a child, instead of the tests."""
    if _SWAPPED:
        run(session, Path(_SWAPPED))
    return bool(_SWAPPED) or None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Record what a test reaches, including its fixtures, or limit its CPU time."""
    if cpu_seconds:
        spent = round(process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + cpu_seconds, resource.RLIM_INFINITY))
    if _COVERAGE is not None:
        _COVERAGE.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        if _COVERAGE is not None:
            _COVERAGE.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the times of a test."""
    _seconds[report.nodeid] += report.duration


def pytest_sessionfinish() -> None:
    if _COVERAGE is None:
        return
    _COVERAGE.stop()
    data = _COVERAGE.get_data()
    lines = {
        str(Path(file).relative_to(Path.cwd())): data.contexts_by_lineno(file)
        for file in data.measured_files()
    }
    said = {"seconds": _seconds, "lines": lines}
    Path(_REACH).write_text(json.dumps(said), "utf-8")
