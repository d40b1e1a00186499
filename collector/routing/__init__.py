"""Which field of a schema reaches which sink, for which purposes, and how a change affects that.

Schema and settings decide this before any event. A field reaches a sink for the granted purposes
that both name; without any, it does not reach the sink. The pipeline delivers by this same matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from collector.config import Config
from collector.config.model import About
from collector.config.sink_settings import SinkSettings
from collector.contracts import Granted
from collector.documents import nearest
from collector.errors import ConfigFaults, Fault
from collector.schema.model import Schema
from collector.sinks.sink import own_directory

__all__ = [
    "EEA",
    "LEGAL",
    "Flow",
    "Flows",
    "all_flows",
    "entitled",
    "flows",
    "is_abroad",
    "is_unprotected",
    "reaching",
]

EEA: frozenset[str] = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK"
    "".split()
)
"""The European Economic Area. Transfers within it need nothing more under the GDPR (Art. 44 is
about third countries)."""


def is_abroad(sink: SinkSettings, about: About) -> bool:
    """Return whether records go to another country, as far as both are known."""
    home, there = about.country, about.place(sink)
    return home is not None and there not in (None, home)


def is_unprotected(sink: SinkSettings, about: About) -> bool:
    """Return whether the law requires a safeguard for records abroad, and none is stated."""
    both = {about.country, about.place(sink)}
    return is_abroad(sink, about) and not EEA.issuperset(both) and sink.safeguard is None


LEGAL = "essential.legal_obligation"
"""The one use for which a third party may receive anything."""

_NO_THIRD = (
    "a third party may receive only what a law demands; otherwise `no-third-party-ads` and"
    f" `no-sale` would not hold. Give it purposes whose use is `{LEGAL}`"
)
_NOTHING = "no field of the schema has these purposes, so the sink would get nothing; name others"


class Flow(NamedTuple):
    """A field that reaches a sink, with the purposes, in the schema's order."""

    field: str
    sink: str
    purposes: tuple[str, ...]


@dataclass(frozen=True)
class Flows:
    """The whole matrix: all flows, field by field. ``places`` names the location of each sink. Our
    own sinks without a country are in the controller's."""

    schema: Schema
    sinks: Mapping[str, SinkSettings]
    places: Mapping[str, str]
    flows: tuple[Flow, ...]

    def to(self, sink: str) -> dict[str, tuple[str, ...]]:
        """Return the fields that reach a sink, each with its purposes."""
        return {flow.field: flow.purposes for flow in self.flows if flow.sink == sink}

    def reaching(self, sink: str, granted: Granted = None) -> frozenset[str] | None:
        """Return the fields that reach a sink from records with these granted purposes; ``None``
        (all fields) if the sink is not limited to named purposes."""
        purposes = self.sinks[sink].purposes
        if purposes is None:
            return None
        return frozenset(entitled(self.schema, purposes, granted))

    def as_dict(self) -> dict[str, Any]:
        """Return the matrix as plain data."""
        purposes = self.schema.purposes
        return {
            "schema": self.schema.id,
            "sinks": {
                name: {
                    "party": sink.party,
                    "recipient": sink.recipient,
                    "country": sink.country,
                    "safeguard": sink.safeguard,
                    "limited": sink.purposes is not None,
                    "purposes": list(purposes if sink.purposes is None else sink.purposes),
                    "place": self.places[name],
                }
                for name, sink in self.sinks.items()
            },
            "flows": [
                {
                    "field": flow.field,
                    "category": self.schema.fields[flow.field].category,
                    "sink": flow.sink,
                    "purposes": {name: purposes[name].use for name in flow.purposes},
                }
                for flow in self.flows
            ],
        }


def entitled(
    schema: Schema, purposes: Collection[str] | None, granted: Collection[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the fields that may be used for some purposes, each with those of its purposes.

    ``purposes`` are a sink's and ``granted`` a person's; ``None`` stands for all of the schema's.
    """
    meeting = set(schema.purposes)
    for names in (purposes, granted):
        meeting &= meeting if names is None else set(names)
    found = {
        name: tuple(purpose for purpose in field.purposes if purpose in meeting)
        for name, field in schema.fields.items()
    }
    return {name: reasons for name, reasons in found.items() if reasons}


def flows(config: Config, schema: Schema) -> Flows:
    """Return the matrix of a configuration with one schema, as ``all_flows``."""
    return all_flows(config, [schema])[0]


def all_flows(config: Config, schemas: Sequence[Schema]) -> tuple[Flows, ...]:
    """Return the matrix of each schema of a configuration. Only one schema needs to define a
    purpose of a sink; other schemas send nothing there for it.

    Raises ``ConfigFaults`` with all faults between sinks and schemas: E132, E122 and E309, each for
    the setting in its ``field``.
    """
    sinks = {
        name: sink.model_copy(update={"country": config.about.place(sink)})
        for name, sink in config.sinks.on().items()
    }
    faults = [
        Fault("settings", 0, 0, f"sinks.{name}.{key}", message, code)
        for name, sink in sinks.items()
        for key, code, message in _faults(sink, schemas)
    ]
    if faults:
        raise ConfigFaults(faults)
    data = config.data or Path()
    places = {name: sink.place(own_directory(data, name)) for name, sink in sinks.items()}
    return tuple(_of_schema(schema, sinks, places) for schema in schemas)


def _of_schema(
    schema: Schema, sinks: Mapping[str, SinkSettings], places: Mapping[str, str]
) -> Flows:
    reached = {name: entitled(schema, sink.purposes) for name, sink in sinks.items()}
    every = tuple(
        Flow(field, name, reached[name][field])
        for field in schema.fields
        for name in sinks
        if field in reached[name]
    )
    return Flows(schema, sinks, places, every)


def reaching(
    matrices: Sequence[Flows],
) -> Callable[[str, str, Granted], frozenset[str] | None]:
    """Return the pipeline's delivery function: from the names of a sink and a schema and the
    granted purposes to the fields of records that reach the sink; ``None`` for all.

    It raises ``LookupError`` for a schema that is not in force if the sink gets only some fields,
    because nothing says which ones.
    """
    by_schema = {matrix.schema.name: matrix for matrix in matrices}

    def fields_for(sink: str, schema: str, granted: Granted) -> frozenset[str] | None:
        if matrices[0].sinks[sink].purposes is None:
            return None
        return by_schema[schema].reaching(sink, granted)

    return fields_for


def _faults(sink: SinkSettings, schemas: Sequence[Schema]) -> Iterator[tuple[str, str, str]]:
    """Yield the faults of a sink under schemas: the setting's key, a code, a message."""
    every = [*dict.fromkeys(name for schema in schemas for name in schema.purposes)]
    named = every if sink.purposes is None else sink.purposes
    unknown = [name for name in named if name not in every]
    for name in unknown:
        hint = nearest(name, every) or f"; there are {', '.join(every)}"
        which = "the schema has" if len(schemas) == 1 else "the schemas have"
        yield "purposes", "E132", f"{which} no such purpose{hint}"
    uses = (
        schema.purposes[name].use for schema in schemas for name in named if name in schema.purposes
    )
    if sink.party == "third" and any(use != LEGAL for use in uses):
        yield "party", "E309", _NO_THIRD
    if not unknown and not any(entitled(schema, named) for schema in schemas):
        yield "purposes", "E122", _NOTHING
