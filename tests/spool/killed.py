"""A process that puts numbers into a spool and drains them into a file, until it is killed.

It says ``>n`` before it puts a number and ``<n`` when that is acknowledged, on stdout.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from collector.errors import DeliveryError
from collector.filter.stored import read
from collector.sinks.ndjson import NdjsonFile
from collector.spool import Spool
from tests.deadline import WAIT_SECONDS
from tests.spool.make import entry

SINKS = ("file", "slow")
ROTATE = 20_000


def say(mark: str, number: int) -> None:
    os.write(1, f"{mark}{number}\n".encode())


def send(spool: Spool, number: int) -> Future[bool]:
    """Put a number under a key of its own, beside something that was rejected."""
    return spool.put(entry(number, rejected={"malformed": 1}), key=number.to_bytes(16))


def put(spool: Spool, first: int, step: int) -> None:
    """Numbers from one on, each when the one before is acknowledged, or refused."""
    for number in range(first, first + 1_000_000, step):
        say(">", number)
        try:
            send(spool, number).result(WAIT_SECONDS)
        except DeliveryError:
            continue
        say("<", number)


def drain(spool: Spool, folder: Path, seconds: float = 0.05) -> None:
    """Into the file, to its end or for ever."""
    with NdjsonFile(folder / "out.ndjson", rotate=ROTATE, keep=1000) as file:
        while True:
            taken = spool.after("file", 8)
            for sequence, spooled in taken:
                file.deliver(read(spooled))
                spool.delivered("file", sequence)
            if not taken and not spool.wait("file", seconds) and seconds == 0:
                return


if __name__ == "__main__":
    place, start = Path(sys.argv[1]), int(sys.argv[2])
    kept = Spool(place / "spool.db", sinks=SINKS)
    Thread(target=drain, args=(kept, place), daemon=True).start()
    threads = [Thread(target=put, args=(kept, start + lane, 4), daemon=True) for lane in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
