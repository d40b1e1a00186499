"""Take batches from a message broker (`collector serve --from`), in place of workers.

The consumer checks a message like a batch from a worker, and stores it in the spool under its own
id. It acknowledges the message when every sink has the batch. So a drain may be lost with its disk:
another one gets what it had not delivered. A message that Collector did not publish is counted, and
acknowledged at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic, time

from collector.addresses import Address
from collector.backoff import Backoff
from collector.brokers.jetstream import jetstream
from collector.brokers.message import mac_key, read_message
from collector.brokers.source import Fetched, MessageSource
from collector.config.broker_settings import DrainSection
from collector.contracts import (
    MESSAGE_OUTCOMES,
    MOST_EVENTS,
    MessageOutcome,
    PendingBatch,
    RequestKey,
    Tally,
    Written,
    count_lines,
)
from collector.errors import (
    ConfigError,
    DeliveryError,
    MessageError,
    RecheckError,
    Unreachable,
)
from collector.filter.recheck import Recheck
from collector.filter.redaction import Rule, redact
from collector.filter.sdk_records import AHEAD, parse_minute
from collector.ops.requests import RequestCounts
from collector.routing.schemas import accepted
from collector.schema.model import Schema
from collector.server.components import Components
from collector.server.listeners import Location
from collector.spool import Spool
from collector.spool.idempotency import hashed
from collector.subject.tombstones import LONGEST_RETENTION, Tombstones

_MOST_WAITING = 256
"""As many messages as a sink gets at once. More would only be withheld from other drains."""
_MOST_WAITING_BYTES = 64 << 20
_MOST_FETCHED = 32
_IDLE_SECONDS, _BUSY_SECONDS = 1.0, 0.1
_DESTROY_SECONDS = 3600.0
"""How often expired tombstones are looked for."""
_EXTEND_SECONDS = 20.0
"""How often the broker is told that messages are still in progress: a third of its timeout."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_POLL_SECONDS = 0.02


def source_of(drain: DrainSection) -> MessageSource:
    """Return the source that the settings name, not yet connected. Raises ``ConfigError``: E201
    without the library, E202 for missing secrets, E212 for TLS files."""
    return jetstream(drain, drain.servers, drain.stream or "", consumer=drain.consumer)


def check_drain(drain: DrainSection) -> None:
    """Check secrets, files and libraries, and how long the broker keeps messages. Raises
    ``ConfigError`` as ``source_of``, and E219; ``Unreachable`` if the broker does not answer."""
    keys_of(drain)
    source = source_of(drain)
    try:
        expires = source.expiry()
    finally:
        source.close()
    if expires is not None and expires > LONGEST_RETENTION:
        days = LONGEST_RETENTION.days
        message = f"the broker keeps messages for longer than a drain knows them again: {days} days"
        raise ConfigError("E219", message)


def keys_of(drain: DrainSection) -> list[bytes]:
    """Return the keys of accepted MACs. Raises ``ConfigError`` E202."""
    return [key for key in map(mac_key, (drain.mac, drain.previous_mac)) if key is not None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A message whose batch is stored, and the number up to which every sink must have all
    batches."""

    token: str
    size: int
    number: int
    outcome: MessageOutcome
    extended: float


class Consumer(threading.Thread):
    """Takes messages in its own thread until ``stop``. ``schemas`` begin with those in force, whose
    retentions delete records."""

    def __init__(
        self,
        source: MessageSource,
        spool: Spool,
        schemas: Sequence[Schema],
        keys: Sequence[bytes],
        tombstones: Tombstones,
    ) -> None:
        super().__init__(name="collector-consumer", daemon=True)
        self.is_ready: bool = False
        self._source, self._spool, self._keys = source, spool, tuple(keys)
        self._schemas = {schema.digest: (schema, Recheck(schema)) for schema in schemas}
        self._latest_last = tuple(reversed(schemas))
        self._tombstones = tombstones
        self._counts: Counter[MessageOutcome] = Counter()
        self._tallies: deque[tuple[str, Tally]] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._done: list[str] = []
        self._damaged = spool.state().damaged
        self._destroy_at = 0.0
        self._stopping, self._cut = threading.Event(), threading.Event()

    def counts(self) -> Mapping[MessageOutcome, int]:
        """Return the number of messages for each outcome."""
        return {outcome: self._counts[outcome] for outcome in MESSAGE_OUTCOMES}

    def tallies(self) -> list[tuple[str, Tally]]:
        """Return the tallies of messages taken since the last call, with the schemas' names."""
        found = []
        with suppress(IndexError):
            while True:
                found.append(self._tallies.popleft())
        return found

    def stop(self, seconds: float) -> None:
        """Take no more messages; give sinks so many seconds for the current ones, and tell the
        broker."""
        self._stopping.set()
        self.join(seconds)
        self._cut.set()
        self.join()

    def run(self) -> None:
        """Take messages; after a failure of the broker or the spool, pause."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        try:
            while not self._cut.is_set():
                try:
                    if self._stopping.is_set() and not self._waiting and not self._done:
                        return
                    is_busy = self._step()
                    self.is_ready = True
                    backoff.reset()
                    if not is_busy:
                        self._cut.wait(_POLL_SECONDS)
                except Exception:  # noqa: BLE001 - after any error a drain goes on
                    self.is_ready = False
                    self._cut.wait(backoff.pause())
        finally:
            self.is_ready = False
            self._source.close()
            self._tombstones.close()

    def _step(self) -> bool:
        """Acknowledge what every sink has, and take more if there is room; return whether any
        came."""
        if monotonic() >= self._destroy_at:
            self._tombstones.destroy_expired()
            self._destroy_at = monotonic() + _DESTROY_SECONDS
        self._acknowledge()
        room = _MOST_WAITING - len(self._waiting)
        if self._stopping.is_set() or room < 2 or self._waiting_bytes > _MOST_WAITING_BYTES:
            self._source.fetch(0, 0)
            return False
        seconds = _BUSY_SECONDS if self._waiting else _IDLE_SECONDS
        taken = self._source.fetch(min(room, _MOST_FETCHED), seconds)
        try:
            if taken:
                self._take(taken)
        except Exception:
            self._source.acknowledge([one.token for one in taken], "again")
            raise
        return bool(taken)

    def _acknowledge(self) -> None:
        """Tell the broker which messages every sink has, and which take longer."""
        number, now = self._spool.delivered_up_to, monotonic()
        damaged = self._spool.state().damaged
        if damaged != self._damaged:  # sinks skip unreadable batches; the broker has them
            self._source.acknowledge([one.token for one in self._waiting], "again")
            self._waiting.clear()
            self._waiting_bytes, self._damaged = 0, damaged
        while self._waiting and self._waiting[0].number <= number:
            one = self._waiting.popleft()
            self._waiting_bytes -= one.size
            self._done.append(one.token)
        if self._done:
            self._source.acknowledge(self._done, "done")
            self._done = []
        late = [one for one in self._waiting if now - one.extended > _EXTEND_SECONDS]
        if late:
            self._source.acknowledge([one.token for one in late], "waiting")
            for one in late:
                one.extended = now

    def _take(self, taken: Sequence[Fetched]) -> None:
        """Check messages and store their batches in as few commits as possible."""
        checked: list[tuple[Fetched, PendingBatch]] = []
        for one in taken:
            try:
                checked.append((one, self._checked(one)))
            except MessageError as error:
                self._counts[error.reason] += 1
                self._done.append(one.token)
        again: list[str] = []
        with self._tombstones.locked() as tombstones:
            # Erase people first: what is left of a record may no longer identify them.
            rules: list[tuple[MessageOutcome, Rule]] = []
            if tombstones is not None:
                rules.append(("erased", tombstones))
            rules.append(("expired", Rule.expiry(self._latest_last, datetime.now(UTC))))
            stored = [self._store(one, batch, rules, again) for one, batch in checked]
            for (one, batch), found in zip(checked, stored, strict=True):
                if found is not None:
                    self._note(one, batch, found, again)
        if again:
            raise DeliveryError("E506", "the spool does not take messages now")

    def _checked(self, one: Fetched) -> PendingBatch:
        """Return the batch of a message, encoded anew. Raises ``MessageError``, and ``Unreachable``
        if the clock of this machine is wrong."""
        message = read_message(one.data, self._keys)
        schema, recheck = self._schemas.get(message.digest, (None, None))
        if schema is None or recheck is None or schema.id != message.schema:
            raise MessageError("schema")
        batch: PendingBatch | None = None
        if count_lines(message.payload) <= MOST_EVENTS:
            pending = PendingBatch(
                schema.layout, message.received, message.payload, Tally(), message.granted
            )
            with suppress(RecheckError):
                batch = recheck.check_delayed(pending)
        if batch is None:
            _require_clock(message.received, one.stored)
            raise MessageError("records")
        return replace(batch, id=message.id)

    def _store(
        self,
        one: Fetched,
        batch: PendingBatch,
        rules: Sequence[tuple[MessageOutcome, Rule]],
        again: list[str],
    ) -> Written | None:
        """Store a batch without people who were erased meanwhile and without expired records;
        return ``None`` if nothing is left or the spool cannot take it now."""
        payload = batch.payload
        for outcome, rule in rules:
            if batch.received < rule.until:
                payload, _ = redact(payload, [rule], batch.received)
            if not payload:
                self._counts[outcome] += 1
                self._done.append(one.token)
                return None
        try:
            if payload != batch.payload:
                recheck = self._schemas[batch.layout.digest][1]
                changed = replace(batch, payload=payload, rows=None)
                batch = replace(recheck.check_delayed(changed), id=batch.id)
            return self._spool.put(batch, key=RequestKey(hashed(batch.id or b"")))
        except (DeliveryError, RecheckError):  # RecheckError if a minute ends between two checks
            again.append(one.token)
            return None

    def _note(
        self,
        one: Fetched,
        batch: PendingBatch,
        stored: Written,
        again: list[str],
    ) -> None:
        """Wait until a batch is on disk, and note up to which number sinks must have all."""
        if stored.exception() is not None:
            again.append(one.token)
            return
        outcome: MessageOutcome = "taken" if stored.result() is None else "repeated"
        self._counts[outcome] += 1
        if outcome == "taken":
            self._tallies.append((batch.layout.table, batch.tally))
        size, number = len(one.data), self._spool.last
        self._waiting.append(_Waiting(one.token, size, number, outcome, monotonic()))
        self._waiting_bytes += size


def _require_clock(received: str, stored: float) -> None:
    """Raise ``Unreachable`` if a minute is in the future by this machine's clock, but was not by
    the broker's clock when it got the message. Messages then wait until the clock is set."""
    minute, ahead = parse_minute(received), AHEAD.total_seconds()
    if minute is not None and time() + ahead < minute.timestamp() <= stored + ahead:
        raise Unreachable("the clock of this machine is behind that of the broker", "busy")


class MessageIntake:
    """A consumer that replaces the keeper of workers in a serving process.

    Raises ``ConfigError`` for missing secrets and files.
    """

    number: int = 1
    confined: int = 1
    replaced: int = 0
    unhashed: int = 0

    def __init__(self, components: Components) -> None:
        drain = components.config.drain
        data = components.config.data
        assert data is not None  # noqa: S101 - for the type
        tombstones = Tombstones(data)
        source = source_of(drain)
        keys = keys_of(drain)
        self._address: Address = drain.servers.addresses[0]
        self.past: RequestCounts = RequestCounts()
        self._components = components
        earlier = accepted(components.config, components.schemas)
        schemas = [*components.schemas, *earlier]
        self._consumer = Consumer(source, components.spool, schemas, keys, tombstones)
        components.metrics.messages = self._consumer.counts

    @property
    def ready(self) -> int:
        """1 while the broker answers and the spool takes messages, else 0."""
        return int(self._consumer.is_ready)

    def addresses(self) -> dict[str, Location]:
        """Return the first server of the broker."""
        return {"broker": self._address}

    def requests(self) -> RequestCounts:
        """Return the counts of operators' requests; there are no others."""
        return self.past

    async def refresh(self) -> None:
        """Count what was taken."""
        for name, tally in self._consumer.tallies():
            self._components.metrics.observe(name, tally)

    async def start(self) -> None:
        """Start taking messages."""
        self._consumer.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more messages, and wait up to ``grace_seconds`` until sinks have the current
        ones."""
        if self._consumer.is_alive():
            await asyncio.to_thread(self._consumer.stop, grace_seconds)
        await self.refresh()
