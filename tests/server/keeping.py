"""A keeper with everything that it has, and places for workers that only a test speaks from."""

from __future__ import annotations

import asyncio
import socket
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from termios import TIOCOUTQ
from time import monotonic
from unittest.mock import patch

import uvloop

from collector.config import examine
from collector.contracts import Batch
from collector.ledger import Audit, opened
from collector.server.channel import Frames, framed, frames_of_keeper
from collector.server.components import Components
from collector.server.keeper import Keeper
from collector.server.messages import (
    Answers,
    Failed,
    FromKeeper,
    Ready,
    Setup,
    Stop,
)
from collector.server.preflight import prepare
from collector.server.worker_process import WorkerProcess
from collector.spool.tables import pending_batches
from tests.ops.logs import log_to
from tests.support.deadline import WAIT_SECONDS

_READY = framed(Ready(is_confined=False))


class Place(WorkerProcess):
    """The keeper's ends of a process that is not there; the test has the others."""

    def __init__(self) -> None:
        self.channel, self.theirs = socket.socketpair()
        self.keys, self.their_keys = socket.socketpair()
        self.theirs.setblocking(False)

    def end(self) -> None:
        self.channel.close()
        self.keys.close()


class ScriptedWorker(Place):
    """A worker that a test speaks for: it says that it is ready."""

    def __init__(self, *, starts: bool = True) -> None:
        super().__init__()
        self.outcomes: dict[int, int] = {}
        self.heard: list[FromKeeper] = []
        self._starts = starts

    async def serve(self) -> None:
        loop, frames = asyncio.get_running_loop(), frames_of_keeper()
        try:
            await loop.sock_recv(self.theirs, 1)
            while data := await loop.sock_recv(self.theirs, 1 << 16):
                for message, _ in frames.feed(data):
                    self.heard.append(message)
                    await self._answer(message)
        except OSError:
            pass
        self.theirs.close()
        self.their_keys.close()

    async def _answer(self, message: FromKeeper) -> None:
        if isinstance(message, Setup):
            await self.say(framed(Ready(False) if self._starts else Failed(True)))
        elif isinstance(message, Answers):
            self.outcomes.update((number, outcome) for number, outcome, _ in message.outcomes)
        elif isinstance(message, Stop):
            self.theirs.shutdown(socket.SHUT_RDWR)

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.theirs, data)


def run(work: Awaitable[None]) -> None:
    """Run it on the event loop of a sidecar."""

    async def within() -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(within())


async def until(holds: Callable[[], object]) -> None:
    end = monotonic() + WAIT_SECONDS
    while not holds():
        assert monotonic() < end, "it waits, or memory is counted that is not used"
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)


@dataclass
class Heard:
    """What came of bytes: whether the keeper believed no more, and what it answered, by number."""

    is_distrusted: bool
    outcomes: list[tuple[int, int, list[int]]] = field(default_factory=list)


class Keeping:
    """The parts of a sidecar but its workers; a keeper is made for each that is said."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self.log: list[str] = []
        """The lines of its log."""

    def hear(
        self,
        *pieces: bytes,
        before: bytes = _READY,
        reads: bool = True,
        now: datetime | None = None,
        asked: bytes = b"",
    ) -> Heard:
        """Say pieces in a worker's place, after ``before``, and ask for keys. Nothing of them is
        left in the keeper's count of memory."""
        return asyncio.run(self._hear(pieces, before, reads, now, asked))

    async def _hear(
        self,
        pieces: tuple[bytes, ...],
        before: bytes,
        reads: bool,
        now: datetime | None,
        asked: bytes,
    ) -> Heard:
        loop, (other, place) = asyncio.get_running_loop(), (Place(), Place())
        with ExitStack() as stack:
            for line in (place.theirs, place.their_keys, other.theirs, other.their_keys):
                stack.enter_context(line)
            written = StringIO()
            keeper = Keeper(self.components, log_to(written), stack, [other, place])
            if now is not None:
                stack.enter_context(patch("collector.filter.recheck.utc_now", lambda: now))
            starting = asyncio.create_task(keeper.start())
            answers: list[tuple[int, int, list[int]]] = []
            reading = asyncio.create_task(_read(place.theirs, answers)) if reads else None
            try:
                for piece in (before, *pieces):
                    async with asyncio.timeout(WAIT_SECONDS):
                        await loop.sock_sendall(place.theirs, piece)
                    if asked:
                        await asyncio.wait([starting])
                        place.their_keys.sendall(asked)
                        await until(lambda: not keeper.ready)
                await until(lambda: _is_taken(place.theirs, keeper))
                place.theirs.shutdown(socket.SHUT_WR)
            except OSError:  # it is closed
                pass
            await asyncio.wait([starting])
            await until(lambda: not keeper.ready and not keeper._budget.used)
            stopping = asyncio.create_task(keeper.stop(0))
            await asyncio.sleep(0)
            other.theirs.close()
            await stopping
            if reading is not None:
                await reading
            starting.exception()
            place.end()
            other.end()
        lines = written.getvalue().splitlines()
        self.log += lines
        return Heard(any('"worker_distrusted"' in line for line in lines), answers)

    def batches(self) -> list[Batch]:
        """All batches in the spool."""
        found = list(pending_batches(self.components.spool.path))
        assert None not in found
        return [each for each in found if each is not None]

    def ledger(self) -> Audit:
        """What the ledger says."""
        with opened(self.components.spool.path) as ledger:
            return ledger.verify()


def _is_taken(line: socket.socket, keeper: Keeper) -> bool:
    """Whether the keeper has read everything, and stored what was whole."""
    waiting = array("i", [0])
    ioctl(line, TIOCOUTQ, waiting)
    reserved = sum(link.frames.reserved for link in keeper._links)
    return not waiting[0] and keeper._budget.used == reserved


async def _read(line: socket.socket, answers: list[tuple[int, int, list[int]]]) -> None:
    """Take what the keeper says, until it closes."""
    loop = asyncio.get_running_loop()
    frames: Frames[FromKeeper] = frames_of_keeper()
    try:
        await loop.sock_recv(line, 1)
        while data := await loop.sock_recv(line, 1 << 16):
            for message, _ in frames.feed(data):
                if isinstance(message, Answers):
                    answers += message.outcomes
    except OSError:
        pass


def settings(folder: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of what is opened in a folder."""
    places = {f"COLLECTOR__{name}__ADDRESS": "off" for name in ("GRPC", "ADMIN")}
    return {
        **places,
        "COLLECTOR__HTTP__ADDRESS": "127.0.0.1:0",
        "COLLECTOR__DATA": str(folder / "data"),
        "COLLECTOR__SANDBOX": "off",
        **(environ or {}),
    }


@contextmanager
def keeping(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[Keeping]:
    """Open everything in a folder. Nothing is delivered, so all that is stored is in the spool."""
    with ExitStack() as stack:
        components = prepare(examine(None, settings(folder, environ)))
        components.open(stack)
        yield Keeping(components)
