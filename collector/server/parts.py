"""What the sidecar consists of, made from its settings: nothing of it runs yet.

Whatever cannot be used is found here, as ``ConfigError``, ``SchemaError`` or ``DeliveryError``.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from collector.config import Address, Config
from collector.contracts import Sink
from collector.filter import Filter
from collector.filter.revision import expired
from collector.ingest.auth import Tokens
from collector.ingest.limits import Limits
from collector.ingest.tls import Certificates
from collector.keyring import Keyring
from collector.ops.metrics import Metrics, SinkReading, SpoolReading
from collector.pipeline import Pipeline
from collector.proof.flows import Flows, flows
from collector.proof.upkeep import Upkeep
from collector.schema import Schema, load_schema
from collector.sinks.store import FILE_NAME as STORE_NAME
from collector.sinks.store import Store
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool

__all__ = ["Parts", "certificates", "limits", "schema_filter", "schema_flows", "tokens"]


def schema_filter(config: Config) -> Filter:
    """The filter of the schema, with keys where it has pseudonyms."""
    return Filter(load_schema(config.schema_), keys=Keyring())


def schema_flows(config: Config) -> Flows:
    """Which field of the schema reaches which sink."""
    return flows(config, load_schema(config.schema_))


def limits(config: Config) -> Limits:
    """What senders may ask for."""
    chosen = config.limits
    return Limits(
        wire=chosen.wire,
        body=chosen.body,
        ratio=chosen.ratio,
        header_bytes=chosen.header,
        header_seconds=chosen.header_time,
        body_seconds=chosen.body_time,
        connections=chosen.connections,
    )


def certificates(config: Config) -> Certificates | None:
    """The certificate and key, if there are any."""
    chosen = config.tls
    if chosen.certificate is None or chosen.key is None:
        return None
    return Certificates(chosen.certificate, chosen.key, chosen.client_ca)


def tokens(config: Config) -> Tokens | None:
    """The tokens that senders show, if they have to."""
    return Tokens(config.auth.tokens) if config.auth.tokens else None


class Parts:
    """Filter, spool, sinks, pipeline and metrics. They are closed by ``stack``."""

    def __init__(self, config: Config, stack: ExitStack) -> None:
        self.config = config
        self.limits: Limits = limits(config)
        self.certificates: Certificates | None = certificates(config)
        self.tokens: Tokens | None = tokens(config)
        self.filter: Filter = schema_filter(config)
        self.schema: Schema = self.filter.schema
        self.flows: Flows = flows(config, self.schema)
        data = config.data or Path()
        layout = self.schema.layout
        self.spool: Spool = Spool(
            data / SPOOL_NAME, limit=config.spool.limit, sinks=config.sinks.on(), layouts=[layout]
        )
        stack.callback(self.spool.close)
        left = None if config.sinks.store.is_on else data / STORE_NAME
        self.upkeep: Upkeep = Upkeep(self.spool, self.schema, left)
        self.sinks: dict[str, Sink] = self._sinks(data, stack)
        self.metrics: Metrics = Metrics(layout, self.spool_reading, self.sink_readings)
        self.pipeline: Pipeline = Pipeline(
            self.filter, self.spool, self.sinks, self.metrics.observe, self.flows.reaching
        )

    def __repr__(self) -> str:
        return f"<Parts of {self.schema.id}>"

    def _sinks(self, data: Path, stack: ExitStack) -> dict[str, Sink]:
        sinks: dict[str, Sink] = {}
        if self.config.sinks.store.is_on:
            store = Store(data / STORE_NAME, self.schema, pruned=self.upkeep.store_pruned)
            stack.callback(store.close)
            sinks["store"] = store
        chosen = self.config.sinks.ndjson
        if chosen.path is not None:
            from collector.sinks.files import NdjsonFile  # noqa: PLC0415 - seldom used

            file = NdjsonFile(
                chosen.path,
                rotate=chosen.rotate,
                keep=chosen.keep,
                prune=expired(self.schema),
                pruned=self.upkeep.lines_pruned,
            )
            stack.callback(file.close)
            sinks["ndjson"] = file
        return sinks

    def spool_reading(self) -> SpoolReading:
        """The spool as metrics show it."""
        state = self.spool.state()
        return SpoolReading(
            batches=state.batches,
            records=state.records,
            size=state.bytes,
            limit=state.limit,
            oldest=state.oldest,
            writable=state.is_ready,
            errors=state.errors,
            damaged=state.damaged,
        )

    @property
    def is_held(self) -> bool:
        """Whether something that is to be gone is still in the store or a file of records."""
        return any(getattr(sink, "is_held", False) for sink in self.sinks.values())

    def sink_readings(self) -> dict[str, SinkReading]:
        """The sinks as metrics show them."""
        return {
            name: SinkReading(one.delivered, one.failures, one.last)
            for name, one in self.pipeline.deliveries().items()
        }

    def hosts(self, address: Address | None, more: tuple[str, ...]) -> tuple[str, ...]:
        """The names by which a loopback address may be called; of an open one, any: none."""
        if address is None or not address.is_loopback:
            return ()
        own = f"[{address.host}]" if ":" in address.host else address.host
        bracketed = (f"[{name}]" if ":" in name else name for name in more)
        return tuple(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", own, *bracketed]))
