"""Age files: pyrage opens what is sealed here and the reverse, and no change passes."""

from __future__ import annotations

from random import Random

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyrage.x25519 import Identity

from collector.recording.age import read_point, seal, unseal

SIZES = (0, 1, 100, 65_535, 65_536, 65_537, 131_072, 200_000, 1 << 20)


@pytest.fixture(scope="module")
def identity() -> Identity:
    """What opens the files."""
    return Identity.generate()


def _content(size: int) -> bytes:
    return Random(size).randbytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_age_files_are_those_of_pyrage(identity: Identity, size: int) -> None:
    """Both ways, at every number of pieces and at the ends of them."""
    content = _content(size)
    sealed = bytes(seal(content, str(identity.to_public())))
    assert unseal(sealed, identity) == content
    assert pyrage.decrypt(sealed, [identity]) == content
    assert unseal(pyrage.encrypt(content, [identity.to_public()]), identity) == content


def test_no_two_files_are_alike(identity: Identity) -> None:
    """Each has a key, a share and a nonce of its own."""
    files = {bytes(seal(b"the same", str(identity.to_public()))) for _ in range(20)}
    assert len({file[-40:] for file in files}) == len({file[:80] for file in files}) == 20


def test_files_of_several_recipients_are_opened(identity: Identity) -> None:
    """Their headers have other forms, also with a stanza that means nothing."""
    other = Identity.generate()
    sealed = pyrage.encrypt(b"content", [other.to_public(), identity.to_public()])
    assert unseal(sealed, identity) == b"content"


@pytest.mark.parametrize("size", [0, 1, 131_072])
def test_no_change_passes(identity: Identity, size: int) -> None:
    """A flipped bit anywhere in the header and at places of the payload, pieces that are missing,
    swapped or cut, and bytes after the end: pyrage refuses them as well."""
    sealed = bytes(seal(_content(size), str(identity.to_public())))
    start, piece = sealed.index(b"\n--- ") + 49, 65_536 + 16
    places = [*range(start + 20), len(sealed) - 1, start + 16 + (len(sealed) - start - 16) // 2]
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        for at in places
        if at < len(sealed)
    ]
    head, payload = sealed[: start + 16], sealed[start + 16 :]
    changed += [sealed[:-1], sealed + b"x", head, sealed[:start], sealed[:50], b"", payload]
    if size > piece:
        changed += [
            head + payload[piece:] + payload[:piece],
            head + payload[:piece],
            head + payload[:-piece],
            head + payload[piece:],
        ]
    for each in changed:
        with pytest.raises(ValueError, match="does not open"):
            unseal(each, identity)
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(each, [identity])


def test_another_identity_opens_nothing(identity: Identity) -> None:
    """The error is the same as for a file that was changed."""
    with pytest.raises(ValueError, match="does not open"):
        unseal(bytes(seal(b"content", str(Identity.generate().to_public()))), identity)


def test_keys_are_read_as_the_format_writes_them() -> None:
    """The pair of the specification."""
    identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
    recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    secret = X25519PrivateKey.from_private_bytes(read_point(identity))
    assert secret.public_key().public_bytes_raw() == read_point(recipient)
