"""Run the whole pipeline of a configuration in a temporary directory with events full of canaries,
so that the output can verify claims.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from collector import synthetic
from collector.config.sink_settings import SinkSettings
from collector.config.sink_types import STAND_IN, settings_of
from collector.contracts import Batch, Request, Tally
from collector.filter import Filter
from collector.filter.redaction import EVERYTHING
from collector.filter.stored import read
from collector.keyring import Keyring
from collector.pipeline import Pipeline
from collector.retention.locations import Locations
from collector.retention.upkeep import prune_all
from collector.routing import Flows, reaching
from collector.sinks.sink import Holding, Opening, Sink, is_erasable, open_sink, own_directory
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool

_LONG_AGO = "2000-01-01T00:00:00Z"
_BATCH = 50
_SECONDS = 60.0


@dataclass(frozen=True, repr=False)
class Outcome:
    """The outcome of a dry ``run``: the filter's counts, the ``spool`` with the ledger, the fields
    that each sink got, and the number of tables and files with ``stale`` records."""

    run: DryRun
    tally: Tally
    spool: Path
    fields: Mapping[str, frozenset[str]]
    stale: int


@dataclass(frozen=True)
class DryRun:
    """A run of the whole pipeline of a configuration. It sends events full of canaries to the
    configured sinks, which are moved into a folder. If a sink cannot be moved, another one gets the
    same fields instead. Raises what the pipeline's parts raise."""

    flows: Flows
    folder: Path
    canaries: Sequence[str]
    meetings: int

    def granted(self) -> Outcome:
        """Send all events, deliver some expired records too, and prune."""
        tally = self._send()
        chosen = Filter(self.flows.schema, keys=Keyring())
        payload = b"".join(chosen.admit_lines(body).encode() for body in self._bodies())
        old = Batch(
            secrets.token_bytes(16), _LONG_AGO, layout=chosen.schema.layout, payload=payload
        )
        with ExitStack() as stack:
            for name, sink in self._open_sinks(stack).items():
                sink.deliver(read(old, self.flows.reaching(name)))
        locations = self._locations()
        prune_all(locations, _SECONDS)
        found = self._holdings()
        stale = sum(each.first == _LONG_AGO for holdings in found.values() for each in holdings)
        return Outcome(self, tally, locations.spool, _fields(found), stale)

    def refused(self) -> dict[str, frozenset[str]]:
        """Send all events for people who refuse all optional purposes. Return the fields that each
        sink got."""
        self._send(refuses=True)
        return _fields(self._holdings())

    def _send(self, *, refuses: bool = False) -> Tally:
        """Send all events through a pipeline; return their counts."""
        chosen, tally = Filter(self.flows.schema, keys=Keyring()), Tally()
        with ExitStack() as stack:
            sinks = self._open_sinks(stack)
            spool = stack.enter_context(Spool(self.folder / SPOOL_NAME, sinks=list(sinks)))
            pipeline = Pipeline(chosen, spool, sinks, reaching([self.flows]))
            pipeline.start()
            stack.callback(pipeline.close, _SECONDS)
            for body in self._bodies():
                tally += pipeline.accept_now(Request("ndjson", body, refuses=refuses))
        return tally

    def _holdings(self) -> dict[str, list[Holding]]:
        with self._locations().opened() as sinks:
            return {name: list(sink.measure(EVERYTHING)) for name, sink in sinks.items()}

    def _locations(self) -> Locations:
        moved = dict[str, SinkSettings]()
        for name, sink in self.flows.sinks.items():
            own = own_directory(self.folder, name)
            there = sink.moved(own) if is_erasable(sink) else None
            moved[name] = there or settings_of(STAND_IN)(type=STAND_IN).moved(own) or sink
        return Locations(self.folder, (self.flows.schema,), moved)

    def _open_sinks(self, stack: ExitStack) -> dict[str, Sink]:
        sinks: dict[str, Sink] = {}
        for name, settings in self._locations().sinks.items():
            opening = Opening(name, (self.flows.schema,), self.folder)
            sinks[name] = open_sink(settings, opening)
            stack.callback(sinks[name].close)
        return sinks

    def _bodies(self) -> Iterator[bytes]:
        """Yield bodies of NDJSON: synthetic meetings, and the events of the schema's own tests with
        canaries under each content name."""
        schema = self.flows.schema
        content = {name: [*self.canaries] for name in schema.content_names}
        own = [{**test.event, **content} for test in schema.tests if isinstance(test.event, dict)]
        others = [test.event for test in schema.tests if not isinstance(test.event, dict)]
        meetings = synthetic.events(self.meetings, 0, self.canaries)
        events: Iterator[Any] = iter([*own, *others, *meetings])
        while batch := list(islice(events, _BATCH)):
            yield b"\n".join(map(orjson.dumps, batch))


def _fields(found: Mapping[str, Iterable[Holding]]) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(field for each in holdings for field, times in each.fields.items() if times)
        for name, holdings in found.items()
    }
