"""The classes of attacks: where a payload is put, how it is encoded, what it is.

Each class has a sentence, a source, and two weights. ``wild`` says how often it occurs in telemetry
by accident, ``attacker`` how often somebody would choose it who wants to get content through an
allowlist or past a detector. Both are estimates, in parts of the whole; only their ratios matter.
"""

from __future__ import annotations

from typing import NamedTuple


class Class(NamedTuple):
    """One value of one axis."""

    name: str
    sentence: str
    source: str
    wild: float
    attacker: float


SLOTS: tuple[Class, ...] = (
    Class(
        "listed",
        "The value of a listed field is replaced by the payload.",
        "Raw strings in `user_agent.original`, `client.address` (OpenTelemetry conventions).",
        15,
        30,
    ),
    Class(
        "unlisted",
        "A member that no list names carries the payload.",
        "`pc_name`, `microphone`, `user_name` of a vendor's dashboard API; log bodies.",
        55,
        10,
    ),
    Class(
        "name",
        "The payload is the name of a member.",
        "Maps keyed by user or e-mail; unknown keys quoted by validation errors (pydantic `loc`).",
        5,
        10,
    ),
    Class(
        "nested",
        "The payload lies in an object where a listed field should be, or deep below others.",
        "opentelemetry-collector-contrib#36633, logstash-filter-prune#12, fluent-bit#2152.",
        10,
        10,
    ),
    Class(
        "array",
        "The payload lies in a list where a listed field should be.",
        "opentelemetry-collector-contrib#37239: values in slices escape a redactor.",
        5,
        10,
    ),
    Class(
        "duplicate",
        "A listed member occurs twice, once with the payload.",
        "JSON parsers differ in which of two equal keys they keep (RFC 8259, section 4).",
        1,
        10,
    ),
    Class(
        "number",
        "The payload is a number, its digits or its bytes read as one.",
        "opentelemetry-collector-contrib#37590: numbers are never matched by value rules.",
        6,
        10,
    ),
    Class(
        "timestamp",
        "The payload is the digits of a time, or a time's fraction.",
        "`timeUnixNano` has 63 bits, of which a clock uses few.",
        3,
        10,
    ),
    Class(
        "ordering",
        "Records, or members of an object, that are clean by themselves, in an order that spells.",
        "A program that keeps the order of its input; RFC 8259, section 4, on members.",
        0.1,
        5,
    ),
)

ENCODINGS: tuple[Class, ...] = (
    Class("plain", "As it is.", "Most of what leaks by accident.", 86, 20),
    Class("base64", "Base64 of UTF-8.", "Audio and attachments in telemetry; cookies.", 6, 15),
    Class("hex", "Hexadecimal digits of UTF-8.", "Trace ids and hashes; DNS exfiltration.", 2, 10),
    Class("utf16", "A NUL after each ASCII character.", "Windows strings read as bytes.", 1, 5),
    Class("nfkc", "Full-width forms, which NFKC folds.", "Unicode TR 36; East Asian input.", 2, 10),
    Class("homoglyphs", "Cyrillic letters and Arabic digits.", "Unicode TR 39.", 0.5, 10),
    Class(
        "reversed", "From the last character to the first.", "A usual way past filters.", 0.5, 10
    ),
    Class("split", "A third in each of three records.", "Size limits that cut texts; MTU.", 1, 10),
    Class("spelled", "Digits as English words.", "Speech recognition: captions.", 1, 10),
)

PAYLOADS: tuple[Class, ...] = (
    Class("chat", "A sentence that somebody says.", "Chat, captions, log messages.", 35, 35),
    Class("said", "A sentence with personal data in it.", "Support chats; form fields.", 20, 20),
    Class("card", "The number of a card.", "PCI DSS incidents: form fields in telemetry.", 3, 15),
    Class("phone", "A telephone number.", "Dial-in participants.", 7, 10),
    Class("mac", "A hardware address.", "`mac_addr` of a vendor's dashboard API.", 15, 10),
    Class("name", "A person's name.", "`Ana's iPhone`: names of devices.", 20, 10),
)
