"""Synthetic meetings: repeatable, invented, full of canaries, and admitted."""

from __future__ import annotations

import re

import orjson

from collector import synthetic
from collector.filter import Filter
from collector.schema import load_schema


def test_the_same_seed_gives_the_same_meetings() -> None:
    """Other seeds give others."""
    one, two, other = (list(synthetic.events(20, seed)) for seed in (1, 1, 2))
    assert one == two != other


def test_every_content_member_holds_a_canary() -> None:
    for event in synthetic.events(50, canaries=["canary-xyz"]):
        for member in ("chat", "transcript", "audio", "video", "attachments"):
            assert b"canary-xyz" in orjson.dumps(event[member])


def test_every_event_is_admitted_with_nothing_dropped() -> None:
    """The fleet is made of what the shipped catalogues know."""
    for name in ("conferencing", "conferencing-strict"):
        lines = b"\n".join(map(orjson.dumps, synthetic.events(500)))
        tally = Filter(load_schema(name)).admit_lines(lines).tally
        assert (tally.admitted, tally.dropped) == (500, {})


def test_addresses_are_of_the_documentation_ranges() -> None:
    """RFC 5737 and RFC 3849: nobody's."""
    allowed = re.compile(r"(192\.0\.2|198\.51\.100|203\.0\.113)\.\d+|2001:db8:[0-9a-f:]+")
    for event in synthetic.events(500):
        assert allowed.fullmatch(event["client"]["address"])
