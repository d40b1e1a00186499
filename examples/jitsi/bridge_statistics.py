"""Ask a Jitsi Videobridge for its statistics again and again, and emit what the schema admits.

python bridge_statistics.py jitsi.yaml --url http://127.0.0.1:8080/colibri/stats --every 10
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import suppress
from http.client import HTTPException
from time import sleep
from urllib.request import urlopen

from collector import Collector

MOST_BYTES = 1 << 20
SECONDS = 5.0


def main() -> None:
    """Run until a signal comes, or as often as ``--times`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schema")
    parser.add_argument("--url", default="http://127.0.0.1:8080/colibri/stats")
    parser.add_argument("--every", type=float, default=10.0, help="seconds")
    parser.add_argument("--times", type=int, default=sys.maxsize)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Collector(given.schema) as telemetry, suppress(KeyboardInterrupt):
        for number in range(given.times):
            sleep(given.every if number else 0)
            try:
                with urlopen(given.url, timeout=SECONDS) as answer:  # noqa: S310 - the operator's
                    telemetry.emit(answer.read(MOST_BYTES))
            except (OSError, HTTPException):
                print("the bridge does not answer; asking again", file=sys.stderr)
        print(telemetry.tally().as_dict())


if __name__ == "__main__":
    main()
