"""The OTLP/gRPC receiver: bytes in, bytes out, on the synchronous server with a pool of threads.

Messages are taken as they come over the wire, so that compressed ones are decompressed by us within
the limits of HTTP. The library's loggers, which would quote metadata, are silenced.

The library must be loaded with a clean environment: under ``GRPC_TRACE`` and ``GRPC_VERBOSITY`` it
writes what it receives to stderr. It is therefore loaded when a receiver is made, not before.

One thing is out of our hands: the library tells whoever breaks the protocol the name of their own
illegal header, and with more than 2 MiB of metadata the names of all of it. It tells nobody else.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

from collector.contracts import AcceptNow
from collector.errors import ConfigError
from collector.ingest.auth import Tokens
from collector.ingest.exports import METHODS, RECEIVER, Calls, Exports, Observe
from collector.ingest.limits import MIB, Limits
from collector.ingest.listening import check_address
from collector.ingest.seats import Seats
from collector.ingest.tls import Certificates

__all__ = ["METHODS", "RECEIVER", "Receiver"]

_MOST_THREADS, _FEWEST_THREADS = 16, 4
_LIBRARY_METADATA = 2 * MIB
"""What the library itself refuses, quoting names; our own limit comes long before."""
_STREAMS = 32
"""Calls at once of one connection; there are 16 threads for all. Each costs what metadata it
names, and HPACK lets a byte name again what was sent once."""
_HOUR_MS, _GRACE_MS = 3_600_000, 30_000


class Receiver:
    """The server of OTLP's three services, and of gRPC's health check.

    ``address`` is ``host:port`` (port 0: any free one). Without ``tokens`` whoever gets through may
    send; ``hops`` is the number of trusted proxies in front. ``observe`` is called with the
    receiver's name, the HTTP status of the same meaning, and the seconds of every call that is
    answered. Raises ``ConfigError`` E201 if the library is not installed.
    """

    def __init__(
        self,
        accept_now: AcceptNow,
        *,
        address: str = "127.0.0.1:4317",
        limits: Limits | None = None,
        tokens: Tokens | None = None,
        certificates: Certificates | None = None,
        hops: int = 0,
        observe: Observe | None = None,
    ) -> None:
        self._library = _library()
        self._limits = limits or Limits()
        self._exports = Exports(accept_now, self._limits, tokens, hops, observe)
        self._address, self._certificates = address, certificates
        self._seats: Seats | None = None
        self._server: Any = None

    def __repr__(self) -> str:
        return "<Receiver of OTLP/gRPC>"

    def start(self) -> int:
        """Listen and serve; returns the port.

        Raises ``ConfigError`` E207 when the address cannot be listened on.
        """
        check_address(self._address)
        seats = Seats(self._threads(), self._limits.body_seconds)
        server = self._library.server(
            seats,
            handlers=[Calls(self._exports, seats, self._library)],
            options=self._options(),
            maximum_concurrent_rpcs=4 * self._limits.connections,
        )
        try:
            port = self._listen(server)
        except RuntimeError:
            port = 0
        if not port:
            seats.close()
            raise ConfigError("E207", f"gRPC cannot listen on {self._address}; is it taken?")
        server.start()
        self._seats, self._server = seats, server
        return port

    def stop(self, grace_seconds: float) -> None:
        """Take no more calls, let those under way end for so long, and cancel the rest."""
        if self._server is None or self._seats is None:
            return
        self._server.stop(grace_seconds).wait(grace_seconds + 1)
        self._seats.close()

    def _threads(self) -> int:
        """As many as there is room for messages of the largest size, each of which is there twice
        while the library hands it over."""
        fitting = self._limits.room // (2 * self._limits.wire)
        return max(_FEWEST_THREADS, min(_MOST_THREADS, fitting))

    def _listen(self, server: Any) -> int:
        if self._certificates is None:
            return int(server.add_insecure_port(self._address))
        return int(server.add_secure_port(self._address, self._certificates.grpc()))

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", limits.wire),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_metadata_size", _LIBRARY_METADATA),
            ("grpc.absolute_max_metadata_size", _LIBRARY_METADATA),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.max_allowed_incoming_connections", limits.connections),
            ("grpc.server_handshake_timeout_ms", _ms(limits.header_seconds)),
            ("grpc.http2.settings_timeout", _ms(limits.header_seconds)),
            # With a window that does not grow, a message that is not read yet costs 64 KiB at most.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_connection_idle_ms", _ms(limits.idle_seconds)),
            ("grpc.max_connection_age_ms", _HOUR_MS),
            ("grpc.max_connection_age_grace_ms", _GRACE_MS),
            ("grpc.keepalive_time_ms", 2 * _GRACE_MS),
            ("grpc.keepalive_timeout_ms", _GRACE_MS),
        ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _library() -> ModuleType:
    """grpcio, its loggers silenced: they log exceptions, and metadata that is no UTF-8."""
    try:
        import grpc  # type: ignore[import-untyped]  # noqa: PLC0415
    except ModuleNotFoundError:
        pass
    else:
        logging.getLogger("grpc").setLevel(logging.CRITICAL + 1)
        return grpc  # type: ignore[no-any-return]
    extra = "data-minimisation-collector[grpc]"
    raise ConfigError("E201", f"OTLP/gRPC needs grpcio: pip install '{extra}'")
