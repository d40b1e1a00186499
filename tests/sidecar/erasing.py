"""Erase people's records while a sidecar receives: the command, and a search for what is left."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collector.server.control_client import Erase
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.unpacked import every_byte

_TODAY = datetime.now(UTC)
WINDOW = (
    (_TODAY - timedelta(days=2)).strftime("%Y-%m-%d"),
    (_TODAY + timedelta(days=2)).strftime("%Y-%m-%d"),
)


def erasure(person: str, wait: float = 20) -> Erase:
    """The command that erases the person with this address."""
    return Erase("client.address", person, *WINDOW, wait)


def address(number: int) -> str:
    """The address of a person."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def event_of(person: str) -> bytes:
    """An event of a person."""
    return b'{"ip_address": "%b", "os": {"type": "linux"}}\n' % person.encode()


def left(folder: Path, *people: str) -> set[str]:
    """The addresses of which bytes are left in any file."""
    texts = wait_until(lambda: _texts(folder))
    forms = (b'%b"', b"%blinux")  # in a line, and in a row
    return {
        person
        for person in people
        if any(form % person.encode() in text for form in forms for text in texts)
    }


def _texts(folder: Path) -> list[bytes]:
    """The files of a folder; none if a file vanishes meanwhile."""
    with suppress(FileNotFoundError):
        return [every_byte(folder)]
    return []


def addresses_stored(data: Path) -> list[str]:
    """The addresses in a data directory's store."""
    path = f"file:{data / 'store.db'}?mode=ro"
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS, uri=True)) as store:
        return [row[0] for row in store.execute('SELECT "client.address" FROM conferencing')]
