"""The HTTP receiver: an ASGI callable for ``/v1/events``, ``/v1/records`` and OTLP's three paths.

A body is read, decompressed and handed on unseen; the answer goes out when ``accept`` has returned,
that is, when what was admitted is on disk. Whatever happens, answers are made of constants and
counts, and no exception leaves here.

Under ``collector.ingest.protocol`` a request's ``state`` may get a ``fault``: the refusal of a body
that comes too late, or not as it should. Under another server, deadlines are that server's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from collector.contracts import Accept, Request
from collector.errors import DeliveryError, InputError
from collector.ingest.answers import GPC, Answer, Dialect, counted, refused
from collector.ingest.auth import Tokens
from collector.ingest.head import Head, Scope
from collector.ingest.limits import Limits
from collector.ingest.origins import Origins
from collector.ingest.reading import Body, Receive, Room
from collector.ingest.refusals import (
    FAILED,
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    METHOD,
    NOT_KEPT,
    NOWHERE,
    OTHER_VERSION,
    STOPPING,
    TOO_LARGE,
    UNAUTHENTICATED,
    Headers,
    Refused,
)

__all__ = ["RECEIVER", "Application", "Observe", "app"]

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Observe = Callable[[str, int, float], None]
"""Gets the receiver's name, the status and the seconds of every request that was answered."""

RECEIVER = "http"
"""What this receiver is called in metrics."""

_CLOSE: Headers = ((b"connection", b"close"),)


def app(
    accept: Accept,
    *,
    limits: Limits,
    tokens: Tokens | None = None,
    origins: Iterable[str] = (),
    hops: int = 0,
    hosts: Iterable[str] = (),
    observe: Observe | None = None,
) -> Application:
    """The receiver. Without ``tokens`` anybody may send.

    ``origins`` are those of web pages that may send (``https://meet.example``), besides programs,
    which name none. ``hops`` is the number of trusted proxies in front; ``hosts`` are the names
    that requests are answered for, with or without a port (none: every name).
    """
    names = frozenset(host.lower().encode() for host in hosts)
    return _Receiver(accept, Room(limits), tokens, Origins(origins), hops, names, observe)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class _Receiver:
    accept: Accept
    room: Room
    tokens: Tokens | None
    origins: Origins
    hops: int
    hosts: frozenset[bytes]
    observe: Observe | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = perf_counter()
        head = Head.of(scope)
        body = Body(self.room, receive, scope.get("state", {}))
        answer = await self._answer(head, body)
        if answer is None:  # the sender is gone
            return
        headers = [*answer.headers, *self.origins.headers(head)]
        if answer.status != 204:
            headers.append((b"content-length", b"%d" % len(answer.body)))
        if answer.close or self._is_last(head, body):
            headers += _CLOSE
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        if self.observe is not None:
            self.observe(RECEIVER, answer.status, perf_counter() - began)

    async def _answer(self, head: Head, body: Body) -> Answer | None:
        """What to say, come what may; ``None`` if nobody listens."""
        signal = head.route.signal if head.route else None
        dialect = Dialect(signal, signal is not None and head.protobuf)
        refusal = FAILED
        try:
            return await self._take(head, body, dialect)
        except Refused as error:
            refusal = error.refusal
        except DeliveryError:
            refusal = NOT_KEPT
        except InputError:
            refusal = OTHER_VERSION
        except asyncio.CancelledError:  # the server waits no longer, and ends
            refusal = STOPPING
        except Exception:  # noqa: BLE001, S110 - whatever it says may hold a value
            pass
        finally:
            body.release()
        return refused(refusal, dialect)

    async def _take(self, head: Head, body: Body, dialect: Dialect) -> Answer | None:
        if self.hosts and not head.hosted(self.hosts):
            raise Refused(FOREIGN_HOST)
        if head.route is None:
            if head.asks_for_gpc:
                return GPC
            raise Refused(NOWHERE)
        if head.method == "OPTIONS":
            return self.origins.preflight(head)
        self._check(head)
        form, encoding = head.form(head.route), head.encoding()
        key = head.key() if form == "records" else None
        if head.length() > self.room.limits.wire:
            raise Refused(TOO_LARGE)
        wire = await body.read()
        if wire is None:
            return None
        request = Request(
            form,
            await body.decompressed(encoding, wire),
            protobuf=dialect.protobuf,
            peer=head.peer(self.hops),
            user_agent=head.user_agent(),
            key=key,
            refuses=head.refuses(),
            granted=head.granted() if form == "records" else None,
        )
        tally = await self.accept(request)
        return counted(dialect, tally, lines=form in ("ndjson", "records"))

    def _check(self, head: Head) -> None:
        """Whether the sender may send here at all."""
        if head.method != "POST":
            raise Refused(METHOD)
        if not self.origins.admits(head):
            raise Refused(FOREIGN_ORIGIN)
        if self.tokens is not None and not self.tokens.admits(head.only(b"authorization")):
            raise Refused(UNAUTHENTICATED)

    def _is_last(self, head: Head, body: Body) -> bool:
        """Whether the rest of the body cannot be skipped to get at the next request: it broke off,
        is too long, or may never come, as the sender waits to be told to go on."""
        if body.whole:
            return False
        too_long = head.length() > self.room.limits.wire
        return body.begun or too_long or b"expect" in head.headers
