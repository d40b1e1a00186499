"""Records that leave the country of who is responsible, and what protects them there."""

from __future__ import annotations

from collector.config.model import About
from collector.config.sinks import Sink

__all__ = ["EEA", "is_abroad", "is_unprotected"]

EEA: frozenset[str] = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK"
    "".split()
)
"""The European Economic Area, within which the GDPR wants nothing for a transfer (Art. 44 is about
third countries)."""


def is_abroad(sink: Sink, about: About) -> bool:
    """Whether records go to another country, as far as both are known."""
    home, there = about.country, about.place(sink)
    return home is not None and there not in (None, home)


def is_unprotected(sink: Sink, about: About) -> bool:
    """Whether the law wants something to protect them there, and nobody says what it is."""
    both = {about.country, about.place(sink)}
    return is_abroad(sink, about) and not both <= EEA and sink.safeguard is None
