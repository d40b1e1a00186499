"""The document of the admin address: what its pages answer, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from collector.ingest.refusals import (
    BUSY,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    MALFORMED,
    REQUEST_TIMEOUT,
    STOPPING,
    TOO_LARGE,
    TOO_MANY_CONNECTIONS,
)
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse, refusal_response
from collector.server import admin
from collector.server.admin import AdminPages, State
from collector.server.pages import File
from tests.support.documented import Document
from tests.support.rows import for_each

DOCUMENT = Document(Path(admin.__file__).with_name("openapi.json"))
_OF_CONNECTIONS = [
    MALFORMED,
    REQUEST_TIMEOUT,
    TOO_LARGE,
    HEADERS_TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    BUSY,
    STOPPING,
    INTERNAL_ERROR,
]
_TOKEN = b"Bearer " + b"b" * 40
_NOT_MODIFIED = 304
_TAG = b'"tag"'


def _answers(path: str, method: str = "GET") -> Iterator[HttpResponse]:
    """Every answer that there is for a path: to whom, with what, and in which state."""
    states: list[State] = ["ok", "failing"]
    for state in states:

        async def page(path: str, language: str, is_there: bool = state == "ok") -> File | None:
            kind = "application/json" if path.endswith(".json") else "text/html; charset=utf-8"
            return File(kind, b"{}", "default-src 'none'", _TAG) if is_there else None

        pages = AdminPages(
            lambda state=state: {"spool": state},  # type: ignore[misc]
            lambda: b"a_metric 1\n",
            page,
            hosts=["admin.example"],
            admits=lambda header: header == _TOKEN,
        )
        for host in (b"admin.example", b"other.example"):
            known = [(b"authorization", _TOKEN), (b"if-none-match", _TAG)]
            for more in ([], known[:1], known, [(b"origin", b"https://x.example")]):
                request = HttpRequest(method, path, [(b"host", host), *more])
                yield asyncio.run(pages(request))


def test_it_is_sound() -> None:
    DOCUMENT.check_sound()
    assert DOCUMENT.text == next(_answers("/openapi.json")).body


@for_each("path", [path for _, path in DOCUMENT.operations])
def test_answers(path: str) -> None:
    """Each answer of a page, and of its connection, is there; and no other is."""
    seen = {(each.status, tuple(sorted(each.headers)), each.body) for each in _answers(path)}
    refused = [refusal_response(each) for each in _OF_CONNECTIONS]
    seen |= {(each.status, each.headers, each.body) for each in refused}
    headers: dict[int, set[str]] = {}
    kinds: dict[int, set[str]] = {}
    for status, pairs, body in seen:
        named = {name.decode(): value.decode() for name, value in pairs}
        DOCUMENT.check("GET", path, status, named, body)
        kinds.setdefault(status, set()).update(
            [named["content-type"].partition(";")[0]] if status != _NOT_MODIFIED else []
        )
        headers.setdefault(status, set()).update(named)
    documented = DOCUMENT.responses("GET", path)
    assert documented.keys() == kinds.keys()
    assert {status: {*each["content"]} for status, each in documented.items()} == kinds
    for status, each in documented.items():
        assert each.get("headers", {}).keys() <= headers[status]
    secured = "security" in DOCUMENT.operations["GET", path]
    assert secured is (401 in documented)


def test_there_is_no_other_page() -> None:
    assert {each.status for each in _answers("/nothing")} == {404, 403, 421}
    for method, path in DOCUMENT.operations:
        assert method == "GET"
        assert {each.status for each in _answers(path, "POST")} == {405, 403, 421}
