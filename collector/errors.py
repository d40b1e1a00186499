"""One exception tree with stable codes.

A code never changes its meaning. A message says what was wrong, where, and what to do; it is made
of constants, counts, positions and the schema author's own names, never of a telemetry value or
of a key that the schema does not list.

``CODES`` is the one table of codes; ``docs/errors.md`` is checked against it by a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

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

CODES: dict[str, str] = {
    # E1xx: the form of a schema document
    "E101": "the schema file cannot be read",
    "E102": "the file is not valid YAML 1.2",
    "E103": "the same key is written twice",
    "E104": "anchors, aliases, merge keys and tags are not allowed",
    "E105": "unknown key",
    "E106": "a required key is missing",
    "E107": "the value has the wrong type",
    "E108": "the name is not well formed",
    "E109": "the version is not a semantic version",
    "E110": "unknown kind",
    "E111": "the option does not belong to this kind",
    "E112": "the number is outside its limits",
    "E113": "the list of values is faulty",
    "E114": "the alias is faulty",
    "E115": "`maximum` does not fit `parts`",
    "E116": "the pattern is outside the counted subset",
    "E117": "the pattern matches too many texts",
    "E118": "the pattern matches texts that are too long",
    "E119": "a token needs exactly one of `pattern` and `catalogue`",
    "E120": "the catalogue is not found",
    "E121": "the catalogue is faulty",
    "E122": "`minimum`, `maximum` and `step` do not fit together",
    "E123": "the prefix length of `truncate` is outside its limits",
    "E124": "the time window is not well formed",
    "E125": "the key reference is not well formed",
    "E126": "the duration is not well formed",
    "E127": "the date is not well formed",
    "E128": "the path is not well formed",
    "E129": "the path is listed twice",
    "E130": "the path is needed both for `records` and for a field",
    "E131": "the schema has no fields",
    "E132": "the purpose is not defined",
    "E133": "the list of purposes is faulty",
    "E134": "the reason says nothing",
    "E135": "the content list is faulty",
    "E136": "the test is faulty",
    "E137": "two tests have the same name",
    "E138": "the field name is reserved",
    "E139": "the legal basis is unknown",
    "E140": "no schema of that name",
    "E141": "the choice is unknown",
    "E142": "the field cannot be derived",
    "E143": "the field cannot be filled from the peer",
    "E144": "a person's choices cannot be read there",
    "E145": "a text has control characters, or characters that reverse or hide text",
    "E146": "the sentence is not written under `also_collected`",
    "E147": "the condition is not well formed",
    # E2xx: configuration and environment
    "E201": "a feature needs an optional dependency",
    "E202": "a pseudonym key cannot be resolved",
    "E203": "a file or directory cannot be used",
    "E204": "the options do not fit together",
    "E205": "the purpose is not defined in the schema",
    "E206": "the configuration file cannot be read",
    "E207": "an address cannot be listened on",
    "E208": "there is no such setting",
    "E209": "the value of a setting cannot be used",
    "E210": "an open address needs encryption and authentication",
    "E211": "settings contradict each other",
    "E212": "the files of TLS cannot be used",
    "E213": "the exporter cannot be minimised",
    "E214": "another party would receive records, and its name or purposes are not stated",
    "E215": "there is no such type of sinks",
    "E216": "a type of sinks cannot be loaded",
    "E217": "the process cannot be confined",
    "E218": "a worker does not start",
    "E219": "a database server is not as it must be",
    "E220": "a broker keeps messages for too long, or not until they are taken",
    "E221": "a setting cannot change while the sidecar runs",
    "E222": "a start or a reload would let more flow",
    "E223": "a reload did not come to its end",
    "E224": "what waits for the sink cannot be dropped",
    # E3xx: policy
    "E301": "the use is forbidden",
    "E302": "the use is unknown to the taxonomy",
    "E303": "the category is forbidden",
    "E304": "the category is unknown to the taxonomy",
    "E305": "the path reads meeting content",
    "E306": "an identifier is allowed only as a pseudonym",
    "E307": "the record is wider than `max_bits`",
    "E308": "the built-in content list cannot be shortened",
    "E309": "a third party would receive more than a law demands",
    "E310": "the name is about a person, which is not collected",
    "E311": "the pattern could spell words",
    "E312": "a text is collected under a name that says nothing of whose or what",
    "E314": "the patterns of the schema could spell words together",
    # E4xx: input
    "E401": "the input cannot be read",
    "E402": "the compressed input is damaged",
    "E403": "input was refused under --strict",
    "E404": "the field does not lead to one person",
    "E405": "the value is none that the field can have",
    "E406": "the window of time is not well formed",
    "E407": "the statement cannot be answered",
    "E408": "the statement is refused",
    "E409": "the statement takes too much",
    # E410 to E439: what senders are answered
    "E410": "the request is not well-formed HTTP/1.1",
    "E411": "authentication is missing or not accepted",
    "E412": "pages of this origin may not send",
    "E413": "there is nothing at this path",
    "E414": "the method is not taken",
    "E415": "the request took too long to arrive",
    "E416": "the body is too large",
    "E417": "the body grows too much when it is decompressed",
    "E418": "the content type is not taken",
    "E419": "the content encoding is not taken",
    "E420": "the compressed body is damaged",
    "E421": "requests for this host are not answered",
    "E422": "the body cannot be decoded",
    "E423": "the headers are too large",
    "E424": "there are too many connections",
    "E425": "there are too many requests at once",
    "E426": "the events could not be kept",
    "E427": "the collector is stopping",
    "E428": "the collector failed on a request",
    "E429": "the records are of another schema",
    "E430": "the key of the request is not well formed",
    "E431": "the request becomes too many events or too many bytes",
    # E432 and E433: what is asked of recordings
    "E432": "there is no such recording or track",
    "E433": "the recorder refused",
    # E434 to E436: more requests that are refused
    "E434": "the collector has no such schema",
    "E435": "the idempotency key was used for another body",
    "E436": "the spool has no room for the events",
    # E5xx: delivery
    "E501": "the store cannot be opened",
    "E502": "the store has an unknown format",
    "E503": "the store did not take the batch",
    "E504": "the store's table does not fit the schema",
    "E505": "the spool is full: a sink does not take what waits",
    "E506": "the disk of the spool takes nothing",
    "E507": "the ledger cannot be read",
    "E508": "the file did not take the batch",
    "E509": "a spooled batch cannot be read",
    "E510": "the sidecar did not take the records",
    "E511": "the sink will never take the batch",
    "E512": "the recorder does not answer, or cannot do it now",
    "E513": "a worker handed over what its filter cannot have made",
    "E514": "the server does not answer, or refuses it now",
    "E515": "too much is being stored at once",
    "E518": "a sink's turn does not come",
    "E519": "the sidecar did not carry out a command",
    "E520": "a message of a broker is none that is taken",
    "E521": "a file of the lake cannot be read",
}


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
"""Why a sink fails, in a word of ours: the log says no more, as a server's text may quote data."""

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
    "E502": "changed",
    "E503": "disk",
    "E504": "changed",
    "E508": "disk",
    "E514": "unreachable",
    "E518": "busy",
    "E521": "changed",
}


_ANSWER = re.compile(r"SQLSTATE [0-9A-Z]{5}|HTTP [1-5][0-9]{2}|gRPC [0-9]{1,2}").fullmatch


def is_answer(text: object) -> bool:
    """Return whether a text is the code of a server's answer: `SQLSTATE 28P01`, `HTTP 403`, or
    `gRPC 14`. Codes hold no values, so they may be logged."""
    return isinstance(text, str) and bool(_ANSWER(text))


def cause_of_status(status: int) -> Cause:
    """Return why a server did not take a request that it answered with an HTTP status."""
    return _CAUSE_OF_STATUS.get(status, "refused")


_LASTING = ("E501", "E502", "E504")
"""The codes of a store that only an operator can mend."""
_MOST_OF_NAME = 200


def file_name(path: object) -> str:
    """Name a file in a message: on one line, without control characters, its end if it is long."""
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
        """Whether the document asks for something that is not collected here."""
        return self.code.startswith("E3")

    @property
    def is_absent(self) -> bool:
        """Whether there is no document: it is not found, or its file cannot be read."""
        return self.code in ("E101", "E140") and not self.field


class CollectorError(Exception):
    """Root of the tree. ``code`` is a key of ``CODES``; ``str()`` is a full sentence. ``may_pass``
    says whether the same may succeed later, though nobody changes a setting or a file."""

    may_pass: bool = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


class SchemaError(CollectorError):
    """E1xx and E3xx: one or more schema documents are faulty; ``faults`` lists every fault."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        first = self.faults[0]
        super().__init__(first.code, first.message)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)

    def __reduce__(self) -> tuple[type[SchemaError], tuple[tuple[Fault, ...]]]:
        return (SchemaError, (self.faults,))


class ConfigError(CollectorError):
    """E2xx: settings, directories, keys or optional dependencies are not usable."""


class ConfigFaults(ConfigError):
    """E2xx: the sidecar's settings are faulty; ``faults`` lists every fault. ``may_pass`` is true
    only if it is true of each."""

    def __init__(self, faults: Iterable[Fault], *, may_pass: bool = False) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        self.may_pass: bool = may_pass
        super().__init__(self.faults[0].code, self.faults[0].message)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)

    def __reduce__(self) -> tuple[object, ...]:
        return (ConfigFaults, (self.faults,), {"may_pass": self.may_pass})


class NotNow(ConfigError):
    """E203, E207, E212 or E218: an address, a volume or a certificate is not to be had yet, the
    disk is full, or the machine is overloaded. A later start may succeed."""

    may_pass = True


class InUse(NotNow):
    """E203 or E207: another process has the directory, file or address now."""


class SandboxError(ConfigError):
    """E217: the kernel does not let the process confine itself, or it could get out then."""


class InputError(CollectorError):
    """E4xx: input that cannot be read at all, as opposed to events, which are counted."""


class UsageError(InputError):
    """What the caller named cannot be read, found or answered: the command line exits with 2."""


class DeliveryError(CollectorError):
    """E5xx: a sink did not take a batch. The sink has stored nothing of it. ``cause`` is the word
    for why; that of the code, where none is given. ``answer`` is the code of the server's answer,
    such as ``HTTP 403``; "" if there was none, or the text is no such code (``is_answer``)."""

    def __init__(
        self, code: str, message: str, cause: Cause | None = None, answer: str = ""
    ) -> None:
        super().__init__(code, message)
        self.cause: Cause = cause or _CAUSE_OF_CODE.get(code, "refused")
        self.answer: str = answer if is_answer(answer) else ""
        self.may_pass: bool = code not in _LASTING

    def __reduce__(self) -> tuple[type[DeliveryError], tuple[object, ...]]:
        return (DeliveryError, (self.code, self.message, self.cause, self.answer))


class SpoolFull(DeliveryError):
    """E505: a request does not fit beside what waits for sinks."""

    def __init__(self) -> None:
        super().__init__("E505", "the spool is full: a sink does not take what waits for it")

    def __reduce__(self) -> tuple[type[SpoolFull], tuple[()]]:
        return (SpoolFull, ())


class Overloaded(DeliveryError):
    """E515: too many requests are being filtered or stored."""

    def __init__(self, message: str) -> None:
        super().__init__("E515", message)

    def __reduce__(self) -> tuple[type[Overloaded], tuple[str]]:
        return (Overloaded, (self.message,))


class NoTurn(DeliveryError):
    """E518: a sink's turn did not come, so a command was not carried out on it."""

    def __init__(self, message: str) -> None:
        super().__init__("E518", message)

    def __reduce__(self) -> tuple[type[NoTurn], tuple[str]]:
        return (NoTurn, (self.message,))


class UnreadableBatch(DeliveryError):
    """E509: records that were stored are not of the form that they should have."""

    def __init__(
        self, message: str = "a spooled batch is not of the form that it should have"
    ) -> None:
        super().__init__("E509", message)

    def __reduce__(self) -> tuple[type[UnreadableBatch], tuple[str]]:
        return (UnreadableBatch, (self.message,))


class Unreachable(DeliveryError):
    """E514: a server does not answer, or does not take or show anything now. What it holds is not
    known."""

    def __init__(self, message: str, cause: Cause = "unreachable", answer: str = "") -> None:
        super().__init__("E514", message, cause, answer)

    def __reduce__(self) -> tuple[type[Unreachable], tuple[str, Cause, str]]:
        return (Unreachable, (self.message, self.cause, self.answer))


class UnreadableFile(DeliveryError):
    """E521: a ``number`` of files of a lake are none of ours, damaged, or beyond the bounds within
    which they are read. Nothing was done to them."""

    def __init__(self, number: int = 1) -> None:
        files = "a file" if number == 1 else f"{number} files"
        message = f"nothing was done to {files} of the lake that cannot be read within bounds"
        super().__init__("E521", f"{message} or bear no mark of ours: look there, and remove them")
        self.number = number

    def __reduce__(self) -> tuple[type[UnreadableFile], tuple[int]]:
        return (UnreadableFile, (self.number,))


class RecheckError(CollectorError):
    """E513: a batch is none that the filter of its schema makes. Nothing of it is kept."""

    def __init__(self, message: str) -> None:
        super().__init__("E513", message)

    def __reduce__(self) -> tuple[type[RecheckError], tuple[str]]:
        return (RecheckError, (self.message,))


Refusal = Literal[
    "foreign", "version", "unauthenticated", "too_large", "malformed", "schema", "records"
]
"""Why a message of a broker is none that is taken: it is no message of ours; of another version of
the form; its MAC is wrong or missing; it is longer than any; its header is none; its schema is not
accepted in that version; its records are none that the schema's filter makes."""


class MessageError(CollectorError):
    """E520: a message of a broker is none that a drain takes, for a ``reason`` of a closed list.
    Nothing of it is kept."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__("E520", f"a message of the broker is none that is taken: {reason}")
        self.reason: Refusal = reason

    def __reduce__(self) -> tuple[type[MessageError], tuple[Refusal]]:
        return (MessageError, (self.reason,))


class Unacceptable(CollectorError):
    """E511: a sink will never take a batch, which ``batch`` names by its id. The sink has stored
    none of the batches that were delivered with it."""

    def __init__(self, batch: bytes) -> None:
        super().__init__("E511", "the sink will never take this batch")
        self.batch = batch

    def __reduce__(self) -> tuple[type[Unacceptable], tuple[bytes]]:
        return (Unacceptable, (self.batch,))
