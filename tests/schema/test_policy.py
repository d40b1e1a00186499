"""The closed lists: uses, categories, content names, identifiers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import CATEGORIES
from collector.schema import policy
from tests.schema.conftest import Faults
from tests.schema.make import PLAIN, one

FORBIDDEN = (
    "marketing",
    "third_party_sharing",
    "train_ai_system",
    "personalize",
    "sales",
    "collect",
    "employment",
    "finance",
    "operations",
)


def test_every_use_of_the_taxonomy(faults: Faults) -> None:
    """Of all uses that fideslang knows, only the allowed leaves load."""
    allowed = set()
    for use in sorted(policy.taxonomy()["data_uses"]):
        found = faults(PLAIN.replace("essential.service.operations", use))
        assert [fault.code for fault in found] in ([], ["E301"])
        if not found:
            allowed.add(use)
    assert {use for use in allowed if not use.startswith("essential.service.")} == {
        "essential.fraud_detection",
        "essential.legal_obligation",
        "functional.service.improve",
        "functional.storage.privacy_preferences",
        "analytics.reporting.system.performance",
    }
    assert "essential.service" not in allowed
    assert not [use for use in allowed if use.split(".")[0] in FORBIDDEN]


def test_every_category_of_the_taxonomy() -> None:
    """Of all categories, only device, telemetry and system are about a field."""
    inside = set(filter(policy.category_is_allowed, policy.taxonomy()["data_categories"]))
    assert {key for key in inside if not key.startswith("user.device")} == {
        "system",
        "system.authentication",
        "system.operations",
        "user.telemetry",
    }


def test_every_category_in_a_document(faults: Faults) -> None:
    """A category outside these is E303; one that confesses an identifier is E306."""
    loads = set()
    for category in sorted(policy.taxonomy()["data_categories"]):
        found = faults(PLAIN.replace("user.device", category))
        assert [fault.code for fault in found] in ([], ["E303"], ["E306"])
        if not found:
            loads.add(category)
    assert loads == {
        "system",
        "system.authentication",
        "system.operations",
        "user.device",
        "user.device.cookie",
        "user.device.ip_address",
        "user.telemetry",
    }


@pytest.mark.parametrize(
    ("key", "claim"),
    [
        ("marketing.advertising.third_party.targeted", "no-third-party-ads"),
        ("third_party_sharing", "no-third-party-ads"),
        ("sales", "no-sale"),
        ("employment.recruitment", "no-monitoring"),
        ("analytics.reporting.content_performance", "no-monitoring"),
        ("train_ai_system", "needed-only"),
        ("user.content.private", "no-content"),
        ("user.biometric.voice", "no-content"),
        ("user.location.precise", "no-monitoring"),
        ("user.name", "needed-only"),
    ],
)
def test_a_fault_names_the_claim_that_would_break(faults: Faults, key: str, claim: str) -> None:
    """Each forbidden use and category says which public sentence would not be true any more."""
    text = PLAIN.replace("essential.service.operations", key)
    (fault,) = faults(PLAIN.replace("user.device", key) if key.startswith("user.") else text)
    assert f"the claim `{claim}` would not hold" in fault.message


def test_every_forbidden_key_breaks_a_claim() -> None:
    """The table speaks of keys of the taxonomy, and of no allowed ones alone."""
    known = policy.taxonomy()["data_uses"] | policy.taxonomy()["data_categories"]
    assert set(policy.CLAIMS) <= known
    assert not [key for key in policy.CLAIMS if policy.use_is_allowed(key)]
    assert not [key for key in policy.CLAIMS if policy.category_is_allowed(key)]


@pytest.mark.parametrize(
    "category", ["systems", "system.", "user.devices", "user.device.", "user.telemetry.x", ""]
)
def test_what_only_looks_like_a_category(faults: Faults, category: str) -> None:
    """A prefix of letters is not a key of the taxonomy."""
    text = PLAIN.replace("category: user.device", f"category: '{category}'")
    assert [fault.code for fault in faults(text)] == ["E304"]


def _spellings(name: str) -> list[str]:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    words = snake.split("_")
    camel = words[0] + "".join(word.title() for word in words[1:])
    return [name, snake, camel, "-".join(words), name.upper(), " ".join(words), f"_{name}"]


@pytest.mark.parametrize("category", CATEGORIES)
def test_content_in_every_spelling(category: str) -> None:
    """Every built-in content name is content in any case, with any separators, at any depth."""
    for name in policy.CONTENT[category]:  # type: ignore[index]
        for spelled in _spellings(name):
            for path in (spelled, f"{spelled}.0.text", f"meeting.{spelled}", f"a.{spelled}.length"):
                assert policy.reads_content(path, policy.content_names({})), path


@pytest.mark.parametrize(
    "path", ["message", "captions.text", "a.notes", "files.0", "video.frame", "closed.captions"]
)
def test_further_content(path: str) -> None:
    """Further names of content are never read, although they are not counted."""
    assert policy.reads_content(path, policy.content_names({}))


@pytest.mark.parametrize(
    "path", ["device", "os.name", "network.chatty", "audios", "client.address", "screens.count"]
)
def test_what_is_not_content(path: str) -> None:
    """A name that merely holds a content name is another name."""
    assert not policy.reads_content(path, policy.content_names({}))


@given(
    st.sampled_from(sorted(policy.content_names({}))), st.sampled_from(["", "-", "_", " ", "__"])
)
def test_separators_do_not_hide_content(name: str, separator: str) -> None:
    """However a content name is cut into words, it stays one."""
    assert policy.reads_content(separator.join(name).upper(), policy.content_names({}))


def test_content_can_be_added_not_shortened() -> None:
    """Added names join the built-in ones; a built-in name keeps its category."""
    names = policy.content_names({"chat": ["backchannel", "audio"]})
    assert names["backchannel"] == "chat"
    assert names["audio"] == "audio"
    assert set(policy.content_names({})) < set(names)
    assert set(names.values()) == set(CATEGORIES)


@pytest.mark.parametrize(
    "path",
    [
        "device.id",
        "deviceId",
        "x.device_id.y",
        "DEVICE-ID",
        "serial",
        "hw.serial_number",
        "mac",
        "mac_addr",
        "net.mac.address",
        "harddisk_id",
        "hard.disk.id",
        "idfa",
        "GAID",
        "advertising.id",
        "imei",
        "android_id",
        "machine-id",
        "fingerprint",
        "user.id",
        "participant_id",
        "device.uuid",
        "hw.GUID",
        "device.identifier",
        "bluetooth-address",
    ],
)
def test_identifiers(faults: Faults, path: str) -> None:
    """An identifier, in any spelling and as two segments, is read only to make a pseudonym."""
    assert policy.is_identifier(path)
    assert [fault.code for fault in faults(one(f"kind: boolean, from: [{path}]"))] == ["E306"]
    pseudonym = f"kind: pseudonym, key: 'env:KEY', rotate: 1d, from: [{path}]"
    assert faults(one(pseudonym)) == ()


@pytest.mark.parametrize(
    "path", ["device.model.identifier", "os.build_id", "os.macos", "id", "macro"]
)
def test_what_is_no_identifier(path: str) -> None:
    """Models and builds are shared by many devices."""
    assert not policy.is_identifier(path)
