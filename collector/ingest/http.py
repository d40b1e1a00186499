"""The HTTP handler of ``/v1/events``, ``/v1/records`` and OTLP's three paths.

A body is read, decompressed and handed on unparsed; the response is sent when ``accept`` has
returned, that is, when the admitted records are on disk. Responses are made of constants and
counts, and no exception leaves the handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from collector.contracts import Accept, KeyUsed, Request
from collector.errors import DeliveryError, InputError
from collector.ingest.auth import Tokens
from collector.ingest.decompression import Compressed, Encoding
from collector.ingest.memory import MemoryBudget, Reservation
from collector.ingest.refusals import (
    ALLOW,
    BODY_TOO_LARGE,
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    INTERNAL_ERROR,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    STOPPING,
    TOO_LARGE,
    UNAUTHENTICATED,
    UNSUPPORTED_MEDIA_TYPE,
    Headers,
    RequestRefused,
    of_delivery,
    of_input,
)
from collector.ingest.request import DOCUMENT_PATH, GPC_PATH, HttpRequest
from collector.ingest.request_body import must_close, read_body
from collector.ingest.responses import (
    GPC,
    JSON_HEADERS,
    Dialect,
    HttpResponse,
    earlier_response,
    refusal_response,
    tally_response,
)
from collector.preferences import (
    MOST_BYTES,
    PATH,
    PageResponse,
    PreferencePage,
    not_allowed,
    too_large,
)

_PREFLIGHT: Headers = (
    (b"access-control-allow-methods", b"POST"),
    (
        b"access-control-allow-headers",
        b"authorization, collector-schema, content-encoding, content-type",
    ),
    (b"access-control-max-age", b"600"),
)
_ALLOW_READING: Headers = ((b"allow", b"GET, HEAD"),)
_VARY: Headers = ((b"vary", b"origin"),)
DOCUMENT: bytes = Path(__file__).with_name("openapi.json").read_bytes()
"""What is answered here, whatever is configured: OpenAPI 3.1. A confined worker opens no file."""
_OF_PAGE = {
    each.status: each.code
    for each in (FOREIGN_ORIGIN, METHOD_NOT_ALLOWED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE)
}
"""The codes under which the page's refusals are counted; visitors read a sentence."""


class CorsPolicy:
    """The origins of web pages that may send (``https://meet.example``)."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._headers = {
            origin: (
                (b"access-control-allow-origin", origin),
                # Beacons always carry credentials.
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", b"retry-after"),
                *_VARY,
            )
            for origin in (text.lower().rstrip("/").encode() for text in origins)
        }

    def allows(self, request: HttpRequest) -> bool:
        """Tell whether the request comes from a program, or from a page that may send."""
        return b"origin" not in request.headers or request.only(b"origin") in self._headers

    def preflight(self, request: HttpRequest) -> HttpResponse:
        """Build the response to OPTIONS. Raises ``RequestRefused``: FOREIGN_ORIGIN."""
        if not self.allows(request):
            raise RequestRefused(FOREIGN_ORIGIN)
        asked = (b"origin", b"access-control-request-method")
        is_preflight = all(name in request.headers for name in asked)
        return HttpResponse(204, _PREFLIGHT if is_preflight else ALLOW)

    def headers(self, request: HttpRequest) -> Headers:
        """Return the headers that let a page read the response."""
        if not self._headers:
            return ()
        origin = request.only(b"origin")
        return _VARY if origin is None else self._headers.get(origin, _VARY)


@dataclass(slots=True, repr=False, eq=False)
class EventsHandler:
    """Gives requests to ``accept``. Without ``tokens`` every sender is let in.

    ``schemas`` are the names of those that a request may ask for; without any it may ask for none.
    ``page`` is served at ``/preferences``, to every visitor; likewise ``documents``, by
    their paths.
    ``hops`` is the number of trusted proxies in front; ``hosts`` are the names, in lower case, that
    requests are answered for, with or without a port (none: every name).
    """

    accept: Accept
    budget: MemoryBudget
    tokens: Tokens | None
    cors: CorsPolicy
    hops: int
    hosts: frozenset[bytes]
    page: PreferencePage | None = None
    schemas: frozenset[bytes] = frozenset()
    documents: Mapping[str, HttpResponse] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        accept: Accept,
        *,
        budget: MemoryBudget,
        tokens: Tokens | None = None,
        origins: Iterable[str] = (),
        hops: int = 0,
        hosts: Iterable[str] = (),
        page: PreferencePage | None = None,
        schemas: Iterable[str] = (),
    ) -> EventsHandler:
        """Make a handler."""
        names = frozenset(host.lower().encode() for host in hosts)
        known = frozenset(name.encode() for name in schemas)
        policy = CorsPolicy(origins)
        documents = {GPC_PATH: GPC, DOCUMENT_PATH: HttpResponse(200, JSON_HEADERS, DOCUMENT)}
        return cls(accept, budget, tokens, policy, hops, names, page, known, documents)

    def use(self, other: EventsHandler) -> None:
        """Answer the next requests as another handler does."""
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))

    async def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """Respond to a request; ``None`` if the sender is gone."""
        response = await self._respond(request)
        if response is None:
            return None
        if cors := self.cors.headers(request):
            response = response._replace(headers=response.headers + cors)
        return (
            response._replace(close=True)
            if must_close(request, self.budget.limits.wire)
            else response
        )

    async def _respond(self, request: HttpRequest) -> HttpResponse | None:
        """Build the response; never raises."""
        dialect = Dialect(request.route.signal if request.route else None, request.protobuf)
        refusal = INTERNAL_ERROR
        try:
            with Reservation(self.budget, request.length()) as memory:
                return await self._accept(request, memory, dialect)
        except RequestRefused as error:
            refusal = error.refusal
        except KeyUsed as error:
            return earlier_response(error.earlier)
        except DeliveryError as error:
            refusal = of_delivery(error)
        except InputError as error:
            refusal = of_input(error)
        except asyncio.CancelledError:  # the server stops, or the sender is gone
            if request.is_closed:
                return None
            refusal = STOPPING
        except Exception:  # noqa: BLE001, S110 - its message may hold a value
            pass
        return refusal_response(refusal, dialect)

    async def _accept(
        self, request: HttpRequest, memory: Reservation, dialect: Dialect
    ) -> HttpResponse | None:
        if self.hosts and not request.is_for(self.hosts):
            raise RequestRefused(FOREIGN_HOST)
        if request.route is None:
            if request.path in self.documents:
                return _read(request, self.documents[request.path])
            if self.page is not None and request.path == PATH:
                return await self._preferences(self.page, request, memory)
            raise RequestRefused(NOT_FOUND)
        if request.method == "OPTIONS":
            return self.cors.preflight(request)
        self._check_sender(request)
        schema = request.schema(self.schemas)
        form, encoding = request.form(request.route), request.encoding()
        is_records = form == "records"
        key = request.idempotency_key() if is_records else None
        body = await read_body(request, self.budget.limits.wire, memory.add)
        if body is None:
            return None
        if encoding is not None:
            body = await self._decompressed(encoding, body, request, memory)
        elif len(body) > self.budget.limits.body:
            raise RequestRefused(BODY_TOO_LARGE)
        tally = await self.accept(
            Request(
                form,
                body,
                protobuf=dialect.protobuf,
                peer=request.peer(self.hops),
                user_agent=request.user_agent(),
                key=key,
                refuses=request.refuses(),
                refused=request.refused(),
                granted=request.granted() if is_records else None,
                schema=schema,
            )
        )
        return tally_response(dialect, tally, lines=is_records or form == "ndjson")

    async def _preferences(
        self, page: PreferencePage, request: HttpRequest, memory: Reservation
    ) -> HttpResponse | None:
        """Respond to a request for the page of a visitor's choices."""
        if request.method == "POST":
            if request.length() > MOST_BYTES:
                return _of_page(too_large())
            form = await read_body(request, self.budget.limits.wire, memory.add)
            return None if form is None else _of_page(page.choose(request.headers, form))
        if request.method not in ("GET", "HEAD"):
            return _of_page(not_allowed())
        is_saved, has_signal = request.query == b"saved", request.has_signal()
        return _of_page(page.show(request.choices, is_saved=is_saved, has_signal=has_signal))

    def _check_sender(self, request: HttpRequest) -> None:
        """Raise ``RequestRefused`` if the sender may not send here."""
        if request.method != "POST":
            raise RequestRefused(METHOD_NOT_ALLOWED)
        if not self.cors.allows(request):
            raise RequestRefused(FOREIGN_ORIGIN)
        if self.tokens is not None and not self.tokens.admits(request.only(b"authorization")):
            raise RequestRefused(UNAUTHENTICATED)

    async def _decompressed(
        self, encoding: Encoding, wire: bytes, request: HttpRequest, memory: Reservation
    ) -> bytes:
        """Decompress a body when it is its turn, while other requests go on.

        Raises ``RequestRefused``: BODY_TOO_LARGE, INFLATED, DAMAGED, UNSUPPORTED_ENCODING, BUSY;
        ``CancelledError`` if the sender is gone before that.
        """
        found = Compressed(encoding, wire, self.budget.limits)
        body = None
        while body is None:
            with request.waiting(asyncio.current_task()):
                await memory.turn(found)
            if found.is_short:
                body = found.body()
            else:
                # The future is in no variable: its exception refers to this frame, and such a cycle
                # would keep the body in memory until the garbage collector runs.
                body = await asyncio.get_running_loop().run_in_executor(None, found.body)
        memory.keep(len(body))
        return body


def _read(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Respond with a document to a request that reads."""
    if request.method in ("GET", "HEAD"):
        return response
    return refusal_response(METHOD_NOT_ALLOWED)._replace(headers=(*JSON_HEADERS, *_ALLOW_READING))


def _of_page(page: PageResponse) -> HttpResponse:
    return HttpResponse(*page, code=_OF_PAGE.get(page.status))
