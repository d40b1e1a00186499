"""Put each kept fault into a copy of the tree: ``python -m tests.faults [NAME…] [--jobs N]``.

``ROOM/NAME.patch`` is a patch for ``git apply``. A sentence about what is wrong and a line ``Found
by:`` precede the first ``diff --git``. The line names the tests that must find the fault, as node
ids or files. A fault is found when one of them fails in a copy with the fault, and all of them pass
in a copy without faults. NAME is a room, a name, or ``ROOM/NAME``. Exit 1 if a fault is not found,
or does not apply.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from tests.support.copies import check_imported, copy_tree, run

_FAULTS = Path(__file__).parent
_SECONDS = 300.0
"""The time limit for the tests of one fault; far more than they need on a busy machine."""
_PYTEST = ("-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", "--hypothesis-seed=0")
_FAILED = 1
"""pytest's exit code when tests have failed. With other codes it could not collect or run them."""


@dataclass(frozen=True)
class Fault:
    """A patch, and the statements in its first lines."""

    name: str
    sentence: str
    tests: tuple[str, ...]
    patch: Path


def read(path: Path) -> Fault:
    """Read a patch. Raises ``ValueError`` if its first lines are not those of a fault."""
    name = f"{path.parent.name}/{path.stem}"
    about, patch, _ = path.read_text("utf-8").partition("\ndiff --git ")
    sentence, found_by, tests = about.partition("\nFound by:")
    if not (patch and found_by and sentence.strip() and tests.strip()):
        raise ValueError(f"{name}: a sentence, `Found by: TEST…` and a patch are needed")
    return Fault(name, " ".join(sentence.split()), tuple(tests.split()), path)


def outcome(fault: Fault) -> str:
    """Return ``found``, or why the fault was not found."""
    with TemporaryDirectory(prefix="fault-") as directory:
        tree = Path(directory).resolve()
        copy_tree(tree)
        applied = subprocess.run(
            ["git", "apply", str(fault.patch)],
            cwd=tree,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(tree.parent)},
            check=False,
            capture_output=True,
            text=True,
        )
        if applied.returncode:
            return f"does not apply: {applied.stderr.splitlines()[0]}"
        check_imported(tree)
        try:
            done = run(tree, [*_PYTEST, "-x", *fault.tests], seconds=_SECONDS)
        except subprocess.TimeoutExpired:
            return f"its tests take longer than {_SECONDS:.0f} s"
    if done.returncode == _FAILED:
        return "found"
    if done.returncode == 0:
        return "NOT FOUND"
    return f"pytest exits with {done.returncode}: {done.stdout.strip().splitlines()[-1]}"


def fail_without(faults: Sequence[Fault], jobs: int) -> str:
    """Return pytest's output if a test fails without a fault, else an empty text."""
    tests = sorted({test for fault in faults for test in fault.tests})
    with TemporaryDirectory(prefix="no-fault-") as directory:
        tree = Path(directory).resolve()
        copy_tree(tree)
        check_imported(tree)
        done = run(tree, [*_PYTEST, "-n", str(jobs), *tests], seconds=_SECONDS * len(faults))
    return done.stdout if done.returncode else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for each fault, and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.faults", description="Look for kept faults.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="rooms or faults; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults at once")
    options = parser.parse_args(arguments)
    faults = [read(path) for path in sorted(_FAULTS.glob("*/*.patch"))]
    for name in options.names:
        if not any(name in _names(fault) for fault in faults):
            parser.error(f"there is no fault {name}")
    if options.names:
        faults = [each for each in faults if not _names(each).isdisjoint(options.names)]
    if said := fail_without(faults, options.jobs):
        print(said, "These tests fail without any fault.", sep="\n")
        return 1
    lost = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for fault, (found, seconds) in zip(faults, pool.map(_timed, faults), strict=True):
            lost += found != "found"
            print(f"{fault.name:40} {seconds:5.1f} s  {found:10} {fault.sentence}", flush=True)
    print(f"{len(faults) - lost} of {len(faults)} faults found")
    return 1 if lost else 0


def _names(fault: Fault) -> frozenset[str]:
    return frozenset({fault.name, *fault.name.split("/")})


def _timed(fault: Fault) -> tuple[str, float]:
    start = monotonic()
    return outcome(fault), monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
