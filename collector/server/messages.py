"""The messages between the keeper and a worker. Both lists are closed, and names travel as numbers
of closed tables: a field, a purpose, a reason, a category, an error, a module."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

from collector import errors
from collector.contracts import CATEGORIES, DROPS, MOST_BYTES, REJECTIONS
from collector.filter.sample_counts import CELLS, MOST_SEEN, VERDICTS

_MOST_BATCHES = 10_000
_HASH_BYTES = 16
MOST_SECONDS = 60.0
"""The longest time for which events are sampled."""

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
_Small = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
_Seen = Annotated[int, msgspec.Meta(ge=0, le=MOST_SEEN)]
_Hash = Annotated[bytes, msgspec.Meta(min_length=_HASH_BYTES, max_length=_HASH_BYTES)]


class ChannelError(Exception):
    """The other side has sent something that is not a message or is too large."""


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A message, or a part of one."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


# -- of a worker ----------------------------------------------------------------------------------


class PutTally(_Message):
    """A tally. ``rejected``, ``content``, and for each field's number the counts of ``dropped`` are
    in the order of their tables."""

    received: Count
    admitted: Count
    rejected: Annotated[
        list[Count], msgspec.Meta(min_length=len(REJECTIONS), max_length=len(REJECTIONS))
    ]
    dropped: Annotated[
        dict[
            _Small,
            Annotated[list[Count], msgspec.Meta(min_length=len(DROPS), max_length=len(DROPS))],
        ],
        msgspec.Meta(max_length=1 << 12),
    ]
    content: Annotated[
        list[Count], msgspec.Meta(min_length=len(CATEGORIES), max_length=len(CATEGORIES))
    ]
    bytes_in: Count
    bytes_out: Count


class PutBatch(_Message):
    """A batch: the number of its schema; its minute, since 1970; the numbers of its purposes
    (``None``: all); its tally; and the bytes of its records, which follow the message."""

    schema: _Small
    minute: _Number
    granted: Annotated[list[_Small], msgspec.Meta(max_length=1 << 10)] | None
    tally: PutTally
    size: Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]


class Put(_Message, tag=0):
    """The batches of one request to store, and the hashes of its idempotency key and, for records,
    of its body. A message with a key may have no batches."""

    number: _Number
    key: tuple[_Hash, _Hash | None] | None
    batches: Annotated[list[PutBatch], msgspec.Meta(max_length=_MOST_BATCHES)]


class Ready(_Message, tag=1):
    """The worker accepts connections; ``is_confined`` by the kernel."""

    is_confined: bool


class Failed(_Message, tag=2):
    """The worker cannot start. ``is_confined`` is false if it should be confined and is not;
    otherwise it cannot listen for gRPC."""

    is_confined: bool


class Report(_Message, tag=3):
    """The worker's counters since its start: requests by receiver, status and duration, the sums of
    their seconds, refusals by receiver and code, and how often a sender showed a token that was
    configured unhashed."""

    requests: Annotated[list[Count], msgspec.Meta(max_length=1 << 10)]
    seconds: Annotated[
        list[Annotated[float, msgspec.Meta(ge=0, le=1e15)]], msgspec.Meta(max_length=1 << 6)
    ]
    refusals: Annotated[list[Count], msgspec.Meta(max_length=1 << 8)]
    unhashed: Count


class ErrorSeen(_Message, tag=4):
    """An unexpected error: the numbers of its type and of our module, and the line; no module for a
    place elsewhere."""

    error: _Small
    module: _Small | None
    line: _Small


class LibrarySeen(_Message, tag=5):
    """A library logged a message."""

    library: _Small


class Tried(_Message, tag=6):
    """What a confined worker could do, for the check of a claim: the numbers of attempts that were
    not refused, in the main thread and in a thread started afterwards, and how many files are open.
    Serving workers never send it."""

    is_confined: bool
    main: list[_Small]
    thread: list[_Small]
    files: _Small


class SeenCounts(_Message):
    """What was seen of the events of a schema, given as a number: counts of verdicts in the order
    of their table, and for each field's number, counts by the number of a pair of outcome and JSON
    type."""

    schema: _Small
    verdicts: Annotated[
        list[_Seen], msgspec.Meta(min_length=len(VERDICTS), max_length=len(VERDICTS))
    ]
    fields: Annotated[
        dict[
            _Small,
            Annotated[
                dict[Annotated[int, msgspec.Meta(ge=0, lt=CELLS)], _Seen],
                msgspec.Meta(max_length=CELLS),
            ],
        ],
        msgspec.Meta(max_length=1 << 12),
    ]


class LiveSeen(_Message, tag=7):
    """What was seen of events since the ``Look`` with this number; sent once, when its time is
    over."""

    number: _Number
    schemas: Annotated[list[SeenCounts], msgspec.Meta(max_length=1 << 6)]


FromWorker = Put | Ready | Failed | Report | ErrorSeen | LibrarySeen | LiveSeen

# -- of the keeper --------------------------------------------------------------------------------


class ReceiverSetup(_Message):
    """A receiver: its name in the table of receivers, its location, and whether a socket comes with
    the message. ``unix`` is the path of a socket file."""

    receiver: str
    host: str
    port: int
    unix: str | None
    has_socket: bool


class Setup(_Message, tag=0):
    """Everything that a worker has, for its life.

    ``schemas`` are pickled, the default first; ``events`` is how many events a request may hold.
    ``limits`` are arguments of ``IngestLimits``. ``keys`` are the references of pseudonym keys; the
    worker asks for a key by its number in this list. ``pem`` is certificate chain, private key and
    client authority. ``keeper`` is the keeper's process id, and ``workers`` how many workers accept
    connections.
    """

    schemas: list[bytes]
    events: int
    tokens: list[str] | None
    origins: list[str]
    hosts: list[str]
    hops: int
    preferences: bool
    keys: list[str]
    limits: dict[str, int | float]
    receivers: list[ReceiverSetup]
    pem: tuple[bytes, bytes, bytes | None] | None
    confine: bool
    must_confine: bool
    keeper: int
    workers: int


class Answers(_Message, tag=1):
    """What became of puts, by their numbers: 1 if stored; 505 (the spool is full), 506 (its disk
    takes nothing) or 425 (too much is being stored) if not. If an earlier request has the key, 0,
    or 409 for another body, followed by the earlier counts: admitted, and rejected in the order of
    their table."""

    outcomes: list[tuple[int, int, list[int]]]


class Ask(_Message, tag=2):
    """The worker must send a ``Report``."""


class Stop(_Message, tag=3):
    """The worker must finish the requests in progress within so many seconds, and end."""

    seconds: float


class Look(_Message, tag=4):
    """The worker must sample events for so many seconds, and then send ``LiveSeen`` with the same
    number."""

    number: _Number
    seconds: Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]


FromKeeper = Setup | Answers | Ask | Stop | Look

# -- closed tables --------------------------------------------------------------------------------


@cache
def error_types() -> Sequence[str]:
    """Return the names of Python's exceptions and of ours, which a log may hold."""
    found = [
        name
        for owner in (builtins, errors)
        for name, value in vars(owner).items()
        if name[0] != "_" and isinstance(value, type) and issubclass(value, BaseException)
    ]
    return sorted(set(found))


@cache
def modules() -> Sequence[str]:
    """Return the names of the modules of the package."""
    root = Path(errors.__file__).parent
    paths = sorted(path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]
