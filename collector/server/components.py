"""The components of the sidecar, made from its settings and wired together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import date
from functools import partial
from pathlib import Path
from time import monotonic

from collector.config import Config
from collector.config.sink_settings import SinkSettings
from collector.contracts import Share
from collector.errors import DeliveryError
from collector.ingest.auth import Tokens
from collector.ingest.limits import IngestLimits
from collector.ingest.tls import Certificates
from collector.keyring import Keyring
from collector.ledger import Ledger
from collector.ops.metrics import Metrics
from collector.ops.sink_state import Growth, SinkState, sink_states
from collector.pipeline import Delivery
from collector.retention.locations import Locations
from collector.retention.upkeep import Upkeep
from collector.routing import Flows, reaching
from collector.schema import Schema
from collector.schema.kinds.base import utc_now
from collector.schema.review import ApprovedCopy, Review, review
from collector.sinks.sink import (
    Opening,
    Sink,
    close_sink,
    holds_expired,
    is_erasable,
    open_sink,
)
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool


def limits(config: Config) -> IngestLimits:
    """Return the limits on senders."""
    chosen = config.limits
    return IngestLimits(
        wire=chosen.wire,
        body=chosen.body,
        ratio=chosen.ratio,
        header_bytes=chosen.header,
        header_seconds=chosen.header_time,
        body_seconds=chosen.body_time,
        connections=chosen.connections,
    )


def tokens(config: Config) -> Tokens | None:
    """Return the accepted tokens, if senders need one."""
    return Tokens(config.auth.tokens) if config.auth.tokens else None


class Components:
    """Schemas, keys, spool, sinks, delivery and metrics: everything that the keeper has.

    ``collector.server.preflight`` makes the parts that only read. ``open`` makes the data directory
    and the rest, which ``stack`` closes.
    """

    spool: Spool
    upkeep: Upkeep
    sinks: dict[str, Sink]
    metrics: Metrics
    delivery: Delivery

    def __init__(
        self,
        config: Config,
        *,
        schemas: Sequence[Schema],
        copies: Sequence[ApprovedCopy],
        keyring: Keyring,
        flows: Sequence[Flows],
        limits: IngestLimits,
        certificates: Certificates | None,
        tokens: Tokens | None,
    ) -> None:
        self.config: Config = config
        self.keyring = keyring
        self.schemas: tuple[Schema, ...] = tuple(schemas)
        self.copies: tuple[ApprovedCopy, ...] = tuple(copies)
        self._reviewed: tuple[date, tuple[Review, ...]] | None = None
        self.flows: tuple[Flows, ...] = tuple(flows)
        self.limits: IngestLimits = limits
        self.certificates = certificates
        self.tokens = tokens
        self.growth: Growth = Growth()

    def use(self, other: Components) -> None:
        """Take over the configuration of components that are not open; call it in a thread. It adds
        and removes sinks. If a sink's settings or the schemas have changed, the sink's thread
        reopens it. That thread, like the thread of an added sink, retries until the sink is
        open."""
        before, had_tokens = self.config.sinks.on(), self.config.auth
        is_other = [each.digest for each in self.schemas] != [each.digest for each in other.schemas]
        self.config, self.schemas, self.flows = other.config, other.schemas, other.flows
        self.copies, self._reviewed = other.copies, None
        self.limits, self.certificates = other.limits, other.certificates
        if self.config.auth != had_tokens:  # otherwise keep their counts
            self.tokens = other.tokens
        layouts = [schema.layout for schema in self.schemas]
        self.metrics.use(layouts)
        after, fields_for = self.config.sinks.on(), reaching(self.flows)
        for name in before.keys() - after.keys():
            self.delivery.remove(name)
            self.sinks.pop(name, None)
        self.spool.layouts.update({layout.digest: layout for layout in layouts})
        with suppress(DeliveryError):  # then the spool reopens the file for these sinks
            self.spool.name(self._shares()).result()
        self.upkeep.use(self.schemas, self._off())
        self.delivery.route(fields_for)
        for name, sink in after.items():
            make = partial(self._open_sink, name, sink)
            if name not in before:
                self.delivery.add(name, make, fields_for)
            elif is_other or sink != before[name]:
                self.delivery.reopen(name, make)

    def reviews(self) -> tuple[Review, ...]:
        """Compare each schema with its approved copy, once a day because an approval may expire."""
        today, found = utc_now().date(), self._reviewed
        if found is None or found[0] != today:
            both = zip(self.schemas, self.copies, strict=True)
            found = (today, tuple(review(schema, copy, today) for schema, copy in both))
            self._reviewed = found
        return found[1]

    def open(self, stack: ExitStack, admit: Callable[[Ledger], None] | None = None) -> None:
        """Open spool and sinks; ``admit`` gets the ledger before it is used. Raises ``ConfigError``
        and ``DeliveryError``, and what ``admit`` raises."""
        config, layouts = self.config, [schema.layout for schema in self.schemas]
        data = config.data or Path()
        self.spool = Spool(
            data / SPOOL_NAME,
            limit=config.spool.limit,
            sinks=self._shares(),
            layouts=layouts,
            admit=admit,
        )
        stack.callback(self.spool.close)
        self.upkeep = Upkeep(self.spool, self.schemas, self._off())
        self.sinks = {}
        stack.callback(self._close_sinks)
        for name, sink in config.sinks.on().items():
            self._open_sink(name, sink)
        self.delivery = Delivery(self.spool, self.sinks, reaching(self.flows))
        self.metrics = Metrics(layouts, self.spool.state, self.sink_states)
        self.metrics.expiries = self.expiries
        stack.callback(self.delivery.close, 0.0)  # unless something else has closed it

    def _shares(self) -> dict[str, Share]:
        """Return the share of the spool of each sink that is switched on."""
        return {name: sink.share for name, sink in self.config.sinks.on().items()}

    def _off(self) -> Locations:
        """Return the locations of the sinks that are switched off."""
        off = {name: sink for name, sink in self.config.sinks.items() if not sink.is_on}
        erasable = {name: sink for name, sink in off.items() if is_erasable(sink)}
        return Locations(self.config.data or Path(), self.schemas, erasable)

    def _open_sink(self, name: str, settings: SinkSettings) -> Sink:
        opening = Opening(
            name,
            self.schemas,
            self.config.data or Path(),
            partial(self.upkeep.sink_pruned, name),
        )
        made = open_sink(settings, opening)
        if self.config.sinks.on().get(name) == settings:  # otherwise it was removed meanwhile
            self.sinks[name] = made
        return made

    def _close_sinks(self) -> None:
        """Close all sinks whose threads are not delivering any more: only one thread may use a sink
        at a time. An interrupted delivery is repeated as after a kill."""
        delivery: Delivery | None = getattr(self, "delivery", None)
        for name, sink in [*self.sinks.items()]:
            if delivery is None or not delivery.is_using(name):
                close_sink(sink)

    def expiries(self) -> Mapping[str, float]:
        """Return when the certificate of each receiver that has TLS expires, for metrics."""
        if self.certificates is None:
            return {}
        addresses = {name: getattr(self.config, name).address for name in ("http", "grpc")}
        named = [name for name, address in addresses.items() if address is not None]
        named += ["admin"] if self.config.admin.is_encrypted else []
        return dict.fromkeys(named, self.certificates.validity[1])

    def sink_states(self) -> Mapping[str, SinkState]:
        """Return the state of each sink at this moment."""
        spool = self.spool.state()
        sizes = {name: each.bytes for name, each in spool.backlogs.items()}
        self.growth.add(monotonic(), {"": spool.bytes, **sizes})
        return sink_states(spool, self.delivery.deliveries(), self.growth)

    @property
    def is_held(self) -> bool:
        """Whether a sink still holds expired data."""
        return any(map(holds_expired, [*self.sinks.values()]))
