"""Notices: each file is the one of the table, small, well formed, and says what it has to."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import wave
from importlib.resources import files
from typing import get_args

import pytest

from collector.recording import notices
from collector.recording.names import Language, Medium, Storage
from collector.recording.notices import DIGESTS, TEXTS, Notice
from tests.conftest import required
from tests.recording.make_notices import picture, sound

NOTICES = [
    Notice(language, medium, storage)
    for language in get_args(Language)
    for storage in get_args(Storage)
    for medium in get_args(Medium)
]


def test_a_notice_is_known_by_its_digest() -> None:
    """The digest is of the bytes that are shipped, and of the medium that the host chose."""
    for notice in NOTICES:
        shown = notice.wav if notice.medium == "audio" else notice.png
        assert notice.digest == hashlib.sha256(shown).hexdigest()
        assert notice.digests == {
            hashlib.sha256(each).hexdigest() for each in (notice.wav, notice.png)
        }


def test_the_table_is_what_is_shipped() -> None:
    """Every file is in the table, no two are the same, and there is one for each text."""
    shipped = {each.name.removesuffix(".gz") for each in files(notices).iterdir()}
    assert {name for name in shipped if name[-4:] in (".wav", ".png")} == set(DIGESTS)
    assert len(set(DIGESTS.values())) == len(DIGESTS) == 2 * len(TEXTS) == len(NOTICES)


@pytest.mark.parametrize("notice", NOTICES[::2], ids=str)
def test_files_are_small_and_well_formed(notice: Notice) -> None:
    """A sound of 16 kHz, mono, of ten to thirty seconds; a picture of 1280 × 720."""
    assert len(notice.wav) < 400 << 10
    assert len(notice.png) < 60 << 10
    with wave.open(io.BytesIO(notice.wav)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (16_000, 1)
        assert 10 < sound.getnframes() / sound.getframerate() < 30
        samples = sound.readframes(sound.getnframes())
    assert min(samples) < 20
    assert max(samples) > 235
    assert notice.png.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", notice.png[16:24]) == (1280, 720)


WORDS = {
    "en": {"decision of its host", "stay", "leave", "unless you choose"},
    "id": {"keputusan tuan rumah", "ikut direkam", "keluar", "tanpa persetujuan"},
}
STORAGE_WORDS = {
    ("en", "local"): {"only the host can open", "handed over", "cannot be withdrawn"},
    ("en", "cloud"): {"this service keeps", "can open it", "destroyed"},
    ("id", "local"): {"hanya tuan rumah", "diserahkan", "tidak dapat ditarik kembali"},
    ("id", "cloud"): {"layanan ini menyimpan", "dapat membukanya", "dihapus"},
}


@pytest.mark.parametrize("key", TEXTS, ids="-".join)
def test_a_text_says_what_it_has_to(key: tuple[Language, Storage]) -> None:
    text = " ".join(TEXTS[key]).lower()
    assert {words for words in WORDS[key[0]] | STORAGE_WORDS[key] if words not in text} == set()


def test_the_script_makes_sounds_and_pictures() -> None:
    pytest.importorskip("PIL", reason="Pillow is for the script only")
    if shutil.which("espeak-ng") is None:
        required("espeak-ng")
    with wave.open(io.BytesIO(sound("en", "Stay."))) as spoken:
        assert (spoken.getframerate(), spoken.getsampwidth()) == (16_000, 1)
        assert spoken.getnframes() > 3000
    assert struct.unpack(">II", picture("A", ("b " * 100,))[16:24]) == (1280, 720)
