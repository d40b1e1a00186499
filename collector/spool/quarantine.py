"""Damaged files that were set aside. What could be read of them was taken over when they were; what
else they hold nobody can tell, so they are data like the rest, and have their time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from collector.errors import ConfigError
from collector.spool.recover import DAMAGED

__all__ = ["aside", "discard"]

_STAMP = "%Y%m%dT%H%M%SZ"
_LENGTH = len("20261124T102030Z")


def aside(spool: Path) -> Iterator[tuple[Path, datetime]]:
    """The files that were set aside for a spool's file, and when: nothing in them was received
    later than that."""
    for path in sorted(spool.parent.glob(f"{spool.name}{DAMAGED}*")):
        stamp = path.name.removeprefix(f"{spool.name}{DAMAGED}")[:_LENGTH]
        with suppress(FileNotFoundError):
            yield path, _moment(stamp) or datetime.fromtimestamp(path.stat().st_mtime, UTC)


def discard(spool: Path, *, since: datetime | None = None, until: datetime | None = None) -> int:
    """Delete those that were set aside at or after a moment, or before one; how many files it
    were. Raises ``ConfigError`` E203 when some cannot be deleted; all others are."""
    number, is_whole = 0, True
    for path, moment in aside(spool):
        if (since is None or moment >= since) and (until is None or moment < until):
            try:
                path.unlink(missing_ok=True)
                number += 1
            except OSError:
                is_whole = False
    if not is_whole:
        raise ConfigError("E203", "a damaged file that was set aside cannot be deleted; look at it")
    return number


def _moment(stamp: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    return None
