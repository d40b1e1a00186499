"""Random events of a meeting client: reports, chat, transcripts, heartbeats. Also a meeting's
document from a large vendor's dashboard, and events of which nothing is admitted.

Addresses are from reserved ranges: documentation (RFC 5737, RFC 3849), benchmarking (RFC 2544),
shared (RFC 6598) and private (RFC 1918) space. The first two alone are too small for addresses that
hardly ever repeat.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import orjson

from benchmarks.fleet import Machine, machine
from benchmarks.talk import ENGLISH, TONGUES, Tongue
from collector import load_schema
from collector.schema.kinds.token import TokenField

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
START_MS = 1_795_000_000_000
_AUDIO_BYTES = 36_400
_SHORTEST_TEXT = 8
_CLIENTS = 500

Event = dict[str, Any]
"""One event before it is encoded as JSON."""


def address(rng: random.Random) -> str:
    """Return an address that hardly ever repeats; about 15 % are IPv6."""
    if rng.random() < _IPV6_SHARE:
        return str(IPv6Address(_DOCUMENTATION6 | rng.getrandbits(96)))
    first, size = rng.choices(_IPV4, _IPV4_WEIGHTS)[0]
    return str(IPv4Address(first + rng.randrange(size)))


def hexadecimal(rng: random.Random, bits: int = 64) -> str:
    """Return a random identifier."""
    return f"{rng.getrandbits(bits):0{bits // 4}x}"


def report(rng: random.Random, tongue: Tongue, of: Machine | None = None) -> Event:
    """Return a client's periodic report: about 0.5 KB, without content.

    ``of`` is the reporting machine; ``None`` draws one from the fleet.
    """
    each = of or machine(rng)
    return {
        "event": "participant.stats",
        "session_id": hexadecimal(rng),
        "timestamp": START_MS + rng.randrange(86_400_000),
        "participant": {"name": rng.choice(tongue.names), "role": "attendee"},
        "client": {"address": address(rng), "port": rng.randrange(49152, 65536)},
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
    """Return the text, shortened until its JSON form is at most ``room`` bytes; it may become
    empty."""
    while text and _size(text) > room:
        text = text[: -max(1, (_size(text) - room) // 4)]
    return text


def _said(rng: random.Random, event: Event, size: int, tongues: tuple[Tongue, ...]) -> Event:
    """Return the event with chat, and with a transcript that fills it up to about ``size``
    bytes."""
    tongue = rng.choice(tongues)
    event["chat"] = [
        {"from": rng.choice(tongue.names), "text": rng.choice(tongue.sentences), "at": at}
        for at in sorted(rng.sample(range(3_600), rng.randrange(2, 5)))
    ]
    segments: list[Event] = []
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


def small(rng: random.Random) -> Event:
    """Return only a report."""
    return report(rng, ENGLISH)


def medium(rng: random.Random) -> Event:
    """Return a report with chat and transcript, in English."""
    return _said(rng, report(rng, ENGLISH), rng.randrange(2_060, 2_101), (ENGLISH,))


def large(rng: random.Random) -> Event:
    """Return a report with chat, transcript and base64 audio."""
    event = _said(rng, report(rng, ENGLISH), 2_000, (ENGLISH,))
    sound = base64.b64encode(rng.randbytes(_AUDIO_BYTES)).decode()
    return event | {"audio": {"codec": "opus", "rate_hz": 48_000, "data": sound}}


def non_ascii(rng: random.Random) -> Event:
    """Return an event like ``medium``, in Indonesian, German or Chinese."""
    event = report(rng, rng.choice(TONGUES))
    return _said(rng, event, rng.randrange(2_040, 2_101), TONGUES)


def heartbeats(rng: random.Random) -> Iterator[Event]:
    """Yield the repeated reports of a fleet of 500 clients, each always from its own address."""
    clients = [(address(rng), machine(rng), hexadecimal(rng)) for _ in range(_CLIENTS)]
    sequence = 0
    while True:
        sequence += 1
        where, each, session = rng.choice(clients)
        event = report(rng, ENGLISH, each)
        event["client"]["address"] = where
        yield event | {
            "session_id": session,
            "heartbeat": {"sequence": sequence, "uptime_s": rng.randrange(86_400), "alive": True},
        }


def strangers(rng: random.Random) -> Iterator[Event]:
    """Yield clients that all differ, as far as catalogues and grammars allow: a filter profits as
    little as possible from remembering earlier values."""
    makers, models, systems = map(_entries, ("device.manufacturer", "device.model.name", "os.name"))
    while True:
        device: Event = {
            "type": rng.choice(("desktop", "laptop", "phone", "tablet")),
            "manufacturer": rng.choice(makers),
            "model": {"identifier": _identifier(rng), "name": rng.choice(models)},
        }
        system: Event = {
            "type": rng.choice(("windows", "darwin", "android", "ios")),
            "name": rng.choice(systems),
            "version": f"{rng.randrange(100)}.{rng.randrange(100)}.{rng.randrange(100_000)}",
            "build_id": f"{rng.randrange(10_000, 100_000)}.{rng.randrange(100_000)}",
        }
        yield report(rng, ENGLISH, Machine(device, system))


def _entries(name: str) -> list[str]:
    """Return a field's catalogue in a fixed order."""
    field = load_schema("conferencing").fields[name]
    if not isinstance(field, TokenField):
        raise TypeError(f"{name} is not a token")
    return sorted(field.entries)


def _identifier(rng: random.Random) -> str:
    """Return one of about five million model codes of the schema's grammar."""
    suffixes: tuple[str, ...] = ("", *"0DLNQTUWYZ")
    letter, digits = rng.choice("ACEFGJMNPSTWX"), rng.randrange(1_000)
    revision = rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    return f"SM-{letter}{digits:03}{revision}{rng.choice(suffixes)}"


# -- a vendor's document, spelled as the schema ``participants-qos`` has it -----------------------

PARTICIPANTS = 20
"""The number of participants in each meeting."""

_DEVICES = ("Windows", "Mac", "Linux", "iOS", "Android", "H.323/SIP", "Zoom Rooms", "Web", "Phone")
_WEIGHTS = (44, 20, 3, 13, 9, 3, 3, 4, 1)


def vendors(rng: random.Random) -> Event:
    """Return one meeting with its participants."""
    return {
        "page_count": 1,
        "page_size": PARTICIPANTS,
        "total_records": PARTICIPANTS,
        "next_page_token": "",
        "participants": [_participant(rng) for _ in range(PARTICIPANTS)],
    }


def _participant(rng: random.Random) -> Event:
    minute = rng.randrange(60)
    return {
        "user_id": hexadecimal(rng),
        "user_name": rng.choice(ENGLISH.names),
        "device": rng.choices(_DEVICES, _WEIGHTS)[0],
        "ip_address": address(rng),
        "location": rng.choice(("Lisbon (PT)", "Jakarta (ID)", "Cologne (DE)", "Leeds (GB)")),
        "network_type": rng.choice(("Wifi", "Wired", "PPP", "Cellular")),
        "data_center": rng.choice(("Frankfurt", "Amsterdam", "Singapore")),
        "connection_type": rng.choice(("UDP", "TLS")),
        "join_time": f"2026-11-24T09:{minute:02}:00Z",
        "leave_time": f"2026-11-24T10:{minute:02}:30Z",
        "pc_name": f"PC-{hexadecimal(rng, 32)}",
        "domain": "example.com",
        "mac_addr": ":".join(f"{rng.randrange(256):02x}" for _ in range(6)),
        "harddisk_id": hexadecimal(rng, 96),
        "microphone": "Microphone Array (Realtek(R) Audio)",
        "speaker": "Speakers (Realtek(R) Audio)",
        "camera": "Integrated Camera",
        "version": "6.1.10.45028",
    }


# -- hostile events --------------------------------------------------------------------------------

_HOSTILE_BYTES = 2_040
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


def hostile(rng: random.Random) -> bytes:
    """Return an event as JSON text of about 2 KB: every field invalid or of a wrong type, unlisted
    and repeated keys, content. Some invalid values follow a valid one under the same key; JSON
    parsers use the last one."""
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
    left = _HOSTILE_BYTES - len(_members(parts))
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
    """Return a JSON object, which unlike a dictionary may have a key twice."""
    return b"{" + b",".join(_text(key) + b":" + value for key, value in members) + b"}"
