"""The sidecar as a process: it starts, receives, keeps, says how it does, and ends well."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import ssl
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from collector.ingest.auth import hashed
from tests.support.certificates import Authority
from tests.support.command import run_process
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.latency import at_most
from tests.support.processes import children
from tests.support.programs import script
from tests.support.sidecar import COMMAND, FREE_PORTS, Sidecar, UnixConnection, started
from tests.support.tcp import free_port

_FLUSH_SECONDS = 3.0
"""How long requests, and then deliveries, may take when a sidecar ends."""
_EVENT = b'{"ip_address": "203.0.113.7", "device": {"type": "phone"}, "chat": ["hunter2secret"]}\n'


def _rows(directory: Path) -> int:
    """Events in the store of a data directory."""
    path = directory / "collector-data" / "store.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT coalesce(sum(count), 0) FROM conferencing").fetchone()[0])


def _wait_for_rows(directory: Path, number: int) -> None:
    eventually(lambda: _rows(directory) >= number)
    assert _rows(directory) == number


def _wait_for_lines(path: Path, number: int) -> None:
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= number)


def _metrics(sidecar: Sidecar) -> str:
    """What it counts; a worker that does not answer in time has said before what it counted."""
    return sidecar.admin("/metrics").body.decode()


def _ended(directory: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """The exit code and stderr of a sidecar that does not start."""
    done = run_process("serve", *arguments, env=FREE_PORTS | environ, directory=directory)
    return done.code, done.err.decode()


def _bound(manager: socket.socket, folder: Path) -> dict[str, str]:
    """The setting that names the socket of a service manager."""
    manager.bind(str(folder / "notify.sock"))
    manager.settimeout(WAIT_SECONDS)
    return {"NOTIFY_SOCKET": str(folder / "notify.sock")}


@pytest.mark.timed
def test_from_start_to_end(tmp_path: Path) -> None:
    """It listens, is ready, keeps an event in the store, counts it, and ends with 0 in time. Its
    files are its owner's alone, the service manager is told, and a user's signals do nothing."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        started(tmp_path, environ=_bound(manager, tmp_path), command=COMMAND) as sidecar,
    ):
        assert manager.recv(100) == b"READY=1"
        assert set(sidecar.ports) == {"http", "grpc", "admin"}
        assert sidecar.admin("/livez").body == b"ok\n"
        ready = sidecar.admin("/readyz?verbose")
        assert ready.status == 200
        for check in (b"spool", b"sink store", b"receiver http", b"receiver grpc"):
            assert b"[+] " + check + b" ok\n" in ready.body
        workers = children(sidecar.process.pid)
        for pid in (sidecar.process.pid, *workers):
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                os.kill(pid, number)
        answer = sidecar.send(_EVENT * 3)
        assert (answer.status, answer.json["admitted"]) == (200, 3)
        assert children(sidecar.process.pid) == workers
        assert answer.headers["date"]
        assert "server" not in answer.headers
        _wait_for_rows(tmp_path, 3)
        wait_until(lambda: 'count{receiver="http",status="2xx"} 1.0' in _metrics(sidecar))
        metrics = _metrics(sidecar)
        assert 'collector_events_total{outcome="admitted",schema="conferencing"} 3.0' in metrics
        assert 'collector_content_total{category="chat",schema="conferencing"} 3.0' in metrics
        assert "hunter2" not in metrics
        requests = b'count{receiver="http",status="2xx"} 1.0'  # a worker that is late tells later
        wait_until(lambda: requests in sidecar.admin("/metrics").body)
        data = tmp_path / "collector-data"
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.rglob("*")}
        assert set(modes.values()) == {0o600}, modes
        code, seconds = sidecar.stop()
        assert manager.recv(100) == b"STOPPING=1"
    assert code == 0
    assert seconds < at_most(10)
    assert [event["event"] for event in sidecar.events] == [
        "starting",
        "started",
        "stopping",
        "stopped",
    ]
    last = sidecar.events[-1]
    assert last["delivered_all"] or last["seconds"] > _FLUSH_SECONDS  # it stood still
    assert last["waiting"] == 0
    assert _rows(tmp_path) == 3


def test_options_lie_over_the_environment(tmp_path: Path) -> None:
    """Data, schema and the three ports; a fault of one is said as of the setting."""
    environ = {"COLLECTOR__DATA": str(tmp_path / "else"), "COLLECTOR__SCHEMA": "canary"}
    options = ("--data", "mine", "--schema", "web", "--port", "0")
    with started(tmp_path, *options, environ=environ) as sidecar:
        assert sidecar.ports.keys() == {"http", "grpc", "admin"}
        assert sidecar.send(b"{}\n").status == 200
        metrics = sidecar.admin("/metrics").body
    assert b'schema="web/' in metrics
    assert (tmp_path / "mine" / "spool.db").exists()
    code, said = _ended(tmp_path, "--schema", "weeb")
    assert (code, "schema: " in said, "E101" in said) == (78, True, True)
    with free_ports(3) as (grpc, http_, admin), started(tmp_path, "--port", str(http_)) as sidecar:
        assert sidecar.ports == {"grpc": grpc, "http": http_, "admin": admin}


@contextmanager
def free_ports(number: int) -> Iterator[list[int]]:
    """Ports in a row that nothing listens on."""
    for _ in range(1000):
        first = free_port()
        with ExitStack() as stack:
            try:
                for port in range(first, first + number):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield [*range(first, first + number)]
        return


@pytest.mark.long
def test_the_service_manager_is_told_that_it_lives(tmp_path: Path) -> None:
    asked = {"WATCHDOG_USEC": "3000000"}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        started(tmp_path, environ=_bound(manager, tmp_path) | asked, command=COMMAND) as sidecar,
    ):
        assert [manager.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert sidecar.stop()[0] == 0
    (tmp_path / "notify.sock").unlink()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        started(
            tmp_path,
            environ=_bound(manager, tmp_path) | asked | {"WATCHDOG_PID": "1"},
            command=COMMAND,
        ) as sidecar,
    ):
        assert manager.recv(100) == b"READY=1"
        assert sidecar.stop()[0] == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_files_become_their_owners_alone(tmp_path: Path) -> None:
    """Modes that are too open are tightened at the start, and the log says so."""
    data = tmp_path / "collector-data"
    data.mkdir(mode=0o755)
    (data / "store.db").touch(0o644)
    with started(tmp_path) as sidecar:
        assert [stat.S_IMODE(each.stat().st_mode) for each in (data, data / "store.db")] == [
            *(0o700, 0o600)
        ]
    assert ("modes_tightened", 2) in [(each["event"], each.get("files")) for each in sidecar.events]


def test_a_store_that_is_a_link(tmp_path: Path) -> None:
    """The sidecar does not start, and writes nothing where it leads."""
    data = tmp_path / "collector-data"
    data.mkdir()
    (data / "store.db").symlink_to(tmp_path / "elsewhere.db")
    code, said = _ended(tmp_path)
    assert (code, "[E203]" in said, "symbolic link" in said) == (78, True, True)
    assert not (tmp_path / "elsewhere.db").exists()


def _announce(sender: socket.socket, length: int) -> None:
    """Send the head of a request, and wait until it has been read."""
    sender.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Content-Type: application/x-ndjson\r\nExpect: 100-continue\r\n\r\n" % length
    )
    assert sender.recv(65536).startswith(b"HTTP/1.1 100 ")


@pytest.mark.timed
def test_it_does_not_wait_for_those_who_send_nothing(tmp_path: Path) -> None:
    """Open connections and half a request hold up the end for a few seconds at most. The sender of
    a body that is still coming is told to come again."""
    with started(tmp_path) as sidecar, ExitStack() as stack:
        place = ("127.0.0.1", sidecar.ports["http"])
        _, half, slow = (
            stack.enter_context(socket.create_connection(place, WAIT_SECONDS)) for _ in range(3)
        )
        half.sendall(b"POST /v1/events HTTP/1.1\r\nHost: loc")
        _announce(slow, len(_EVENT))
        slow.sendall(_EVENT[:10])
        code, seconds = sidecar.stop()
        answer = slow.makefile("rb").read()
    assert code == 0
    assert seconds < at_most(10)
    assert b" 503 " in answer.splitlines()[0]
    assert b"retry-after" in answer.lower()
    assert _rows(tmp_path) == 0


@pytest.mark.long
@pytest.mark.timed
def test_a_store_that_is_held_by_others(tmp_path: Path) -> None:
    """It does not hold up the end, a second signal ends it at once, and what was acknowledged is in
    the store after the next start."""
    for number in (1, 2):
        with started(tmp_path) as sidecar:
            _wait_for_rows(tmp_path, number - 1)
            with closing(sqlite3.connect(tmp_path / "collector-data" / "store.db")) as other:
                other.execute("BEGIN IMMEDIATE")
                assert sidecar.send(_EVENT).status == 200
                if number == 1:
                    code, seconds = sidecar.stop()
                    assert code == 0
                    assert not sidecar.events[-1].get("delivered_all")  # where time is up, none
                    assert seconds < at_most(10)
                else:
                    sidecar.process.send_signal(signal.SIGTERM)
                    wait_until(lambda: sidecar.events[-1]["event"] == "stopping")
                    sleep(0.2)  # two that come at once are one
                    code, seconds = sidecar.stop()
                    assert code == -signal.SIGTERM
                    assert seconds < at_most(1)
                other.rollback()
    with started(tmp_path):
        _wait_for_rows(tmp_path, 2)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Exit 75, so that a service manager tries again, and a message for each setting; nothing is
    made. With a fault that stays, exit 78."""
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("", 0)) as grpc:
        ports = [taken.getsockname()[1] for taken in (http, grpc)]
        places = {"HTTP": f"127.0.0.1:{ports[0]}", "GRPC": f"127.0.0.1:{ports[1]}"}
        code, said = _ended(
            tmp_path, **{f"COLLECTOR__{name}__ADDRESS": place for name, place in places.items()}
        )
        both, _ = _ended(tmp_path, "--schema", "none", COLLECTOR__HTTP__ADDRESS=places["HTTP"])
    assert (code, both) == (75, 78)
    assert said.count("[E207]") == len(said.splitlines()) == 2
    assert all(str(port) in said for port in ports)
    assert list(tmp_path.iterdir()) == []


def test_faulty_settings(tmp_path: Path) -> None:
    """Exit 78 with every fault; none of what was written is shown."""
    (tmp_path / "c.yaml").write_text(
        "http: {address: hunter2secret}\nlog: {level: hunter2secret}\n"
    )
    code, said = _ended(tmp_path, "--config", "c.yaml", COLLECTOR__GRPC__ADDRESS="0.0.0.0:1")
    assert code == 78
    assert said.count("[E107]") == 1  # the address comes from the environment
    assert said.count("[E210]") == 2
    assert "hunter2" not in said
    assert _ended(tmp_path, "--config", "none.yaml")[0] == 78
    code, said = _ended(tmp_path, COLLECTOR__SCHEMA="no-such-schema")
    assert (code, "[E101]" in said) == (78, True)


def test_a_socket_file(tmp_path: Path) -> None:
    """It takes the same as the port, is its owner's alone, and is removed at the end."""
    path = tmp_path / "in.sock"
    token = {"COLLECTOR__AUTH__TOKENS": hashed("a token")}
    with started(tmp_path, environ={"COLLECTOR__HTTP__UNIX": str(path)} | token) as sidecar:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert sidecar.send(_EVENT).status == 401
        connection = UnixConnection(path)
        connection.request("POST", "/v1/events", _EVENT, {"Content-Type": "application/x-ndjson"})
        assert connection.getresponse().status == 200
        connection.close()
        assert sidecar.stop()[0] == 0
    assert not path.exists()


def test_only_a_socket_file(tmp_path: Path) -> None:
    """No port has to be open."""
    off = dict.fromkeys(FREE_PORTS, "off") | {"COLLECTOR__HTTP__UNIX": "in.sock"}
    with started(tmp_path, environ=off) as sidecar:
        assert set(sidecar.ports) == {"unix"}
        assert sidecar.stop(signal.SIGINT)[0] == 0  # Ctrl-C is as good as SIGTERM


def test_addresses_that_others_can_reach(tmp_path: Path) -> None:
    """Encrypted, and only for those who show a token; health needs none."""
    pair = Authority(tmp_path).issue("server")
    environ = {
        "COLLECTOR__HTTP__ADDRESS": "0.0.0.0:0",
        "COLLECTOR__ADMIN__ADDRESS": "0.0.0.0:0",
        "COLLECTOR__TLS__CERTIFICATE": str(pair.certificate),
        "COLLECTOR__TLS__KEY": str(pair.key),
        "COLLECTOR__AUTH__TOKENS": hashed("a token"),
    }
    right = {"Authorization": "Bearer a token"}
    with started(tmp_path, environ=environ) as sidecar:
        for port, path, body in (("http", "/v1/events", _EVENT), ("admin", "/metrics", None)):
            assert _encrypted(sidecar.ports[port], path, body, {}) == 401
            assert _encrypted(sidecar.ports[port], path, body, right) == 200
            with pytest.raises((OSError, http.client.HTTPException)):
                sidecar.request("GET", path, to=port)
        assert _encrypted(sidecar.ports["admin"], "/readyz", None, {}) == 200
        unhashed = {"Authorization": f"Bearer {hashed('a token')}"}
        assert _encrypted(sidecar.ports["http"], "/v1/events", _EVENT, unhashed) == 401
        wait_until(lambda: "token_unhashed" in [each["event"] for each in sidecar.events])
        assert sidecar.stop()[0] == 0


def _encrypted(port: int, path: str, body: bytes | None, headers: dict[str, str]) -> int:
    """The status of an answer over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=WAIT_SECONDS, context=context
    )
    kind = {"Content-Type": "application/x-ndjson"}
    try:
        connection.request("GET" if body is None else "POST", path, body, kind | headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_foreign_callers_of_admin(tmp_path: Path) -> None:
    """A name that was made lead here, and a page of another origin, get nothing. A second process
    on the same data ends with 75, and the first goes on."""
    with started(tmp_path) as sidecar:
        code, said = _ended(tmp_path)
        assert (code, "in use" in said, len(said.splitlines())) == (75, True, 1)
        assert sidecar.admin("/metrics", {"Host": "attacker.example"}).status == 421
        assert sidecar.admin("/metrics", {"Origin": "https://attacker.example"}).status == 403
        assert sidecar.admin("/hunter2secret?hunter2secret").status == 404
        assert sidecar.request("POST", "/metrics", b"x", to="admin").status == 405
        assert sidecar.send(_EVENT).status == 200


def test_ndjson_as_a_sink(tmp_path: Path) -> None:
    environ = {"COLLECTOR__SINKS__STORE": "false", "COLLECTOR__SINKS__NDJSON__PATH": "out.ndjson"}
    with started(tmp_path, environ=environ) as sidecar:
        assert sidecar.send(_EVENT * 2).status == 200
        _wait_for_lines(tmp_path / "out.ndjson", 2)
        assert sidecar.stop()[0] == 0
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert [json.loads(line)["client.address"] for line in lines] == ["203.0.113.7"] * 2
    assert not (tmp_path / "collector-data" / "store.db").exists()


def test_a_sink_for_some_purposes(tmp_path: Path) -> None:
    """It gets the fields that are for one of them, and no byte of the others."""
    (tmp_path / "c.yaml").write_text(
        "sinks:\n  ndjson: {path: out.ndjson, party: processor, recipient: A, country: DE,"
        " purposes: [capacity_planning]}\n"
    )
    event = b'{"ip_address": "203.0.113.7", "os": {"type": "linux"}}\n'
    with started(tmp_path, "--config", "c.yaml") as sidecar:
        assert sidecar.send(event * 2 + b'{"ip_address": "203.0.113.8"}\n').status == 200
        _wait_for_lines(tmp_path / "out.ndjson", 2)
        _wait_for_rows(tmp_path, 3)
        assert sidecar.stop()[0] == 0
    written = (tmp_path / "out.ndjson").read_text()
    assert "203.0.113" not in written
    lines = [json.loads(line) for line in written.splitlines()]
    assert [list(line) for line in lines] == [["schema", "os.type", "received"]] * 2
    assert query(
        tmp_path / "collector-data" / "store.db",
        "SELECT count(client_address) FROM conferencing_view",
    ) == [(3,)]


def test_many_senders_at_once_while_it_stops(tmp_path: Path) -> None:
    acknowledged: list[int] = []

    def send(sidecar: Sidecar) -> None:
        try:
            while True:
                answer = sidecar.send(_EVENT * 5)
                if answer.status == 200:
                    acknowledged.append(answer.json["admitted"])
        except (OSError, Exception):  # noqa: BLE001 - it has stopped
            return

    with started(tmp_path) as sidecar:
        senders = [Thread(target=send, args=(sidecar,)) for _ in range(4)]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(acknowledged) > 50)
        code, seconds = sidecar.stop()
        assert code == 0
        for sender in senders:
            sender.join(WAIT_SECONDS)
    if not sidecar.events[-1].get("delivered_all"):  # time was up
        with started(tmp_path):
            wait_until(lambda: _rows(tmp_path) >= sum(acknowledged))
    unanswered = 0 if seconds < 2 else 5 * len(senders)  # who waits for longer is hung up on
    assert 0 <= _rows(tmp_path) - sum(acknowledged) <= unanswered


def test_a_damaged_spool_is_said(tmp_path: Path) -> None:
    """It starts, says so in the log and in metrics, and takes events."""
    data = tmp_path / "collector-data"
    data.mkdir(mode=0o700)
    (data / "spool.db").write_bytes(b"hunter2secret" * 1000)
    (data / "spool.db").chmod(0o600)
    with started(tmp_path) as sidecar:
        assert sidecar.send(_EVENT).status == 200
        metrics = sidecar.admin("/metrics").body.decode()
        assert "collector_spool_damaged_files 1.0" in metrics
        _wait_for_rows(tmp_path, 1)
        assert sidecar.stop()[0] == 0
    names = [event["event"] for event in sidecar.events]
    assert names == ["starting", "started", "spool_damaged", "stopping", "stopped"]
    assert "hunter2" not in "\n".join(sidecar.log)


def test_a_command_loads_itself_alone() -> None:
    """`collector filter` loads no Rich, no parser of YAML, no other command."""
    heavy = "rich ruamel asyncio multiprocessing sqlite3 collector.cli.serve"
    code = (
        "import atexit, sys; from collector.cli import main; sys.argv = ['collector', 'filter']; "
        f"names = {heavy.split()!r}; "
        "atexit.register(lambda: print([name for name in names if name in sys.modules])); main()"
    )
    assert script(code, input="{}\n").stdout == "[]\n"
