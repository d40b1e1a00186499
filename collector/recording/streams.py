"""Responses that the recorder sends piece by piece: tracks, manifests, and changes of state."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from itertools import islice
from tarfile import BLOCKSIZE, TarInfo
from typing import Any, Protocol

from collector.ingest.memory import Turns
from collector.ingest.refusals import Headers
from collector.ingest.responses import HttpResponse
from collector.recording.access import Caller
from collector.recording.bodies import StateBody, encoded
from collector.recording.names import MAX_CHUNK_BYTES
from collector.recording.recorder import ReadableTrack, Recorder
from collector.recording.refusals import Refused
from collector.recording.states import StateEvent

HEARTBEAT_SECONDS = 15.0
"""How often an idle stream of events sends a comment, and checks that the caller may read on."""
MOST_STREAMS = 8
"""How many event streams of a recording one caller may hold, so that connections remain for others,
who may want to leave."""
_RANGE = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII).fullmatch
_LINES = 256
"""How many lines of a manifest are sent in one piece; a line has a few hundred bytes."""
_NDJSON = (b"content-type", b"application/x-ndjson")
_OCTETS = (b"content-type", b"application/octet-stream")
_EVENTS: Headers = ((b"content-type", b"text/event-stream"),)


class Run(Protocol):
    """Calls a function that waits for the disk, in a thread."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]: ...


# -- tracks ---------------------------------------------------------------------------------------


class TrackStreams:
    """Streams of tracks, one for each reader. Bytes on their way to readers count against
    ``memory``. When it is used up, a stream waits until other readers have received theirs, or were
    cut off for being too slow."""

    def __init__(self, run: Run, memory: Turns) -> None:
        self._run, self._memory = run, memory

    def response(self, reader: ReadableTrack, track: str, ranges: bytes | None) -> HttpResponse:
        """Respond with the content of a track, or a range of its bytes (RFC 9110, 14); or with a
        tar of age files if only the host can open them."""
        if reader.is_sealed:
            stream = self._stream(_tar(reader, track))
            return HttpResponse(200, ((b"content-type", b"application/x-tar"),), stream=stream)
        accepts = (b"accept-ranges", b"bytes")
        found = None if ranges is None else _range(ranges, reader.size)
        if found is None:
            stream = self._stream(reader.read(0, None))
            return HttpResponse(200, (_OCTETS, accepts), stream=stream, length=reader.size)
        start, end = found
        if start >= end:
            return HttpResponse(416, ((b"content-range", b"bytes */%d" % reader.size),))
        place = (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, reader.size))
        stream = self._stream(reader.read(start, end))
        return HttpResponse(206, (_OCTETS, accepts, place), stream=stream, length=end - start)

    def manifest(self, lines: Iterator[bytes]) -> HttpResponse:
        """Respond with the lines of a manifest."""
        pieces = iter(lambda: b"".join(islice(lines, _LINES)) or None, None)
        return HttpResponse(200, (_NDJSON,), stream=self._stream(pieces))

    async def _stream(self, pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces. Each counts as memory in use until the next one is requested."""
        while True:
            await self._memory.awaited(size := MAX_CHUNK_BYTES, seconds=None)
            try:
                piece = await self._run(next, pieces, None)
                if piece is None:
                    return
                self._memory.give_back(size - len(piece))
                size = len(piece)
                yield piece
                del piece
            finally:
                self._memory.give_back(size)


def _range(value: bytes, size: int) -> tuple[int, int] | None:
    """Return the first byte of a range and its end. ``None`` means that the whole track is sent,
    because there are several ranges or the header is malformed. A range beyond the track is empty:
    its end is not above its start."""
    found = _RANGE(value)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    end = min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < int(found[1]):
        return None
    return int(found[1]), end


def _tar(reader: ReadableTrack, track: str) -> Iterator[bytes]:
    """Yield the age files of a track as a tar: ``TRACK/0.age`` and so on."""
    for number in range(reader.chunks):
        data = reader.sealed(number)
        head = TarInfo(f"{track}/{number}.age")
        head.size, head.mode = len(data), 0o600
        yield head.tobuf() + data + b"\0" * (-len(data) % BLOCKSIZE)
    yield b"\0" * 2 * BLOCKSIZE


# -- events ---------------------------------------------------------------------------------------


class EventStreams:
    """Streams of server-sent events, one for each reader, on one event loop."""

    def __init__(self, recorder: Recorder, run: Run) -> None:
        self._recorder, self._run = recorder, run
        self._loop = asyncio.get_running_loop()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._held: Counter[tuple[str, str]] = Counter()  # by recording and subject
        recorder.subscribe(self._on_change)

    def _on_change(self, recording: str) -> None:
        """Wake the readers of a recording; called in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, recording)

    def _wake(self, recording: str) -> None:
        for event in self._waiting.get(recording, ()):
            event.set()

    async def response(self, caller: Caller, recording: str, since: int | None) -> HttpResponse:
        """Respond with the events of a recording above number ``since`` (``None``: with the
        newest), and with later ones until the token expires.

        Raises ``Refused`` as ``Recorder.events`` does, and ``busy``.
        """
        first: list[StateEvent] = await self._run(
            self._recorder.events, caller, recording, since or 0
        )
        if self._held[recording, caller.subject] >= MOST_STREAMS:
            raise Refused("busy")
        first = first[-1:] if since is None else first
        last = max((each.number for each in first), default=since or 0)
        return HttpResponse(200, _EVENTS, stream=self._stream(caller, recording, first, last))

    async def _stream(
        self, caller: Caller, recording: str, events: list[StateEvent], last: int
    ) -> AsyncGenerator[bytes, None]:
        wake = asyncio.Event()
        self._waiting[recording].add(wake)
        self._held[holder := (recording, caller.subject)] += 1
        try:
            yield b": events of the state of a recording\n\n" + b"".join(map(_line, events))
            while (left := caller.exp - time.time()) > 0:
                try:
                    async with asyncio.timeout(min(left, HEARTBEAT_SECONDS)):
                        await wake.wait()
                except TimeoutError:
                    yield b":\n\n"
                wake.clear()
                events = await self._run(self._recorder.events, caller, recording, last)
                if events:
                    last = events[-1].number
                    yield b"".join(map(_line, events))
        except Refused:  # the caller is no longer a member
            return
        finally:
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]
            waiting = self._waiting[recording]
            waiting.discard(wake)
            if not waiting:
                del self._waiting[recording]


def _line(event: StateEvent) -> bytes:
    data = encoded(StateBody(event.state, event.indicator, event.reason))
    return b"id: %d\nevent: state\ndata: %b\n\n" % (event.number, data)
