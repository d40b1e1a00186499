"""Receive LiveKit's webhooks, check their signature, and emit what the schema admits.

LIVEKIT_API_KEY=key LIVEKIT_API_SECRET=secret python webhooks.py livekit.yaml --port 8080
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import signal
from base64 import b64decode, urlsafe_b64decode
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Any

from collector import Collector

MOST_BYTES = 1 << 20
SKEW_SECONDS = 60.0


def is_signed(token: str, body: bytes, key: str, secret: str) -> bool:
    """Return whether LiveKit has signed a body: a JWT (HS256) of our key, with its SHA-256."""
    try:
        head, claims, signature = token.split(".")
        expected = hmac.digest(secret.encode(), f"{head}.{claims}".encode(), "sha256")
        if not hmac.compare_digest(_decoded(signature), expected):
            return False
        if json.loads(_decoded(head))["alg"] != "HS256":
            return False
        said: dict[str, Any] = json.loads(_decoded(claims))
        digest = b64decode(said["sha256"])
        is_now = said.get("nbf", 0) - SKEW_SECONDS <= time() <= said["exp"] + SKEW_SECONDS
    except (ValueError, KeyError, TypeError):
        return False
    return said.get("iss") == key and is_now and digest == hashlib.sha256(body).digest()


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Webhooks(BaseHTTPRequestHandler):
    """Takes a webhook, and says nothing about it but whether it was signed."""

    telemetry: Collector
    key, secret = "", ""
    timeout = 10.0

    def do_POST(self) -> None:
        """Emit the body as it came: the filter parses it, and nothing else does."""
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > MOST_BYTES:
            return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(size))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not is_signed(token, body, self.key, self.secret):
            return self._answer(HTTPStatus.UNAUTHORIZED)
        self.telemetry.emit(body)
        return self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing of a request."""


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schema")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Webhooks.key = os.environ["LIVEKIT_API_KEY"]
    Webhooks.secret = os.environ["LIVEKIT_API_SECRET"]
    with (
        Collector(given.schema) as Webhooks.telemetry,
        ThreadingHTTPServer(("127.0.0.1", given.port), Webhooks) as server,
        suppress(KeyboardInterrupt),
    ):
        print(f"webhooks at http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
