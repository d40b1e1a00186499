"""Admin: health, metrics, pages; of constants and names, for callers of this machine only."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.request import HttpRequest
from collector.ingest.responses import serialize
from collector.server.admin import AdminPages, State
from collector.server.pages import File
from tests.support.rows import for_each

_SECRET = "hunter2secret"
Headers = list[tuple[bytes, bytes]]
_RULES = "default-src 'none'; style-src 'sha256-a'; frame-ancestors 'none'"
_LOCAL: Headers = [(b"host", b"127.0.0.1:4319")]


async def _file(path: str, language: str) -> File | None:
    """The pages, of which one cannot be made."""
    if path == "/page.json":
        return None
    return File("text/html; charset=utf-8", f"{path} {language}".encode(), _RULES, b'"1"')


def _admin(states: dict[str, State] | None = None, **more: Any) -> AdminPages:
    return AdminPages(lambda: states or {"spool": "ok"}, lambda: b"m 1\n", _file, **more)


def _ask(
    admin: AdminPages,
    path: str,
    headers: Headers = _LOCAL,
    query: bytes = b"",
    method: str = "GET",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer."""
    response = asyncio.run(admin(HttpRequest(method, path, headers, query=query)))
    raw = serialize(response, close=False, is_head=method == "HEAD")
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = (line.partition(b": ") for line in head.split(b"\r\n")[1:])
    return response.status, {name: value for name, _, value in lines}, body


def test_it_lives() -> None:
    """A process that answers lives."""
    status, headers, body = _ask(_admin(), "/livez")
    assert (status, body) == (200, b"ok\n")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"content-length"] == b"3"


@for_each(
    ("states", "status", "verbose"),
    [
        (
            {"spool": "ok", "receiver http": "ok"},
            200,
            b"[+] spool ok\n[+] receiver http ok\nready\n",
        ),
        ({"spool": "ok", "sink store": "late"}, 200, b"[+] spool ok\n[!] sink store late\nready\n"),
        ({"spool": "failing"}, 503, b"[-] spool failing\nnot ready\n"),
        (
            {"spool": "full", "sink lake": "blocking"},
            503,
            b"[-] spool full\n[-] sink lake blocking\nnot ready\n",
        ),
    ],
)
def test_it_is_ready(states: dict[str, State], status: int, verbose: bytes) -> None:
    """One word and the checks that fail, or all checks; a sink that is late does not make it
    unready."""
    admin = _admin(states)
    assert _ask(admin, "/readyz", query=b"verbose")[::2] == (status, verbose)
    assert _ask(admin, "/readyz", query=b"verbose=1")[::2] == (status, verbose)
    short = b"ready\n" if status == 200 else verbose
    assert _ask(admin, "/readyz")[::2] == (status, short)


def test_metrics_and_pages() -> None:
    """Metrics, and the pages for people in two languages, with the policy that each has."""
    status, headers, body = _ask(_admin(), "/metrics")
    assert (status, body) == (200, b"m 1\n")
    assert headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    for path, query in (("/", b""), ("/", b"lang=id"), ("/status", b"")):
        status, headers, body = _ask(_admin(), path, query=query)
        assert (status, body) == (200, f"{path} {'id' if query else 'en'}".encode())
        assert headers[b"content-type"] == b"text/html; charset=utf-8"
        assert headers[b"content-security-policy"] == _RULES.encode()
    assert _ask(_admin(), "/page.json")[0] == 503


def test_a_reader_that_has_the_page() -> None:
    """It is told so, by the tag of the page."""
    known = [*_LOCAL, (b"if-none-match", b'"1"')]
    status, headers, body = _ask(_admin(), "/", known)
    assert (status, headers[b"etag"], body) == (304, b'"1"', b"")
    assert _ask(_admin(), "/", [*_LOCAL, (b"if-none-match", b'"2"')])[0] == 200


_ISOLATED = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}


@for_each("path", ["/", "/status", "/page.json", "/metrics", "/livez", "/else"])
def test_no_other_page_can_frame_or_read_it(path: str) -> None:
    """Every answer is isolated, and what another site embeds is refused; a link leads here."""
    headers = _ask(_admin(), path)[1]
    assert _ISOLATED.items() <= headers.items()
    policy = headers[b"content-security-policy"]
    assert policy.endswith(b"frame-ancestors 'none'")
    assert b"unsafe" not in policy
    for site in (b"cross-site", b"same-site"):
        for dest in (b"iframe", b"image", b"script", b"empty"):
            embedding = [(b"sec-fetch-site", site), (b"sec-fetch-dest", dest)]
            status = _ask(_admin(), path, [*_LOCAL, *embedding])[0]
            assert status == 403
        link = [*_LOCAL, (b"sec-fetch-site", site), (b"sec-fetch-dest", b"document")]
        assert _ask(_admin(), path, link)[0] != 403


def test_head_has_no_body() -> None:
    """The length is that of the answer to GET."""
    status, headers, body = _ask(_admin(), "/livez", method="HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"3", b"")


@for_each(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.8.8:4319", "[::1]", "[::1]:4319", "box:80"],
)
def test_our_hosts(host: str) -> None:
    """Loopback by any of its names, and what is configured."""
    assert _ask(_admin(hosts=["box"]), "/livez", [(b"host", host.encode())])[0] == 200


_FOREIGN = """
    attacker.example attacker.example:4319 localhost.attacker.example 127.0.0.1.attacker.example
    127.0.0.1@attacker.example attacker.example:127.0.0.1 10.0.0.1 [fe80::1] 2130706433 0x7f.1 .
    localhost:80:80 localhost/ "" 0.0.0.0 [::] [::ffff:8.8.8.8] [2001:db8::1]:4319 192.0.2.1
    localhost:1:attacker \xff
""".split()
_ORIGINS = """
    null https://attacker.example http://localhost.attacker.example http://127.0.0.1.nip.io
    http://localhost http://localhost:4319 http://127.0.0.1 http://127.0.0.1:1 file:// http://[::1]
    chrome-extension://abcdef
""".split()


@for_each(
    "headers",
    [
        [],
        [(b"host", b"")],
        [*_LOCAL, *_LOCAL],
        *([(b"host", name.encode("latin-1"))] for name in _FOREIGN),
        [(b"host", b"attacker.example"), (b"x-forwarded-host", b"127.0.0.1:4319")],
        [(b"host", b"attacker.example"), (b"origin", b"http://attacker.example")],
    ],
)
def test_foreign_hosts(headers: Headers) -> None:
    """A foreign name that resolves to this address is refused."""
    for path in ("/", "/page.json", "/status", "/livez", "/readyz", "/metrics", "/else"):
        assert _ask(_admin(), path, headers)[0] == 421


@for_each("name", ["10.0.0.7", "10.0.0.7:4319", "[2001:db8::7]:4319"])
def test_a_public_address_is_called_by_any_address(name: str) -> None:
    host = [(b"host", name.encode())]
    assert _ask(_admin(), "/livez", host)[0] == 421
    assert _ask(_admin(is_public=True), "/livez", host)[0] == 200
    foreign = [(b"host", b"attacker.example")]
    assert _ask(_admin(is_public=True), "/livez", foreign)[0] == 421


@for_each("origin", [b"", *map(str.encode, _ORIGINS)])
def test_foreign_origins(origin: bytes) -> None:
    """A page of another origin gets nothing, also of another port of this machine."""
    own = (b"origin", b"http://127.0.0.1:4319")
    for path in ("/", "/livez", "/readyz", "/metrics"):
        assert _ask(_admin(), path, [*_LOCAL, (b"origin", origin)])[0] == 403
        assert _ask(_admin(), path, [*_LOCAL, own, (b"origin", origin)])[0] == 403


def test_our_own_origin() -> None:
    """The page itself may ask."""
    assert _ask(_admin(), "/", [*_LOCAL, (b"origin", b"http://127.0.0.1:4319")])[0] == 200


@for_each("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
def test_it_only_shows(method: str) -> None:
    """Nothing can be changed here."""
    status, headers, _ = _ask(_admin(), "/metrics", method=method)
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")


def test_tokens() -> None:
    admin = _admin(admits=lambda header: header == b"Bearer right")
    assert _ask(admin, "/livez")[0] == 200
    assert _ask(admin, "/readyz")[0] == 200
    for sent in (_LOCAL, [*_LOCAL, (b"authorization", b"Bearer wrong")]):
        for query in (b"verbose", b"verbose=1"):
            assert _ask(admin, "/readyz", sent, query)[::2] == (200, b"ready\n")
    full: dict[str, State] = {"spool": "full", "sink lake": "blocking"}
    unready = _admin(full, admits=lambda header: header == b"Bearer right")
    assert _ask(unready, "/readyz")[::2] == (503, b"not ready\n")
    assert _ask(unready, "/readyz", query=b"verbose")[2] == b"not ready\n"
    known = [*_LOCAL, (b"authorization", b"Bearer right")]
    assert b"[-] sink lake blocking" in _ask(unready, "/readyz", known)[2]
    named = _ask(admin, "/readyz", [*_LOCAL, (b"authorization", b"Bearer right")], b"verbose")
    assert named[2] == b"[+] spool ok\nready\n"
    for path in ("/", "/status", "/metrics"):
        status, headers, _ = _ask(admin, path)
        assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
        right = (b"authorization", b"Bearer right")
        assert _ask(admin, path, [*_LOCAL, (b"authorization", b"Bearer wrong")])[0] == 401
        assert _ask(admin, path, [*_LOCAL, right, right])[0] == 401
        assert _ask(admin, path, [*_LOCAL, right])[0] == 200


@given(st.text(), st.binary(), st.binary(max_size=40))
def test_nothing_is_echoed(path: str, query: bytes, host: bytes) -> None:
    """The response to any path is one of a few constants."""
    secret = _SECRET.encode()
    headers = [(b"host", secret + host), (b"x-secret", secret)]
    for given_headers in (_LOCAL, headers):
        status, answered, body = _ask(_admin(), f"/{_SECRET}{path}", given_headers, secret + query)
        assert status in (404, 421)
        assert secret not in body + b"".join(key + value for key, value in answered.items())
