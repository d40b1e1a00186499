"""Encodings of payloads, and the way back from each.

``encode`` gives the texts that carry a payload: one, or three for ``split``. ``readings`` gives
every text that a text may stand for. All are compared in a normal form: compatibility characters,
look-alikes and case folded, and everything dropped that is neither letter nor digit; so UTF-16,
separators and cut-out punctuation need no decoder of their own.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator

_DIGITS = "zero one two three four five six seven eight nine".split()
_LATIN = "aceopxyiABCEHKMOPTX0123456789"
_ALIKE = "асеорхуіАВСЕНКМОРТХ٠١٢٣٤٥٦٧٨٩"
_TO_ALIKE = str.maketrans(_LATIN, _ALIKE)
_FROM_ALIKE = str.maketrans(_ALIKE, _LATIN)
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{10,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){5,}")
_NUMBER = re.compile(r"[0-9]{10,}")
_WORD = re.compile("|".join(_DIGITS), re.IGNORECASE)
_SEPARATORS = re.compile(r"[^0-9a-z]+")


def _spelled(text: str) -> str:
    return "".join(f" {_DIGITS[int(c)]} " if "0" <= c <= "9" else c for c in text)


WAYS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "base64": lambda text: b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "utf16": lambda text: text.encode("utf-16-le").decode("latin-1"),
    "nfkc": lambda text: text.translate(_FULL_WIDTH),
    "homoglyphs": lambda text: text.translate(_TO_ALIKE),
    "reversed": lambda text: text[::-1],
    "split": lambda text: text,
    "spelled": _spelled,
}
"""One text to another, by the name of the class; ``split`` is also cut into three."""


def encode(way: str, text: str) -> list[str]:
    """Return the texts that carry a text, one for each record."""
    coded = WAYS[way](text)
    if way != "split":
        return [coded]
    third = -(-len(coded) // 3)
    return [coded[:third], coded[third : 2 * third], coded[2 * third :]]


def as_number(text: str) -> int:
    """Return a text as a number: its digits if it has no letters, else its bytes."""
    digits = "".join(filter(str.isdigit, text))
    if digits and not any(map(str.isalpha, text)) and not digits.startswith("0"):
        return int(unicodedata.normalize("NFKC", digits))
    return int.from_bytes(text.encode())


def normal(text: str) -> str:
    """Return a text's normal form: ASCII letters in lower case and digits, nothing else."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_FROM_ALIKE))
    return _SEPARATORS.sub("", text.casefold())


def readings(text: str) -> Iterator[str]:
    """Yield what a text may stand for, in normal form."""
    plain = normal(text)
    yield plain
    yield plain[::-1]
    if _WORD.search(text):
        yield normal(_WORD.sub(lambda word: str(_DIGITS.index(word[0].lower())), text))
    for run in _BASE64.findall(text):
        bare = run.rstrip("=").replace("-", "+").replace("_", "/")
        for skipped in range(4):
            yield from _decoded(b64decode, bare[skipped:][: (len(bare) - skipped) // 4 * 4])
        yield from _decoded(b64decode, bare + "=" * (-len(bare) % 4))
    for run in _HEX.findall(text):
        yield from _decoded(binascii.unhexlify, run)
    for run in _NUMBER.findall(text):
        if len(run) <= 1_000:
            yield from _decoded(_bytes_of, run)


def _bytes_of(digits: str) -> bytes:
    number = int(digits)
    return number.to_bytes(-(-number.bit_length() // 8))


def _decoded(decode: Callable[[str], bytes], text: str) -> Iterator[str]:
    try:
        data = decode(text)
    except ValueError:
        return
    yield normal(data.decode("utf-8", "ignore"))
