"""Admin answers to its own name and origin, and to no page that was made to reach it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sidecar.senders import shouted
from tests.sidecar.serving import Sidecar, started

_NAMES = """
    attacker.example attacker.example:4319 localhost.attacker.example 127.0.0.1.attacker.example
    127.0.0.1@attacker.example attacker.example:127.0.0.1 10.0.0.1 [fe80::1] 2130706433 0x7f.1 .
    localhost:80:80 localhost/ "" 0.0.0.0 [::] [::ffff:8.8.8.8]
""".split()
_ORIGINS = """
    null https://attacker.example http://localhost.attacker.example http://127.0.0.1.nip.io
    http://localhost http://127.0.0.1:1 file:// http://[::1] chrome-extension://abcdef
""".split()


@pytest.mark.parametrize("path", ["/metrics", "/readyz?verbose", "/livez", "/"])
def test_admin_is_for_its_own_name_and_origin(path: str, shared: Sidecar) -> None:
    """A name that was made lead here, a page of somebody's, a second header: each gets a constant
    sentence, and no leave to read it."""
    own = f"127.0.0.1:{shared.ports['admin']}"
    for head, status in _foreign(own):
        request = f"GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode()
        answer = shouted(shared.ports["admin"], [request])
        assert answer.startswith(b"HTTP/1.1 %d " % status), head
        assert b"access-control" not in answer.lower()
        assert (b"ollector" in answer) == (status == 200 and path in ("/", "/metrics"))
        assert not any(word in answer for word in (b"attacker", b"spool", b"nip")) or status == 200


def _foreign(own: str) -> Iterator[tuple[str, int]]:
    """Heads, and the status that each gets."""
    yield f"Host: {own}\r\n", 200
    yield "Host: localhost\r\nOrigin: http://localhost\r\n", 200
    for name in _NAMES:
        yield f"Host: {name}\r\n", 421
        yield f"Host: {name}\r\nX-Forwarded-Host: {own}\r\nForwarded: host={own}\r\n", 421
        yield f"Host: {name}\r\nOrigin: http://{name}\r\n", 421
    for origin in _ORIGINS:
        yield f"Host: {own}\r\nOrigin: {origin}\r\n", 403
        yield f"Host: {own}\r\nOrigin: http://{own}\r\nOrigin: {origin}\r\n", 403


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar for tests that only ask it."""
    with started(tmp_path_factory.mktemp("shared")) as sidecar:
        yield sidecar
