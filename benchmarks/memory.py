"""Peak memory: each contender alone in a fresh process, on one payload, once.

``python -m benchmarks.memory FILE [CONTENDER]`` is that process; without a contender it only holds
the events, which is where the others start from.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks.processes import Process, Source, in_turns

CORPUS = "medium"
"""The corpus that it is measured on."""

_RUNS = 3


def measure(names: Iterable[str], source: Source) -> dict[str, float]:
    """Peak resident MB by contender, medians; under ``""`` of the events alone."""
    program = (sys.executable, "-m", "benchmarks.memory", str(source.path))
    processes = [
        Process(f"memory of {name or 'nothing'}", (*program, *filter(None, [name])), printed)
        for name, printed in ((name, source.beside("printed")) for name in ("", *names))
    ]
    in_turns(processes, _RUNS)
    return {
        name: median(process.result().peak_mb)
        for name, process in zip(("", *names), processes, strict=True)
    }


def main(path: str, name: str = "") -> None:
    """Run a contender once on the events of a file."""
    lines = Path(path).read_bytes().splitlines()
    if name:
        # The process that only holds the events loads no contender.
        from benchmarks import contenders  # noqa: PLC0415

        (contender,), _ = contenders.load([name])
        contender.prepare(lines, "conferencing")
        contender.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
