"""Several workers with one keeper: they look the same to senders, are replaced when they end, and
are never trusted.

``COLLECTOR_KILLS`` is the number of kills of workers, the keeper or both under load (8 by default;
``make nightly`` sets 1,000).
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from collector.config import examine
from collector.errors import ConfigFaults
from collector.sandbox import Support
from collector.server import keeper, preflight
from collector.server.preflight import find_faults
from tests.sidecar.account import Account, kept
from tests.sidecar.clients import KeyedClient, clients
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.delivery import delivered
from tests.support.failing_disk import metric
from tests.support.make_schemas import PSEUDONYM
from tests.support.processes import children, command, is_gone
from tests.support.sidecar import NEW_INTERPRETERS, Sidecar, started

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="processes are read from /proc"
)

_KILLS = int(os.environ.get("COLLECTOR_KILLS", "8"))
_LIVES = 25
_TWO = {"COLLECTOR__WORKERS": "2"}
_EVENT = b'{"ip_address": "203.0.113.7", "device": {"type": "phone"}}\n'


def _workers(sidecar: Sidecar, number: int) -> list[int]:
    """Wait until there are this many workers and all receive; return their processes."""
    wait_until(lambda: metric(sidecar, "collector_workers ") == number)
    wait_until(lambda: len(children(sidecar.process.pid)) == number)  # one may be ending
    return children(sidecar.process.pid)


def _sent(sidecar: Sidecar, body: bytes, times: int, path: str, **headers: str) -> list[int]:
    """Send requests in parallel, each on its own connection; return the statuses."""
    head = {"Content-Type": "application/x-ndjson"}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}

    def send(_: int) -> int:
        return sidecar.request("POST", path, body, head).status

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(send, range(times)))


def _rows(data: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{data / 'store.db'}?mode=ro", uri=True)) as store:
        return list(store.execute(query))


def _events(sidecar: Sidecar, name: str) -> list[dict[str, object]]:
    return [event for event in sidecar.events if event["event"] == name]


def test_two_workers_are_one_sidecar(tmp_path: Path) -> None:
    """Counts add up over both, they share the limit of connections, and both stop. If connections
    come a few at a time, a worker gets at most 55 of 100."""
    with started(tmp_path, environ=_TWO) as sidecar:
        workers, most = _workers(sidecar, 2), 0
        assert b"[+] workers ok\n" in sidecar.admin("/readyz?verbose").body
        assert set(_sent(sidecar, _EVENT * 2, 60, "/v1/events")) == {200}
        assert metric(sidecar, 'collector_events_total{outcome="admitted"') == 120
        name = 'collector_request_duration_seconds_count{receiver="http",status="2xx"}'
        wait_until(lambda: metric(sidecar, name) == 60)  # a worker may report with a delay
        delivered(sidecar)

        def more(before: Counter[int] | None = None) -> Counter[int]:
            now = Counter({pid: len([*Path(f"/proc/{pid}/fd").iterdir()]) for pid in workers})
            return now - (before or Counter())

        for _ in range(5):
            before = more()
            with ExitStack() as stack:
                for _ in range(8):
                    place = "127.0.0.1", sidecar.ports["http"]
                    stack.enter_context(socket.create_connection(place))
                wait_until(lambda: more(before).total() == 8)  # noqa: B023 - it is waited for
                most += max(more(before).values())
            wait_until(lambda: not more(before))  # noqa: B023
        assert most <= 0.55 * 40
        assert sidecar.stop()[0] == 0
        assert all(map(is_gone, workers))
    assert _rows(tmp_path / "collector-data", "SELECT sum(count) FROM conferencing") == [(120,)]


def test_workers_that_are_killed_are_replaced(tmp_path: Path) -> None:
    """Connections wait meanwhile; the log and a metric show it. A person has one pseudonym in all
    workers, and a body that is repeated under its key is stored once."""
    (tmp_path / "s.yaml").write_text(PSEUDONYM.format(key="env:WORKERS_KEY"))
    settings = {"COLLECTOR__SCHEMA": "./s.yaml", "WORKERS_KEY": "a secret of the operator"}
    body, key = b'{"device.id": "one"}\n', {"Idempotency_Key": "ab" * 16}
    with started(tmp_path, environ=_TWO | settings) as sidecar:

        def send() -> None:
            assert set(_sent(sidecar, body, 40, "/v1/events")) == {200}
            assert set(_sent(sidecar, body, 30, "/v1/events", **key)) == {200}

        send()
        for pid in _workers(sidecar, 2):
            os.kill(pid, signal.SIGKILL)
        assert sidecar.send(body).status == 200
        wait_until(lambda: metric(sidecar, "collector_worker_replacements_total") == 2)
        _workers(sidecar, 2)
        send()
        delivered(sidecar)
        assert sidecar.stop()[0] == 0
        assert [event["times"] for event in _events(sidecar, "worker_replaced")] == [1, 2]
    query = 'SELECT count(DISTINCT "device.id"), sum(count) FROM devices'
    assert _rows(tmp_path / "collector-data", query) == [(1, 82)]


@pytest.mark.long
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="prlimit is Linux's")
def test_a_worker_that_cannot_be_replaced_is_replaced_later(tmp_path: Path) -> None:
    with started(tmp_path, environ=NEW_INTERPRETERS) as sidecar:
        (pid,) = _workers(sidecar, 1)
        keeper_pid, kind = sidecar.process.pid, resource.RLIMIT_NOFILE
        before = resource.prlimit(keeper_pid, kind)
        resource.prlimit(keeper_pid, kind, (3, before[1]))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(_events(sidecar, "worker_replaced")) >= 3)
        assert children(keeper_pid) == []
        resource.prlimit(keeper_pid, kind, before)
        assert sidecar.send(_EVENT).status == 200
        assert _workers(sidecar, 1) != [pid]
        delivered(sidecar)
        assert sidecar.stop()[0] == 0
    assert _rows(tmp_path / "collector-data", "SELECT sum(count) FROM conferencing") == [(1,)]


def test_workers_end_with_the_keeper(tmp_path: Path) -> None:
    """They end at once, however the keeper ends."""
    with started(tmp_path, environ=_TWO | NEW_INTERPRETERS) as sidecar:
        workers = _workers(sidecar, 2)
        sidecar.process.kill()
        sidecar.process.wait(WAIT_SECONDS)
        wait_until(lambda: all(map(is_gone, workers)))


_PUT = (
    "framed(Put(1, None, [PutBatch({schema}, {minute}, {granted},"
    " PutTally({tally}, 9, {size}), {size})]))"
)
_REJECTED = "1, 0, [1] + [0] * 6, {}, [0] * 5"
_LIES = {
    "of batches": [
        # a tally, a schema, a purpose, a minute, a field
        _PUT.format(
            schema=0, minute="MINUTE", granted=None, tally="2, 1, [0] * 7, {}, [0] * 5", size=0
        ),
        _PUT.format(schema=1, minute="MINUTE", granted=None, tally=_REJECTED, size=0),
        _PUT.format(schema=0, minute="MINUTE", granted=[9], tally=_REJECTED, size=0),
        _PUT.format(schema=0, minute=1, granted=None, tally=_REJECTED, size=0),
        _PUT.format(
            schema=0, minute="MINUTE", granted=None, tally="1, 1, [0] * 7, {}, [0] * 5", size=25
        )
        + r""" + b'{"chat":"hunter2secret"}\n'""",
    ],
    "of messages": [
        # no message, an endless one, an error, a library, counters
        r"b'\xff' * 9",
        r"(3).to_bytes(4, 'big') + b'\x93\x00\x01'",
        "framed(ErrorSeen(60000, None, 0))",
        "framed(LibrarySeen(77))",
        "framed(Report([1], [1.0], [], 0))",
    ],
}
"""Bytes that a worker sends, as expressions."""


@pytest.mark.long
@pytest.mark.parametrize("kind", _LIES)
def test_a_worker_that_lies_is_ended(kind: str, tmp_path: Path) -> None:
    """Nothing that it sent is stored. The log says so, and another worker takes its place."""
    lies, order = _LIES[kind], tmp_path / "lie"
    before = f"""
from datetime import datetime, UTC
from pathlib import Path
from collector.server import worker
from collector.server.channel import framed
from collector.server.messages import *
MINUTE = int(datetime.now(UTC).timestamp()) // 60
LIES = [{", ".join(f"lambda: {lie}" for lie in lies)}]
ORDER = Path({str(order)!r})
Queue = worker.ChannelQueue
put = Queue.put
def lying(self, *batches, key=None):
    if ORDER.exists():
        lie = LIES[int(ORDER.read_text())]
        ORDER.unlink()
        self.send([lie()])
    return put(self, *batches, key=key)
Queue.put = lying
"""
    settings = {"COLLECTOR__SANDBOX": "off"}
    with started(tmp_path, environ=settings, command=command(tmp_path, before)) as sidecar:
        for number in range(len(lies)):
            order.write_text(str(number))
            with suppress(OSError):
                sidecar.send(_EVENT)
            wait_until(lambda ended=number + 1: len(_events(sidecar, "worker_distrusted")) == ended)  # type: ignore[misc]
            wait_until(lambda: metric(sidecar, "collector_workers ") == 1)
            assert sidecar.send(_EVENT).status == 200
        delivered(sidecar)
        assert sidecar.stop()[0] == 0
    rows = _rows(tmp_path / "collector-data", "SELECT sum(count) FROM conferencing")
    assert rows == [(len(lies),)]
    ended = run("ledger", "verify", "--data", tmp_path / "collector-data", "--json")
    assert (ended.code, ended.json["received"]) == (0, len(lies))
    assert "hunter2" not in "\n".join(sidecar.log)


def test_a_kernel_that_cannot_confine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``required`` is refused and names what the kernel lacks; ``auto`` is not refused."""
    lacking = Support(0, seccomp=False, lacks=("Landlock", "seccomp filters"))
    for module in (preflight, keeper):
        monkeypatch.setattr(module, "support", lambda: lacking)
    places = {f"COLLECTOR__{name}__ADDRESS": "127.0.0.1:0" for name in ("HTTP", "GRPC", "ADMIN")}
    environ = places | {"COLLECTOR__DATA": str(tmp_path / "d")}
    (fault,) = find_faults(examine(None, environ | {"COLLECTOR__SANDBOX": "required"}))
    assert (fault.code, fault.field) == ("E217", "sandbox")
    assert "Landlock, seccomp filters" in fault.message
    with pytest.raises(ConfigFaults):
        preflight.prepare(examine(None, environ | {"COLLECTOR__SANDBOX": "required"}))
    assert find_faults(examine(None, environ | {"COLLECTOR__SANDBOX": "auto"})) == []
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("sandbox", ["auto", pytest.param("off", marks=pytest.mark.long)])
def test_readiness_knows_the_sandbox(sandbox: str, tmp_path: Path) -> None:
    """A line says whether workers are confined, unless the sandbox is switched off. In both cases
    they have loaded what they need for OTLP; forked ones always have."""
    with started(tmp_path, environ={"COLLECTOR__SANDBOX": sandbox, **NEW_INTERPRETERS}) as sidecar:
        for kind, body in (("json", b"{}"), ("x-protobuf", b"\x0a\x02\x12\x00")):
            headers = {"Content-Type": f"application/{kind}"}
            assert sidecar.request("POST", "/v1/logs", body, headers).status == 200
        said = sidecar.admin("/readyz?verbose").body
        assert (b"sandbox" in said) == (sandbox == "auto")
        is_late = b"[!] sandbox late\n" in said
        assert sidecar.stop()[0] == 0
        assert bool(_events(sidecar, "unconfined")) == is_late


# -- kills ----------------------------------------------------------------------------------------


def _kill(sidecar: Sidecar, account: Account, random: Random, kills: Counter[str]) -> bool:
    """Let clients send, and kill workers, the keeper or both. Return whether the keeper is
    alive."""
    senders = clients(sidecar, account, random)
    senders += [KeyedClient(sidecar, account, Random(random.random())) for _ in range(2)]
    for client in senders:
        client.start()
    sleep(random.uniform(0.02, 0.25))
    workers = children(sidecar.process.pid)
    what = random.choice(("worker", "worker", "workers", "keeper", "both"))
    chosen = random.sample(workers, 1) if what == "worker" else workers
    kills[what] += 1
    kills["requests under way"] += sum(client.began > 0 for client in senders)
    if what != "keeper":
        for pid in chosen:
            os.kill(pid, signal.SIGKILL)
    lives = what in ("worker", "workers")
    if not lives:
        sidecar.process.kill()
        sidecar.process.wait(WAIT_SECONDS)
    end = monotonic() + 0.3
    while lives and monotonic() < end and any(client.is_alive() for client in senders):
        sleep(0.01)
    for client in senders:
        client.stop()
    for client in senders:
        client.join(WAIT_SECONDS)
        assert not client.is_alive()
    kills["requests sent again under their key"] += len(account.keyed)
    return lives


def _passes(sidecar: Sidecar, account: Account) -> None:
    """Send unanswered requests again under their keys, and then a new event; check that all are
    acknowledged and the event is stored."""
    KeyedClient(sidecar, account, Random()).again()
    parcel = account.parcel()
    answer = sidecar.send(parcel.body)
    parcel.answered(answer.status, answer.body)
    assert answer.status == 200
    data = sidecar.directory / "collector-data"
    assert eventually(lambda: parcel.addresses[0] in kept(data).stored), "it does not pass"


@pytest.mark.long
@pytest.mark.parametrize("life", range(-(-_KILLS // _LIVES)))
def test_nothing_acknowledged_is_lost_or_doubled(
    life: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, account, kills = Random(), Account(), Counter[str]()
    data = tmp_path / "collector-data"
    left = min(_LIVES, _KILLS - life * _LIVES)
    while left:
        with started(tmp_path, environ=_TWO | NEW_INTERPRETERS) as sidecar:
            lives = True
            while lives and left:
                _workers(sidecar, 2)
                _passes(sidecar, account)
                lives = _kill(sidecar, account, random, kills)
                left -= 1
            if lives:
                _workers(sidecar, 2)
                _passes(sidecar, account)
                assert sidecar.stop()[0] == 0
    with started(tmp_path, environ=_TWO | NEW_INTERPRETERS) as sidecar:
        _passes(sidecar, account)
        assert sidecar.stop()[0] == 0
    found = kept(data)
    assert account.faults(found) == []
    ended = run("ledger", "verify", "--data", data, "--json")
    assert ended.code == 0, ended.err
    said = ended.json
    assert said["received"] == found.stored.total() + sum(said["rejected"].values())
    assert list(data.glob("*damaged*")) == []
    assert account.received() > 0
    assert account.keyed == []
    with capsys.disabled():
        print(
            f"\n{dict(kills)}; {account.received():,} of {said['received']:,} events acknowledged,"
            f" {account.unanswered(found)} requests stored without an answer",
            file=sys.stderr,
        )
