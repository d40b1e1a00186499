"""Certificates for tests, made by the ``openssl`` program: an authority, servers and clients."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import required


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            required("openssl")
        self.folder = folder
        self.own = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(
            *"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(),
            *("-subj", f"/CN={name}", "-keyout", self.own.key, "-out", self.own.certificate),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def issue(self, name: str) -> Pair:
        """A certificate for ``localhost`` and ``127.0.0.1``, for servers and clients alike."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        _openssl(
            *"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -x509 -days 2".split(),
            *("-CA", self.own.certificate, "-CAkey", self.own.key, "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-keyout", pair.key, "-out", pair.certificate),
        )
        return pair


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
