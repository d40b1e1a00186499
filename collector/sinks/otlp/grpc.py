"""OTLP/gRPC: each request is a call with a deadline; the library keeps the connection.

When it is loaded, the library reads its settings from the environment, and it would write logs. A
sidecar clears the environment, and ``ingest.grpc`` silences the logs.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from collector.errors import ConfigError
from collector.ingest.grpc import library
from collector.sinks.otlp.logs import Verdict, of_code, rejected_records, retry_seconds
from collector.sinks.otlp.settings import AGENT, OtlpSettings

_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_DETAILS = "grpc-status-details-bin"
_MOST_BYTES = 1 << 17
"""The most bytes of an answer, and of its metadata."""
_GZIP, _GZIP_MAGIC = 31, b"\x1f\x8b"
"""The magic bytes of gzip cannot be confused with a message of OTLP, which begins with 0x0a."""
_NOT_OTLP = Verdict("later", "an answer that is not OTLP's")
_NO_ANSWER = Verdict("later", "no answer", cause="unreachable")


class GrpcExporter:
    """Sends requests to an endpoint. Raises ``ConfigError`` E201 if the library cannot be loaded,
    and E212 if the TLS files cannot be used."""

    def __init__(self, settings: OtlpSettings) -> None:
        self._timeout = settings.timeout
        self._library = library()
        options: list[tuple[str, int | str]] = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_metadata_size", _MOST_BYTES),
            ("grpc.primary_user_agent", AGENT),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 10_000),
        ]
        address = settings.peer.address
        if settings.peer.scheme == "https":
            credentials = _credentials(self._library, settings)
            self._channel = self._library.secure_channel(address, credentials, options)
        else:
            self._channel = self._library.insecure_channel(address, options)
        compression = self._library.Compression
        self._compression = getattr(
            compression, "Gzip" if settings.compression == "gzip" else "NoCompression"
        )
        self._call = self._channel.unary_unary(_METHOD)  # bytes in, bytes out

    def __repr__(self) -> str:
        return "<GrpcExporter>"

    def export(self, body: bytes, headers: Mapping[str, str]) -> Verdict:
        """Send a request with some metadata, and judge the answer."""
        failure: Any = None
        answer = b""
        try:
            answer = self._call(
                body,
                timeout=self._timeout,
                metadata=tuple(headers.items()),
                compression=self._compression,
            )
        except self._library.RpcError as error:
            failure = error
        except ValueError:  # the channel is closed
            return _NO_ANSWER
        if failure is not None:
            return of_code(int(failure.code().value[0]), _retry_seconds(failure))
        rejected = rejected_records(_plain(answer))
        if rejected is None:
            return _NOT_OTLP
        return Verdict("rejected" if rejected else "taken", "gRPC 0")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _plain(answer: bytes) -> bytes:
    """Decompress an answer within the limit. The library limits only the compressed bytes."""
    if not answer.startswith(_GZIP_MAGIC):
        return answer
    with suppress(zlib.error):
        return zlib.decompressobj(_GZIP).decompress(answer, _MOST_BYTES)
    return answer


def _retry_seconds(failure: Any) -> float | None:
    """Return the seconds of the RetryInfo in a status's details; ``None`` if it has none."""
    found = (
        retry_seconds(content)
        for name, content in failure.trailing_metadata() or ()
        if name == _DETAILS and isinstance(content, bytes)
    )
    return next(found, None)


def _credentials(library: Any, settings: OtlpSettings) -> Any:
    """Return the credentials of a channel: the authorities from the settings or the system, and the
    sink's own certificate. Raises ``ConfigError`` E212."""
    ca = settings.ca or _system_authorities()
    certificate, key = settings.certificate, settings.key or settings.certificate
    with suppress(OSError, ValueError):
        return library.ssl_channel_credentials(
            None if ca is None else ca.read_bytes(),
            None if key is None else key.read_bytes(),
            None if certificate is None else certificate.read_bytes(),
        )
    raise ConfigError("E212", "the files of `ca`, `certificate` and `key` must be PEM files")


def _system_authorities() -> Path | None:
    """Return the file of the system's authorities; without one, the library has its own."""
    found = ssl.get_default_verify_paths().cafile
    return Path(found) if found else None
