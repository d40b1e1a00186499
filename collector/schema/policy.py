"""The closed lists of policy: allowed uses, allowed categories, and content names.

They are code, not configuration, so that no document can widen them. Uses and categories are
fideslang keys from the taxonomy in ``schemas/taxonomy.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

import orjson

from collector.contracts import Category
from collector.schema import resources
from collector.schema.names import words

USES: tuple[str, ...] = (
    "essential.service.*",
    "essential.fraud_detection",
    "essential.legal_obligation",
    "functional.service.improve",
    "functional.storage.privacy_preferences",
    "analytics.reporting.system.performance",
)
"""Why a field may be used. Advertising, profiling, sale, sharing and training are not here."""

FIELD_CATEGORIES: tuple[str, ...] = ("user.device", "user.telemetry", "system")
"""Allowed categories of a field: these keys and all keys below them."""

CLAIMS: Mapping[str, str] = {
    "marketing.advertising": "no-third-party-ads",
    "third_party_sharing": "no-third-party-ads",
    "sales": "no-sale",
    "analytics": "no-monitoring",
    "employment": "no-monitoring",
    "personalize": "no-monitoring",
    "user.behavior": "no-monitoring",
    "user.location": "no-monitoring",
    "user.social": "no-monitoring",
    "user.biometric": "no-content",
    "user.content": "no-content",
}
"""The public claim that a forbidden use or category would break, by its first words. All others
would break ``needed-only``."""

CONTENT: Mapping[Category, tuple[str, ...]] = {
    "audio": ("audio", "audio_data", "audioData"),
    "video": ("video", "video_data", "videoData", "screen", "screenshot", "frames", "sdp"),
    "chat": ("chat", "chat_messages", "chatMessages", "messages"),
    "transcript": ("transcript", "transcripts", "captions", "closed_captions", "closedCaptions"),
    "file": ("attachments", "attachment", "whiteboard", "recording", "recordings"),
}
"""Names under which meeting content travels, by category: their presence is counted. A schema can
add names, never remove them. The decoder looks for each name (10-20 ns)."""

DERIVABLE = (
    "device.type",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "os.type",
    "os.name",
    "os.version",
)
"""The fields that a user-agent string can fill; nothing else in it is ever kept."""

PEER = "client.address"
"""The field that the address of a request's sender may fill."""

_ELEMENTS = re.compile(r"(?<=.)\[[0-9]*\]")


@cache
def taxonomy() -> Mapping[str, frozenset[str]]:
    """Load the shipped fideslang keys: ``data_categories`` and ``data_uses``."""
    document = orjson.loads(resources.taxonomy().read_bytes())
    return {key: frozenset(document[key]) for key in ("data_categories", "data_uses")}


def use_is_allowed(use: str) -> bool:
    """Return whether ``use`` is one of the allowed leaves."""
    return use in USES or use.startswith("essential.service.")


def category_is_allowed(category: str) -> bool:
    """Return whether ``category`` is one of the allowed keys or lies below one."""
    return any(category == key or category.startswith(f"{key}.") for key in FIELD_CATEGORIES)


def broken_claim(key: str) -> str:
    """Return the id of the public claim that a forbidden use or category would break."""
    words = key.split(".")
    heads = (".".join(words[:end]) for end in range(len(words), 0, -1))
    return next((CLAIMS[head] for head in heads if head in CLAIMS), "needed-only")


def normalised(name: str) -> str:
    """Remove case and separators: ``Chat-Messages`` and ``chat_messages`` are one name. A name of
    only separators stays unchanged."""
    return (name if name.isalnum() else re.sub(r"[\W_]", "", name) or name).casefold()


def content_names(extra: Mapping[Category, Iterable[str]]) -> dict[str, Category]:
    """Map every content name, built in and added, to its category."""
    names: dict[str, Category] = {}
    for more in (CONTENT, extra):
        for category, listed in more.items():
            names.update({name: category for name in listed if name not in names})
    return names


def name_on(path: str, names: Iterable[str]) -> str:
    """Return the part of a path that is one of these names, in any spelling and for any element;
    empty if there is none. A name may have dots."""
    spelled = _spellings(frozenset(names))
    segments = path.split(".")
    parts = tuple(normalised(_ELEMENTS.sub("", segment)) for segment in segments)
    for start in range(len(parts)):
        for length in {len(name) for name in spelled}:
            if parts[start : start + length] in spelled:
                return ".".join(segments[start : start + length])
    return path if (normalised(path),) in spelled else ""


@lru_cache(maxsize=64)
def _spellings(names: frozenset[str]) -> frozenset[tuple[str, ...]]:
    """Return each name as segments of a path, and as one segment."""
    plain = [_ELEMENTS.sub("", name) for name in names]
    parted = {tuple(map(normalised, filter(None, name.split(".")))) for name in plain}
    return frozenset(parted - {()} | {(normalised(name),) for name in plain})


def is_identifier(category: str) -> bool:
    """Return whether a category identifies a device or person, so that only pseudonyms may have
    it."""
    return "id" in words(category)
