"""OTLP/gRPC: grpcio's synchronous server with a pool of threads, and its service.

Messages are received as bytes, without the library's decompression, so that HTTP's limits also hold
for compressed ones. The metadata of a call is checked before its message is read, so a sender
without permission is refused unread. Responses and details are constants and counts, and no
exception leaves a handler except the one by which the library ends a call.

The library's loggers, which would quote metadata, are silenced. The library must be loaded with a
clean environment: under ``GRPC_TRACE`` and ``GRPC_VERBOSITY`` it writes what it receives to stderr.
It is therefore loaded when a server is made, not before.

One leak cannot be closed here. To a client that breaks the protocol, the library sends the name of
that client's illegal header, and with more than 2 MiB of metadata all its header names.

Slow senders can hold only half of the threads while others wait. A call takes a thread before its
message has arrived, and keeps it until it ends. So a message has a deadline. While calls queue for
threads, the server cancels the calls that have waited longest for their message, sooner if the
queue is longer, until they hold at most half of the threads. An honest sender's message comes with
its call, so this does not affect it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from threading import BoundedSemaphore, Event, Lock, Thread
from time import monotonic, perf_counter
from types import ModuleType
from typing import Any, ParamSpec, Protocol, TypeVar

from collector.consent import SIGNALS, is_refusal
from collector.contracts import AcceptNow, KeyUsed, Request, Signal
from collector.errors import ConfigError
from collector.ingest.auth import Tokens
from collector.ingest.decompression import Compressed, Encoding
from collector.ingest.limits import IDLE_SECONDS, MIB
from collector.ingest.memory import WAIT_SECONDS, MemoryBudget, Reservation
from collector.ingest.peers import address_of, forwarded
from collector.ingest.refusals import (
    BUSY,
    HEADERS_TOO_LARGE,
    NOT_FOUND,
    REQUEST_TIMEOUT,
    RETRY,
    RETRY_SECONDS,
    UNAUTHENTICATED,
    UNKNOWN_SCHEMA,
    UNREADABLE,
    Refusal,
    RequestRefused,
    refusal_of,
)
from collector.ingest.request import key_of
from collector.ingest.responses import Observe, export_protobuf, refused_whole, retry_protobuf
from collector.ingest.tls import Certificates

METHODS: dict[str, Signal] = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_USED = ("server", "RpcError", "StatusCode", "stream_unary_rpc_method_handler")
_LATE = ("grpc._server", "grpc._utilities")
"""Modules that the library would otherwise load when a server is made."""
_SCHEMA = "collector-schema"
_KEY = "idempotency-key"
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"

_MAGIC: dict[bytes, Encoding] = {b"\x1f\x8b": "gzip", b"\x78": "deflate"}
"""How compressed messages begin. OTLP messages begin with 0x0a: they have field 1 only."""

_MAX_THREADS, _MIN_THREADS = 16, 7
_MAX_METADATA = 2 * MIB
"""Beyond this the library refuses a call, quoting names; the service's own limit is far lower."""
_MAX_STREAMS = 32
"""Concurrent calls of one connection; all share 16 threads. Each call takes memory for its
metadata, and HPACK lets a client repeat a header for one byte."""
_HOUR_MS, _GRACE_MS = 3_600_000, 30_000

_P = ParamSpec("_P")
_T = TypeVar("_T")
_CHECK_SECONDS = 0.5
_QUEUE_WAIT_SECONDS = 1.0
"""How long a call may wait for its message while one other call queues; a tenth of it while ten
do,"""
_LEAST_WAIT_SECONDS = 0.01
"""but at least this long: a message that has arrived takes some milliseconds through a busy
process."""

Metadata = Sequence[tuple[str, str | bytes]]
Result = bytes | Refusal | None
"""A message, a refusal, or ``None`` if the call was cancelled."""


class GrpcServer:
    """Serves OTLP's three services, and gRPC's health check.

    ``address`` is ``host:port`` (port 0: any free one). ``schemas`` are the names of schemas that a
    call may ask for by the metadata ``collector-schema``. Without ``tokens`` every sender is
    admitted; ``hops`` is the number of trusted proxies in front. For every call, ``observe`` gets
    the equivalent HTTP status, the seconds, and the code of a refusal. Other processes of this user
    may listen on the same address. Raises ``ConfigError`` E201 if the library is not installed.
    """

    _pool: CallPool
    _large: BoundedSemaphore

    def __init__(
        self,
        accept_now: AcceptNow,
        *,
        address: str,
        budget: MemoryBudget,
        tokens: Tokens | None = None,
        certificates: Certificates | None = None,
        hops: int = 0,
        observe: Observe | None = None,
        schemas: Collection[str] = (),
    ) -> None:
        self._library = library()
        self._accept_now, self._budget = accept_now, budget
        self._limits = budget.limits
        self._tokens, self._hops = tokens, hops
        self._observe, self._schemas = observe, frozenset(schemas)
        self._address, self._certificates = address, certificates
        self._server: Any = None
        self._port = 0
        self._codes = {code.value[0]: code for code in self._library.StatusCode}
        # All handlers take a stream: only then does the library leave reading to the handler.
        handler = self._handler = self._library.stream_unary_rpc_method_handler
        self._refusal_handlers = {
            refusal: handler(partial(self._refuse, refusal))
            for refusal in (HEADERS_TOO_LARGE, UNAUTHENTICATED, UNKNOWN_SCHEMA, BUSY)
        }
        self._health = handler(lambda _, __: _SERVING)

    def start(self) -> int:
        """Serve; return the port. Raises ``ConfigError`` E207 as ``bind`` does."""
        if self._server is None:
            self.bind()
        self._server.start()
        return self._port

    def bind(self) -> None:
        """Listen, so that connections wait until ``start``.

        Raises ``ConfigError`` E207 when the address cannot be listened on.
        """
        pool = self._pool = CallPool(self._threads(), self._limits.body_seconds)
        self._large = BoundedSemaphore(pool.count // 2)
        server = self._library.server(
            pool,
            handlers=[self],
            options=self._options(),
            maximum_concurrent_rpcs=4 * self._limits.connections,
        )
        try:
            port = self._listen(server)
        except RuntimeError:
            port = 0
        if not port:
            pool.close()
            raise ConfigError("E207", f"gRPC cannot listen on {self._address}; is it taken?")
        self._server, self._port = server, port

    def stop(self, grace_seconds: float) -> None:
        """Accept no more calls; cancel those that take longer than the grace period."""
        if self._server is not None:
            self._server.stop(grace_seconds).wait(grace_seconds + 1)
            self._pool.close()

    def _threads(self) -> int:
        """Return the number of threads. Each holds one message, and the library tells a message's
        length only when all of it is there. So all threads together hold as much as HTTP may for
        bodies on the wire, or seven messages: with fewer, small calls would wait for one another's
        commits."""
        count = self._budget.wire.amount // self._limits.wire
        return max(_MIN_THREADS, min(_MAX_THREADS, count))

    def _listen(self, server: Any) -> int:
        if self._certificates is None:
            return int(server.add_insecure_port(self._address))
        return int(server.add_secure_port(self._address, self._certificates.grpc()))

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", limits.wire),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_metadata_size", _MAX_METADATA),
            ("grpc.absolute_max_metadata_size", _MAX_METADATA),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.max_allowed_incoming_connections", limits.connections),
            ("grpc.server_handshake_timeout_ms", _ms(limits.header_seconds)),
            ("grpc.http2.settings_timeout", _ms(limits.header_seconds)),
            # With a fixed window, an unread message takes at most 64 KiB.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_connection_idle_ms", _ms(IDLE_SECONDS)),
            ("grpc.max_connection_age_ms", _HOUR_MS),
            ("grpc.max_connection_age_grace_ms", _GRACE_MS),
            ("grpc.keepalive_time_ms", 2 * _GRACE_MS),
            ("grpc.keepalive_timeout_ms", _GRACE_MS),
        ]

    def service(self, details: Any) -> Any:
        """Return the handler of a call; ``None`` for an unknown method."""
        signal = METHODS.get(details.method)
        if signal is None and details.method != _HEALTH:
            self._count(0.0, NOT_FOUND)  # the library refuses it
            return None
        if signal is None:
            return self._health
        refusal = self._refusal(details.invocation_metadata)
        if refusal is not None:
            return self._refusal_handlers[refusal]
        return self._handler(partial(self._export, signal, monotonic() + WAIT_SECONDS))

    def _refusal(self, metadata: Metadata) -> Refusal | None:
        """Return why a call is refused unread, if it is."""
        limits, tokens = self._limits, self._tokens
        if sum(len(name) + len(value) for name, value in metadata) > limits.header_bytes:
            return HEADERS_TOO_LARGE
        if tokens is not None:
            sent = _values(metadata, "authorization")
            if not tokens.admits(sent[0] if len(sent) == 1 else None):
                return UNAUTHENTICATED
        asked = {*_values(metadata, _SCHEMA)}
        if len(asked) > 1 or not asked <= self._schemas:
            return UNKNOWN_SCHEMA
        return BUSY if self._pool.queued > limits.connections else None

    def _export(
        self, signal: Signal, until: float, messages: Iterator[bytes], context: Any
    ) -> bytes:
        began = perf_counter()
        return self._end(self._respond(signal, until, messages, context), context, began)

    def _refuse(self, refusal: Refusal, _: Iterator[bytes], context: Any) -> bytes:
        return self._end(refusal, context, perf_counter())

    def _end(self, result: Result, context: Any, began: float) -> bytes:
        """Return the message, or abort the call with a refusal, which raises a library's
        exception."""
        if result is None:
            return b""
        self._count(perf_counter() - began, result if isinstance(result, Refusal) else None)
        if isinstance(result, bytes):
            return result
        code = result.rpc
        details = f"{result.message} [{result.code}]"
        if result.headers == RETRY:
            retry = retry_protobuf(code, details, RETRY_SECONDS)
            context.set_trailing_metadata((("grpc-status-details-bin", retry),))
        context.abort(self._codes[code], details)
        return b""

    def _count(self, seconds: float, refusal: Refusal | None = None) -> None:
        if self._observe is not None:
            status, code = (200, None) if refusal is None else (refusal.status, refusal.code)
            with suppress(Exception):  # the library would send its text to the caller
                self._observe(status, seconds, code)

    def _respond(
        self, signal: Signal, until: float, messages: Iterator[bytes], context: Any
    ) -> Result:
        """Build the result of a call that may wait ``until`` a time; never raises."""
        if monotonic() > until:
            return BUSY
        try:
            message = self._message(messages, context)
            return None if message is None else self._filtered(signal, message, context, until)
        except Exception as error:  # noqa: BLE001 - its message may hold a value
            return refusal_of(error)

    def _message(self, messages: Iterator[bytes], context: Any) -> bytes | None:
        """Wait for the message of a call; ``None`` if the call was cancelled."""
        is_gone, message = False, None
        with self._pool.pending(context) as pending:
            try:
                message = next(messages, None)
            except self._library.RpcError:
                is_gone = True
        if pending.is_cancelled:
            self._count(monotonic() - pending.since, REQUEST_TIMEOUT)
        if pending.is_cancelled or is_gone:
            return None
        if message is None:
            raise RequestRefused(UNREADABLE)
        return message

    def _filtered(self, signal: Signal, message: bytes, context: Any, until: float) -> bytes:
        """Decompress a message, waiting at most ``until`` a time; filter it, and build the
        response."""
        body, found = message, None
        encoding = next((e for magic, e in _MAGIC.items() if message.startswith(magic)), None)
        if encoding is not None:
            found = Compressed(encoding, message, self._limits)
        with ExitStack() as stack:
            if found is None:
                stack.enter_context(self._slot(len(message)))
            else:
                body = self._decompressed(found, stack, until)
            metadata = context.invocation_metadata()
            keys = [key.encode("utf-8", "replace") for key in _values(metadata, _KEY)]
            request = Request(
                signal,
                body,
                protobuf=True,
                peer=self._peer(metadata, context),
                user_agent=next(iter(_values(metadata, "user-agent")), None),
                key=key_of(keys) if keys else None,
                refuses=any(is_refusal(_values(metadata, name)) for name in SIGNALS),
                schema=next(iter(_values(metadata, _SCHEMA)), None),
            )
            try:
                tally = self._accept_now(request)
            except KeyUsed as used:
                tally = used.earlier.counts
        if refused := refused_whole(tally):
            raise RequestRefused(refused)
        return export_protobuf(tally)

    def _decompressed(self, found: Compressed, stack: ExitStack, until: float) -> bytes:
        """Decompress a message in its turn. Its bytes stay reserved until the stack is left."""
        memory, body = stack.enter_context(Reservation(self._budget)), None
        while body is None:
            if found.most > MIB:
                stack.enter_context(self._slot(found.most))
            memory.turn_now(found, max(0.0, until - monotonic()))
            body = found.body()
        memory.keep(len(body))
        return body

    @contextmanager
    def _slot(self, size: int) -> Iterator[None]:
        """Limit large bodies to half of the threads. Raises ``RequestRefused``: BUSY."""
        if size <= MIB:
            yield
            return
        if not self._large.acquire(blocking=False):
            raise RequestRefused(BUSY)
        try:
            yield
        finally:
            self._large.release()

    def _peer(self, metadata: Metadata, context: Any) -> str | None:
        if self._hops <= 0:
            return address_of(context.peer())
        return forwarded(_values(metadata, "x-forwarded-for"), self._hops)


def _values(metadata: Metadata, wanted: str) -> list[str]:
    return [str(value) for name, value in metadata if name == wanted]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def library() -> ModuleType:
    """Load grpcio and silence its loggers, which log exceptions and metadata that is not UTF-8.

    Raises ``ConfigError`` E201 if it is not installed or cannot be loaded.
    """
    with suppress(Exception, SystemExit):  # a broken installation may fail in any way
        import grpc  # type: ignore[import-untyped]  # noqa: PLC0415

        logging.getLogger("grpc").setLevel(logging.CRITICAL + 1)
        if all(hasattr(grpc, name) for name in _USED):  # else it is a remnant
            for name in _LATE:
                with suppress(ImportError):  # a version without it
                    import_module(name)
            return grpc  # type: ignore[no-any-return]
    from collector.extras import require  # noqa: PLC0415 - for a message

    require("OTLP/gRPC", "grpc", "grpc")
    message = "grpcio is installed and cannot be loaded: install it anew, or set this to `off`"
    raise ConfigError("E201", message)


class Call(Protocol):
    """A call that can be cancelled."""

    def cancel(self) -> object:
        """End the call; its sender may retry."""


class PendingCall:
    """A call whose thread waits for its message."""

    __slots__ = ("call", "is_cancelled", "since")

    def __init__(self, call: Call) -> None:
        self.call: Call = call
        self.since: float = monotonic()
        self.is_cancelled: bool = False


class CallPool(ThreadPoolExecutor):
    """A pool of ``count`` threads. Messages have ``seconds`` to arrive."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(count, thread_name_prefix="grpc")
        self.count: int = count
        self._seconds = seconds
        self._lock = Lock()
        self.calls: int = 0
        """How many calls run or wait for a thread."""
        self._pending: dict[int, PendingCall] = {}
        self._is_closed = False
        self._wake = Event()
        Thread(target=self._monitor, name="grpc-monitor", daemon=True).start()

    @property
    def queued(self) -> int:
        """The number of calls that wait for a thread."""
        return max(0, self.calls - self.count)

    def submit(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Submit a call as to any pool, and count it until it is done."""
        with self._lock:
            self.calls += 1
        try:
            future = super().submit(function, *args, **kwargs)
        except RuntimeError:
            self._decrement()
            raise
        future.add_done_callback(self._decrement)
        self._wake_if_short()
        return future

    @contextmanager
    def pending(self, call: Call) -> Iterator[PendingCall]:
        """Let the call be cancelled while it waits for its message.

        A call that is not cancelled when this ends is not cancelled later.
        """
        pending = PendingCall(call)
        with self._lock:
            self._pending[id(pending)] = pending
        self._wake_if_short()
        try:
            yield pending
        finally:
            with self._lock:
                self._pending.pop(id(pending), None)

    def close(self) -> None:
        """Accept no more calls; calls in progress end."""
        self._is_closed = True
        self._wake.set()
        self.shutdown(wait=False, cancel_futures=True)

    def _is_short(self) -> bool:
        """Return whether calls queue while more than half of the threads wait for messages."""
        return self.queued > 0 and len(self._pending) > self.count // 2

    def _wake_if_short(self) -> None:
        if self._is_short():
            self._wake.set()

    def _decrement(self, _: object = None) -> None:
        with self._lock:
            self.calls -= 1

    def _monitor(self) -> None:
        wait = _CHECK_SECONDS
        while not self._is_closed:
            self._wake.wait(wait)
            self._wake.clear()
            wait = self._cancel_overdue()

    def _cancel_overdue(self) -> float:
        """Cancel overdue calls, the oldest first; return the seconds until the next check."""
        with self._lock:
            now = monotonic()
            for key, pending in [*self._pending.items()]:
                allowed = self._seconds
                if self._is_short():
                    queued = max(_LEAST_WAIT_SECONDS, _QUEUE_WAIT_SECONDS / self.queued)
                    allowed = min(allowed, queued)
                left = pending.since + allowed - now
                if left > 0:
                    return min(left, _CHECK_SECONDS)
                del self._pending[key]
                pending.is_cancelled = True
                pending.call.cancel()
        return _CHECK_SECONDS
