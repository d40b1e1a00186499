"""The client side of the control socket: commands, and the sidecar's answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any

import msgspec

from collector.backoff import Backoff
from collector.control_socket import exchange
from collector.errors import DeliveryError, InUse, unpacked
from collector.spool.lock import check_lock

_TRIES, _FIRST_PAUSE, _LONGEST_PAUSE = 4, 0.2, 3.0
_STATUS_SECONDS = 5.0


class _Command(msgspec.Struct, tag_field="command", forbid_unknown_fields=True, frozen=True):
    """A command: one JSON object."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class _OfPerson(_Command, frozen=True):
    name: str
    value: str
    since: str
    until: str
    wait: float


class Erase(_OfPerson, tag="subject erase", frozen=True):
    """Delete what is stored of a person."""


class Object(_OfPerson, tag="subject object", frozen=True):
    """Delete a person's data that is only for optional purposes."""


class Prune(_Command, tag="store prune", frozen=True):
    """Delete what is older than its retention."""

    wait: float


class Drop(_Command, tag="store drop", frozen=True):
    """Delete what waits for a removed sink, or say how much that is."""

    sink: str
    is_dry_run: bool = False


class Redeliver(_Command, tag="store redeliver", frozen=True):
    """Deliver batches again that were set aside for one sink or for all."""

    sink: str | None = None


class Reload(_Command, tag="config reload", frozen=True):
    """Read the configuration again, and put it into force."""

    allow_widening: bool = False


class ExplainLive(_Command, tag="explain live", frozen=True):
    """Watch events for some seconds, at most a minute, and say why they are rejected and fields
    dropped."""

    seconds: float


class Status(_Command, tag="status", frozen=True):
    """Return the status of the sidecar."""


class StatusAnswer(msgspec.Struct, frozen=True):
    """The status of the sidecar, in names and counts."""

    ready: bool
    schemas: list[str]
    events: dict[str, dict[str, Any]]
    checks: dict[str, str]
    workers: dict[str, int]
    spool: dict[str, Any]
    sinks: dict[str, dict[str, Any]]
    absent: dict[str, dict[str, Any]]


class _Failed(msgspec.Struct, frozen=True):
    code: str
    message: str


_decode = msgspec.json.Decoder(StatusAnswer).decode
Command = Erase | Object | Prune | Drop | Redeliver | Reload | ExplainLive | Status


def ask(data: Path, command: Command) -> dict[str, Any] | None:
    """Have the sidecar of a data directory carry out a command; return ``None`` if none listens
    there. If the sidecar ends meanwhile, give the command to the next one.

    Raises ``ConfigError``, ``InputError`` or ``DeliveryError`` as the sidecar did, and
    ``DeliveryError`` E519 if none has answered after a few tries. The same command then does the
    rest later.
    """
    backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    for _ in range(_TRIES):
        answer = exchange(data, msgspec.json.encode(command) + b"\n")
        if answer is None:
            return None
        if answer.endswith(b"\n"):
            found: dict[str, Any] = msgspec.json.decode(answer)
            if "code" in found:
                raise unpacked(found)
            return found
        sleep(backoff.pause())
    message = "the sidecar refused the command, or ended before it was done; do it again"
    raise DeliveryError("E519", message)


def no_sidecar(data: Path) -> DeliveryError:
    """Return the error for a command that needs a sidecar when none runs."""
    message = f"no sidecar runs with data directory {data}; name another one with `--data`"
    return DeliveryError("E519", message)


def status(data: Path) -> dict[str, Any] | None:
    """Return the status of the sidecar of a data directory; ``None`` if none runs there, because
    nothing, or something else, listens at its socket.

    Raises ``DeliveryError`` E519 if it does not answer within five seconds, or cannot tell.
    """
    answer = exchange(data, msgspec.json.encode(Status()) + b"\n", _STATUS_SECONDS)
    if answer is None:
        return None
    with suppress(msgspec.MsgspecError):
        _decode(answer)
        found: dict[str, Any] = msgspec.json.decode(answer)
        return found
    with suppress(msgspec.MsgspecError):
        failed = msgspec.json.decode(answer, type=_Failed)
        raise DeliveryError("E519", failed.message)
    try:
        check_lock(data)
    except InUse:
        message = (
            f"the sidecar runs, but does not answer within {_STATUS_SECONDS:g} s: look at its log"
        )
        raise DeliveryError("E519", message) from None
    return None
