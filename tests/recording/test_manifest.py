"""The manifest of a recording: every change of it is found."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from collector.ledger.signing import Key
from collector.recording import manifest
from collector.recording.manifest import (
    NOTHING,
    Begin,
    Chunk,
    Destroyed,
    End,
    Line,
    ManifestTip,
    check_manifest,
    digest,
    encode,
    sign,
)
from collector.recording.vault import load_signer
from tests.recording.vaults import RECORDING
from tests.support.rows import for_each

A, B = "a" * 32, "b" * 32


@cache
def _key() -> Key:
    with TemporaryDirectory() as directory:
        return load_signer(Path(directory))


def _lines(recording: str = RECORDING, *, is_ended: bool = True) -> list[Line]:
    """Lines of two tracks, one of which is destroyed after the end."""
    makers: list[Callable[[int, str], Line]] = [
        lambda line, previous: Begin(line, previous, recording, "cloud", {"kinds": "audio"}),
        *(
            lambda line, previous, t=track, n=number: Chunk(
                line, previous, t, n, "audio", 300 + n, 100 + n, f"{line:064x}"
            )
            for number in range(3)
            for track in (A, B)
        ),
    ]
    if is_ended:
        makers += [End, lambda line, previous: Destroyed(line, previous, B)]
    lines, previous = list[Line](), NOTHING
    for number, make in enumerate(makers, 1):
        lines.append(make(number, previous))
        previous = digest(lines[-1])
    return lines


def _signed(lines: list[Line], signer: Key | None = None, recording: str = RECORDING) -> bytes:
    is_ended = any(isinstance(line, End) for line in lines)
    names = {A: "cam"} | ({} if is_ended else {B: "mix"})
    tip = ManifestTip(recording, len(lines), digest(lines[-1]), is_ended, names)
    return b"".join(encode(each) + b"\n" for each in [*lines, sign(tip, signer or _key())])


def _faults(text: bytes) -> list[str]:
    return check_manifest(text)[0]


def test_a_manifest_as_it_was_signed_holds() -> None:
    """It names the chunks of the track that is there, and no other."""
    faults, chunks, names = check_manifest(_signed(_lines()))
    assert faults == []
    assert {chunk.track for chunk in chunks} == {A}
    assert [chunk.number for chunk in chunks] == [0, 1, 2]
    assert names == {A: "cam"}


def test_every_flipped_bit_is_found() -> None:
    text = _signed(_lines())
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1 << place % 8
        assert _faults(bytes(changed)), place


def test_every_truncation_is_found() -> None:
    text = _signed(_lines())
    for length in range(0, len(text) - 1, 3):
        assert _faults(text[:length]), length


@given(st.data())
def test_lines_that_are_moved_repeated_or_left_out_are_found(data: st.DataObject) -> None:
    """Any other sequence of the same lines, under the true signature."""
    text = _signed(_lines()).splitlines()
    lines = text[:-1]
    other = data.draw(st.lists(st.sampled_from(lines), max_size=12) | st.permutations(lines))
    if other != lines:
        assert _faults(b"\n".join([*other, text[-1]]))


@for_each("at", range(9))
def test_lines_that_are_made_anew_are_found(at: int) -> None:
    """A chain that is right in itself, but for the signature."""
    lines = _lines()
    del lines[at]
    anew, previous = list[Line](), NOTHING
    for number, line in enumerate(lines, 1):
        fields = {name: getattr(line, name) for name in line.__struct_fields__}
        anew.append(type(line)(**fields | {"line": number, "previous": previous}))
        previous = digest(anew[-1])
    signature = _signed(_lines()).splitlines()[-1]
    assert _faults(b"\n".join([*map(encode, anew), signature]))


def test_manifests_are_not_interchangeable() -> None:
    """A signature of another recording is none of this one."""
    other = "f" * 32
    swapped = _signed(_lines(other), recording=RECORDING)
    assert "the signature is of another recording" in _faults(swapped)


def test_a_manifest_of_an_open_recording_says_so() -> None:
    """An older manifest is true, but it is not the whole."""
    (fault,) = _faults(_signed(_lines(is_ended=False)))
    assert fault.startswith("there is no end mark")


@given(st.binary(max_size=300))
def test_any_bytes_are_read(text: bytes) -> None:
    assert _faults(text)
    assert _faults(_signed(_lines()) + text) or not text.strip(b"\n")


def test_only_one_encoding_of_a_line_is_read() -> None:
    """Spaces, other orders and more members make another text."""
    line = encode(_lines()[0])
    assert manifest.read_line(line) is not None
    assert manifest.read_line(line.replace(b":", b": ", 1)) is None
    assert manifest.read_line(line[:-1] + b',"more":1}') is None
    assert manifest.read_line(b"[" * 100_000) is None
