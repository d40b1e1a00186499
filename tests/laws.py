"""Run the laws of the filter over random schemas: ``python -m tests.laws NUMBER [SEED]``.

The laws run in rounds with seeds of their own, until so many examples have passed in all. The
number so far is printed after each round; a difference ends the run with exit 1. Schemas have
conditions of sources and of records, elements, quoted names, records at several levels, units and
numbers in text (``tests.strategies.documents``).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_ROOM = Path(__file__).parent / "filter"
_LAW = re.compile(r"@given\((?:(?!@given)[^@])*?schemas\(\)(?:(?!@given)[^@])*?\ndef (test_\w+)")
LAWS = [
    f"{file}::{name}"
    for file in sorted(_ROOM.glob("test_*.py"))
    for name in _LAW.findall(file.read_text("utf-8"))
]
"""The tests that draw a schema: one meaning on every path, conservation, idempotence,
noninterference, and what follows from them."""
_AT_ONCE = 25
"""Examples of each law in a round; the next round draws other schemas."""
_OPTIONS = ("--hypothesis-show-statistics", "--timeout=0", "-ofaulthandler_timeout=0")
_PASSING = re.compile(r"(\d+) passing")


def rounds(seed: int) -> Iterator[int | None]:
    """Run rounds for ever; yield how many examples passed in each, or ``None`` for a difference,
    which pytest has printed."""
    for each in count(seed):
        words = ["-m", "pytest", "-q", f"--hypothesis-seed={each}", *_OPTIONS, *LAWS]
        environ = os.environ | {"COLLECTOR_EXAMPLES": str(_AT_ONCE)}
        command = [sys.executable, *words]
        done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", flush=True)
            yield None
            return
        yield sum(map(int, _PASSING.findall(done.stdout)))


def main(number: str = "100000", seed: str = "0") -> int:
    """Run the laws; returns the exit code."""
    total = 0
    for at, passed in enumerate(rounds(int(seed)), int(seed)):
        if passed is None:
            print(f"seed {at}: a difference, after {total:,} examples without any")
            return 1
        total += passed
        print(f"seed {at}: {total:,} examples of {len(LAWS)} laws, no difference", flush=True)
        if total >= int(number):
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
