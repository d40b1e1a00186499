"""What settings must be together. A rule yields its findings: the settings, a code, a message."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from collector.config.model import Config

__all__ = ["RULES", "Finding"]

Finding = tuple[tuple[tuple[str, ...], ...], str, str]
"""The settings that it is about, the first of them to blame; the code; the message."""

_TLS = (("tls", "certificate"), ("tls", "key"), ("tls", "client_ca"))
_TOKENS = ("auth", "tokens")
_OPEN = "other machines can reach this address: set {}, or use a loopback address"
_SAY = {"recipient": "who", "purposes": "what for"}
_ADDRESSES = ("http", "grpc", "admin")
_OWN = ("collector.", "ledger.", "spool.", "store.")
"""What the names of files in the data directory begin with."""


def closed_doors(config: Config) -> Iterator[Finding]:
    """Whoever can be reached from elsewhere encrypts, and knows its senders."""
    tls = config.tls
    for section in _ADDRESSES:
        address = getattr(config, section).address
        if address is None or address.is_loopback:
            continue
        at = (section, "address")
        if tls.certificate is None or tls.key is None:
            yield (at, *_TLS[:2]), "E210", _OPEN.format("`tls.certificate` and `tls.key`")
        if not config.auth.tokens and tls.client_ca is None:
            yield (at, _TLS[2], _TOKENS), "E210", _OPEN.format("`auth.tokens` or `tls.client_ca`")


def whole_pairs(config: Config) -> Iterator[Finding]:
    """A certificate has a key, and senders' certificates need both."""
    tls = config.tls
    if (tls.certificate is None) != (tls.key is None):
        at = _TLS[0] if tls.key is None else _TLS[1]
        yield (at, *_TLS), "E211", "a certificate and its key go together; set the other one too"
    elif tls.client_ca is not None and tls.certificate is None:
        message = "senders' certificates need encryption; set `tls.certificate` and `tls.key` too"
        yield (_TLS[2], *_TLS), "E211", message


def different_ports(config: Config) -> Iterator[Finding]:
    """Two listeners do not share an address; port 0 stands for any free one."""
    seen: dict[object, str] = {}
    for section in _ADDRESSES:
        address = getattr(config, section).address
        if address is None or not address.port:
            continue
        if address in seen:
            about = ((section, "address"), (seen[address], "address"))
            message = f"this is the address of `{seen[address]}.address` too; use another port"
            yield about, "E211", message
        seen[address] = section


def ways_in(config: Config) -> Iterator[Finding]:
    """Something is received."""
    if config.http.address is None and config.http.unix is None and config.grpc.address is None:
        about = (("http", "address"), ("http", "unix"), ("grpc", "address"))
        yield about, "E211", "nothing would be received; switch on an address or a socket file"


def ways_out(config: Config) -> Iterator[Finding]:
    """Something is kept."""
    if not config.sinks.on():
        about = (("sinks", "store", "enabled"), ("sinks", "ndjson", "path"))
        yield about, "E211", "nothing would be kept; switch on the store, or name a file"


def own_files(config: Config) -> Iterator[Finding]:
    """Records are not written over what lies in the data directory, by whatever way it is named."""
    path, data = config.sinks.ndjson.path, config.data
    if path is None or data is None:
        return
    folder, name = os.path.split(os.path.realpath(path))
    if folder == os.path.realpath(data) and name.casefold().startswith(_OWN):
        about = (("sinks", "ndjson", "path"), ("data",))
        yield about, "E211", "the data directory has files of such a name; use another one"


def outside_is_named(config: Config) -> Iterator[Finding]:
    """Whoever else gets records is known by name, and what for."""
    for name, sink in config.sinks.on().items():
        if sink.party == "first":
            continue
        party = ("sinks", name, "party")
        for key in ("recipient", "purposes"):
            if getattr(sink, key) is None:
                message = f"somebody else would receive records: say in `{key}` {_SAY[key]}"
                yield (party, ("sinks", name, key)), "E214", message


RULES: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    closed_doors,
    whole_pairs,
    different_ports,
    ways_in,
    ways_out,
    own_files,
    outside_is_named,
)
