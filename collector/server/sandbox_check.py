"""The claims' check ``sandbox``: a worker of this configuration tries each forbidden action.

The worker is a separate process beside a running sidecar's workers. It is started, set up and
confined as they are, but with other ports, all on this machine. ``python -m
collector.server.sandbox_check CHANNEL KEYS`` is that process. At the point where another worker
accepts its first connection, it reports what it could do, and waits to be ended.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import stat
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from collector.claims.document import SERVING_CHECKS
from collector.claims.findings import ClaimFinding, Found
from collector.claims.verification import sentence
from collector.config import Address, Config
from collector.errors import CollectorError, ConfigError
from collector.keyring import Keyring
from collector.routing.schemas import configured
from collector.sandbox import support
from collector.sandbox.attempts import ATTEMPTS
from collector.server import listeners, worker
from collector.server.channel import framed, frames_of_probe
from collector.server.components import limits
from collector.server.listeners import Location
from collector.server.messages import ChannelError, Tried
from collector.server.receivers import OpenSockets, event_locations
from collector.server.wiring import Receiver
from collector.server.worker_process import WorkerProcess
from collector.server.worker_setup import worker_setup

_MODULE = "collector.server.sandbox_check"
_SECONDS = 60.0
_KEY_REQUEST_BYTES = 10
_MOST_DESCRIPTORS = 1 << 13
"""Descriptors below this number are examined: a process gets the lowest free ones."""
_NULL = os.makedev(1, 3)
"""``/dev/null``, by the kernel's list of devices (Linux, ``admin-guide/devices.txt``)."""


def try_worker(config: Config) -> Found:
    """Run the checks of receiving processes, which may take some seconds; never raises."""
    return dict.fromkeys(SERVING_CHECKS, tuple(_findings(config)))


def _findings(config: Config) -> Iterable[ClaimFinding]:
    if config.sandbox == "off":
        message = "The sandbox is off, so the kernel does not confine the processes that receive."
        return [_open(message, "Set `sandbox: auto` in the configuration.")]
    if lacks := support().lacks:
        message = f"This machine's kernel cannot confine processes: it lacks {', '.join(lacks)}."
        return [_open(message, _KERNEL)]
    try:
        tried = _tried(config)
    except CollectorError as error:
        message = f"No process that receives could be started. {sentence(error.message)}"
        return [_open(message, "Correct the configuration, then run this again.")]
    except OSError:
        message = "No process that receives could be started on this machine."
        return [_open(message, "Check that there is a directory for temporary files (`TMPDIR`).")]
    if tried is None:
        message = "The process that was tried ended before all attempts were made."
        return [_open(message, "Run this again. If it stays, report it as SECURITY.md says.")]
    if not tried.is_confined:
        return [_open("The kernel did not let the process confine itself.", _KERNEL)]
    return _breaches(tried)


_KERNEL = "Run this where the sidecar runs: Linux 5.13 or newer, with Landlock and seccomp."
_REPORT = "Stop the sidecar, and report this as SECURITY.md says."


def _open(message: str, advice: str) -> ClaimFinding:
    return ClaimFinding(message, is_open=True, advice=advice)


def _breaches(tried: Tried) -> Iterable[ClaimFinding]:
    """Yield each action that was not refused, once."""
    found = dict.fromkeys(ATTEMPTS[number].what for number in (*tried.main, *tried.thread))
    for what in found:
        message = f"A process that receives, and that the kernel confines, could {what}."
        yield ClaimFinding(message, advice=_REPORT)
    if tried.files:
        message = "A process that receives has files that were open before it was confined."
        yield ClaimFinding(message, advice=_REPORT)


def _tried(config: Config) -> Tried | None:
    """Have a worker try everything; return ``None`` if it ends before its report. Raises
    ``CollectorError`` if it cannot be started."""
    schemas, certificates = configured(config), listeners.certificates(config)
    with tempfile.TemporaryDirectory(prefix="collector-claims-") as name, ExitStack() as stack:
        sockets = OpenSockets(_nearby(config, Path(name)))
        stack.callback(sockets.close)
        setup = worker_setup(
            config,
            schemas,
            sockets,
            limits=limits(config),
            certificates=certificates,
            workers=1,
            confine=True,
        )
        process = WorkerProcess(_MODULE)
        stack.callback(process.end)
        process.channel.settimeout(_SECONDS)
        try:
            numbers = [each.fileno() for each in sockets.listening.values()]
            socket.send_fds(process.channel, [b"\0"], numbers)
            process.channel.sendall(framed(setup))
            return _told(process, setup.keys)
        except (OSError, ChannelError):
            return None


def _nearby(config: Config, folder: Path) -> dict[str, Location]:
    """Return the locations of the worker's receivers: free loopback ports, and files in a
    folder."""
    return {
        name: folder / name if isinstance(place, Path) else Address("127.0.0.1", 0)
        for name, place in event_locations(config).items()
    }


def _told(process: WorkerProcess, references: list[str]) -> Tried | None:
    """Wait for a worker's report, and meanwhile give it pseudonym keys that are of no use
    elsewhere. Raises ``OSError`` and ``ChannelError``, and ``ConfigError`` if it cannot start."""
    frames = frames_of_probe()
    keyring, end = Keyring(), monotonic() + _SECONDS
    with selectors.DefaultSelector() as selector:
        for each in (process.channel, process.keys):
            selector.register(each, selectors.EVENT_READ)
        while (left := end - monotonic()) > 0:
            ready = {key.fileobj for key, _ in selector.select(left)}
            if process.keys in ready and (asked := process.keys.recv(_KEY_REQUEST_BYTES)):
                number, period = int.from_bytes(asked[:2], "big"), asked[2:]
                key = keyring(references[number], int.from_bytes(period, "big"))
                process.keys.sendall(period + key)
            if process.channel in ready:
                if not (data := process.channel.recv(1 << 16)):
                    return None
                for message, _ in frames.feed(data):
                    if isinstance(message, Tried):
                        return message
                    if not message.is_confined:
                        return Tried(is_confined=False, main=[], thread=[], files=0)
                    raise ConfigError("E207", "it cannot listen")
    return None


class Probe(worker.Worker):
    """A worker that tries each forbidden action, and accepts no connection."""

    async def serve(self, receivers: Sequence[Receiver], *, is_confined: bool) -> None:
        """Try everything in this thread and in a new one; accept no connection."""
        del receivers
        in_thread = await asyncio.to_thread(_not_refused)
        self.channel.send(framed(Tried(is_confined, _not_refused(), in_thread, _open_files())))
        await asyncio.Event().wait()


def _not_refused() -> list[int]:
    return [number for number, each in enumerate(ATTEMPTS) if not each.is_refused()]


def _open_files() -> int:
    """Return how many descriptors lead to a file, a directory, or a device except ``/dev/null``."""
    found = 0
    for descriptor in range(_MOST_DESCRIPTORS):
        with suppress(OSError):
            status = os.fstat(descriptor)
            is_file = not (stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode))
            found += is_file and status.st_rdev != _NULL and stat.S_IFMT(status.st_mode) != 0
    return found


if __name__ == "__main__":
    from collector.server import sandbox_check  # noqa: PLW0406 - as for a worker

    worker.main(sandbox_check.Probe)
