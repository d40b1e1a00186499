"""The verdicts of the last check, recorded in the data directory (``verdicts.json``).

A running sidecar shows them with their age. The file has sentences, verdicts, reasons (names and
counts only) and times. It is replaced as a whole, so readers need no lock. A verdict counts only
for the configuration and the sentence that were checked; for others ``recorded`` returns
``unproven``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec

from collector.claims.document import Claim
from collector.claims.promises import Promise, promises
from collector.config import Config
from collector.errors import DeliveryError
from collector.files import write_private
from collector.routing import Flows, changes
from collector.schema.review import ApprovedCopy

FILE_NAME = "verdicts.json"
_MOST_BYTES = 8 << 20
"""A longer file is not read, and counts as one without verdicts."""
_DAYS = 2
"""Ages of at least this many days are stated in days."""
_NEVER = "Never checked."
_CHANGED = "The configuration has changed since the last check."
_RUN = "Run `collector claims` with the sidecar's configuration."


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A promise with its verdict. ``at`` is the time of the verdict, and ``configuration`` the
    digest of what was checked."""

    promise: Promise
    at: datetime
    configuration: str


_decode = msgspec.json.Decoder(list[Recorded]).decode


def fingerprint(config: Config, flows: Iterable[Flows], copies: Iterable[ApprovedCopy]) -> str:
    """Return the digest of what verdicts depend on: schemas, destinations, approvals, the sandbox
    and whether there is a recorder."""
    matrices = [*flows]
    facts = (
        changes.document(*matrices) if matrices else b"",
        *(matrix.schema.digest.encode() for matrix in matrices),
        *(copy.state.encode() for copy in copies),
        config.sandbox.encode(),
        str(config.recorder.enabled).encode(),
    )
    return sha256(b"\n".join(facts)).hexdigest()


def record(data: Path, every: Iterable[Promise], configuration: str, now: datetime) -> None:
    """Record verdicts, and keep those of other claims. A lock keeps other processes from recording
    at the same time. Raises ``DeliveryError`` E506 if the directory cannot be written, and E503."""
    from collector.sinks.record_files import locked_directory  # noqa: PLC0415 - not for a page

    at = now.astimezone(UTC).replace(microsecond=0)
    part = data / f"{FILE_NAME}.part"
    try:
        with locked_directory(data):
            found = {each.promise.id: each for each in _read(data / FILE_NAME)}
            found |= {each.id: Recorded(each, at, configuration) for each in every}
            part.unlink(missing_ok=True)  # a killed process left it
            write_private(part, [_encoded([*found.values()])])
            part.replace(data / FILE_NAME)
    except OSError:
        raise DeliveryError("E506", "the verdicts cannot be recorded there") from None


def recorded(
    data: Path, claims: Mapping[str, Claim], configuration: str, now: datetime
) -> tuple[tuple[Promise, ...], dict[str, datetime]]:
    """Return each claim with its last recorded verdict and its age, and the time of each verdict.

    A claim is ``unproven`` without a verdict, or if the verdict is for another configuration or
    another sentence, or is an hour or more later than ``now``. Raises nothing: any other file has
    no verdicts.
    """
    latest = now + timedelta(hours=1)  # the page states whole hours
    found = {each.promise.id: each for each in _read(data / FILE_NAME) if each.at < latest}
    every, times = list[Promise](), dict[str, datetime]()
    for promise in promises(claims, {}):
        last, reason = found.get(promise.id), _NEVER
        if promise.verdict == "missing":
            every.append(promise)
            continue
        if last is not None and last.promise.sentence == promise.sentence:
            times[promise.id] = last.at
            age = _age(now, last.at)
            if last.configuration == configuration:
                checked = f"{promise.checked} {age}"
                every.append(replace(last.promise, checked=checked, limits=promise.limits))
                continue
            reason = f"{_CHANGED} {age}"
        every.append(replace(promise, verdict="unproven", reason=reason, advice=_RUN))
    return tuple(every), times


def _age(now: datetime, at: datetime) -> str:
    """Say how long ago something was checked, in whole hours or days."""
    hours = int((now - at).total_seconds() // 3600)
    if hours < 1:
        return "Checked less than an hour ago."
    if hours < _DAYS * 24:
        return f"Checked {hours} hour{'' if hours == 1 else 's'} ago."
    return f"Checked {hours // 24} days ago."


def has_only_verdicts(path: Path) -> bool:
    """Return whether a file has verdicts and nothing else."""
    found = _read(path)
    return bool(found) and _text(path) == _encoded(found)


def _encoded(found: list[Recorded]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(found), indent=1)


def _text(path: Path) -> bytes:
    """Return the contents of a file; nothing if it is absent, unreadable or too long."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            return text if len(text) <= _MOST_BYTES else b""
    return b""


def _read(path: Path) -> list[Recorded]:
    """Return the verdicts of a file; none if it is absent or has another form."""
    with suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
        found = _decode(_text(path))
        return found if all(each.at.tzinfo is not None for each in found) else []
    return []
