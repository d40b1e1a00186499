"""A sidecar that reloads its configuration: what changes, what does not, and who notices.

``COLLECTOR_RELOADS`` is the number of reloads under load, and ``COLLECTOR_KILLS`` the number of
kills meanwhile (3 and 2 by default; `make servers` does both 50 times).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from hashlib import sha256
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from random import Random
from select import select
from threading import Event, Thread
from time import monotonic_ns, sleep
from typing import Any

import pytest

from collector.errors import CollectorError
from collector.ledger import opened
from collector.server.control_client import Reload, Status, ask
from tests.sidecar.account import Account, kept
from tests.sidecar.clients import Client, KeyedClient, clients
from tests.sidecar.erasing import address, addresses_stored, erasure, event_of, left
from tests.support.certificates import Authority
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.delivery import delivered
from tests.support.failing_disk import metric
from tests.support.processes import children, is_gone
from tests.support.programs import threads
from tests.support.sidecar import Sidecar, UnixConnection, started
from tests.support.tcp import free_port

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="processes are read from /proc"
)

_RELOADS = [
    int(os.environ.get("COLLECTOR_RELOADS", "3")),
    pytest.param(50, marks=[pytest.mark.servers, pytest.mark.timeout(900)]),
]
_KILLS = [
    int(os.environ.get("COLLECTOR_KILLS", "2")),
    pytest.param(50, marks=[pytest.mark.servers, pytest.mark.timeout(1800)]),
]
_SECRET = "hunter2-never-log-me"
_FILE = "collector.yaml"
_EVENT = b'{"client.address": "203.0.113.7", "device": {"type": "phone"}}\n'
_SCHEMA = """\
schema: usage
version: 1.0.0
title: What the service needs
owner: tests
purposes:
  service: {use: essential.service.operations, basis: contract, reason: Run the service}
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [service]
    retention: 30d
    reason: Run the service
"""
_WIDER = f"""{_SCHEMA}\
  device.type:
    kind: enum
    values: [phone, desktop]
    category: user.device
    purposes: [service]
    retention: 30d
    reason: Run the service
"""


class _Reloading:
    """A sidecar with a settings file that a test writes."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.data = sidecar.directory / "collector-data"

    def write(self, text: str) -> None:
        """Write the file atomically."""
        _write(self.sidecar.directory / _FILE, text)

    def reload(self, *, widening: bool = False) -> dict[str, Any]:
        """Request a reload; return the answer."""
        answer = ask(self.data, Reload(widening))
        assert answer is not None
        return answer

    def outcome(self, text: str, *, widening: bool = False) -> str:
        """Write the file, and return the outcome of a reload."""
        self.write(text)
        found: str = self.reload(widening=widening)["outcome"]
        return found

    def stored(self) -> dict[str, int]:
        """Send an event, and check that it is stored."""
        answer = self.sidecar.send(_EVENT)
        assert answer.status == 200, answer
        found: dict[str, int] = answer.json
        return found

    def entries(self, kind: str) -> list[dict[str, str]]:
        """The facts of the ledger's entries of a kind."""
        with opened(self.data / "spool.db") as ledger:
            return [dict(entry.facts) for entry in ledger.entries() if entry.kind == kind]

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log's lines with an event."""
        return [each for each in self.sidecar.events if each["event"] == event]

    def hear(self, event: str, times: int) -> None:
        """Wait until the log has this many lines with an event."""
        wait_until(lambda: len(self.said(event)) == times)


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def _reloading(
    folder: Path, text: str = "{}\n", *, allow: bool = False, **environ: str
) -> Iterator[_Reloading]:
    _write(folder / _FILE, text)
    more = ["--allow-widening"] if allow else []
    with started(folder, "--config", _FILE, *more, environ=environ) as sidecar:
        yield _Reloading(sidecar)


def test_a_schema_changes(tmp_path: Path) -> None:
    """New workers replace the old ones. The ledger has both digests, stored records stay, and a
    schema that widens is refused unless that is allowed."""
    path = tmp_path / "usage.yaml"
    path.write_text(_WIDER)
    with _reloading(tmp_path, f"schema: {path}\n") as it:
        before = children(it.sidecar.process.pid)
        it.stored()
        path.write_text(_SCHEMA)
        answer = it.reload()
        assert (answer["outcome"], answer["change"]) == ("reloaded", "narrowing")
        it.stored()
        wait_until(lambda: not {*before} & {*children(it.sidecar.process.pid)})
        assert it.reload() == {"outcome": "unchanged"}
        path.write_text(_WIDER)
        answer = it.reload()
        assert {fault["code"] for fault in answer["faults"]} == {"E222"}
        it.sidecar.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(it.said("reload_refused")) == 2)
        assert "[!] configuration late" in it.sidecar.admin("/readyz?verbose").body.decode()
        assert metric(it.sidecar, "collector_config_last_reload_successful") == 0
        assert it.reload(widening=True)["change"] == "widening"
        assert metric(it.sidecar, "collector_config_last_reload_successful") == 1
        text = it.sidecar.admin("/metrics").body.decode()
        assert 'collector_config_reloads_total{outcome="reloaded"} 2.0' in text
        assert 'collector_config_reloads_total{outcome="refused"} 2.0' in text
        assert it.stored()["admitted"] == 1
        delivered(it.sidecar)
        assert it.sidecar.stop()[0] == 0
        lines = [json.loads(line) for line in it.sidecar.log]
    first, second = it.entries("reload")
    assert first["cause"] == second["cause"] == "command"
    assert (first["change"], second["change"]) == ("narrowing", "widening")
    assert first["schemas"] == second["schemas_before"] != first["schemas_before"]
    assert second["schemas"] == first["schemas_before"]
    assert first["digest"] != first["before"]
    changes = [entry["change"] for entry in it.entries("schema")]
    assert changes == ["first", "narrowing", "widening"]
    assert run("ledger", "verify", "--data", it.data).code == 0
    assert not any(line["event"] == "unexpected" for line in lines)
    answer = run("store", "query", "--data", it.data, "SELECT * FROM usage", "--json").json
    assert Counter(row["device.type"] for row in answer) == {"phone": 2, None: 1}


def test_locks_outlive_a_reload(tmp_path: Path) -> None:
    """The keeper's locks on its files survive: commands that open and close the files meanwhile do
    not remove a log, and what is acknowledged afterwards survives a kill."""
    sinks = f"sinks: {{store: true, lake: {{type: parquet, path: {tmp_path}/lake}}}}\n"
    with _reloading(tmp_path, sinks) as it:
        it.stored()
        spool = it.data / "spool.db"
        with closing(sqlite3.connect(spool)) as db:  # the log no longer has the first page
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert it.outcome(f"log: {{level: debug}}\n{sinks}") == "reloaded"
        asked = (
            "--field",
            "client.address=203.0.113.7",
            "--from",
            "2020-01-01",
            "--to",
            "2090-01-01",
        )
        assert run("subject", "export", *asked, "--data", it.data).code == 0
        assert all(Path(f"{path}-wal").exists() for path in it.data.rglob("*.db"))
        it.stored()
        it.sidecar.process.kill()
        it.sidecar.process.wait(WAIT_SECONDS)
    with started(tmp_path, "--config", _FILE) as sidecar:
        delivered(sidecar)
        assert sidecar.stop()[0] == 0
    query = "SELECT sum(count) AS events FROM conferencing"
    (row,) = run("store", "query", "--data", tmp_path / "collector-data", query, "--json").json
    assert row == {"events": 2}


def test_what_is_answered_changes(tmp_path: Path) -> None:
    """Tokens, event limits, origins and the page change, over HTTP and gRPC."""
    token = "ab" * 16
    digest = sha256(token.encode()).hexdigest()
    with _reloading(tmp_path) as it:
        it.stored()
        assert it.outcome(f"auth: {{tokens: [{digest}]}}\n") == "reloaded"
        assert it.sidecar.send(_EVENT).status == 401
        head = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {token}"}
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 200
        assert it.outcome("limits: {events: 2}\nhttp: {preferences: true}\n") == "reloaded"
        assert it.sidecar.send(_EVENT).status == 200
        assert it.sidecar.send(3 * _EVENT).status == 413
        assert it.sidecar.request("GET", "/preferences").status == 200
        assert it.outcome("log: {level: warning}\n") == "reloaded"
        assert it.outcome("{}\n") == "reloaded"
        assert it.sidecar.request("GET", "/preferences").status == 404


def test_schemas_come_and_go(tmp_path: Path) -> None:
    with _reloading(tmp_path, "schema: conferencing\n") as it:
        head = {"Content-Type": "application/x-ndjson", "Collector-Schema": "usage"}
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 404
        (tmp_path / "usage.yaml").write_text(_SCHEMA)
        both = "schemas: [conferencing, ./usage.yaml]\n"
        assert it.outcome(both) == "refused"
        assert it.outcome(both, widening=True) == "reloaded"
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 200
        assert metric(it.sidecar, 'collector_events_total{outcome="admitted",schema="usage"}') == 1
        assert it.outcome("schema: conferencing\n") == "reloaded"
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 404
        it.stored()
        delivered(it.sidecar)
        assert it.sidecar.stop()[0] == 0
    answer = run("store", "query", "--data", it.data, "SELECT count(*) n FROM usage", "--json").json
    assert answer[0]["n"] == 1
    assert run("ledger", "verify", "--data", it.data).code == 0


def _writes(text: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_text(text)

    return spoil


def _links(to: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.symlink_to(to)

    return spoil


_SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (_writes(f"limits: {{events: {_SECRET}}}\n"), "E107"),
    (_writes(f"{_SECRET}: [\n"), "E102"),
    (_writes(f"schema: ./{_SECRET}.yaml\n"), "E101"),
    (_writes("a: " + "[" * 300_000), "E101"),
    (lambda path: path.mkdir(), "E101"),
    (lambda _: None, "E101"),
    (_links(_FILE), "E101"),
    (_links("/dev/zero"), "E101"),
    (os.mkfifo, "E101"),
    (_writes(f"data: ./{_SECRET}\n"), "E221"),
    (_writes(f"http: {{unix: ./{_SECRET}.sock}}\n"), "E221"),
    (_writes("admin: {hosts: [other.example]}\n"), "E221"),
    (_writes(f"sinks: {{ndjson: {{path: /no/such/{_SECRET}.ndjson}}}}\n"), "E203"),
    (_writes("spool: {limit: 2GiB}\n"), "E221"),
    (_writes("sandbox: off\n"), "E221"),
    (_writes(f"tls: {{certificate: {_SECRET}, key: /dev/zero}}\n"), "E203"),
]


def test_a_faulty_file_changes_nothing(tmp_path: Path) -> None:
    """Each fault is answered and logged with its code and place, without values. A sound file is
    then accepted again."""
    with _reloading(tmp_path) as it:
        pids, path = children(it.sidecar.process.pid), tmp_path / _FILE
        for number, (spoil, code) in enumerate(_SPOILT, 1):
            path.unlink()
            spoil(path)
            answer = it.reload()
            assert answer["outcome"] == "refused", code
            assert code in {fault["code"] for fault in answer["faults"]}, answer
            it.hear("reload_refused", number)
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.touch()
        it.stored()
        assert children(it.sidecar.process.pid) == pids
        codes = {code for _, code in _SPOILT}
        assert eventually(lambda: {each["code"] for each in it.said("reload_fault")} >= codes)
        assert it.outcome("limits: {events: 7}\n") == "reloaded"
        assert not any(_SECRET in line for line in it.sidecar.log)
        assert len(it.entries("reload")) == 1


_READS_LESS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root reads all
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, capability, 0, 0, 0):
        sys.exit("root, and may not give up what lets it read all")
os.execv(sys.executable, [sys.executable, "-m", "collector", "serve", *sys.argv[1:]])
"""


def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    """The sidecar lacks permission, or a directory is in a file's place: the reload is refused with
    a code, and the old configuration stays in force."""
    pair = Authority(tmp_path).issue("served")
    schema, file = tmp_path / "usage.yaml", tmp_path / _FILE
    schema.write_text(_SCHEMA)
    file.write_text(
        f"schema: {schema}\ntls: {{certificate: {pair.certificate}, key: {pair.key}}}\n"
    )
    codes = {
        file: ("E101", "E101"),
        schema: ("E101", "E101"),
        pair.certificate: ("E212", "E203"),
        pair.key: ("E212", "E203"),
    }
    command = [sys.executable, "-c", _READS_LESS]
    with started(tmp_path, "--config", _FILE, command=command) as sidecar:
        it, before = _Reloading(sidecar), children(sidecar.process.pid)
        for path, (denied, directory) in codes.items():
            mode, aside = stat.S_IMODE(path.stat().st_mode), path.with_suffix(".aside")
            path.chmod(0)
            assert _refusals(it) == {denied}, path
            path.chmod(mode)
            path.rename(aside)
            path.mkdir()
            assert _refusals(it) == {directory}, path
            path.rmdir()
            aside.rename(path)
        assert it.reload() == {"outcome": "unchanged"}
        assert children(sidecar.process.pid) == before
        assert _encrypted(sidecar.ports["http"], tmp_path / "authority.pem") == 200
        assert not any(str(tmp_path) in line for line in sidecar.log)
    assert it.entries("reload") == []


def _refusals(it: _Reloading) -> set[str]:
    """The codes of a refused reload."""
    answer = it.reload()
    assert answer["outcome"] == "refused", answer
    return {fault["code"] for fault in answer["faults"]}


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    """When a reload begins, by systemd's clock, and when it has ended, whatever the outcome. A
    reload that waits for a command has not begun. Signals that arrive meanwhile cause one
    reload."""
    name = f"collector-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(WAIT_SECONDS)
        with _reloading(tmp_path, NOTIFY_SOCKET=f"@{name}") as it:
            assert manager.recv(100) == b"READY=1"
            for text in ("limits: {events: 7}\n", "limits: [\n", "{}\n"):
                it.write(text)
                began = monotonic_ns() // 1000
                it.sidecar.process.send_signal(signal.SIGHUP)
                assert began <= _reload_began(manager) <= monotonic_ns() // 1000
                assert manager.recv(100) == b"READY=1"
            for number in (1, 2):
                assert it.sidecar.send(event_of(address(number))).status == 200
            delivered(it.sidecar)
            with closing(sqlite3.connect(it.data / "store.db", isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM conferencing").fetchone()
                with ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(ask, it.data, erasure(address(1), WAIT_SECONDS))
                    wait_until(lambda: addresses_stored(it.data) == [address(2)])
                    for _ in range(3):
                        it.sidecar.process.send_signal(signal.SIGHUP)
                        assert _is_silent(manager)
                    assert ask(it.data, Status()) is not None  # so the sidecar has seen the signals
                    began = monotonic_ns() // 1000
                    reader.execute("COMMIT")
                    asked.result(WAIT_SECONDS)
            assert began <= _reload_began(manager)
            assert manager.recv(100) == b"READY=1"
            assert _is_silent(manager)
            assert it.sidecar.stop()[0] == 0
            assert manager.recv(100) == b"STOPPING=1"


def _reload_began(manager: socket.socket) -> int:
    """Wait for the message that a reload began; return its time in microseconds."""
    state, microseconds = manager.recv(100).splitlines()
    assert state == b"RELOADING=1"
    name, _, number = microseconds.partition(b"=")
    assert name == b"MONOTONIC_USEC"
    return int(number)


def _is_silent(manager: socket.socket) -> bool:
    return not select([manager], [], [], 0.2)[0]


@pytest.mark.long
def test_files_are_watched(tmp_path: Path) -> None:
    """A change takes effect without a request, a faulty file is reported once, and a change by a
    link works too. A new modification time alone does nothing."""
    schema = tmp_path / "usage.yaml"
    schema.write_text(_WIDER)
    with _reloading(tmp_path, f"schema: {schema}\nwatch: true\n") as it:
        _write(schema, _SCHEMA)
        assert eventually(lambda: len(it.said("reloaded")) == 1)
        _write(schema, f"{_SCHEMA}{_SECRET}: 1\n")
        assert eventually(lambda: len(it.said("reload_refused")) == 1)
        sleep(3)
        assert len(it.said("reload_refused")) == 1
        other = tmp_path / "other.yaml"
        other.write_text(_SCHEMA.replace("30d", "20d"))
        schema.unlink()
        schema.symlink_to(other)
        assert eventually(lambda: len(it.said("reloaded")) == 2)
        it.write(f"schema: {schema}\nwatch: false\n")
        assert eventually(lambda: len(it.said("reloaded")) == 3)
        it.stored()
        assert not any(_SECRET in line for line in it.sidecar.log)
    assert [entry["cause"] for entry in it.entries("reload")] == ["watch"] * 3


@pytest.mark.parametrize("sandbox", ["auto", pytest.param("off", marks=pytest.mark.long)])
def test_a_socket_file_outlives_the_workers_that_are_replaced(sandbox: str, tmp_path: Path) -> None:
    """Old workers leave it to the new workers that listen on it; the sidecar's end removes it."""
    path = tmp_path / "events.sock"
    text = f"http: {{unix: {path}}}\n"
    with _reloading(tmp_path, text, COLLECTOR__SANDBOX=sandbox) as it:
        before = children(it.sidecar.process.pid)
        assert it.outcome(f"{text}workers: 2\n") == "reloaded"
        wait_until(lambda: not set(before) & set(children(it.sidecar.process.pid)))
        with closing(UnixConnection(path)) as connection:
            connection.request(
                "POST", "/v1/events", _EVENT, {"Content-Type": "application/x-ndjson"}
            )
            assert connection.getresponse().status == 200
        assert it.sidecar.stop()[0] == 0
    assert not path.exists()


@pytest.mark.long
def test_people_are_erased_while_it_reloads(tmp_path: Path) -> None:
    """Commands and reloads wait for each other, and nothing waits for them. Erased people are gone,
    and everybody else is there once."""
    with _reloading(tmp_path) as it:
        people, erased, ended = [address(number) for number in range(40)], list[str](), Event()
        unanswered = set[str]()
        for person in people:
            assert it.sidecar.send(event_of(person)).status == 200

        def erase() -> None:
            for person in people[:40:4]:
                answer = ask(it.data, erasure(person))
                assert answer is not None
                assert answer["removed"]["is_swept"]
                erased.append(person)

        def reload() -> None:
            for number in range(6):
                assert it.outcome(f"limits: {{events: 1{number}}}\n") == "reloaded"

        def send() -> None:
            for number in range(1000, 1 << 16):
                if ended.is_set():
                    return
                try:
                    if it.sidecar.send(event_of(address(number))).status == 200:
                        people.append(address(number))
                except (OSError, HTTPException):  # the reload closed the connection
                    unanswered.add(address(number))

        with threads(send):
            try:
                with threads(erase, reload):
                    pass
            finally:
                ended.set()
        others = set(people) - set(erased)
        assert len(erased) == 10
        assert len(others) > 30
        wait_until(lambda: others <= set(addresses_stored(it.data)))
        assert it.sidecar.stop()[0] == 0
    assert sorted({*addresses_stored(it.data)} - unanswered) == sorted(others)
    assert set(Counter(addresses_stored(it.data)).values()) == {1}
    assert left(tmp_path, *erased) == set()
    assert len(it.entries("reload")) == 6
    assert run("ledger", "verify", "--data", it.data).code == 0


@pytest.mark.long
def test_a_kill_while_people_are_erased_and_it_reloads(tmp_path: Path) -> None:
    """The next sidecar completes the erasure; nothing else is lost."""
    random, people, erased = Random(), list[str](), list[str]()
    text = "limits: {{events: {}}}\n"
    for life in range(6):
        with _reloading(tmp_path, text.format(999)) as it:
            these = [address(100 * life + number) for number in range(20)]
            for person in these:
                assert it.sidecar.send(event_of(person)).status == 200
            people += these
            person = random.choice(these)
            it.write(text.format(100 + life))

            def erase(it: _Reloading = it, person: str = person) -> None:
                with suppress(CollectorError, OSError):
                    ask(it.data, erasure(person))

            with threads(erase, partial(_asking, it)):
                sleep(random.uniform(0, 2.5))
                it.sidecar.process.kill()
        with _reloading(tmp_path, text.format(100 + life)) as it:
            answer = ask(it.data, erasure(person))
            assert answer is not None
            assert answer["removed"]["is_swept"]
            erased.append(person)
            others = set(people) - set(erased)
            wait_until(partial(_has_all, it.data, others))
            assert it.sidecar.stop()[0] == 0
        assert left(tmp_path, *erased) == set()
    assert sorted(addresses_stored(it.data)) == sorted(others)
    assert run("ledger", "verify", "--data", it.data).code == 0


def _has_all(data: Path, people: set[str]) -> bool:
    return people <= set(addresses_stored(data))


def test_certificates_are_replaced(tmp_path: Path) -> None:
    """The next reload takes the certificates on disk for receivers. A pair that does not match
    changes nothing."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    first, second = old.issue("first"), new.issue("second")
    pair = tmp_path / "served.pem", tmp_path / "served.key"
    for source, target in zip((first.certificate, first.key), pair, strict=True):
        shutil.copy(source, target)
    with _reloading(tmp_path, f"tls: {{certificate: {pair[0]}, key: {pair[1]}}}\n") as it:
        port, before = it.sidecar.ports["http"], children(it.sidecar.process.pid)
        assert _encrypted(port, old.own.certificate) == 200
        shutil.copy(second.certificate, pair[0])
        assert it.reload()["outcome"] == "refused"
        assert _encrypted(port, old.own.certificate) == 200
        shutil.copy(second.key, pair[1])
        assert it.reload()["outcome"] == "reloaded"
        # Old workers end a moment after the answer.
        wait_until(lambda: not {*before} & {*children(it.sidecar.process.pid)})
        assert not _is_trusted(port, old.own.certificate)
        assert _encrypted(port, new.own.certificate) == 200
        (entry,) = it.entries("reload")
        assert entry["digest"] == entry["before"]
        assert entry["change"] == "neutral"


def _is_trusted(port: int, authority: Path) -> bool:
    try:
        return _encrypted(port, authority) == 200
    except ssl.SSLError:
        return False


def _encrypted(port: int, authority: Path) -> int:
    context = ssl.create_default_context(cafile=str(authority))
    with closing(
        HTTPSConnection("localhost", port, context=context, timeout=WAIT_SECONDS)
    ) as connection:
        connection.request("POST", "/v1/events", _EVENT, {"Content-Type": "application/json"})
        return connection.getresponse().status


class _NewConnections(Thread):
    """Send events, each on a new connection; count the statuses."""

    def __init__(self, sidecar: Sidecar, account: Account) -> None:
        super().__init__(daemon=True)
        self.found: Counter[str] = Counter()
        self.is_stopped = False
        self._sidecar, self._account = sidecar, account

    def run(self) -> None:
        while not self.is_stopped:
            parcel = self._account.parcel(3)
            try:
                answer = self._sidecar.send(parcel.body)
            except (OSError, HTTPException) as error:
                self.found[type(error).__name__] += 1
                continue
            parcel.answered(answer.status, answer.body)
            self.found[str(answer.status)] += 1


# -- sinks ----------------------------------------------------------------------------------------

_LINES = "{type: ndjson, path: %s}"


def _sinks(folder: Path, *names: str, **settings: str) -> str:
    """A configuration with the store and some NDJSON files."""
    lines = [f"  {name}: {settings.get(name, _LINES % (folder / name))}\n" for name in names]
    return "sinks:\n  store: true\n" + "".join(lines)


def _addresses(path: Path) -> Counter[str]:
    """How often an NDJSON file has each address."""
    found = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return Counter(each["client.address"] for each in found)


def _acknowledged(it: _Reloading, account: Account) -> str:
    """Send a record, and check that it is stored; return its address."""
    parcel = account.parcel()
    answer = it.sidecar.send(parcel.body)
    parcel.answered(answer.status, answer.body)
    assert answer.status == 200
    return parcel.addresses[0]


def test_sinks_come_change_and_go(tmp_path: Path) -> None:
    """A new sink gets waiting and later batches. Batches of a removed sink are counted, and wait
    until it returns or is dropped. After a change of path, another file takes new records."""
    account, first, other = Account(), tmp_path / "first", tmp_path / "other"
    with _reloading(tmp_path, _sinks(tmp_path)) as it:
        _acknowledged(it, account)
        delivered(it.sidecar)
        answer = _changed(it, _sinks(tmp_path, "first"), "refused")
        assert {fault["code"] for fault in answer["faults"]} == {"E222"}
        assert _changed(it, _sinks(tmp_path, "first"))["change"] == "widening"
        one = _acknowledged(it, account)
        wait_until(lambda: _addresses(first) == {one: 1})
        assert it.outcome(_sinks(tmp_path, "first", first=_LINES % other)) == "reloaded"
        two = _acknowledged(it, account)
        wait_until(lambda: _addresses(other) == {two: 1})
        assert it.outcome(_sinks(tmp_path, first="")) == "reloaded"
        _acknowledged(it, account)
        delivered(it.sidecar)
        assert _addresses(first) + _addresses(other) == {one: 1, two: 1}
        _changed(it, _sinks(tmp_path, "first"))
        three = _acknowledged(it, account)
        wait_until(lambda: _addresses(first) == {one: 1, three: 1})
        _settled(it, account)
    assert _addresses(other) == {two: 1}


def _changed(it: _Reloading, text: str, outcome: str = "reloaded") -> dict[str, Any]:
    """Reload with another file; allow widening if the expected outcome is a reload."""
    it.write(text)
    answer = it.reload(widening=outcome == "reloaded")
    assert answer["outcome"] == outcome, answer
    return answer


def test_what_waits_for_a_sink_that_is_gone(tmp_path: Path) -> None:
    """The sidecar counts it until the sink returns."""
    account, file = Account(), tmp_path / "lines"
    absent = f"{{type: otlp, endpoint: 'http://127.0.0.1:{free_port()}', party: first}}"
    with _reloading(tmp_path, _sinks(tmp_path)) as it:
        _changed(it, _sinks(tmp_path, "lines", lines=absent))
        address = _acknowledged(it, account)
        wait_until(lambda: metric(it.sidecar, "collector_spool_batches") == 1)
        assert it.outcome(_sinks(tmp_path)) == "reloaded"
        assert _absent(it)["lines"]["waiting"]["records"] == 1
        _changed(it, _sinks(tmp_path, "lines"))
        wait_until(lambda: _addresses(file) == {address: 1})
        assert _absent(it) == {}
        _settled(it, account)


def _absent(it: _Reloading) -> dict[str, Any]:
    status = ask(it.data, Status())
    assert status is not None
    found: dict[str, Any] = status["absent"]
    return found


def test_config_check_says_what_needs_a_restart(tmp_path: Path) -> None:
    with _reloading(tmp_path) as it:
        text = f"data: {it.data}\nhttp: {{address: '127.0.0.1:{free_port()}'}}\n"
        file = tmp_path / "other.yaml"
        file.write_text(text)
        found = run("config", "check", "--config", file, "--json")
        assert found.code == 0
        at = {(each["field"], each["code"]) for each in found.json["warnings"]}
        assert ("http.address", "E221") in at
        assert it.sidecar.stop()[0] == 0
    assert run("config", "check", "--config", file, "--json").json["warnings"] == []


# -- under load -----------------------------------------------------------------------------------


class _Load:
    """Senders on new connections, on one persistent connection, under keys and over gRPC."""

    def __init__(self, it: _Reloading, account: Account) -> None:
        self.fresh = [_NewConnections(it.sidecar, account) for _ in range(2)]
        self._keyed = KeyedClient(it.sidecar, account, Random(7))
        others = clients(it.sidecar, account, Random(8))
        self._all: list[_NewConnections | Client] = [*self.fresh, self._keyed, *others]
        for each in self._all:
            each.start()

    def stop(self) -> None:
        """Stop all senders."""
        for each in self._all:
            each.is_stopped = True
        for each in self._all:
            each.join(WAIT_SECONDS)
            assert not each.is_alive()

    @property
    def found(self) -> Counter[str]:
        """The outcomes on new connections."""
        return sum((each.found for each in self.fresh), Counter[str]())


def _settled(it: _Reloading, account: Account) -> None:
    """Check that nothing acknowledged is lost, nothing is there twice, and the ledger holds."""
    assert it.sidecar.stop()[0] == 0
    assert account.faults(kept(it.data)) == []
    assert account.keyed == []
    assert run("ledger", "verify", "--data", it.data).code == 0


def _texts(folder: Path, number: int) -> str:
    """The configuration of a reload: a sink comes, changes its path or purposes, or goes."""
    names = [name for bit, name in enumerate(("first", "other")) if number + bit & 2]
    first = folder / ("first" if number & 1 else "second")
    settings = {"first": _LINES % first, "other": _LINES % (folder / "other")}
    return f"{_sinks(folder, *names, **settings)}limits: {{events: {1000 + number}}}\n"


def _checked_lines(folder: Path, account: Account, whole: set[str]) -> None:
    """Check the NDJSON files. They have nothing twice except what was in transit at a kill, nothing
    that was not sent, and everything acknowledged while they were certainly sinks."""
    sent = {address for parcel in account.parcels for address in parcel.addresses}
    found = _addresses(folder / "first") + _addresses(folder / "second")
    assert found.keys() | _addresses(folder / "other").keys() <= sent
    assert whole <= found.keys()


@pytest.mark.parametrize("reloads", _RELOADS)
def test_reloads_under_load_that_change_sinks(tmp_path: Path, reloads: int) -> None:
    """No request on a new connection fails. The store has everything once. Each other sink has once
    everything acknowledged while it was configured."""
    account, whole = Account(), set[str]()
    with _reloading(tmp_path, _texts(tmp_path, 0), COLLECTOR__WORKERS="2") as it:
        load = _Load(it, account)
        for number in range(1, reloads + 1):
            _changed(it, _texts(tmp_path, number))
            if "first" in _texts(tmp_path, number):
                whole.add(_acknowledged(it, account))
        load.stop()
        assert set(load.found) == {"200"}, load.found
        it.hear("reloaded", reloads)
        _changed(it, _sinks(tmp_path, "first", "other"))
        wait_until(lambda: metric(it.sidecar, "collector_spool_batches") == 0)
        assert eventually(lambda: len(children(it.sidecar.process.pid)) == 2)
        _settled(it, account)
        assert not any(line["event"] == "unexpected" for line in it.sidecar.events)
    _checked_lines(tmp_path, account, whole)
    found = _addresses(tmp_path / "first") + _addresses(tmp_path / "second")
    assert {*found.values(), *_addresses(tmp_path / "other").values()} == {1}


@pytest.mark.long
@pytest.mark.parametrize("what", ["keeper", "worker"])
@pytest.mark.parametrize("kills", _KILLS)
def test_a_kill_in_the_midst_of_a_reload(tmp_path: Path, what: str, kills: int) -> None:
    """Nothing acknowledged is lost, in the store and in every sink that was there. The next start,
    or the next worker, is intact."""
    random, account, whole = Random(), Account(), set[str]()
    for life in range(1, kills + 1):
        with _reloading(tmp_path, _texts(tmp_path, life - 1), allow=True) as it:
            if "first" in _texts(tmp_path, life - 1) and "first" in _texts(tmp_path, life):
                whole.add(_acknowledged(it, account))
            sender = _NewConnections(it.sidecar, account)
            sender.start()
            it.write(_texts(tmp_path, life))
            with threads(partial(_asking, it)):
                sleep(random.uniform(0, 2.5))
                if what == "keeper":
                    it.sidecar.process.kill()
                else:
                    for pid in children(it.sidecar.process.pid):
                        with suppress(OSError):
                            os.kill(pid, signal.SIGKILL)
            sender.is_stopped = True
            sender.join(WAIT_SECONDS)
            if what == "worker":
                for _ in range(2):
                    wait_until(partial(_has_worker, it.sidecar))
                    _acknowledged(it, account)
                    assert it.reload(widening=True)["outcome"] in ("unchanged", "reloaded")
                assert it.sidecar.stop()[0] == 0
    with _reloading(tmp_path, _sinks(tmp_path, "first", "other"), allow=True) as it:
        whole.add(_acknowledged(it, account))
        wait_until(lambda: metric(it.sidecar, "collector_spool_batches") == 0)
        _settled(it, account)
    _checked_lines(tmp_path, account, whole)


def _has_worker(sidecar: Sidecar) -> bool:
    """Whether there is a worker, and no replaced one any more."""
    is_there = metric(sidecar, "collector_workers ") == 1
    return is_there and [*map(is_gone, children(sidecar.process.pid))].count(False) == 1


def _asking(it: _Reloading) -> None:
    with suppress(CollectorError, OSError):
        ask(it.data, Reload(True))
