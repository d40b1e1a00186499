"""The components of the sidecar: what is made of its settings, and what they are wired to."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from collector.config import Address, Config
from collector.config.sink_settings import SinkSettings
from collector.contracts import DeliveryState
from collector.filter import Filter
from collector.ingest.auth import Tokens
from collector.ingest.limits import IngestLimits
from collector.ingest.tls import Certificates
from collector.ops.metrics import Metrics
from collector.pipeline import Pipeline
from collector.retention.locations import Locations
from collector.retention.upkeep import Upkeep
from collector.routing import Flows
from collector.schema import Schema
from collector.server import listeners
from collector.sinks.sink import (
    Opening,
    Sink,
    close_sink,
    holds_expired,
    is_erasable,
    open_sink,
    sink_type,
)
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool

__all__ = ["Components", "limits", "tokens"]


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
    """Filter, spool, sinks, pipeline and metrics.

    ``collector.server.preflight`` makes the parts that only read; ``open`` makes the data directory
    and the rest, which ``stack`` closes.
    """

    spool: Spool
    upkeep: Upkeep
    sinks: dict[str, Sink]
    metrics: Metrics
    pipeline: Pipeline

    def __init__(
        self,
        config: Config,
        *,
        filter_: Filter,
        flows: Flows,
        limits: IngestLimits,
        certificates: Certificates | None,
        tokens: Tokens | None,
    ) -> None:
        self.config = config
        self.filter = filter_
        self.schema: Schema = filter_.schema
        self.flows = flows
        self.limits = limits
        self.certificates = certificates
        self.tokens = tokens

    def __repr__(self) -> str:
        return f"<Components of {self.schema.id}>"

    def open(self, stack: ExitStack) -> None:
        """Open spool and sinks. Raises ``ConfigError`` and ``DeliveryError``."""
        config, layout = self.config, self.schema.layout
        data = config.data or Path()
        self.spool = Spool(
            data / SPOOL_NAME, limit=config.spool.limit, sinks=config.sinks.on(), layouts=[layout]
        )
        stack.callback(self.spool.close)
        off = {name: sink for name, sink in config.sinks.items() if not sink.is_on}
        off = {name: sink for name, sink in off.items() if is_erasable(sink)}
        self.upkeep = Upkeep(self.spool, self.schema, Locations(data, self.schema, off))
        self.sinks = {
            name: self._open_sink(name, sink, stack) for name, sink in config.sinks.on().items()
        }
        self.metrics = Metrics(layout, self.spool.state, self._deliveries)
        self.pipeline = Pipeline(
            self.filter,
            self.spool,
            self.sinks,
            self.metrics.observe,
            self.flows.reaching,
            most_events=config.limits.events,
        )
        stack.callback(self.pipeline.close, 0.0)  # where nothing else has closed it

    def _open_sink(self, name: str, settings: SinkSettings, stack: ExitStack) -> Sink:
        unit = getattr(sink_type(settings), "unit", "")
        opening = Opening(
            name,
            (self.schema,),
            self.config.data or Path(),
            partial(self.upkeep.sink_pruned, unit),
        )
        sink = open_sink(settings, opening)
        stack.callback(self._close_sink, name, sink)
        return sink

    def _close_sink(self, name: str, sink: Sink) -> None:
        """Close a sink, unless its thread is still delivering: a sink is for one thread at a time,
        and what is not delivered then is as after a kill."""
        pipeline: Pipeline | None = getattr(self, "pipeline", None)
        if pipeline is None or not pipeline.is_using(name):
            close_sink(sink)

    def _deliveries(self) -> dict[str, DeliveryState]:
        return self.pipeline.deliveries()

    @property
    def is_held(self) -> bool:
        """Whether a sink still holds expired data."""
        return any(map(holds_expired, self.sinks.values()))

    def hosts(self, address: Address | None, more: tuple[str, ...]) -> tuple[str, ...]:
        """Return the accepted host names of a loopback address; empty (any host) for others."""
        return listeners.accepted_hosts(address, more)
