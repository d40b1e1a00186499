"""A real sidecar as the sink: over HTTP, TLS and a socket file, unreachable, back, and refusing."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.errors import ConfigError
from collector.sdk import Collector
from tests.sdk.accounts import YESTERDAY, address, adds_up, deliver_all, ends, spool_of
from tests.sdk.stores import addresses, rows
from tests.sdk.wires import hung, wire
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.ledgers import check_ledger
from tests.support.rows import for_each
from tests.support.sidecar import Sidecar, started
from tests.support.tcp import tcp_server

_EVENT = {"ip_address": "203.0.113.7", "device": {"type": "phone"}, "chat": ["never sent"]}
_FOREVER = 30.0


def _arrived(sidecar: Sidecar, expected: Sequence[str]) -> None:
    """Wait until these addresses are in its store; each is there once."""
    path = sidecar.directory / "collector-data" / "store.db"

    def found() -> list[str]:
        known = addresses(path) if path.exists() else []
        return [each for each in known if each in expected]

    wait_until(lambda: len(found()) >= len(expected))
    assert found() == sorted(expected)


def _tries(telemetry: Collector, *why: str) -> None:
    """Wait until an attempt to deliver has failed, for one of these reasons."""
    wait_until(lambda: telemetry.flush(0.1) or telemetry.tally().failing)
    assert telemetry.tally().failing
    assert telemetry.tally().why in {f"E514 {each}" for each in why}


def test_over_http_and_a_socket_file(sidecar: Sidecar) -> None:
    """Records arrive unchanged, with their minute."""
    event = {**_EVENT, "ip_address": "203.0.113.8"}
    unix = f"unix://{sidecar.directory}/c.sock"
    for to in (f"http://127.0.0.1:{sidecar.ports['http']}", unix):
        with Collector(to=to) as telemetry:
            assert telemetry.emit(event)
            assert telemetry.flush(_FOREVER)
            assert telemetry.tally().delivered == 1
    _arrived(sidecar, ["203.0.113.8"] * 2)
    found = rows(sidecar.directory / "collector-data" / "store.db")
    kept = [row["device.type"] for row in found if row["client.address"] == "203.0.113.8"]
    assert kept == ["phone"] * 2


def test_content_never_crosses_the_wire(sidecar: Sidecar) -> None:
    """Every byte of the connection is searched."""
    event = {**_EVENT, "ip_address": "203.0.113.10"}
    with wire(sidecar.ports["http"]) as between:
        with Collector(to=f"http://127.0.0.1:{between.port}") as telemetry:
            for number in range(100):
                telemetry.emit({**event, "user": "canary", "canary": number, "os": "canary"})
                telemetry.emit(b'{"ip": "::1", "audio": "canary", "os": {"canary": 1}}')
                telemetry.emit("canary")
            assert telemetry.flush(_FOREVER)
        _arrived(sidecar, ["203.0.113.10", "::1"] * 100)
    assert telemetry.tally().delivered == 200
    for seen in (between.sent, between.answered):
        assert seen
        assert b"canary" not in seen
        assert b"never sent" not in seen
    for path in sidecar.directory.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


def test_a_lost_answer_does_not_double_records(sidecar: Sidecar) -> None:
    """The batch is sent again under the same key, and is stored once."""
    with wire(sidecar.ports["http"]) as between:
        between.swallow = 3
        with Collector(to=f"http://127.0.0.1:{between.port}", batch=10) as telemetry:
            for number in range(30):
                telemetry.emit({"ip": f"10.0.0.{number}"})
            assert telemetry.flush(_FOREVER)
        assert between.connections > 1
        _arrived(sidecar, [f"10.0.0.{number}" for number in range(30)])
    assert telemetry.tally().delivered == 30


def test_the_queue_is_bounded_and_delivered_later(sidecar: Sidecar) -> None:
    """``emit`` does not wait for a sink that is away: the queue fills up and drops are counted;
    afterwards the rest arrives."""
    with wire(sidecar.ports["http"]) as between:
        between.is_cut = True
        with Collector(to=f"http://127.0.0.1:{between.port}", queue=50) as telemetry:
            kept = [telemetry.emit({"ip": f"10.0.1.{number}"}) for number in range(80)]
            assert kept == [True] * 50 + [False] * 30
            assert telemetry.tally().lost == {"queue_full": 30}
            assert telemetry.tally().queued == 50
            between.is_cut = False
            assert telemetry.flush(_FOREVER)
            assert telemetry.emit({"ip": "10.0.1.99"})
            assert telemetry.flush(_FOREVER)
        assert telemetry.tally().delivered == 51
        _arrived(sidecar, [f"10.0.1.{number}" for number in (*range(50), 99)])


def test_it_goes_away_and_comes_back(sidecar: Sidecar) -> None:
    """Records stay queued meanwhile, then they are delivered."""
    event = {"ip": "203.0.113.9"}
    with wire(sidecar.ports["http"]) as between:
        with Collector(to=f"http://127.0.0.1:{between.port}", interval=0.01) as telemetry:
            telemetry.emit(event)
            assert telemetry.flush(_FOREVER)
            between.is_cut = True
            telemetry.emit(event)
            _tries(telemetry, "network", "refused")
            account = telemetry.tally()
            assert (account.delivered, account.queued, account.failing) == (1, 1, True)
            between.is_cut = False
            assert telemetry.flush(_FOREVER)
        _arrived(sidecar, ["203.0.113.9"] * 2)
    account = telemetry.tally()
    assert (account.delivered, account.failing) == (2, False)
    assert account.failures > 0


def test_tokens_and_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "keys.log"
    authority = Authority(tmp_path)
    pair, token = authority.issue("server"), "a token that is long enough".replace(" ", "-")
    environ = {
        "COLLECTOR__TLS__CERTIFICATE": str(pair.certificate),
        "COLLECTOR__TLS__KEY": str(pair.key),
        "COLLECTOR__AUTH__TOKENS": hashlib.sha256(token.encode()).hexdigest(),
    }
    with started(tmp_path, environ=environ) as sidecar:
        monkeypatch.setenv("SSLKEYLOGFILE", str(log))
        assert ssl.create_default_context().keylog_filename == str(log)
        log.unlink(missing_ok=True)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        to = f"https://localhost:{sidecar.ports['http']}"
        sound: dict[str, Any] = {"token": token, "ca": authority.own.certificate}
        for without, why in (("token", "401"), ("ca", "tls")):
            given = {key: value for key, value in sound.items() if key != without}
            with Collector(to=to, exit_timeout=0, **given) as telemetry:
                telemetry.emit(_EVENT)
                _tries(telemetry, why)
            assert telemetry.tally().lost == {"unsent": 1}
        with Collector(to=to, **sound) as telemetry:
            telemetry.emit(_EVENT)
            assert telemetry.flush(_FOREVER)
    assert not log.exists()


def test_files_for_tls_that_are_none(tmp_path: Path) -> None:
    """They are an error at once, without their path."""
    (tmp_path / "canary.pem").write_text("canary")
    for name in ("ca", "certificate"):
        files: dict[str, Any] = {name: tmp_path / "canary.pem"}
        with pytest.raises(ConfigError, match="E212") as caught:
            Collector(to="https://localhost", **files)
        assert "canary" not in str(caught.value)


def test_another_version_of_the_schema(tmp_path: Path) -> None:
    """The sidecar refuses the records; they stay queued until it has the same version."""
    with started(tmp_path) as sidecar:
        to = f"http://127.0.0.1:{sidecar.ports['http']}"
        with Collector("conferencing-strict", to, spool=tmp_path / "spool") as telemetry:
            telemetry.emit(_EVENT)
            assert telemetry.flush(_FOREVER)
            wait_until(lambda: telemetry.tally().why == "E514 409")
            assert not telemetry.close(0.5) or telemetry.tally().spooled == 1
        ends(telemetry)
    account = telemetry.tally()
    assert (account.delivered, account.spooled, account.lost) == (0, 1, {})
    environ = {"COLLECTOR__SCHEMA": "conferencing-strict"}
    with started(tmp_path, "--allow-widening", environ=environ) as sidecar:
        to = f"http://127.0.0.1:{sidecar.ports['http']}"
        with Collector("conferencing-strict", to, spool=tmp_path / "spool") as telemetry:
            assert telemetry.tally().recovered == 1
            assert telemetry.close(_FOREVER)
        assert telemetry.tally().delivered == 1


def test_it_does_not_answer(tmp_path: Path) -> None:
    """``close`` and ``flush`` return in time."""
    with hung() as port:
        telemetry = Collector(to=f"http://127.0.0.1:{port}", timeout=300)
        assert telemetry.emit(_EVENT)
        assert not telemetry.flush(0.1)
        assert not telemetry.close(0.1)
        account = telemetry.tally()
    assert (account.admitted, account.delivered, account.lost) == (1, 0, {"unsent": 1})


_WHY = {
    "closes": ("malformed", "network"),
    "garbage": ("malformed",),
    "no counts": ("malformed",),
    "half": ("malformed", "network"),
    "redirect": ("status",),
    "no path": ("404",),
    "error": ("5xx",),
    "many headers": ("malformed", "network"),
}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"received":1',
        b"HTTP/1.1 302 Found\r\nLocation: http://canary/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 canary\r\nContent-Length: 6\r\n\r\ncanary",
        b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 999 + b"\r\n",
    ],
    ids=["closes", "garbage", "no counts", "half", "redirect", "no path", "error", "many headers"],
)
def test_a_response_of_another_server(
    answer: bytes, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    why = _WHY[request.node.callspec.id]

    def serve(end: socket.socket) -> None:
        end.recv(1 << 16)
        end.sendall(answer)

    with tcp_server(serve) as port:
        to = f"http://127.0.0.1:{port}"
        with Collector(to=to, exit_timeout=0, timeout=WAIT_SECONDS) as telemetry:
            telemetry.emit(_EVENT)
            _tries(telemetry, *why)
            assert telemetry.tally().delivered == 0
            account = telemetry.tally()
            assert account.as_dict()["why"] == account.why
            wait_until(lambda: "telemetry is not being delivered at present [E514 " in caplog.text)
    assert "canary" not in caplog.text


_SHRINKING = """
schema: survey
version: 1.0.0
title: A survey
owner: tests
purposes:
  planning:
    use: analytics.reporting.system.performance
    basis: consent
    reason: Which networks to test with
    optional: true
  service:
    use: essential.service.operations
    basis: contract
    reason: Which systems to test with
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [planning]
    retention: 30d
    reason: Which networks to test with
  os.type:
    kind: enum
    values: [linux]
    category: user.device
    purposes: [service]
    retention: 30d
    reason: Which systems to test with
"""


@pytest.mark.parametrize(
    ("with_spool", "has_rest"),
    [(False, False), (True, True)],
    ids=["records in memory go", "records in a spool lose a field"],
)
def test_a_retry_that_has_shrunk(tmp_path: Path, with_spool: bool, has_rest: bool) -> None:
    """The sidecar has stored a batch, and the response is lost; then people withdraw their consent.
    The retry is another body under the same key: it is delivered, and each record counts once."""
    schema, spool = tmp_path / "survey.yaml", spool_of(tmp_path, with_spool)
    schema.write_text(_SHRINKING)
    rest = {"os": {"type": "linux"}} if has_rest else {}
    environ = {"COLLECTOR__SCHEMA": str(schema)}
    with started(tmp_path, environ=environ) as sidecar, wire(sidecar.ports["http"]) as between:
        to = f"http://127.0.0.1:{between.port}"
        with Collector(schema, to, batch=10, interval=3600, spool=spool, timeout=5) as telemetry:
            between.text, between.loses = b" 200 ", 1
            for number in range(10):
                assert telemetry.emit({"client": {"address": address(number)}, **rest})
            wait_until(lambda: telemetry.flush(0.001) or between.is_cut)
            wait_until(lambda: between.is_cut)
            assert telemetry.tally().delivered == 0
            for number in range(3):
                telemetry.withdraw("client.address", address(number), since=YESTERDAY)
                adds_up(telemetry)
            between.loses, between.is_cut = 0, False
            deliver_all(telemetry)
            adds_up(telemetry)
        assert bytes(between.answered).count(b'"E435"') == 1
        account = telemetry.tally()
        lost = {} if has_rest else {"withdrawn": 3}
        assert (account.delivered, account.lost) == (10 if has_rest else 7, lost)
        path = tmp_path / "collector-data" / "store.db"
        wait_until(lambda: path.exists() and len(rows(path, "survey")) == 10)
        assert sorted(row["client.address"] for row in rows(path, "survey")) == sorted(
            map(address, range(10))
        )
    assert check_ledger(tmp_path / "collector-data" / "spool.db").received == 10


_STORED = b'{"received":9,"admitted":%d,"rejected":{"malformed":1}'
_AGAIN = b',"repeated":true'
_REUSED = b',"error":{"code":"E435","message":"a sentence."}'


@for_each(
    ("status", "body", "delivered"),
    [
        (200, _STORED % 5 + b"}", 5),
        (200, _STORED % 3 + b"}", 3),
        (200, _STORED % 3 + _AGAIN + b"}", 3),
        (200, _STORED % 8 + _AGAIN + b"}", 5),
        (409, _STORED % 8 + _AGAIN + _REUSED + b"}", 5),
        (409, _STORED % 3 + _AGAIN + _REUSED + b"}", 3),
        (409, _STORED % 0 + _AGAIN + _REUSED + b"}", 0),
        (409, b"", None),
        (409, b"<html>Conflict</html>", None),
        (409, _STORED % 5 + b"}", None),
        (409, _STORED % 5 + _AGAIN + b"}", None),
        (409, _STORED % 5 + _REUSED + b"}", None),
        (409, _STORED % 5 + _AGAIN + _REUSED.replace(b"E435", b"E429") + b"}", None),
        (409, b'{"error":{"code":"E435","message":"a sentence."}}', None),
        (409, b'{"error":{"code":"E429","message":"a sentence."}}', None),
        (200, _STORED % 5 + _AGAIN + _REUSED + b"}", None),
        (403, _STORED % 5 + _AGAIN + _REUSED + b"}", None),
    ],
)
def test_what_a_response_says_of_a_batch(status: int, body: bytes, delivered: int | None) -> None:
    def serve(end: socket.socket) -> None:
        while b'"client.address"' not in end.recv(1 << 16):
            pass
        end.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    with tcp_server(serve) as port:
        to = f"http://127.0.0.1:{port}"
        with Collector(to=to, exit_timeout=0, batch=5, timeout=WAIT_SECONDS) as telemetry:
            for _ in range(5):
                telemetry.emit(_EVENT)
            if delivered is None:
                why = {200: "malformed", 403: "status", 409: "409"}[status]
                _tries(telemetry, why)
                assert (telemetry.tally().delivered, telemetry.tally().queued) == (0, 5)
            else:
                assert telemetry.flush(_FOREVER)
                account = telemetry.tally()
                refused = {"refused": 5 - delivered} if delivered < 5 else {}
                assert (account.delivered, account.lost) == (delivered, refused)
            adds_up(telemetry)
