"""Origins of pages: exactly those that are configured, and no star."""

from __future__ import annotations

import pytest

from collector.ingest.http import CorsPolicy
from collector.ingest.refusals import FOREIGN_ORIGIN, RequestRefused
from collector.ingest.request import HttpRequest
from tests.support.rows import for_each


def _head(*origins: str, asks: bool = False) -> HttpRequest:
    headers = [(b"origin", origin.encode()) for origin in origins]
    headers += [(b"access-control-request-method", b"POST")] * asks
    return HttpRequest("OPTIONS", "/v1/logs", headers)


_ORIGINS = CorsPolicy(["https://Meet.example/", "http://localhost:3000"])


@for_each(
    ("origins", "admitted"),
    [
        ([], True),
        (["https://meet.example"], True),
        (["http://localhost:3000"], True),
        (["http://meet.example"], False),
        (["https://meet.example:444"], False),
        (["https://meet.example.evil.example"], False),
        (["https://meet.example", "https://meet.example"], False),
        (["null"], False),
        (["*"], False),
        ([""], False),
    ],
)
def test_origins(origins: list[str], admitted: bool) -> None:
    """Programs name none; pages are let in by name."""
    assert _ORIGINS.allows(_head(*origins)) == admitted
    if not admitted:
        with pytest.raises(RequestRefused) as caught:
            _ORIGINS.preflight(_head(*origins, asks=True))
        assert caught.value.refusal is FOREIGN_ORIGIN
        assert b"access-control-allow-origin" not in dict(_ORIGINS.headers(_head(*origins)))


def test_no_origin_is_configured() -> None:
    none = CorsPolicy([])
    assert none.allows(_head())
    assert not none.allows(_head("https://meet.example"))
    assert none.headers(_head("https://meet.example")) == ()


def test_headers_for_browsers() -> None:
    """It may send and read the response; others get the allowed methods."""
    asked = _ORIGINS.preflight(_head("https://meet.example", asks=True))
    assert asked.status == 204
    assert dict(asked.headers)[b"access-control-allow-methods"] == b"POST"
    headers = dict(_ORIGINS.headers(_head("https://meet.example")))
    assert headers[b"access-control-allow-origin"] == b"https://meet.example"
    assert headers[b"vary"] == b"origin"
    assert dict(_ORIGINS.headers(_head())) == {b"vary": b"origin"}
    assert dict(_ORIGINS.preflight(_head()).headers) == {b"allow": b"OPTIONS, POST"}
