"""Check the settings against this machine, before the sidecar creates or changes a file.

``config check`` and ``serve`` run the same checks, and ``config check`` finds a fault exactly where
``serve`` would not start. There are two differences. Only ``serve`` refuses an address, directory
or file that another process uses, because that may be the running sidecar of this configuration.
Only ``config check`` contacts the servers of the sinks. A server that does not answer is a warning:
the sidecar starts without it, and retries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import NamedTuple, ParamSpec, TypeVar

from collector.addresses import overlap
from collector.config import Address, Loaded
from collector.config.model import plain_settings
from collector.config.rules import SAME_ADDRESS
from collector.config.sink_types import BUILT_IN
from collector.errors import (
    CollectorError,
    ConfigError,
    ConfigFaults,
    Fault,
    InUse,
    SandboxError,
    SchemaError,
    Unreachable,
)
from collector.files import check_directory
from collector.filter import Filter
from collector.keyring import Keyring
from collector.ledger import opened as opened_ledger
from collector.routing import all_flows
from collector.routing.schemas import accepted, configured
from collector.sandbox import support
from collector.schema.review import read_copy
from collector.schema.stored_document import load_plain
from collector.server import listeners
from collector.server.components import Components, limits, tokens
from collector.server.consumer import check_drain
from collector.server.ledger_notes import widenings
from collector.server.receivers import RECEIVERS
from collector.sinks.sink import Opening, check_sink, sink_type, warnings_of
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import check as check_spool
from collector.spool.lock import check_lock

_P = ParamSpec("_P")
_T = TypeVar("_T")


_RESTART = (
    *("data", "sandbox", "spool.limit", "drain.url", "http.address", "http.unix", "grpc.address"),
    *("admin.address", "admin.hosts", "admin.open"),
)
"""The settings that change only with a restart."""


class Findings(NamedTuple):
    """Faults of settings that are valid in themselves, and warnings: a sidecar starts in spite of
    these, or starts with ``--allow-widening``."""

    faults: list[Fault]
    warnings: list[Fault]


def find_faults(loaded: Loaded) -> list[Fault]:
    """Return every fault of settings that are valid in themselves. Creates and changes nothing."""
    return check(loaded).faults


def check(loaded: Loaded) -> Findings:
    """Return every fault and every warning. Creates and changes nothing."""
    preflight = _Preflight(loaded, in_use=False)
    components, warnings = preflight.components, [*preflight.unreachable]
    if components is not None and not preflight.faults:
        pair = components.certificates
        if pair is not None and pair.ends_soon(time()):
            at = datetime.fromtimestamp(pair.validity[1], UTC)
            message = f"the certificate expires at {at:%Y-%m-%d %H:%M} UTC; replace it before"
            warnings.append(loaded.fault("tls.certificate", message, "E212"))
        warnings += preflight.sink_warnings()
        warnings += _compared(loaded, components)
    return Findings(preflight.faults, warnings)


def restart_faults(running: Mapping[str, object], loaded: Loaded) -> list[Fault]:
    """Return a fault for each setting that differs from a running sidecar's and that it cannot
    change. ``running`` has the sidecar's settings by name."""
    message, settings = "this changes with a restart only", plain_settings(loaded.config)
    changed = (name for name in _RESTART if running.get(name) != settings[name])
    return [loaded.fault(name, message, "E221") for name in changed]


def _compared(loaded: Loaded, components: Components) -> list[Fault]:
    """Return the faults that would refuse a start or that require one of a running sidecar, or a
    fault if the ledger cannot tell."""
    folder = loaded.config.data or Path()
    spool = folder / SPOOL_NAME
    if not spool.is_file():
        return []
    try:
        with opened_ledger(spool) as ledger:
            found = widenings(loaded, components, ledger, "a start needs `--allow-widening`")
            document = ledger.document(ledger.digest("configuration")) or b""
        ran = load_plain(document.partition(b"\n")[2])
        if isinstance(ran, dict) and _is_locked(folder):
            here = {"data": plain_settings(loaded.config)["data"]}
            found += restart_faults({**ran, **here}, loaded)
        return found
    except CollectorError as error:
        message = f"whether this widens what is collected is not known: {error.message}"
        return [loaded.fault("data", message, error.code)]


def _is_locked(folder: Path) -> bool:
    try:
        check_lock(folder)
    except InUse:
        return True
    return False


def prepare(loaded: Loaded) -> Components:
    """Return the components, if there is no fault and all addresses are free; another process may
    still take one later. Raises ``ConfigFaults``; creates and changes nothing then."""
    preflight = _Preflight(loaded, in_use=True)
    if not preflight.faults:
        preflight.try_addresses()
    if preflight.faults or preflight.components is None:
        raise ConfigFaults(preflight.faults, may_pass=preflight.may_pass)
    return preflight.components


def prepare_next(loaded: Loaded) -> Components:
    """Return the components of another configuration for a running sidecar; the caller must not
    open them. Raises ``ConfigFaults``; creates and changes nothing."""
    preflight = _Preflight(loaded, in_use=False, reaches=False)
    faults = list(dict.fromkeys([*loaded.faults, *preflight.faults]))
    if faults or preflight.components is None:
        raise ConfigFaults(faults)
    return preflight.components


class _Preflight:
    """The checks of one configuration. ``in_use`` also checks what other processes use; ``reaches``
    also checks whether servers answer."""

    def __init__(self, loaded: Loaded, *, in_use: bool, reaches: bool = True) -> None:
        self._loaded, self._config = loaded, loaded.config
        self._in_use, self._reaches = in_use, reaches and not in_use
        self._faults: list[Fault] = []
        self.may_pass: bool = True
        """Whether all faults may pass by themselves."""
        self.unreachable: list[Fault] = []
        """Servers that do not answer, or that refuse. A sidecar starts without them."""
        self.components: Components | None = None
        self._check_parts()
        self._try("sandbox", _check_sandbox, self._config.sandbox)
        self._check_data()
        self._check_receivers()
        self._check_sinks()
        if self._config.drain.is_on:
            self._try("drain.url", check_drain, self._config.drain)
            if self.components is not None:
                self._try("drain.versions", accepted, self._config, self.components.schemas)

    @property
    def faults(self) -> list[Fault]:
        """Every fault once, in the order of the checks."""
        return list(dict.fromkeys(self._faults))

    def _try(
        self, name: str, check: Callable[_P, _T], *args: _P.args, **options: _P.kwargs
    ) -> _T | None:
        """Run a check, if its setting is valid; note what it raises. Its faults may name other
        settings."""
        loaded = self._loaded
        try:
            return check(*args, **options) if loaded.sound(name) else None
        except SchemaError as error:
            self.may_pass = False
            self._faults += loaded.schema_faults(error)
        except ConfigFaults as error:
            self.may_pass = False
            named = (one for one in error.faults if loaded.sound(one.field))
            self._faults += [loaded.fault(one.field, one.message, one.code) for one in named]
        except Unreachable as error:  # the sidecar starts anyway, and retries
            if self._reaches:
                message = f"{error.message}; a sidecar starts all the same, and tries again"
                self.unreachable.append(loaded.fault(name, message, error.code))
        except CollectorError as error:
            if self._in_use or not isinstance(error, InUse):
                self.may_pass = self.may_pass and error.may_pass
                self._faults.append(loaded.fault(name, error.message, error.code))
        return None

    def _check_parts(self) -> None:
        """Make the parts that only read files: filter, flows, limits, certificates and tokens."""
        config = self._config
        named, keyring = config.schema_setting, Keyring()
        schemas = self._try(named, configured, config) or ()
        filters = [self._try(named, Filter, schema, keys=keyring) for schema in schemas]
        found = self._try(named, all_flows, config, schemas) if schemas else None
        bounds = self._try("limits.wire", limits, config)
        pair = self._try("tls.certificate", listeners.certificates, config)
        accepted = self._try("auth.tokens", tokens, config)
        if config.claims is not None:
            self._try("claims", _check_claims, config.claims)
        if found and all(filters) and bounds:
            self.components = Components(
                config,
                schemas=schemas,
                copies=[read_copy(config.approved_copy(each)) for each in config.references],
                keyring=keyring,
                flows=found,
                limits=bounds,
                certificates=pair,
                tokens=accepted,
            )

    def _check_data(self) -> None:
        if self._config.data is not None:
            self._try("data", check_spool, self._config.data / SPOOL_NAME)

    def _check_receivers(self) -> None:
        """Check libraries and locations, and that no two receivers share an address, however it is
        named."""
        seen: dict[str, Address] = {}
        for receiver in RECEIVERS.values():
            setting, location = receiver.setting, receiver.location(self._config)
            if location is None or not self._loaded.sound(setting):
                continue
            if receiver.check is not None:
                self._try(setting, receiver.check)
            if isinstance(location, Path):
                folder, data = location.parent, self._config.data or Path()
                is_made = os.path.realpath(folder) == os.path.realpath(data)
                self._try(setting, check_directory, folder, must_exist=not is_made)
            else:
                same = (other for other, theirs in seen.items() if _overlap(location, theirs))
                if (other := next(same, None)) is not None:
                    self._try(setting, _raise, ConfigError("E122", SAME_ADDRESS.format(other)))
                seen[setting] = location
            self._try(setting, listeners.check, location, setting, is_every=receiver.own_port)

    def _check_sinks(self) -> None:
        """Check types and directories, and run each type's own checks."""
        data = self._config.data or Path()
        for name, sink in self._config.sinks.on().items():
            kind, before = self._try(f"sinks.{name}.type", sink_type, sink), len(self._faults)
            paths = {f"sinks.{name}.{key}": path for key, path in sink.files().items()}
            for setting, path in paths.items():
                self._try(setting, check_directory, path.parent, within=data)
            if kind and self.components and len(self._faults) == before:
                own = "data" if sink.is_local and sink.type in BUILT_IN else f"sinks.{name}"
                opening = self._opening(name, self.components)
                self._try(next(iter(paths), own), check_sink, sink, opening)

    def _opening(self, name: str, components: Components) -> Opening:
        data = self._config.data or Path()
        return Opening(name, components.schemas, data, is_offline=True, asks=self._reaches)

    def sink_warnings(self) -> list[Fault]:
        """Return the warnings of each sink's type, if its server answers."""
        if self.components is None:
            return []
        silent = {fault.field for fault in self.unreachable}
        return [
            self._loaded.fault(f"sinks.{name}", warning.message, warning.code)
            for name, sink in self._config.sinks.on().items()
            if f"sinks.{name}" not in silent
            for warning in warnings_of(sink, self._opening(name, self.components))
        ]

    def try_addresses(self) -> None:
        """Listen on all addresses at the same time, then stop."""
        with ExitStack() as stack:
            for receiver in RECEIVERS.values():
                location = receiver.location(self._config)
                if isinstance(location, Address):
                    self._try(receiver.setting, listeners.opened, location, receiver.setting, stack)


def _overlap(first: Address, second: Address) -> bool:
    """Return whether two addresses overlap, if telling that requires resolving one of them. A rule
    of the settings has compared all others."""
    if first.hosts and second.hosts:
        return False
    return overlap(first, listeners.hosts(first), second, listeners.hosts(second))


def _check_sandbox(wanted: str) -> None:
    """Raise ``SandboxError`` E217 if workers must be confined and the kernel cannot confine
    them."""
    lacks = support().lacks if wanted == "required" else ()
    if lacks:
        raise SandboxError(
            "E217", f"the kernel cannot confine workers: it lacks {', '.join(lacks)}"
        )


def _check_claims(path: Path) -> None:
    """Raise ``SchemaError`` for faults in a file of claims, ``ConfigError`` E203 for a missing
    file."""
    from collector.claims.document import load_claims  # noqa: PLC0415 - for those who have one

    try:
        load_claims(path, is_own=True)
    except SchemaError as error:
        if not error.faults[0].is_absent:
            raise
    else:
        return
    raise ConfigError("E203", "the file of claims cannot be read")


def _raise(error: ConfigError) -> None:
    raise error
