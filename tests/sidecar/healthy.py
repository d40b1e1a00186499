"""An honest sender in its own process: small batches of lines, one after the other.

``python -m tests.sidecar.healthy PORT SCHEMA`` sends until its stdin is closed. It prints an empty
line when the first batch is acknowledged. At the end it prints as JSON when each batch was
acknowledged (``time.monotonic()``, one clock for all processes) and how many seconds it took. It
ends with an error if a batch was not acknowledged.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.deadline import WAIT_SECONDS

Times = list[tuple[float, float]]

_EVENT = b'{"ip_address":"203.0.113.7","device_type":"phone","os":{"type":"linux"},"chat":[]}\n'
BATCH = 10
_PAUSE_SECONDS = 0.004


def main(port: int, schema: str) -> None:
    """Send, and print the times."""
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    headers = {"Content-Type": "application/x-ndjson"}
    times: Times = []
    while not over.wait(_PAUSE_SECONDS):
        began = time.monotonic()
        connection.request("POST", "/v1/events", _EVENT * BATCH, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        ended = time.monotonic()
        times.append((ended, ended - began))
        assert answer.status == 200, said
        if len(times) == 1:
            print(flush=True)
        wanted = BATCH if schema == "conferencing" else said["admitted"]
        assert said["admitted"] == wanted, said
    print(json.dumps(times))


@contextmanager
def honest(port: int, schema: str = "conferencing") -> Iterator[Times]:
    """Yield when its batches were acknowledged and how long they took; the block's end fills this
    in. One batch was acknowledged before the block."""
    times: Times = []
    command = [sys.executable, "-m", "tests.sidecar.healthy", str(port), schema]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield times
    finally:
        said, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, "an honest batch was not acknowledged"
    times += map(tuple, json.loads(said))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
