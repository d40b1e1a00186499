"""Run code beside a test: in threads, or in another Python process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from threading import Thread
from typing import Any

from tests.support.deadline import WAIT_SECONDS

STRICT = {"PYTHONWARNINGS": "error"}
"""Turns a script's warnings into errors."""
_ROOT = Path(__file__).parents[2]


@contextmanager
def threads(*functions: Callable[[], object]) -> Iterator[list[Thread]]:
    """Run each function in its own thread. All have ended when the block ends."""
    running = [Thread(target=function, daemon=True) for function in functions]
    for thread in running:
        thread.start()
    try:
        yield running
    finally:
        for thread in running:
            thread.join(WAIT_SECONDS)
    assert not any(thread.is_alive() for thread in running)


def script(
    code: str,
    *arguments: object,
    environ: Mapping[str, str] | None = None,
    fails: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, which can import the tests, and return its output.

    It must exit with 0, unless ``fails``. ``environ`` is added to the environment, and ``options``
    are passed to ``subprocess.run``.
    """
    given = {"capture_output": True, "text": True, "cwd": _ROOT, "timeout": WAIT_SECONDS, **options}
    command = [sys.executable, "-c", dedent(code), *map(str, arguments)]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, env={**os.environ, **(environ or {})}, check=False, **given
    )
    assert fails or done.returncode == 0, done
    return done
