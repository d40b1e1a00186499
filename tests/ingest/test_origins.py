"""Origins of pages: exactly those that are configured, and no star."""

from __future__ import annotations

import pytest

from collector.ingest.head import Head
from collector.ingest.origins import Origins
from collector.ingest.refusals import FOREIGN_ORIGIN, Refused


def _head(*origins: str, asks: bool = False) -> Head:
    headers = [(b"origin", origin.encode()) for origin in origins]
    headers += [(b"access-control-request-method", b"POST")] * asks
    return Head.of({"method": "OPTIONS", "path": "/v1/logs", "headers": headers, "client": None})


_ORIGINS = Origins(["https://Meet.example/", "http://localhost:3000"])


@pytest.mark.parametrize(
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
    ids=str,
)
def test_origins(origins: list[str], admitted: bool) -> None:
    """Programs name none; pages are let in by name."""
    assert _ORIGINS.admits(_head(*origins)) == admitted
    if not admitted:
        with pytest.raises(Refused) as caught:
            _ORIGINS.preflight(_head(*origins, asks=True))
        assert caught.value.refusal is FOREIGN_ORIGIN
        assert b"access-control-allow-origin" not in dict(_ORIGINS.headers(_head(*origins)))


def test_no_origin_is_configured() -> None:
    """Then no page may send, and answers do not depend on the page."""
    none = Origins([])
    assert none.admits(_head())
    assert not none.admits(_head("https://meet.example"))
    assert none.headers(_head("https://meet.example")) == ()


def test_what_a_browser_is_told() -> None:
    """What it may send, and that it may read the answer; others are told what is allowed."""
    asked = _ORIGINS.preflight(_head("https://meet.example", asks=True))
    assert asked.status == 204
    assert dict(asked.headers)[b"access-control-allow-methods"] == b"POST"
    told = dict(_ORIGINS.headers(_head("https://meet.example")))
    assert told[b"access-control-allow-origin"] == b"https://meet.example"
    assert told[b"vary"] == b"origin"
    assert dict(_ORIGINS.headers(_head())) == {b"vary": b"origin"}
    assert dict(_ORIGINS.preflight(_head()).headers) == {b"allow": b"OPTIONS, POST"}
