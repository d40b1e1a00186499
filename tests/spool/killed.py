"""A process that puts numbers into a spool and drains them into a file, until it is killed.

It says ``>n`` before it puts a number and ``<n`` when that is acknowledged, on stdout. With the
word ``large``, each number of one of its lanes stands for a request of many records, that number
and those after it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Thread

from collector.contracts import RequestKey, Written
from collector.errors import DeliveryError
from collector.filter.stored import read
from collector.sinks.ndjson import NdjsonFile
from collector.spool import Spool
from tests.support.deadline import WAIT_SECONDS
from tests.support.make_batches import entry

SINKS = ("file", "slow")
ROTATE = 20_000
FIRST_LARGE = 10**12
LARGE = 5000
"""The numbers of large requests begin here; and the records of one."""


def say(mark: str, number: int) -> None:
    os.write(1, f"{mark}{number}\n".encode())


def send(spool: Spool, number: int) -> Written:
    """Put a number under a key of its own, beside something that was rejected."""
    key = RequestKey(number.to_bytes(16))
    return spool.put(entry(number, rejected={"malformed": 1}), key=key)


def put_large(spool: Spool, first: int) -> None:
    """Large requests, each when the one before is acknowledged."""
    for number in range(first, first + 1_000_000_000, LARGE):
        say(">", number)
        key = RequestKey(number.to_bytes(16))
        spool.put(entry(*range(number, number + LARGE)), key=key).result()
        say("<", number)


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
    if "large" in sys.argv:
        threads[0] = Thread(target=put_large, args=(kept, FIRST_LARGE + start * 1000), daemon=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
