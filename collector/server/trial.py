"""Whether what the settings name could be used, tried without changing anything."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from collector.config import Config
from collector.errors import ConfigError
from collector.server.parts import certificates, limits, schema_filter, schema_flows, tokens

__all__ = ["trials"]


def trials(config: Config) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each trial under the name of its setting; one that fails raises a ``CollectorError``, whose
    faults, where it has any of settings, are of those that they name."""
    yield "schema", partial(schema_filter, config)
    yield "schema", partial(schema_flows, config)
    yield "limits.wire", partial(limits, config)
    yield "tls.certificate", partial(certificates, config)
    yield "auth.tokens", partial(tokens, config)
    if config.data is not None:
        yield "data", partial(_directory, config.data)
    if config.http.unix is not None:
        yield "http.unix", partial(_directory, config.http.unix.parent, must_exist=True)
    if config.sinks.ndjson.path is not None:
        yield "sinks.ndjson.path", partial(_directory, config.sinks.ndjson.path.parent)
    for name in ("http", "grpc", "admin"):
        address = getattr(config, name).address
        if address is not None:
            yield f"{name}.address", partial(_host, address.host)


def _directory(path: Path, *, must_exist: bool = False) -> None:
    """Whether files can be made in a directory, or it can be made. Raises ``ConfigError`` E203."""
    try:
        there = path.resolve()
        while not there.exists() and not must_exist and there != there.parent:
            there = there.parent
        usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, RuntimeError):
        usable = False
    if not usable:
        message = "the directory cannot be made or written; check that it exists and may be written"
        raise ConfigError("E203", message)


def _host(host: str) -> None:
    """Whether the host is one of this machine's own; whether a port is free, only ``serve`` finds
    out. Raises ``ConfigError`` E207."""
    usable = False
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
            usable = True
    except OSError:
        pass
    if not usable:
        raise ConfigError("E207", "this machine has no such address; choose one that it has")
