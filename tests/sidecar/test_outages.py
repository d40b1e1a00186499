"""Sinks' servers that are down, faulty or hostile, under load. Records wait and are there once at
the end, nothing of a server's answer is kept or logged, memory is bounded, and other sinks get
their records as fast as before."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from ipaddress import IPv6Network
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest

from collector.server.control_client import Status, ask
from tests.sidecar.places import SINKS, Places, places
from tests.support.deadline import wait_until
from tests.support.failing_disk import Say, metric
from tests.support.latency import IS_FULL, quantile
from tests.support.otlp_receivers import grpc_receiver, http_receiver
from tests.support.postgres_proxy import ECHO as POSTGRES_ECHO
from tests.support.processes import peak
from tests.support.programs import threads
from tests.support.s3 import ECHO as S3_ECHO
from tests.support.s3 import Proxy
from tests.support.sidecar import Sidecar, started
from tests.support.tcp import tcp_server

pytestmark = pytest.mark.outages

_AWAY_SECONDS = float(os.environ.get("COLLECTOR_AWAY", "30"))
_PHASE_SECONDS = 3.0
_KILLS = int(os.environ.get("COLLECTOR_KILLS", "6"))
_CHAT = "canary-of-a-chat"
_NETWORK = IPv6Network("2001:db8::/64")
_PAUSE = 0.05
_LONGEST_PAUSE = 120.0
"""For a sink that has failed for long, and is retried after up to 45 seconds."""
_OTHERS = ("store", "lines")
_FLOOR_SECONDS = 0.05
"""Lags within this limit count as equal: a delivery waits 0.1 s for more records."""
_SLOWEST_SECONDS = 1.0
"""The same limit for a p99 on a busy machine: a sink that waited for a server would lag for a whole
phase."""
_MODES = (
    *(("full", "full"), ("denied", "403"), ("internal", "500"), ("redirect", "redirect")),
    *(("half", "half"), ("away", "bomb"), ("slow", "slow"), ("garbage", "404")),
)
"""How the database fails, and how the bucket fails at the same time."""
_PROXY_MODES = ("away", "full", "403", "500", "redirect", "half", "bomb", "slow", "404")
_RECEIVERS = [("http", http_receiver), ("grpc", grpc_receiver)]
_MOST_MB = 256


@pytest.fixture
def all_places(tmp_path: Path) -> Iterator[Places]:
    """A sidecar's directory, and the servers of its sinks."""
    with places(tmp_path / "sidecar") as made:
        yield made


@dataclass
class Load:
    """A sender that sends one request after the other. Records how long each takes from its answer
    until each sink has it."""

    sidecar: Sidecar
    states: Callable[[], Mapping[str, Mapping[str, Any]]]
    sinks: tuple[str, ...]
    ended: Event = field(default_factory=Event)
    sent: list[str] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    lags: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def send(self) -> None:
        """Send until the end."""
        while not self.ended.is_set():
            address = str(_NETWORK[next(self.numbers)])
            event = f'{{"ip": "{address}", "os": {{"type": "linux"}}, "chat": ["{_CHAT}"]}}\n'
            assert self.sidecar.send(event.encode()).status == 200
            self.answered.append(monotonic())
            self.sent.append(address)
            self.ended.wait(_PAUSE)

    def watch(self) -> None:
        """Record when each batch reaches each sink; each request is a batch."""
        seen = dict.fromkeys(self.sinks, 0)
        while not self.ended.is_set():
            now, answered = self.states(), list(self.answered)
            at = monotonic()
            for name in self.sinks:
                reached = min(now[name]["delivered"], len(answered))
                self.lags[name] += [at - answered[each] for each in range(seen[name], reached)]
                seen[name] = max(seen[name], reached)
            self.ended.wait(_PAUSE / 2)

    def wait(self) -> None:
        """Wait until the sinks have everything sent so far."""
        sent = len(self.answered)

        def reached() -> bool:
            states = self.states()
            return all(states[name]["delivered"] >= sent for name in self.sinks)

        wait_until(reached, _LONGEST_PAUSE)

    def during(self, seconds: float) -> dict[str, list[float]]:
        """Return the lags during a period."""
        before = {name: len(self.lags[name]) for name in self.sinks}
        sleep(seconds)
        return {name: self.lags[name][before[name] :] for name in self.sinks}


@contextmanager
def _loaded(all_places: Places) -> Iterator[Load]:
    with all_places.serving() as sidecar, _under_load(sidecar, all_places.states, SINKS) as load:
        yield load


@contextmanager
def _under_load(
    sidecar: Sidecar, states: Callable[[], Mapping[str, Mapping[str, Any]]], sinks: tuple[str, ...]
) -> Iterator[Load]:
    load = Load(sidecar, states, sinks)
    with threads(load.send, load.watch):
        try:
            wait_until(lambda: load.answered)
            load.wait()
            yield load
        finally:
            load.ended.set()
    load.wait()
    assert peak(sidecar.process.pid) < _MOST_MB
    assert sidecar.stop()[0] == 0


def _all_are_there_once(all_places: Places, load: Load) -> None:
    """Check this for each place."""
    with all_places.serving() as sidecar:  # makes collected records objects
        wait_until(lambda: not list(all_places.data.glob("sinks/lake/*.ndjson")))
        assert sidecar.stop()[0] == 0
    sent = dict.fromkeys(load.sent, 1)
    for name in SINKS:
        assert all_places.addresses(name) == sent, name


def _nothing_is_said(all_places: Places) -> None:
    """No file and no log has a server's answer, a secret or content. Neither the sidecar's log nor
    the database's has a value."""
    said = all_places.said()
    for canary in (S3_ECHO, POSTGRES_ECHO, _CHAT.encode(), b"127.0.0.1:9/"):
        assert canary not in said
    log = "".join(all_places.log)
    for word in ("2001:db8", "linux", '"secret"'):
        assert word not in log
    assert b"2001:db8" not in (all_places.postgres.directory / "log").read_bytes()


def _compared(name: str, quiet: list[float], sick: list[float]) -> str:
    medians, slowest = (median(quiet), median(sick)), (quantile(quiet), quantile(sick))
    return (
        f"{name}: median {medians[0]:.3f} s, {medians[1]:.3f} s while servers fail;"
        f" p99 {slowest[0]:.3f} s, {slowest[1]:.3f} s; {len(quiet)} and {len(sick)} batches"
    )


def _are_as_soon(quiet: list[float], sick: list[float]) -> None:
    """Another sink gets its records all the time, and on a quiet machine as fast as before."""
    assert len(sick) > 2
    assert not IS_FULL or median(sick) <= 1.25 * median(quiet) + _FLOOR_SECONDS
    assert not IS_FULL or quantile(sick) <= 2 * quantile(quiet) + _SLOWEST_SECONDS


@pytest.mark.timeout(480 + _AWAY_SECONDS)
def test_servers_that_are_away(all_places: Places, say: Say) -> None:
    with _loaded(all_places) as load:
        quiet = defaultdict[str, list[float]](list, load.during(5))
        all_places.postgres.kill()
        all_places.s3.kill()
        sick = load.during(_AWAY_SECONDS)
        causes = {each["cause"] for each in load.sidecar.events if each["event"] == "sink_failing"}
        all_places.postgres.start()
        all_places.s3.start()
        load.wait()
        _add(quiet, load.during(5))
    assert causes == {"unreachable"}
    for name in _OTHERS:
        say(_compared(name, quiet[name], sick[name]))
        _are_as_soon(quiet[name], sick[name])
    _all_are_there_once(all_places, load)
    _nothing_is_said(all_places)


@pytest.mark.timeout(600)
def test_servers_that_fail(all_places: Places, say: Say) -> None:
    """They fail in every way in turn, with quiet times between: errors that quote what was sent,
    redirects, half-closed connections, slow answers, and a bucket's endless ones."""
    quiet, sick = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with _loaded(all_places) as load:
        for database, bucket in _MODES:
            _add(quiet, load.during(_PHASE_SECONDS))
            all_places.postgres_proxy.mode, all_places.s3_proxy.mode = database, bucket
            failed = all_places.postgres_proxy.failed, all_places.s3_proxy.refused
            _add(sick, load.during(_PHASE_SECONDS))
            with suppress(AssertionError):
                _wait_for_failures(all_places, failed)
            say(f"{database}, {bucket}: {peak(load.sidecar.process.pid):.0f} MB at most so far")
            all_places.postgres_proxy.mode = all_places.s3_proxy.mode = ""
            load.wait()
    for name in _OTHERS:
        say(_compared(name, quiet[name], sick[name]))
        _are_as_soon(quiet[name], sick[name])
    _all_are_there_once(all_places, load)
    _nothing_is_said(all_places)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("protocol", "receiver"), _RECEIVERS)
def test_a_receiver_of_otlp_that_fails(
    tmp_path: Path, say: Say, protocol: str, receiver: Callable[[], Any]
) -> None:
    """It fails in every way that a network and a server can, in turn, with quiet times between. The
    store and the files do not wait for it, and each record arrives."""
    quiet, sick = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with receiver() as received:
        proxy = Proxy(received.port)
        with tcp_server(proxy.handle) as port, _sending(tmp_path, protocol, port) as load:
            for mode in _PROXY_MODES:
                _add(quiet, load.during(_PHASE_SECONDS))
                proxy.mode, failed = mode, proxy.refused
                _add(sick, load.during(_PHASE_SECONDS))
                with suppress(AssertionError):
                    wait_until(lambda: proxy.refused > failed, 20)  # noqa: B023
                say(f"{mode}: {peak(load.sidecar.process.pid):.0f} MB at most so far")
                proxy.mode = ""
                load.wait()
        assert received.people().keys() == {*load.sent}
    for name in _OTHERS:
        say(_compared(name, quiet[name], sick[name]))
        _are_as_soon(quiet[name], sick[name])
    for file in (each for each in tmp_path.rglob("*") if each.is_file()):
        content = file.read_bytes()
        assert not any(canary in content for canary in (S3_ECHO, _CHAT.encode()))


@contextmanager
def _sending(directory: Path, protocol: str, port: int) -> Iterator[Load]:
    """Run a sidecar with a store, files, and an OTLP receiver at a port."""
    backend = {"type": "otlp", "protocol": protocol, "endpoint": f"http://127.0.0.1:{port}"}
    lines = {"type": "ndjson", "path": "records.ndjson"}
    more = {"party": "first", "timeout": "2s"}
    settings = {"data": "data", "sinks": {"lines": lines, "backend": backend | more}}
    (directory / "c.yaml").write_text(json.dumps(settings))

    def states() -> Mapping[str, Mapping[str, Any]]:
        answer = ask(directory / "data", Status())
        assert answer is not None
        found: Mapping[str, Mapping[str, Any]] = answer["sinks"]
        return found

    environ = {"COLLECTOR__LOG__LEVEL": "debug"}
    with started(directory, "--config", "c.yaml", environ=environ) as sidecar:
        with _under_load(sidecar, states, (*_OTHERS, "backend")) as load:
            yield load
        (directory / "log").write_text("\n".join(sidecar.log))


@pytest.mark.timeout(600)
def test_everything_is_killed(all_places: Places, say: Say) -> None:
    """The sidecar, the database and the bucket's server are killed at random moments under load,
    and restarted. Everything acknowledged is in every place once, and nothing that was not sent."""
    random, killed = Random(), Counter[str]()
    acknowledged, unanswered = list[str](), set[str]()
    numbers = count(1)
    for _ in range(_KILLS):
        with all_places.serving() as sidecar:
            ended = Event()

            def send(sidecar: Sidecar = sidecar, ended: Event = ended) -> None:
                while not ended.is_set():
                    address = str(_NETWORK[next(numbers)])
                    event = f'{{"ip": "{address}", "chat": ["{_CHAT}"]}}\n'.encode()
                    try:
                        status = sidecar.send(event).status
                    except (OSError, HTTPException):
                        unanswered.add(address)
                        return
                    assert status == 200
                    acknowledged.append(address)

            with threads(*[send] * 3):
                sleep(random.uniform(0.2, 2))
                victims = random.sample(("database", "bucket", "sidecar"), random.randint(1, 3))
                for victim in victims:
                    killed[victim] += 1
                    sleep(random.uniform(0, 0.5))
                    if victim == "sidecar":
                        sidecar.process.kill()
                    else:
                        server = all_places.postgres if victim == "database" else all_places.s3
                        server.kill()
                        server.start()
                ended.set()
    with all_places.serving() as sidecar:
        wait_until(lambda: not metric(sidecar, "collector_spool_batches{"), _LONGEST_PAUSE)
        wait_until(lambda: not list(all_places.data.glob("sinks/lake/*.ndjson")), _LONGEST_PAUSE)
        assert sidecar.stop()[0] == 0
    say(f"killed: {dict(killed)}; {len(acknowledged)} acknowledged, {len(unanswered)} unanswered")
    assert acknowledged
    for name in ("store", "warehouse", "lake"):
        found = all_places.addresses(name)
        assert found.keys() >= set(acknowledged), name
        assert found.keys() <= set(acknowledged) | unanswered, name
        assert set(found.values()) == {1}, name
    _nothing_is_said(all_places)


def _add(to: dict[str, list[float]], lags: dict[str, list[float]]) -> None:
    for name, some in lags.items():
        to[name] += some


def _wait_for_failures(all_places: Places, before: tuple[int, int]) -> None:
    def failed() -> bool:
        now = all_places.postgres_proxy.failed, all_places.s3_proxy.refused
        return all(one > other for one, other in zip(now, before, strict=True))

    find: Callable[[], bool] = failed
    wait_until(find, 20)
