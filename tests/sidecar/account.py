"""Compare what was sent to a sidecar, and its answers, with what its files hold.

Each record has its own address (IPv6, documentation prefix), which identifies it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from itertools import count
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from collector.ledger import Audit, Ledger
from collector.spool.tables import records_of
from tests.support.deadline import WAIT_SECONDS

_PREFIX = 0x20010DB8 << 96
_BAD_LINE = b"no JSON\n"


@dataclass(frozen=True)
class Kept:
    """What a data directory holds at one moment, by address: records in the store, and records in
    the spool that the store does not have yet; also what the ledger says."""

    stored: Counter[str]
    waiting: Counter[str]
    ledger: Audit


def kept(data: Path) -> Kept:
    """Read a data directory, even while others write there.

    The spool is read before the store. A batch that moves in between is in both, and its id shows
    that. So senders must be quiet, but sinks may go on.
    """
    with _reading(data / "spool.db") as spool:
        ledger = Ledger(spool.execute).verify()
        batches = list(spool.execute("SELECT id, payload FROM batches"))
    with _reading(data / "store.db") as store:
        delivered = {row[0] for row in store.execute("SELECT id FROM _delivered")}
        query = 'SELECT "client.address", sum(count) FROM conferencing GROUP BY 1'
        stored = Counter(dict(store.execute(query)))
    waiting: Counter[str] = Counter()
    for id_, payload in batches:
        if id_ not in delivered:
            lines = (records_of(payload) or b"").splitlines()
            waiting.update(json.loads(line)["client.address"] for line in lines)
    return Kept(stored, waiting, ledger)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    place = f"file:{path}?mode=ro"
    with closing(
        sqlite3.connect(place, timeout=WAIT_SECONDS, uri=True, isolation_level=None)
    ) as db:
        db.execute("BEGIN")
        yield db


@dataclass(eq=False)
class Parcel:
    """One request: the addresses of its records, and its number of bad lines. ``answer`` is the
    response's status, 0 until it arrives."""

    addresses: tuple[str, ...]
    bad: int
    answer: int = 0

    @property
    def events(self) -> int:
        return len(self.addresses) + self.bad

    @property
    def body(self) -> bytes:
        """Return NDJSON with the bad lines before the last record."""
        lines = [b'{"ip": "%s", "chat": "x"}\n' % each.encode() for each in self.addresses]
        return b"".join([*lines[:-1], *[_BAD_LINE] * self.bad, lines[-1]])

    @property
    def exported(self) -> bytes:
        """Return the same as OTLP logs. Records with only a body stand for bad lines."""
        request = ExportLogsServiceRequest()
        logs = request.resource_logs.add().scope_logs.add().log_records
        for each in self.addresses:
            attribute = logs.add().attributes.add()
            attribute.key, attribute.value.string_value = "client.address", each
        for _ in range(self.bad):
            logs.add().body.string_value = "x"
        encoded: bytes = request.SerializeToString()
        return encoded

    @property
    def recorded(self) -> bytes:
        """Return the records as an SDK sends them."""
        record = b'{"schema":"conferencing/1.0.0","client.address":"%s"}\n'
        return b"".join(record % each.encode() for each in self.addresses)

    def taken(self, status: int, body: bytes) -> None:
        """Record the answer to OTLP logs, and check its counts."""
        if status == 200:
            said = ExportLogsServiceResponse.FromString(body)
            assert said.partial_success.rejected_log_records == self.bad, said
        self.answer = status

    def answered(self, status: int, body: bytes) -> None:
        """Record the answer, and check its counts."""
        if status == 200:
            tally: Mapping[str, object] = json.loads(body)
            assert tally["received"] == self.events, tally
            assert tally["admitted"] == len(self.addresses), tally
        self.answer = status


@dataclass
class Account:
    """All parcels to one data directory. Parcels may be made by several threads at once."""

    parcels: list[Parcel] = field(default_factory=list)
    keyed: list[tuple[Parcel, str]] = field(default_factory=list)
    """Parcels that were sent under a key and have no answer: they are sent again under the same
    key."""
    _numbers: Iterator[int] = field(default_factory=count)

    def parcel(self, records: int = 1, bad: int = 0) -> Parcel:
        """Make a new parcel."""
        first = _PREFIX + (next(self._numbers) << 16)
        addresses = (str(IPv6Address(first + number)) for number in range(records))
        parcel = Parcel(tuple(addresses), bad)
        self.parcels.append(parcel)
        return parcel

    def received(self) -> int:
        """Count the acknowledged events, good or bad."""
        return sum(parcel.events for parcel in self.parcels if parcel.answer == 200)

    def unanswered(self, found: Kept) -> int:
        """Count the parcels that were kept although their senders got no answer."""
        there = found.stored + found.waiting
        return sum(not parcel.answer and parcel.addresses[0] in there for parcel in self.parcels)

    def faults(self, found: Kept) -> list[str]:
        """Return everything that is wrong; empty if all is well."""
        return [*self._of_parcels(found), *self._of_sums(found)]

    def _of_parcels(self, found: Kept) -> Iterator[str]:
        there = found.stored + found.waiting
        known: set[str] = set()
        for parcel in self.parcels:
            times = [there[address] for address in parcel.addresses]
            known.update(parcel.addresses)
            if max(times) > 1:
                yield f"{parcel.addresses[0]} and so on: kept more than once"
            if parcel.answer == 200 and not min(times):
                yield f"{parcel.addresses[0]} and so on: acknowledged and lost"
            elif parcel.answer > 200 and max(times):
                yield f"{parcel.addresses[0]} and so on: refused and kept"
            elif min(times) < max(times):
                yield f"{parcel.addresses[0]} and so on: kept in part"
        yield from (f"{address}: never sent" for address in there.keys() - known)

    def _of_sums(self, found: Kept) -> Iterator[str]:
        ledger, there = found.ledger, found.stored + found.waiting
        rejected = sum(ledger.rejected.values())
        yield from (str(flaw) for flaw in ledger.flaws)
        if ledger.breaks:
            yield "a chain of receipts ended at damage"
        if ledger.received != there.total() + rejected:
            yield (
                f"received {ledger.received} is not stored {found.stored.total()}"
                f" + spooled {found.waiting.total()} + rejected {rejected}"
            )
        here = sum(parcel.events for parcel in self.parcels if parcel.addresses[0] in there)
        if ledger.received != here:
            yield f"the ledger has received {ledger.received}, of what was sent {here} are there"
