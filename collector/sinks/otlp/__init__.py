"""OTLP: send records to any receiver of OpenTelemetry, as log records, over HTTP or gRPC.

The sink sends each batch until a receiver takes it. If the receiver refuses a batch for good, or
rejects some of its records, the batch is set aside and not sent again by itself, as OTLP demands.
If the receiver cannot be reached, is overloaded or wants other credentials, the sink tries again,
so nothing is lost. The sink reads only an answer's status, counts and waiting time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Protocol

from collector.config.sink_settings import SinkSettings
from collector.contracts import Batch
from collector.errors import Cause, ConfigError, DeliveryError, Unacceptable, Unreachable
from collector.extras import require
from collector.sinks.otlp.settings import COUNT, UID, OtlpSettings
from collector.sinks.sink import Opening, Sink

if TYPE_CHECKING:
    from collector.sinks.otlp.logs import ExportRequest, Verdict

__all__ = ["OtlpSettings", "OtlpSink"]

_MOST_BYTES = 1 << 20
"""The most bytes of a request before compression: a fourth of what receivers take by default."""
_REMEMBERED = 1024
"""The most ids that are remembered: more batches than a drain delivers at once."""
_TOO_LARGE = ("too_large", "exhausted")
_MESSAGES = ("google.protobuf.message", "opentelemetry.proto.collector.logs.v1.logs_service_pb2")
_NEEDED: Mapping[str, Sequence[str]] = {
    "http": _MESSAGES,
    "grpc": (*_MESSAGES, "google.rpc.status_pb2", "grpc"),
}
"""The modules that each protocol needs. The extra ``otlp`` installs all of them."""
_PAUSED = "the receiver asked for a pause"


class Exporter(Protocol):
    """Sends requests to a receiver."""

    def export(self, body: bytes, headers: Mapping[str, str]) -> Verdict:
        """Send a request with some headers, and judge the answer. Nothing that a receiver does
        raises an error."""

    def close(self) -> None:
        """Close the connection."""


class OtlpSink(Sink):
    """A receiver of OTLP as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = OtlpSettings
    is_shared = True

    def __init__(self, settings: OtlpSettings, opening: Opening) -> None:
        self._settings = settings
        self._headers = settings.credentials()
        self._exporter = None if opening.is_offline else _exporter(settings)
        self._not_before = 0.0
        self._taken = _Ids()
        self._refused = _Ids()

    def __repr__(self) -> str:
        return "<OtlpSink>"

    @classmethod
    def check(cls, settings: OtlpSettings, opening: Opening) -> None:
        """Check the installed modules, credentials, files and names of fields. Sends nothing."""
        if any({UID, COUNT} & schema.fields.keys() for schema in opening.schemas):
            message = f"`{UID}` and `{COUNT}` are attributes of the sink's own; rename the field"
            raise DeliveryError("E504", message)
        settings.credentials()
        _exporter(settings).close()

    def deliver(self, *batches: Batch) -> None:
        """Send batches. If a receiver took or refused some of several batches, remember which, so
        that they are not sent again when the batches are delivered one by one."""
        if monotonic() < self._not_before:
            raise _unreachable(_PAUSED, "busy")
        try:
            for batch in batches:
                if batch.id in self._refused:
                    raise Unacceptable(batch.id)
            self._send_all(batches)
        finally:
            if len(batches) == 1:  # reported: a caller who delivers it again wants it sent
                self._refused.discard(batches[0].id)

    def close(self) -> None:
        """Close the connection."""
        if self._exporter is not None:
            self._exporter.close()

    def _send_all(self, batches: Sequence[Batch], most_bytes: int = _MOST_BYTES) -> None:
        """Send the batches that were not taken yet, in as few requests as possible. If a request is
        too large, send all again in requests of half its size. Records keep their names."""
        from collector.sinks.otlp.logs import export_requests  # noqa: PLC0415 - an extra

        left = [batch for batch in batches if batch.id not in self._taken]
        for request in export_requests(left, self._settings.service, most_bytes):
            verdict = self._sender.export(request.body, self._headers)
            if verdict.outcome in _TOO_LARGE and request.records > 1:
                return self._send_all(left, len(request.body) // 2)
            self._settle(request, verdict)
        return None

    def _settle(self, request: ExportRequest, verdict: Verdict) -> None:
        """Note what a receiver took. Raise an error for what it did not take."""
        if verdict.outcome == "taken":
            self._taken.add(request.complete)
        elif verdict.outcome == "rejected":  # the receiver does not say which records
            self._refused.add(batch.id for batch in request.batches)
            raise Unacceptable(request.batches[0].id)
        elif verdict.outcome in ("refused", "too_large"):
            self._send_apart(request.batches)
        else:
            if verdict.outcome == "denied":
                with suppress(ConfigError):  # keep the old ones, which may be accepted again
                    self._headers = self._settings.credentials()
            self._not_before = monotonic() + verdict.pause
            raise _unreachable(verdict.answer, verdict.cause)

    def _send_apart(self, batches: Sequence[Batch]) -> None:
        """Send batches of a refused request one by one, to find out which the receiver refuses.
        Raises ``Unacceptable`` for the first one."""
        if len(batches) == 1:
            self._refused.add([batches[0].id])
            raise Unacceptable(batches[0].id)
        for batch in batches:
            self._send_all([batch])

    @property
    def _sender(self) -> Exporter:
        if self._exporter is None:
            raise DeliveryError("E503", "the sink is open for a command, not for delivery")
        return self._exporter


class _Ids:
    """The last ids of batches with the same outcome, in the memory of this process only."""

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}

    def __contains__(self, id_: bytes) -> bool:
        return id_ in self._ids

    def discard(self, id_: bytes) -> None:
        """Forget an id, if it is known."""
        self._ids.pop(id_, None)

    def add(self, ids: Iterable[bytes]) -> None:
        """Add ids, and forget the oldest ones beyond ``_REMEMBERED``."""
        self._ids.update(dict.fromkeys(ids))
        while len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]


def _exporter(settings: OtlpSettings) -> Exporter:
    """Build the exporter. Raises ``ConfigError`` E201 if its modules are not installed, E122 for a
    path with gRPC, and E212 for unusable TLS files."""
    require("a sink of OTLP", "otlp", *_NEEDED[settings.protocol])
    if settings.protocol == "http":
        from collector.sinks.otlp.http import HttpExporter  # noqa: PLC0415 - an extra

        return HttpExporter(settings)
    if settings.peer.prefix:
        raise ConfigError("E122", "gRPC has no paths: leave the path out of `endpoint`")
    from collector.sinks.otlp.grpc import GrpcExporter  # noqa: PLC0415 - an extra

    return GrpcExporter(settings)


def _unreachable(answer: str, cause: Cause) -> Unreachable:
    message = f"the receiver did not take the records, which are sent again later: {answer}"
    return Unreachable(message, cause, answer)
