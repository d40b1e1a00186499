"""Notices: what members are told before they choose, as sound and as picture.

There is one notice for each language and storage, as a WAV and as a PNG file with the same words.
``tests/recording/make_notices.py`` made the files from ``TEXTS``; WAV files are stored with gzip. A
choice names a file by its digest in ``DIGESTS``.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from collector.recording.names import Language, Medium, Storage

__all__ = ["DIGESTS", "TEXTS", "Notice"]

TEXTS: dict[tuple[Language, Storage], tuple[str, ...]] = {
    ("en", "local"): (
        "This meeting is being recorded, by decision of its host.",
        "You may stay in the recording, or leave it at any time.",
        "Nothing of you is recorded unless you choose to stay.",
        "Only the host can open the recording.",
        "Files that were handed over to the host cannot be withdrawn.",
    ),
    ("en", "cloud"): (
        "This meeting is being recorded, by decision of its host.",
        "You may stay in the recording, or leave it at any time.",
        "Nothing of you is recorded unless you choose to stay.",
        (
            "This service keeps the recording encrypted. The host, and people to whom the platform "
            "gives the right, can open it."
        ),
        "If you leave later, each recorded track that has you in it is destroyed.",
    ),
    ("id", "local"): (
        "Rapat ini direkam atas keputusan tuan rumahnya.",
        "Anda boleh ikut direkam, atau keluar dari rekaman kapan saja.",
        "Tanpa persetujuan Anda, Anda tidak direkam.",
        "Hanya tuan rumah yang dapat membuka rekaman.",
        "Berkas yang sudah diserahkan kepada tuan rumah tidak dapat ditarik kembali.",
    ),
    ("id", "cloud"): (
        "Rapat ini direkam atas keputusan tuan rumahnya.",
        "Anda boleh ikut direkam, atau keluar dari rekaman kapan saja.",
        "Tanpa persetujuan Anda, Anda tidak direkam.",
        (
            "Layanan ini menyimpan rekaman terenkripsi. Tuan rumah, dan orang yang diberi hak, "
            "dapat membukanya."
        ),
        "Jika Anda keluar kemudian, trek yang memuat Anda dihapus.",
    ),
}
"""The sentences of each notice, by language and storage; the first one is the picture's title."""

DIGESTS: dict[str, str] = {
    "en-local.wav": "a8d222cdd5212a275228659941c1e4dfe59741bdede5b33c252fe41f5bb8b25f",
    "en-local.png": "53e10b5843e4e855ddad044c64a20d7af050f5485a50dca1300c13f6d21996b2",
    "en-cloud.wav": "9a9a12dfc9946f3b08c3cffa84a641816bbf4826b9900c4d367a160dbd9088c2",
    "en-cloud.png": "074cf726e5bbd49b17bbdfe8156238fb9fa1d6ba9763d8ee5257788624c8720e",
    "id-local.wav": "362460954d6cfbabfc4ff24aee2a2ac42ae64daa40b5fc0af273ebc99040119b",
    "id-local.png": "65bdc4e56f8b41327460dc40c03dfab1e75a979f41469ff030ee80ed5efe2b98",
    "id-cloud.wav": "566c8207e0b87ede0d9857566e9b59ab116830a982c6844d990189906da18589",
    "id-cloud.png": "c41fb425af66841be9d15202abb270c6ab59816785c8a0ef927baa1808701cfa",
}
"""File → SHA-256 of the bytes that members get, in hexadecimal."""


@dataclass(frozen=True)
class Notice:
    """The notice of a recording; ``medium`` is the one that the host chose to show.

    A member may fetch either file, so a choice with either of ``digests`` follows a notice.
    """

    language: Language
    medium: Medium
    storage: Storage

    @property
    def wav(self) -> bytes:
        """The sound: 16 kHz, mono, 8 bits."""
        return self._bytes("wav")

    @property
    def png(self) -> bytes:
        """The picture: 1280 × 720."""
        return self._bytes("png")

    @property
    def digest(self) -> str:
        """The digest of the file of this medium."""
        return DIGESTS[self._name("wav" if self.medium == "audio" else "png")]

    @property
    def digests(self) -> frozenset[str]:
        """The digests of both files."""
        return frozenset(DIGESTS[self._name(suffix)] for suffix in ("wav", "png"))

    def _name(self, suffix: str) -> str:
        return f"{self.language}-{self.storage}.{suffix}"

    def _bytes(self, suffix: str) -> bytes:
        return _read(self._name(suffix))


@cache  # all readers of a notice share its bytes
def _read(name: str) -> bytes:
    folder = files(__name__)
    if name.endswith(".wav"):
        return gzip.decompress(folder.joinpath(f"{name}.gz").read_bytes())
    return folder.joinpath(name).read_bytes()
