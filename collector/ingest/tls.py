"""TLS: one certificate with its key, and the authority of accepted client certificates.

The same pair serves HTTP (``context``) and gRPC (``grpc``). The minimum is TLS 1.2. With a client
authority, every client must present a certificate from it (mutual TLS). Session keys are never
logged, even if ``SSLKEYLOGFILE`` is set.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from time import time
from typing import TYPE_CHECKING

from collector.errors import ConfigError, NotNow

if TYPE_CHECKING:
    import grpc  # type: ignore[import-untyped]

_LARGEST_FILE = 1 << 20
"""Bytes of a certificate, key or authority file: more than any chain or bundle needs."""
_ALPN = ["http/1.1"]
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_VERSION, _UTC_TIME, _FIRST_YEAR = 0xA0, 0x17, 50
_SOON_SECONDS = 14 * 86_400
Pem = tuple[bytes, bytes, bytes | None]


class Certificates:
    """A server's certificate chain and key (PEM files), and the clients' authority, if any.

    The files are read and checked once. Raises ``ConfigError`` E212 when a file cannot be read or
    has other contents, when the key is encrypted or does not match the certificate, or when the
    certificate has expired, and ``NotNow`` when it is not valid yet. Messages name the setting,
    never a path or a file's contents.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None = None,
    ) -> None:
        self.pem: Pem = (
            _read(certificate, "certificate", "BEGIN CERTIFICATE"),
            _read(key, "key", "PRIVATE KEY"),
            _read(client_ca, "client_ca", "BEGIN CERTIFICATE") if client_ca else None,
        )
        """The contents of the files: chain, key and authority."""
        self.context()
        began, ended = self.validity
        if ended <= time():
            message = "the certificate has expired; put a new one, with its key, in its place"
            raise ConfigError("E212", message)
        if began > time():
            raise NotNow(
                "E212", "the certificate is not valid yet; is the clock of this host right?"
            )

    @classmethod
    def of(cls, pem: Pem) -> Certificates:
        """Build from the ``pem`` of another process's certificates."""
        found = cls.__new__(cls)
        found.pem = pem
        return found

    @property
    def validity(self) -> tuple[float, float]:
        """The start and end of the validity of the server's own certificate, in seconds of the
        epoch. Certificates of its issuers are ignored, because a client may know newer ones."""
        return _validity(self.pem[0])

    def ends_soon(self, now: float) -> bool:
        """Return whether less than a third of its lifetime and less than two weeks are left."""
        began, ended = self.validity
        return ended - now < min((ended - began) / 3, _SOON_SECONDS)

    @property
    def mutual(self) -> bool:
        """Whether clients must present a certificate."""
        return self.pem[2] is not None

    def context(self) -> ssl.SSLContext:
        """Make a context for a server of HTTP/1.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(_ALPN)
        chain, secret, authority = self.pem
        _load_pair(context, chain, secret)
        if authority is not None:
            _load_authority(context, authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def grpc(self) -> grpc.ServerCredentials:
        """Make credentials for a server of gRPC, which takes TLS 1.2 and 1.3."""
        import grpc  # noqa: PLC0415

        chain, secret, authority = self.pem
        return grpc.ssl_server_credentials(
            [(secret, chain)], authority, require_client_auth=self.mutual
        )


def _read(path: Path, name: str, mark: str) -> bytes:
    """Read a PEM file, and check that it is one."""
    why, data = "", b""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):  # reading could wait for ever, and it is read twice
            why = "it is a pipe"
        else:
            with path.open("rb") as handle:
                data = handle.read(_LARGEST_FILE + 1)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
    if why:
        raise ConfigError("E212", f"the file of `{name}` cannot be read: {why}")
    if len(data) > _LARGEST_FILE:
        raise ConfigError("E212", f"the file of `{name}` is larger than 1 MiB; is it another one?")
    if mark.encode() not in data:
        raise ConfigError("E212", f"the file of `{name}` has no `{mark}`; name a PEM file")
    return data


def _load_pair(context: ssl.SSLContext, chain: bytes, secret: bytes) -> None:
    """Load chain and key. The empty password keeps OpenSSL from asking on the terminal.

    The library takes only names of files.
    """
    reason = ""
    try:
        with _file(chain) as certificate, _file(secret) as key:
            context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        reason = error.reason or "UNKNOWN"
    except OSError:
        reason = "UNREADABLE"
    if reason == "KEY_VALUES_MISMATCH":
        raise ConfigError(
            "E212", "the key does not fit the certificate; take the pair of one order"
        )
    if reason:
        raise ConfigError(
            "E212",
            "the certificate and its key cannot be used; both must be whole PEM files, the key not"
            " encrypted, and neither too weak",
        )


def _validity(chain: bytes) -> tuple[float, float]:
    """Return the start and end of the first certificate's validity: the fourth or fifth part of its
    first part (RFC 5280, section 4.1). Raises ``ConfigError`` E212."""
    times: list[float] = []
    with suppress(ValueError, IndexError):
        text = chain.decode("ascii", "ignore")
        first = text[text.index(_BEGIN) : text.index(_END) + len(_END)]
        parts = _parts(_parts(_parts(ssl.PEM_cert_to_DER_cert(first))[0][1])[0][1])
        number = 4 if parts[0][0] == _VERSION else 3
        times = [_time(tag, content) for tag, content in _parts(parts[number][1])]
    if len(times) != 2:
        raise ConfigError("E212", "the certificate does not say how long it is valid")
    return times[0], times[1]


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Return the tag and the content of each element of an encoding (X.690, DER). Raises
    ``ValueError`` and ``IndexError``."""
    found, at = list[tuple[int, bytes]](), 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets]), at + octets
        if at + length > len(der):
            raise ValueError
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _time(tag: int, content: bytes) -> float:
    """Read a UTCTime, whose years are 1950 to 2049, or a GeneralizedTime. Raises ``ValueError``."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = f"{'19' if int(text[:2]) >= _FIRST_YEAR else '20'}{text}"
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """Yield the name of a file with some contents, in memory if the system has such files."""
    in_memory = hasattr(os, "memfd_create")
    with os.fdopen(os.memfd_create("pem"), "wb") if in_memory else TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _load_authority(context: ssl.SSLContext, authority: bytes) -> None:
    try:
        context.load_verify_locations(cadata=authority.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        pass
    else:
        if context.get_ca_certs():
            return
    raise ConfigError("E212", "the file of `client_ca` holds no certificate of an authority")
