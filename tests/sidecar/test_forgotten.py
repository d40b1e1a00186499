"""Everything at once, while keeper, workers and database are killed. Events reach store, database,
lake on disk, lake on a server and an OTLP receiver, each once where that is promised. People are
erased from all of them meanwhile. At the end they are nowhere, except people who send again."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from io import BytesIO
from ipaddress import IPv6Address
from pathlib import Path
from random import Random
from threading import Lock
from time import monotonic, sleep

import pytest
from pyarrow import parquet

from collector.errors import CollectorError
from collector.server.control_client import Erase, ask
from tests.sidecar.places import Places, places
from tests.support.deadline import wait_until
from tests.support.failing_disk import Say, metric
from tests.support.otlp_receivers import http_receiver
from tests.support.processes import children, peak
from tests.support.programs import threads
from tests.support.sidecar import Sidecar

pytestmark = pytest.mark.outages

_PEOPLE = int(os.environ.get("COLLECTOR_ERASED", "60"))
_EVENTS = 50_000 if _PEOPLE >= 600 else 5_000
_KILLS = 15
_OF_A_REQUEST = 25
_TOGETHER = 20
"""How many people ask at the same time."""
_MOST_MB = 256
_CHAT = "canary-of-a-chat"
_TODAY = datetime.now(UTC)
_WINDOW = (
    (_TODAY - timedelta(days=2)).strftime("%Y-%m-%d"),
    (_TODAY + timedelta(days=2)).strftime("%Y-%m-%d"),
)
_ONCE = ("store", "lines", "warehouse", "lake", "disk")


@dataclass
class _Run:
    """What was sent and acknowledged, and who was erased, over all restarts of a sidecar."""

    all_places: Places
    random: Random = field(default_factory=Random)
    acknowledged: list[str] = field(default_factory=list)
    unanswered: set[str] = field(default_factory=set)
    erased: dict[str, None] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)
    """The people whose erasure is not yet complete."""
    killed: Counter[str] = field(default_factory=Counter)
    memory: float = 0.0
    lock: Lock = field(default_factory=Lock)

    def send(self, sidecar: Sidecar) -> None:
        """Send until the sidecar is killed, or everything was sent."""
        while len(self.acknowledged) < _EVENTS:
            people = [self._address() for _ in range(_OF_A_REQUEST)]
            body = b"".join(
                b'{"ip": "%b", "os": {"type": "linux"}, "chat": ["%b"]}\n'
                % (each.encode(), _CHAT.encode())
                for each in people
            )
            try:
                status = sidecar.send(body).status
            except (OSError, HTTPException):
                self.unanswered.update(people)
                return
            if status == 200:
                self.acknowledged += people
            else:  # a worker was killed with the request, or the spool is full
                self.unanswered.update(people)
                sleep(0.2)

    def _address(self) -> str:
        with self.lock:
            return str(IPv6Address((0x20010DB8 << 96) + self.random.getrandbits(64)))

    def erase(self, is_over: Callable[[], bool]) -> None:
        """Erase people in groups; repeat the erasures that were not complete."""
        while len(self.erased) < _PEOPLE and not is_over():
            newest = [each for each in self.acknowledged[-2000:] if each not in self.erased]
            number = min(_TOGETHER, _PEOPLE - len(self.erased)) - len(self.wanted)
            self.wanted += self.random.sample(newest, min(max(number, 0), len(newest)))
            with ThreadPoolExecutor(_TOGETHER) as pool:
                done = [*zip(self.wanted, pool.map(self._is_erased, self.wanted), strict=True)]
            self.erased |= dict.fromkeys(each for each, is_done in done if is_done)
            self.wanted = [each for each, is_done in done if not is_done]
            sleep(0.05)

    def _is_erased(self, person: str) -> bool:
        with suppress(CollectorError, OSError, ValueError):
            answer = ask(self.all_places.data, Erase("client.address", person, *_WINDOW, 20.0))
            return answer is not None and answer["removed"]["is_swept"] is True
        return False

    def kill(self, sidecar: Sidecar) -> None:
        """Kill something: the keeper, its workers, or the database."""
        victim = self.random.choice(("keeper", "worker", "database"))
        self.killed[victim] += 1
        self.memory = max(self.memory, peak(sidecar.process.pid))
        if victim == "database":
            self.all_places.postgres.kill()
            sleep(self.random.uniform(0, 0.5))
            self.all_places.postgres.start()
        elif victim == "worker":
            for each in children(sidecar.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        else:
            sidecar.process.kill()


def _configure(all_places: Places, port: int) -> None:
    """Add a lake on disk, and a receiver of OTLP."""
    path = all_places.directory / "collector.yaml"
    settings = json.loads(path.read_text())
    settings["sinks"]["disk"] = {"type": "parquet", "path": "disk", "every": "1s"}
    settings["sinks"]["backend"] = {
        "type": "otlp",
        "protocol": "http",
        "endpoint": f"http://127.0.0.1:{port}",
        "party": "first",
    }
    path.write_text(json.dumps(settings))


def _of_disk(all_places: Places) -> Counter[str]:
    found = Counter[str]()
    for path in (all_places.directory / "disk").rglob("*.parquet"):
        for row in parquet.read_table(BytesIO(path.read_bytes())).to_pylist():
            found[row["client.address"]] += row["count"]
    return found


@pytest.mark.timeout(600 + 4 * _PEOPLE)
def test_events_are_there_once_and_erased_people_nowhere(tmp_path: Path, say: Say) -> None:
    """Nobody returns: not from the spool, not from a segment, and not from a file in transit."""
    with http_receiver() as received, places(tmp_path / "sidecar") as all_places:
        _configure(all_places, received.port)
        run = _Run(all_places)
        kills = 0
        while kills < _KILLS or len(run.acknowledged) < _EVENTS or len(run.erased) < _PEOPLE:
            with all_places.serving() as sidecar:
                end = monotonic() + run.random.uniform(1, 6) if kills < _KILLS else float("inf")

                def is_over(sidecar: Sidecar = sidecar, end: float = end) -> bool:
                    return monotonic() > end or sidecar.process.poll() is not None

                with threads(*[lambda s=sidecar: run.send(s)] * 2, lambda: run.erase(is_over)):
                    while not is_over() and not (
                        kills >= _KILLS
                        and len(run.acknowledged) >= _EVENTS
                        and len(run.erased) >= _PEOPLE
                    ):
                        sleep(0.05)
                    if kills < _KILLS:
                        kills += 1
                        run.kill(sidecar)
                        sleep(run.random.uniform(0, 1))
                        sidecar.process.kill()
                    else:
                        run.memory = max(run.memory, peak(sidecar.process.pid))
                        say(f"{len(run.acknowledged)} events, {len(run.erased)} erased")
                        break
        _settled(all_places)
        returned = [*run.erased][:3]
        for person in returned:
            del run.erased[person]
        _settled(all_places, returned)  # also what a restart might bring back
        run.acknowledged += returned
        say(f"killed: {dict(run.killed)}; at most {run.memory:.0f} MB")
        assert run.memory < _MOST_MB
        _check(run, received.people())


def _settled(all_places: Places, returned: Sequence[str] = ()) -> None:
    """Start once more, and wait until every sink has everything; erased people send again."""
    with all_places.serving() as sidecar:
        for person in returned:
            assert sidecar.send(b'{"ip": "%b"}\n' % person.encode()).status == 200
        wait_until(lambda: not metric(sidecar, "collector_spool_batches{"), 120)
        wait_until(lambda: not list(all_places.data.glob("sinks/*/*.ndjson")), 120)
        assert sidecar.stop()[0] == 0


def _check(run: _Run, sent: Counter[str]) -> None:
    all_places = run.all_places
    kept = {*run.acknowledged} - run.erased.keys()
    possible = kept | run.unanswered
    for name in _ONCE:
        found = _of_disk(all_places) if name == "disk" else all_places.addresses(name)
        assert found.keys() >= kept, name
        assert found.keys() <= possible, name
        assert {*found.values()} == {1}, name
    assert sent.keys() >= kept  # OTLP cannot erase, and may get something twice
    content = _content(all_places)
    forms = (b"\x03\x80", *(each.encode() for each in [*kept][:1]))
    assert all(form in content for form in forms)
    gone = [
        person
        for person in run.erased
        if person.encode() in content or b"\x03\x80" + IPv6Address(person).packed in content
    ]
    assert gone == []
    assert _CHAT.encode() not in content


def _content(all_places: Places) -> bytes:
    """All bytes that Collector reaches: its files and its log, the files of the database's tables
    and indexes, and the current objects, raw and decoded."""
    pieces = [all_places.said(), all_places.postgres.files()]
    disk = (all_places.directory / "disk").rglob("*.parquet")
    for content in (*all_places.objects().values(), *(path.read_bytes() for path in disk)):
        values = parquet.read_table(BytesIO(content)).to_pylist() if content else []
        pieces += [content, str(values).encode()]
    return b"\0".join(pieces)
