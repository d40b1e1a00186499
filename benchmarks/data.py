"""Seeded corpora: events of a meeting client, one JSON text each.

The same name, number and seed give the same bytes. Addresses are of ranges that
belong to nobody: documentation (RFC 5737, RFC 3849), benchmarking (RFC 2544), shared (RFC 6598) and
private (RFC 1918) space; the first two are too small alone for addresses that hardly ever repeat.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import orjson

from benchmarks.fleet import machine
from benchmarks.talk import ENGLISH, TONGUES, Tongue

__all__ = ["CORPORA", "SEED", "Corpus", "lines", "stream"]

SEED = 20261124
"""The seed of everything drawn here, unless another is asked for."""

_IPV6_SHARE = 0.15
_IPV4 = tuple(
    (int(network.network_address), network.num_addresses)
    for network in map(
        IPv4Network,
        ("203.0.113.0/24", "198.51.100.0/24", "198.18.0.0/15", "100.64.0.0/10", "10.0.0.0/8"),
    )
)
_IPV4_WEIGHTS = (1, 1, 16, 41, 41)
_DOCUMENTATION6 = 0x20010DB8 << 96
_START_MS = 1_795_000_000_000
_AUDIO_BYTES = 36_400
_SHORTEST_TEXT = 8

_Event = dict[str, Any]


def _address(rng: random.Random) -> str:
    if rng.random() < _IPV6_SHARE:
        return str(IPv6Address(_DOCUMENTATION6 | rng.getrandbits(96)))
    first, size = rng.choices(_IPV4, _IPV4_WEIGHTS)[0]
    return str(IPv4Address(first + rng.randrange(size)))


def _id(rng: random.Random, bits: int = 64) -> str:
    return f"{rng.getrandbits(bits):0{bits // 4}x}"


def _report(rng: random.Random, tongue: Tongue) -> _Event:
    """What a client reports every few seconds: about 0.5 KB, without content."""
    each = machine(rng)
    return {
        "event": "participant.stats",
        "session_id": _id(rng),
        "timestamp": _START_MS + rng.randrange(86_400_000),
        "participant": {"name": rng.choice(tongue.names), "role": "attendee"},
        "client": {"address": _address(rng), "port": rng.randrange(49152, 65536)},
        "device": {**each.device, "cores": rng.choice((4, 6, 8, 10, 12, 16))},
        "os": {**each.os, "locale": tongue.tag},
        "network": {
            "rtt_ms": rng.randrange(8, 240),
            "jitter_ms": round(rng.uniform(0.2, 30), 2),
            "loss": round(rng.uniform(0, 0.05), 4),
            "kind": rng.choice(("wifi", "ethernet", "cellular")),
        },
    }


def _size(value: Any) -> int:
    return len(orjson.dumps(value))


def _fitted(text: str, room: int) -> str:
    """The text, shortened until its JSON form is at most ``room`` bytes; it may become empty."""
    while text and _size(text) > room:
        text = text[: -max(1, (_size(text) - room) // 4)]
    return text


def _said(rng: random.Random, event: _Event, size: int, tongues: tuple[Tongue, ...]) -> _Event:
    """The event with chat, and with a transcript that fills it up to about ``size`` bytes."""
    tongue = rng.choice(tongues)
    event["chat"] = [
        {"from": rng.choice(tongue.names), "text": rng.choice(tongue.sentences), "at": at}
        for at in sorted(rng.sample(range(3_600), rng.randrange(2, 5)))
    ]
    segments: list[_Event] = []
    event["transcript"] = {"language": tongue.tag, "segments": segments}
    room, at = size - _size(event), 0
    while True:
        at += rng.randrange(2, 12)
        segment = {"speaker": rng.choice(tongue.names), "start": at, "text": ""}
        left = room - _size(segment)
        if left < _SHORTEST_TEXT:
            return event
        segment["text"] = _fitted(rng.choice(tongue.sentences), left)
        segments.append(segment)
        room -= _size(segment) + 1


def _small(rng: random.Random) -> _Event:
    return _report(rng, ENGLISH)


def _medium(rng: random.Random) -> _Event:
    return _said(rng, _report(rng, ENGLISH), rng.randrange(2_060, 2_101), (ENGLISH,))


def _large(rng: random.Random) -> _Event:
    event = _said(rng, _report(rng, ENGLISH), 2_000, (ENGLISH,))
    sound = base64.b64encode(rng.randbytes(_AUDIO_BYTES)).decode()
    return event | {"audio": {"codec": "opus", "rate_hz": 48_000, "data": sound}}


def _non_ascii(rng: random.Random) -> _Event:
    event = _report(rng, rng.choice(TONGUES))
    return _said(rng, event, rng.randrange(2_040, 2_101), TONGUES)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A kind of events. ``bytes`` is the size that one of them is meant to have."""

    name: str
    bytes: int
    what: str
    draw: Callable[[random.Random], _Event]


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus("small", 480, "no content", _small),
        Corpus("medium", 2_060, "nested, with chat and transcript", _medium),
        Corpus("large", 50_600, "as medium, with base64 audio", _large),
        Corpus("non_ascii", 2_040, "chat in Indonesian, German and Chinese", _non_ascii),
    )
}
"""The corpora by name, in the order in which they are reported."""


def stream(name: str, number: int, seed: int = SEED) -> Iterator[bytes]:
    """The first ``number`` events of a corpus, one at a time, without line ends."""
    rng = random.Random(seed)
    draw = CORPORA[name].draw
    for _ in range(number):
        yield orjson.dumps(draw(rng))


def lines(name: str, number: int, seed: int = SEED) -> list[bytes]:
    """The first ``number`` events of a corpus, without line ends."""
    return list(stream(name, number, seed))
