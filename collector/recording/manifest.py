"""The manifest of a recording: a signed hash chain over its sealed chunks. No I/O.

It is JSON, one object a line. Each line has its number and the SHA-256 of the line before it:

- ``begin``, line 1: the recording, where it is stored, and its terms;
- ``chunk``: one sealed chunk, by track, number, size and the SHA-256 of the age file. A track is a
  random name here; its chunks are numbered from 0 without gaps;
- ``destroyed``: a track's key was destroyed, so nobody can open the track; may follow the end;
- ``end``: no chunk follows;
- ``signature``, last and outside of the chain: number and hash of the last line, whether the
  recording has ended, and the names of the remaining tracks, signed with the recorder's key.

The chain shows whether lines were changed, left out, repeated or moved; the end mark and the
signature show whether lines were cut off. Only a checkpoint, a signature line that was kept
elsewhere, shows that a manifest was rolled back as a whole with the recorder's files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import msgspec

from collector.ledger.auditor import SignatureCheck
from collector.ledger.signing import Key, signature_check
from collector.recording.names import MAX_CHUNK_NUMBER, Kind

NOTHING = "0" * 64
"""The ``previous`` of the first line."""
_CONTEXT = b"collector recording manifest 1\n"
_MOST_FINDINGS = 1000

_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Opaque = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_CHUNK_NUMBER)]
_T = TypeVar("_T")


class _Line(msgspec.Struct, frozen=True, tag_field="what", forbid_unknown_fields=True):
    """``line`` counts from 1; ``previous`` is the SHA-256 of the line before, in hexadecimal."""

    line: _Count
    previous: _Digest


class Begin(_Line, frozen=True, tag="begin"):
    """The first line. ``terms`` are as the caller gave them."""

    recording: _Opaque
    storage: Literal["local", "cloud"]
    terms: dict[str, str]
    format: Literal[1] = 1


class Chunk(_Line, frozen=True, tag="chunk"):
    """A sealed chunk: an age file of ``size`` bytes with this SHA-256, from ``content`` bytes."""

    track: _Opaque
    number: _Number
    kind: Kind
    size: _Count
    content: _Count
    sha256: _Digest


class Destroyed(_Line, frozen=True, tag="destroyed"):
    """A track that was destroyed."""

    track: _Opaque


class End(_Line, frozen=True, tag="end"):
    """The end mark."""


Line = Begin | Chunk | Destroyed | End


class ManifestTip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed part of a signature line. ``tracks`` are the remaining tracks with their names; a
    checkpoint lists none."""

    recording: _Opaque
    lines: _Count
    hash: _Digest
    is_ended: bool
    tracks: dict[_Opaque, str]


class Signature(
    msgspec.Struct, frozen=True, tag_field="what", tag="signature", forbid_unknown_fields=True
):
    """The last line; ``key`` is the public key (Ed25519), both in hexadecimal."""

    tip: ManifestTip
    key: _Digest
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]


_encoder = msgspec.json.Encoder(order="deterministic")
_line_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_signature_decoder = msgspec.json.Decoder(Signature)


def encode(line: Line | Signature) -> bytes:
    """Return the one encoding of a line, without its line feed."""
    return _encoder.encode(line)


def digest(line: Line) -> str:
    """Return the SHA-256 of a line in hexadecimal, the ``previous`` of the next one."""
    return hashlib.sha256(encode(line)).hexdigest()


def read_line(text: bytes) -> Line | None:
    """Read a line; ``None`` for any other text, even for another encoding of the same line."""
    return _canonical(_line_decoder, text)


def read_signature(text: bytes) -> Signature | None:
    """Read a signature line, or ``None``."""
    return _canonical(_signature_decoder, text)


def _canonical(decoder: msgspec.json.Decoder[_T], text: bytes) -> _T | None:
    try:
        found = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if _encoder.encode(found) == text else None


def sign(tip: ManifestTip, key: Key) -> Signature:
    """Sign the tip of a manifest."""
    return Signature(tip, key.public, key.sign(_CONTEXT + _encoder.encode(tip)).hex())


class _Track:
    __slots__ = ("chunks", "is_destroyed", "kind")

    def __init__(self, kind: str) -> None:
        self.kind, self.chunks, self.is_destroyed = kind, 0, False


class Chain:
    """Follow the lines of a manifest, and collect what is wrong. Memory grows with tracks only.

    ``expected`` are tips that the chain must reach, each with words for where it comes from.
    """

    def __init__(self, recording: str, expected: Iterable[tuple[ManifestTip, str]] = ()) -> None:
        self.findings: list[str] = []
        self.lines: int = 0
        self.hash: str = NOTHING
        self.is_ended: bool = False
        self._recording = recording
        self._expected: dict[int, list[tuple[ManifestTip, str]]] = {}
        self._tracks: dict[str, _Track] = {}
        for tip, source in expected:
            self._expected.setdefault(tip.lines, []).append((tip, source))

    @property
    def tip(self) -> ManifestTip:
        """The tip so far, without the names of tracks."""
        return ManifestTip(self._recording, self.lines, self.hash, self.is_ended, {})

    @property
    def living(self) -> dict[str, int]:
        """The number of chunks of each track that was not destroyed."""
        return {name: of.chunks for name, of in self._tracks.items() if not of.is_destroyed}

    def is_destroyed(self, track: str) -> bool:
        """Return whether a track was destroyed."""
        return track in self._tracks and self._tracks[track].is_destroyed

    def add(self, line: Line) -> None:
        """Check the next line."""
        number = self.lines + 1
        if line.line != number:
            self.report(f"line {number}: has the number {line.line}: lines are missing or moved")
        elif line.previous != self.hash:
            self.report(f"line {number}: does not follow the line before it")
        for message in self._check_contents(line):
            self.report(f"line {number}: {message}")
        self.lines, self.hash = number, digest(line)
        self._meet(self._expected.pop(number, ()))

    def follow(self, lines: Iterable[bytes]) -> Iterator[Chunk]:
        """Check lines to the end, and yield the chunks. Report each expected tip that was not
        reached: lines up to it were cut off."""
        for text in lines:
            line = read_line(text)
            if line is None:
                self.report(f"line {self.lines + 1}: is not a line of a manifest")
                break
            self.add(line)
            if isinstance(line, Chunk):
                yield line
        for number in sorted(self._expected):
            for _, source in self._expected[number]:
                message = f"the lines after {self.lines} are missing: {source} names line {number}"
                self.report(message)

    def report(self, finding: str) -> None:
        """Add a finding, up to the first thousand."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(finding)

    def _meet(self, expected: Iterable[tuple[ManifestTip, str]]) -> None:
        for tip, source in expected:
            if tip.hash != self.hash:
                self.report(f"line {self.lines}: is not the one that {source} names: rewritten")
            elif tip.is_ended != self.is_ended:
                self.report(f"line {self.lines}: {source} contradicts the end mark")

    def _check_contents(self, line: Line) -> Iterator[str]:
        if isinstance(line, Begin) != (self.lines == 0):
            yield "a manifest has one `begin`, as its first line"
        if isinstance(line, Begin) and line.recording != self._recording:
            yield "the manifest is of another recording"
        elif isinstance(line, Chunk):
            yield from self._check_chunk(line)
        elif isinstance(line, Destroyed):
            track = self._tracks.setdefault(line.track, _Track("?"))
            if track.is_destroyed or not track.chunks:
                yield "destroys a track that is not there"
            track.is_destroyed = True
        elif isinstance(line, End):
            if self.is_ended:
                yield "a second end mark"
            self.is_ended = True

    def _check_chunk(self, line: Chunk) -> Iterator[str]:
        track = self._tracks.setdefault(line.track, _Track(line.kind))
        if self.is_ended:
            yield "a chunk after the end mark"
        if track.is_destroyed:
            yield "a chunk of a destroyed track"
        if line.number != track.chunks:
            yield f"chunk {line.number} where chunk {track.chunks} of its track belongs"
        if line.kind != track.kind:
            yield "the track is of another kind"
        track.chunks = line.number + 1


def check_signature(
    found: Signature | None, recording: str, trusted: Collection[str] | None, what: str
) -> Iterator[str]:
    """Yield what is wrong with a signature. ``trusted`` are the public keys that may sign; ``None``
    accepts any key, because no key is known."""
    is_valid: SignatureCheck | None = signature_check()
    if found is None:
        yield f"{what} is missing or has another form"
        return
    if found.tip.recording != recording:
        yield f"{what} is of another recording"
    if trusted is not None and found.key not in trusted:
        yield f"{what} is signed with a key that is not the recorder's"
    text, signature = _CONTEXT + _encoder.encode(found.tip), bytes.fromhex(found.signature)
    if is_valid is None:
        yield f"{what} cannot be checked: the extra for signing is not installed"
    elif not is_valid(found.key, text, signature):
        yield f"{what} is not valid"


def check_manifest(text: bytes) -> tuple[list[str], list[Chunk], dict[str, str]]:
    """Check a manifest on its own, whoever signed it. Returns what is wrong, the chunks of the
    remaining tracks, and the names of these tracks by their random names."""
    *lines, last = text.removesuffix(b"\n").split(b"\n")
    begin = read_line(lines[0]) if lines else None
    recording = begin.recording if isinstance(begin, Begin) else ""
    signature = read_signature(last)
    findings = list(check_signature(signature, recording, None, "the signature"))
    chain = Chain(recording, [(signature.tip, "the signature")] if signature else [])
    chunks = list(chain.follow(lines))
    if signature is not None and signature.tip.lines < chain.lines:
        chain.report(f"the lines after {signature.tip.lines} are not signed")
    if not chain.is_ended:
        chain.report("there is no end mark: the manifest was made before the recording ended")
    names = dict(signature.tip.tracks) if signature else {}
    if set(names) != set(chain.living):
        chain.report("the signature names other tracks than the lines")
    return findings + chain.findings, [c for c in chunks if c.track in chain.living], names
