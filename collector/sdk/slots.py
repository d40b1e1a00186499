"""A place in a spool directory for each process: spools belong to one process at a time.

Processes that run at once (workers, a tool started twice) get the directories ``0``, ``1`` and so
on. What a process left behind is delivered by the next one, whichever of them it gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from collector.contracts import Layout
from collector.errors import ConfigError
from collector.spool import FILE_NAME, Spool
from collector.spool.lock import InUse

__all__ = ["claim", "left_behind"]

_MOST = 1_000


def claim(root: Path, limit: int, sink: str, layouts: Iterable[Layout]) -> list[Spool]:
    """The spool of the first free place, and those of other free places that hold something.

    Raises ``ConfigError`` E203 when the directory cannot be used, or has no free place.
    """
    found: list[Spool] = []
    try:
        for number in range(_MOST):
            place = root / str(number)
            if found and not (place / FILE_NAME).exists():
                if not place.exists():
                    break
                continue
            spool = _free(place, limit, sink, layouts)
            if spool is None:
                continue
            if found and not spool.depth():
                spool.close()
            else:
                found.append(spool)
    except BaseException:
        for spool in found:
            spool.close()
        raise
    if found:
        return found
    raise ConfigError("E203", "all places of the spool's directory are in use")


@contextmanager
def left_behind(root: Path, limit: int, sink: str) -> Iterator[list[Spool]]:
    """The spools that no process has open. Raises ``ConfigError`` E203 when one cannot be used."""
    with ExitStack() as stack:
        places = [place for place in root.glob("[0-9]*") if (place / FILE_NAME).exists()]
        found = (_free(place, limit, sink, ()) for place in sorted(places))
        yield [stack.enter_context(spool) for spool in found if spool is not None]


def _free(place: Path, limit: int, sink: str, layouts: Iterable[Layout]) -> Spool | None:
    try:
        return Spool(place / FILE_NAME, limit=limit, sinks=[sink], layouts=layouts)
    except InUse:
        return None
