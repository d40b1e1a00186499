"""Send an event of a made-up client once a second, with a chat line that is never kept."""

from __future__ import annotations

import json
import os
import random
import sys
from time import sleep
from urllib.request import Request, urlopen

ENDPOINT = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
SYSTEMS = ("android", "darwin", "ios", "linux", "windows")


def send(rng: random.Random) -> None:
    """Send one event. Raises ``OSError`` if nothing receives it."""
    event = {
        "ip": f"203.0.113.{rng.randrange(1, 255)}",
        "os": {"type": rng.choice(SYSTEMS)},
        "device": {"type": rng.choice(("phone", "laptop", "tablet", "fridge"))},
        "chat": [{"text": "see you on Monday"}],
    }
    headers = {"Content-Type": "application/json"}
    request = Request(f"{ENDPOINT}/v1/events", json.dumps(event).encode(), headers)  # noqa: S310
    urlopen(request, timeout=5).close()  # noqa: S310 - of the configuration


def main() -> None:
    """Send until the end, or as often as the first argument says."""
    rng = random.Random()  # noqa: S311 - nothing is secret
    times = int(sys.argv[1]) if len(sys.argv) > 1 else sys.maxsize
    for _ in range(times):
        try:
            send(rng)
        except OSError:
            print("nothing receives yet", file=sys.stderr)
        sleep(1)


if __name__ == "__main__":
    main()
