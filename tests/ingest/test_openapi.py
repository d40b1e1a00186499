"""The document of the receiver: what its handler takes and answers, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from collector.contracts import REJECTIONS, Earlier, Request, Tally
from collector.ingest import http
from collector.ingest.http import EventsHandler
from collector.ingest.limits import IngestLimits
from collector.ingest.memory import MemoryBudget
from collector.ingest.refusals import (
    BUSY,
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    KEY_REUSED,
    MALFORMED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    REFUSALS,
    REQUEST_TIMEOUT,
    SCHEMA_MISMATCH,
    STOPPING,
    TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    UNAUTHENTICATED,
    Refusal,
)
from collector.ingest.request import DOCUMENT_PATH, GPC_PATH, ROUTES, HttpRequest, Route
from collector.ingest.responses import (
    Dialect,
    HttpResponse,
    earlier_response,
    refusal_response,
    tally_response,
)
from collector.preferences import PATH, PreferencePage
from collector.schema import load_schema
from tests.support.calling import responded
from tests.support.documented import Document, members
from tests.support.rows import for_each

DOCUMENT = Document(Path(http.__file__).with_name("openapi.json"))
_OF_CONNECTIONS = frozenset(
    [
        MALFORMED,
        REQUEST_TIMEOUT,
        TOO_LARGE,
        HEADERS_TOO_LARGE,
        TOO_MANY_CONNECTIONS,
        BUSY,
        STOPPING,
        INTERNAL_ERROR,
    ]
)
"""How a request is refused wherever it goes."""
_OF_RECORDS = frozenset([SCHEMA_MISMATCH, KEY_REUSED])
_OF_PATHS = frozenset([NOT_FOUND, METHOD_NOT_ALLOWED])


def _refusals(path: str, method: str) -> frozenset[Refusal]:
    """How an operation may be refused, in the form of all but the page of preferences."""
    everywhere = _OF_CONNECTIONS | {FOREIGN_HOST}
    if method == "OPTIONS":
        return everywhere | {FOREIGN_ORIGIN}
    if path in ROUTES:
        return frozenset(REFUSALS) - _OF_PATHS - (_OF_RECORDS if path != "/v1/records" else set())
    return everywhere | {NOT_FOUND} if path == PATH else everywhere


def _dialects(route: Route) -> list[Dialect]:
    if route.signal is None:
        return [Dialect()]
    return [Dialect(route.signal), Dialect(route.signal, protobuf=True)]


def _check(method: str, path: str, response: HttpResponse) -> None:
    headers = {name.decode(): value.decode() for name, value in response.headers}
    DOCUMENT.check(method, path, response.status, headers, response.body)


def test_it_is_sound() -> None:
    DOCUMENT.check_sound()
    assert DOCUMENT.text == http.DOCUMENT


def test_it_has_every_operation() -> None:
    sends = {(method, path) for path in ROUTES for method in ("POST", "OPTIONS")}
    reads = {("GET", path) for path in (PATH, GPC_PATH, DOCUMENT_PATH)}
    assert DOCUMENT.operations.keys() == sends | reads | {("POST", PATH)}
    for path, route in ROUTES.items():
        operation = DOCUMENT.operations["POST", path]
        assert {*operation["requestBody"]["content"]} == {each.decode() for each in route.forms}
        named = {DOCUMENT.resolved(each)["name"] for each in operation["parameters"]}
        assert named == {"Collector-Schema", "schema", "Sec-GPC", "Idempotency-Key"}
        assert operation["security"] == [{}, {"token": []}]
    (codes,) = members(DOCUMENT.whole["components"]["schemas"]["Error"], "enum")
    assert codes == sorted({each.code for each in REFUSALS})


@for_each(("method", "path"), sorted(DOCUMENT.operations))
def test_refusals(method: str, path: str) -> None:
    """Each that the handler may give is there under its status, with its code, its message, its
    headers and its body; and no other is."""
    expected = _refusals(path, method)
    route = ROUTES.get(path)
    dialects = _dialects(route) if route and method == "POST" else [Dialect()]
    for refusal in expected:
        for dialect in dialects:
            _check(method, path, refusal_response(refusal, dialect))
    documented = DOCUMENT.responses(method, path)
    for status, response in documented.items():
        if status < 400 or (path == PATH and status in (403, 413, 415)):
            continue  # the page answers a form in words
        there = [each for each in sorted(expected) if each.status == status]
        described = "; ".join(f"{each.code}: {each.message}" for each in there)
        assert response["description"] in (described, "E413: no visitors choose here.")
        names = {name.decode() for each in there for name, _ in each.headers if name != b"allow"}
        assert response.get("headers", {}).keys() == names
        assert len(response["content"]) == len(dialects)


@for_each("path", ROUTES)
def test_counts(path: str) -> None:
    some = Tally(40, 3, Counter(dict.fromkeys(REJECTIONS, 4)))
    kinds = set()
    for dialect in _dialects(ROUTES[path]):
        for tally in (Tally(), Tally(2, 2), some):
            response = tally_response(dialect, tally, lines=True)
            assert response.status == 200
            _check("POST", path, response)
            kinds.add(dict(response.headers)[b"content-type"].decode())
    assert kinds == DOCUMENT.responses("POST", path)[200]["content"].keys()
    for dialect in _dialects(ROUTES[path]):
        _check("POST", path, earlier_response(dialect, Earlier(some, True)))
    if path == "/v1/records":
        _check("POST", path, earlier_response(Dialect(), Earlier(some, False)))


def _accept(_: Request, __: Callable[[Tally | BaseException], object]) -> None:
    raise AssertionError


async def _respond(method: str, path: str, *, body: bytes = b"", **headers: str) -> HttpResponse:
    handler = EventsHandler(
        _accept,
        budget=MemoryBudget(IngestLimits()),
        page=PreferencePage(load_schema("conferencing")),
        hosts=["meet.example"],
        origins=["https://meet.example"],
    )
    given = {"host": "meet.example", "content-length": str(len(body)), **headers}
    pairs: Iterable[tuple[bytes, bytes]] = (
        (name.replace("_", "-").encode(), value.encode()) for name, value in given.items()
    )
    request = HttpRequest(method, path, pairs)
    request.feed(body)
    request.complete()
    response = await responded(handler, request)
    assert response is not None
    return response


_FORM = {"content_type": "application/x-www-form-urlencoded", "sec_fetch_site": "same-origin"}


@for_each(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", DOCUMENT_PATH, b"", {}, 200),
        ("HEAD", DOCUMENT_PATH, b"", {}, 200),
        ("POST", DOCUMENT_PATH, b"", {}, 405),
        ("GET", GPC_PATH, b"", {}, 200),
        ("DELETE", GPC_PATH, b"", {}, 405),
        ("GET", GPC_PATH, b"", {"host": "other"}, 421),
        ("GET", "/nothing", b"", {}, 404),
        ("GET", PATH, b"", {}, 200),
        ("HEAD", PATH, b"", {}, 200),
        ("POST", PATH, b"", _FORM, 303),
        ("POST", PATH, b"", {**_FORM, "sec_fetch_site": "cross-site"}, 403),
        ("POST", PATH, bytes(70_000), _FORM, 413),
        ("POST", PATH, b"{}", {**_FORM, "content_type": "application/json"}, 415),
        ("OPTIONS", "/v1/events", b"", {}, 204),
        ("OPTIONS", "/v1/logs", b"", {"origin": "https://other.example"}, 403),
        (
            *("OPTIONS", "/v1/events", b""),
            {"origin": "https://meet.example", "access_control_request_method": "POST"},
            204,
        ),
    ],
)
def test_other_answers(
    method: str, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Documents and the page of preferences are for everybody; pages of origins may ask."""
    response = asyncio.run(_respond(method, path, body=body, **headers))
    assert response.status == status
    cors = ("access-control-allow-origin", "access-control-allow-credentials")
    named = {name.decode(): value.decode() for name, value in response.headers}
    named = {name: named[name] for name in named if name not in (*cors, _EXPOSED)}
    DOCUMENT.check(method, path, status, named, response.body)
    if status == 405:
        assert named["allow"] == "GET, HEAD"


_EXPOSED = "access-control-expose-headers"


def test_a_token_is_asked_for() -> None:
    secured = {at for at, each in DOCUMENT.operations.items() if "security" in each}
    assert secured == {
        at for at in DOCUMENT.operations if UNAUTHENTICATED.status in DOCUMENT.responses(*at)
    }
    assert secured == {("POST", path) for path in ROUTES}
