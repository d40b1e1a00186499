"""Run one contender in the interpreter of its environment: ``python worker.py JOB RESULT``.

Nothing but the standard library and the contender's own packages is there. A job is JSON with the
contender's module, the variant, the listed fields, and the events; the result has an output for
each event, what a run costs, and the configuration; or what is missing.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

_TIMED = 100
"""Events whose time is taken, from all of the corpus."""


def _seconds() -> float:
    """Return the CPU time of this process and of those that it waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def _peak_mb() -> float:
    """Return the most resident memory of this process, corpus included; programs that it starts
    are smaller. What ``getrusage`` says begins with the memory of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _run(job: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    module = importlib.import_module(f"benchmarks.leaks.contenders.{job['module']}")
    contender = module.make(job["variant"], job["spec"])
    events = [(shape, text) for shape, text in job["events"]]
    timed, sample = contender.timed or contender.run, events[:: 1 + len(events) // _TIMED]
    timed(sample)  # it may remember things
    before = _seconds()
    timed(sample)
    spent = _seconds() - before
    return {
        "outputs": contender.run(events),
        "us": spent / max(1, len(sample)) * 1e6,
        "peak_mb": _peak_mb(),
        "configuration": contender.configuration,
        "version": contender.version,
    }


def main() -> None:
    """Do the job of the arguments."""
    given, told = map(Path, sys.argv[1:])
    job = json.loads(given.read_text(encoding="utf-8"))
    try:
        result = _run(job)
    except ImportError as error:
        result = {"missing": f"{error.name} is not installed"}
    told.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
