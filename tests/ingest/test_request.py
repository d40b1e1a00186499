"""The head of a request: types, encodings, hosts and addresses, from headers."""

from __future__ import annotations

import pytest

from collector.ingest.refusals import (
    INVALID_KEY,
    UNSUPPORTED_ENCODING,
    UNSUPPORTED_MEDIA_TYPE,
    RequestRefused,
)
from collector.ingest.request import ROUTES, HttpRequest
from tests.support.rows import for_each


def _head(
    *headers: tuple[str, str], path: str = "/v1/events", client: str | None = "::1"
) -> HttpRequest:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return HttpRequest("POST", path, encoded, client=client)


@for_each(
    ("path", "text", "form"),
    [
        ("/v1/events", "application/json", "json"),
        ("/v1/events", "Application/JSON; charset=UTF-8", "json"),
        ("/v1/events", 'application/json ;charset="utf-8"; x=y', "json"),
        ("/v1/events", "application/x-ndjson", "ndjson"),
        ("/v1/events", "application/x-protobuf", None),
        ("/v1/events", "application/json; charset=utf-16", None),
        ("/v1/events", "text/plain", None),
        ("/v1/events", "application/json, application/json", None),
        ("/v1/events", "", None),
        ("/v1/records", "application/x-ndjson; charset=utf-8", "records"),
        ("/v1/records", "application/json", None),
        ("/v1/logs", "application/x-protobuf", "logs"),
        ("/v1/traces", "application/json", "traces"),
        ("/v1/metrics", "application/json", "metrics"),
        ("/v1/metrics", "application/x-ndjson", None),
    ],
)
def test_types(path: str, text: str, form: str | None) -> None:
    """A path takes its types, with parameters, in UTF-8; two types are refused."""
    header = ("content-type", text)
    if form is not None:
        assert _head(header, path=path).form(ROUTES[path]) == form
    for headers in [(header, header)] if form else [(header,)]:
        with pytest.raises(RequestRefused) as caught:
            _head(*headers, path=path).form(ROUTES[path])
        assert caught.value.refusal is UNSUPPORTED_MEDIA_TYPE


_DIGITS = "00112233445566778899aAbBcCdDeEfF"


@for_each("text", [_DIGITS, f'"{_DIGITS}"', f" {_DIGITS}\t"])
def test_keys(text: str) -> None:
    """32 hexadecimal digits of either case, in quotes or not; or none at all."""
    assert _head(("idempotency-key", text)).idempotency_key() == bytes(range(0, 256, 17))
    assert _head().idempotency_key() is None


@for_each(
    "lines",
    [
        *(
            [""],
            ["7"],
            [_DIGITS[1:]],
            [_DIGITS + "0"],
            [_DIGITS.replace("0", "x", 1)],
            [f'"{_DIGITS}'],
        ),
        *([f"{_DIGITS}, {_DIGITS}"], [_DIGITS, _DIGITS], [f"'{_DIGITS}'"], [f"0x{_DIGITS[2:]}"]),
        *(["00112233-4455-6677-8899-aabbccddeeff"], [_DIGITS[:-1] + "²"], [f"{_DIGITS};a=b"]),
    ],
)
def test_keys_that_are_none(lines: list[str]) -> None:
    """Other forms are refused, not guessed."""
    with pytest.raises(RequestRefused) as caught:
        _head(*(("idempotency-key", line) for line in lines)).idempotency_key()
    assert caught.value.refusal is INVALID_KEY


@for_each(
    ("lines", "encoding"),
    [
        ([], None),
        (["identity"], None),
        (["gzip"], "gzip"),
        (["GZIP"], "gzip"),
        (["x-gzip"], "gzip"),
        (["zstd"], "zstd"),
        (["deflate"], "deflate"),
    ],
)
def test_encodings(lines: list[str], encoding: str | None) -> None:
    """One of three, or none."""
    assert _head(*(("content-encoding", line) for line in lines)).encoding() == encoding


@for_each("lines", [["gzip, gzip"], ["gzip", "gzip"], ["identity, gzip"], ["br"], ["gzip;q=1"]])
def test_encodings_that_are_not_taken(lines: list[str]) -> None:
    with pytest.raises(RequestRefused) as caught:
        _head(*(("content-encoding", line) for line in lines)).encoding()
    assert caught.value.refusal is UNSUPPORTED_ENCODING


def test_the_senders_address() -> None:
    lines = [("x-forwarded-for", "198.51.100.9"), ("x-forwarded-for", " 203.0.113.7 ,10.0.0.1")]
    peers = [_head(*lines, client="192.0.2.1").peer(hops) for hops in range(5)]
    assert peers == ["192.0.2.1", "10.0.0.1", "203.0.113.7", "198.51.100.9", None]
    assert _head(("x-forwarded-for", "\xff\xfe")).peer(1) == "ÿþ"


def test_addresses_of_other_kinds() -> None:
    """A unix socket has none; the zone of an address is the machine's own affair."""
    assert _head(client=None).peer(0) is None
    assert _head(client="fe80::1%eth0").peer(0) == "fe80::1"


@for_each(
    ("host", "known"),
    [
        ("localhost", True),
        ("LocalHost:4318", True),
        ("[::1]", True),
        ("[::1]:4318", True),
        ("127.0.0.1:1", True),
        ("only.example:99", True),
        ("only.example", False),
        ("localhost.evil.example", False),
        ("localhost:4318@evil.example", False),
        ("evil.example:4318", False),
        ("", False),
        ("::1", False),
    ],
)
def test_hosts(host: str, known: bool) -> None:
    """A name with any port, or exactly the name and port that is configured."""
    hosts = frozenset([b"localhost", b"127.0.0.1", b"[::1]", b"only.example:99"])
    assert _head(("host", host)).is_for(hosts) == known


def test_two_hosts_are_foreign() -> None:
    hosts = frozenset([b"localhost"])
    assert not _head(("host", "localhost"), ("host", "localhost")).is_for(hosts)
    assert not _head().is_for(hosts)


@for_each("name", ["sec-gpc", "dnt"])
def test_signals(name: str) -> None:
    """Global Privacy Control and Do Not Track refuse by ``1``, also beside another value."""
    for values in (["1"], ["0", "1"], [" 1\t"]):
        head = _head(*((name, value) for value in values))
        assert (head.has_signal(), head.refuses()) == (True, True)
    for values in ([], ["0"], ["true"], [""], ["11"]):
        head = _head(*((name, value) for value in values))
        assert (head.has_signal(), head.refuses()) == (False, False)


def test_granted_purposes() -> None:
    """Names between spaces; a header in any other form, or two, grant none."""
    name = "collector-granted"
    assert _head().granted() is None
    assert _head((name, "run improve")).granted() == ("run", "improve")
    assert _head((name, "")).granted() == ()
    for values in (["run, improve"], ["Run"], ["run", "run"], ["\xff"]):
        assert _head(*((name, value) for value in values)).granted() == ()


def test_user_agents_and_lengths() -> None:
    """Headers that occur once, and no others."""
    assert _head(("user-agent", " Mozilla/5.0 é ")).user_agent() == "Mozilla/5.0 é"
    assert _head(("user-agent", "a"), ("user-agent", "b")).user_agent() is None
    assert _head(("content-length", "12")).length() == 12
    assert _head(("content-length", "x")).length() == _head().length() == 0


def test_a_head_shows_nothing() -> None:
    """Its ``repr`` is that of any object."""
    assert "canary" not in repr(_head(("user-agent", "canary"), client="canary"))
