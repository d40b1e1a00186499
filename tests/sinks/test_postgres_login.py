"""Why a PostgreSQL server does not let the sink in, told by a real server that speaks German."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.errors import Cause, Unreachable
from collector.schema import load_schema
from collector.sinks.postgres import PostgresSink
from collector.sinks.postgres.server import Server
from collector.sinks.sink import Opening
from collector.testing.sinks import batch_of
from tests.conftest import required
from tests.support.certificates import Authority
from tests.support.command import run
from tests.support.deadline import wait_until
from tests.support.failing_disk import metric
from tests.support.postgres import PostgresServer, require_postgres
from tests.support.postgres_proxy import ECHO, postgres_proxy
from tests.support.raising import raises
from tests.support.sidecar import started
from tests.support.tcp import free_port

pytestmark = pytest.mark.servers

_SCHEMA = load_schema("conferencing")
_LANGUAGE = "de_DE.UTF-8"
_RULES = """local all admin trust
hostssl telemetry,nowhere collector all scram-sha-256
hostssl all stranger all reject
hostnossl all all all reject
"""
_CANARY = "Kanarienvogel"


def _locales(folder: Path) -> Path:
    """A directory with the locale of the server's messages; most machines have only ``C``."""
    made = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / _LANGUAGE)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    if made.returncode or not (folder / _LANGUAGE).is_dir():
        required("localedef and the locale de_DE (Debian: apt install locales)")
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the server's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def german(authority: Authority) -> Iterator[PostgresServer]:
    """A server with TLS and passwords whose messages are German."""
    require_postgres()
    pair, port = authority.issue("server"), free_port()
    with tempfile.TemporaryDirectory(prefix="collector-postgres-") as name:
        folder = Path(name)
        (locales := folder / "locales").mkdir()
        folder.chmod(0o755)
        server = PostgresServer(
            folder,
            (
                "ssl=on",
                f"port={port}",
                f"ssl_cert_file={name}/cert",
                f"ssl_key_file={name}/key",
                f"lc_messages={_LANGUAGE}",
            ),
            "localhost,127.0.0.2",
            port,
            environ={"LOCPATH": str(_locales(locales))},
        )
        server.make()
        server.give("cert", pair.certificate.read_bytes())
        server.give("key", pair.key.read_bytes())
        with server.running():
            server.create()
            server.ask("ALTER ROLE collector PASSWORD 'right'")
            server.ask("CREATE ROLE stranger LOGIN")
            server.give("data/pg_hba.conf", _RULES.encode())
            server.ask("SELECT pg_reload_conf()")
            yield server


_RIGHT = {"user": "collector", "password": "right", "database": "telemetry", "host": "localhost"}
_FAULTS: dict[str, tuple[dict[str, str], Cause, str, str]] = {
    "password": ({"password": _CANARY}, "denied", "SQLSTATE 28P01", "the user or the password"),
    "no-password": ({"password": ""}, "denied", "", "wants a password"),
    "user": ({"user": "stranger"}, "denied", "SQLSTATE 28000", "the user or the password"),
    "database": ({"database": "nowhere"}, "missing", "SQLSTATE 3D000", "no such database"),
    "authority": ({"ca": "other"}, "certificate", "", "no trusted authority"),
    "name": ({"host": "127.0.0.2"}, "certificate", "", "another name"),
    "no-file": ({"ca": "none"}, "certificate", "", "the file of `ca`"),
    "address": ({"port": "1"}, "unreachable", "", "does not answer"),
}


@pytest.fixture
def authorities(authority: Authority, tmp_path: Path) -> dict[str, Path]:
    """Files of authorities, by what is wrong with them."""
    return {
        "own": authority.own.certificate,
        "other": Authority(tmp_path, "other").own.certificate,
        "none": tmp_path / "none.pem",
    }


def _url(server: PostgresServer, change: dict[str, str]) -> str:
    of = {**_RIGHT, "port": str(server.port), **change}
    password = f":{of['password']}" if of["password"] else ""
    return (
        f"postgres://{of['user']}{password}@{of['host']}:{of['port']}/{of['database']}"
        "?sslmode=verify-full"
    )


@contextmanager
def _sink(
    server: PostgresServer, ca: Path, change: dict[str, str], folder: Path
) -> Iterator[PostgresSink]:
    (folder / "url").write_text(_url(server, change))
    settings = server.settings(url=f"file:{folder}/url", ca=str(ca))
    with PostgresSink(settings, Opening("warehouse", (_SCHEMA,), folder)) as sink:
        yield sink


@pytest.mark.parametrize("fault", _FAULTS)
def test_each_fault_has_its_cause(
    german: PostgresServer, authorities: dict[str, Path], tmp_path: Path, fault: str
) -> None:
    """The language of the server does not matter, and nothing quotes it."""
    change, cause, answer, words = _FAULTS[fault]
    ca = authorities[change.get("ca", "own")]
    with (
        _sink(german, ca, change, tmp_path) as sink,
        raises("E514", Unreachable, words) as caught,
    ):
        sink.deliver(batch_of(1, [1], _SCHEMA))
    assert (caught.value.cause, caught.value.answer) == (cause, answer)
    told = f"{caught.value!r} {caught.value}"
    assert not any(word in told for word in (_CANARY, "collector@", "Benutzer", "Datenbank"))
    if fault == "password":
        assert "FATAL:  Passwort-Authentifizierung" in (german.directory / "log").read_text()


def test_the_right_login(german: PostgresServer, authority: Authority, tmp_path: Path) -> None:
    german.reset()
    with _sink(german, authority.own.certificate, {}, tmp_path) as sink:
        sink.deliver(batch_of(1, [1], _SCHEMA))
        german.ask("REVOKE CONNECT ON DATABASE telemetry FROM PUBLIC")
        try:
            german.end_sessions()
            with pytest.raises(Unreachable):
                sink.deliver(batch_of(2, [2], _SCHEMA))
            with raises("E514", Unreachable) as caught:
                sink.deliver(batch_of(2, [2], _SCHEMA))
            assert (caught.value.cause, caught.value.answer) == ("denied", "SQLSTATE 42501")
        finally:
            german.ask("GRANT CONNECT ON DATABASE telemetry TO PUBLIC")
        sink.deliver(batch_of(2, [2], _SCHEMA))


def test_a_server_that_offers_no_encryption(server: PostgresServer, tmp_path: Path) -> None:
    with postgres_proxy(server.directory) as proxy:
        settings = server.settings(
            url=f"postgres://collector@localhost:{proxy.port}/telemetry?sslmode=verify-full"
        )
        proxy.mode = "internal"  # it refuses encryption, and knows no user
        opening = Opening("warehouse", (_SCHEMA,), tmp_path)
        with (
            PostgresSink(settings, opening) as sink,
            raises("E514", Unreachable, "no encryption") as caught,
        ):
            sink.deliver(batch_of(1, [1], _SCHEMA))
    assert caught.value.cause == "certificate"


@pytest.mark.parametrize(
    ("mode", "cause", "answer"),
    [
        ("denied", "denied", "SQLSTATE 28P01"),
        ("full", "full", "SQLSTATE 53100"),
        ("internal", "refused", "SQLSTATE XX000"),
        ("invented", "refused", ""),
        ("away", "unreachable", ""),
        ("garbage", "unreachable", ""),
        ("redirect", "unreachable", ""),
    ],
)
def test_a_server_that_fails_a_login(
    server: PostgresServer, mode: str, cause: Cause, answer: str
) -> None:
    """Only codes that PostgreSQL knows are told: another one might spell something."""
    with postgres_proxy(server.directory) as proxy:
        proxy.mode = mode
        login = {"host": "127.0.0.1", "user": "collector", "dbname": "telemetry"}
        connection = Server({**login, "port": proxy.port, "sslmode": "disable"})
        with raises("E514", Unreachable) as caught:
            connection.connect()
    assert (caught.value.cause, caught.value.answer) == (cause, answer)
    assert ECHO.decode() not in f"{caught.value!r}"


def _configured(german: PostgresServer, authority: Authority, folder: Path) -> None:
    text = f"""data: data
http: {{address: "127.0.0.1:0"}}
grpc: {{address: off}}
admin: {{address: "127.0.0.1:0"}}
sinks:
  store: true
  warehouse:
    type: postgres
    party: first
    url: "env:WAREHOUSE"
    ca: {authority.own.certificate}
"""
    (folder / "collector.yaml").write_text(text)


def test_config_check_names_the_sink_and_its_line(
    german: PostgresServer, authority: Authority, tmp_path: Path
) -> None:
    """It is a warning, because a sidecar would start."""
    _configured(german, authority, tmp_path)
    for fault in ("password", "database", "address"):
        change, _, _, words = _FAULTS[fault]
        done = run(
            *("config", "check", "--config", "collector.yaml"),
            directory=tmp_path,
            env={"WAREHOUSE": _url(german, change)},
        )
        assert done.code == 0
        assert done.err.decode().startswith("warning: collector.yaml:7:3: sinks.warehouse: ")
        assert words in done.err.decode()
        assert _CANARY.encode() not in done.err


def test_a_sidecar_tells_log_status_and_metrics(
    german: PostgresServer, authority: Authority, tmp_path: Path
) -> None:
    german.reset()
    _configured(german, authority, tmp_path)
    environ = {"WAREHOUSE": _url(german, {"password": _CANARY})}
    with started(tmp_path, "--config", "collector.yaml", environ=environ) as sidecar:
        assert sidecar.send(b'{"ip": "203.0.113.7"}\n').status == 200
        wait_until(lambda: any(line["event"] == "sink_failing" for line in sidecar.events))
        (line,) = (line for line in sidecar.events if line["event"] == "sink_failing")
        assert (line["sink"], line["cause"], line["answer"]) == (
            "warehouse",
            "denied",
            "SQLSTATE 28P01",
        )
        series = 'collector_sink_failures_total{cause="denied",sink="warehouse"}'
        assert metric(sidecar, series) > 0
        other = 'collector_sink_failures_total{cause="unreachable",sink="warehouse"}'
        assert metric(sidecar, other) == 0
        words = ("status", "--config", "collector.yaml")
        done = run(*words, "--json", directory=tmp_path, env=environ)
        found = done.json["sinks"]["warehouse"]
        assert (found["cause"], found["answer"]) == ("denied", "SQLSTATE 28P01")
        assert done.json["sinks"]["store"]["cause"] is None
        shown = run(*words, directory=tmp_path, env=environ)
        assert b"denied (SQLSTATE 28P01)" in shown.out
        assert sidecar.stop()[0] == 0
        said = "".join(sidecar.log)
        assert not any(word in said for word in (_CANARY, "Benutzer", "203.0.113"))
