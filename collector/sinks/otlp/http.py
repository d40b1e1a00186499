"""OTLP/HTTP: requests as protobuf, each with one deadline."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from time import monotonic

from collector.http_client import HttpClient, Response, tls
from collector.sinks.otlp.logs import Verdict, of_status, rejected_records
from collector.sinks.otlp.settings import AGENT, OtlpSettings

_PATH = "/v1/logs"
_FASTEST, _GZIP = 1, 31
_FIXED = {"Content-Type": "application/x-protobuf", "User-Agent": AGENT}
_NO_ANSWER = Verdict("later", "no answer in time", cause="unreachable")
_NOT_OTLP = Verdict("later", "an answer that is not OTLP's")
_PROTOBUF = "application/x-protobuf"


class HttpExporter:
    """Sends requests to an endpoint. Raises ``ConfigError`` E212 for unusable TLS files."""

    def __init__(self, settings: OtlpSettings) -> None:
        self._settings, peer = settings, settings.peer
        self._deadline = math.inf
        is_secured = peer.scheme == "https"
        context = tls(settings.ca, settings.certificate, settings.key) if is_secured else None
        self._client = HttpClient(peer, context, lambda: self._deadline)
        self._target = f"{peer.prefix}{_PATH}"
        is_packed = settings.compression == "gzip"
        self._headers = _FIXED | ({"Content-Encoding": "gzip"} if is_packed else {})

    def __repr__(self) -> str:
        return "<HttpExporter>"

    def export(self, body: bytes, headers: Mapping[str, str]) -> Verdict:
        """Send a request with additional headers, and judge the response."""
        if self._settings.compression == "gzip":
            packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, _GZIP)
            body = packer.compress(body) + packer.flush()
        self._deadline = monotonic() + self._settings.timeout
        response = self._client.request("POST", self._target, {**self._headers, **headers}, body)
        if response is None:
            return _NO_ANSWER
        if 200 <= response.status < 300:
            return _judged(response)
        return of_status(response.status, response.headers.get("retry-after", ""))

    def close(self) -> None:
        """Close the connection."""
        self._client.release()


def _judged(response: Response) -> Verdict:
    """Judge a successful response, which must be empty or a message of OTLP. A proxy that asks for
    a login may answer with a page, and has taken nothing."""
    answer = f"HTTP {response.status}"
    if not response.body:
        return Verdict("taken", answer)
    form = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_plain = response.headers.get("content-encoding", "identity").lower() == "identity"
    rejected = rejected_records(response.body) if form == _PROTOBUF and is_plain else None
    if rejected is None:
        return _NOT_OTLP
    return Verdict("rejected" if rejected else "taken", answer)
