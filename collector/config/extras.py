"""Optional dependencies: whether they are installed, and how they are."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Look for a module without loading it. A directory without code, such as an uninstalled
    package may leave, is no module."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # its parent is not there
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


def reinstall(extra: str) -> str:
    """Return the command that installs an extra anew, over what is there."""
    return f"pip install --force-reinstall 'data-minimisation-collector[{extra}]'"


NO_GRPC: str = (
    f"OTLP/gRPC is off, as grpcio is not installed: {install('grpc')}, or set `grpc.address: off`"
)
"""The message to an operator who has neither asked for gRPC nor switched it off."""
NO_GRPC_ORIGIN = "default (grpcio is not installed)"
"""The origin of ``grpc.address`` in that case."""
