"""The pages of the admin address: health, metrics, and the pages for people.

Responses are constants, numbers and names of the configuration. Only known paths are answered;
nothing of a request is echoed or logged. ``Host`` must be a name of this server, and ``Origin`` its
own. So a web page in a browser cannot reach these pages, not even through a host name that resolves
to this address, and cannot embed them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from collector.ingest.protocol import in_task
from collector.ingest.refusals import (
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNAUTHENTICATED,
    Headers,
    Refusal,
)
from collector.ingest.request import DOCUMENT_PATH, HttpRequest
from collector.ingest.responses import HttpResponse
from collector.ops.metrics import CONTENT_TYPE
from collector.ops.sink_state import Condition, SinkState, describe
from collector.server import listeners
from collector.server.http_receiver import HttpReceiver
from collector.server.pages import File, LivePages

if TYPE_CHECKING:
    from collector.server.components import Components
    from collector.server.consumer import MessageIntake
    from collector.server.keeper import Keeper

State = Literal["full", "failing"] | Condition
"""``late``, ``skipping`` and ``absent`` are warnings that leave the process ready. The spool is
``full`` because of the ``blocking`` sinks."""
UNREADY: frozenset[State] = frozenset({"full", "blocking", "failing"})
Readiness = Callable[[], Mapping[str, State]]

_TEXT = "text/plain; charset=utf-8"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_DOCUMENT = Path(__file__).with_name("openapi.json").read_bytes()
_POLICY = b"default-src 'none'; frame-ancestors 'none'"
_FREE = ("/livez", "/readyz", DOCUMENT_PATH)
"""The paths that need no token: those of probes, which get one word, and of the constant
document."""
_MARKS: dict[State, str] = {"ok": "+", **dict.fromkeys(UNREADY, "-")}
_PAGES = ("/", "/page.json", "/status")
"""The pages for people, and the facts of the public page as data."""
_NO_PAGE = b"this page cannot be made now; the log of the sidecar says why\n"

_REFUSALS: dict[Refusal, tuple[bytes, Headers]] = {
    UNAUTHENTICATED: (b"a bearer token is needed\n", UNAUTHENTICATED.headers),
    FOREIGN_ORIGIN: (b"requests of other origins are refused\n", ()),
    NOT_FOUND: (b"there is no such path\n", ()),
    METHOD_NOT_ALLOWED: (b"only GET and HEAD are answered\n", ((b"allow", b"GET, HEAD"),)),
    FOREIGN_HOST: (b"this host name is not served here\n", ()),
}
"""The message and the headers of each refusal here."""


class AdminPages:
    """The HTTP handler of the admin address.

    ``readiness`` is called for each ``/readyz``, and ``sinks`` for the verbose one. ``file`` is
    called for each page, with its path and a language; it returns ``None`` if the page cannot be
    made. Without ``file`` there are no pages. ``hosts`` are accepted names besides those of
    loopback. ``is_public`` also accepts any IP address as ``Host``, because probes use it: no web
    page can make a browser send an IP address to a machine that has another one. ``admits`` checks
    the ``Authorization`` header of requests for more than health (``None``: all are admitted).
    """

    def __init__(
        self,
        readiness: Readiness,
        metrics: Callable[[], bytes],
        file: Callable[[str, str], Awaitable[File | None]] | None = None,
        *,
        sinks: Callable[[], Mapping[str, SinkState]] = dict,
        hosts: Iterable[str] = (),
        is_public: bool = False,
        admits: Callable[[bytes | None], bool] | None = None,
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._file = file
        self._sinks = sinks
        self._hosts = frozenset(hosts)
        self._is_public = is_public
        self._admits = admits

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        """Respond to a request."""
        if refused := self._refusal(request):
            body, headers = _REFUSALS[refused]
            response = _response(refused.status, _TEXT, body)
            return response._replace(headers=response.headers + headers, code=refused.code)
        if request.path == "/livez":
            return _response(200, _TEXT, b"ok\n")
        if request.path == "/readyz":
            is_asked = request.query.split(b"=")[0] == b"verbose"
            return self._ready(is_verbose=is_asked, may_know=self._has_token(request))
        if request.path == "/metrics":
            return _response(200, CONTENT_TYPE, self._metrics())
        if request.path == DOCUMENT_PATH:
            return _response(200, "application/json", _DOCUMENT)
        language = "id" if request.query == b"lang=id" else "en"
        file = None if self._file is None else await self._file(request.path, language)
        return _sent(file, request)

    def _refusal(self, request: HttpRequest) -> Refusal | None:
        """Return why a request is refused, if it is."""
        hosts = request.headers.get(b"host", ())
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return FOREIGN_HOST
        own = (b"http://" + hosts[0], b"https://" + hosts[0])
        if any(origin not in own for origin in request.headers.get(b"origin", ())):
            return FOREIGN_ORIGIN
        if _is_embedding(request):
            return FOREIGN_ORIGIN
        pages = () if self._file is None else _PAGES
        if request.path not in (*_FREE, "/metrics", *pages):
            return NOT_FOUND
        if request.method not in ("GET", "HEAD"):
            return METHOD_NOT_ALLOWED
        is_let_in = request.path in _FREE or self._has_token(request)
        return None if is_let_in else UNAUTHENTICATED

    def _has_token(self, request: HttpRequest) -> bool:
        """Return whether the request has a token, or needs none."""
        return self._admits is None or self._admits(request.only(b"authorization"))

    def _is_own(self, host: bytes) -> bool:
        name = host.decode("ascii", "replace").lower()
        bare, colon, port = name.rpartition(":")
        if colon and port.isdigit() and "]" not in port:
            name = bare
        name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        return name == "localhost" or name in self._hosts or self._is_own_address(name)

    def _is_own_address(self, name: str) -> bool:
        try:
            return ip_address(name).is_loopback or self._is_public
        except ValueError:
            return False

    def _ready(self, *, is_verbose: bool, may_know: bool) -> HttpResponse:
        """Say whether the process is ready; if not, tell a permitted caller why."""
        states = self._readiness()
        is_ready = UNREADY.isdisjoint(states.values())
        lines = [
            f"[{_MARKS.get(state, '!')}] {name} {state}"
            for name, state in states.items()
            if may_know and (is_verbose or state in UNREADY)
        ]
        if may_know and is_verbose:
            sinks = {name: each.as_dict() for name, each in self._sinks().items()}
            lines += [f"    sink {name}: {describe(each)}" for name, each in sinks.items()]
        lines.append("ready" if is_ready else "not ready")
        text = "".join(f"{line}\n" for line in lines)
        return _response(200 if is_ready else 503, _TEXT, text.encode())


def opened_admin(
    components: Components,
    keeper: Keeper | MessageIntake,
    readiness: Readiness,
    live: LivePages,
    stack: ExitStack,
) -> Callable[[], HttpReceiver] | None:
    """Listen on ``admin.address``, if it is set. Return a function that makes the receiver, with
    the certificate and the limits at the time of the call.

    On loopback, and if it is open, the address needs neither tokens nor TLS. Raises ``ConfigError``
    E207.
    """
    chosen = components.config.admin
    if chosen.address is None:
        return None
    address, is_encrypted = chosen.address, chosen.is_encrypted

    def admits(header: bytes | None) -> bool:
        return components.tokens is None or components.tokens.admits(header)

    pages = AdminPages(
        readiness,
        components.metrics.text,
        live.file,
        sinks=components.sink_states,
        hosts=(*chosen.hosts, chosen.address.host),
        is_public=not chosen.address.is_loopback,
        admits=admits if is_encrypted else None,
    )
    listening = listeners.opened(chosen.address, "admin.address", stack)

    def made() -> HttpReceiver:
        encrypted = components.certificates if is_encrypted else None
        return HttpReceiver(
            in_task(respond),
            address,
            listening.dup(),
            components.limits,
            context=None if encrypted is None else encrypted.context(),
            observe=partial(keeper.past.observe, "admin"),
        )

    async def respond(request: HttpRequest) -> HttpResponse:
        if request.path == "/metrics":
            await keeper.refresh()
        return await pages(request)

    return made


def _is_embedding(request: HttpRequest) -> bool:
    """Return whether a browser says that a page of another site requests this for a frame, a script
    or an image, and not for a person who follows a link."""
    site, dest = (request.only(name) for name in (b"sec-fetch-site", b"sec-fetch-dest"))
    return site in (b"cross-site", b"same-site") and dest != b"document"


def _response(status: int, content_type: str, body: bytes) -> HttpResponse:
    headers = (
        (b"content-type", content_type.encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", _POLICY),
    )
    return HttpResponse(status, (*headers, *_HEADERS), body)


def _sent(file: File | None, request: HttpRequest) -> HttpResponse:
    """Send a page, or say that the reader's copy is current."""
    if file is None:
        return _response(503, _TEXT, _NO_PAGE)
    headers = (
        (b"cache-control", b"private, no-cache"),
        (b"content-security-policy", file.policy.encode()),
        (b"etag", file.tag),
        *_HEADERS,
    )
    if request.only(b"if-none-match") == file.tag:
        return HttpResponse(304, headers)
    return HttpResponse(200, ((b"content-type", file.content_type.encode()), *headers), file.body)
