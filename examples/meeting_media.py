"""Send tones and colours over WebRTC, and cut what arrives at a media server into chunks.

Used by ``recorded_meeting.py``. A ``Peer`` is one participant: a tone for a voice and a colour for
a picture, in two forms each, *open* while the participant may be recorded and *private* at any
other time. A ``MediaServer`` receives them over aiortc, as an SFU does, and hands one chunk per
second and track to ``deliver``: mono s16le at 16 kHz, or 8×8 pixels of rgb24 per frame.

The server is not told who has chosen what. It asks with silence: a track that was refused is
offered silence of the same length until that is taken, and only what was captured
``SETTLE_SECONDS`` after the answer is recorded: packets of before may be on their way for any time,
so that their own timestamps count. ``cut`` throws away what is not delivered yet. ``tones`` and
``colours`` find the participants in what was recorded.
"""

from __future__ import annotations

import asyncio
import fractions
import math
from array import array
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from operator import mul
from time import monotonic
from typing import Literal

import av
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError

__all__ = [
    "CHUNK_BYTES",
    "FRAME_BYTES",
    "RATE",
    "SEARCHES",
    "SETTLE_SECONDS",
    "Colour",
    "MediaServer",
    "Peer",
    "Person",
    "Track",
]

RATE = 16_000
"""Samples per second of a chunk of audio."""
FRAME_BYTES = 8 * 8 * 3
SETTLE_SECONDS = 1.0
"""More than a packet takes at best."""
_SENT_RATE, _SENT_SAMPLES = 48_000, 960
_FRAMES_PER_SECOND = 10
_LATE_SECONDS = 0.2
_WIDTH, _HEIGHT = 160, 120
_LOUDNESS = 6_000
"""Of 32,767: the sum of five is not clipped."""
CHUNK_BYTES = {"audio": 2 * RATE, "video": _FRAMES_PER_SECOND * FRAME_BYTES}
"""Bytes of a chunk, by kind."""

Colour = tuple[int, int, int]
_BLACK = (0, 0, 0)


@dataclass(frozen=True)
class Person:
    """A participant by pseudonym, with tones in Hz and colours, open and private.

    Tones are multiples of 100 Hz, so that each has whole periods in any slice of 10 ms.
    """

    name: str
    tones: tuple[int, int]
    colours: tuple[Colour, Colour] | None = None


class _Tone(AudioStreamTrack):  # type: ignore[misc]
    """Send a sine of 20 ms frames in real time, each of which has whole periods."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self.peer, self.start, self.sent = peer, monotonic(), 0
        self.sounds = [*map(_sine, peer.person.tones), bytes(2 * _SENT_SAMPLES)]

    async def recv(self) -> av.AudioFrame:
        self.sent = await _next_frame(self.start, self.sent, _SENT_RATE / _SENT_SAMPLES)
        heard = -1 if self.peer.is_silent else self.peer.is_private
        frame = av.AudioFrame(format="s16", layout="mono", samples=_SENT_SAMPLES)
        frame.planes[0].update(self.sounds[heard])
        frame.sample_rate, frame.pts = _SENT_RATE, self.sent * _SENT_SAMPLES
        frame.time_base = fractions.Fraction(1, _SENT_RATE)
        self.sent += 1
        return frame


def _sine(hertz: int) -> bytes:
    step = 2 * math.pi * hertz / _SENT_RATE
    samples = (round(_LOUDNESS * math.sin(step * n)) for n in range(_SENT_SAMPLES))
    return array("h", samples).tobytes()


async def _next_frame(start: float, number: int, per_second: float) -> int:
    """Wait until a frame is due, and return its number: a later one where this process was held up,
    as a microphone and a camera do not wait for who reads them."""
    behind = monotonic() - start - number / per_second
    await asyncio.sleep(max(0.0, -behind))
    return number if behind < _LATE_SECONDS else number + int(behind * per_second)


class _Colour(VideoStreamTrack):  # type: ignore[misc]
    """Send pictures of one colour in real time."""

    def __init__(self, peer: Peer, colours: tuple[Colour, Colour]) -> None:
        super().__init__()
        self.peer, self.start, self.sent = peer, monotonic(), 0
        self.pictures = [_picture(colour) for colour in (*colours, _BLACK)]

    async def recv(self) -> av.VideoFrame:
        self.sent = await _next_frame(self.start, self.sent, _FRAMES_PER_SECOND)
        shown = -1 if self.peer.is_silent else self.peer.is_private
        frame = self.pictures[shown].reformat(format="yuv420p")
        frame.pts, frame.time_base = self.sent, fractions.Fraction(1, _FRAMES_PER_SECOND)
        self.sent += 1
        return frame


def _picture(colour: Colour) -> av.VideoFrame:
    frame = av.VideoFrame(_WIDTH, _HEIGHT, "rgb24")
    frame.planes[0].update(bytes(colour) * (frame.planes[0].line_size // 3) * _HEIGHT)
    return frame


class Peer:
    """The client of a participant; ``is_private`` says which tone and colour it sends, unless it
    ``is_silent``."""

    def __init__(self, person: Person) -> None:
        self.person, self.is_private, self.is_silent = person, True, False
        self.connection = RTCPeerConnection()

    async def connect(self, server: MediaServer) -> None:
        """Offer both tracks to the server, and take its answer. A client would send these texts."""
        self.connection.addTransceiver(_Tone(self), direction="sendonly")
        if self.person.colours:
            picture = _Colour(self, self.person.colours)
            self.connection.addTransceiver(picture, direction="sendonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        answer = await server.accept(self.person.name, self.connection.localDescription)
        await self.connection.setRemoteDescription(answer)

    async def close(self) -> None:
        """Hang up."""
        await self.connection.close()


@dataclass
class Track:
    """A track that is delivered, single or mixed.

    ``parts`` is what has arrived from each participant since the last chunk, ``is_taken`` whether
    that was taken; ``seconds`` are those of the chunks that were taken, in order, ``spans`` the
    times between which their content arrived, and ``heard`` the participants of whom it is.
    """

    name: str
    kind: Literal["audio", "video"]
    owner: str
    parts: dict[str, bytearray] = field(default_factory=dict)
    is_live: bool = True
    is_taken: bool = False
    ignored_until: float = 0.0
    seconds: list[int] = field(default_factory=list)
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    chunked_at: float = field(default_factory=monotonic)

    def add(self, name: str, data: bytes, captured: float) -> None:
        """Keep what was captured at a time, unless that may be before the last change."""
        if captured >= self.ignored_until:
            self.parts.setdefault(name, bytearray()).extend(data)

    def cut(self) -> None:
        """Throw away what was not delivered, and what is on its way."""
        self.parts.clear()
        self.ignored_until = monotonic() + SETTLE_SECONDS

    def chunk(self) -> bytes:
        """Return a second of what has arrived, the sum of all voices, filled up with silence or
        black; nothing else where the last chunk was refused."""
        size = CHUNK_BYTES[self.kind]
        if not self.is_taken:
            self.parts.clear()
        taken = [bytes(part[:size]).ljust(size, b"\0") for part in self.parts.values()]
        for part in self.parts.values():
            del part[:size]
        if len(taken) <= 1:
            return b"".join(taken) or bytes(size)
        voices = (array("h", part) for part in taken)
        return array("h", map(sum, zip(*voices, strict=True))).tobytes()


Deliver = Callable[[Track, int, bytes], Awaitable[bool]]
"""Delivers the chunk of a track with that number; returns whether the recorder took it."""


class MediaServer:
    """Receive the tracks of all peers, and deliver a chunk of each, and of the mix, each second.

    A peer is accepted when the platform has put its participant on the roster, and not before:
    from then on the recorder refuses every mix until that participant has chosen. ``gone`` is
    awaited with the name of a peer whose connection has ended.
    """

    def __init__(self, deliver: Deliver, gone: Callable[[str], Awaitable[None]]) -> None:
        self.deliver, self.gone = deliver, gone
        self.start, self.second = monotonic(), 0
        self.mix = Track("mixed-1", "audio", "mixed")
        self.tracks = {self.mix.name: self.mix}
        self._connections: dict[str, RTCPeerConnection] = {}
        self._ending = set[str]()
        self._tasks = set[asyncio.Task[None]]()
        self._mixes = 1

    def new_mix(self) -> None:
        """Begin a mixed track in the place of one that was destroyed, which takes nothing more."""
        self.mix.is_live = False
        self._mixes += 1
        self.mix = Track(f"mixed-{self._mixes}", "audio", "mixed")
        self.tracks[self.mix.name] = self.mix

    @property
    def present(self) -> frozenset[str]:
        """Return the participants whose peers are connected, or whose end is being dealt with."""
        return frozenset(self._connections)

    async def accept(self, name: str, offer: RTCSessionDescription) -> RTCSessionDescription:
        """Answer a peer's offer, and receive its tracks."""
        connection = self._connections[name] = RTCPeerConnection()

        @connection.on("track")  # type: ignore[untyped-decorator]
        def receive(track: MediaStreamTrack) -> None:
            self._run(self._receive(name, track))

        @connection.on("connectionstatechange")  # type: ignore[untyped-decorator]
        async def notice_end() -> None:
            if connection.connectionState in ("closed", "failed"):
                await self._remove(name)

        self.mix.cut()
        await connection.setRemoteDescription(offer)
        await connection.setLocalDescription(await connection.createAnswer())
        return connection.localDescription

    def cut(self) -> None:
        """Throw away what was not delivered, of all tracks."""
        for track in self.tracks.values():
            track.cut()

    async def run(self) -> None:
        """Deliver for ever, once a second."""
        self.start = monotonic()
        while True:
            self.second += 1
            await asyncio.sleep(max(0.0, self.start + self.second - monotonic()))
            second, tracks = self.second, [each for each in self.tracks.values() if each.is_live]
            await asyncio.gather(*(self._deliver(each, second) for each in tracks))

    async def close(self) -> None:
        """Hang up on all peers."""
        connections = [*self._connections.values()]
        self._connections.clear()
        for connection in connections:
            await connection.close()
        for task in [*self._tasks]:
            task.cancel()

    async def _remove(self, name: str) -> None:
        """End the tracks of a peer whose connection has ended, and tell the platform."""
        for track in self.tracks.values():
            track.is_live &= track.owner != name
        if name in self._connections and name not in self._ending:
            self._ending.add(name)
            self.mix.cut()
            await self.gone(name)
            await self._connections.pop(name).close()
            self._ending.discard(name)

    async def _deliver(self, track: Track, second: int) -> None:
        was_taken, number = track.is_taken, len(track.seconds)
        span = track.chunked_at, monotonic()
        track.chunked_at = span[1]
        names = {name for name, part in track.parts.items() if part and was_taken}
        track.is_taken = await self.deliver(track, number, track.chunk())
        if track.is_taken:
            track.seconds.append(second)
            track.spans[second] = span
            track.heard |= names
        if track.is_taken != was_taken:
            track.cut()

    async def _receive(self, name: str, source: MediaStreamTrack) -> None:
        kind: Literal["audio", "video"] = "audio" if source.kind == "audio" else "video"
        track = self.tracks[f"{name}-{kind}"] = Track(f"{name}-{kind}", kind, name)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        quickest = math.inf
        try:
            while True:
                frame = await source.recv()
                sent = float(frame.pts * frame.time_base)  # by the clock of the sender
                quickest = min(quickest, monotonic() - sent)
                captured = sent + quickest
                if kind == "video":
                    track.add(name, _pixels(frame), captured)
                    continue
                for each in resampler.resample(frame):
                    data = bytes(each.planes[0])[: 2 * each.samples]
                    track.add(name, data, captured)
                    self.mix.add(name, data, captured)
        except MediaStreamError:
            return

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pixels(frame: av.VideoFrame) -> bytes:
    """Return a picture of 8×8 pixels, without the padding of its lines."""
    small = frame.reformat(width=8, height=8, format="rgb24").planes[0]
    data, length = bytes(small), small.line_size
    return b"".join(data[line * length : line * length + 24] for line in range(8))


# -- finding them again ---------------------------------------------------------------------------

_SLICE = RATE // 20
_LOUD = _LOUDNESS / 10
"""Heard from here on. A tone that is cut off within a slice gives half of that 200 Hz away."""
_NEAR = 60
"""Greatest distance of two like colours, for each of red, green and blue."""


@cache
def _waves(hertz: int) -> tuple[list[float], list[float]]:
    turns = [2 * math.pi * hertz * n / RATE for n in range(_SLICE)]
    return [2 / _SLICE * math.cos(turn) for turn in turns], [
        2 / _SLICE * math.sin(turn) for turn in turns
    ]


def tones(chunk: bytes, people: Iterable[Person]) -> set[str]:
    """Return whose tone is in any slice of 50 ms: their names, in capitals for the private tone.

    The amplitude of a tone is that of the slice's correlation with its cosine and its sine.
    """
    samples = array("h", chunk)
    slices = [samples[n : n + _SLICE] for n in range(0, len(samples), _SLICE)]
    slices = [each for each in slices if any(each)]

    def is_heard(hertz: int) -> bool:
        cosine, sine = _waves(hertz)
        return any(
            math.hypot(sum(map(mul, each, cosine)), sum(map(mul, each, sine))) > _LOUD
            for each in slices
        )

    return {
        name
        for person in people
        for name, hertz in zip((person.name, person.name.upper()), person.tones, strict=True)
        if is_heard(hertz)
    }


def colours(chunk: bytes, people: Iterable[Person]) -> set[str]:
    """Return whose colour is in any pixel that is not black, as ``tones`` does; ``?`` for one of no
    participant."""
    known = {
        name: colour
        for person in people
        for name, colour in zip(
            (person.name, person.name.upper()), person.colours or (), strict=False
        )
    }
    pixels = {chunk[n : n + 3] for n in range(0, len(chunk), 3)}
    return {
        next((name for name, colour in known.items() if _is_near(pixel, colour)), "?")
        for pixel in pixels
        if not _is_near(pixel, _BLACK)
    }


def _is_near(pixel: bytes, colour: Colour) -> bool:
    return all(abs(a - b) < _NEAR for a, b in zip(pixel, colour, strict=True))


SEARCHES = {"audio": tones, "video": colours}
"""Find the participants of a chunk, by kind."""
