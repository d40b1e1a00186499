"""Events that nothing is admitted of: every field invalid or of a wrong type, unlisted and repeated
keys, content. A valid value stands before some of the invalid ones, under the same key; in JSON as
everybody reads it, the last one counts.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import orjson

from benchmarks.fleet import machine
from benchmarks.meetings import Event, address, hexadecimal
from benchmarks.talk import ENGLISH

_SIZE = 2_040
_WRONG_TEXTS = ("call me at nine", "１０.０", "fe80::1%eth0", "224.0.0.1", "100.1.1", "", " ", "😀")
_WRONG_TYPES: tuple[Callable[[random.Random], object], ...] = (
    lambda rng: rng.randrange(1 << 40),
    lambda rng: rng.random(),
    lambda rng: rng.random() < 0.5,
    lambda rng: [hexadecimal(rng)],
    lambda rng: {hexadecimal(rng, 32): hexadecimal(rng)},
)


def _wrong(rng: random.Random) -> object:
    if rng.random() < 0.5:
        return rng.choice(_WRONG_TYPES)(rng)
    return rng.choice((*_WRONG_TEXTS, rng.choice(ENGLISH.sentences), hexadecimal(rng, 1_024)))


def event(rng: random.Random) -> bytes:
    """Return one such event, as JSON text of about 2 KB."""
    valid = machine(rng)
    model = _object(*((key, _wrong(rng)) for key in ("identifier", "name", "name")))
    parts = [
        ("client", _object(("address", address(rng)), ("address", _wrong(rng)))),
        ("device", _text(valid.device)),
        ("device", _object(("type", _wrong(rng)), ("manufacturer", _wrong(rng)), ("model", model))),
        ("os", _text(valid.os)),
        ("os", _object(*((key, _wrong(rng)) for key in ("type", "name", "version", "build_id")))),
        ("ip_address", _text(None)),
        ("chat", _text([{"text": rng.choice(ENGLISH.sentences)}])),
    ]
    left = _SIZE - len(_members(parts))
    while left > 0:
        unlisted = (hexadecimal(rng, 48), _text(_unlisted(rng)))
        parts.append(unlisted)
        left -= len(_members([unlisted]))
    return _members(parts)


def _unlisted(rng: random.Random) -> Event:
    return {hexadecimal(rng, 32): [hexadecimal(rng), rng.random(), None, rng.random() < 0.5]}


def _text(value: object) -> bytes:
    return orjson.dumps(value)


def _object(*members: tuple[str, object]) -> bytes:
    written = [(key, v if isinstance(v, bytes) else _text(v)) for key, v in members]
    return _members(written)


def _members(members: list[tuple[str, bytes]]) -> bytes:
    """Return a JSON object; unlike a dictionary it may have a key twice."""
    return b"{" + b",".join(_text(key) + b":" + value for key, value in members) + b"}"
