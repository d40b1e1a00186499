"""Where records go, whose each of these places is, and what for.

What a field may be used for is the schema's to say; what a sink is for stands here. A field reaches
a sink where the two meet.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from collector.config.section import Section
from collector.config.values import Country, Flag, Location, Purposes, Recipient, Size, Whole

__all__ = ["PARTIES", "SWITCH", "Ndjson", "Party", "Sink", "Sinks", "Store"]

Party = Literal["first", "processor", "third"]
PARTIES: tuple[Party, ...] = get_args(Party)
"""From the nearest to the furthest."""

SWITCH = "enabled"
"""The setting that a section stands for where it is written as ``true`` or ``false``."""

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


class Sink(Section):
    """Who receives records here, and what for."""

    party: Party = Field(
        "first",
        description="Whose it is: `first` (yours), `processor` (works for you under a contract) or"
        " `third` (anybody else).",
    )
    purposes: Purposes = Field(
        None,
        description="What it is for: purposes of the schema. It gets the fields that are for one of"
        " them; none: what is `first` is for all.",
    )
    recipient: Recipient = Field(
        None, description="Who that is, as the privacy notice says it; for all but `first`."
    )
    country: Country = Field(
        None, description="The country that records go to, two letters, such as `DE`."
    )
    safeguard: Recipient = Field(
        None,
        description="What protects records in another country, as the privacy notice says it, such"
        " as `standard contractual clauses of the EU`.",
    )

    @property
    def is_on(self) -> bool:
        """Whether records go there."""
        raise NotImplementedError


class Store(Sink):
    """The embedded store."""

    enabled: Flag = Field(
        True,
        description="The embedded store, `store.db` in the data directory. `sinks.store: false`"
        " means the same as this.",
    )

    @property
    def is_on(self) -> bool:
        """Whether records go there."""
        return self.enabled


class Ndjson(Sink):
    """Records as lines of JSON."""

    path: Location = Field(None, description="The file that records are written to; none: off.")
    rotate: Annotated[Size, Field(ge=_KIB, le=1024 * _GIB)] = Field(
        64 * _MIB, description="The size at which a new file is begun."
    )
    keep: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        8, description="How many finished files stay; older ones are removed."
    )

    @property
    def is_on(self) -> bool:
        """Whether records go there."""
        return self.path is not None


class Sinks(Section):
    """Where records go."""

    store: Store = Store()
    ndjson: Ndjson = Ndjson()

    def on(self) -> dict[str, Sink]:
        """Those that are switched on, by name."""
        every: dict[str, Sink] = {"store": self.store, "ndjson": self.ndjson}
        return {name: sink for name, sink in every.items() if sink.is_on}
