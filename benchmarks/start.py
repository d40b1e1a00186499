"""The start of a command: ``collector filter`` on one event, against an interpreter that imports
only the libraries that a command cannot do without.
"""

from __future__ import annotations

import sys

from benchmarks.processes import COLLECTOR, Process, Source, in_turns
from benchmarks.results import StartResult, paired


def measure(source: Source, runs: int) -> StartResult:
    """Run both in turns on a file of one event. Raises ``BenchmarkError`` when one fails."""
    settings = ("--schema", "conferencing")
    command = Process(
        "start of collector filter",
        (*COLLECTOR, str(source.path), *settings),
        source.beside("start.printed"),
    )
    imports = Process(
        "start of the libraries",
        (sys.executable, "-c", "import msgspec, orjson, typer"),
        source.beside("imports.printed"),
    )
    in_turns([command, imports], 1)  # whatever a first run may have to read
    for process in (command, imports):
        process.runs.clear()
    in_turns([command, imports], runs)
    used = command.result(), imports.result()
    return StartResult(*used, paired(used[0].cpu_seconds, used[1].cpu_seconds))
