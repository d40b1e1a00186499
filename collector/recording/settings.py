"""The section ``recorder`` of the configuration: checked against this machine, and resolved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from collector.config import Loaded
from collector.config.model import RecorderSection
from collector.config.values import resolved
from collector.errors import CollectorError, ConfigFaults, Fault, InUse
from collector.extras import require
from collector.files import check_directory
from collector.recording.access import Verifier
from collector.recording.jwks import KeySource
from collector.recording.store import FILE_NAME
from collector.spool.lock import check_lock
from collector.sqlite.connection import check_database

MODULES = ("cryptography", "httptools", "obstore", "pyrage")
"""The libraries of the extra ``recording`` except joserfc, without which this module cannot
load."""


def find_faults(loaded: Loaded) -> list[Fault]:
    """Return every fault that well-formed settings of the recorder have on this machine: its extra,
    its directory, the file of keys, references. It changes nothing and asks no address."""
    return _found(loaded)[0]


def require_sound(loaded: Loaded) -> None:
    """Raise ``ConfigFaults`` if ``find_faults`` finds any."""
    faults, may_pass = _found(loaded)
    if faults:
        raise ConfigFaults(faults, may_pass=may_pass)


def _found(loaded: Loaded) -> tuple[list[Fault], bool]:
    """Return the faults, and whether all of them may go away by themselves."""
    recorder, faults, may_pass = loaded.config.recorder, list[Fault](), True
    checks: dict[str, Callable[[], object]] = {
        "recorder.enabled": _check_modules,
        "recorder.data": lambda: _check_directory(recorder.data or Path()),
        "recorder.keys": lambda: _check_keys(recorder.keys),
        "recorder.unix": lambda: _check_parent(recorder.unix),
        "recorder.bucket_access_key": lambda: bucket_options(recorder),
    }
    for name, check in checks.items():
        try:
            if loaded.sound(name):
                check()
        except InUse:  # the recorder may be running with this configuration
            pass
        except CollectorError as error:
            faults.append(loaded.fault(name, error.message, error.code))
            may_pass = may_pass and error.may_pass
    return faults, may_pass


def verifier(recorder: RecorderSection) -> Verifier:
    """Return the verifier of tokens. Raises ``ConfigError`` E203 if the file is not a key set."""
    return Verifier(KeySource(str(recorder.keys)), eddsa=recorder.eddsa)


def bucket_options(recorder: RecorderSection) -> dict[str, str]:
    """Return obstore's options for the bucket. Without settings, obstore reads the environment as
    the provider's tools do. Raises ``ConfigError`` E202 if the secret of a reference is missing."""
    options = {
        "endpoint": recorder.bucket_endpoint,
        "region": recorder.bucket_region,
        "access_key_id": _resolved(recorder.bucket_access_key),
        "secret_access_key": _resolved(recorder.bucket_secret_key),
        "allow_http": "true" if (recorder.bucket_endpoint or "").startswith("http:") else None,
    }
    return {name: option for name, option in options.items() if option is not None}


def _resolved(reference: str | None) -> str | None:
    return None if reference is None else resolved(reference)


def _check_modules() -> None:
    require("recording", "recording", *MODULES)


def _check_directory(directory: Path) -> None:
    check_directory(directory)
    check_database(directory / FILE_NAME)
    check_lock(directory)


def _check_parent(path: Path | None) -> None:
    if path is not None:
        check_directory(path.parent)


def _check_keys(keys: str | None) -> None:
    if keys is not None and not keys.startswith("https://"):
        KeySource(keys)
