"""Rules about several settings together. A rule yields findings: settings, a code, a message."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from collector.addresses import Address, overlap
from collector.config.model import SWITCH, Config
from collector.config.sink_settings import SinkSettings

Finding = tuple[tuple[tuple[str, ...], ...], str, str]
"""The settings that a fault is about (the first one is to blame), its code and its message."""

_TLS = (("tls", "certificate"), ("tls", "key"), ("tls", "client_ca"))
_TOKENS = ("auth", "tokens")
_OPEN = "other machines can reach this address; set {}, or use a loopback address"
SAME_ADDRESS = "`{}` has the same address; use another port"
"""The message about two listeners with one address, with the setting of the other one."""
_ASKED = {"recipient": "name it", "purposes": "list what for"}
_ADDRESSES = tuple(
    name
    for name, field in Config.model_fields.items()
    if "address" in getattr(field.annotation, "model_fields", ())
)
"""The sections with an address to listen on: ``http``, ``grpc``, ``admin``, ``recorder``, and the
sections of further receivers."""
_NO_RECEIVERS = ("admin", "recorder")
"""The sections of these that take no events."""
_OWN = ("collector.", "ledger.", "spool.", "store.")
"""Prefixes of the names of files in the data directory."""
_OWN_FILES = (
    "collector.lock",
    "ledger.key",
    "spool.db",
    "store.db",
    "verdicts.json",
)
"""The same, for a socket file, which may be called ``collector.sock``."""
OWN_DIRECTORY = "sinks"
"""The name of the directory of sinks' own directories in the data directory."""
_COMPANION = re.compile(r"\.state|(\.[0-9]+)?(\.new)?|-wal|-shm|-journal|\.compact-.*").fullmatch
"""Matches the ends of the names of files that a sink makes beside its own."""


def _addresses(config: Config) -> Iterator[tuple[str, Address]]:
    """Yield the addresses that are listened on, by their sections."""
    for section in _ADDRESSES:
        settings = getattr(config, section)
        if settings.address is not None and getattr(settings, SWITCH, True):
            yield section, settings.address


def open_addresses(config: Config) -> Iterator[Finding]:
    """Require encryption and authentication on addresses that other machines can reach, except on
    an ``open`` admin address. The recorder has an authentication of its own, by tokens of the
    platform."""
    tls = config.tls
    for section, address in _addresses(config):
        if address.is_loopback or (section == "admin" and config.admin.open):
            continue
        at = (section, "address")
        if tls.certificate is None or tls.key is None:
            yield (at, *_TLS[:2]), "E210", _OPEN.format("`tls.certificate` and `tls.key`")
        is_open = not config.auth.tokens and tls.client_ca is None
        if is_open and section != "recorder":
            yield (at, _TLS[2], _TOKENS), "E210", _OPEN.format("`auth.tokens` or `tls.client_ca`")


def certificate_pairs(config: Config) -> Iterator[Finding]:
    """Require a key for a certificate, and both for senders' certificates."""
    tls = config.tls
    if (tls.certificate is None) != (tls.key is None):
        at = _TLS[0] if tls.key is None else _TLS[1]
        yield (
            (at, *_TLS),
            "E106",
            "a certificate needs its key; set both `tls.certificate` and `tls.key`",
        )
    elif tls.client_ca is not None and tls.certificate is None:
        message = "senders' certificates need encryption; also set `tls.certificate` and `tls.key`"
        yield (_TLS[2], *_TLS), "E106", message


def different_ports(config: Config) -> Iterator[Finding]:
    """Refuse two listeners on one address, by whatever name; port 0 stands for any free port.

    Names other than ``localhost`` are compared with others only where they are resolved.
    """
    seen: dict[str, Address] = {}
    for section, address in _addresses(config):
        if not address.port:
            continue
        for other, theirs in seen.items():
            if address == theirs or overlap(address, address.hosts, theirs, theirs.hosts):
                about = ((section, "address"), (other, "address"))
                yield about, "E122", SAME_ADDRESS.format(f"{other}.address")
                break
        seen[section] = address


def has_receiver(config: Config) -> Iterator[Finding]:
    """Require a receiver for events, unless batches come from a broker."""
    if config.drain.is_on:
        return
    about = [(section, "address") for section in _ADDRESSES if section not in _NO_RECEIVERS]
    about.insert(1, ("http", "unix"))
    if all(getattr(getattr(config, section), field) is None for section, field in about):
        message = "no receiver is on; set an address or a socket file"
        yield tuple(about), "E106", message


def has_recorder_settings(config: Config) -> Iterator[Finding]:
    """Require what a recorder needs, if one may run: keys, an address, a directory of its own."""
    recorder, at = config.recorder, "recorder"
    if not recorder.enabled:
        return
    if recorder.keys is None:
        message = "without the platform's public keys no token can be verified; set `recorder.keys`"
        yield ((at, "keys"), (at, SWITCH)), "E106", message
    if recorder.address is None and recorder.unix is None:
        message = "nobody can reach the recorder; set its address or a socket file"
        yield ((at, "address"), (at, "unix")), "E106", message
    if (recorder.bucket_access_key is None) != (recorder.bucket_secret_key is None):
        keys = ((at, "bucket_access_key"), (at, "bucket_secret_key"))
        first = keys[0] if recorder.bucket_secret_key is None else keys[1]
        yield (first, *keys), "E106", "set both the name of the key and its secret, or neither"
    if recorder.bucket_access_key and not (recorder.bucket or "").startswith("s3:"):
        message = "this key is only for `s3` buckets; those of others come from the environment"
        yield ((at, "bucket_access_key"), (at, "bucket")), "E122", message
    own, data = (Path(os.path.realpath(each or Path())) for each in (recorder.data, config.data))
    if own == data or own in data.parents or data in own.parents:
        message = "recordings and records must not share a directory; choose another one"
        yield ((at, "data"), ("data",)), "E122", message
    for name, sink in config.sinks.on().items():
        for key, path in sink.files().items():
            if own in Path(os.path.realpath(path)).parents:
                message = "this path is in the directory of recordings; choose another path"
                yield (("sinks", name, key), (at, "data")), "E122", message


def has_sink(config: Config) -> Iterator[Finding]:
    """Require a sink."""
    if not config.sinks.on():
        about = tuple(("sinks", name, _first_own(sink)) for name, sink in config.sinks.items())
        yield about, "E106", "no sink is on, so nothing would be kept; switch one on"


_MOST_SHARED = 0.9
"""The most of the spool that may wait for sinks that skip; the rest is for other sinks."""


def shares_that_fit(config: Config) -> Iterator[Finding]:
    """Require a limit for each sink that skips, and room for the other sinks beside all of them."""
    skipping = {name: sink for name, sink in config.sinks.on().items() if sink.share.skips}
    for name, sink in skipping.items():
        if sink.limit is None:
            message = "a sink that skips needs a share of the spool: set its `limit`"
            yield (("sinks", name, "when_full"), ("sinks", name, "limit")), "E106", message
    total = sum(sink.limit or 0 for sink in skipping.values())
    if total > _MOST_SHARED * config.spool.limit:
        about = tuple(("sinks", name, "limit") for name in skipping)
        message = "sinks that skip must leave a tenth of `spool.limit` to others"
        yield (*about, ("spool", "limit")), "E122", message


def _first_own(sink: SinkSettings) -> str:
    """Return the first setting that only this type has."""
    own = (name for name in type(sink).model_fields if name not in SinkSettings.model_fields)
    return next(own, "type")


class _Use(NamedTuple):
    """What a setting uses a path for: a file, which has companions, or a directory."""

    at: tuple[str, ...]
    path: Path
    is_directory: bool = False

    def excludes(self, other: _Use) -> bool:
        """Return whether the other path cannot be used beside this file."""
        is_above = self.path in (other.path, *other.path.parents)
        if is_above or other.is_directory:
            return is_above or self._makes(other)
        return other.path in self.path.parents or self._makes(other) or other._makes(self)

    def _makes(self, other: _Use) -> bool:
        """Return whether the other path is that of a companion."""
        own, theirs = str(self.path), str(other.path)
        return theirs.startswith(own) and _COMPANION(theirs[len(own) :]) is not None


def distinct_paths(config: Config) -> Iterator[Finding]:
    """Refuse a path at which another setting also has a file or directory, however it is
    written."""
    on, data = config.sinks.on(), Path(os.path.realpath(config.data or Path()))
    seen = [_Use(("data",), path, is_directory=True) for path in (data, data / OWN_DIRECTORY)]
    for name, sink in on.items():
        for key, path in sink.files().items():
            use = _Use(("sinks", name, key), Path(os.path.realpath(path)))
            yield from _conflicts(use, seen, data, [other for other in on if other != name])
            seen.append(use)
    recorder = config.recorder.unix if config.recorder.enabled else None
    for section, unix in (("http", config.http.unix), ("recorder", recorder)):
        if unix is not None:
            use = _Use((section, "unix"), Path(os.path.realpath(unix)))
            yield from _conflicts(use, seen, data, list(on))
            seen.append(use)


def distinct_places(config: Config) -> Iterator[Finding]:
    """Refuse two sinks at one place, or one within the other, if the place recognises batch ids: it
    would take the second sink's batches for repetitions."""
    seen = dict[str, str]()
    for name, sink in config.sinks.on().items():
        place = f"{type(sink).__name__} {sink.known_at}".rstrip("/") + "/"
        for other, known in seen.items() if sink.known_at else ():
            if place.startswith(known) or known.startswith(place):
                message = f"`sinks.{other}` has this location, or one around it; choose another"
                yield tuple(("sinks", each, "url") for each in (name, other)), "E122", message
                break
        if sink.known_at:
            seen[name] = place


def _conflicts(use: _Use, others: list[_Use], data: Path, sinks: list[str]) -> Iterator[Finding]:
    """Compare a file with the files of the data directory, with directories of sinks, and with
    other files."""
    first = next((other for other in others if use.excludes(other)), None)
    names = _OWN if use.at[0] == "sinks" else _OWN_FILES
    if use.path.parent == data and use.path.name.casefold().startswith(names):
        message = "the data directory has its own files with such names; choose another name"
        yield (use.at, ("data",)), "E122", message
    elif any(data / OWN_DIRECTORY / name in (use.path, *use.path.parents) for name in sinks):
        message = "this path is in another sink's directory; choose another path"
        yield (use.at, ("data",)), "E122", message
    elif first is not None:
        message = f"this path overlaps with `{'.'.join(first.at)}`; choose another path"
        yield (use.at, first.at), "E122", message


def other_parties(config: Config) -> Iterator[Finding]:
    """Require ``party`` for a sink on another machine, and recipient and purposes for a sink of
    another party."""
    for name, sink in config.sinks.on().items():
        party = ("sinks", name, "party")
        if not sink.is_local and "party" not in sink.model_fields_set:
            message = (
                "records would leave this machine; state who runs the sink, for example `party:"
                " first`"
            )
            yield (party,), "E106", message
        for key in ("recipient", "purposes") if sink.party != "first" else ():
            if getattr(sink, key) is None:
                message = f"another party would receive records; {_ASKED[key]} in `{key}`"
                yield (party, ("sinks", name, key)), "E106", message


def has_stream(config: Config) -> Iterator[Finding]:
    """Require the address and the stream of a drain together."""
    drain, at = config.drain, "drain"
    if drain.is_on != (drain.stream is not None):
        missing = "stream" if drain.is_on else "url"
        message = f"a drain needs `url` and `stream`; also set `drain.{missing}`"
        yield ((at, missing), (at, "url"), (at, "stream")), "E106", message


def one_or_several_schemas(config: Config) -> Iterator[Finding]:
    """Refuse one schema and several at once."""
    if {"schema_", "schemas"} <= config.model_fields_set:
        message = (
            "`schema` and `schemas` are both set; delete one (`schema` can also come from"
            " `--schema` or `COLLECTOR__SCHEMA`)"
        )
        yield (("schemas",), ("schema",)), "E122", message


RULES: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    open_addresses,
    certificate_pairs,
    different_ports,
    has_receiver,
    has_recorder_settings,
    has_sink,
    shares_that_fit,
    distinct_paths,
    distinct_places,
    other_parties,
    has_stream,
    one_or_several_schemas,
)
