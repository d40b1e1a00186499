"""The quality-of-service document that a large vendor's dashboard gives for a meeting.

Members and spellings are those of the shipped schema ``participants-qos``; people, computers,
microphones, disks and network cards in it are made up.
"""

from __future__ import annotations

import random

from benchmarks.meetings import Event, address, hexadecimal
from benchmarks.talk import ENGLISH

PARTICIPANTS = 20
"""How many took part in each meeting."""

_DEVICES = ("Windows", "Mac", "Linux", "iOS", "Android", "H.323/SIP", "Zoom Rooms", "Web", "Phone")
_WEIGHTS = (44, 20, 3, 13, 9, 3, 3, 4, 1)


def report(rng: random.Random) -> Event:
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
