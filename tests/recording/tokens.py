"""Tokens of a platform for tests, well made and otherwise, and its key set."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NOW = 1_800_000_000.0


def encoded(data: bytes | dict[str, Any]) -> str:
    """Bytes, or JSON, in base64url without padding."""
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def member(key: Ed25519PrivateKey, kid: str) -> dict[str, Any]:
    """The member of a key set for a key."""
    x = encoded(key.public_key().public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid}


class Platform:
    """A key, its key set in a file, and tokens that it signs, byte by byte by their RFCs."""

    def __init__(self, folder: Path, kid: str = "one") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.kid = kid
        self.path = folder / "jwks.json"
        self.publish(member(self.key, kid))

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def publish(self, *members: dict[str, Any]) -> None:
        """Write a key set."""
        self.path.write_text(json.dumps({"keys": members}))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a valid token; ``None`` leaves one out."""
        claims: dict[str, Any] = {"role": "host", "sub": "ada", "meeting": "m-1", "jti": "j-1"}
        claims |= {"iat": NOW, "exp": NOW + 300, **changes}
        return {name: claim for name, claim in claims.items() if claim is not None}

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """A token with some members of the header and some claims changed."""
        return self.sign(encoded(self.claims(**claims)), header)

    def sign(self, payload: str, header: dict[str, Any] | str | None = None) -> bytes:
        """Sign an encoded payload, under a header that is encoded if it is a text."""
        if not isinstance(header, str):
            header = encoded({"alg": "Ed25519", "kid": self.kid, **(header or {})})
        signed = f"{header}.{payload}".encode()
        return signed + b"." + encoded(self.key.sign(signed)).encode()
