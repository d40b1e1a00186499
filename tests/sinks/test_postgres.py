"""A PostgreSQL database as a sink, with a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from collector.config.sink_settings import SinkSettings
from collector.contracts import Batch, Removal
from collector.errors import ConfigError, DeliveryError, Unacceptable, Unreachable
from collector.filter.redaction import EVERYTHING
from collector.filter.stored import read
from collector.schema import load_schema
from collector.sinks.postgres import PostgresSink
from collector.sinks.postgres.server import Server
from collector.sinks.sink import Opening
from collector.testing.sinks import SinkConformance, batch_of, person, removal_of
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.postgres import PostgresServer, require_postgres
from tests.support.programs import script
from tests.support.raising import raises
from tests.support.tcp import free_port, tcp_server

pytestmark = pytest.mark.servers


class TestPostgres(SinkConformance):
    """The tests that every type passes."""

    @pytest.fixture(autouse=True)
    def _of_server(self, server: PostgresServer) -> None:
        self.server = server
        server.reset()

    def settings(self, directory: Path) -> SinkSettings:
        """The database."""
        return self.server.settings()

    @contextmanager
    def failing(self, directory: Path) -> Iterator[None]:
        """The role may not log in any more, and its sessions are ended."""
        self.server.ask("ALTER ROLE collector NOLOGIN")
        self.server.end_sessions()
        yield
        self.server.ask("ALTER ROLE collector LOGIN")

    def plant(self, directory: Path) -> bool:
        """A table of another program in the namespace."""
        self.server.ask("CREATE TABLE collector.chat (text text)")
        return True


# -- delivery, whatever happens to the server ------------------------------------------------------

_SCHEMA = load_schema("conferencing")


def _sink(server: PostgresServer, folder: Path, **more: Any) -> PostgresSink:
    opening = Opening("warehouse", (more.pop("schema", _SCHEMA),), folder, **more)
    return PostgresSink(server.settings(), opening)


def _numbers(server: PostgresServer) -> list[str]:
    query = 'SELECT host("client.address") FROM collector.conferencing ORDER BY 1'
    return [address for (address,) in server.ask(query)]


def _many(number: int, times: int = 1) -> Batch:
    return batch_of(number, [1 + each % 200 for each in range(times)], _SCHEMA)


def test_the_types_of_columns(clean: PostgresServer, tmp_path: Path) -> None:
    """Texts have a limit, and the server keeps no samples of what it analyses."""
    batch = _many(1, 500)
    with _sink(clean, tmp_path) as sink:
        sink.deliver(batch)
    clean.ask("ANALYZE")
    types = dict(
        clean.ask(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'collector.conferencing'::regclass AND attnum > 0"
        )
    )
    assert types["client.address"] == "inet"
    assert types["received"] == "timestamp with time zone"
    assert types["os.type"] == "text"
    samples = clean.ask(
        "SELECT count(*) FROM pg_statistic s JOIN pg_class c ON c.oid = s.starelid"
        " WHERE c.relname LIKE 'conferencing%'"
    )
    assert samples == [(0,)]
    day = batch.received[:10].replace("-", "")
    insert = f'INSERT INTO collector.conferencing_{day} (received, "os.type") VALUES (%s, %s)'
    with pytest.raises(psycopg.errors.CheckViolation):
        clean.ask(insert, batch.received, "a" * 257)


def test_rows_are_shuffled(clean: PostgresServer, tmp_path: Path) -> None:
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1, 100))
    placed = clean.ask('SELECT host("client.address") FROM collector.conferencing ORDER BY ctid')
    assert sorted(placed) == sorted((person(1 + each),) for each in range(100))
    assert placed != [(person(1 + each),) for each in range(100)]


def test_a_column_is_added(clean: PostgresServer, tmp_path: Path) -> None:
    layout = _SCHEMA.layout
    older = replace(
        layout, schema="conferencing/0.9.0", columns=layout.columns[:2], digest="0" * 64
    )
    with _sink(clean, tmp_path) as sink:
        batch = _many(1)
        payload = batch.payload.replace(b',"os.type":"linux"', b"")
        sink.deliver(read(Batch(batch.id, batch.received, layout=older, payload=payload)))
        sink.deliver(_many(2))
    rows = clean.ask('SELECT "os.type" FROM collector.conferencing ORDER BY 1')
    assert rows == [("linux",), (None,)]


def test_a_value_that_no_column_has(clean: PostgresServer, tmp_path: Path) -> None:
    """The server does not see the value, which it would log."""
    with _sink(clean, tmp_path) as sink:
        for number, bad in enumerate(("203.0.113.999", "canary\\u0000", "a" * 300, "::1/64"), 1):
            batch = _many(number)
            text = batch.payload.replace(b"203.0.113.1", bad.encode())
            broken = read(Batch(batch.id, batch.received, layout=batch.layout, payload=text))
            with raises("E511", Unacceptable):
                sink.deliver(broken)
        sink.deliver(_many(9))
    assert _numbers(clean) == ["203.0.113.1"]
    assert b"canary" not in (clean.directory / "log").read_bytes()
    assert b"113.999" not in (clean.directory / "log").read_bytes()


def test_text_with_special_characters(clean: PostgresServer, tmp_path: Path) -> None:
    texts = ["a\\b", "\\N", "a\tb", "\\.", "x\ny\rz", "ä→𝄞", "", "'\"%s{}"]
    lines = [
        orjson.dumps({"schema": _SCHEMA.id, "os.name": text, "count": 2}) + b"\n" for text in texts
    ]
    batch = Batch(b"1" * 16, _many(1).received, layout=_SCHEMA.layout, payload=b"".join(lines))
    with _sink(clean, tmp_path) as sink:
        sink.deliver(read(batch))
        (found,) = [members for _, members in sink.values() if any(members.values())]
    assert found["os.name"] == set(texts)
    assert found["count"] == {2}


def test_the_server_is_killed_at_any_moment(server: PostgresServer, tmp_path: Path) -> None:
    """Nothing is lost, and nothing is there twice."""
    server.reset()
    batches = [_many(number, 200) for number in range(1, 41)]
    pending, ending = list(batches), threading.Event()

    def deliver() -> None:
        with _sink(server, tmp_path) as sink:
            while pending and not ending.is_set():
                with suppress(DeliveryError):
                    sink.deliver(*pending[:4])
                    del pending[:4]

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        for _ in range(3):
            before = len(pending)
            wait_until(lambda: len(pending) < before or not pending)  # noqa: B023
            server.kill()
            server.start()
        wait_until(lambda: not pending)
    finally:
        ending.set()
        thread.join()
    assert len(_numbers(server)) == 40 * 200


def test_a_large_delivery_is_taken(clean: PostgresServer, tmp_path: Path) -> None:
    """The process is larger than a sidecar may be."""
    code = """
        import os, sys
        from pathlib import Path
        from tests.support.postgres import PostgresServer
        from tests.sinks.test_postgres import _many, _sink
        ballast = os.urandom(1 << 20) * 200
        with _sink(PostgresServer(Path(sys.argv[1])), Path(sys.argv[2])) as sink:
            sink.deliver(*[_many(number, 2000) for number in range(1, 31)])
    """
    script(code, clean.directory, tmp_path, timeout=100)
    assert clean.ask("SELECT count(*) FROM collector.conferencing") == [(60_000,)]


def test_a_server_that_does_not_answer(
    clean: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1))
        with clean.stopped(), monkeypatch.context() as patched:
            patched.setattr("collector.sinks.postgres.server.ANSWER_SECONDS", 1.0)
            patched.setattr("collector.sinks.postgres.server._CONNECT_SECONDS", 5)
            for _ in range(2):
                started = monotonic()
                with raises("E514", Unreachable):
                    sink.deliver(_many(2))
                assert monotonic() - started < 30
        sink.deliver(_many(2))
    assert len(_numbers(clean)) == 2


_SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE usename = 'collector' AND wait_event = 'PgSleep'"


def test_a_server_that_stands_still_in_a_long_change(
    clean: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure may take an hour, but not of a server that takes no connection meanwhile."""
    monkeypatch.setattr("collector.sinks.postgres.server._PROBE_SECONDS", 20.0)
    user = {"user": "collector", "dbname": "telemetry"}
    server = Server({"host": str(clean.directory), "port": clean.port, **user})

    def sleep_for(seconds: int) -> None:
        server.run(lambda cursor: cursor.execute("SELECT pg_sleep(%s)", (seconds,)), 3600.0)

    sleep_for(21)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(sleep_for, 3600)
        wait_until(lambda: clean.ask(_SLEEPING))
        with clean.stopped(), raises("E514", Unreachable):
            done.result(WAIT_SECONDS)
    sleep_for(0)
    server.drop()
    clean.end_sessions()


def test_credentials_that_are_revoked(clean: PostgresServer, tmp_path: Path) -> None:
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1))
        clean.ask("ALTER ROLE collector NOLOGIN")
        try:
            clean.end_sessions()
            for _ in range(2):
                with raises("E514", Unreachable) as caught:
                    sink.deliver(_many(2))
                assert "203" not in str(caught.value)
        finally:
            clean.ask("ALTER ROLE collector LOGIN")
        sink.deliver(_many(2))
    assert len(_numbers(clean)) == 2


def test_two_processes_deliver_the_same(clean: PostgresServer, tmp_path: Path) -> None:
    """The second waits for the first, and changes nothing."""
    with (
        _sink(clean, tmp_path) as one,
        _sink(clean, tmp_path) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        for number in range(1, 11):
            batch = _many(number, 50)
            for each in [pool.submit(sink.deliver, batch) for sink in (one, other)]:
                each.result()
    assert len(_numbers(clean)) == 500


def test_a_batch_that_another_drain_has_delivered_long_ago(
    clean: PostgresServer, tmp_path: Path
) -> None:
    """A drain that comes back has batches that others took, and more than 100,000 since."""
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1))
        ids = "SELECT decode(md5(number::text), 'hex') FROM generate_series(1, 110000) number"
        clean.ask(f"INSERT INTO collector._delivered (id) {ids}")
        sink.deliver(_many(2), _many(1), _many(2))
    assert len(_numbers(clean)) == 2


# -- rights and retention --------------------------------------------------------------------------


def _stored(number: int) -> bytes:
    """The bytes of an address in a table of PostgreSQL: family, bits, and the address."""
    return b"\x02\x20" + ip_address(person(number)).packed


def test_no_byte_of_a_person_is_left(clean: PostgresServer, tmp_path: Path) -> None:
    """No table and no index has bytes of rows that were committed or never were."""
    with _sink(clean, tmp_path) as sink:
        sink.deliver(batch_of(1, range(1, 100), _SCHEMA, age=timedelta(days=2)), _many(2, 99))
        clean.ask('CREATE INDEX ON collector.conferencing ("client.address")')
        clean.break_off(lambda: sink.deliver(batch_of(3, [150] * 5000, _SCHEMA)))
    found = clean.files()
    assert _stored(7) in found
    assert _stored(150) in found
    for number in (150, 7):
        with _sink(clean, tmp_path, is_offline=True) as sink:
            (removal,) = sink.rewrite([removal_of(number)])
        assert (removal.records, removal.is_swept) == (2 if number == 7 else 0, True)
        assert _stored(number) not in clean.files()
    assert _stored(8) in clean.files()
    assert len(_numbers(clean)) == 98 * 2


def test_a_reader_is_waited_for(clean: PostgresServer, tmp_path: Path) -> None:
    """The bytes stay while another session reads the table, and that is said."""
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1, 10))
    with psycopg.connect(clean.admin_url()) as reader:
        assert reader.execute("SELECT count(*) FROM collector.conferencing").fetchone() == (10,)
        with _sink(clean, tmp_path, is_offline=True) as sink:
            (removal,) = sink.rewrite([removal_of(3)])
            assert (removal.records, removal.is_swept) == (1, False)
            assert [*sink.scan(removal_of(3))] == []
    assert _stored(3) in clean.files()
    with _sink(clean, tmp_path, is_offline=True) as sink:
        assert sink.rewrite([removal_of(3)])[0] == Removal(0, is_swept=True)
    assert _stored(3) not in clean.files()


def test_an_old_snapshot_keeps_nothing(clean: PostgresServer, tmp_path: Path) -> None:
    """A session that might still see a row, and reads another table, does not keep it."""
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1, 10))
    with psycopg.connect(clean.admin_url()) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class")
        with _sink(clean, tmp_path, is_offline=True) as sink:
            assert sink.rewrite([removal_of(3)])[0] == Removal(1, is_swept=True)
        assert _stored(3) not in clean.files()


def test_partitions_that_others_have_made(clean: PostgresServer, tmp_path: Path) -> None:
    batch = _many(1, 5)
    with _sink(clean, tmp_path) as sink:
        sink.deliver(batch)
    days = "ALTER TABLE collector.conferencing DETACH PARTITION collector.{0};"
    days += "ALTER TABLE collector.{0} RENAME TO merged;"
    days += "ALTER TABLE collector.conferencing ATTACH PARTITION collector.merged DEFAULT"
    day = batch.received[:10].replace("-", "")
    clean.ask(days.format(f"conferencing_{day}"))
    with _sink(clean, tmp_path, is_offline=True) as sink:
        assert sink.rewrite([removal_of(3)])[0] == Removal(1, is_swept=True)
        assert [*sink.scan(removal_of(3))] == []
    assert _stored(3) not in clean.files()
    clean.ask("ALTER TABLE collector.merged SET SCHEMA public")
    with _sink(clean, tmp_path, is_offline=True) as sink, raises("E504", DeliveryError):
        sink.rewrite([removal_of(4)])
    clean.ask("ALTER TABLE public.merged SET SCHEMA collector")
    clean.ask('ALTER TABLE collector.conferencing ALTER "client.address" TYPE varchar(50)')
    with _sink(clean, tmp_path, is_offline=True) as sink, raises("E504", DeliveryError):
        sink.rewrite([removal_of(4)])


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_rows_that_another_session_commits_meanwhile(
    clean: PostgresServer, tmp_path: Path, isolation: str
) -> None:
    """The session was writing when the erasure began."""
    clean.ask(f"ALTER ROLE collector SET default_transaction_isolation = '{isolation}'")
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1, 5))
    columns = '(received, "client.address")'
    late = f"INSERT INTO collector.conferencing {columns} SELECT received, %s FROM old"
    old = "WITH old AS (SELECT max(received) AS received FROM collector.conferencing) "
    with (
        psycopg.connect(clean.admin_url()) as writer,
        ThreadPoolExecutor(1) as pool,
        _sink(clean, tmp_path, is_offline=True, wait=20) as sink,
    ):
        for number in (3, 8):
            writer.execute(old + late, (person(number),))
        erased = pool.submit(sink.rewrite, [removal_of(3)])
        wait_until(lambda: erased.done() or clean.ask(_WAITING))
        writer.commit()
        assert erased.result() == [Removal(2, is_swept=True)]
        assert [*sink.scan(removal_of(3))] == []
    assert _numbers(clean) == [person(number) for number in (1, 2, 4, 5, 8)]
    assert _stored(3) not in clean.files()


_WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


def test_partitions_are_dropped(clean: PostgresServer, tmp_path: Path) -> None:
    old = batch_of(1, [1, 2], _SCHEMA, age=timedelta(days=100))
    with _sink(clean, tmp_path) as sink:
        sink.deliver(old, _many(2, 3))
        assert sink.prune(datetime.now(UTC)) == Removal(deleted=2)
        assert not sink.prune(datetime.now(UTC))
        sink.deliver(_many(3, 3))
        (table,) = sink.measure(EVERYTHING)
    assert table.records == 6


def test_a_session_that_writes_is_noted(clean: PostgresServer, tmp_path: Path) -> None:
    """What it broke off would lie in the partition, and is swept."""
    noted = "SELECT count(*) FROM collector._unswept"
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1))
        assert clean.ask(noted) == [(1,)]
    assert clean.ask(noted) == [(0,)]


def test_what_comes_late_is_pruned(clean: PostgresServer, tmp_path: Path) -> None:
    """It goes within a day if another process brings it, else at once."""
    now, old = datetime.now(UTC), timedelta(days=60)
    with _sink(clean, tmp_path / "a") as sink, _sink(clean, tmp_path / "b") as other:
        sink.deliver(batch_of(1, [1], _SCHEMA, age=old))
        assert sink.prune(now).shortened == 1
        sink.deliver(batch_of(3, [3], _SCHEMA, age=old))
        assert sink.prune(now).shortened == 1
        other.deliver(batch_of(2, [2], _SCHEMA, age=old))
        assert sink.prune(now + timedelta(days=1)).shortened == 1
        assert not sink.prune(now + timedelta(days=1, hours=1))


# -- what is refused -------------------------------------------------------------------------------


def test_rights_that_lack(clean: PostgresServer, tmp_path: Path) -> None:
    cases = {
        "CREATE on the database": (
            "REVOKE CREATE ON DATABASE telemetry FROM collector",
            "GRANT CREATE ON DATABASE telemetry TO collector",
        ),
        "TEMPORARY": (
            "REVOKE TEMPORARY ON DATABASE telemetry FROM PUBLIC",
            "GRANT TEMPORARY ON DATABASE telemetry TO PUBLIC",
        ),
    }
    opening = Opening("warehouse", (_SCHEMA,), tmp_path)
    for word, (before, after) in cases.items():
        clean.ask(before)
        try:
            with raises("E219", ConfigError, match=word):
                PostgresSink.check(clean.settings(), opening)
            with _sink(clean, tmp_path) as sink, raises("E219", ConfigError, match=word):
                sink.deliver(_many(1))
        finally:
            clean.ask(after)
    PostgresSink.check(clean.settings(), opening)
    assert clean.ask("SELECT 1 FROM pg_namespace WHERE nspname = 'collector'") == []


@pytest.mark.parametrize(
    ("word", "before", "after"),
    [
        ("SUPERUSER", "ALTER ROLE collector SUPERUSER", "ALTER ROLE collector NOSUPERUSER"),
        ("CREATEROLE", "ALTER ROLE collector CREATEROLE", "ALTER ROLE collector NOCREATEROLE"),
        (
            "pg_read_all_data",
            "GRANT pg_read_all_data TO collector",
            "REVOKE pg_read_all_data FROM collector",
        ),
    ],
)
def test_rights_that_it_does_not_need(
    clean: PostgresServer, tmp_path: Path, word: str, before: str, after: str
) -> None:
    opening, data = Opening("warehouse", (_SCHEMA,), tmp_path), tmp_path / "data"
    sink_text = f"{{warehouse: {{type: postgres, party: first, url: '{clean.url}'}}}}"
    (tmp_path / "collector.yaml").write_text(f"data: {data}\nsinks: {sink_text}\n")
    words = ("config", "check", "--config", "collector.yaml")
    assert [*PostgresSink.warnings(clean.settings(), opening)] == []
    clean.ask(before)
    try:
        with _sink(clean, tmp_path) as sink:
            sink.deliver(_many(1))
        done = run(*words, directory=tmp_path)
        as_json = run(*words, "--json", directory=tmp_path)
    finally:
        clean.ask(after)
    assert (done.code, done.out) == (0, b"no faults\n")
    (line,) = done.err.decode().splitlines()
    assert line.startswith("warning: collector.yaml:2:9: sinks.warehouse: ")
    assert f"more rights than it needs: {word}" in line
    (warning,) = as_json.json["warnings"]
    assert (as_json.json["ok"], warning["code"]) == (True, "E219")
    assert len(_numbers(clean)) == 1
    assert b"warning" not in run(*words, directory=tmp_path).err


def test_a_role_without_a_right_on_the_database(clean: PostgresServer, tmp_path: Path) -> None:
    """A schema that is made for it is all that it needs."""
    clean.ask("REVOKE CREATE ON DATABASE telemetry FROM collector")
    try:
        clean.ask("CREATE SCHEMA collector AUTHORIZATION collector")
        PostgresSink.check(clean.settings(), Opening("warehouse", (_SCHEMA,), tmp_path))
        with _sink(clean, tmp_path) as sink:
            sink.deliver(_many(1))
            assert sink.rewrite([removal_of(1)])[0].records == 1
    finally:
        clean.ask("GRANT CREATE ON DATABASE telemetry TO collector")


def test_tables_of_others(clean: PostgresServer, tmp_path: Path) -> None:
    opening = Opening("warehouse", (_SCHEMA,), tmp_path)
    clean.ask("CREATE SCHEMA collector AUTHORIZATION collector")
    clean.ask("CREATE TABLE collector.people (name text)")
    clean.ask("ALTER TABLE collector.people OWNER TO collector")
    with raises("E501", DeliveryError):
        PostgresSink.check(clean.settings(), opening)
    clean.reset()
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1))
        assert sink.others == 0
        clean.ask("CREATE TABLE collector.people (name text)")
        assert sink.others > 0
        clean.ask("DROP TABLE collector.people")
    clean.ask('ALTER TABLE collector.conferencing ALTER "client.address" TYPE text')
    with raises("E504", DeliveryError, match="client.address"):
        PostgresSink.check(clean.settings(), opening)
    for version in (0, 99):
        clean.ask(f"UPDATE collector._format SET version = {version}")
        with raises("E501", DeliveryError):
            PostgresSink.check(clean.settings(), opening)
    with _sink(clean, tmp_path) as sink, raises("E501", DeliveryError):
        sink.deliver(_many(2))


def test_the_comment_that_each_database_has(clean: PostgresServer, tmp_path: Path) -> None:
    """The comment of the namespace `public` is the server's; another one is counted."""
    clean.ask("GRANT CREATE, USAGE ON SCHEMA public TO collector")
    settings = clean.settings(namespace="public")
    try:
        with PostgresSink(settings, Opening("warehouse", (_SCHEMA,), tmp_path)) as sink:
            sink.deliver(_many(1))
            assert sink.others == 0
            clean.ask("COMMENT ON SCHEMA public IS 'hello from Ana'")
            assert sink.others > 0
    finally:
        clean.ask("DROP SCHEMA public CASCADE")
        clean.ask("CREATE SCHEMA public")
        clean.ask("COMMENT ON SCHEMA public IS 'standard public schema'")


def test_rows_that_a_policy_hides(clean: PostgresServer, tmp_path: Path) -> None:
    """Nothing says that there are none."""
    with _sink(clean, tmp_path) as sink:
        sink.deliver(_many(1))
    clean.ask("ALTER TABLE collector.conferencing ENABLE ROW LEVEL SECURITY")
    clean.ask("ALTER TABLE collector.conferencing FORCE ROW LEVEL SECURITY")
    with _sink(clean, tmp_path, is_offline=True) as sink:
        with raises("E514", DeliveryError):
            list(sink.values())
        with raises("E514", DeliveryError):
            sink.measure(EVERYTHING)
        with raises("E514", DeliveryError):
            list(sink.scan(removal_of(1)))
        assert sink.rewrite([removal_of(1)])[0].records == 1


# -- encryption, and no room ----------------------------------------------------------------------


def _certificate(name: str) -> tuple[bytes, bytes]:
    """A certificate that signs itself, for a host, and its key; as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return certificate.public_bytes(pem), text


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server on an address of this machine, with a certificate that is in ``ca.pem``."""
    require_postgres()
    certificate, key = _certificate("localhost")
    (tmp_path / "ca.pem").write_bytes(certificate)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="collector-postgres-") as name:
        files = (f"ssl_cert_file={name}/cert", f"ssl_key_file={name}/key")
        server = PostgresServer(Path(name), ("ssl=on", f"port={port}", *files), "localhost", port)
        server.make()
        server.give("cert", certificate)
        server.give("key", key)
        with server.running():
            server.create()
            yield server


def test_the_server_proves_its_name(encrypted: PostgresServer, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(_certificate("localhost")[0])

    def deliver(number: int, host: str, ca: str) -> None:
        url = f"postgres://collector@{host}:{encrypted.port}/telemetry?sslmode=verify-full"
        settings = encrypted.settings(url=url, ca=str(tmp_path / ca))
        with PostgresSink(settings, Opening("warehouse", (_SCHEMA,), tmp_path)) as sink:
            sink.deliver(_many(number))
            query = "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)"
            assert encrypted.ask(f"{query} WHERE a.usename = 'collector'") == [(True,)]

    deliver(1, "localhost", "ca.pem")
    for host, ca in (("127.0.0.1", "ca.pem"), ("localhost", "other.pem")):
        with raises("E514", Unreachable):
            deliver(2, host, ca)
    assert _numbers(encrypted) == [person(1)]


def test_a_password_in_libpq_s_file(
    encrypted: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libpq ignores a file that others can read."""
    encrypted.ask("ALTER ROLE collector PASSWORD 'a:b'")
    rules = "local all admin trust\nhostssl all collector all scram-sha-256\n"
    encrypted.give("data/pg_hba.conf", rules.encode())
    encrypted.ask("SELECT pg_reload_conf()")
    file = tmp_path / "passwords"
    file.write_text(f"localhost:{encrypted.port}:telemetry:collector:a\\:b\n")
    monkeypatch.setenv("PGPASSFILE", str(file))

    def deliver(number: int) -> None:
        url = f"postgres://collector@localhost:{encrypted.port}/telemetry?sslmode=verify-full"
        settings = encrypted.settings(url=url, ca=str(tmp_path / "ca.pem"))
        with PostgresSink(settings, Opening("warehouse", (_SCHEMA,), tmp_path)) as sink:
            sink.deliver(_many(number))

    file.chmod(0o600)
    deliver(1)
    file.chmod(0o644)
    with raises("E514", Unreachable):
        deliver(2)
    assert _numbers(encrypted) == [person(1)]


def test_the_environment_does_not_name_the_server(
    clean: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[bytes] = []
    with (
        tcp_server(lambda end: others.append(end.recv(1))) as port,
        monkeypatch.context() as patched,
        _sink(clean, tmp_path) as sink,
    ):
        patched.setenv("PGHOSTADDR", "127.0.0.1")
        patched.setenv("PGPORT", str(port))
        sink.deliver(_many(1))
    assert (_numbers(clean), others) == ([person(1)], [])


@pytest.fixture
def resize(server: PostgresServer) -> Iterator[Callable[[int], None]]:
    """A small disk, on which the role's tables are from now on; and what changes its size, in
    megabytes."""
    server.reset()
    folder = server.directory / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=777", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a disk, and not everywhere")

    def change(megabytes: int) -> None:
        options = f"remount,size={megabytes}m"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)

    shutil.chown(folder, server.data.owner())
    server.ask(f"CREATE TABLESPACE small LOCATION '{folder}'")
    server.ask("GRANT CREATE ON TABLESPACE small TO collector")
    server.ask("ALTER ROLE collector SET default_tablespace = small")
    try:
        yield change
    finally:
        change(200)
        server.ask("ALTER ROLE collector RESET default_tablespace")
        server.end_sessions()
        server.reset()
        server.ask("CHECKPOINT")
        server.ask("DROP TABLESPACE small")
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full(
    server: PostgresServer, resize: Callable[[int], None], tmp_path: Path
) -> None:
    """An erasure for which there is no room says that bytes are left."""
    pending = [_many(number, 2000) for number in range(1, 41)]
    with _sink(server, tmp_path) as sink:

        def fill() -> None:
            while pending:
                sink.deliver(pending[0])
                pending.pop(0)

        with pytest.raises(Unreachable, match="no room"):
            fill()
        with _sink(server, tmp_path, is_offline=True) as other:
            (removal,) = other.rewrite([removal_of(7)])
            assert (removal.records > 0, removal.is_swept) == (True, False)
        resize(100)
        sink.deliver(*pending)
        with _sink(server, tmp_path, is_offline=True) as other:
            removed = removal.records + other.rewrite([removal_of(7)])[0].records
    assert _stored(7) not in server.files()
    assert (len(_numbers(server)), removed) == (40 * 2000 - 40 * 10, 40 * 10)
