"""The last step of a delivery: a sink on this machine, or a sidecar."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import TIMEOUT_MAX, Thread
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from collector.contracts import Batch
from collector.errors import CollectorError, ConfigError, DeliveryError, Unacceptable
from collector.files import make_directories
from collector.http_client import HttpClient, Response, tls
from collector.schema import Schema
from collector.sdk.settings import Settings
from collector.sdk.target import Target, local_store

if TYPE_CHECKING:
    from collector.config.sink_settings import SinkSettings
    from collector.sinks.sink import Sink

_log = logging.getLogger("collector.sdk")
_OVERDUE = "cannot delete expired data: disk full or file in use"
_PRUNED = "expired data is deleted"
_IDLE_SECONDS = 3600.0
"""A sink does its upkeep at least this often, even under constant load."""
_CLOSE_SECONDS = 1.0
"""How long a sink may take to close when no time is left."""

_PATH = "/v1/records"
_OK, _CONFLICT, _SERVER = 200, 409, 500
_TOO_LARGE = 413
_PERMANENT = frozenset({400, _TOO_LARGE, 415, 422})
"""Permanent refusals. Any other status may change: a token may be set, or the sidecar may get the
newer schema."""
_LONGEST_PAUSE = 300
_COUNTS = re.compile(
    rb'\{"received":[0-9]{1,9},"admitted":([0-9]{1,9}),"rejected":\{[^{}]*\}'
    rb'(?:,"why":"[a-z -]{1,64}")?'
    rb'(?:,"repeated":true(,"error":\{"code":"E435",[^{}]*\})?)?\}'
)
"""A sidecar's counts, of this attempt or an earlier one; with E435, that one had another body."""
_REASONS = {
    "refused": "nothing listens there; is it running?",
    "timed_out": "it did not answer in time",
    "tls": "TLS failed; look at certificate, authority and host name",
    "network": "the network failed, or its name is not known",
    "malformed": "what answers there is no sidecar",
    "401": "it wants a token, or another one (401)",
    "404": "it has no such path (404); is it a sidecar?",
    "409": "it has another schema, or is no sidecar (409)",
    "5xx": "it cannot take records at present (5xx)",
    "status": "it answered with a status that a sidecar does not use",
}
"""Why a sidecar has not taken records. These are constants: nothing of an answer is repeated."""


class BodyTooLarge(DeliveryError):
    """E514: a sidecar, or a proxy in front of it, refused a batch of several records for its size,
    and stored none of them."""

    def __init__(self) -> None:
        super().__init__("E514", "the sidecar accepts smaller bodies only")


class NotTaken(DeliveryError):
    """E514: a sidecar did not take records; ``why`` is one of a closed list."""

    def __init__(self, why: str) -> None:
        super().__init__("E514", f"the sidecar did not take the records: {_REASONS[why]}")
        self.why = why

    def __reduce__(self) -> tuple[type[NotTaken], tuple[str]]:
        return (NotTaken, (self.why,))


def reason_of(error: BaseException) -> str:
    """Return what may be said about an error that stopped a delivery: its code, with the reason why
    a sidecar has not taken records, or else its type."""
    if isinstance(error, NotTaken):
        return f"{error.code} {error.why}"
    return error.code if isinstance(error, CollectorError) else type(error).__name__


class Sender(Protocol):
    """A sink as the SDK needs it."""

    @property
    def is_local(self) -> bool:
        """Whether the sink is on this machine, so that an exchange is short."""

    def send(self, *batches: Batch) -> int:
        """Deliver batches durably; without batches, do the sink's upkeep.

        Returns how many of the records the sink refuses for good. Raises ``DeliveryError``, and if
        the sink is not local, ``BodyTooLarge``.
        """

    def release(self) -> None:
        """Close what a child process must not inherit; the next ``send`` reopens it."""

    def end_by(self, moment: float) -> None:
        """Limit this exchange and all later ones, to this moment of ``time.monotonic``."""


class LocalSender:
    """A sink that this process opens. It logs once that the sink cannot delete expired data, and
    once that it has. It counts the records of a batch that the sink will never take as refused."""

    is_local = True

    def __init__(self, opener: Callable[[], Sink]) -> None:
        self._opener = opener
        self._sink: Sink | None = opener()
        self._is_overdue = False
        self._idle_at = monotonic() + _IDLE_SECONDS
        self._end = math.inf

    def send(self, *batches: Batch) -> int:
        """Deliver batches."""
        from collector.sinks.sink import contained, holds_expired  # noqa: PLC0415 - as below

        sink = self._sink
        if sink is None:
            sink = self._sink = self._opener()
        refused = _deliver(sink, batches) if batches else 0
        if not batches:
            self._idle_at = monotonic() + _IDLE_SECONDS
            sink.idle()
        elif monotonic() >= self._idle_at:
            self._idle_at = monotonic() + _IDLE_SECONDS
            with contained():  # the batches are delivered
                sink.idle()
        if holds_expired(sink) != self._is_overdue:
            self._is_overdue = not self._is_overdue
            _log.warning(_OVERDUE if self._is_overdue else _PRUNED)
        return refused

    def release(self) -> None:
        """Close the sink until the next ``send``."""
        sink, self._sink = self._sink, None
        if sink is not None:
            from collector.sinks.sink import close_sink  # noqa: PLC0415 - not for a sidecar

            close_sink(sink)

    def end_by(self, moment: float) -> None:
        """Limit how long ``close`` waits: a write itself has no time limit."""
        self._end = moment

    def close(self) -> None:
        """Let the sink write what it collected, and close it. If that takes too long, it goes on in
        its own thread until the process ends."""
        closing = Thread(target=self._finish, name="collector-sdk-end", daemon=True)
        try:
            closing.start()
        except RuntimeError:  # Python 3.12 starts no thread while it exits
            self.release()
            return
        left = max(_CLOSE_SECONDS, self._end - monotonic())
        closing.join(min(left, TIMEOUT_MAX))

    def _finish(self) -> None:
        from collector.sinks.sink import contained, finish_sink  # noqa: PLC0415 - as above

        sink, self._sink = self._sink, None
        with contained():
            finish_sink(self._opener() if sink is None else sink)


def _deliver(sink: Sink, batches: Sequence[Batch]) -> int:
    """Deliver batches, and return how many of their records the sink refuses for good."""
    refused: Sequence[Batch] = ()
    try:
        sink.deliver(*batches)
    except Unacceptable as error:  # the sink has none of the batches
        refused = [batch for batch in batches if batch.id == error.batch]
        if not refused:
            raise
    number = sum(batch.record_count for batch in refused)
    others = [batch for batch in batches if batch not in refused]
    return number + _deliver(sink, others) if refused and others else number


class Sidecar:
    """A sidecar: POST batches to its ``/v1/records``, over HTTP, TLS or a unix socket. A connection
    is opened when it is needed.

    Only the settings decide where batches go: it follows no proxy, redirect or environment
    variable. The id of a batch is its idempotency key, so it is safe to send a batch again. After a
    lost response, a batch may have shrunk because consent was withdrawn or fields expired. Then the
    sidecar has the first version, and answers 409 with its counts: the batch is delivered.

    Raises ``ConfigError`` E212 when the files for TLS cannot be used.
    """

    is_local = False

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._timeout = settings.timeout
        self._headers = {"Content-Type": "application/x-ndjson"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        context = tls(settings.ca, settings.certificate) if target.scheme == "https" else None
        self._client = HttpClient(target, context, self._until)
        self._has_refused_one = False
        self._not_before, self._why = 0.0, "5xx"
        self._deadline = self._end = math.inf

    def __repr__(self) -> str:
        return f"<Sidecar by {self._target.scheme}>"

    def send(self, *batches: Batch) -> int:
        """Send batches, and return how many of their records the sidecar refuses for good.

        Raises ``BodyTooLarge`` when it refuses a batch of several records for its size, and
        ``DeliveryError`` E514 when it did not accept a batch, or the response was lost.
        """
        return sum(map(self._send, batches))

    def end_by(self, moment: float) -> None:
        """Limit this exchange and all later ones, to this moment of ``time.monotonic``."""
        self._end = moment

    def release(self) -> None:
        """Close the connection until the next ``send``."""
        self._client.release()

    def _send(self, batch: Batch) -> int:
        if monotonic() < self._not_before:
            raise NotTaken(self._why)
        from collector.sinks.record_files import lines  # noqa: PLC0415 - not for a local sink

        body, number = b"".join(lines(batch)), batch.record_count
        headers = self._headers | {"Idempotency-Key": batch.id.hex()}
        if batch.granted is not None:
            headers["Collector-Granted"] = " ".join(batch.granted)
        response = self._request(body, headers)
        if response is None:
            self._why = self._client.failure
            raise NotTaken(self._why)
        if response.status == _TOO_LARGE and number > 1:
            raise BodyTooLarge
        if response.status == _TOO_LARGE and not self._has_refused_one:
            self._has_refused_one = True
            _log.warning("a record alone is too large for the sidecar (413) and is lost")
        if response.status in _PERMANENT:
            return number
        found = _COUNTS.fullmatch(response.body)
        if found is None or response.status != (_CONFLICT if found[2] else _OK):
            self._why = _reason(response.status)
            raise NotTaken(self._why)
        return max(0, number - int(found[1]))

    def _request(self, body: bytes, headers: dict[str, str]) -> Response | None:
        """Return the response, or ``None`` if there is none in time."""
        self._deadline = monotonic() + self._timeout
        response = self._client.request("POST", f"{self._target.prefix}{_PATH}", headers, body)
        if response is not None:
            self._wait_as_told(response.headers.get("retry-after", ""))
        return response

    def _until(self) -> float:
        return min(self._deadline, self._end)

    def _wait_as_told(self, after: str) -> None:
        if after.isascii() and after.isdigit():
            self._not_before = monotonic() + min(int(after[:9]), _LONGEST_PAUSE)


def _reason(status: int) -> str:
    """Return the reason for a status that is not final."""
    if status == _OK:
        return "malformed"
    return str(status) if str(status) in _REASONS else "5xx" if status >= _SERVER else "status"


def open_sender(settings: Settings, schema: Schema, stack: ExitStack) -> Sender:
    """Open the target of the settings, and let ``stack`` close it.

    Raises ``ConfigError`` and ``DeliveryError`` when it cannot be used.
    """
    target = settings.target
    if target.is_sink:
        sender = LocalSender(lambda: open_sink_of(target, schema))
        stack.callback(sender.close)
        return sender
    sidecar = Sidecar(target, settings)
    stack.callback(sidecar.release)
    return sidecar


def sink_settings(target: Target) -> SinkSettings:
    """Return the settings of the sink that is the target. Raises ``ConfigError`` E107."""
    from collector.config.sink_types import settings_of  # noqa: PLC0415 - not for a sidecar

    found = settings_of(target.sink_type)
    if target.url:
        return found.at_address(target.sink_type, target.url)
    return found.at(target.sink_type, target.path)


def open_sink_of(target: Target, schema: Schema, *, wait: float | None = None) -> Sink:
    """Open the sink of a target. With ``wait``, open it only to redact it, and wait that many
    seconds for readers.

    Raises ``ConfigError`` E107 for a type that the SDK cannot use, and what the type raises.
    """
    from collector.sinks.sink import Opening, open_sink, sink_type  # noqa: PLC0415 - as below

    settings = sink_settings(target)
    if not ((settings.is_local or target.url) and sink_type(settings).is_shared):
        raise ConfigError(
            "E107", "`to` must name a type of sinks that is local, and that processes can share"
        )
    folder = local_store().path.parent if target.url else target.path.resolve().parent
    if wait is None:
        with suppress(OSError):  # the sink says why it cannot be made
            make_directories(folder, Path(folder.anchor))
    opening = Opening(
        settings.shared_name,
        (schema,),
        folder,
        is_offline=wait is not None,
        wait=wait or 0.0,
        is_shared=True,
    )
    return open_sink(settings, opening)
