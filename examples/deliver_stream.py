"""Deliver what a media server writes to a pipe to a recorder, as one track.

    ffmpeg ... -f mpegts pipe:1 | python examples/deliver_stream.py http://127.0.0.1:4320 \
        --recording ID --track mixed-1 --kind video --owner mixed --format mpegts \
        --token "collector recording token --key platform.pem --meeting M --role media --subject m1"

A second of content becomes a chunk. A refusal throws the chunk away: until the recorder takes one
of filler (silence, or null packets of MPEG-TS), everything is thrown away, and what arrives within
``--settle`` seconds after that is too, since it may have been captured before. Ends with the pipe
(exit 0), or when the recording does or the track was destroyed (exit 3).
"""

from __future__ import annotations

import argparse
import json
import select
import shlex
import subprocess
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from os import read
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

FORMATS = {
    "pcm": (2, bytes(3200)),
    "mpegts": (188, b"\x47\x1f\xff\x10" + b"\xff" * 184),
}
"""For each format: the size of its unit in bytes, and filler, which says nothing."""
_WAIT = {"announced", "paused", "pending"}
_AGAIN = (429, 503, 507)
_TOKEN_SECONDS = 200.0
_MOST_BYTES = 1 << 20
_PIECE = 64 << 10


class Track:
    """The track at the recorder: deliver chunks in order, each until it is answered."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.place = urlsplit(arguments.recorder)
        self.path = f"/v1/recordings/{arguments.recording}/tracks/{arguments.track}/chunks"
        self.about = {"Collector-Kind": arguments.kind, "Collector-Owner": arguments.owner}
        self.command = shlex.split(arguments.token)
        self.number, self.token, self.renewed = 0, "", -_TOKEN_SECONDS

    def deliver(self, chunk: bytes) -> str:
        """Deliver the next chunk; return an empty text, or the code by which it was refused."""
        while True:
            status, answer = self.put(chunk)
            if status == 201:
                self.number = answer["next"]
                return ""
            code = str(answer.get("error", {}).get("code", "unavailable"))
            if code == "next":  # the track is there already: go on where it ends
                self.number = answer["error"]["next"]
            elif code == "expired":
                self.renewed = -_TOKEN_SECONDS
            elif status in _AGAIN:
                sleep(0.2)
            else:
                return code

    def put(self, chunk: bytes) -> tuple[int, Any]:
        """Send the next chunk once; an answer that is lost is one that asks to come again."""
        if monotonic() - self.renewed > _TOKEN_SECONDS:
            done = subprocess.run(self.command, capture_output=True, text=True, check=True)  # noqa: S603
            self.token, self.renewed = done.stdout.strip(), monotonic()
        kind = HTTPSConnection if self.place.scheme == "https" else HTTPConnection
        connection = kind(self.place.netloc, timeout=10)
        headers = {**self.about, "Authorization": f"Bearer {self.token}"}
        try:
            connection.request("PUT", f"{self.path}/{self.number}", chunk, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, HTTPException, ValueError):
            return 503, {}
        finally:
            connection.close()


def arriving(source: int, seconds: float) -> bytes | None:
    """Return what arrives within that time, at most 1 MiB, and what is there by then, also where
    this process was held up meanwhile; ``None`` at the end of the pipe."""
    found, end = bytearray(), monotonic() + seconds
    while len(found) < _MOST_BYTES:
        if not select.select([source], [], [], max(0.0, end - monotonic()))[0]:
            break
        piece = read(source, min(_PIECE, _MOST_BYTES - len(found)))
        if not piece:
            return bytes(found) or None
        found += piece
    return bytes(found)


def run(track: Track, source: int, unit: int, filler: bytes, settle: float) -> int:
    """Deliver until one of both ends; return the exit code."""
    is_taken, rest, position = False, b"", 0
    settled_at: float | None = None
    while True:
        is_settling = settled_at is not None
        left = 1.0 if settled_at is None else max(0.0, settled_at - monotonic())
        if (arrived := arriving(source, left)) is None:
            return 0
        if settled_at is not None and monotonic() >= settled_at:
            settled_at = None
        rest, position = rest + arrived, position + len(arrived)
        whole = len(rest) - position % unit  # units begin at multiples of their size
        chunk, rest = rest[:whole], rest[whole:]
        if is_settling or (is_taken and not chunk):
            continue
        code = track.deliver(chunk if is_taken else filler)
        if code and code not in _WAIT:
            print(f"the recorder refused the track: {code}", file=sys.stderr)
            return 3
        if not is_taken and not code:
            settled_at = monotonic() + settle
        is_taken = not code


def main() -> None:
    """Read arguments, and deliver stdin."""
    parser = argparse.ArgumentParser(description="Deliver stdin to a recorder, as one track.")
    parser.add_argument("recorder", help="its address, such as http://127.0.0.1:4320")
    for name in ("recording", "track", "kind", "owner", "token"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--format", choices=FORMATS, default="pcm")
    parser.add_argument("--settle", type=float, default=0.5, metavar="SECONDS")
    arguments = parser.parse_args()
    unit, filler = FORMATS[arguments.format]
    code = run(Track(arguments), sys.stdin.fileno(), unit, filler, arguments.settle)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
