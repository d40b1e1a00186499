"""The control socket: erasure and retention while a sidecar receives, and who may not use it.

``COLLECTOR_ERASED`` says how many people are erased under load (20 by default).
"""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from threading import Event
from time import sleep

import pytest

from collector.control_socket import FILE_NAME
from collector.errors import CollectorError, DeliveryError
from collector.files import short_path
from collector.server.control_client import (
    Erase,
    Prune,
    Redeliver,
    Status,
    ask,
)
from tests.sidecar.erasing import WINDOW, address, addresses_stored, erasure, event_of, left
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import metric
from tests.support.programs import script, threads
from tests.support.sidecar import started

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no socket files")

_ERASED = int(os.environ.get("COLLECTOR_ERASED", "20"))


def _connected(data: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(WAIT_SECONDS)
    with short_path(data / FILE_NAME) as path:
        connection.connect(path)
    return connection


def _delivered(data: Path) -> int:
    """The batches in the store, by the sidecar's own count."""
    status = ask(data, Status())
    assert status is not None
    found: int = status["sinks"]["store"]["delivered"]
    return found


def test_a_person_is_erased_while_it_receives(tmp_path: Path) -> None:
    """The command erases from store, files, spool and batches set aside. The answer names places,
    and what is out of reach. Only the socket's owner can open it."""
    data, lines = tmp_path / "collector-data", tmp_path / "records.ndjson"
    with started(tmp_path, environ={"COLLECTOR__SINKS__NDJSON__PATH": str(lines)}) as sidecar:
        for number in (1, 2, 3):
            assert sidecar.send(event_of(address(number))).status == 200
        wait_until(
            lambda: len(addresses_stored(data)) == 3 and lines.read_bytes().count(b"\n") == 3
        )
        assert stat.S_IMODE((data / FILE_NAME).stat().st_mode) == 0o600
        assert left(data, address(2)) == left(lines.parent, address(2)) == {address(2)}
        window = ("--from", WINDOW[0], "--to", WINDOW[1])
        person = ("--field", f"client.address={address(2)}")
        done = run(
            *("subject", "erase", "--data", data, *person, *window, "--json"),
            env={"COLLECTOR__SINKS__NDJSON__PATH": str(lines)},
        )
        assert done.code == 0, done.err
        assert (done.json["sinks"], done.json["is_swept"]) == ({"store": 1, "ndjson": 1}, True)
        assert any("backups" in place for place in done.json["beyond"])
        assert left(tmp_path, address(2)) == set()
        assert sorted(addresses_stored(data)) == [address(1), address(3)]
        assert sidecar.send(event_of(address(2))).status == 200  # a new event of theirs
        wait_until(lambda: len(addresses_stored(data)) == 3)
        assert sidecar.stop()[0] == 0
    assert not (data / FILE_NAME).exists()
    assert run("ledger", "verify", "--data", data).code == 0


def test_a_directory_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    """The socket is made and found by a shorter path."""
    data = tmp_path / ("d" * 120)
    with started(tmp_path, environ={"COLLECTOR__DATA": str(data)}) as sidecar:
        assert ask(data, Status()) is not None
        assert sidecar.stop()[0] == 0
    assert not (data / FILE_NAME).exists()


def test_what_waits_is_erased_too(tmp_path: Path) -> None:
    data = tmp_path / "collector-data"
    with started(tmp_path) as sidecar:
        wait_until((data / "store.db").exists)
        store = sqlite3.connect(data / "store.db", timeout=WAIT_SECONDS, isolation_level=None)
        with closing(store) as holder:
            holder.execute("BEGIN IMMEDIATE")
            for number in range(1, 6):
                assert sidecar.send(event_of(address(number))).status == 200
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(ask, data, erasure(address(4)))
                wait_until(lambda: metric(sidecar, 'collector_spool_records{sink="store"}') == 4)
                status = ask(data, Status())
                assert status is not None
                assert status["spool"]["records"] == 4
                assert not asked.done() or asked.exception(), "it waits for the store"
                holder.execute("ROLLBACK")
        # The command failed if it was late: the sidecar waits for a store for a few seconds only.
        is_late = isinstance(asked.exception(), DeliveryError)
        answer = ask(data, erasure(address(4))) if is_late else asked.result()
        assert answer is not None
        assert answer["removed"]["deleted"] == (0 if is_late else 1)
        assert answer["removed"]["is_swept"]
        wait_until(lambda: len(addresses_stored(data)) == 4)
        assert left(data, address(4)) == set()
        assert sidecar.stop()[0] == 0


def test_commands_of_all_kinds(tmp_path: Path) -> None:
    """Each is answered. Errors are the same as without a sidecar. Without a sidecar there is no
    answer."""
    data = tmp_path / "collector-data"
    assert ask(data, Status()) is None
    with started(tmp_path) as sidecar:
        assert sidecar.send(event_of(address(1))).status == 200
        wait_until(lambda: addresses_stored(data))
        status = ask(data, Status())
        assert status is not None
        assert status["checks"]["spool"] == "ok"
        wait_until(lambda: _delivered(data) >= 1)  # the count follows the delivery by a moment
        assert run("status", "--data", data).code == 0
        pruned = ask(data, Prune(WAIT_SECONDS))
        assert pruned is not None
        assert (pruned["pruned"]["deleted"], pruned["pruned"]["is_swept"]) == (0, True)
        assert run("store", "prune", "--data", data).code == 0
        assert ask(data, Redeliver()) == {"delivered": 0, "left": 0}
        for command, code in [
            (Erase("os.type", "linux", *WINDOW, 1.0), "E404"),
            (erasure("no address"), "E107"),
            (Erase("client.address", "10.0.0.1", "never", "ever", 1.0), "E107"),
        ]:
            with pytest.raises(CollectorError) as caught:
                ask(data, command)
            assert caught.value.code == code
        assert addresses_stored(data) == [address(1)]
        assert sidecar.stop()[0] == 0
    assert ask(data, Status()) is None
    assert run("status", "--data", data).code == 1


_GARBAGE = [
    *(b"\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"{}\n", b"null\n", b"\xff\xfe\n"),
    *(b'{"command":"subject erase"}\n', b'{"command":"status","more":1}\n', b"[" * 60_000 + b"\n"),
    *(
        b'{"command":"rm"}\n',
        b'"' + b"x" * 100_000 + b'"\n',
        b'{"command":"store prune","wait":"x"}\n',
    ),
]


def test_what_is_no_command_is_refused(tmp_path: Path) -> None:
    """They get no answer, and are counted. The sidecar gives up on an incomplete request and turns
    a flood away; neither delays a sender."""
    data = tmp_path / "collector-data"
    with started(tmp_path) as sidecar:
        for garbage in _GARBAGE:
            with _connected(data) as connection:
                with suppress(OSError):
                    connection.sendall(garbage)
                with suppress(ConnectionError):
                    assert connection.recv(100) == b""
        halves = [_connected(data) for _ in range(100)]
        for half in halves:
            with suppress(OSError):
                half.sendall(b'{"command":')
        assert sidecar.send(event_of(address(1))).status == 200
        assert sidecar.admin("/readyz").status == 200
        for half in halves:
            with suppress(ConnectionError):
                assert half.recv(100) == b""
            half.close()
        assert ask(data, Status()) is not None
        wait_until(lambda: "control_refused" in [each["event"] for each in sidecar.events])
        assert sidecar.stop()[0] == 0
    assert "subject" not in "".join(sidecar.log)


def test_an_end_while_a_connection_is_silent(tmp_path: Path) -> None:
    """It is closed without an answer, which does not count as an unexpected error."""
    data = tmp_path / "collector-data"
    with started(tmp_path) as sidecar, closing(_connected(data)) as silent:
        _delivered(data)  # by then the other connection is accepted
        assert sidecar.stop()[0] == 0
        assert silent.recv(1) == b""
        wait_until(lambda: sidecar.events[-1]["event"] == "stopped")
        assert "unexpected" not in [each["event"] for each in sidecar.events]


@pytest.mark.skipif(
    not hasattr(os, "setuid") or os.geteuid() != 0 or sys.platform != "linux",
    reason="only root can be another user",
)
def test_another_user_is_refused(tmp_path: Path) -> None:
    """The file's mode refuses the user. If somebody has opened the mode, the check of the process's
    owner does."""
    data = tmp_path / "collector-data"
    asking = """
        import os, sys
        from contextlib import suppress
        from pathlib import Path
        from collector.control_socket import FILE_NAME
        from collector.server.control_client import Status, ask
        data = Path(sys.argv[1])
        if os.fork() == 0:
            os.setuid(65534)
            print(ask(data, Status()), flush=True)
            os._exit(0)
        os.wait()
        for folder in (data, *data.parents):
            with suppress(PermissionError):
                folder.chmod(folder.stat().st_mode | 0o011)
        (data / FILE_NAME).chmod(0o666)
        os.setuid(65534)
        try:
            ask(data, Status())
        except Exception as error:
            print(error.code)
    """
    with started(tmp_path) as sidecar:
        assert script(asking, data).stdout == "None\nE519\n"
        assert sidecar.stop()[0] == 0


@pytest.mark.long
def test_people_are_erased_under_load(tmp_path: Path) -> None:
    """No request is refused meanwhile. No byte of the erased people is left in any file, and
    everybody else is there once."""
    data, lines = tmp_path / "collector-data", tmp_path / "records.ndjson"
    ended, acknowledged = Event(), list[str]()

    def send(first: int) -> None:
        for number in range(first, 1 << 24, 4):
            if ended.is_set():
                return
            assert sidecar.send(event_of(address(number))).status == 200
            acknowledged.append(address(number))

    with started(tmp_path, environ={"COLLECTOR__SINKS__NDJSON__PATH": str(lines)}) as sidecar:
        erased: list[str] = []
        with threads(*[lambda n=n: send(n) for n in range(1, 5)]):
            try:
                random = Random(7)
                for _ in range(_ERASED):
                    wait_until(lambda: len(acknowledged) > 5 + len(erased))
                    person = random.choice(acknowledged[-200:])
                    if person in erased:
                        continue
                    answer = ask(data, erasure(person))
                    assert answer is not None
                    assert answer["removed"]["is_swept"]
                    erased.append(person)
            finally:
                ended.set()
        others = set(acknowledged) - set(erased)
        assert left(data, *sorted(others)[:5])
        wait_until(lambda: others <= set(addresses_stored(data)))
        assert sidecar.stop()[0] == 0
    found = addresses_stored(data)
    assert sorted(found) == sorted(others)
    assert left(tmp_path, *erased) == set()
    assert run("ledger", "verify", "--data", data).code == 0


@pytest.mark.long
def test_a_kill_at_any_moment_is_made_up_for(tmp_path: Path) -> None:
    """The same command, to the next sidecar or without one, erases what was left."""
    data, random = tmp_path / "collector-data", Random(11)
    for life in range(12):
        person = address(1000 + life)
        with started(tmp_path) as sidecar:
            for number in range(20):
                assert sidecar.send(event_of(address(life * 20 + number))).status == 200
            assert sidecar.send(event_of(person)).status == 200
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(ask, data, erasure(person))
                sleep(random.uniform(0, 0.25))
                sidecar.process.kill()
                sidecar.process.wait(WAIT_SECONDS)
                with suppress(CollectorError):
                    asked.result(WAIT_SECONDS)
        if life % 2:
            with started(tmp_path) as sidecar:
                answer = ask(data, erasure(person))
                assert answer is not None
                assert answer["removed"]["is_swept"]
                assert sidecar.stop()[0] == 0
        else:
            window = ("--from", WINDOW[0], "--to", WINDOW[1])
            field = ("--field", f"client.address={person}")
            assert run("subject", "erase", "--data", data, *field, *window).code == 0
        assert left(data, person) == set()
    assert run("ledger", "verify", "--data", data).code == 0
