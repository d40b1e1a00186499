"""Run a program in a child of the fork server, which has loaded the SDK.

Without coverage: measuring takes time, and an interrupt in the middle of it would break the locks
of the coverage tool.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from tests.support.deadline import WAIT_SECONDS
from tests.support.forkserver import begin

PATIENCE = {"COLLECTOR_SDK_EXIT_TIMEOUT": "60"}
"""The environment of a program that ends when all it emitted is delivered, also on a machine that
stands still."""
_ROOT = Path(__file__).parents[2]


def run_code(
    code: str, *arguments: object, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code as ``python -c`` does, with variables that are set besides."""
    return run_module("tests.sdk.program", code, *arguments, environ=environ)


def run_module(
    module: str, *arguments: object, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a module as a program."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    words = list(map(str, arguments))
    with TemporaryFile() as out, TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = nothing.fileno(), out.fileno(), err.fileno()
        process = begin(module, words, streams, _ROOT, {**ours, **(environ or {})})
        try:
            code = process.wait(2 * WAIT_SECONDS)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(words, code, out.read().decode(), err.read().decode())


if __name__ == "__main__":
    program = sys.argv.pop(1)
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
