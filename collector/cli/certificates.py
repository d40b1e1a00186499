"""``collector certificates new``: an authority, a server's certificate and a token, so that hosts
can send to a sidecar of another host.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from collector.cli.console import group, out
from collector.cli.options import unwritable
from collector.config.extras import install, is_installed
from collector.errors import ConfigError
from collector.file_modes import write_private
from collector.ingest.auth import new_token

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, ExtensionType, GeneralName

__all__ = ["app"]

app: typer.Typer = group("Make what senders and a sidecar on different hosts need of each other.")

_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)
_MOST_NAME = 253
_AUTHORITY_DAYS = 3650
_SLACK = timedelta(minutes=5)
"""Clocks of other hosts may be so far behind."""
_CONFIGURATION = """\
http: {{address: "0.0.0.0:4318"}}
grpc: {{address: "0.0.0.0:4317"}}
tls: {{certificate: {certificate}, key: {key}}}
auth: {{tokens: [{digest}]}}
"""
_NEXT = """\
On this host:
  collector serve --config {directory}/collector.yaml
On each host that sends, with copies of authority.pem and token:
  export OTEL_EXPORTER_OTLP_ENDPOINT=https://{host}:4318
  export OTEL_EXPORTER_OTLP_CERTIFICATE=authority.pem
  export OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20$(cat token)"
Keep authority.key: who has it can pretend to be this host. The certificate ends on {end};
the same command makes a new one before."""


_Host = str | IPv4Address | IPv6Address


class _Pair(NamedTuple):
    """A certificate and its key."""

    certificate: Certificate
    key: EllipticCurvePrivateKey


@app.callback()
def _group() -> None:
    pass


@app.command("new")
def new(
    hosts: Annotated[
        list[str],
        typer.Argument(metavar="HOST...", help="Names and IP addresses by which senders call it."),
    ],
    directory: Annotated[
        Path, typer.Option("--directory", "-d", metavar="DIR", help="Where the files are put.")
    ] = Path("collector-certificates"),
    days: Annotated[
        int, typer.Option("--days", min=1, max=825, help="How long the server's is valid.")
    ] = 90,
) -> None:
    """Make a certificate for a sidecar, and what signs it, a token and a configuration.

    Where the directory has an authority already, only the server's certificate is made anew: it is
    taken into use at the next start of the sidecar. All files are their owner's alone.

        collector certificates new collector.example.org 192.0.2.7
    """
    if not is_installed("cryptography"):
        raise ConfigError("E201", f"certificates need an extra: {install('signing')}")
    names = [_name(host) for host in hosts]
    now = datetime.now(UTC)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(directory, _signed(_authority(directory, now), names, now, days))
        _make_configuration(directory)
    except OSError as error:
        fault = unwritable(directory, error)
    else:
        end = f"{now + timedelta(days=days):%Y-%m-%d}"
        out.print(
            _NEXT.format(directory=quote(str(directory)), host=_host(names[0]), end=end),
            markup=False,
        )
        return
    raise fault


def _name(host: str) -> _Host:
    with suppress(ValueError):
        return ip_address(host)
    if len(host) > _MOST_NAME or not _NAME.fullmatch(host):
        raise typer.BadParameter(
            "a host is a DNS name in ASCII or an IP address", param_hint="HOST"
        )
    return host.lower()


def _host(name: _Host) -> str:
    return f"[{name}]" if isinstance(name, IPv6Address) else str(name)


def _authority(directory: Path, now: datetime) -> _Pair:
    """Return the authority of a directory, which is made if there is none. Raises ``OSError``, and
    ``ConfigError`` E212 if there is something else in its place."""
    from cryptography import x509  # noqa: PLC0415 - loads slowly, and is an extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    certificate, key = directory / "authority.pem", directory / "authority.key"
    if not (key.exists() or certificate.exists()):
        made = _signed(None, [], now, _AUTHORITY_DAYS)
        _write(directory / "authority", made)
        return made
    with suppress(ValueError, TypeError, OSError):
        signer = load_pem_private_key(key.read_bytes(), None)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        is_signer = found.public_key() == signer.public_key()
        if is_signer and isinstance(signer, ec.EllipticCurvePrivateKey):
            return _Pair(found, signer)
    raise ConfigError("E212", "authority.pem and authority.key are no certificate and its key")


def _replace(directory: Path, server: _Pair) -> None:
    """Write the server's certificate and key, in place of those that there are."""
    fresh = directory / ".new"
    for end in (".key", ".pem"):
        fresh.with_suffix(end).unlink(missing_ok=True)
    _write(fresh, server)
    for end in (".key", ".pem"):
        fresh.with_suffix(end).replace(directory / f"server{end}")


def _signed(authority: _Pair | None, names: list[_Host], now: datetime, days: int) -> _Pair:
    """Make a key and its certificate: a server's, or an authority's own."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    signer = key if authority is None else authority.key
    title = "Collector authority" if authority is None else "Collector"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    alternatives: list[GeneralName] = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names
    ]
    denied = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*denied, "encipher_only", "decipher_only"), False)
    usage |= {"digital_signature": authority is not None}
    usage |= dict.fromkeys(("key_cert_sign", "crl_sign"), authority is None)
    limits = x509.BasicConstraints(authority is None, 0 if authority is None else None)
    extensions: list[tuple[ExtensionType, bool]] = [
        (limits, True),
        (x509.KeyUsage(**usage), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    if authority is not None:
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        extensions += [(x509.SubjectAlternativeName(alternatives), False), (server, False)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if authority is None else authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + timedelta(days=days))
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    return _Pair(builder.sign(signer, SHA256()), key)


def _write(path: Path, pair: _Pair) -> None:
    """Write a key and its certificate beside it. Raises ``OSError``."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415

    pem = form.Encoding.PEM
    key = pair.key.private_bytes(pem, form.PrivateFormat.PKCS8, form.NoEncryption())
    write_private(path.with_suffix(".key"), [key])
    write_private(path.with_suffix(".pem"), [pair.certificate.public_bytes(pem)])


def _make_configuration(directory: Path) -> None:
    """Write a token and a configuration that takes it, unless there are some."""
    token, configuration = directory / "token", directory / "collector.yaml"
    if token.exists() or configuration.exists():
        return
    secret, digest = new_token()
    write_private(token, [f"{secret}\n".encode()])
    place = os.path.realpath(directory)
    text = _CONFIGURATION.format(
        certificate=_quoted(f"{place}/server.pem"),
        key=_quoted(f"{place}/server.key"),
        digest=digest,
    )
    write_private(configuration, [text.encode()])


def _quoted(path: str) -> str:
    """Return a path as a YAML text."""
    return "'" + path.replace("'", "''") + "'"
