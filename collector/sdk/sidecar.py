"""A sidecar as a sink: batches go to its ``/v1/records``, over HTTP, TLS or a unix socket.

Only what the settings say decides where they go: no proxy, no redirect, nothing of the environment.
The id of a batch is its idempotency key, so sending it again is safe.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from time import monotonic

from collector.contracts import Batch
from collector.errors import ConfigError, DeliveryError
from collector.sdk.settings import Settings
from collector.sdk.target import Target
from collector.sinks.lines import lines

__all__ = ["Sidecar"]

_PATH = "/v1/records"
_FOR_GOOD = frozenset({400, 413, 415, 422})
"""Answers that would be the same tomorrow. All others may pass: a token is set, a sidecar gets the
newer schema."""
_MOST_ANSWER = 1 << 16
_MOST_PAUSE = 300
_COUNTS = re.compile(rb'\{"received":([0-9]{1,9}),"admitted":([0-9]{1,9}),"rejected":\{.*\}\}')
_AWAY = "the sidecar cannot be reached, or did not answer in time; is it running?"
_UNWILLING = "the sidecar did not take the records; see its log, and whether token and schema fit"


class Sidecar:
    """A connection to a sidecar, opened when it is needed. For one thread at a time.

    Raises ``ConfigError`` E212 when the files for TLS cannot be used.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._timeout = settings.timeout
        self._headers = {"Content-Type": "application/x-ndjson", "Connection": "keep-alive"}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        self._context = _context(settings) if target.scheme == "https" else None
        self._connection: HTTPConnection | None = None
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"<Sidecar by {self._target.scheme}>"

    def send(self, *batches: Batch) -> int:
        """Send the batches; returns how many of their records it will never take.

        Raises ``DeliveryError`` E510 when a batch was not taken, or it is not known whether it was.
        """
        return sum(map(self._send, batches))

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _send(self, batch: Batch) -> int:
        if monotonic() < self._not_before:
            raise DeliveryError("E510", _UNWILLING)
        body, number = b"".join(lines(batch)), len(batch.records)
        headers = {**self._headers, "Idempotency-Key": batch.id.hex()}
        if batch.granted is not None:
            headers["Collector-Granted"] = " ".join(batch.granted)
        answer = self._connection is not None and self._ask(body, headers)
        answer = answer or self._ask(body, headers)  # a connection may have been closed meanwhile
        if not answer:
            raise DeliveryError("E510", _AWAY)
        status, text = answer
        if status in _FOR_GOOD:
            return number
        found = _COUNTS.fullmatch(text) if status == 200 else None
        if found is None:
            raise DeliveryError("E510", _UNWILLING)
        return max(0, number - int(found[2]))

    def _ask(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes] | None:
        """Status and text of the answer, or ``None``. The connection is closed if it is of no more
        use."""
        connection = self._connection = self._connection or self._connect()
        is_whole = False
        try:
            connection.request("POST", self._target.prefix + _PATH, body, headers)
            with connection.getresponse() as answer:
                text = answer.read(_MOST_ANSWER)
                is_whole = answer.isclosed()
                self._obey(answer.getheader("Retry-After", ""))
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            if not is_whole:
                self.close()
        return answer.status, text

    def _obey(self, after: str) -> None:
        if after.isascii() and after.isdigit():
            self._not_before = monotonic() + min(int(after[:9]), _MOST_PAUSE)

    def _connect(self) -> HTTPConnection:
        target, timeout = self._target, self._timeout
        if target.scheme == "unix":
            made: HTTPConnection = _UnixConnection(target.path, timeout)
        elif self._context is not None:
            made = HTTPSConnection(target.host, target.port, timeout=timeout, context=self._context)
        else:
            made = HTTPConnection(target.host, target.port, timeout=timeout)
        made.response_class = _Response
        return made


class _Response(HTTPResponse):
    """An answer that lets go of the socket also when it breaks off before its body."""

    def begin(self) -> None:
        """Read the head."""
        try:
            super().begin()
        except BaseException:
            self.close()
            raise


class _UnixConnection(HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _context(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 at least, names checked. Not the standard library's default context, which writes
    session keys to a file if the environment says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    name = "ca"
    with suppress(OSError, ValueError):  # ssl.SSLError is an OSError
        if settings.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca)
        name = "certificate"
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, password=lambda: b"")
        return context
    raise ConfigError("E212", f"the file of `{name}` cannot be used; it must be a PEM file")
