"""The closed lists: what a schema may say a field is for, what it may be, and what it may not read.

They are code and not configuration, so that no document can widen them. Uses and categories are
fideslang keys; the taxonomy they are looked up in is ``schemas/taxonomy.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise

import orjson

from collector.contracts import Category
from collector.schema import shelf

__all__ = [
    "CLAIMS",
    "CONTENT",
    "DERIVABLE",
    "FIELD_CATEGORIES",
    "PEER",
    "USES",
    "broken_claim",
    "category_is_allowed",
    "content_names",
    "is_identifier",
    "normalised",
    "reads_content",
    "taxonomy",
    "use_is_allowed",
]

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
"""What a field may be: one of these keys or a key below one of them."""

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
"""Which public claim a forbidden use or category would break, by its first words. What is not here
is simply not needed: ``needed-only``."""

CONTENT: Mapping[Category, tuple[str, ...]] = {
    "audio": ("audio", "audio_data", "audioData"),
    "video": ("video", "video_data", "videoData", "screen", "screenshot", "frames", "sdp"),
    "chat": ("chat", "chat_messages", "chatMessages", "messages"),
    "transcript": ("transcript", "transcripts", "captions", "closed_captions", "closedCaptions"),
    "file": ("attachments", "attachment", "whiteboard", "recording", "recordings"),
}
"""Names under which meeting content travels, by category: what is counted when it is met. A schema
can add to it, never shorten it. Each name is a member that the decoder looks for (10-20 ns)."""

DERIVABLE = (
    "device.type",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "os.type",
    "os.name",
    "os.version",
)
"""What a user-agent string can say; nothing else of it is ever kept."""

PEER = "client.address"
"""The field that the address of whoever sent a request may fill."""

_NEVER_READ = frozenset(
    """
    audioframes audiostream audiochunk audiobuffer videoframes videostream videochunk videobuffer
    frame screenshare screenshots sharedscreen chats chatmessage chatlog message text transcription
    caption subtitles subtitle whiteboards notes file files
    """.split()
)
"""Further names, normalised, that no path may lead through although they are not counted."""

_IDENTIFIERS = frozenset(
    """
    deviceid serial serialnumber serialno deviceserial mac macaddr macaddress hwaddr hardwareaddress
    harddiskid harddiskserial diskid diskserial volumeid idfa idfv gaid aaid adid advertisingid
    advertisingidentifier adidentifier imei meid imsi iccid udid androidid ssaid machineid hostid
    uuid guid uniqueid deviceidentifier deviceuuid deviceguid machineguid hardwareuuid serialnum
    identifierforvendor bluetoothaddress hardwareid installationid fingerprint browserfingerprint
    userid participantid accountid customerid cookieid
    """.split()
)


@cache
def taxonomy() -> Mapping[str, frozenset[str]]:
    """The shipped fideslang keys: ``data_categories`` and ``data_uses``."""
    document = orjson.loads(shelf.taxonomy().read_bytes())
    return {key: frozenset(document[key]) for key in ("data_categories", "data_uses")}


def use_is_allowed(use: str) -> bool:
    """Whether ``use`` is one of the allowed leaves."""
    return use in USES or use.startswith("essential.service.")


def category_is_allowed(category: str) -> bool:
    """Whether ``category`` is one of the allowed keys or lies below one."""
    return any(category == key or category.startswith(f"{key}.") for key in FIELD_CATEGORIES)


def broken_claim(key: str) -> str:
    """The id of the public claim that a forbidden use or category would break."""
    words = key.split(".")
    heads = (".".join(words[:end]) for end in range(len(words), 0, -1))
    return next((CLAIMS[head] for head in heads if head in CLAIMS), "needed-only")


def normalised(name: str) -> str:
    """A name without case and separators: ``Chat-Messages`` and ``chat_messages`` are one name."""
    return re.sub(r"[\W_]", "", name).casefold()


def content_names(extra: Mapping[Category, Iterable[str]]) -> dict[str, Category]:
    """Every content name, built in and added, with its category."""
    names: dict[str, Category] = {}
    for more in (CONTENT, extra):
        for category, listed in more.items():
            names.update({name: category for name in listed if name not in names})
    return names


def reads_content(path: str, names: Iterable[str]) -> bool:
    """Whether any segment of a dotted path is a content name, however it is spelled."""
    content = {normalised(name) for name in names} | _NEVER_READ
    return any(normalised(segment) in content for segment in [path, *path.split(".")])


def is_identifier(path: str) -> bool:
    """Whether a dotted path names something that identifies a device or a person for long."""
    segments = [normalised(segment) for segment in path.split(".")]
    pairs = [first + second for first, second in pairwise(segments)]
    return not _IDENTIFIERS.isdisjoint([*segments, *pairs])
