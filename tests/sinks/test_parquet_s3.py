"""Parquet files in a real bucket, behind a proxy that fails: nothing is lost, doubled or told."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from unittest import mock

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from collector import Collector
from collector.config.sink_settings import SinkSettings
from collector.contracts import Removal
from collector.errors import Cause, DeliveryError, Unreachable
from collector.schema import load_schema
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.sink import Opening, Sink
from collector.testing.sinks import SinkConformance, person, removal_of
from tests.sinks.test_parquet import _batch, _bytes, _Crash, _crashing, _put
from tests.support.command import Ended, run
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.programs import script
from tests.support.raising import raises
from tests.support.s3 import ECHO, Proxy
from tests.support.tcp import tcp_server

pytestmark = pytest.mark.servers

_SCHEMA = load_schema("conferencing")
_SECRETS = {"PARQUET_KEY": "key", "PARQUET_SECRET": "secret"}
_FAILING = ("away", "500", "full", "403", "404", "redirect", "half", "bomb")


@pytest.fixture(autouse=True)
def _bucket(s3: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is there; the secrets; requests that are not repeated, and not waited for."""
    for name, value in _SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("collector.buckets._RETRIES", 0)
    obstore.put(_store(s3, ""), "is-there", b"x")


def _store(port: int, prefix: str) -> S3Store:
    config: Any = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "us-east-1",
        "endpoint": f"http://127.0.0.1:{port}",
    }
    options: Any = {"allow_http": True}
    return S3Store("lake", prefix=prefix or None, config=config, client_options=options)


def _prefix(directory: Path) -> str:
    return hashlib.sha256(str(directory).encode()).hexdigest()[:16]


def _settings(directory: Path, port: int, **more: Any) -> ParquetSettings:
    return ParquetSettings(
        type="parquet",
        url=f"s3://lake/{_prefix(directory)}",
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key="env:PARQUET_KEY",
        secret_key="env:PARQUET_SECRET",
        party="first",
        **more,
    )


def _opened(directory: Path, port: int, *, offline: bool = False) -> ParquetSink:
    opening = Opening("lake", (_SCHEMA,), directory / "data", is_offline=offline)
    return ParquetSink(_settings(directory, port), opening)


def _objects(directory: Path, port: int) -> dict[str, bytes]:
    store = _store(port, _prefix(directory))
    names = [str(each["path"]) for page in obstore.list(store) for each in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def _people(directory: Path, port: int) -> list[str]:
    import pyarrow.dataset as dataset  # noqa: PLC0415 - heavy, and with pandas heavier

    copy = directory / "copy"
    for name, data in _objects(directory, port).items():
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if not copy.is_dir():
        return []
    table = dataset.dataset(copy, partitioning="hive").to_table(columns=["client.address"])
    return sorted(table["client.address"].to_pylist())


class TestBucket(SinkConformance):
    """The tests of every sink, with objects that are made at once."""

    @pytest.fixture(autouse=True)
    def _port(self, s3: int) -> None:
        self.port = s3

    def settings(self, directory: Path) -> SinkSettings:
        """A prefix of the bucket."""
        return _settings(directory, self.port)

    @contextmanager
    def opened(
        self, directory: Path, *, offline: bool = False, reports: list[Removal] | None = None
    ) -> Iterator[Sink]:
        """Put all that was collected, when the sink is opened and when it is closed."""
        is_due = mock.patch("collector.sinks.parquet.segments.Segment.is_due", return_value=True)
        with is_due, super().opened(directory, offline=offline, reports=reports) as sink:
            yield sink
            if not offline and sink._staged is not None:  # type: ignore[attr-defined]
                sink.deliver()


@pytest.mark.parametrize("mode", _FAILING)
def test_a_failing_bucket(
    tmp_path: Path,
    s3: int,
    proxy: Proxy,
    mode: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Errors and logs say nothing of its answers."""
    caplog.set_level(logging.DEBUG)
    with _opened(tmp_path, proxy.port) as sink:
        sink.deliver(_batch(1, [1, 2]))
        proxy.mode = mode
        with (
            mock.patch("collector.sinks.parquet.segments.Segment.is_due", return_value=True),
            pytest.raises(Unreachable) as caught,
        ):
            sink.deliver(_batch(2, [3]))
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        for command in (lambda rule: sink.rewrite([rule]), lambda rule: list(sink.scan(rule))):
            with pytest.raises((Unreachable, DeliveryError)):
                command(removal_of(9))
        assert proxy.refused
        proxy.mode = ""
        _put(sink)
        sink.deliver(_batch(2, [3]))
        _put(sink)
    assert _people(tmp_path, s3) == [person(1), person(2), person(3)]
    said = f"{caught.value} {caplog.text}"
    assert ECHO.decode() not in said
    assert "secret" not in said


def test_revoked_credentials(
    tmp_path: Path,
    s3: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _opened(tmp_path, s3) as sink:
        sink.deliver(_batch(1, [1]))
    monkeypatch.setenv("PARQUET_SECRET", "revoked")
    with _opened(tmp_path, s3) as sink, pytest.raises(Unreachable):
        _put(sink)
    monkeypatch.setenv("PARQUET_SECRET", "secret")
    with _opened(tmp_path, s3) as sink:
        _put(sink)
    assert _people(tmp_path, s3) == [person(1)]


def test_a_slow_bucket(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    proxy.mode = "slow"
    with _opened(tmp_path, proxy.port) as sink:
        sink.deliver(_batch(1, [1, 2]))
        _put(sink)
    assert proxy.slowed
    assert _people(tmp_path, s3) == [person(1), person(2)]


def test_no_byte_of_a_person_is_left(tmp_path: Path, s3: int) -> None:
    with _opened(tmp_path, s3) as sink:
        sink.deliver(_batch(1, [11, 12] * 100), _batch(2, [12], hours=2))
        _put(sink)
        sink.deliver(_batch(3, [11, 12]))
    with _opened(tmp_path, s3, offline=True) as sink:
        assert sink.rewrite([removal_of(12)])[0].deleted == 102
        assert not list(sink.unproven())
    objects = _objects(tmp_path, s3)
    assert len(objects) == 2
    left = b"".join(objects.values()) + _bytes(tmp_path / "data")
    assert person(12).encode() not in left
    assert person(11).encode() in left


def test_a_put_that_arrives_late(tmp_path: Path, s3: int) -> None:
    """The server may carry out a request after an erasure."""
    sink = _opened(tmp_path, s3)
    sink.deliver(_batch(1, [1]), _batch(2, [1, 2], hours=2))
    late: list[tuple[str, bytes]] = []

    def create(key: str, path: Path) -> bool:
        late.append((key, path.read_bytes()))
        raise _Crash

    with pytest.raises(_Crash), mock.patch.object(sink._lake.objects, "create", create):
        _put(sink)
    sink.close()
    with _opened(tmp_path, s3, offline=True) as offline:
        key, _ = late[0]
        assert offline.rewrite([removal_of(1)])[0].deleted
        store = _store(s3, _prefix(tmp_path))
        for name, data in late:
            with pytest.raises(AlreadyExistsError):
                obstore.put(store, name, data, mode="create")
        assert key in _objects(tmp_path, s3)
    with _opened(tmp_path, s3) as sink:
        _put(sink)
    assert _people(tmp_path, s3) == [person(2)]


def test_one_of_many_creates_an_object(tmp_path: Path, s3: int) -> None:
    sink = _opened(tmp_path, s3)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    for number in range(6):
        create = partial(sink._lake.objects.create, f"race-{number}", path)
        with ThreadPoolExecutor(6) as pool:
            won = [each.result() for each in [pool.submit(create) for _ in range(6)]]
        assert sorted(won) == [False] * 5 + [True]
    sink.close()


def test_large_objects_are_taken(tmp_path: Path, s3: int) -> None:
    """The process is larger than a sidecar may be."""
    code = """
        import os, sys
        from pathlib import Path
        from collector.errors import Unreachable
        from tests.sinks.test_parquet_s3 import _opened
        ballast, path = os.urandom(1 << 20) * 200, Path(sys.argv[1], "file")
        path.write_bytes(os.urandom(90 << 20))
        with _opened(Path(sys.argv[1]), int(sys.argv[2])) as sink:
            assert sink._lake.objects.create("large", path)
            file, version = sink._lake.objects.open("large")
            assert sum(len(file.read(16 << 20)) for _ in range(6)) == 90 << 20
            path.write_bytes(os.urandom(90 << 20))
            assert sink._lake.objects.replace("large", path, version)
            assert sink._lake.objects.open("large")[0].read(16 << 20)
            try:
                file.read(-1) or file.seek(0) or file.read(1)
            except Unreachable:  # it is another object now
                print("changed")
    """
    assert script(code, tmp_path, s3, timeout=100).stdout == "changed\n"


def test_a_bucket_that_keeps_versions(
    tmp_path: Path,
    proxy: Proxy,
) -> None:
    """It says so in its answers, and then claims are unproven."""
    with _opened(tmp_path, proxy.port) as sink:
        sink.deliver(_batch(1, [1]))
        _put(sink)
        assert not list(sink.unproven())
    proxy.mode = "versions"
    with _opened(tmp_path, proxy.port, offline=True) as sink:
        assert list(sink.values())
        assert len(list(sink.unproven())) == 1


def test_a_crash_at_any_step(tmp_path: Path, s3: int) -> None:
    number = 0
    for where, name in (
        ("collector.sinks.parquet.object_store.BucketObjects", "create"),
        ("collector.sinks.parquet.segments.Segments", "remove"),
        ("collector.sinks.parquet.segments", "sync"),
    ):
        for is_after in (False, True):
            number += 1
            sink = _opened(tmp_path, s3)
            sink.deliver(_batch(number, [number]))
            with pytest.raises(_Crash), _crashing(where, name, is_after=is_after):
                _put(sink)
            sink.close()
            with _opened(tmp_path, s3) as sink:
                sink.deliver(_batch(number, [number]))
                _put(sink)
    assert _people(tmp_path, s3) == sorted(person(each) for each in range(1, number + 1))


@pytest.fixture
def ask_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the environment name a server at a port of this machine, and credentials for it."""
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "XDG_DATA_HOME": str(tmp_path / "home"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return lambda port: monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")


def _emitted(telemetry: Collector) -> Collector:
    telemetry.emit({"ip_address": person(1), "os": {"type": "linux"}, "chat": ["never kept"]})
    return telemetry


def test_an_application(tmp_path: Path, s3: int, ask_bucket: Callable[[int], None]) -> None:
    """Credentials come from the environment."""
    ask_bucket(s3)
    to = f"parquet+s3://lake/{_prefix(tmp_path)}"
    with Collector("conferencing", to, exit_timeout=WAIT_SECONDS) as telemetry:
        _emitted(telemetry)
    assert _people(tmp_path, s3) == [person(1)]


def test_an_application_ends_in_time(
    tmp_path: Path, s3: int, ask_bucket: Callable[[int], None]
) -> None:
    """What was collected becomes a file another time."""
    never = threading.Event()
    with tcp_server(lambda _: never.wait()) as port:
        ask_bucket(port)
        to = f"parquet+s3://lake/{_prefix(tmp_path)}"
        telemetry = _emitted(Collector("conferencing", to, exit_timeout=2))
        assert telemetry.flush(WAIT_SECONDS)
        began = monotonic()
        assert telemetry.close()
        assert monotonic() - began < WAIT_SECONDS / 4
        never.set()
    wait_until(lambda: not any("sdk-end" in each.name for each in threading.enumerate()))
    ask_bucket(s3)
    with Collector("conferencing", to, exit_timeout=WAIT_SECONDS):
        pass
    assert _people(tmp_path, s3) == [person(1)]


def test_a_fork_puts_nothing(tmp_path: Path, s3: int, ask_bucket: Callable[[int], None]) -> None:
    """It would wait for the bucket, and each would make a file."""
    ask_bucket(s3)
    to = f"parquet+s3://lake/{_prefix(tmp_path)}"
    made = Collector("conferencing", to, interval=0.1, exit_timeout=WAIT_SECONDS)
    with _emitted(made) as telemetry:
        assert telemetry.flush(WAIT_SECONDS)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert _people(tmp_path, s3) == []
    assert _people(tmp_path, s3) == [person(1)]


_WRITER = """
import sys
from pathlib import Path
from time import monotonic, sleep
from unittest import mock
from collector.errors import DeliveryError
from tests.sinks.test_parquet_s3 import _batch, _opened

first = int(sys.argv[3])
with _opened(Path(sys.argv[1]), int(sys.argv[2])) as sink:
    for number in range(first, 10_000):
        with mock.patch(
            "collector.sinks.parquet.segments.Segment.is_due", return_value=number % 3 == 0
        ):
            while True:
                try:
                    sink.deliver(_batch(number, [number % 200]))
                    break
                except DeliveryError:
                    sleep(0.02)
        print(number, flush=True)
"""


@pytest.mark.timeout(600)
def test_killed_at_any_time_while_the_bucket_fails(
    tmp_path: Path,
    s3: int,
    proxy: Proxy,
) -> None:
    taken = 0
    for round_ in range(int(os.environ.get("COLLECTOR_KILLS", "6"))):
        proxy.mode = ""
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(proxy.port), str(taken + 1)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        taken = int(writer.stdout.readline())
        sleep(0.05 * (round_ % 5))
        proxy.mode = ("", "cut", "500", "away")[round_ % 4]
        sleep(0.1)
        writer.kill()
        rest, _ = writer.communicate(timeout=WAIT_SECONDS)
        taken = int(rest.split()[-1]) if rest.strip() else taken
    proxy.mode = ""
    with _opened(tmp_path, proxy.port) as sink:  # what waits is put at the place it is for alone
        sink.deliver(_batch(taken, [taken % 200]))
        _put(sink)
    expected = sorted(person(number % 200) for number in range(1, taken + 1))
    found = _people(tmp_path, s3)
    assert len(expected) <= len(found) <= len(expected) + 1
    assert set(found) >= set(expected)


_CANARY = "canary-of-a-secret"


def _check(directory: Path, port: int, monkeypatch: pytest.MonkeyPatch, **more: str) -> Ended:
    for name, value in {"KEY": "key", "SECRET": "secret"}.items():
        monkeypatch.setenv(f"PARQUET_{name}", more.get(name, value))
    bucket = more.get("bucket", "lake")
    (directory / "collector.yaml").write_text(
        f"""data: data
sinks:
  store: true
  archive:
    type: parquet
    party: first
    url: s3://{bucket}/{_prefix(directory)}
    endpoint: http://127.0.0.1:{more.get("at", port)}
    region: us-east-1
    access_key: env:PARQUET_KEY
    secret_key: env:PARQUET_SECRET
"""
    )
    return run("config", "check", "--config", "collector.yaml", directory=directory)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"SECRET": _CANARY}, b"refuses the credentials"),
        ({"KEY": _CANARY}, b"refuses the credentials"),
        ({"bucket": "canary-bucket"}, b"there is no such bucket"),
        ({"at": "1"}, b"does not answer"),
    ],
)
def test_config_check_tells_what_is_wrong_with_a_bucket(
    tmp_path: Path,
    s3: int,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, str],
    words: bytes,
) -> None:
    """It names the sink and its line, and makes neither an object nor the bucket."""
    before = set(_objects(tmp_path, s3))
    done = _check(tmp_path, s3, monkeypatch)
    assert (done.code, done.err) == (0, b"")
    for _ in range(2):
        done = _check(tmp_path, s3, monkeypatch, **more)
        assert done.code == 0
        assert done.err.startswith(b"warning: collector.yaml:4:3: sinks.archive: "), done.err
        assert words in done.err
        assert _CANARY.encode() not in done.err
    assert set(_objects(tmp_path, s3)) == before


_CAUSES: dict[str, tuple[Cause, str]] = {
    "403": ("denied", "HTTP 403"),
    "404": ("missing", "HTTP 404"),
    "500": ("refused", "HTTP 500"),
    "full": ("full", "HTTP 507"),
    "redirect": ("refused", "HTTP 307"),
    "away": ("unreachable", ""),
    "bomb": ("refused", ""),
}


@pytest.mark.parametrize("mode", _CAUSES)
def test_each_failure_of_a_bucket_has_its_cause(
    tmp_path: Path, proxy: Proxy, s3: int, mode: str
) -> None:
    with _opened(tmp_path, proxy.port) as sink:
        sink.deliver(_batch(1, [1]))
        proxy.mode = mode
        with raises("E514", Unreachable) as caught:
            _put(sink)
        assert (caught.value.cause, caught.value.answer) == _CAUSES[mode]
        assert ECHO.decode() not in f"{caught.value!r}"
        proxy.mode = ""
