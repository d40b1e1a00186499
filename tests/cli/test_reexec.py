"""Which variables are switches of the interpreter, and which it may keep."""

from __future__ import annotations

import os
import subprocess
import sys

from collector.cli import switches
from tests.support.deadline import WAIT_SECONDS

_AGAIN = """
import os, sys
from collector.cli import reexec
reexec()
print(sys.argv[1:], sys.flags.dev_mode, os.environ.get("PYTHONDEVMODE"), os.getpid())
"""


def test_all_of_pythons_but_what_is_harmless() -> None:
    bad = {"PYTHONINSPECT", "PYTHONPERFSUPPORT", "PYTHON_SOME_DAY", "LD_DEBUG", "MALLOC_TRACE"}
    good = {"PATH", "PYTHON", "PYTHONPATH", "PYTHONHASHSEED", "LD_LIBRARY_PATH", "COLLECTOR__DATA"}
    assert switches(bad | good) == bad


def test_the_same_process_begins_again() -> None:
    """It keeps its arguments and its number, without the switch."""
    command = [sys.executable, "-c", _AGAIN, "serve", "--config", "a b"]
    environ = os.environ | {"PYTHONDEVMODE": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=WAIT_SECONDS)
    assert said.strip() == f"['serve', '--config', 'a b'] False None {process.pid}"
