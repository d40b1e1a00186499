"""A sidecar that reads its configuration again: what changes, what does not, and who notices.

``COLLECTOR_RELOADS`` says for how many seconds it reloads under load (10 by default, once each).
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
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from random import Random
from select import select
from threading import Event, Thread
from time import monotonic, monotonic_ns, sleep
from typing import Any

import pytest

from collector.errors import CollectorError
from collector.ledger import opened
from collector.server.control_client import Reload, Status, ask
from tests.cli.process import run
from tests.deadline import WAIT_SECONDS, eventually, wait_until
from tests.ingest.certificates import Authority
from tests.programs import threads
from tests.sidecar.account import Account, kept
from tests.sidecar.clients import Client, KeyedClient, LinesClient, clients
from tests.sidecar.delivery import delivered
from tests.sidecar.erasing import address, addresses_stored, erasure, event_of, left
from tests.sidecar.faults import metric
from tests.sidecar.processes import children, is_gone
from tests.sidecar.serving import FREE_PORTS, Sidecar, UnixConnection, started
from tests.tcp import free_port, is_refused

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="processes are read from /proc"
)

_SECONDS = int(os.environ.get("COLLECTOR_RELOADS", "10"))
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
    """A sidecar with a file of settings, which a test writes."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.data = sidecar.directory / "collector-data"

    def write(self, text: str) -> None:
        """Write the file at once."""
        _write(self.sidecar.directory / _FILE, text)

    def reload(self, *, widening: bool = False) -> dict[str, Any]:
        """Have it reloaded; return the answer."""
        answer = ask(self.data, Reload(widening))
        assert answer is not None
        return answer

    def outcome(self, text: str, *, widening: bool = False) -> str:
        """Write the file, and return what comes of it."""
        self.write(text)
        found: str = self.reload(widening=widening)["outcome"]
        return found

    def stored(self) -> dict[str, int]:
        """Send an event, which must be stored."""
        answer = self.sidecar.send(_EVENT)
        assert answer.status == 200, answer
        found: dict[str, int] = answer.json
        return found

    def entries(self, kind: str) -> list[dict[str, str]]:
        """The facts of the ledger's entries of a kind."""
        with opened(self.data / "spool.db") as ledger:
            return [dict(entry.facts) for entry in ledger.entries() if entry.kind == kind]

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log of an event."""
        return [each for each in self.sidecar.events if each["event"] == event]

    def hear(self, event: str, times: int) -> None:
        """Wait until its log has so many lines of an event."""
        wait_until(lambda: len(self.said(event)) == times)


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def _reloading(folder: Path, text: str = "{}\n", **environ: str) -> Iterator[_Reloading]:
    _write(folder / _FILE, text)
    with started(folder, "--config", _FILE, environ=environ) as sidecar:
        yield _Reloading(sidecar)


def test_a_schema_is_swapped_between_two_requests(tmp_path: Path) -> None:
    """By the worker that runs, on a connection that is open; the ledger has both digests, what was
    stored before stays, and a schema that widens is refused unless that is allowed."""
    path = tmp_path / "usage.yaml"
    path.write_text(_WIDER)
    with _reloading(tmp_path, f"schema: {path}\n") as it:
        before = children(it.sidecar.process.pid)
        with closing(HTTPConnection("127.0.0.1", it.sidecar.ports["http"])) as connection:

            def send() -> int:
                connection.request(
                    "POST", "/v1/events", _EVENT, {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                answer.read()
                return answer.status

            assert send() == 200
            path.write_text(_SCHEMA)
            answer = it.reload()
            assert (answer["outcome"], answer["change"]) == ("swapped", "narrowing")
            assert send() == 200
        assert children(it.sidecar.process.pid) == before
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
        assert 'collector_config_reloads_total{outcome="swapped"} 2.0' in text
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
    """Those that the keeper has on its files: commands that open and close them meanwhile do not
    remove a log, and what is acknowledged afterwards outlives a kill."""
    sinks = f"sinks: {{store: true, lake: {{type: parquet, path: {tmp_path}/lake}}}}\n"
    with _reloading(tmp_path, sinks) as it:
        it.stored()
        spool = it.data / "spool.db"
        with closing(sqlite3.connect(spool)) as db:  # the log has not the first page any more
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert it.outcome(f"log: {{level: debug}}\n{sinks}") == "kept"
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


def test_terms_are_swapped(tmp_path: Path) -> None:
    """Tokens, limits of events, origins and the page; over HTTP and gRPC."""
    token = "ab" * 16
    digest = sha256(token.encode()).hexdigest()
    with _reloading(tmp_path) as it:
        it.stored()
        assert it.outcome(f"auth: {{tokens: [{digest}]}}\n") == "swapped"
        assert it.sidecar.send(_EVENT).status == 401
        head = {"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {token}"}
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 200
        assert it.outcome("limits: {events: 2}\nhttp: {preferences: true}\n") == "swapped"
        assert it.sidecar.send(_EVENT).status == 200
        assert it.sidecar.send(3 * _EVENT).status == 413
        assert it.sidecar.request("GET", "/preferences").status == 200
        assert it.outcome("log: {level: warning}\n") == "swapped"
        assert it.outcome("{}\n") == "kept"
        assert it.sidecar.request("GET", "/preferences").status == 404


def test_schemas_come_and_go(tmp_path: Path) -> None:
    """Several of them; a name is known from the reload on, and unknown after the next."""
    with _reloading(tmp_path, "schema: conferencing\n") as it:
        head = {"Content-Type": "application/x-ndjson", "Collector-Schema": "usage"}
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 404
        (tmp_path / "usage.yaml").write_text(_SCHEMA)
        both = "schemas: [conferencing, ./usage.yaml]\n"
        assert it.outcome(both) == "refused"
        assert it.outcome(both, widening=True) == "swapped"
        assert it.sidecar.request("POST", "/v1/events", _EVENT, head).status == 200
        assert metric(it.sidecar, 'collector_events_total{outcome="admitted",schema="usage"}') == 1
        assert it.outcome("schema: conferencing\n") == "swapped"
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
    (_writes(f"sinks: {{ndjson: {{path: {_SECRET}.ndjson}}}}\n"), "E221"),
    (_writes("spool: {limit: 2GiB}\n"), "E221"),
    (_writes("sandbox: off\n"), "E221"),
    (_writes(f"tls: {{certificate: {_SECRET}, key: /dev/zero}}\n"), "E203"),
]


def test_a_faulty_file_changes_nothing(tmp_path: Path) -> None:
    """Each fault is answered and logged by code and place, and no value is said; a sound file is
    taken again."""
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
        assert it.outcome("limits: {events: 7}\n") == "swapped"
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
    """For want of a permission, or as a directory is in the place of one: the reload is refused by
    a code, and what ran goes on."""
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
    """The codes of a reload that is refused."""
    answer = it.reload()
    assert answer["outcome"] == "refused", answer
    return {fault["code"] for fault in answer["faults"]}


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    """When a reload begins, by systemd's clock, and when it has ended, whatever came of it. One
    that waits for a command has not begun, and signals that come meanwhile are one reload."""
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
                    assert ask(it.data, Status()) is not None  # so the signals have been seen
                    began = monotonic_ns() // 1000
                    reader.execute("COMMIT")
                    asked.result(WAIT_SECONDS)
            assert began <= _reload_began(manager)
            assert manager.recv(100) == b"READY=1"
            assert _is_silent(manager)
            assert it.sidecar.stop()[0] == 0
            assert manager.recv(100) == b"STOPPING=1"


def _reload_began(manager: socket.socket) -> int:
    """When a reload began, in microseconds."""
    state, microseconds = manager.recv(100).splitlines()
    assert state == b"RELOADING=1"
    name, _, number = microseconds.partition(b"=")
    assert name == b"MONOTONIC_USEC"
    return int(number)


def _is_silent(manager: socket.socket) -> bool:
    return not select([manager], [], [], 0.2)[0]


@pytest.mark.long
def test_files_are_watched(tmp_path: Path) -> None:
    """A change is taken without being asked for, a faulty one said once, and one that comes by a
    link as well; a file whose time alone changes is no news."""
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


def test_workers_are_replaced_for_ports_and_numbers(tmp_path: Path) -> None:
    """Another address is listened on before the one before is given up; a taken one is refused."""
    with _file_ports(tmp_path) as it:
        first = it.sidecar.ports["http"]
        taken = it.sidecar.ports["admin"]
        answer = _raised(lambda: it.outcome(_ports(http=taken)))
        assert "E207" in answer or "E122" in answer
        it.stored()
        other = free_port()
        assert it.outcome(_ports(http=other) + "workers: 2\n") == "replaced"
        wait_until(lambda: is_refused(first))  # workers before it end a moment after its answer
        it.sidecar.ports["http"] = other
        it.stored()
        assert eventually(lambda: len(children(it.sidecar.process.pid)) == 2)
        assert metric(it.sidecar, "collector_workers") == 2
        assert metric(it.sidecar, "collector_worker_replacements_total") == 0
        assert first != other
        path = tmp_path / "events.sock"
        assert it.outcome(_ports(http=other) + f"http: {{unix: {path}}}\n") == "refused"


@pytest.mark.parametrize("sandbox", ["auto", pytest.param("off", marks=pytest.mark.long)])
def test_a_socket_file_outlives_the_workers_that_are_replaced(sandbox: str, tmp_path: Path) -> None:
    """Those that end leave it to those that listen on it now; it goes with the sidecar."""
    path = tmp_path / "events.sock"
    text = f"http: {{unix: {path}}}\n"
    with _reloading(tmp_path, text, COLLECTOR__SANDBOX=sandbox) as it:
        before = children(it.sidecar.process.pid)
        assert it.outcome(f"{text}workers: 2\n") == "replaced"
        wait_until(lambda: not set(before) & set(children(it.sidecar.process.pid)))
        with closing(UnixConnection(path)) as connection:
            connection.request(
                "POST", "/v1/events", _EVENT, {"Content-Type": "application/x-ndjson"}
            )
            assert connection.getresponse().status == 200
        assert it.sidecar.stop()[0] == 0
    assert not path.exists()


def test_addresses_that_overlap_those_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both cannot be listened on at once, as it takes to replace workers: it is refused, and says
    so, where another process is not to blame. A port of gRPC is shared by what comes after."""
    pair, token = Authority(tmp_path).issue("served"), sha256(b"0" * 32).hexdigest()
    http, grpc = free_port(), free_port()
    monkeypatch.delitem(FREE_PORTS, "COLLECTOR__HTTP__ADDRESS")
    monkeypatch.delitem(FREE_PORTS, "COLLECTOR__GRPC__ADDRESS")

    def text(for_http: str, for_grpc: str) -> str:
        return (
            f"http: {{address: '{for_http}'}}\ngrpc: {{address: '{for_grpc}'}}\n"
            f"tls: {{certificate: {pair.certificate}, key: {pair.key}}}\n"
            f"auth: {{tokens: [{token}]}}\n"
        )

    with _reloading(tmp_path, text(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")) as it:
        for for_http, for_grpc in (
            (f"0.0.0.0:{http}", f"127.0.0.1:{grpc}"),
            (f"localhost:{http}", f"127.0.0.1:{grpc}"),
            (f"127.0.0.1:{grpc}", f"127.0.0.1:{http}"),
            ("off", f"0.0.0.0:{http}"),
        ):
            it.write(text(for_http, for_grpc))
            assert _refusals(it) == {"E221"}
        before = children(it.sidecar.process.pid)
        assert it.outcome(text(f"127.0.0.1:{http}", f"0.0.0.0:{grpc}")) == "replaced"
        wait_until(lambda: not {*before} & {*children(it.sidecar.process.pid)})
        with socket.create_connection(("127.0.0.2", grpc), timeout=WAIT_SECONDS):
            pass
        assert _encrypted(http, tmp_path / "authority.pem") == 401


@pytest.mark.long
def test_people_are_erased_while_it_reloads(tmp_path: Path) -> None:
    """Commands and reloads wait for each other, and nothing waits for them: whoever was erased is
    gone, and everybody else is there once."""
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
                text = "limits: {events: 1%d}\n" if number % 3 else "limits: {ratio: 20%d}\n"
                assert it.outcome(text % number) in ("swapped", "replaced")

        def send() -> None:
            for number in range(1000, 1 << 16):
                if ended.is_set():
                    return
                try:
                    if it.sidecar.send(event_of(address(number))).status == 200:
                        people.append(address(number))
                except (OSError, HTTPException):  # on a connection that a reload ends
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
@pytest.mark.parametrize("text", ["limits: {{events: {}}}\n", "limits: {{ratio: {}}}\n"])
def test_a_kill_while_people_are_erased_and_it_reloads(tmp_path: Path, text: str) -> None:
    """The next sidecar does what was left of the erasure; nothing else is lost."""
    random, people, erased = Random(), list[str](), list[str]()
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
                sleep(random.uniform(0, 0.5 if "events" in text else 2.5))
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


def _ports(http: int) -> str:
    return f"http: {{address: '127.0.0.1:{http}'}}\n"


@contextmanager
def _file_ports(folder: Path) -> Iterator[_Reloading]:
    """A sidecar whose port of HTTP is of the file, not of the environment."""
    _write(folder / _FILE, _ports(free_port()))
    environ = {name: value for name, value in FREE_PORTS.items() if "HTTP" not in name}
    saved = FREE_PORTS.pop("COLLECTOR__HTTP__ADDRESS")
    try:
        with started(folder, "--config", _FILE, environ=environ) as sidecar:
            yield _Reloading(sidecar)
    finally:
        FREE_PORTS["COLLECTOR__HTTP__ADDRESS"] = saved


def _raised(call: Callable[[], str]) -> str:
    try:
        return call()
    except CollectorError as error:
        return error.code


def test_certificates_are_replaced(tmp_path: Path) -> None:
    """Those on the disk are taken by the next reload, for senders; a pair that does not match
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
        assert it.reload()["outcome"] == "replaced"
        # Workers from before end a moment after the answer.
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
    """Send one event after another, each on a connection of its own; count the statuses."""

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


class _Kept(LinesClient):
    """Send on a connection that is kept open, and on another once that ends; count the ends."""

    ends = 0

    def run(self) -> None:
        while not self.is_stopped:
            super().run()
            self.ends += not self.is_stopped


def _load(
    it: _Reloading, account: Account, texts: Callable[[int], str]
) -> tuple[Counter[str], int]:
    """Reload once a second under load; return the statuses on new connections, and how often a
    connection that was kept open ended."""
    fresh = [_NewConnections(it.sidecar, account) for _ in range(2)]
    open_ones = [_Kept(it.sidecar, account, Random(number)) for number in range(2)]
    keyed = KeyedClient(it.sidecar, account, Random(7))
    grpc = clients(it.sidecar, account, Random(8))[2:]
    senders: list[_NewConnections | Client] = [*fresh, *open_ones, keyed, *grpc]
    for each in senders:
        each.start()
    for number in range(_SECONDS):
        began = monotonic()
        it.write(texts(number))
        assert it.reload()["outcome"] in ("swapped", "replaced")
        sleep(max(0.0, began + 1 - monotonic()))
    for each in senders:
        each.is_stopped = True
    for each in senders:
        each.join(WAIT_SECONDS)
        assert not each.is_alive()
    keyed.again()
    total = sum((each.found for each in fresh), Counter[str]())
    ends, sent = sum(each.ends for each in open_ones), Counter(p.answer for p in account.parcels)
    print(
        f"{_SECONDS} reloads; on new connections {dict(total)}, of all {dict(sent)}; {ends} ended"
    )
    return total, ends


def _settled(it: _Reloading, account: Account) -> None:
    """Nothing acknowledged is lost, nothing is there twice, and the ledger holds."""
    assert it.sidecar.stop()[0] == 0
    assert account.faults(kept(it.data)) == []
    assert account.keyed == []
    assert run("ledger", "verify", "--data", it.data).code == 0


_ENDED = ("BrokenPipeError", "ConnectionResetError", "RemoteDisconnected")


@pytest.mark.long
def test_no_request_fails_by_swaps_under_load(tmp_path: Path) -> None:
    """On whatever connection: every request is answered with 200."""
    account = Account()
    with _reloading(tmp_path, COLLECTOR__WORKERS="2") as it:
        found, ends = _load(it, account, lambda n: f"limits: {{events: {1000 + n}}}\n")
        assert set(found) == {"200"}, found
        assert ends == 0
        assert {parcel.answer for parcel in account.parcels} == {200}
        it.hear("reloaded", _SECONDS)
        _settled(it, account)


@pytest.mark.long
def test_new_connections_do_not_fail_by_replacements_under_load(tmp_path: Path) -> None:
    """Nothing is lost, no new connection is refused, and what is sent again under its key is stored
    once. A sender who has connected to a worker that ends has a second for its request: who stood
    still for longer connects again."""
    account = Account()
    with _reloading(tmp_path, COLLECTOR__WORKERS="2") as it:
        found, _ = _load(it, account, lambda n: f"limits: {{ratio: {200 + n}}}\n")
        assert found.keys() <= {"200", *_ENDED}, found
        assert found.total() - found["200"] <= 2, found
        it.hear("reloaded", _SECONDS)
        assert eventually(lambda: len(children(it.sidecar.process.pid)) == 2)
        _settled(it, account)


@pytest.mark.long
@pytest.mark.parametrize("what", ["keeper", "worker"])
@pytest.mark.parametrize("text", ["limits: {{events: {}}}\n", "limits: {{ratio: {}}}\n"])
def test_a_kill_in_the_midst_of_a_reload(tmp_path: Path, what: str, text: str) -> None:
    """Nothing acknowledged is lost; the next start, or the next worker, is whole."""
    random, account = Random(), Account()
    for life in range(6):
        with _reloading(tmp_path, text.format(1000 if "events" in text else 999)) as it:
            sender = _NewConnections(it.sidecar, account)
            sender.start()
            it.write(text.format(100 + life))
            asking = Thread(target=_asking, args=(it,), daemon=True)
            asking.start()
            sleep(random.uniform(0, 0.4 if "events" in text else 2.5))
            if what == "keeper":
                it.sidecar.process.kill()
            else:
                for pid in children(it.sidecar.process.pid):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            sender.is_stopped = True
            sender.join(WAIT_SECONDS)
            if what == "worker":
                asking.join(WAIT_SECONDS)
                assert not asking.is_alive()
                wait_until(partial(_has_worker, it.sidecar))
                _acknowledged(it, account)
                assert it.reload()["outcome"] in ("unchanged", "swapped", "replaced")
                wait_until(partial(_has_worker, it.sidecar))
                _acknowledged(it, account)
                assert it.sidecar.stop()[0] == 0
    with _reloading(tmp_path) as it:
        _acknowledged(it, account)
        _settled(it, account)


def _has_worker(sidecar: Sidecar) -> bool:
    """Whether there is a worker, and none any more whose place it has taken."""
    is_there = metric(sidecar, "collector_workers ") == 1
    return is_there and [*map(is_gone, children(sidecar.process.pid))].count(False) == 1


def _acknowledged(it: _Reloading, account: Account) -> None:
    parcel = account.parcel()
    answer = it.sidecar.send(parcel.body)
    parcel.answered(answer.status, answer.body)
    assert answer.status == 200


def _asking(it: _Reloading) -> None:
    with suppress(CollectorError, OSError):
        ask(it.data, Reload())
