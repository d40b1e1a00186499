"""The HTTP API of the recorder: a handler for the sidecar's hardened connections.

Each request is authenticated first: without a token that is validly signed for the meeting, every
path and every method has the same answer, 404. Then the recorder decides. Work that waits for the
disk runs in a few threads. Each body is counted before it is read; if all bodies together would
exceed the limit, it is refused with ``busy``. Answers are made of constants, counts and recorded
content, and never of anything in a request. No exception leaves the handler.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from collector.errors import CollectorError
from collector.ingest.limits import IngestLimits
from collector.ingest.memory import MemoryBudget, Reservation
from collector.ingest.refusals import (
    BUSY,
    FOREIGN_HOST,
    INTERNAL_ERROR,
    STOPPING,
    TOO_LARGE,
    Headers,
    RequestRefused,
)
from collector.ingest.request import DOCUMENT_PATH, HttpRequest, read_body
from collector.ingest.responses import HttpResponse, refusal_response
from collector.recording.access import NO_MEETING, Caller, StoredAnswer, Verifier, request_digest
from collector.recording.bodies import (
    ChoiceBody,
    Created,
    ErrorBody,
    HandoverBody,
    NextBody,
    NoticeLinks,
    RefusalBody,
    RequestBody,
    StateBody,
    decoded,
    encoded,
    terms_of,
)
from collector.recording.names import MAX_CHUNK_BYTES, chunk_number
from collector.recording.recorder import NewChunk, Recorder
from collector.recording.refusals import REFUSALS, Refused
from collector.recording.routes import Endpoint, find
from collector.recording.states import StateEvent
from collector.recording.streams import EventStreams, TrackStreams

THREADS = 4
"""Threads that wait for the disk."""
_MOST_OF_CALLER = 8 << 20
"""The most bytes of one caller's chunks that are being read or sealed, so that slow senders do not
keep others from sending. Media has no such limit."""
_MOST_JSON = 16 << 10
"""The most bytes of a JSON body. Only the number of connections bounds all of them together, so
that chunks cannot keep a member from leaving."""
_JSON: Headers = ((b"content-type", b"application/json"),)
_PRIVATE: Headers = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_AGAIN = frozenset({429, 503, 507})
"""Statuses that ask the caller to try again, with the same token if it has not expired."""
_EXTRA: dict[int, Headers] = {
    401: ((b"www-authenticate", b"Bearer"),),
    **dict.fromkeys(_AGAIN, ((b"retry-after", b"5"),)),
}
_DOCUMENT = Path(__file__).with_name("openapi.json").read_bytes()
_MEDIA_TYPES = {"wav": b"audio/wav", "png": b"image/png"}

_T = TypeVar("_T")


class _Call(NamedTuple):
    """A request whose token is valid, and the parameters of its path."""

    request: HttpRequest
    caller: Caller
    recording: str
    parameters: Mapping[str, str]
    body: bytes = b""


_Handler = Callable[[_Call], Awaitable[HttpResponse | None]]


class RecorderApi:
    """Answers requests with a recorder. ``close`` it at the end.

    ``hosts`` are the host names, in lower case, for which requests are answered (none: every name);
    ``on_error`` gets unexpected errors. ``refusals`` counts refusals by code.
    """

    def __init__(
        self,
        recorder: Recorder,
        verifier: Verifier,
        limits: IngestLimits,
        *,
        hosts: Iterable[str] = (),
        on_error: Callable[[BaseException], object] = bool,
    ) -> None:
        self.refusals: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self._recorder, self._verifier = recorder, verifier
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._on_error = on_error
        self._limits = limits
        self._budget = MemoryBudget(limits)
        self._chunks: Counter[tuple[str, str]] = Counter()  # bytes, by meeting and subject
        self._threads = ThreadPoolExecutor(THREADS, "recorder")
        self._verifying = ThreadPoolExecutor(
            THREADS, "tokens"
        )  # a flood of tokens does not delay chunks
        self._reading = ThreadPoolExecutor(THREADS, "readers")  # nor does a hanging bucket
        self._events_of = EventStreams(recorder, self._run)
        self._tracks = TrackStreams(self._read, self._budget.large)
        self._tokens: set[str] = set()  # of requests in progress that use up their token
        self._handlers: dict[str, _Handler] = {
            "request": self._request,
            "join": self._join,
            "depart": self._depart,
            **dict.fromkeys(("start", "pause", "resume", "stop", "accept"), self._control),
            **dict.fromkeys(("notice_wav", "notice_png"), self._notice),
            "handover": self._handover,
            "choice": self._choice,
            "withdraw": self._withdraw,
            "chunk": self._chunk,
            "events": self._events,
            "track": self._track,
            "manifest": self._manifest,
            "erase": self._erase,
        }

    def __repr__(self) -> str:
        return "<RecorderApi>"

    def close(self) -> None:
        """Wait for the threads, except for the readers, whose bucket may never respond."""
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._threads.shutdown()
        self._verifying.shutdown()

    async def _run(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Call a function in one of the threads."""
        call = partial(function, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _read(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function that may wait for the bucket, in one of the readers' threads."""
        call = partial(function, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._reading, call)

    async def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """Respond to a request; ``None`` if the sender is gone. Never raises."""
        try:
            response = await self._respond(request)
        except Refused as refused:
            response = self._refusal(refused)
        except RequestRefused as error:
            response = self._protocol_refusal(error)
        except asyncio.CancelledError:  # the server stops
            response = refusal_response(STOPPING)
        except (CollectorError, OSError):
            response = self._refusal(Refused("unavailable"))
        except Exception as error:  # noqa: BLE001 - its message may hold a value
            self._on_error(error)
            response = refusal_response(INTERNAL_ERROR)
        if response is None:
            return None
        return response._replace(headers=response.headers + _PRIVATE)

    def _refusal(self, refused: Refused) -> HttpResponse:
        self.refusals[refused.code] += 1
        body = encoded(ErrorBody(RefusalBody(refused.code, refused.message, refused.next)))
        return HttpResponse(refused.status, _JSON + _EXTRA.get(refused.status, ()), body)

    def _protocol_refusal(self, error: RequestRefused) -> HttpResponse:
        """Refuse a request that violates HTTP or a limit, with one of the recorder's codes if one
        fits."""
        codes = {TOO_LARGE: "too_large", BUSY: "busy"}
        if error.refusal in codes:
            return self._refusal(Refused(codes[error.refusal]))
        return refusal_response(error.refusal)

    async def _respond(self, request: HttpRequest) -> HttpResponse | None:
        if self._hosts and not request.is_for(self._hosts):
            raise RequestRefused(FOREIGN_HOST)
        if request.path == DOCUMENT_PATH and request.method == "GET":
            return _shared(_JSON, _DOCUMENT)
        scheme, _, token = (request.only(b"authorization") or b"").partition(b" ")
        found = find(request.method, request.path)
        if found is None or scheme.lower() != b"bearer":
            raise Refused("not_found")
        route, parameters = found
        recording = parameters.get("id")
        authenticate = partial(self._authenticated, token.strip(), recording)
        loop = asyncio.get_running_loop()
        caller = await loop.run_in_executor(self._verifying, authenticate)
        call = _Call(request, caller, recording or "", parameters)
        if route.is_once:
            return await self._respond_once(route, call)
        return await self._handlers[route.name](call)

    def _authenticated(self, token: bytes, recording: str | None) -> Caller:
        """Return the caller whom a token names. Raises ``Refused``: ``not_found``, ``expired``."""
        meeting = None
        if recording is not None:
            meeting = self._recorder.meeting(recording) or NO_MEETING
        return self._verifier.verify(token, meeting, time.time())

    async def _respond_once(self, route: Endpoint, call: _Call) -> HttpResponse | None:
        """Respond to a request that uses up its token. A repeated request gets the same answer."""
        if call.caller.jti in self._tokens:
            raise Refused("busy")
        self._tokens.add(call.caller.jti)
        try:
            body = await read_body(call.request, _MOST_JSON, _uncounted)
            return None if body is None else await self._once(route, call._replace(body=body))
        finally:
            self._tokens.discard(call.caller.jti)

    async def _once(self, route: Endpoint, call: _Call) -> HttpResponse | None:
        digest = request_digest(route.method, call.request.path, call.body)
        answer = await self._run(self._recorder.store.answer_to, call.caller, digest)
        if answer is not None:
            return HttpResponse(answer.status, _JSON if answer.body else (), answer.body)
        try:
            response = await self._handlers[route.name](call)
        except Refused as refused:
            response = self._refusal(refused)
        if response is not None and response.status not in _AGAIN:
            made = StoredAnswer(response.status, response.body)
            await self._run(self._recorder.store.answered, call.caller, digest, made)
        return response

    @contextmanager
    def _counted(self, caller: Caller, size: int) -> Iterator[None]:
        """Count the memory of a body while it is in use. Raises ``Refused``, ``busy``, and
        ``RequestRefused``, BUSY."""
        holder = (caller.meeting, caller.subject)
        if caller.role != "media" and self._chunks[holder] + size > _MOST_OF_CALLER:
            raise Refused("busy")
        with Reservation(self._budget, size) as memory:
            memory.add(size)
            self._chunks[holder] += size
            try:
                yield
            finally:
                self._chunks[holder] -= size
                if not self._chunks[holder]:
                    del self._chunks[holder]

    # -- the endpoints ---------------------------------------------------------------------------

    async def _request(self, call: _Call) -> HttpResponse:
        terms = terms_of(decoded(call.body, RequestBody))
        made, digest = await self._run(self._recorder.request, call.caller, terms)
        place = f"/v1/recordings/{made}"
        links = NoticeLinks(digest, f"{place}/notice.wav", f"{place}/notice.png")
        return HttpResponse(201, _JSON, encoded(Created(made, links)))

    async def _join(self, call: _Call) -> HttpResponse:
        return await self._member(call, self._recorder.join)

    async def _depart(self, call: _Call) -> HttpResponse:
        return await self._member(call, self._recorder.depart)

    async def _member(
        self, call: _Call, change: Callable[[Caller, str, str], object]
    ) -> HttpResponse:
        pseudonym = call.parameters["pseudonym"]
        if pseudonym == "me":  # stands for the caller
            raise Refused("malformed")
        await self._run(change, call.caller, call.recording, pseudonym)
        return HttpResponse(204)

    async def _withdraw(self, call: _Call) -> HttpResponse:
        await self._run(self._recorder.withdraw, call.caller, call.recording)
        return HttpResponse(204)

    async def _control(self, call: _Call) -> HttpResponse:
        action = call.request.path.rpartition("/")[2]
        event = await self._run(self._recorder.control, call.caller, call.recording, action)
        return _state(event)

    async def _handover(self, call: _Call) -> HttpResponse:
        body = decoded(call.body, HandoverBody)
        event = await self._run(self._recorder.handover, call.caller, call.recording, body.to)
        return _state(event)

    async def _notice(self, call: _Call) -> HttpResponse:
        form = call.request.path.rpartition(".")[2]
        found = await self._run(self._recorder.notice, call.caller, call.recording, form)
        return _shared(((b"content-type", _MEDIA_TYPES[form]),), found)

    async def _choice(self, call: _Call) -> HttpResponse:
        body = decoded(call.body, ChoiceBody)
        chosen = (body.choice, body.notice)
        event = await self._run(self._recorder.choose, call.caller, call.recording, *chosen)
        return _state(event)

    async def _chunk(self, call: _Call) -> HttpResponse | None:
        number, kind, owner = _about_chunk(call)
        size = call.request.length() or MAX_CHUNK_BYTES
        if size > MAX_CHUNK_BYTES:
            raise Refused("too_large")
        if call.request.only(b"content-length") == b"0":
            raise Refused("malformed")
        about = (call.parameters["track"], owner, kind)
        await self._run(self._recorder.check_chunk, call.caller, call.recording, *about)
        with self._counted(call.caller, size):
            data = await read_body(call.request, size, _uncounted)
            if data is None:
                return None
            chunk = NewChunk(call.parameters["track"], number, data, kind, owner)
            added = await self._run(self._recorder.add_chunk, call.caller, call.recording, chunk)
        return HttpResponse(201, _JSON, encoded(NextBody(added.next)))

    async def _events(self, call: _Call) -> HttpResponse:
        last = call.request.only(b"last-event-id")
        if last is not None and not (last.isdigit() and len(last) < 10):
            raise Refused("malformed")
        since = None if last is None else int(last)
        return await self._events_of.response(call.caller, call.recording, since)

    async def _track(self, call: _Call) -> HttpResponse:
        track, ranges = call.parameters["track"], call.request.only(b"range")
        reader = await self._run(self._recorder.open_track, call.caller, call.recording, track)
        return self._tracks.response(reader, track, ranges)

    async def _manifest(self, call: _Call) -> HttpResponse:
        lines = await self._run(self._recorder.manifest, call.caller, call.recording)
        return self._tracks.manifest(lines)

    async def _erase(self, call: _Call) -> HttpResponse:
        await self._run(self._recorder.erase, call.caller, call.recording)
        return HttpResponse(204)


def _uncounted(_size: int) -> None:
    """Reserve nothing: chunks were counted before, and JSON bodies are small."""


def _shared(headers: Headers, body: bytes) -> HttpResponse:
    """Respond with bytes that all readers share, so that slow readers do not hold copies."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    return HttpResponse(200, headers, stream=whole(), length=len(body))


def _state(event: StateEvent) -> HttpResponse:
    body = StateBody(event.state, event.indicator, event.reason)
    return HttpResponse(200, _JSON, encoded(body))


def _about_chunk(call: _Call) -> tuple[int, str, str | None]:
    """Return the number, kind and owner of a chunk. Raises ``Refused``: ``malformed``."""
    number = chunk_number(call.parameters["n"])
    kind, owner = call.request.only(b"collector-kind"), call.request.only(b"collector-owner")
    if number is None or kind is None or b"content-encoding" in call.request.headers:
        raise Refused("malformed")
    if owner is None and b"collector-owner" in call.request.headers:
        raise Refused("malformed")
    try:
        return number, kind.decode("ascii"), None if owner is None else owner.decode("ascii")
    except UnicodeDecodeError:
        pass
    raise Refused("malformed")
