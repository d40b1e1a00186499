"""The HTTP handler of ``/v1/events``, ``/v1/records`` and OTLP's three paths.

The handler reads and decompresses a body, and passes it on unparsed. It responds when ``accept``
calls back, that is, when the admitted records are on disk. A request needs a task only if its body
must be decompressed. Responses are made of constants and counts, and no exception leaves the
handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from collector.contracts import Accept, Form, KeyUsed, Request, Tally
from collector.ingest.auth import Tokens
from collector.ingest.decompression import Compressed, Encoding
from collector.ingest.memory import MemoryBudget, Reservation
from collector.ingest.refusals import (
    ALLOW,
    BODY_TOO_LARGE,
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    TOO_LARGE,
    UNAUTHENTICATED,
    UNSUPPORTED_MEDIA_TYPE,
    Headers,
    Refusal,
    RequestRefused,
    refusal_of,
)
from collector.ingest.request import DOCUMENT_PATH, GPC_PATH, Body, HttpRequest, Respond
from collector.ingest.responses import (
    GPC,
    JSON_HEADERS,
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
        b"authorization, collector-schema, content-encoding, content-type, idempotency-key",
    ),
    (b"access-control-max-age", b"600"),
)
_ALLOW_READING: Headers = ((b"allow", b"GET, HEAD"),)
_VARY: Headers = ((b"vary", b"origin"),)
DOCUMENT: bytes = Path(__file__).with_name("openapi.json").read_bytes()
"""The OpenAPI 3.1 document of this API, the same for every configuration. It is read at import,
because a confined worker opens no file."""
_OF_PAGE = {
    each.status: each.code
    for each in (FOREIGN_ORIGIN, METHOD_NOT_ALLOWED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE)
}
"""The codes under which the page's refusals are counted. Visitors see a sentence instead."""


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
        """Return whether the request comes from a program, or from a page that may send."""
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


class EventsHandler:
    """Passes requests to ``accept``. Without ``tokens`` every sender is admitted.

    ``schemas`` are the names of schemas that a request may ask for. ``page`` is served to every
    visitor at ``/preferences``, and ``documents`` at their paths. ``hops`` is the number of trusted
    proxies in front. ``hosts`` are the accepted host names, with or without a port (none: every
    name).
    """

    def __init__(
        self,
        accept: Accept,
        *,
        budget: MemoryBudget,
        tokens: Tokens | None = None,
        origins: Iterable[str] = (),
        hops: int = 0,
        hosts: Iterable[str] = (),
        page: PreferencePage | None = None,
        schemas: Iterable[str] = (),
    ) -> None:
        self.accept: Accept = accept
        self.budget: MemoryBudget = budget
        self.tokens: Tokens | None = tokens
        self.cors: CorsPolicy = CorsPolicy(origins)
        self.hops: int = hops
        self.hosts: frozenset[bytes] = frozenset(host.lower().encode() for host in hosts)
        self.schemas: frozenset[bytes] = frozenset(name.encode() for name in schemas)
        self.page = page
        self.documents: Mapping[str, HttpResponse] = {
            GPC_PATH: GPC,
            DOCUMENT_PATH: HttpResponse(200, JSON_HEADERS, DOCUMENT),
        }

    def __call__(self, request: HttpRequest, respond: Respond) -> None:
        """Respond to a request, or with ``None`` if the sender is gone."""
        _Exchange(self, request, respond).begin()

    def check_sender(self, request: HttpRequest) -> None:
        """Raise ``RequestRefused`` if the sender may not send here."""
        if request.method != "POST":
            raise RequestRefused(METHOD_NOT_ALLOWED)
        if not self.cors.allows(request):
            raise RequestRefused(FOREIGN_ORIGIN)
        if self.tokens is not None and not self.tokens.admits(request.only(b"authorization")):
            raise RequestRefused(UNAUTHENTICATED)


class _Exchange:
    """A request in progress: ``begin`` checks its head, ``take`` gets its body, and ``accept``
    calls ``end``. An exception in any of them becomes a response."""

    __slots__ = (
        *("_encoding", "_form", "_handler", "_key"),
        *("_memory", "_request", "_respond", "_schema"),
    )
    _form: Form
    _encoding: Encoding | None
    _key: bytes | None
    _schema: str | None

    def __init__(self, handler: EventsHandler, request: HttpRequest, respond: Respond) -> None:
        self._handler, self._request, self._respond = handler, request, respond
        self._memory = Reservation(handler.budget, request.length())

    def begin(self) -> None:
        """Check the head, and ask for the body."""
        handler, request = self._handler, self._request
        try:
            if handler.hosts and not request.is_for(handler.hosts):
                raise RequestRefused(FOREIGN_HOST)
            if request.route is None:
                self._other()
            elif request.method == "OPTIONS":
                self._send(handler.cors.preflight(request))
            else:
                handler.check_sender(request)
                self._schema = request.schema(handler.schemas)
                self._form, self._encoding = request.form(request.route), request.encoding()
                self._key = request.idempotency_key()
                request.read(handler.budget.limits.wire, self._memory.add, self.take)
        except Exception as error:  # noqa: BLE001 - its message may hold a value
            self.end(error)

    def _other(self) -> None:
        """Respond on a path that receives no events. Raises ``RequestRefused``: NOT_FOUND."""
        handler, request = self._handler, self._request
        page = handler.page
        if request.path in handler.documents:
            self._send(_read(request, handler.documents[request.path]))
        elif page is None or request.path != PATH:
            raise RequestRefused(NOT_FOUND)
        elif request.method == "POST" and request.length() > MOST_BYTES:
            self._send(_of_page(too_large()))
        elif request.method == "POST":
            request.read(handler.budget.limits.wire, self._memory.add, partial(self._choose, page))
        elif request.method not in ("GET", "HEAD"):
            self._send(_of_page(not_allowed()))
        else:
            is_saved, has_signal = request.query == b"saved", request.has_signal()
            choices = request.choices
            self._send(_of_page(page.show(choices, is_saved=is_saved, has_signal=has_signal)))

    def _choose(self, page: PreferencePage, body: Body) -> None:
        """Respond to a visitor's choices."""
        if isinstance(body, bytes):
            self._send(_of_page(page.choose(self._request.headers, body)))
        else:
            self._without(body)

    def _without(self, body: Refusal | None) -> None:
        """Respond to a request whose body did not arrive."""
        if body is None:
            self._send(None)
        else:
            self.end(RequestRefused(body))

    def take(self, body: Body) -> None:
        """Take the body as it was sent."""
        try:
            if not isinstance(body, bytes):
                self._without(body)
            elif self._encoding is not None:
                self._request.spawn(self._decompress(self._encoding, body))
            elif len(body) > self._handler.budget.limits.body:
                raise RequestRefused(BODY_TOO_LARGE)
            else:
                self._filter(body)
        except Exception as error:  # noqa: BLE001 - its message may hold a value
            self.end(error)

    def _filter(self, body: bytes) -> None:
        """Have a body filtered and stored."""
        handler, request, form = self._handler, self._request, self._form
        handler.accept(
            Request(
                form,
                body,
                protobuf=request.dialect.protobuf,
                peer=request.peer(handler.hops),
                user_agent=request.user_agent(),
                key=self._key,
                refuses=request.refuses(),
                refused=request.refused(),
                granted=request.granted() if form == "records" else None,
                schema=self._schema,
            ),
            self.end,
        )

    async def _decompress(self, encoding: Encoding, wire: bytes) -> None:
        """Decompress a body in its turn, while other requests go on."""
        try:
            found = Compressed(encoding, wire, self._handler.budget.limits)
            body = None
            while body is None:
                with self._request.waiting(asyncio.current_task()):
                    await self._memory.turn(found)
                if found.is_short:
                    body = found.body()
                else:
                    # The future must not be in a variable: its exception refers to this frame,
                    # and the cycle would keep the body until the garbage collector runs.
                    body = await asyncio.get_running_loop().run_in_executor(None, found.body)
            self._memory.keep(len(body))
            self._filter(body)
        except asyncio.CancelledError:  # the server stops, or the sender is gone
            self._send(None)
        except Exception as error:  # noqa: BLE001 - its message may hold a value
            self.end(error)

    def end(self, outcome: Tally | BaseException) -> None:
        """Respond with the counts of what was stored, or with the reason why nothing was."""
        dialect = self._request.dialect
        if isinstance(outcome, Tally):
            is_lines = self._form in ("records", "ndjson")
            self._send(tally_response(dialect, outcome, lines=is_lines))
        elif isinstance(outcome, KeyUsed):
            self._send(earlier_response(dialect, outcome.earlier))
        else:
            self._send(refusal_response(refusal_of(outcome), dialect))

    def _send(self, response: HttpResponse | None) -> None:
        self._memory.keep(0)
        if response is not None and (cors := self._handler.cors.headers(self._request)):
            response = response._replace(headers=response.headers + cors)
        self._respond(response)


def _read(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Respond with a document to a request that reads."""
    if request.method in ("GET", "HEAD"):
        return response
    return refusal_response(METHOD_NOT_ALLOWED)._replace(headers=(*JSON_HEADERS, *_ALLOW_READING))


def _of_page(page: PageResponse) -> HttpResponse:
    return HttpResponse(*page, code=_OF_PAGE.get(page.status))
