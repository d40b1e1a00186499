"""Record a meeting of five peers with ``collector recording serve``, and look at who is heard when.

    pip install 'data-minimisation-collector[recording]' aiortc
    python examples/recorded_meeting.py

Each participant sends a tone and a colour of their own over WebRTC, in an *open* form while the
participant may be recorded and in a *private* one at any other time; nothing while a request is
under way by which that begins. The platform keeps the roster,
the media server (``meeting_media.py``) delivers a chunk per track and second, and the recorder is a
process of its own. Ana hosts; Ben is handed the recording, and crashes; Chloe stays and then
leaves; Dewi joins late; a guest joins by telephone, without a token. When the recording is closed,
all tracks are fetched by a viewer, and every slice of 50 ms is searched for each tone, every
picture for each colour.

The exit code is 1 if a private tone or colour, or an open one of a participant who was not recorded
in that second, is in any second of any track, or if a participant who was is not heard at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import monotonic, sleep, time
from typing import Any

from joserfc import jwt
from joserfc.jwk import OKPKey
from meeting_media import (
    CHUNK_BYTES,
    SEARCHES,
    SETTLE_SECONDS,
    MediaServer,
    Peer,
    Person,
    Track,
)

ANA = Person("ana", (500, 700), ((230, 60, 60), (110, 20, 20)))
BEN = Person("ben", (900, 1100), ((60, 230, 60), (20, 110, 20)))
CHLOE = Person("chloe", (1300, 1500), ((60, 60, 230), (20, 20, 110)))
DEWI = Person("dewi", (1700, 1900), ((220, 220, 60), (110, 110, 20)))
GUEST = Person("guest", (2100, 2300))
PEOPLE = (ANA, BEN, CHLOE, DEWI, GUEST)

MEETING = "standup"
_STEP_SECONDS = 3.2
_ABSENCE_SECONDS = 60
_RETRIED = (429, 503, 507)


class Refused(Exception):
    """An answer of the recorder that is no success; ``code`` says why."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


# -- the platform ---------------------------------------------------------------------------------


@dataclass
class Platform:
    """The meeting server's backend: sign tokens, keep the roster, speak HTTP with the recorder."""

    port: int
    key: OKPKey
    recording: str = ""

    def token(self, role: str, subject: str) -> str:
        """Sign a token for one request, of one person or machine in one role in this meeting."""
        now = int(time())
        header = {"alg": "Ed25519", "kid": self.key.kid}
        claims = {"meeting": MEETING, "role": role, "sub": subject, "jti": secrets.token_hex(16)}
        return jwt.encode(header, {**claims, "iat": now, "exp": now + 60}, self.key, ["Ed25519"])

    def call(
        self, role: str, subject: str, method: str, path: str, body: object = None, **headers: str
    ) -> bytes:
        """Send one request about the recording, and return the body of the answer.

        Raises ``Refused``; where the answer asks for patience, or is lost, the request is repeated.
        """
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token(role, subject)}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        for attempt in range(10):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                connection.request(method, f"/v1/recordings{path}", data, sent)
                answer = connection.getresponse()
                found = answer.read()
            except (OSError, HTTPException):
                if attempt == 9:
                    raise
            else:
                if answer.status < 300:
                    return found
                if answer.status not in _RETRIED or attempt == 9:
                    raise Refused(answer.status, _code(found))
            finally:
                connection.close()
            sleep(0.1)
        raise AssertionError

    async def ask(
        self, role: str, subject: str, method: str, path: str, body: object = None, **headers: str
    ) -> bytes:
        """Call from the event loop, about this meeting's recording."""
        place = f"/{self.recording}{path}"
        return await asyncio.to_thread(self.call, role, subject, method, place, body, **headers)

    async def deliver(self, track: Track, number: int, chunk: bytes) -> bool:
        """Deliver a chunk for the media server; return whether the recorder took it."""
        path = f"/tracks/{track.name}/chunks/{number}"
        about = {"Collector_Kind": track.kind, "Collector_Owner": track.owner}
        try:
            await self.ask("media", "media-1", "PUT", path, chunk, **about)
        except Refused:
            return False
        return True

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield the recorder's events, until a token's end or the recording's."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        sent = {"Authorization": f"Bearer {self.token('media', 'media-1')}"}
        connection.request("GET", f"/v1/recordings/{self.recording}/events", headers=sent)
        answer = connection.getresponse()
        if answer.status == 200:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        connection.close()


def _code(body: bytes) -> str:
    """Return the code of a refusal's body."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "unknown"


# -- the meeting ----------------------------------------------------------------------------------


class Meeting:
    """What happens, step by step, with an account of who may be recorded from when on."""

    def __init__(self, platform: Platform, step: float) -> None:
        self.platform, self.step = platform, step
        self.media = MediaServer(platform.deliver, self.gone)
        self.peers: dict[str, Peer] = {}
        self.staying = set[str]()
        self.host, self.notice, self.state = ANA.name, "", ""
        self.is_open = False
        self.account: list[tuple[float, frozenset[str]]] = []
        self.script: list[tuple[int, str]] = []

    async def hold(self) -> None:
        """Hold the whole meeting; the recording is closed when this returns."""
        await self.request()
        delivery = asyncio.create_task(self.media.run())
        Thread(target=self.listen, args=(asyncio.get_running_loop(),), daemon=True).start()
        for person in (ANA, BEN, CHLOE):
            await self.join(person)
        await self.choose(ANA, "stay")
        await self.choose(BEN, "stay")
        await self.decide("start", "ana starts; chloe has not chosen")
        await self.choose(CHLOE, "stay")
        await self.join(GUEST, "a guest joins by telephone, without a token")
        await self.hang_up(GUEST, "the guest hangs up")
        await self.join(DEWI, "dewi joins late")
        await self.choose(DEWI, "stay")
        await self.decide("pause", "ana pauses")
        await self.decide("resume", "ana resumes")
        await self.hand_over(BEN)
        await self.choose(CHLOE, "leave")
        self.media.new_mix()
        await self.hang_up(CHLOE, "chloe hangs up")
        await self.until(lambda: self.media.mix.heard >= _MIXED)  # later on a machine that is busy
        await self.hang_up(ANA, "ana hangs up; ben is the host")
        await self.hang_up(BEN, f"ben crashes; closed in {_ABSENCE_SECONDS} s")
        await self.until(lambda: self.state == "closed")
        delivery.cancel()
        await self.media.close()
        for peer in self.peers.values():
            await peer.close()

    async def request(self) -> None:
        """Let the host ask for the recording, for 30 days in the cloud, and fetch its notice."""
        terms = {
            "meeting": MEETING,
            "storage": "cloud",
            "kinds": ["audio", "video"],
            "retention": "30d",
            "notice": {"medium": "audio", "language": "en"},
        }
        made = json.loads(
            await asyncio.to_thread(self.platform.call, "host", self.host, "POST", "", terms)
        )
        self.platform.recording, self.notice = made["id"], made["notice"]["digest"]

    async def join(self, person: Person, said: str = "") -> None:
        """Put a participant on the roster, and then let the media server accept the peer."""
        await self.platform.ask("platform", "backend", "PUT", f"/members/{person.name}")
        peer = self.peers[person.name] = Peer(person)
        await peer.connect(self.media)
        await self.next_step(said)

    async def choose(self, person: Person, choice: str) -> None:
        """Let a participant hear the notice, and choose with its digest.

        Who leaves speaks in private before the request; who stays is silent until the answer.
        """
        await self.platform.ask("participant", person.name, "GET", "/notice.wav")
        if choice == "leave":
            self.staying.discard(person.name)
            self.update()
        else:
            self.peers[person.name].is_silent = True
        chosen = {"choice": choice, "notice": self.notice}
        await self.platform.ask("participant", person.name, "PUT", "/choice", chosen)
        if choice == "stay":
            self.staying.add(person.name)
            self.update()
        await self.next_step(f"{person.name} chooses to {choice}")

    async def decide(self, what: str, said: str) -> None:
        """Let the host start, pause or resume."""
        if what != "pause":
            for peer in self.peers.values():
                peer.is_silent = True
        await self.platform.ask("host", self.host, "POST", f"/{what}")
        self.is_open = what != "pause"
        self.update()
        await self.next_step(said)

    async def hand_over(self, person: Person) -> None:
        """Let the host name an heir, who accepts."""
        await self.platform.ask("host", self.host, "POST", "/handover", {"to": person.name})
        await self.platform.ask("participant", person.name, "POST", "/accept")
        self.host = person.name
        await self.next_step(f"ana hands over to {person.name}, who accepts")

    async def hang_up(self, person: Person, said: str) -> None:
        """End a participant's connection; the platform hears of it from the media server."""
        await self.peers.pop(person.name).close()
        while person.name in self.media.present:
            await asyncio.sleep(0.01)
        await self.next_step(said)

    async def gone(self, name: str) -> None:
        """Take a participant off the roster whose connection has ended."""
        await self.platform.ask("platform", "backend", "DELETE", f"/members/{name}")
        self.staying.discard(name)
        self.is_open &= name != self.host
        self.update()

    def update(self) -> None:
        """Tell the peers who may be recorded now, and note it."""
        recorded = frozenset(self.staying if self.is_open else ())
        for peer in self.peers.values():
            peer.is_private, peer.is_silent = peer.person.name not in recorded, False
        self.account.append((monotonic(), recorded))

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cut what is not delivered at each event of the recorder, such as a pause."""
        while self.state != "closed":
            with suppress(OSError, HTTPException):
                for event in self.platform.events():
                    self.state = event.get("state", self.state)
                    loop.call_soon_threadsafe(self.media.cut)
            sleep(0.1)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, or should have for long."""
        deadline = monotonic() + 2 * _ABSENCE_SECONDS
        while not holds() and monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def next_step(self, said: str) -> None:
        """Note what has happened, and let the meeting go on for a while."""
        if said:
            self.script.append((self.media.second, said))
            print(f"{self.media.second:4} s  {said}", flush=True)
            await asyncio.sleep(self.step)

    def recorded(self, track: Track, second: int) -> frozenset[str]:
        """Return the participants who may be in the chunk of a track of that second."""
        begin, end = track.spans[second]
        begin, found = begin - SETTLE_SECONDS, frozenset[str]()
        for (since, names), (until, _) in pairwise([*self.account, (math.inf, frozenset())]):
            if since <= end and until >= begin:
                found |= names
        return found


# -- the analysis ---------------------------------------------------------------------------------

Found = dict[str, dict[int, set[str]]]
"""For each track and second, the participants found: by name, in capitals in their private form."""


def found(platform: Platform, tracks: Mapping[str, Track]) -> Found:
    """Fetch all tracks as a viewer, and search them; one that was destroyed is left out."""
    result: Found = {}
    for track in tracks.values():
        path = f"/{platform.recording}/tracks/{track.name}"
        try:
            data = platform.call("viewer", "viewer-1", "GET", path)
        except Refused as refused:
            if refused.status == 404 or refused.code == "left" or not track.seconds:
                continue
            raise
        search, size = SEARCHES[track.kind], CHUNK_BYTES[track.kind]
        if len(data) != size * len(track.seconds):
            raise SystemExit(
                f"{track.name}: {len(data)} bytes instead of {len(track.seconds)} chunks"
            )
        result[track.name] = {
            second: search(data[n * size : (n + 1) * size], PEOPLE)
            for n, second in enumerate(track.seconds)
        }
    return result


def show(result: Found) -> None:
    """Print which initials are found in which second, in capitals if in private; ``-`` if none."""
    last = max((second for track in result.values() for second in track), default=0)
    width = 5
    print(f"\n{'':14}" + "".join(f"{second:{width}}" for second in range(1, last + 1)))
    for name, seconds in result.items():
        cells = (
            "".join(sorted(each[0] for each in seconds[second])) or "-" if second in seconds else ""
            for second in range(1, last + 1)
        )
        print(f"{name:14}" + "".join(f"{cell:>{width}}" for cell in cells))


def faults(result: Found, meeting: Meeting) -> Iterator[str]:
    """Yield each second of a track in which a participant is found who may not be."""
    for name, track in meeting.media.tracks.items():
        for second, names in result.get(name, {}).items():
            recorded = meeting.recorded(track, second)
            owners = {track.owner} if track.owner != "mixed" else recorded
            for each in sorted(names - (recorded & owners)):
                yield f"{name}: {each} is in second {second}"


def missing(result: Found, *names: str) -> Iterator[str]:
    """Yield the tracks that are not as they should be: these have to be there, and their owners in
    them; no other may be there."""
    for name in sorted(set(names) ^ result.keys()):
        yield f"{name}: it is {'not there' if name in names else 'still there'}"
    for name in set(names) & result.keys():
        seen = set[str]().union(*result[name].values())
        wanted = _MIXED if name.startswith("mixed") else {name.partition("-")[0]}
        for each in sorted(wanted - seen):
            yield f"{name}: {each} is nowhere in it"


_MIXED = {ANA.name, BEN.name, DEWI.name}
_SINGLE = tuple(f"{name}-{kind}" for name in sorted(_MIXED) for kind in ("audio", "video"))


# -- the recorder ---------------------------------------------------------------------------------


@contextmanager
def recorder(folder: Path, key: OKPKey) -> Iterator[int]:
    """Run ``collector recording serve`` on a free port, with the platform's public key."""
    keys, config = folder / "keys.json", folder / "collector.json"
    keys.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    settings = {"data": str(folder / "recorder"), "address": "127.0.0.1:0", "keys": str(keys)}
    config.write_text(json.dumps({"recorder": {"enabled": True, **settings}}))
    command = [sys.executable, "-m", "collector", "recording", "serve", "--config", str(config)]
    with (folder / "recorder.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
    try:
        yield _port(folder / "recorder.log", process)
    finally:
        process.terminate()
        process.wait(30)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the recorder has logged the port that it listens on, and return that."""
    while process.poll() is None:
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and (said := json.loads(line))["event"] == "started":
                return int(said["recorder"])
        sleep(0.05)
    raise SystemExit(log.read_text())


def main() -> None:
    """Hold the meeting, look at its recording, let Dewi withdraw, and look again."""
    parser = argparse.ArgumentParser(description="A recorded meeting, and who is heard in it.")
    parser.add_argument("--step", type=float, default=_STEP_SECONDS, help="seconds between steps")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recorded-meeting-") as name:
        key = OKPKey.generate_key("Ed25519", {"kid": "platform-1", "alg": "Ed25519", "use": "sig"})
        with recorder(Path(name), key) as port:
            wrong = attend(Platform(port, key), arguments.step)
    print("\n".join(wrong) or "\nNo participant is in any second without having been recorded.")
    raise SystemExit(1 if wrong else 0)


def attend(platform: Platform, step: float) -> list[str]:
    """Hold the meeting, and return what is wrong with its recording."""
    meeting = Meeting(platform, step)
    asyncio.run(meeting.hold())
    if meeting.state != "closed":
        return [f"the recording is {meeting.state}, although its host is gone"]
    tracks = meeting.media.tracks
    first = found(platform, tracks)
    show(first)
    wrong = [*faults(first, meeting), *missing(first, *_SINGLE, "mixed-2")]
    print("\ndewi withdraws")
    platform.call("participant", DEWI.name, "DELETE", f"/{platform.recording}/members/me")
    second = found(platform, tracks)
    show(second)
    kept = [name for name in _SINGLE if not name.startswith(DEWI.name)]
    return [*wrong, *faults(second, meeting), *missing(second, *kept)]


if __name__ == "__main__":
    main()
