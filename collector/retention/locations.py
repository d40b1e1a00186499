"""The locations of a configuration's records: sinks that commands reach, and others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from collector.config import Config
from collector.config.sink_settings import SinkSettings
from collector.contracts import Removal
from collector.errors import ConfigError, file_name
from collector.filter.redaction import Rule
from collector.retention.earlier import EarlierSinks, earlier_sinks
from collector.schema.model import Schema
from collector.sinks.sink import ErasableSink, Opening, is_erasable, open_sink
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool

_WAITING = "what waits in {}: each of its drains drops what is erased there"


class Reachable(Protocol):
    """A sink whose records commands change."""

    def prune(self, now: datetime) -> Removal: ...
    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]: ...


@dataclass(frozen=True)
class Locations:
    """The locations of records: the erasable sinks (on, off, or of an ``earlier`` configuration),
    and in words the locations ``beyond`` the reach of commands. ``schemas`` are the schemas in
    force, the default first."""

    data: Path
    schemas: tuple[Schema, ...]
    sinks: Mapping[str, SinkSettings]
    beyond: tuple[str, ...] = ()
    earlier: EarlierSinks = field(default_factory=EarlierSinks)

    @classmethod
    def of(cls, config: Config, schemas: tuple[Schema, ...]) -> Locations:
        """List the locations of a configuration. Raises ``ConfigError`` E203 if there is no data
        directory."""
        data = config.data or Path()
        if not data.is_dir():
            raise ConfigError("E203", f"{file_name(data)} is no directory; name the data directory")
        on = config.sinks.on()
        sinks = {
            name: sink
            for name, sink in config.sinks.items()
            if is_erasable(sink) and (name in on or _is_there(name, sink, schemas, data))
        }
        earlier = earlier_sinks(data, schemas, config.sinks)
        others = (
            _recipient(name, sink, config.about.place(sink))
            for name, sink in on.items()
            if name not in sinks or sink.party != "first"
        )
        elsewhere = (place for sink in on.values() for place in sink.beyond())
        of_earlier = (place for sink in earlier.sinks.values() for place in sink.beyond())
        return cls(
            data,
            schemas,
            sinks | earlier.sinks,
            (
                *earlier.beyond,
                *others,
                *((_WAITING.format(config.drain.place),) if config.drain.is_on else ()),
                *dict.fromkeys((*elsewhere, *of_earlier)),
                f"backups and snapshots of {data}",
                "what was read out of the store or exported before",
                "what SDKs have not sent yet: their own queues, spools and stores",
            ),
            earlier,
        )

    @property
    def unreached(self) -> tuple[str, ...]:
        """Where data of ours may be that we could not check. An answer about a person is not
        complete without these locations."""
        return tuple(self.earlier.unreached)

    @property
    def spool(self) -> Path:
        """The spool's file."""
        return self.data / SPOOL_NAME

    @contextmanager
    def opened_spool(self) -> Iterator[Spool]:
        """Open the spool for a command that changes it. Raises ``ConfigError`` E203 if a sidecar
        uses the directory."""
        with Spool(self.spool) as spool:
            yield spool

    def reached(self, wait: float = 0.0) -> AbstractContextManager[Mapping[str, Reachable]]:
        """Open the sinks for a command that changes them; wait ``wait`` seconds for readers."""
        return self.opened(wait)

    @contextmanager
    def opened(self, wait: float = 0.0) -> Iterator[dict[str, ErasableSink]]:
        """Open the sinks for a command. Changes wait up to ``wait`` seconds for readers."""
        with ExitStack() as stack:
            sinks = dict[str, ErasableSink]()
            for name, settings in self.sinks.items():
                opening = Opening(
                    self.earlier.directories.get(name, name),
                    self.schemas,
                    self.data,
                    is_offline=True,
                    wait=wait,
                    is_former=name in self.earlier.directories,
                    has_location=name not in self.earlier.elsewhere,
                )
                sink = open_sink(settings, opening)
                stack.callback(sink.close)
                if isinstance(sink, ErasableSink):
                    sinks[name] = sink
            yield sinks


def _is_there(name: str, sink: SinkSettings, schemas: tuple[Schema, ...], data: Path) -> bool:
    """Return whether a sink that is switched off has left anything at its location."""
    with open_sink(sink, Opening(name, schemas, data, is_offline=True)) as made:
        return isinstance(made, ErasableSink) and made.exists


def _recipient(name: str, sink: SinkSettings, country: str | None) -> str:
    """Name a sink that no command reaches, with its recipient and country."""
    recipient = sink.recipient or "no recipient is named"
    return f"sink {name}: {recipient}, {country or 'no country is named'}"
