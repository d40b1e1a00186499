"""TLS: the files that are refused, and the needs of a handshake."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from collector.errors import ConfigError, NotNow
from collector.ingest import tls
from collector.ingest.tls import Certificates
from tests.support.certificates import Authority, Pair, dated
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import script
from tests.support.rows import for_each


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for certificates."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Signs servers and clients."""
    return Authority(folder)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    """The server's pair."""
    return authority.issue("server")


def _client(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.own.certificate)
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def _handshake(context: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """One byte each way over a real connection; the version of TLS, or the client's failure."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as encrypted:
                    encrypted.sendall(encrypted.recv(1))
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            raw = socket.create_connection(listener.getsockname(), timeout=WAIT_SECONDS)
            with client.wrap_socket(raw, server_hostname="localhost") as encrypted:
                encrypted.sendall(b"x")
                return encrypted.version() if encrypted.recv(1) == b"x" else None
        except OSError:
            raw.close()
            return None
        finally:
            thread.join(WAIT_SECONDS)


def test_a_handshake(authority: Authority, server: Pair) -> None:
    """A client that knows the authority gets through, with TLS 1.3 and with 1.2."""
    context = Certificates(server.certificate, server.key).context()
    assert _handshake(context, _client(authority)) == "TLSv1.3"
    old = _client(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert _handshake(context, old) == "TLSv1.2"


def test_strangers_are_not_trusted(server: Pair) -> None:
    """A client that does not know the authority turns away by itself."""
    context = Certificates(server.certificate, server.key).context()
    assert _handshake(context, ssl.create_default_context()) is None


def test_old_versions_are_refused(server: Pair) -> None:
    """TLS 1.2 is the least, nothing is compressed, and nothing is renegotiated."""
    context = Certificates(server.certificate, server.key).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode == ssl.CERT_NONE


def test_mutual_tls(authority: Authority, server: Pair, tmp_path: Path) -> None:
    certificates = Certificates(server.certificate, server.key, authority.own.certificate)
    assert certificates.mutual
    context = certificates.context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert _handshake(context, _client(authority, authority.issue("client"))) == "TLSv1.3"
    assert _handshake(context, _client(authority)) is None
    foreign = Authority(tmp_path, "another").issue("client")
    assert _handshake(context, _client(authority, foreign)) is None


def test_an_authority_with_words_around_it(authority: Authority, server: Pair) -> None:
    """Bundles have comments, of whatever letters, and more than one certificate."""
    bundle = authority.folder / "bundle.pem"
    own = authority.own.certificate.read_text()
    bundle.write_text(f"# Bündel\n{own}\n# noch eins\n{own}")
    context = Certificates(server.certificate, server.key, bundle).context()
    assert len(context.get_ca_certs()) == 1


def test_session_keys_are_not_logged(authority: Authority, server: Pair, tmp_path: Path) -> None:
    """``SSLKEYLOGFILE`` has no effect, neither on the context nor on gRPC's credentials."""
    log = tmp_path / "keys.log"
    code = (
        "import sys, pathlib\n"
        "from collector.ingest.tls import Certificates\n"
        "from tests.ingest.test_tls import _client, _handshake\n"
        "from tests.support.certificates import Pair\n"
        "import ssl\n"
        "ours = Certificates(*map(pathlib.Path, sys.argv[1:3]))\n"
        "context = ours.context()\n"
        "assert context.keylog_filename is None\n"
        "client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n"
        "client.load_verify_locations(sys.argv[3])\n"
        "assert _handshake(context, client) == 'TLSv1.3'\n"
        "import grpc\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "server = grpc.server(ThreadPoolExecutor(1))\n"
        "port = server.add_secure_port('localhost:0', ours.grpc())\n"
        "server.start()\n"
        "root = pathlib.Path(sys.argv[3]).read_bytes()\n"
        "import socket\n"
        "client.set_alpn_protocols(['h2'])\n"
        "with client.wrap_socket(socket.create_connection(('localhost', port)),\n"
        "                        server_hostname='localhost') as connection:\n"
        "    assert connection.recv(1)\n"
        "server.stop(0).wait()\n"
    )
    arguments = [server.certificate, server.key, authority.own.certificate]
    assert script(code, *arguments, environ={"SSLKEYLOGFILE": str(log)}).stderr == ""
    assert not log.exists()


def _encrypted(pair: Pair, folder: Path) -> Path:
    path = folder / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:x", "-out", path],
        check=True,
        capture_output=True,
        timeout=WAIT_SECONDS,
    )
    return path


def test_files_that_cannot_be_used(authority: Authority, server: Pair, tmp_path: Path) -> None:
    """E212 says which setting and why, and nothing of the files: no content, no path."""
    other = authority.issue("other")
    text = tmp_path / "notes.txt"
    text.write_text("the secret is hunter2")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n")
    broken_key = tmp_path / "broken.key"
    broken_key.write_text("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n")
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large"
    large.write_bytes(b"-----BEGIN CERTIFICATE-----" * 50_000)
    ours = (server.certificate, server.key)
    cases: list[tuple[tuple[Path, ...], str]] = [
        ((tmp_path / "missing", server.key), "the file of `certificate` cannot be read: no such"),
        ((tmp_path, server.key), "the file of `certificate` cannot be read: is a directory"),
        ((server.certificate, tmp_path / "missing"), "the file of `key` cannot be read: no such"),
        ((tmp_path / "pipe", server.key), "the file of `certificate` cannot be read: it is a pipe"),
        ((text, server.key), "the file of `certificate` has no `"),
        ((server.certificate, text), "the file of `key` has no `"),
        ((server.key, server.certificate), "the file of `certificate` has no `"),
        ((large, server.key), "the file of `certificate` is larger than 1 MiB"),
        ((server.certificate, other.key), "the key does not fit the certificate"),
        ((server.certificate, _encrypted(server, tmp_path)), "the key not encrypted"),
        ((broken, server.key), "the certificate and its key cannot be used"),
        ((server.certificate, broken_key), "the certificate and its key cannot be used"),
        ((*ours, tmp_path / "missing"), "the file of `client_ca` cannot be read: no such"),
        ((*ours, text), "the file of `client_ca` has no `"),
        ((*ours, broken), "the file of `client_ca` holds no certificate of an authority"),
        ((*ours, other.certificate), "the file of `client_ca` holds no certificate of an auth"),
    ]
    for paths, message in cases:
        with pytest.raises(ConfigError) as caught:
            Certificates(*paths)
        said = str(caught.value)
        assert message in said
        assert said.endswith("[E212]")
        assert "hunter2" not in said
        assert str(tmp_path) not in said
        assert caught.value.__context__ is None


_NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def _at(pair: Pair) -> Certificates:
    with patch("collector.ingest.tls.time", _NOW.timestamp):
        return Certificates(pair.certificate, pair.key)


def test_the_time_of_a_certificate(tmp_path: Path) -> None:
    """Any time of any century is read as it was written."""
    random = Random(7)
    for _ in range(40):
        begin = datetime(random.randint(1950, 2026), random.randint(1, 5), 28, 23, tzinfo=UTC)
        begin += timedelta(seconds=random.randint(0, 10_000))
        end = datetime(random.choice([2027, 2049, 2050, 2051, 2999, 9999]), 12, 31, tzinfo=UTC)
        found = _at(dated(tmp_path, begin, end)).validity
        assert found == (begin.timestamp(), end.timestamp())


def test_a_certificate_out_of_its_time(tmp_path: Path) -> None:
    """An expired one is refused; so is one that begins later, which may be tried again."""
    day = timedelta(days=1)
    cases = [(-2, -1, ConfigError), (-2, 0, ConfigError), (1, 2, NotNow)]
    for begin, end, kind in cases:
        with pytest.raises(ConfigError) as caught:
            _at(dated(tmp_path, _NOW + begin * day, _NOW + end * day))
        assert (type(caught.value), caught.value.code) == (kind, "E212")
    assert _at(dated(tmp_path, _NOW, _NOW + day)).validity[0] == _NOW.timestamp()


@for_each(
    ("days", "left", "is_soon"), [(90, 20, False), (90, 13, True), (6, 3, False), (6, 1, True)]
)
def test_a_certificate_that_ends_soon(tmp_path: Path, days: int, left: int, is_soon: bool) -> None:
    end = _NOW + timedelta(days=left)
    pair = _at(dated(tmp_path, end - timedelta(days=days), end))
    assert pair.ends_soon(_NOW.timestamp()) is is_soon


def test_damaged_times(tmp_path: Path) -> None:
    pair = dated(tmp_path, _NOW - timedelta(days=9), _NOW + timedelta(days=9))
    der, random = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text()), Random(3)
    for _ in range(2000):
        damaged = bytearray(der)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(der))] = random.randrange(256)
        cut = bytes(damaged[: random.choice([len(der), random.randrange(len(der))])])
        with suppress(ConfigError):
            found = tls._validity(ssl.DER_cert_to_PEM_cert(cut).encode())
            assert [type(each) for each in found] == [float, float]
