"""The plan of a configuration's workers: everything that they get from it, and how the keeper
decodes what they send."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from collector.server.messages import ReceiverSetup, Setup

if TYPE_CHECKING:
    from collector.server.components import Components
    from collector.server.receivers import OpenSockets


class WorkerPlan:
    """The workers of a configuration: their number, their first message with its listening sockets,
    the checks of what they send, and the keys that they may have."""

    def __init__(
        self, components: Components, sockets: OpenSockets, *, workers: int, confine: bool
    ) -> None:
        self.workers: int = workers
        self.schemas: tuple[Schema, ...] = components.schemas
        self.sockets: tuple[socket.socket, ...] = tuple(sockets.listening.values())
        self.rechecks: Mapping[str, Recheck] = {
            each.layout.digest: Recheck(each) for each in components.schemas
        }
        self.setup: Setup = worker_setup(
            components.config,
            components.schemas,
            sockets,
            limits=components.limits,
            certificates=components.certificates,
            workers=workers,
            confine=confine,
        )
        self._pseudonyms = pseudonyms(components.schemas)

    def period(self, reference: str, claimed: int) -> int:
        """Return a present period of a key: the claimed one, or the nearest one."""
        now = datetime.now(UTC)
        present = [field.period(now) for field in self._pseudonyms if field.key == reference]
        return min(present, key=lambda period: abs(period - claimed))


def worker_setup(
    config: Config,
    schemas: Sequence[Schema],
    sockets: OpenSockets,
    *,
    limits: IngestLimits,
    certificates: Certificates | None,
    workers: int,
    confine: bool,
) -> Setup:
    """Return the first message. Each of ``workers`` gets a share of the limits on connections and
    memory."""
    return Setup(
        schemas=[packed(schema) for schema in schemas],
        events=config.limits.events,
        tokens=list(config.auth.tokens) if config.auth.tokens else None,
        origins=list(config.http.origins),
        hosts=list(listeners.accepted_hosts(config.http.address, config.http.hosts)),
        hops=config.http.trusted_hops,
        preferences=config.http.preferences,
        keys=list(dict.fromkeys(field.key for field in pseudonyms(schemas))),
        limits=asdict(
            replace(
                limits,
                connections=-(-limits.connections // workers),
                memory=max(1, limits.memory // workers),
            )
        ),
        receivers=list(_receivers(sockets)),
        pem=None if certificates is None else certificates.pem,
        confine=confine,
        must_confine=config.sandbox == "required",
        keeper=os.getpid(),
        workers=workers,
    )


def pseudonyms(schemas: Iterable[Schema]) -> list[PseudonymField]:
    """Return the pseudonym fields of all schemas."""
    fields = (field for schema in schemas for field in schema.fields.values())
    return [field for field in fields if isinstance(field, PseudonymField)]


def _receivers(sockets: OpenSockets) -> Iterator[ReceiverSetup]:
    """Yield the receivers that get a socket, in the order of the sockets, then the others."""
    for name in dict.fromkeys([*sockets.listening, *sockets.locations]):
        place, has_socket = sockets.locations[name], name in sockets.listening
        if isinstance(place, Path):
            yield ReceiverSetup(name, "", 0, str(place), has_socket)
        else:
            yield ReceiverSetup(name, place.host, place.port, None, has_socket)
