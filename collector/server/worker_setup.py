"""The first message to a worker: everything that it gets of a configuration, and no more."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from collector.config import Config
from collector.ingest.limits import IngestLimits
from collector.ingest.tls import Certificates
from collector.schema import Schema
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.stored_document import packed
from collector.server import listeners
from collector.server.listeners import Location
from collector.server.messages import ReceiverSetup, Setup

__all__ = ["pseudonyms", "worker_setup"]


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
        list(dict.fromkeys(keys)),
        asdict(_share(limits, workers)),
        config.limits.events,
        list(_receivers(locations, listening)),
        list(config.auth.tokens) if config.auth.tokens else None,
        None if certificates is None else certificates.pem,
        list(config.http.origins),
        list(listeners.accepted_hosts(config.http.address, config.http.hosts)),
        config.http.trusted_hops,
        config.http.preferences,
        confine,
        config.sandbox == "required",
        os.getpid(),
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
