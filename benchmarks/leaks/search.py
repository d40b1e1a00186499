"""Find a payload in a program's output, in every encoding of the corpus.

Texts are compared in a normal form: compatibility characters, look-alikes and case are folded, and
everything except letters and digits is dropped. So UTF-16, separators and removed punctuation need
no decoder. ``readings`` adds the other meanings of a text.
"""

from __future__ import annotations

import binascii
import json
import re
import unicodedata
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from benchmarks.leaks.attacks import ALIKE, DIGITS, LATIN, MEMBER, Payload, rank
from benchmarks.leaks.events import ORDERED, REPORT

_FROM_ALIKE = str.maketrans(ALIKE, LATIN)
_WORD = re.compile("|".join(DIGITS), re.IGNORECASE)
_SEPARATORS = re.compile(r"[^0-9a-z]+")
_MOST_NUMBER = 10**1000
_ORDERED = {address: at for at, address in enumerate(ORDERED)}
_MEMBER = re.compile(rf"{MEMBER}([0-9]{{1,3}})")


class Found(NamedTuple):
    """Whether a payload's mark got through, and whether its personal data did."""

    mark: bool
    personal: bool

    @property
    def leaks(self) -> bool:
        """Whether one of them got through."""
        return self.mark or self.personal


def normal(text: str) -> str:
    """Return a text's normal form: ASCII letters in lower case and digits, nothing else."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_FROM_ALIKE))
    return _SEPARATORS.sub("", text.casefold())


def _base64(run: str) -> Iterator[bytes]:
    """Yield the decodings of a run from each of its first four characters on, padded."""
    bare = run.rstrip("=").replace("-", "+").replace("_", "/")
    cut = (bare[skipped:][: (len(bare) - skipped) // 4 * 4] for skipped in range(4))
    for text in (*cut, bare + "=" * (-len(bare) % 4)):
        with suppress(ValueError):
            yield b64decode(text)


def _number(run: str) -> Iterator[bytes]:
    if len(run) <= 1_000:
        number = int(run)
        yield number.to_bytes(-(-number.bit_length() // 8))


_CODES: dict[re.Pattern[str], Callable[[str], Iterator[bytes]]] = {
    re.compile(r"[A-Za-z0-9+/_-]{10,}={0,2}"): _base64,
    re.compile(r"(?:[0-9a-fA-F]{2}){5,}"): lambda run: iter([binascii.unhexlify(run)]),
    re.compile(r"[0-9]{10,}"): _number,
}


def readings(text: str) -> Iterator[str]:
    """Yield the possible meanings of a text, in normal form."""
    plain = normal(text)
    yield plain
    yield plain[::-1]
    if _WORD.search(text):
        yield normal(_WORD.sub(lambda word: str(DIGITS.index(word[0].lower())), text))
    for pattern, decode in _CODES.items():
        for run in pattern.findall(text):
            yield from (normal(data.decode("utf-8", "ignore")) for data in decode(run))


def search(payload: Payload, outputs: Sequence[str]) -> Found:
    """Search the outputs of one attack, in order. Text that is not JSON is searched as is."""
    names, values = Counter[str](), Counter[str]()
    for line in (line for output in outputs for line in output.splitlines()):
        try:
            value = json.loads(line, object_pairs_hook=_Pairs)
        except ValueError:
            values[line] += 1
        else:
            _collect(value, names, values)
    texts = {text for of in (names, values) for text in (*of, _joined(of), str(_rank(of)))}
    found = {reading for text in texts if text for reading in readings(text)}
    whole = "\n".join(found)
    personal = payload.personal is not None and normal(payload.personal) in whole
    return Found(normal(payload.mark) in whole, personal)


class _Pairs(list[tuple[str, Any]]):
    """An object in which a name may occur twice."""


def _collect(value: Any, names: Counter[str], values: Counter[str]) -> None:
    if isinstance(value, _Pairs):
        for name, inner in value:
            names[name] += 1
            _collect(inner, names, values)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, names, values)
    elif isinstance(value, int) and not isinstance(value, bool):
        values[str(value) if abs(value) < _MOST_NUMBER else "large"] += 1
    else:
        values[str(value)] += 1


def _joined(times: Counter[str]) -> str:
    """Return the texts that occur once, joined: a payload in parts is what an attack's records do
    not have in common. Ids of reports are skipped."""
    return "".join(text for text, n in times.items() if n == 1 and not text.startswith(REPORT))


def _rank(times: Counter[str]) -> int | None:
    """Return the number that the order of numbered texts stands for, by their first places."""
    members = [int(found[1]) for found in map(_MEMBER.fullmatch, times) if found]
    return rank(members or [_ORDERED[text] for text in times if text in _ORDERED])
