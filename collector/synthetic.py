"""Seeded synthetic meetings: what clients of a video meeting would send, including content.

Addresses are from the documentation ranges (RFC 5737, RFC 3849); names are invented. Each event
carries the given canaries in every content member and in many other unlisted places: a canary in an
output is a leak.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

Event = dict[str, Any]

_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
_CLIENTS: tuple[tuple[str, str, str | None, str, str, str, str, str | None], ...] = (
    ("phone", "Apple", "iPhone16,1", "iPhone 15 Pro", "ios", "iOS", "17.4.1", "21E236"),
    ("tablet", "Apple", "iPad14,3", "iPad Pro", "ios", "iPadOS", "17.3", None),
    ("laptop", "Apple", "MacBookPro18,3", "MacBook Pro", "darwin", "macOS", "14.4.1", "23E224"),
    (
        "laptop",
        "LENOVO",
        None,
        "ThinkPad X1 Carbon Gen 11",
        "windows",
        "Windows",
        "10.0.22631",
        "22631.3447",
    ),
    ("laptop", "Dell Inc.", None, "Latitude 7440", "linux", "Ubuntu", "22.04", None),
    ("phone", "samsung", "SM-S928B", "Galaxy S24 Ultra", "android", "Android", "14", None),
    ("phone", "Google", None, "Pixel 8", "android", "Android", "14.0.0", "UP1A.231005.007"),
    ("room_system", "Poly", None, "Poly Studio X50", "android", "Android", "10", None),
)
_NAMES = ("Ana Lia", "Budi Santoso", "Carla Weiß", "Đức Minh", "Eko Wijaya", "李明")
_LINES = (
    "can everybody hear me?",
    "bagus, kita mulai sekarang",
    "die Zahlen für das dritte Quartal bitte nicht weitergeben",
    "我们下周二再讨论这个问题",
    "my number is +62 812 5550 123, call me after this",
)
_KINDS = ("join", "heartbeat", "heartbeat", "heartbeat", "leave")


def events(number: int, seed: int = 0, canaries: Sequence[str] = ("canary",)) -> Iterator[Event]:
    """Yield ``number`` events of synthetic meetings; the same seed gives the same events."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    for _ in range(number):
        yield _event(rng, canaries)


def _event(rng: random.Random, canaries: Sequence[str]) -> Event:
    name = rng.choice(_NAMES)

    def line() -> str:
        return f"{rng.choice(_LINES)} {rng.choice(canaries)}"

    event: Event = {
        "event": rng.choice(_KINDS),
        "meeting": {"id": f"{rng.getrandbits(40):010x}", "topic": line()},
        "participant": {"name": name, "email": f"{rng.choice(canaries)}@example.org"},
        "client": {"address": _address(rng), "port": rng.randrange(1024, 65536)},
        "device": _device(rng, canaries),
        "network": {"rtt_ms": rng.randrange(5, 300), "loss": round(rng.random() / 50, 4)},
        "chat": [{"from": name, "text": line()} for _ in range(rng.randrange(1, 6))],
        "transcript": [{"at": 2 * n, "text": line()} for n in range(rng.randrange(1, 6))],
        "audio": {"codec": "opus", "data": _noise(rng, rng.choice(canaries))},
        "video": {"codec": "vp9", "frames": [_noise(rng, rng.choice(canaries))]},
        "attachments": [{"name": f"{rng.choice(canaries)}.pdf", "data": _noise(rng, line())}],
    }
    event["os"] = event["device"].pop("os")
    return event


def _address(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return f"2001:db8:{rng.randrange(1 << 16):x}::{rng.randrange(1, 1 << 16):x}"
    return f"{rng.choice(_NETWORKS)}.{rng.randrange(1, 255)}"


def _device(rng: random.Random, canaries: Sequence[str]) -> Event:
    form, maker, identifier, model, kind, system, version, build = rng.choice(_CLIENTS)
    names = {"identifier": identifier, "name": model}
    return {
        "type": form,
        "manufacturer": maker,
        "model": {key: value for key, value in names.items() if value},
        "serial": rng.choice(canaries),
        "microphone": f"{rng.choice(_NAMES)}'s headset",
        "os": {"type": kind, "name": system, "version": version}
        | ({"build_id": build} if build else {}),
    }


def _noise(rng: random.Random, canary: str) -> str:
    """Make text that looks like coded media, with a canary in the middle."""
    return f"{rng.randbytes(150).hex()}{canary}{rng.randbytes(150).hex()}"
