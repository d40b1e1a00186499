"""A worker that tries each forbidden thing where another one accepts its first connection.

``python -m collector.server.sandbox_probe CHANNEL KEYS`` is started, set up and confined as a
worker is (``collector.server.worker``); then it says what it could do, and waits for its end.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from collector.sandbox.attempts import ATTEMPTS
from collector.server import worker
from collector.server.channel import framed
from collector.server.messages import Tried
from collector.server.receivers import Receiver

_MOST_DESCRIPTORS = 1 << 13
"""The lowest numbers, from which a process has its descriptors."""
_NULL = os.makedev(1, 3)
"""``/dev/null``: the kernel's list of devices (Linux, ``admin-guide/devices.txt``)."""


def main() -> None:
    """Run it until the process that has started it closes the channel."""
    worker.main(_Probe)


class _Probe(worker.Worker):
    async def serve(self, receivers: Sequence[Receiver], *, is_confined: bool) -> None:
        """Try everything in this thread, and in one that is started now; nothing is accepted."""
        del receivers
        in_thread = await asyncio.to_thread(_not_refused)
        self.channel.send(framed(Tried(is_confined, _not_refused(), in_thread, _open_files())))
        await asyncio.Event().wait()


def _not_refused() -> list[int]:
    return [number for number, each in enumerate(ATTEMPTS) if not each.is_refused()]


def _open_files() -> int:
    """Return how many descriptors lead to a file, a directory or a device but ``/dev/null``."""
    found = 0
    for descriptor in range(_MOST_DESCRIPTORS):
        with suppress(OSError):
            status = os.fstat(descriptor)
            is_file = not (stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode))
            found += is_file and status.st_rdev != _NULL and stat.S_IFMT(status.st_mode) != 0
    return found


if __name__ == "__main__":
    from collector.server import sandbox_probe  # noqa: PLW0406 - as that of a worker

    sandbox_probe.main()
