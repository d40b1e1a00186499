"""``collector healthcheck``: whether the local sidecar is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from collector.cli.console import err
from collector.cli.serve import ConfigFile
from collector.config import Address, load
from collector.errors import ConfigError

if TYPE_CHECKING:
    from http.client import HTTPConnection

__all__ = ["healthcheck"]

_SECONDS = 3.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, not by us


def healthcheck(config: ConfigFile = None) -> None:
    """Ask the local sidecar whether it is ready: exit 0 if it is, 1 if not.

    It is found by the configuration that it runs under.
    """
    chosen = load(config)
    if chosen.admin.address is None:
        raise ConfigError("E211", "the sidecar has no admin address to ask; set `admin.address`")
    status = _asked(chosen.admin.address)
    if status != 200:
        err.print("no answer" if status == 0 else "not ready")
    raise typer.Exit(0 if status == 200 else 1)


def _asked(address: Address) -> int:
    """The status of ``/readyz``; 0 if nobody answers. No proxy is asked, whatever is set."""
    from http.client import HTTPException  # noqa: PLC0415 - keeps `collector --help` light

    host = _ANYWHERE.get(address.host, address.host)
    connection = _connection(host, address.port, encrypted=not address.is_loopback)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def _connection(host: str, port: int, *, encrypted: bool) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415

    if not encrypted:
        return HTTPConnection(host, port, timeout=_SECONDS)
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is asked on this machine, by an address
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=_SECONDS, context=context)
