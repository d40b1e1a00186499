"""Examine text before it is parsed: lines, size, encoding, depth, and number of elements.

In some Python versions the parser nests deeper than allowed here, and a list of a million empty
objects takes 3 MB as text and 100 MB as objects. The text is examined in pieces, with C-level
operations only, so that time is linear and memory constant.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import accumulate

from pydantic_core import SchemaValidator, ValidationError, core_schema

from collector.contracts import Rejection, count_lines
from collector.turns import in_turns

BOM = b"\xef\xbb\xbf"
PIECE = 1 << 16
"""The number of bytes of a text that are examined, and copied, at once."""

MAX_LINE = 16 << 20
"""The longest line, in bytes."""
MAX_DOCUMENT = 64 << 20
"""The largest JSON document, in bytes."""
MAX_DEPTH = 1000
"""The most levels of nesting in a text."""

SLICE = 1 << 16
"""The number of bytes of whole lines that are decoded at once: 20,000 of the shortest objects take
nine megabytes as structs."""

_Text = bytes | memoryview
_Reject = Callable[[Rejection], None]

_MAX_SHARED = 1 << 20
_CHUNK = 1 << 13
"""The number of bytes whose brackets are counted at once: few enough for short objects, one a line,
to stay below ``MAX_DEPTH`` together."""
_WINDOW = 1 << 11
_STRIDE = 512
_OTHER_BYTES = bytes(set(range(256)) - set(b"[]{},"))
_STEP = [1 if byte in b"[{" else -1 if byte in b"]}" else 0 for byte in range(256)]
_COMMA = ord(",")
_PLAIN = re.compile(r'[^"\\/]+').fullmatch
"""Names that can be escaped in no other way than with ``\\u``."""
_LIST = re.compile(rb"[ \t\r\n]*+\[")
_LEAST_MEASURED = 1 << 12
_refuse = SchemaValidator(core_schema.str_schema(pattern=r"\A\z")).validate_python
"""Refuses every text that is not empty, as invalid UTF-8 or for not matching, without making a
``str``."""


def is_utf8(text: bytes | memoryview) -> bool:
    """Return whether the bytes are valid UTF-8 (no surrogates, no overlong forms), piece by piece.

    The parser does not check members that it skips; with this check first, all paths agree.
    """
    if isinstance(text, bytes) and text.isascii():
        return True
    if len(text) >= _LEAST_MEASURED:
        return all(map(_is_utf8_piece, _utf8_pieces(text)))
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _utf8_pieces(text: bytes | memoryview) -> Iterator[bytes]:
    """Yield the text in pieces. In valid text, no piece ends within a character."""
    at = 0
    while at < len(text):
        end = min(at + PIECE, len(text))
        for _ in range(3):
            if end < len(text) and text[end] & 0xC0 == 0x80:
                end -= 1
        yield bytes(text[at:end])
        at = end


def _is_utf8_piece(piece: bytes) -> bool:
    """Return whether a piece is valid: only valid text is matched against the pattern and refused
    by it.

    Rust's check takes half the time of decoding in CPython. It makes no ``str``, and the exception,
    which holds the piece, does not outlive this call.
    """
    try:
        _refuse(piece)
    except ValidationError as error:
        (fault,) = error.errors(include_url=False, include_context=False, include_input=False)
        return fault["type"] != "string_unicode"
    return True


def name_search(names: Iterable[str]) -> Callable[[bytes], bool]:
    """Make a test whether UTF-8 text holds one of the names, or any Unicode escape.

    It never misses a name that the parser would find. With the regular expressions of pydantic's
    core it takes 4 % of the filter's time; ``in`` would take 20 %. Finding any escape of four
    digits is faster than finding particular ones.
    """
    wanted = list(dict.fromkeys(names))
    if not all(_PLAIN(name) and name.isprintable() for name in wanted):
        return lambda _: True
    pattern = "|".join(map(re.escape, [*wanted, "\\u"]))
    return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python


def is_blank(line: bytes | memoryview) -> bool:
    """Return whether a line holds nothing but JSON white space."""
    if len(line) <= PIECE:
        return not bytes(line).strip(b" \t\r\n")
    return all(is_blank(line[at : at + PIECE]) for at in range(0, len(line), PIECE))


def is_list(text: bytes | memoryview) -> bool:
    """Return whether a JSON text, if it is one, is a list."""
    return _LIST.match(text) is not None


def lines(payload: bytes) -> Iterable[bytes | memoryview]:
    """Yield the lines of a payload, one at a time.

    ``BytesIO`` shares the payload and copies each line once. That is faster than ``split`` and, for
    lines of usual length, than views. Long payloads may hold long lines and are never copied.
    """
    return BytesIO(payload) if len(payload) <= _MAX_SHARED else _line_views(payload)


def _line_views(payload: bytes) -> Iterator[memoryview]:
    view, at = memoryview(payload), 0
    while at < len(payload):
        end = payload.find(b"\n", at)
        end = len(payload) if end < 0 else end
        yield view[at:end]
        at = end + 1


def has_more_lines(payload: bytes, most: int) -> bool:
    """Return whether a payload has more than ``most`` lines that are not blank. Counts piece by
    piece, because a count holds the interpreter's lock."""
    if not _has_ends(payload, most):
        return False
    found, is_open = 0, False
    for at in range(0, len(payload), PIECE):
        first, *others = payload[at : at + PIECE].translate(None, b" \t\r").split(b"\n")
        found += bool(first) and not is_open
        found += len(others) - others.count(b"")
        if found > most:
            return True
        is_open = bool(others[-1]) if others else is_open or bool(first)
    return False


def _has_ends(payload: bytes, number: int) -> bool:
    """Return whether at least this many lines end in a payload."""
    found = 0
    for at in range(0, len(payload), PIECE):
        found += count_lines(payload[at : at + PIECE])
        if found >= number:
            return True
    return False


def pieces(payload: bytes, size: int) -> Iterator[bytes]:
    """Yield a payload in pieces of whole lines; only a line longer than ``size`` makes a larger
    piece. Other threads get turns between two pieces."""
    return in_turns((payload[start:end] for start, end, _ in line_slices(payload, size)), 1)


def readable_lines(text: bytes, reject: _Reject) -> Iterable[_Text]:
    """Yield the lines that may be parsed; reject the others."""
    found = lines(text)
    if len(text) > MAX_LINE:
        found = _reject_failing(found, _is_short, "too_large", reject)
    if not is_utf8(text):
        found = _reject_failing(found, is_utf8, "malformed", reject)
    if _parser_goes_deep() and may_hold_deep_lines(text):
        found = _reject_failing(found, _is_shallow, "too_deep", reject)
    return found


def line_slices(payload: bytes, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the start and end of slices of whole lines. A slice has at most ``size`` bytes, or is a
    single line longer than half of that; the third value says whether it is such a line."""
    at, most = 0, size // 2
    while at < len(payload):
        end = payload.find(b"\n", at, at + most) + 1
        is_single = not end
        if is_single:
            end = payload.find(b"\n", at + most) + 1 or len(payload)
        else:
            end = payload.rfind(b"\n", end - 1, at + size) + 1
        yield at, end, is_single
        at = end


def need_no_look(lines: bytes) -> bool:
    """Return whether the parser alone refuses every line that must not be read."""
    return lines.isascii() and not _parser_goes_deep()


def are_readable(lines: bytes) -> bool:
    """Return whether all these lines may be parsed."""
    return is_utf8(lines) and not (_parser_goes_deep() and may_hold_deep_lines(lines))


def refusal(text: _Text, most: int = MAX_DOCUMENT) -> Rejection | None:
    """Return why a JSON text must not be parsed, if it must not."""
    if len(text) > most:
        return "too_large"
    if not is_utf8(text):
        return "malformed"
    return "too_deep" if _parser_goes_deep() and not _is_shallow(text) else None


def _parser_goes_deep() -> bool:
    """Return whether the parser nests deeper than ``MAX_DEPTH`` here, so that depth needs its own
    check.

    CPython 3.11 counts C recursion against the recursion limit; later versions have a separate
    limit.
    """
    return sys.version_info >= (3, 12) or sys.getrecursionlimit() > MAX_DEPTH


def _is_short(line: _Text) -> bool:
    return len(line) <= MAX_LINE


def _is_shallow(text: _Text) -> bool:
    return not is_deep(text)


def _reject_failing(
    lines: Iterable[_Text], test: Callable[[_Text], bool], reason: Rejection, reject: _Reject
) -> Iterator[_Text]:
    """Yield the lines that pass a test; reject the others for a reason."""
    for line in lines:
        if test(line):
            yield line
        else:
            reject(reason)


# -- depth and number of elements, without decoding -----------------------------------------------


def is_deep(payload: bytes | memoryview) -> bool:
    """Return whether a well-formed text nests deeper than ``MAX_DEPTH``."""
    if not _may_be_deep(payload):
        return False
    depth = 0
    for part, opened, closed in _strides(_structure(payload)):
        if depth + opened > MAX_DEPTH and max(_levels(part, depth)) > MAX_DEPTH:
            return True
        depth += opened - closed
    return False


def may_hold_deep_lines(payload: bytes) -> bool:
    """Return whether some line may nest deeper than ``MAX_DEPTH``, tested a few lines at a time."""
    at, size = 0, len(payload)
    while at < size:
        end = payload.rfind(b"\n", at, at + _CHUNK) if at + _CHUNK < size else size
        if end >= 0:
            opened = _opened(payload[at:end])
        else:
            end = payload.find(b"\n", at)
            end = size if end < 0 else end
            opened = _opened_far(payload, at, end)
        if opened > MAX_DEPTH:
            return True
        at = end + 1
    return False


def count_elements(payload: bytes | memoryview) -> int:
    """Count the elements of a well-formed list that has at least one."""
    depth = commas = 0
    pieces = (p.replace(b"{}", b"").replace(b"[]", b"") for p in _structure(payload))
    for part, opened, closed in _strides(pieces):
        if not opened and not closed:
            commas += part.count(b",") * (depth == 1)
        elif depth - closed <= 1:
            levels = _levels(part, depth)
            commas += sum(1 for pair in zip(part, levels, strict=False) if pair == (_COMMA, 1))
        depth += opened - closed
    return commas + 1


def has_more_objects(payload: bytes | memoryview, limit: int) -> bool:
    """Return whether a text has more objects than ``limit``, at any depth."""
    if len(payload) <= 2 * limit:
        return False
    view = memoryview(payload)
    pieces = (bytes(view[at : at + _CHUNK]) for at in range(0, len(view), _CHUNK))
    if sum(piece.count(b"{") for piece in pieces) <= limit:
        return False
    return sum(piece.count(b"{") for piece in _structure(payload)) > limit


def _strides(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Yield short parts of a structure, each with its numbers of opening and closing brackets."""
    for piece in pieces:
        for at in range(0, len(piece), _STRIDE):
            part = piece[at : at + _STRIDE]
            opened = part.count(b"[") + part.count(b"{")
            closed = part.count(b"]") + part.count(b"}")
            yield part, opened, closed


def _levels(part: bytes, depth: int) -> Iterator[int]:
    """Yield the depth before each byte of a part, and at its end."""
    return accumulate(map(_STEP.__getitem__, part), initial=depth)


def _may_be_deep(payload: bytes | memoryview) -> bool:
    """Return whether there are enough brackets for the text to be deeper than allowed."""
    if len(payload) <= MAX_DEPTH:
        return False
    pieces = (bytes(payload[at : at + _CHUNK]) for at in range(0, len(payload), _CHUNK))
    return sum(map(_opened, pieces)) > MAX_DEPTH


def _opened(text: bytes) -> int:
    """Count the opening brackets. Removing them is three times as fast as counting them."""
    return len(text) - len(text.replace(b"{", b"").replace(b"[", b""))


def _opened_far(payload: bytes, at: int, end: int) -> int:
    """Count the opening brackets in a long part that consists mostly of long strings without
    brackets.

    Stops counting after the first ``MAX_DEPTH``.
    """
    opened = 0
    brace, bracket = payload.find(b"{", at, end), payload.find(b"[", at, end)
    while opened <= MAX_DEPTH and (brace >= 0 or bracket >= 0):
        at = min(brace, bracket) if brace >= 0 and bracket >= 0 else max(brace, bracket)
        stop = min(at + _WINDOW, end)
        opened += _opened(payload[at:stop])
        if 0 <= brace < stop:
            brace = payload.find(b"{", stop, end)
        if 0 <= bracket < stop:
            bracket = payload.find(b"[", stop, end)
    return opened


def _structure(payload: bytes | memoryview) -> Iterator[bytes]:
    """Yield the brackets and commas outside strings, piece by piece."""
    text, at, in_string = memoryview(payload), 0, False
    while at < len(text):
        piece = bytes(text[at : at + _CHUNK])
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        if backslashes % 2:  # never end inside an escape
            piece += bytes(text[at + _CHUNK : at + _CHUNK + 1])
        at += len(piece)
        # Without escapes every quote is a border: parts alternate between outside and inside.
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(parts[in_string::2]).translate(None, _OTHER_BYTES)
        in_string ^= len(parts) % 2 == 0
