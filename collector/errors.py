"""One exception tree with stable codes.

A code never changes its meaning. A message says what is wrong, where, and what to do. It consists
of constants, counts, positions and the schema author's own names, never of a telemetry value or a
key that the schema does not list. ``collector.codes`` is the table of codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from collector.codes import CODES

__all__ = [
    "CAUSES",
    "CODES",
    "Cause",
    "CollectorError",
    "ConfigError",
    "ConfigFaults",
    "DeliveryError",
    "Fault",
    "InUse",
    "InputError",
    "NotNow",
    "RecheckError",
    "SandboxError",
    "SchemaError",
    "Unacceptable",
    "cause_of_status",
    "file_name",
    "is_answer",
]

Cause = Literal[
    "unreachable",
    "denied",
    "missing",
    "certificate",
    "refused",
    "full",
    "busy",
    "changed",
    "disk",
    "batch",
    "slow",
    "failed",
]
"""Why a sink fails. The log has only this word, because a server's text may quote data."""

CAUSES: tuple[Cause, ...] = get_args(Cause)

_CAUSE_OF_STATUS: dict[int, Cause] = {
    401: "denied",
    403: "denied",
    404: "missing",
    429: "busy",
    503: "busy",
    507: "full",
}

_CAUSE_OF_CODE: dict[str, Cause] = {
    "E501": "changed",
    "E503": "disk",
    "E504": "changed",
    "E507": "changed",
    "E514": "unreachable",
    "E519": "busy",
}


_ANSWER = re.compile(r"SQLSTATE [0-9A-Z]{5}|HTTP [1-5][0-9]{2}|gRPC [0-9]{1,2}").fullmatch


def is_answer(text: object) -> bool:
    """Return whether a text is the code of a server's answer: `SQLSTATE 28P01`, `HTTP 403`, or
    `gRPC 14`. Codes hold no values, so they may be logged."""
    return isinstance(text, str) and bool(_ANSWER(text))


def cause_of_status(status: int) -> Cause:
    """Return why a server did not take a request that it answered with an HTTP status."""
    return _CAUSE_OF_STATUS.get(status, "refused")


_LASTING = ("E501", "E504")
"""The codes of a store that only an operator can repair."""
_MOST_OF_NAME = 200


def file_name(path: object) -> str:
    """Name a file in a message: on one line, without control characters, and only the end of a long
    path."""
    text = str(path)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _MOST_OF_NAME else f"…{text[-_MOST_OF_NAME:]}"


class Fault(NamedTuple):
    """One fault of a schema document or a configuration, with its place (line and column count
    from 1; 0 where there are none, as in the environment)."""

    file: str
    line: int
    column: int
    field: str
    message: str
    code: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        return f"{where}{self.field + ': ' if self.field else ''}{self.message} [{self.code}]"

    @property
    def is_policy(self) -> bool:
        """Whether the document asks for something that policy forbids."""
        return self.code.startswith("E3")

    @property
    def is_absent(self) -> bool:
        """Whether there is no document, or its file cannot be read."""
        return self.code == "E101" and not self.field


class CollectorError(Exception):
    """Root of the tree. ``code`` is a key of ``CODES``; ``str()`` is a full sentence. ``may_pass``
    says whether a later try may succeed without a change of a setting or a file."""

    may_pass: bool = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, (type(self), self.args, self.__dict__)


def _remade(
    kind: type[CollectorError], args: tuple[object, ...], state: Mapping[str, object]
) -> CollectorError:
    """Rebuild a pickled error without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class SchemaError(CollectorError):
    """One or more schema documents are faulty; ``faults`` lists every fault."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        first = self.faults[0]
        super().__init__(first.code, first.message)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class ConfigError(CollectorError):
    """Settings, directories, keys or optional dependencies cannot be used."""


class ConfigFaults(ConfigError):
    """The sidecar's settings are faulty; ``faults`` lists every fault. ``may_pass`` is true only if
    it is true for every fault."""

    def __init__(self, faults: Iterable[Fault], *, may_pass: bool = False) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        self.may_pass: bool = may_pass
        super().__init__(self.faults[0].code, self.faults[0].message)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class NotNow(ConfigError):
    """E203, E207, E212 or E519: an address, a volume or a certificate is not available yet, the
    disk is full, or the machine is overloaded. A later start may succeed."""

    may_pass = True


class InUse(NotNow):
    """E203 or E207: another process has the directory, file or address now."""


class SandboxError(ConfigError):
    """E217: the kernel does not let the process confine itself, or the process could get out."""


class InputError(CollectorError):
    """An input cannot be read at all. A faulty event in it is only counted."""


class UsageError(InputError):
    """The caller named something that cannot be read, found or answered; the command line exits
    with 2."""


class DeliveryError(CollectorError):
    """A sink did not take a batch, and has stored nothing of it. ``cause`` says why; by default the
    code decides. ``answer`` is the code of the server's answer, such as ``HTTP 403``, or empty if
    there was none or the text is not such a code (``is_answer``)."""

    def __init__(
        self, code: str, message: str, cause: Cause | None = None, answer: str = ""
    ) -> None:
        super().__init__(code, message)
        self.cause: Cause = cause or _CAUSE_OF_CODE.get(code, "refused")
        self.answer: str = answer if is_answer(answer) else ""
        self.may_pass: bool = code not in _LASTING


class SpoolFull(DeliveryError):
    """E505: what waits for sinks leaves no room for the request."""

    def __init__(self) -> None:
        super().__init__("E505", "the spool is full: a sink does not take what waits for it")


class Overloaded(DeliveryError):
    """E425: too many requests are being filtered or stored."""

    def __init__(self, message: str) -> None:
        super().__init__("E425", message)


class NoTurn(DeliveryError):
    """E519: a sink's turn did not come, so a command was not carried out on it."""

    def __init__(self, message: str) -> None:
        super().__init__("E519", message)


class UnreadableBatch(DeliveryError):
    """E507: stored records do not have the form that they should have."""

    def __init__(self, message: str = "a spooled batch is damaged") -> None:
        super().__init__("E507", message)


class Unreachable(DeliveryError):
    """E514: a server does not answer, or refuses now. What it holds is unknown."""

    def __init__(self, message: str, cause: Cause = "unreachable", answer: str = "") -> None:
        super().__init__("E514", message, cause, answer)


class UnreadableFile(DeliveryError):
    """E507: a ``number`` of files of a lake are damaged, too large to be read, or not Collector's.
    Nothing was done to them."""

    def __init__(self, number: int = 1) -> None:
        files = "1 file" if number == 1 else f"{number} files"
        message = (
            f"{files} of the lake cannot be read within bounds, or were not written by Collector;"
        )
        super().__init__("E507", f"{message} nothing was done to them; move them away")
        self.number = number


class RecheckError(CollectorError):
    """E513: the filter of its schema cannot have made a batch. Nothing of it is kept."""

    def __init__(self, message: str) -> None:
        super().__init__("E513", message)


Refusal = Literal[
    "foreign", "version", "unauthenticated", "too_large", "malformed", "schema", "records"
]
"""Why a drain skips a message of a broker: Collector did not publish it; it has another version of
the form; its MAC is wrong or missing; it is too long; its header is malformed; its schema is not
accepted in that version; the schema's filter cannot have made its records."""


class MessageError(CollectorError):
    """E520: a drain skips a message of a broker, for a ``reason`` of a closed list. Nothing of it
    is kept."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(
            "E520",
            f"the broker delivered a message that cannot be taken ({reason}); it was skipped",
        )
        self.reason: Refusal = reason


class Unacceptable(CollectorError):
    """E511: a sink will never take the batch with the id ``batch``. It has also stored no other
    batch of the same delivery."""

    def __init__(self, batch: bytes) -> None:
        super().__init__("E511", "the sink will never take this batch")
        self.batch = batch


_KINDS: dict[str, type[CollectorError]] = {
    each.__name__: each
    for each in (UsageError, InputError, NotNow, ConfigError, DeliveryError, CollectorError)
}


def packed(error: CollectorError) -> dict[str, str]:
    """Return what another process needs to raise an error again."""
    kind = next(name for name, each in _KINDS.items() if isinstance(error, each))
    return {"kind": kind, "code": error.code, "message": error.message}


def unpacked(found: Mapping[str, str]) -> CollectorError:
    """Return an error as another process packed it."""
    return _KINDS[found["kind"]](found["code"], found["message"])
