"""Optional dependencies: whether they are installed, and how to install them."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

from collector.errors import ConfigError


def is_installed(module: str) -> bool:
    """Look for a module without loading it. A directory without code, which an uninstalled package
    may leave, is not a module."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # its parent package is missing
        return False
    return found is not None and found.origin is not None


def is_loadable(module: str) -> bool:
    """Load a module, and return whether that worked; a broken one may fail in any way."""
    with suppress(Exception, SystemExit):
        import_module(module)
        return True
    return False


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'data-minimisation-collector[{extra}]'"


def missing(what: str, extra: str) -> ConfigError:
    """Return E201 for a feature whose extra is not installed."""
    return ConfigError("E201", f"{what} needs an extra: {install(extra)}")


def require(what: str, extra: str, *modules: str, is_whole: bool = False) -> None:
    """Raise E201 unless the modules that a feature needs are installed, and with ``is_whole`` can
    be loaded."""
    if not all(map(is_installed, modules)):
        raise missing(what, extra)
    if is_whole and not all(map(is_loadable, modules)):
        command = install(extra).replace("install", "install --force-reinstall")
        message = f"a library for {what} is installed and cannot be loaded; reinstall it"
        raise ConfigError("E201", f"{message}: {command}")


NO_GRPC: str = (
    f"OTLP/gRPC is off, as grpcio is not installed: {install('grpc')}, or set `grpc.address: off`"
)
"""The message to an operator who has neither asked for gRPC nor switched it off."""
NO_GRPC_ORIGIN = "default (grpcio is not installed)"
"""The origin of ``grpc.address`` in that case."""
