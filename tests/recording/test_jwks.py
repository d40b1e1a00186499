"""Key sets: what is one, and where it comes from, however that behaves."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigError
from collector.recording import jwks
from collector.recording.access import Verifier
from collector.recording.jwks import KeySource, parse_keys
from collector.recording.refusals import Refused
from tests.recording.recorders import Clock
from tests.recording.tokens import NOW, Platform, encoded, member
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.programs import threads
from tests.support.rows import for_each
from tests.support.tcp import Behaviour, tcp_server

_KEY = member(Ed25519PrivateKey.generate(), "one")
_OTHER = member(Ed25519PrivateKey.generate(), "two")


@pytest.fixture(autouse=True)
def _times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are refreshed at once, and a busy machine has time."""
    monkeypatch.setattr(jwks, "_REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", WAIT_SECONDS)
    monkeypatch.setattr(jwks, "_WAIT_SECONDS", WAIT_SECONDS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that keys grow old by."""
    clock = Clock()
    monkeypatch.setattr(jwks, "monotonic", clock)
    return clock


def _document(*members: object) -> bytes:
    return json.dumps({"keys": members}).encode()


# -- documents ------------------------------------------------------------------------------------


def test_a_key_set() -> None:
    """Ed25519 keys for signatures, by name; others, and what is said of them, are passed over."""
    others = [
        {"kty": "RSA", "kid": "rsa", "n": "x", "e": "AQAB"},
        {"kty": "oct", "kid": "one", "k": "c2VjcmV0"},
        {"kty": "OKP", "crv": "X25519", "kid": "one", "x": "x"},
        {"kty": "OKP", "crv": "Ed448", "kid": "one", "x": "x"},
        {**_OTHER, "use": "enc"},
        {**_OTHER, "key_ops": ["sign"]},
        {**_OTHER, "key_ops": []},
    ]
    named = {**_OTHER, "use": "sig", "alg": "EdDSA", "key_ops": ["verify"], "x5u": "file:///x"}
    assert set(parse_keys(_document(_KEY, *others, named))) == {"one", "two"}
    assert parse_keys(_document()) == {}


@for_each(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b'"keys"',
        b"{}",
        b'{"keys": null}',
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b'{"keys": [[]]}',
        b'{"keys": [{}]}',
        b"\xff\xfe{}",
        b'{"keys": [NaN]}',
        b'{"keys": [], "keys": []}',
        b"[" * 60_000,
        b'{"keys": [' * 5000,
        b'{"keys": [' + b"9" * 5000 + b"]}",
        _document(_KEY, _KEY),
        _document(_KEY, {**_OTHER, "kid": "one"}),
        _document(*({**_KEY, "kid": f"k{n}"} for n in range(51))),
        _document(_KEY) + b" " * (64 << 10),
        _document({**_KEY, "d": encoded(bytes(32))}),
        _document({**_KEY, "alg": "HS256"}),
        *(_document({**_KEY, "kid": kid}) for kid in (None, 1, "", "a b", "é", "x" * 129, ["a"])),
        *(
            _document({**_KEY, "x": x})
            for x in (None, 1, "", "A" * 42, "A" * 44, "=" * 43, "é" * 43)
        ),
        _document({**_KEY, "x": "A" * 42 + "B"}),
        _document({name: value for name, value in _KEY.items() if name != "kid"}),
        _document({name: value for name, value in _KEY.items() if name != "x"}),
    ],
)
def test_what_is_no_key_set(document: bytes) -> None:
    """One faulty key is enough, as is a private one, or a name that is there twice."""
    with pytest.raises(ValueError, match="no set of Ed25519 keys"):
        parse_keys(document)


@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*_KEY, "keys", "d", "use"]), inner, max_size=5),
    max_leaves=12,
).map(lambda value: json.dumps({"keys": value}).encode()))  # fmt: skip
def test_no_document_breaks_it(document: bytes) -> None:
    with suppress(ValueError):
        assert all(kid.isascii() for kid in parse_keys(document))


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


@pytest.fixture
def keys(platform: Platform, clock: Clock) -> KeySource:
    """The keys in the platform's file. They are read at the time of the test's clock."""
    return KeySource(str(platform.path))


def test_a_file_that_changes(platform: Platform, keys: KeySource) -> None:
    """A new key is found when a token names it; a withdrawn one is gone by then."""
    platform.publish(_OTHER)
    assert keys.find("two") is not None
    assert keys.find("one") is None


def test_a_file_that_breaks(platform: Platform, keys: KeySource) -> None:
    """The keys that were read before serve on, and the fault is known."""
    for text in ("{", '{"keys": []}', json.dumps({"keys": [_KEY, _KEY]})):
        platform.path.write_text(text)
        assert keys.find("two") is None
        assert keys.is_failing
        assert keys.find("one") is not None
    platform.path.unlink()
    assert keys.find("two") is None
    platform.publish(_OTHER)
    assert keys.find("two") is not None
    assert not keys.is_failing


def test_the_state_of_keys(platform: Platform, keys: KeySource, clock: Clock) -> None:
    """The file is read again while it fails, even if no token comes."""
    assert keys.state() == "ok"
    platform.path.write_text("{")
    keys.find("two")
    assert keys.state() == "late"
    clock.now += 1e9
    wait_until(lambda: keys.state() == "failing")
    platform.publish(_OTHER)
    wait_until(lambda: keys.state() == "ok")


@for_each("text", ["", "{}", '{"keys": []}', json.dumps({"keys": [{**_KEY, "d": "x"}]})])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "jwks").write_text(text)
    for path in (tmp_path / "jwks", tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=r"recorder\.keys"):
            KeySource(str(path))


def test_keys_that_are_too_old(platform: Platform, keys: KeySource, clock: Clock) -> None:
    """Keys are refreshed without being asked for, and expire after an hour of failures."""
    platform.path.write_text("{")
    clock.now += 3500.0
    assert keys.find("one") is not None
    clock.now += 200.0
    with pytest.raises(Refused, match=r"^unavailable"):
        keys.find("one")
    platform.publish(_KEY)
    assert _found(keys, "one")


def _found(source: KeySource, kid: str) -> bool:
    """Whether a key is there, once the source has an answer."""

    def ask() -> list[bool]:
        with suppress(Refused):
            return [source.find(kid) is not None]
        return []

    return wait_until(ask)[0]


# -- addresses ------------------------------------------------------------------------------------


class Endpoint:
    """An https server that answers each request with ``say``, in a thread of its own."""

    def __init__(self, context: ssl.SSLContext, trust: ssl.SSLContext) -> None:
        self.context, self.trust = context, trust
        self.address = ""
        self.requests: list[bytes] = []
        self.greet: Behaviour = lambda _: None
        self.say: Behaviour = lambda _: None
        self.sent = 0
        self.is_stopping = threading.Event()

    def answer(self, plain: socket.socket) -> None:
        """Greet, shake hands, read a request, and answer it."""
        plain.settimeout(WAIT_SECONDS)
        self.greet(plain)
        with self.context.wrap_socket(plain, server_side=True) as line:
            self.requests.append(line.recv(4096))
            self.say(line)

    def document(self, body: bytes, head: bytes = b"200 OK\r\n") -> None:
        """Answer with a body from now on."""
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.say = lambda line: line.sendall(b"HTTP/1.1 " + head + length + body)

    def drip(self, head: bytes, piece: bytes, pause: float) -> None:
        """Answer with a head, and with pieces for ever."""

        def say(line: socket.socket) -> None:
            line.sendall(head)
            while not self.is_stopping.wait(pause):
                line.sendall(piece)
                self.sent += len(piece)

        self.say = say


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate of an endpoint, and the authority that signed it."""
    authority = Authority(tmp_path_factory.mktemp("endpoint"))
    pair = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context, ssl.create_default_context(cafile=str(authority.own.certificate))


@pytest.fixture
def endpoint(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Endpoint]:
    """An endpoint with a key. Each test has one of its own: what the last one asked for and gave up
    may be read late."""
    endpoint = Endpoint(*contexts)
    endpoint.document(_document(_KEY))
    with tcp_server(endpoint.answer) as port:
        endpoint.address = f"https://localhost:{port}/jwks"
        yield endpoint
    endpoint.is_stopping.set()


def _source(endpoint: Endpoint) -> KeySource:
    return KeySource(endpoint.address, context=endpoint.trust)


def test_an_address(endpoint: Endpoint) -> None:
    """The document is fetched by https, with a verified certificate and without cookies."""
    source = _source(endpoint)
    assert source.find("one") is not None
    endpoint.document(_document(_KEY, _OTHER))
    assert source.find("two") is not None
    assert endpoint.requests[0].startswith(b"GET /jwks HTTP/1.1\r\n")
    assert b"cookie" not in endpoint.requests[0].lower()
    other = KeySource(endpoint.address)  # which does not trust the authority
    with pytest.raises(Refused, match=r"^unavailable"):
        other.find("one")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"302 Found\r\nLocation: file:///etc/passwd\r\n", b""),
        (b"301 Moved\r\nLocation: https://localhost/jwks\r\n", b""),
        (b"307 Temporary\r\nLocation: http://127.0.0.1:1/\r\n", _document(_OTHER)),
        (b"404 Not Found\r\n", _document(_OTHER)),
        (b"500 Error\r\n", b""),
        (b"206 Partial\r\n", _document(_OTHER)),
        (b"200 OK\r\n", b"<html>"),
        (b"200 OK\r\n", b"\x1f\x8b"),
        (b"200 OK\r\n", _document(_OTHER) + b" " * (64 << 10)),
        (b"200 OK\r\n" + b"X: y\r\n" * 1000, _document(_OTHER)),
        (b"200 OK\r\nX: " + b"y" * 200_000 + b"\r\n", _document(_OTHER)),
        (b"\xff\r\n", b""),
    ],
    ids=range(12),
)
def test_answers_that_are_no_key_set(endpoint: Endpoint, head: bytes, body: bytes) -> None:
    source = _source(endpoint)
    endpoint.document(body, head)
    assert source.find("two") is None
    assert source.is_failing
    assert source.find("one") is not None


_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece", "pause"),
    [
        (b"", b"", 0.02),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.02),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.02),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", b" ", 0.02),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n", b" " * 65536, 0.0),
        (_CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536, 0.0),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),
    ],
    ids=["hangs", "headers", "header", "drips", "1 GB", "chunks", "endless", "continues"],
)  # fmt: skip
def test_answers_without_an_end(
    endpoint: Endpoint, head: bytes, piece: bytes, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are given up after some seconds or bytes. Known keys serve meanwhile."""
    source = _source(endpoint)
    assert _found(source, "one")
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", 0.2)
    endpoint.drip(head, piece, pause)
    endpoint.sent = 0
    assert source.find("two") is None
    assert source.is_failing
    assert source.find("one") is not None
    assert endpoint.sent < 64 << 20


def test_a_handshake_without_an_end(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up although each byte comes in time. Then the address is asked again."""
    source, ends = _source(endpoint), threading.Event()
    assert _found(source, "one")
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", 0.3)

    def drip(line: socket.socket) -> None:
        line.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")  # of a hello of 16 KB
        while not ends.wait(0.05):
            line.sendall(b"\x03")

    with monkeypatch.context() as patch:
        patch.setattr(endpoint, "greet", drip)
        assert source.find("two") is None
        assert source.is_failing
        assert source.find("one") is not None
    ends.set()
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", WAIT_SECONDS)
    endpoint.document(_document(_KEY, _OTHER))
    wait_until(lambda: source.find("two") is not None)


@pytest.mark.parametrize("fault", ["expired", "not yet", "another name", "self-signed"])
def test_certificates_that_do_not_fit(
    endpoint: Endpoint, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority, pair = _certificate(fault, tmp_path)
    context.load_cert_chain(pair)
    monkeypatch.setattr(endpoint, "context", context)
    source = KeySource(endpoint.address, context=ssl.create_default_context(cafile=authority))
    with pytest.raises(Refused, match=r"^unavailable"):
        source.find("one")
    assert source.is_failing
    assert endpoint.requests == []


def _certificate(fault: str, folder: Path) -> tuple[Path, Path]:
    """An authority, and a certificate of it with its key, which has a fault."""
    now, day = datetime.now(UTC), timedelta(days=1)
    begin, end = {"expired": (now - 2 * day, now - day), "not yet": (now + day, now + 2 * day)}.get(
        fault, (now - day, now + day)
    )
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("ca", "own")]
    own = "elsewhere" if fault == "another name" else "localhost"
    signer = 1 if fault == "self-signed" else 0
    paths = (folder / "ca.pem", folder / "own.pem")
    for at, path in enumerate(paths):
        by = signer if at else 0
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[at])
            .issuer_name(names[by])
            .public_key(keys[at].public_key())
            .serial_number(at + 1)
            .not_valid_before(begin if at else now - 9 * day)
            .not_valid_after(end if at else now + 9 * day)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(own)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=not at, path_length=None), critical=True)
            .sign(keys[by], SHA256())
        )
        forms = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + keys[at].private_bytes(*forms))
    return paths


def test_keys_that_rotate(endpoint: Endpoint, clock: Clock) -> None:
    """The new key serves when a token names it, beside the old one; a withdrawn one ends within
    minutes."""
    source = _source(endpoint)
    endpoint.document(_document(_KEY, _OTHER))
    assert source.find("two") is not None
    assert source.find("one") is not None
    endpoint.document(_document(_OTHER))
    assert source.find("one") is not None  # which is known, and fresh
    clock.now += 301
    wait_until(lambda: source.find("one") is None)
    assert source.find("two") is not None


def test_few_tokens_wait(endpoint: Endpoint) -> None:
    """While a refresh hangs, a flood of unknown keys takes two threads and no more. Known keys are
    found at once."""
    source, ends = _source(endpoint), threading.Event()
    endpoint.say = lambda _: ends.wait(WAIT_SECONDS)
    with threads(*(partial(source.find, f"{n}") for n in range(2))) as waiting:
        wait_until(lambda: source.waiting == 2)
        for n in range(1000):
            assert source.find(f"{n}") is None
            assert source.find("one") is not None
        assert all(thread.is_alive() for thread in waiting)
        ends.set()


def test_a_flood_of_unknown_keys(
    endpoint: Endpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It causes one refresh in each interval, from any number of threads."""
    source = _source(endpoint)
    monkeypatch.setattr(jwks, "_REFRESH_SECONDS", 3600.0)
    monkeypatch.setattr(jwks, "_WAIT_SECONDS", 0.01)
    clock.now += 3600
    with threads(
        *(lambda at=at: [source.find(f"{at}-{n}") for n in range(200)] for at in range(8))
    ):
        pass
    wait_until(source._done.is_set)
    assert len(endpoint.requests) == 2  # at the start, and once


def test_an_address_that_comes_late(endpoint: Endpoint, tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    endpoint.document(b"", b"503 Later\r\n")
    verifier = Verifier(_source(endpoint))
    for token in (platform.token(), platform.token({"kid": "x"}), platform.token(exp=1)):
        with pytest.raises(Refused, match=r"^unavailable"):
            verifier.verify(token, "m-1", NOW)
    endpoint.document(_document(member(platform.key, "one")))
    assert verifier.verify(platform.token(), "m-1", NOW).jti == "j-1"


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"https://127.0.0.1:{closed.getsockname()[1]}/jwks"
    source = KeySource(address)
    assert (source.is_failing, repr(source)) == (True, "<KeySource>")
