"""An earlier sidecar against this one: in the same rounds, with one worker and with two.

The earlier one and that with one worker are on one core, that with two workers on two, one of which
is that of the client where there are no others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from benchmarks.results import BenchmarkError
from benchmarks.sidecar import measure
from benchmarks.sidecar.figures import Served
from benchmarks.sidecar.server import Server, collector, cores, stored, two_cores

_CONNECTIONS = 24
"""So many that a server seldom has nothing to do while it waits for the disk."""
_DRAIN_SECONDS = 60.0
_LOOK_SECONDS = 0.3


def commit(checkout: Path) -> str:
    """Return the commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no checkout of git"


def serve(
    effort: measure.Effort, say: Callable[[str], None], place: Path, checkout: Path
) -> list[Served]:
    """Measure the sidecar of a checkout, then ours with one worker and with two, in turns.

    Raises ``BenchmarkError`` if one refuses, fails, or does not keep what it acknowledged.
    """
    core, other = cores()
    effort = replace(effort, connections=max(effort.connections, _CONNECTIONS))
    found = []
    with ExitStack() as stack:
        directories = [
            Path(stack.enter_context(TemporaryDirectory(prefix="collector-benchmarks-", dir=place)))
            for _ in range(3)
        ]
        first, second, third = directories
        servers = [
            stack.enter_context(collector(first, {core}, checkout=checkout)),
            stack.enter_context(collector(second, {core}, workers=1)),
            stack.enter_context(collector(third, two_cores(), workers=2)),
        ]
        names = ["the earlier sidecar", "one worker", "two workers, two cores"]
        for server, name in zip(servers, names, strict=True):
            found.append(Served(name, shares=other in server.cores))
        for number in range(effort.rounds):
            say(f"against an earlier version: round {number + 1} of {effort.rounds}")
            for server, served in zip(servers, found, strict=True):
                served.rounds.append(measure.round_of(server, effort, other, served, _drained))
        for server, served, directory in zip(servers, found, directories, strict=True):
            usage = server.usage()
            served.resident_mb, served.peak_mb = usage.resident_mb, usage.peak_mb
            server.stop()
            served.stored = stored(directory)
            if served.stored != served.acknowledged:
                raise BenchmarkError(f"{served.name} did not keep what it acknowledged")
    return found


def _drained(server: Server) -> None:
    """Wait until the store has everything, as that is work for the same events."""
    until = monotonic() + _DRAIN_SECONDS
    while server.waiting():
        if monotonic() > until:
            raise BenchmarkError("records stay in the spool")
        sleep(_LOOK_SECONDS)
