"""Encodings of canaries: the byte strings as which a canary may have been written.

Base64 has three alignments, because a canary may start at any byte of a group of three. Escapes may
be mixed with plain characters, so they need a regular expression; everything else is searched for
as fixed bytes. One search for a common prefix finds many canaries that start alike.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from collector.errors import ConfigError

_LEAST = 8
"""Bytes of the shortest canary; a shorter one would occur by chance in base64 or hex."""
_SHARED = 6
"""How many bytes canaries must have in common to be searched for together."""
_BREAKS = re.compile(rb"\\[rn]|[\r\n]")
"""Line ends inside base64 and hex: raw, or as they look in a JSON string."""
_MAY_BE_ESCAPED = re.compile(rb"[\\%+]")


class Occurrence(NamedTuple):
    """A canary at a position in a window."""

    canary: str
    encoding: str
    start: int


class _Group:
    """Needles of one encoding with a common beginning."""

    def __init__(self, encoding: str, prefix: bytes, needles: dict[bytes, str]) -> None:
        self.encoding = encoding
        self._prefix = prefix
        self._needles = needles
        self._lengths = sorted(set(map(len, needles)))

    def search(self, window: bytes) -> Iterator[Occurrence]:
        at = window.find(self._prefix)
        while at >= 0:
            for length in self._lengths:
                canary = self._needles.get(window[at : at + length])
                if canary is not None:
                    yield Occurrence(canary, self.encoding, at)
            at = window.find(self._prefix, at + 1)


class Needles:
    """The byte strings and patterns of some canaries.

    ``reach`` is the most bytes that an occurrence may take, line ends and escapes included. Raises
    ``ConfigError`` E107 when there is no canary, or one of fewer than 8 bytes.
    """

    def __init__(self, canaries: Iterable[str]) -> None:
        known = tuple(dict.fromkeys(canaries))
        if not known or min(len(canary.encode()) for canary in known) < _LEAST:
            raise ConfigError("E107", f"give at least one canary, each of {_LEAST} bytes or more")
        self.reach: int = 16 * max(len(canary.encode()) for canary in known)
        self._known = known
        self._as_they_are = frozenset(canary.encode() for canary in known)
        self._plain = list(_groups(known, _PLAIN))
        self._fixed = list(_groups(known, _FIXED))
        self._wrapped = list(_groups(known, _WRAPPED))
        self._escaped = re.compile(_either(known))

    def search(self, window: bytes) -> Iterator[Occurrence]:
        """Yield every occurrence within a window."""
        for group in self._plain + self._fixed:
            yield from group.search(window)
        joined, line_ends = _BREAKS.sub(b"", window), None
        for group in self._wrapped:
            for canary, encoding, start in group.search(joined):
                line_ends = line_ends or _LineEnds(window)
                yield Occurrence(canary, encoding, line_ends.before_joining(start))
        if _MAY_BE_ESCAPED.search(window):
            yield from self._search_escaped(window)
        yield from self._search_reversed(window)

    def _search_escaped(self, window: bytes) -> Iterator[Occurrence]:
        for match in self._escaped.finditer(window):
            if match[0] not in self._as_they_are:
                canary = next(c for c in self._known if re.fullmatch(_either([c]), match[0]))
                encoding = "json" if b"\\" in match[0] else "percent"
                yield Occurrence(canary, encoding, match.start())

    def _search_reversed(self, window: bytes) -> Iterator[Occurrence]:
        for group in self._plain:
            for canary, _, end in group.search(window[::-1]):
                start = len(window) - end - len(canary.encode())
                yield Occurrence(canary, "reversed", start)


class _LineEnds:
    """The line ends of a window, by their offsets in the window without them."""

    def __init__(self, window: bytes) -> None:
        self._offsets: list[int] = []
        self._removed = [0]
        for line_end in _BREAKS.finditer(window):
            self._offsets.append(line_end.start() - self._removed[-1])
            self._removed.append(self._removed[-1] + len(line_end[0]))

    def before_joining(self, start: int) -> int:
        """Convert an offset in the window without line ends to the offset in the window."""
        return start + self._removed[bisect_right(self._offsets, start)]


def _plain(canary: str) -> Iterator[tuple[str, bytes]]:
    yield "plain", canary.encode()


def _utf_16(canary: str) -> Iterator[tuple[str, bytes]]:
    yield "utf-16-le", canary.encode("utf-16-le")
    yield "utf-16-be", canary.encode("utf-16-be")


def _hex(canary: str) -> Iterator[tuple[str, bytes]]:
    yield "hex", canary.encode().hex().encode()
    yield "hex", canary.encode().hex().upper().encode()


def _base64(canary: str) -> Iterator[tuple[str, bytes]]:
    plain = canary.encode()
    for before in range(3):
        # Only characters whose six bits all come from the canary are known.
        first, end = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        text = b64encode(bytes(before) + plain)[first:end]
        yield "base64", text
        yield "base64", text.translate(bytes.maketrans(b"+/", b"-_"))


_Way = Callable[[str], Iterator[tuple[str, bytes]]]
_PLAIN: tuple[_Way, ...] = (_plain,)
_FIXED: tuple[_Way, ...] = (_utf_16,)
_WRAPPED: tuple[_Way, ...] = (_hex, _base64)


def _groups(canaries: Sequence[str], ways: Iterable[_Way]) -> Iterator[_Group]:
    """Yield one group per spelling if the canaries start alike in it, else one per needle."""
    for way in ways:
        for spelling in zip(*map(way, canaries), strict=True):
            encoding = spelling[0][0]
            needles = {
                needle: canary for (_, needle), canary in zip(spelling, canaries, strict=True)
            }
            prefix = _common_prefix(list(needles))
            if len(prefix) >= _SHARED:
                yield _Group(encoding, prefix, needles)
            else:
                yield from (_Group(encoding, n, {n: canary}) for n, canary in needles.items())


_Text = TypeVar("_Text", str, bytes)


def _common_prefix(texts: Sequence[_Text]) -> _Text:
    """Return the common prefix: that of the first and the last text in order."""
    first, last = min(texts), max(texts)
    same = 0
    while same < len(first) and first[same] == last[same]:
        same += 1
    return first[:same]


def _either(canaries: Sequence[str]) -> bytes:
    """Return a pattern for any canary, with any character escaped as in JSON or a URL."""
    prefix = _common_prefix(canaries)
    tails = sorted((canary[len(prefix) :] for canary in canaries), key=len, reverse=True)
    return _escapable(prefix) + b"(?:" + b"|".join(map(_escapable, tails)) + b")"


def _escapable(text: str) -> bytes:
    return b"".join(map(_character, text))


def _character(char: str) -> bytes:
    plain, units = char.encode(), re.findall("....", char.encode("utf-16-be").hex())
    short = json.dumps(char, ensure_ascii=False)[1:-1].removeprefix("\\").encode()
    # Each form begins with a fixed byte, so `re` skips most of a window at once.
    forms = [
        re.escape(plain),
        b"".join(rb"\\\\*u(?i:%b)" % unit.encode() for unit in units),
        b"".join(b"%%(?i:%02x)" % byte for byte in plain),
        *{rb"\\\\*" + re.escape(plain), rb"\\\\*" + re.escape(short)},
        *([rb"\+"] if char == " " else []),
    ]
    return b"(?:" + b"|".join(forms) + b")"
