"""The head of a request: types, encodings, hosts and addresses, from ASGI scopes."""

from __future__ import annotations

import pytest

from collector.ingest.head import ROUTES, Head
from collector.ingest.refusals import ENCODING, KEY, TYPE, Refused


def _head(*headers: tuple[str, str], path: str = "/v1/events", client: str | None = "::1") -> Head:
    return Head.of(
        {
            "method": "POST",
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "client": client and (client, 1),
        }
    )


@pytest.mark.parametrize(
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
    """A path takes its types, with parameters, in UTF-8."""
    head = _head(("content-type", text), path=path)
    if form is not None:
        assert head.form(ROUTES[path]) == form
        return
    with pytest.raises(Refused) as caught:
        head.form(ROUTES[path])
    assert caught.value.refusal is TYPE


_DIGITS = "00112233445566778899aAbBcCdDeEfF"


@pytest.mark.parametrize("text", [_DIGITS, f'"{_DIGITS}"', f" {_DIGITS}\t"])
def test_keys(text: str) -> None:
    """32 hexadecimal digits of either case, in quotes or not; or none at all."""
    assert _head(("idempotency-key", text)).key() == bytes(range(0, 256, 17))
    assert _head().key() is None


@pytest.mark.parametrize(
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
    ids=str,
)
def test_keys_that_are_none(lines: list[str]) -> None:
    """Nobody guesses what was meant."""
    with pytest.raises(Refused) as caught:
        _head(*(("idempotency-key", line) for line in lines)).key()
    assert caught.value.refusal is KEY


def test_two_types_are_none() -> None:
    """Nobody guesses which one was meant."""
    head = _head(("content-type", "application/json"), ("content-type", "application/json"))
    with pytest.raises(Refused):
        head.form(ROUTES["/v1/events"])


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "lines", [["gzip, gzip"], ["gzip", "gzip"], ["identity, gzip"], ["br"], ["gzip;q=1"]], ids=str
)
def test_encodings_that_are_not_taken(lines: list[str]) -> None:
    """Others, and more than one."""
    with pytest.raises(Refused) as caught:
        _head(*(("content-encoding", line) for line in lines)).encoding()
    assert caught.value.refusal is ENCODING


@pytest.mark.parametrize(
    ("lines", "hops", "peer"),
    [
        ([], 0, "192.0.2.1"),
        (["203.0.113.7"], 0, "192.0.2.1"),
        (["203.0.113.7"], 1, "203.0.113.7"),
        (["198.51.100.9, 203.0.113.7"], 1, "203.0.113.7"),
        (["198.51.100.9, 203.0.113.7"], 2, "198.51.100.9"),
        (["198.51.100.9", " 203.0.113.7 ,10.0.0.1"], 2, "203.0.113.7"),
        (["198.51.100.9", "203.0.113.7,10.0.0.1"], 3, "198.51.100.9"),
        (["203.0.113.7"], 2, None),
        (["203.0.113.7,"], 1, None),
        ([], 1, None),
        (["\xff\xfe"], 1, "ÿþ"),
    ],
)
def test_the_senders_address(lines: list[str], hops: int, peer: str | None) -> None:
    """The n-th from the right of all lines together; with no trusted proxy, who called."""
    head = _head(*(("x-forwarded-for", line) for line in lines), client="192.0.2.1")
    assert head.peer(hops) == peer


def test_addresses_of_other_kinds() -> None:
    """A unix socket has none; the zone of an address is the machine's own affair."""
    assert _head(client=None).peer(0) is None
    assert _head(client="fe80::1%eth0").peer(0) == "fe80::1"


@pytest.mark.parametrize(
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
    assert _head(("host", host)).hosted(hosts) == known


def test_two_hosts_are_foreign() -> None:
    """And so is none."""
    hosts = frozenset([b"localhost"])
    assert not _head(("host", "localhost"), ("host", "localhost")).hosted(hosts)
    assert not _head().hosted(hosts)


def test_user_agents_and_lengths() -> None:
    """What stands there once, and nothing else."""
    assert _head(("user-agent", " Mozilla/5.0 é ")).user_agent() == "Mozilla/5.0 é"
    assert _head(("user-agent", "a"), ("user-agent", "b")).user_agent() is None
    assert _head(("content-length", "12")).length() == 12
    assert _head(("content-length", "x")).length() == _head().length() == 0


def test_a_head_shows_nothing() -> None:
    """Its ``repr`` is that of any object."""
    assert "canary" not in repr(_head(("user-agent", "canary"), client="canary"))
