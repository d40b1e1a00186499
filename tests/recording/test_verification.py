"""Assembly of local recordings, and the same by age alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest

from collector.errors import InputError
from collector.recording.verification import MANIFEST_NAME, assemble
from tests.conftest import required
from tests.recording.vaults import RECORDING, add, content, create, finish, manifest, opened


@pytest.fixture(scope="module")
def _handed_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the host of a local recording has: manifest, age files, identity."""
    host, folder = pyrage.x25519.Identity.generate(), tmp_path_factory.mktemp("host")
    source = folder / "source"
    with opened(folder / "vault") as vault:
        create(vault, recipient=str(host.to_public()))
        add(vault, "cam", range(12))
        add(vault, "mix", range(2), owner="mixed", kind="audio")
        finish(vault)
        for track in vault.tracks(RECORDING):
            (source / track.name).mkdir(parents=True)
            for number in range(track.chunks):
                sealed = vault.ciphertext(RECORDING, track.name, number)
                (source / track.name / f"{number}.age").write_bytes(sealed)
        (source / MANIFEST_NAME).write_bytes(manifest(vault))
    (folder / "key.txt").write_text(f"# public key: {host.to_public()}\n{host}\n")
    (folder / "out").mkdir()
    return folder


@pytest.fixture
def handed_out(_handed_out: Path, tmp_path: Path) -> Path:
    """The directory with it, in a copy."""
    shutil.copytree(_handed_out, tmp_path, dirs_exist_ok=True)
    return tmp_path / "source"


def _whole(track: str, chunks: int) -> bytes:
    return b"".join(content(track, number) for number in range(chunks))


def test_tracks_are_assembled(handed_out: Path, tmp_path: Path) -> None:
    """Under their names and kinds; a file that is there is not replaced."""
    out = tmp_path / "out"
    written = assemble(handed_out, out, tmp_path / "key.txt")
    assert (out / "cam.video").read_bytes() == _whole("cam", 12)
    assert (out / "mix.audio").read_bytes() == _whole("mix", 2)
    assert written == {"cam.video": len(_whole("cam", 12)), "mix.audio": len(_whole("mix", 2))}
    with pytest.raises(InputError, match="E203"):
        assemble(handed_out, out, tmp_path / "key.txt")
    assert (out / "cam.video").read_bytes() == _whole("cam", 12)


def test_age_opens_them_alone(handed_out: Path) -> None:
    if shutil.which("age") is None:
        required("age")
    loop = 'for n in $(seq 0 11); do age -d -i ../key.txt "cam/$n.age"; done'
    done = subprocess.run(["sh", "-c", loop], cwd=handed_out, capture_output=True, check=True)
    assert done.stdout == _whole("cam", 12)


@pytest.mark.parametrize("change", ["manifest", "cut", "chunk", "swapped", "missing", "key"])
def test_what_was_changed_is_not_assembled(handed_out: Path, tmp_path: Path, change: str) -> None:
    manifest, chunk = handed_out / MANIFEST_NAME, handed_out / "cam" / "7.age"
    if change == "manifest":
        manifest.write_bytes(manifest.read_bytes().replace(b'"video"', b'"audio"', 1))
    elif change == "cut":
        manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:5]))
    elif change == "chunk":
        *before, last = chunk.read_bytes()
        chunk.write_bytes(bytes([*before, last ^ 1]))
    elif change == "swapped":
        shutil.copy(handed_out / "cam" / "6.age", chunk)
    elif change == "missing":
        chunk.unlink()
    else:
        (tmp_path / "key.txt").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(InputError, match=r"E101|E422"):
        assemble(handed_out, tmp_path / "out", tmp_path / "key.txt")
    assert not (tmp_path / "out" / "cam.video").exists()
    assert change != "key" or not list((tmp_path / "out").iterdir())
