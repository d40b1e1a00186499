"""The calls of OTLP/gRPC: who may make them, what they carry, and what they are answered.

A call is looked at before its message is read: who may not send is refused unread. Answers and
details are constants and counts, and no exception leaves a handler but the one by which the library
ends a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from time import perf_counter
from types import ModuleType
from typing import Any

from collector.consent import SIGNALS, is_refusal
from collector.contracts import AcceptNow, Request, Signal
from collector.errors import DeliveryError
from collector.ingest.auth import Tokens
from collector.ingest.bodies import Encoding, pieces
from collector.ingest.limits import MIB, Limits
from collector.ingest.otlp_answers import export_protobuf, outcome, retry_protobuf
from collector.ingest.peers import address_of, forwarded
from collector.ingest.refusals import (
    BUSY,
    FAILED,
    HEADERS_TOO_LARGE,
    INFLATED,
    NOT_KEPT,
    TOO_LARGE,
    UNAUTHENTICATED,
    UNREADABLE,
    Refusal,
    Refused,
)
from collector.ingest.seats import Seats
from collector.ingest.turns import Turns

__all__ = ["METHODS", "RECEIVER", "Calls", "Exports", "Observe"]

RECEIVER = "grpc"
METHODS: dict[str, Signal] = {
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"

_OVERSIZED = (TOO_LARGE, INFLATED, HEADERS_TOO_LARGE)
_RESOURCE_EXHAUSTED = 8
_RETRY_SECONDS = 5
_MAGIC: dict[bytes, Encoding] = {b"\x1f\x8b": "gzip", b"\x78": "deflate"}
"""How compressed messages begin. OTLP's own begin with 0x0a: they have field 1 only."""

Observe = Callable[[str, int, float], None]
"""Called with the receiver's name, the HTTP status of the same meaning, and the seconds of every
call that is answered."""
Metadata = Sequence[tuple[str, str | bytes]]
Answer = bytes | Refusal | None
"""A message, why there is none, or nothing because nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Exports:
    """How messages are taken; without ``tokens`` anybody may send, ``hops`` proxies are trusted."""

    accept_now: AcceptNow
    limits: Limits
    tokens: Tokens | None = None
    hops: int = 0
    observe: Observe | None = None


class Calls:
    """What the library asks for the handler of each call, by way of ``service``.

    All handlers take a stream: only then does the library leave reading to the handler.
    """

    def __init__(self, exports: Exports, seats: Seats, library: ModuleType) -> None:
        self._exports, self._seats = exports, seats
        self._gone = library.RpcError
        self._codes = {code.value[0]: code for code in library.StatusCode}
        self._turns = Turns(seats.count // 2)
        handler = library.stream_unary_rpc_method_handler
        self._takes = {
            method: handler(partial(self._take, signal)) for method, signal in METHODS.items()
        }
        self._refuses = {
            refusal: handler(partial(self._refuse, refusal))
            for refusal in (HEADERS_TOO_LARGE, UNAUTHENTICATED, BUSY)
        }
        self._health = handler(lambda _, __: _SERVING)

    def service(self, details: Any) -> Any:
        """The handler of a call; ``None`` for a method that is not ours."""
        takes = self._takes.get(details.method)
        if takes is None:
            return self._health if details.method == _HEALTH else None
        refusal = self._refusal(details.invocation_metadata)
        return takes if refusal is None else self._refuses[refusal]

    def _refusal(self, metadata: Metadata) -> Refusal | None:
        """Why a call is not even read, if it is not."""
        limits, tokens = self._exports.limits, self._exports.tokens
        if sum(len(name) + len(value) for name, value in metadata) > limits.header_bytes:
            return HEADERS_TOO_LARGE
        if tokens is not None:
            sent = _values(metadata, "authorization")
            if not tokens.admits(sent[0] if len(sent) == 1 else None):
                return UNAUTHENTICATED
        return BUSY if self._seats.queued > limits.connections else None

    def _take(self, signal: Signal, messages: Iterator[bytes], context: Any) -> bytes:
        began = perf_counter()
        return self._end(self._answer(signal, messages, context), context, began)

    def _refuse(self, refusal: Refusal, _: Iterator[bytes], context: Any) -> bytes:
        return self._end(refusal, context, perf_counter())

    def _end(self, answer: Answer, context: Any, began: float) -> bytes:
        """Send what there is to say; raises what the library ends a call by."""
        if answer is None:
            return b""
        refusal = answer if isinstance(answer, Refusal) else None
        if self._exports.observe is not None:
            status = 200 if refusal is None else refusal.status
            with suppress(Exception):  # the library would send its text to the caller
                self._exports.observe(RECEIVER, status, perf_counter() - began)
        if isinstance(answer, bytes):
            return answer
        code = _RESOURCE_EXHAUSTED if answer in _OVERSIZED else answer.rpc
        details = f"{answer.message} [{answer.code}]"
        if answer in (NOT_KEPT, BUSY):
            again = retry_protobuf(code, details, _RETRY_SECONDS)
            context.set_trailing_metadata((("grpc-status-details-bin", again),))
        context.abort(self._codes[code], details)
        return b""

    def _answer(self, signal: Signal, messages: Iterator[bytes], context: Any) -> Answer:
        """What to say, come what may."""
        try:
            message = self._message(messages, context)
            return None if message is None else self._taken(signal, message, context)
        except Refused as error:
            return error.refusal
        except DeliveryError:
            return NOT_KEPT
        except Exception:  # noqa: BLE001 - whatever it says may hold a value
            return FAILED

    def _message(self, messages: Iterator[bytes], context: Any) -> bytes | None:
        """The message of a call, once all of it is here; ``None`` if the call was cancelled."""
        with self._seats.waiting(context) as seat:
            try:
                message = next(messages, None)
            except self._gone:
                return None
        if seat.lost:
            return None
        if message is None:
            raise Refused(UNREADABLE)
        return message

    def _taken(self, signal: Signal, message: bytes, context: Any) -> bytes:
        """The answer to a message, once it is its turn."""
        encoding = next((e for magic, e in _MAGIC.items() if message.startswith(magic)), None)
        rest = pieces(encoding, message, self._exports.limits) if encoding else iter([message])
        body = BytesIO()  # which gives its bytes away without a copy
        body.writelines(_at_least(MIB, rest))
        with self._turns.of(body.tell()):
            body.writelines(rest)
            metadata = context.invocation_metadata()
            request = Request(
                signal,
                body.getvalue(),
                protobuf=True,
                peer=self._peer(metadata, context),
                user_agent=next(iter(_values(metadata, "user-agent")), None),
                refuses=any(is_refusal(_values(metadata, name)) for name in SIGNALS),
            )
            tally = self._exports.accept_now(request)
        fate = outcome(tally)
        if fate != "taken":
            raise Refused(UNREADABLE if fate == "malformed" else TOO_LARGE)
        return export_protobuf(tally)

    def _peer(self, metadata: Metadata, context: Any) -> str | None:
        if self._exports.hops <= 0:
            return address_of(context.peer())
        return forwarded(_values(metadata, "x-forwarded-for"), self._exports.hops)


def _values(metadata: Metadata, wanted: str) -> list[str]:
    return [str(value) for name, value in metadata if name == wanted]


def _at_least(size: int, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Parts until they are larger than that together, or all of them."""
    for part in parts:
        yield part
        if (size := size - len(part)) < 0:
            return
