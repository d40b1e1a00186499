"""The page of ``collector dev``: it answers this machine's own page, and nobody else."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from threading import Thread

import orjson
import pytest

from collector.dev.playground import MOST_BYTES, Pasted
from collector.dev.site import Site
from tests.support.deadline import WAIT_SECONDS

_TEXT = "text/plain;charset=UTF-8"
_CANARY = b"hunter2-canary"
_Headers = dict[str, str]


def _ask(form: Pasted, text: bytes) -> bytes:
    assert text == _CANARY
    return orjson.dumps({"form": form})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site with a state of its own."""
    with Site(0, lambda: {"faults": ["one"]}, _ask) as made:
        thread = Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


def _request(
    site: Site, method: str, path: str, body: bytes | None = None, /, **headers: str
) -> tuple[int, _Headers, bytes]:
    port = site.server_port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_it_serves_a_page_that_loads_nothing(site: Site) -> None:
    """Its policy allows its own script and style, and requests to itself."""
    status, headers, body = _request(site, "GET", "/")
    policy = headers["Content-Security-Policy"]
    assert (status, b"Playground" in body) == (200, True)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


def test_it_filters_what_its_own_page_sends(site: Site) -> None:
    """In each form; it says what is now."""
    status, _, body = _request(site, "POST", "/try?ndjson", _CANARY, Content_Type=_TEXT)
    assert (status, orjson.loads(body)) == (200, {"form": "ndjson"})
    assert orjson.loads(_request(site, "GET", "/state.json")[2]) == {"faults": ["one"]}


_FOREIGN: list[_Headers] = [
    {"Host": "attacker.example"},
    {"Host": "127.0.0.1"},
    {"Origin": "https://attacker.example"},
    {"Origin": "null"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]


@pytest.mark.parametrize("headers", _FOREIGN)
def test_other_pages_cannot_use_it(site: Site, headers: _Headers) -> None:
    assert _request(site, "GET", "/state.json", None, **headers)[0] == 403
    headers = headers | {"Content_Type": _TEXT}
    status, _, body = _request(site, "POST", "/try?json", _CANARY, **headers)
    assert (status, _CANARY in body) == (403, False)


def test_a_form_of_another_page_is_refused(site: Site) -> None:
    """A browser asks no leave for what a form can send."""
    status = _request(site, "POST", "/try?json", _CANARY, Content_Type="text/plain")[0]
    assert status == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/..%2fetc/passwd", 404),
        ("GET", f"/{_CANARY.decode()}", 404),
        ("POST", "/try?exe", 404),
        ("PUT", "/", 501),
    ],
)
def test_anything_else_is_refused(site: Site, method: str, path: str, status: int) -> None:
    """In constants."""
    found, _, body = _request(site, method, path, b"", Content_Type=_TEXT)
    assert (found, _CANARY in body) == (status, False)


@pytest.mark.parametrize("size", [str(16 << 20), "9" * 5_000])
def test_what_is_too_large_is_refused_before_it_is_read(site: Site, size: str) -> None:
    with socket.create_connection(("127.0.0.1", site.server_port), timeout=WAIT_SECONDS) as line:
        head = f"Host: 127.0.0.1:{site.server_port}\r\nContent-Type: {_TEXT}\r\n"
        head += f"Content-Length: {size}\r\n\r\n"
        line.sendall(f"POST /try?json HTTP/1.1\r\n{head}".encode() + _CANARY)
        told = b"".join(iter(lambda: line.recv(1 << 16), b""))
    assert told.startswith(b"HTTP/1.1 413")
    assert f"{MOST_BYTES:,} bytes at most".encode() in told
    assert _CANARY not in told


@pytest.mark.parametrize("text", [b"\xff\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n"])
def test_what_is_no_http_is_not_quoted(
    site: Site, text: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", site.server_port), timeout=WAIT_SECONDS) as line:
        line.sendall(_CANARY + text)
        line.shutdown(socket.SHUT_WR)
        told = b"".join(iter(lambda: line.recv(1 << 16), b""))
    assert _CANARY not in told
    assert capfd.readouterr() == ("", "")
