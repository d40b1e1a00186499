"""The plan of a configuration's workers: everything that they get of it, and how what they hand
over is understood."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from collector.config import Config
from collector.filter.recheck import Recheck
from collector.ingest.limits import IngestLimits
from collector.ingest.tls import Certificates
from collector.schema import Schema
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.stored_document import packed
from collector.server import listeners
from collector.server.listeners import Location
from collector.server.messages import ReceiverSetup, Setup

if TYPE_CHECKING:
    from collector.server.components import Components


class WorkerPlan:
    """The workers of a configuration: how many there are, their first message with the listening
    sockets that go with it, the checks of what they hand over, and the keys that they may have."""

    def __init__(
        self,
        components: Components,
        locations: Mapping[str, Location],
        listening: Mapping[str, socket.socket],
        *,
        workers: int,
        confine: bool,
    ) -> None:
        self.workers: int = workers
        self.schemas: tuple[Schema, ...] = components.schemas
        self.locations: Mapping[str, Location] = locations
        self.sockets: tuple[socket.socket, ...] = tuple(listening.values())
        self.rechecks: Mapping[str, Recheck] = {
            each.layout.digest: Recheck(each) for each in components.schemas
        }
        self.setup: Setup = worker_setup(
            components.config,
            components.schemas,
            limits=components.limits,
            certificates=components.certificates,
            locations=locations,
            listening=listening,
            workers=self.workers,
            confine=confine,
        )
        self._pseudonyms = pseudonyms(components.schemas)

    def __repr__(self) -> str:
        return f"<WorkerPlan of {', '.join(schema.id for schema in self.schemas)}>"

    def period(self, reference: str, claimed: int) -> int:
        """Return a present period of a key: the claimed one, or the nearest."""
        now = datetime.now(UTC)
        present = [field.period(now) for field in self._pseudonyms if field.key == reference]
        return min(present, key=lambda period: abs(period - claimed))


def worker_setup(
    config: Config,
    schemas: Sequence[Schema],
    *,
    limits: IngestLimits,
    certificates: Certificates | None,
    locations: Mapping[str, Location],
    listening: Collection[str],
    workers: int,
    confine: bool,
) -> Setup:
    """Return the message. ``locations`` are where receivers listen, and ``listening`` the names of
    those whose sockets go with it, in their order; limits are shared among ``workers``."""
    keys = [field.key for field in pseudonyms(schemas)]
    return Setup(
        [packed(schema) for schema in schemas],
        config.limits.events,
        list(config.auth.tokens) if config.auth.tokens else None,
        list(config.http.origins),
        list(listeners.accepted_hosts(config.http.address, config.http.hosts)),
        config.http.trusted_hops,
        config.http.preferences,
        list(dict.fromkeys(keys)),
        asdict(_share(limits, workers)),
        list(_receivers(locations, listening)),
        None if certificates is None else certificates.pem,
        confine,
        config.sandbox == "required",
        os.getpid(),
        workers,
    )


def pseudonyms(schemas: Iterable[Schema]) -> list[PseudonymField]:
    """Return the fields that are pseudonyms, of all schemas."""
    fields = (field for schema in schemas for field in schema.fields.values())
    return [field for field in fields if isinstance(field, PseudonymField)]


def _receivers(
    locations: Mapping[str, Location], listening: Collection[str]
) -> Iterator[ReceiverSetup]:
    """Yield the receivers that get a socket, in the order of the sockets, then the others."""
    for name in dict.fromkeys([*listening, *locations]):
        place, has_socket = locations[name], name in listening
        if isinstance(place, Path):
            yield ReceiverSetup(name, "", 0, str(place), has_socket)
        else:
            yield ReceiverSetup(name, place.host, place.port, None, has_socket)


def _share(limits: IngestLimits, workers: int) -> IngestLimits:
    """Return the limits of one of several workers: of connections and memory, a share."""
    return replace(
        limits,
        connections=-(-limits.connections // workers),
        memory=max(1, limits.memory // workers),
    )
